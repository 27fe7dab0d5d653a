//! The check before the compiler sees a byte: one pass over the sections, with a cap on everything that wasmtime would
//! allocate or compile in proportion to.
//!
//! It does not validate; wasmtime does that, later and under the compile limits. It exists because wasmtime's validation and
//! translation of 20,000 nested components costs 8 GB, and because a refusal here can say what is wrong in one sentence.

use std::collections::BTreeMap;
use std::ops::Range;

use theriac_protocol::worker::{EndReason, MAX_COMPONENT};
use wasmparser::{ComponentExternalKind, ComponentTypeRef, Encoding, FunctionBody, Parser, Payload, TypeBounds};

use crate::interfaces::{Import, ImportError, shown};

/// What the check learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Structure {
    /// The component's imports, in its order; all are interfaces of the contract or of a WASI that can be sealed.
    pub imports: Vec<String>,
}

/// Why a file is refused before it is compiled.
#[derive(Debug, thiserror::Error)]
pub enum StructureError {
    /// Too large.
    #[error("it has {bytes} bytes, and {MAX_COMPONENT} are allowed")]
    Size { bytes: u64 },
    /// Not WebAssembly at all.
    #[error("it is {what}, not a WebAssembly component")]
    Foreign { what: &'static str },
    /// A module where a component is needed.
    #[error("it is a core module, not a component: build it with `theriac remedy build`")]
    CoreModule,
    /// The sections can't be read.
    #[error("it is malformed at byte {at}: {problem}")]
    Malformed { at: usize, problem: String },
    /// More of something than any remedy needs.
    #[error("it has more than {cap} {noun}")]
    TooMuch { cap: u64, noun: &'static str },
    /// An import that is no interface of ours.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// An import of a function, module or component, where only interfaces can be linked.
    #[error("it imports `{import}` as a {kind}: a remedy imports interfaces only")]
    ImportKind { import: String, kind: &'static str },
    /// The exports are not those of the world.
    #[error("it does not export `{export}`: a remedy exports `remediate` and `check`")]
    Lacks { export: &'static str },
    /// An export that the world does not have.
    #[error("it exports `{export}`: a remedy exports `remediate` and `check`, and nothing else")]
    Extra { export: String },
}

impl StructureError {
    /// The class for the runner.
    pub const fn reason(&self) -> EndReason {
        match self {
            Self::Size { .. }
            | Self::Foreign { .. }
            | Self::CoreModule
            | Self::Malformed { .. }
            | Self::TooMuch { .. } => EndReason::Malformed,
            Self::Import(_) | Self::ImportKind { .. } => EndReason::Import,
            Self::Lacks { .. } | Self::Extra { .. } => EndReason::World,
        }
    }
}

/// What is counted over the whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Counted {
    Sections,
    NestedComponents,
    CoreModules,
    CoreInstances,
    Instances,
    TypeBytes,
    TypeNesting,
    Aliases,
    Canonicals,
    CoreTypes,
    CoreImports,
    CoreExports,
    Functions,
    FunctionBytes,
    Locals,
    Tables,
    Memories,
    Globals,
    Segments,
    CustomSections,
    CustomBytes,
}

impl Counted {
    /// The cap and its noun. The largest of our own remedies is given where the number is not obvious.
    const fn cap(self) -> (u64, &'static str) {
        match self {
            Self::Sections => (2_000, "sections"),               // ours: 60
            Self::NestedComponents => (64, "nested components"), // ours: none
            Self::CoreModules => (16, "core modules"),           // ours: 3
            Self::CoreInstances => (256, "core instances"),      // ours: 12
            Self::Instances => (256, "instances"),
            // wasmparser reads nested types by recursion, and types that double at each line grow without bound.
            Self::TypeBytes => (128 << 10, "bytes of component types"), // ours: 5 KiB
            Self::TypeNesting => (2_000, "nested component types"),
            Self::Aliases => (4_000, "aliases"),
            Self::Canonicals => (1_000, "lifted and lowered functions"),
            Self::CoreTypes => (2_000, "core types"),
            Self::CoreImports => (1_000, "imports of core modules"),
            Self::CoreExports => (1_000, "exports of core modules"),
            Self::Functions => (20_000, "functions"), // ours: 300
            Self::FunctionBytes => (512 << 10, "bytes in one function"),
            // Register allocation is worse than linear in them.
            Self::Locals => (5_000, "locals in one function"),
            Self::Tables => (32, "tables"),
            Self::Memories => (16, "memories"),
            Self::Globals => (2_000, "globals"),
            Self::Segments => (10_000, "element and data segments"),
            Self::CustomSections => (256, "custom sections"),
            Self::CustomBytes => (8 << 20, "bytes in custom sections"),
        }
    }
}

/// Checks a component's structure; see the module's documentation.
pub fn check(bytes: &[u8]) -> Result<Structure, StructureError> {
    let size = bytes.len() as u64;
    if size > MAX_COMPONENT {
        return Err(StructureError::Size { bytes: size });
    }
    if let Some(what) = foreign(bytes) {
        return Err(StructureError::Foreign { what });
    }
    let mut survey = Survey { bytes, ..Survey::default() };
    for payload in Parser::new(0).parse_all(bytes) {
        survey.take(payload?)?;
    }
    survey.finish()
}

/// Names what people are likely to pass by mistake, or to try.
fn foreign(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [] => Some("an empty file"),
        [0x00, b'a', b's', b'm', ..] => None,
        [0x7f, b'E', b'L', b'F', ..] => Some("an ELF file"),
        [0x1f, 0x8b, ..] => Some("a gzip file"),
        [b'P', b'K', ..] => Some("a zip file"),
        _ if bytes.iter().take(512).all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) => Some("text"),
        _ => Some("something else"),
    }
}

impl From<wasmparser::BinaryReaderError> for StructureError {
    fn from(error: wasmparser::BinaryReaderError) -> Self {
        Self::Malformed { at: error.offset(), problem: shown(error.message()) }
    }
}

/// The running counts, and where in the nesting the parser is.
#[derive(Debug, Default)]
struct Survey<'a> {
    bytes: &'a [u8],
    counts: BTreeMap<Counted, u64>,
    nesting: Vec<Encoding>,
    imports: Vec<String>,
    exports: Vec<String>,
    /// It imports WASI: the runner refuses it unless its manifest asks for the sealed one.
    wasi: bool,
    /// The first export that a remedy does not have.
    extra: Option<String>,
}

impl Survey<'_> {
    fn add(&mut self, counted: Counted, number: u64) -> Result<(), StructureError> {
        let count = self.counts.entry(counted).or_insert(0);
        *count = count.saturating_add(number);
        within(counted, *count)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "all other sections are only counted")]
    fn take(&mut self, payload: Payload<'_>) -> Result<(), StructureError> {
        self.add(Counted::Sections, u64::from(!matches!(payload, Payload::CodeSectionEntry(_))))?;
        match payload {
            Payload::Version { encoding, .. } => self.enter(encoding),
            Payload::End(_) => {
                self.nesting.pop();
                Ok(())
            }
            Payload::ComponentImportSection(section) if self.nesting.len() == 1 => {
                for import in section {
                    let import = import?;
                    self.import(import.name.name, import.ty)?;
                }
                Ok(())
            }
            Payload::ComponentExportSection(section) if self.nesting.len() == 1 => {
                for export in section {
                    let export = export?;
                    self.export(export.name.name, export.kind)?;
                }
                Ok(())
            }
            Payload::CodeSectionEntry(body) => function(&body),
            other => self.count(&other),
        }
    }

    fn enter(&mut self, encoding: Encoding) -> Result<(), StructureError> {
        let outermost = self.nesting.is_empty();
        self.nesting.push(encoding);
        match encoding {
            Encoding::Module if outermost => Err(StructureError::CoreModule),
            Encoding::Module => self.add(Counted::CoreModules, 1),
            Encoding::Component => self.add(Counted::NestedComponents, u64::from(!outermost)),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "wasmparser's enum is non-exhaustive; a new section is an unknown one"
    )]
    fn count(&mut self, payload: &Payload<'_>) -> Result<(), StructureError> {
        let (counted, number) = match payload {
            Payload::InstanceSection(section) => (Counted::CoreInstances, section.count()),
            Payload::ComponentInstanceSection(section) => (Counted::Instances, section.count()),
            Payload::ComponentAliasSection(section) => (Counted::Aliases, section.count()),
            Payload::ComponentCanonicalSection(section) => (Counted::Canonicals, section.count()),
            Payload::ComponentImportSection(section) => (Counted::Aliases, section.count()),
            Payload::ComponentExportSection(section) => (Counted::Aliases, section.count()),
            Payload::TypeSection(section) => (Counted::CoreTypes, section.count()),
            Payload::ImportSection(section) => (Counted::CoreImports, section.count()),
            Payload::ExportSection(section) => (Counted::CoreExports, section.count()),
            Payload::FunctionSection(section) => (Counted::Functions, section.count()),
            Payload::TableSection(section) => (Counted::Tables, section.count()),
            Payload::MemorySection(section) => (Counted::Memories, section.count()),
            Payload::GlobalSection(section) => (Counted::Globals, section.count()),
            Payload::ElementSection(section) => (Counted::Segments, section.count()),
            Payload::DataSection(section) => (Counted::Segments, section.count()),
            Payload::ComponentTypeSection(section) => return self.types(section.range()),
            Payload::CoreTypeSection(section) => return self.types(section.range()),
            Payload::CustomSection(section) => {
                self.add(Counted::CustomBytes, section.data().len() as u64)?;
                (Counted::CustomSections, 1)
            }
            Payload::UnknownSection { id, range, .. } => {
                return Err(StructureError::Malformed { at: range.start, problem: format!("unknown section {id}") });
            }
            _ => return Ok(()),
        };
        self.add(counted, u64::from(number))
    }

    /// Both opcodes that open a nested type are letters that names seldom have, so that their number bounds the nesting
    /// without a parse that could itself recurse too deep.
    fn types(&mut self, range: Range<usize>) -> Result<(), StructureError> {
        let section = self.bytes.get(range).unwrap_or_default();
        let openers = section.iter().filter(|byte| matches!(byte, 0x41 | 0x42)).count();
        self.add(Counted::TypeNesting, openers as u64)?;
        self.add(Counted::TypeBytes, section.len() as u64)
    }

    fn import(&mut self, name: &str, ty: ComponentTypeRef) -> Result<(), StructureError> {
        let kind = match ty {
            ComponentTypeRef::Instance(_) => {
                self.wasi |= Import::parse(name)? == Import::Wasi;
                self.imports.push(name.to_owned());
                return self.add(Counted::Instances, 1);
            }
            ComponentTypeRef::Module(_) => "module",
            ComponentTypeRef::Func(_) => "function",
            ComponentTypeRef::Value(_) => "value",
            // The name that a world's `use` gives to a type of one of its interfaces: nothing to link, nothing to call.
            ComponentTypeRef::Type(TypeBounds::Eq(_)) => return self.add(Counted::Aliases, 1),
            ComponentTypeRef::Type(TypeBounds::SubResource) => "resource",
            ComponentTypeRef::Component(_) => "component",
        };
        Err(StructureError::ImportKind { import: shown(name), kind })
    }

    fn export(&mut self, name: &str, kind: ComponentExternalKind) -> Result<(), StructureError> {
        if kind == ComponentExternalKind::Func && EXPORTS.contains(&name) {
            self.exports.push(name.to_owned());
        } else {
            self.extra.get_or_insert_with(|| shown(name));
        }
        self.add(Counted::Instances, 1)
    }

    /// Other languages' tools leave exports of their own behind (what set their runtime up), which nobody calls. The SDK's do
    /// not, so one there is a mistake.
    fn finish(self) -> Result<Structure, StructureError> {
        if let Some(export) = self.extra.filter(|_| !self.wasi) {
            return Err(StructureError::Extra { export });
        }
        for export in EXPORTS {
            if !self.exports.iter().any(|name| name == export) {
                return Err(StructureError::Lacks { export });
            }
        }
        Ok(Structure { imports: self.imports })
    }
}

/// What a remedy exports.
const EXPORTS: [&str; 2] = ["remediate", "check"];

fn within(counted: Counted, number: u64) -> Result<(), StructureError> {
    let (cap, noun) = counted.cap();
    if number > cap { Err(StructureError::TooMuch { cap, noun }) } else { Ok(()) }
}

fn function(body: &FunctionBody<'_>) -> Result<(), StructureError> {
    within(Counted::FunctionBytes, body.range().len() as u64)?;
    let mut locals = 0_u64;
    for group in body.get_locals_reader()? {
        let (number, _) = group?;
        locals += u64::from(number);
        within(Counted::Locals, locals)?;
    }
    Ok(())
}
