//! A remedy's file: a component with its manifest in one custom section.
//!
//! The whole file is hashed before any of it is read, so that a signature can be checked first ([`Sealed`]), and one hash covers
//! code and manifest alike. Compiling it is the worker's business.

use theriac_model::id::Digest;
use theriac_model::remedy::RemedyRef;
use theriac_model::units::Bytes;
use wasmparser::{Parser, Payload};

use crate::manifest::{Manifest, ManifestError};

/// Name of the custom section.
pub const SECTION: &str = "theriac:manifest";

/// Largest remedy; the SDK's have 20 to 60 KiB, those of other languages some MiB.
pub const MAX_PACKAGE: usize = 16 << 20;

/// Preamble of every component: magic, version 13, layer 1.
const COMPONENT: [u8; 8] = [0x00, 0x61, 0x73, 0x6d, 0x0d, 0x00, 0x01, 0x00];

/// Deepest nesting that is walked; the toolchain makes two levels.
const MAX_NESTING: usize = 64;

/// Why a file is not a remedy.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// Longer than the cap.
    #[error("it has {size}, at most {} are read", Bytes(MAX_PACKAGE as u64))]
    TooLarge { size: Bytes },
    /// Not a component at all.
    #[error("it is {what}, not a WebAssembly component: build it with `theriac remedy build`")]
    NotAComponent { what: &'static str },
    /// A component that can't be walked.
    #[error("it is a damaged component")]
    Damaged {
        #[source]
        source: wasmparser::Error,
    },
    /// Nested deeper than anything real.
    #[error("its components are nested more than {MAX_NESTING} levels deep")]
    TooDeep,
    /// No manifest.
    #[error("it has no section `{SECTION}`: build it with `theriac remedy build`, which puts remedy.toml in")]
    NoManifest,
    /// More than one, or one inside a nested component: which of them was approved?
    #[error("it has a second section `{SECTION}`: exactly one, at the top, is allowed")]
    SecondManifest,
    /// The section is not text.
    #[error("its manifest is not UTF-8 text")]
    NotText {
        #[source]
        source: std::str::Utf8Error,
    },
    /// The manifest is refused.
    #[error("its manifest is refused")]
    Manifest {
        #[source]
        source: ManifestError,
    },
}

/// Bytes with their digest, of which nothing has been read yet.
#[derive(Clone)]
pub struct Sealed {
    bytes: Vec<u8>,
    digest: Digest,
}

/// A remedy's file that was opened.
#[derive(Clone)]
pub struct Package {
    /// The whole file: these very bytes are compiled.
    pub bytes: Vec<u8>,
    /// Their hash.
    pub digest: Digest,
    /// The manifest.
    pub manifest: Manifest,
    /// Its text, as it is in the file.
    pub manifest_text: String,
}

impl Sealed {
    /// Hashes the bytes; only their number is looked at.
    pub fn new(bytes: Vec<u8>) -> Result<Self, PackageError> {
        if bytes.len() > MAX_PACKAGE {
            return Err(PackageError::TooLarge { size: Bytes(bytes.len() as u64) });
        }
        Ok(Self { digest: Digest::of(&bytes), bytes })
    }

    /// What a signature is checked against.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Walks the sections and reads the manifest.
    pub fn open(self) -> Result<Package, PackageError> {
        let text = walk(&self.bytes)?.manifest.ok_or(PackageError::NoManifest)?;
        let text = str::from_utf8(text).map_err(|source| PackageError::NotText { source })?.to_owned();
        let manifest = Manifest::parse(&text).map_err(|source| PackageError::Manifest { source })?;
        Ok(Package { bytes: self.bytes, digest: self.digest, manifest, manifest_text: text })
    }
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealed({}, {} bytes)", self.digest, self.bytes.len())
    }
}

impl std::fmt::Debug for Package {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Package({} {}, {})", self.manifest.name, self.manifest.version, self.digest)
    }
}

impl Package {
    /// This remedy as one exact thing.
    pub fn reference(&self) -> RemedyRef {
        self.manifest.reference(self.digest)
    }
}

/// Hashes and opens in one step, for callers that check no signature (`inspect`, `dry-run` under the caller's uid).
pub fn open(bytes: Vec<u8>) -> Result<Package, PackageError> {
    Sealed::new(bytes)?.open()
}

/// Puts the manifest into a component that has none. The manifest is read first: what could not be opened is not made.
pub fn embed(component: &[u8], manifest_text: &str) -> Result<Vec<u8>, PackageError> {
    Manifest::parse(manifest_text).map_err(|source| PackageError::Manifest { source })?;
    if walk(component)?.manifest.is_some() {
        return Err(PackageError::SecondManifest);
    }
    let mut content = Vec::new();
    leb128(SECTION.len(), &mut content);
    content.extend_from_slice(SECTION.as_bytes());
    content.extend_from_slice(manifest_text.as_bytes());
    let mut bytes = component.to_vec();
    bytes.push(0);
    leb128(content.len(), &mut bytes);
    bytes.extend_from_slice(&content);
    if bytes.len() > MAX_PACKAGE {
        return Err(PackageError::TooLarge { size: Bytes(bytes.len() as u64) });
    }
    Ok(bytes)
}

/// The names that the component imports, in order: its least-privilege list.
pub fn imports(bytes: &[u8]) -> Result<Vec<String>, PackageError> {
    Ok(walk(bytes)?.imports)
}

fn leb128(mut number: usize, into: &mut Vec<u8>) {
    loop {
        let low = number.to_le_bytes().first().copied().unwrap_or_default() & 0x7f;
        number >>= 7;
        into.push(if number == 0 { low } else { low | 0x80 });
        if number == 0 {
            return;
        }
    }
}

struct Walked<'a> {
    manifest: Option<&'a [u8]>,
    imports: Vec<String>,
}

impl<'a> Walked<'a> {
    fn keep(&mut self, manifest: &'a [u8], depth: usize) -> Result<(), PackageError> {
        let second = self.manifest.replace(manifest).is_some();
        if second || depth != 1 { Err(PackageError::SecondManifest) } else { Ok(()) }
    }
}

fn walk(bytes: &[u8]) -> Result<Walked<'_>, PackageError> {
    if !bytes.starts_with(&COMPONENT) {
        return Err(PackageError::NotAComponent { what: called(bytes) });
    }
    let damaged = |source| PackageError::Damaged { source };
    let mut walked = Walked { manifest: None, imports: Vec::new() };
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the format has fifty kinds of section, four matter here")]
        match payload.map_err(damaged)? {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(section) if section.name() == SECTION => walked.keep(section.data(), depth)?,
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    let name = import.map_err(damaged)?.name;
                    walked.imports.push(format!("{}{}", name.name, name.version_suffix.unwrap_or_default()));
                }
            }
            _ => {}
        }
        if depth > MAX_NESTING {
            return Err(PackageError::TooDeep);
        }
    }
    Ok(walked)
}

/// What people put here by mistake, in their words.
fn called(bytes: &[u8]) -> &'static str {
    let text = |bytes: &[u8]| bytes.iter().take(64).all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace());
    match bytes {
        [] => "an empty file",
        [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, ..] => "a core module",
        [0x00, 0x61, 0x73, 0x6d, ..] => "a WebAssembly file of a version that is not known here",
        [0x7f, b'E', b'L', b'F', ..] => "an ELF program",
        [0x1f, 0x8b, ..] => "a gzip archive",
        [b'#', b'!', ..] => "a script",
        bytes if text(bytes) => "text",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    const MANIFEST: &str =
        "[remedy]\nname = 'x'\nversion = '1.0.0'\nserial = 1\nsummary = 's'\nhandles = ['disk-full']\n";

    /// A component without sections is the smallest one there is.
    fn component() -> Vec<u8> {
        COMPONENT.to_vec()
    }

    fn section(name: &str, data: &[u8]) -> Vec<u8> {
        let mut content = Vec::new();
        leb128(name.len(), &mut content);
        content.extend_from_slice(name.as_bytes());
        content.extend_from_slice(data);
        let mut bytes = vec![0];
        leb128(content.len(), &mut bytes);
        [bytes, content].concat()
    }

    fn refused(bytes: Vec<u8>, expected: &Expect) {
        let error = open(bytes).map(|_| ()).expect_err("it is refused");
        expected.assert_eq(&error.to_string());
    }

    #[test]
    fn what_was_embedded_is_what_is_opened() {
        let bytes = embed(&component(), MANIFEST).unwrap();
        let package = open(bytes.clone()).unwrap();
        assert_eq!(package.manifest_text, MANIFEST);
        assert_eq!(package.digest, Digest::of(&bytes));
        assert_eq!(package.reference().name.as_str(), "x");
    }

    #[test]
    fn a_long_manifest_survives_its_length_prefix() {
        let long = format!("{MANIFEST}# {}\n", "x".repeat(20_000));
        assert_eq!(open(embed(&component(), &long).unwrap()).unwrap().manifest_text, long);
    }

    // AB02, AB06, AC04.
    #[test]
    fn what_is_no_component_is_called_by_its_name() {
        refused(
            vec![],
            &expect!["it is an empty file, not a WebAssembly component: build it with `theriac remedy build`"],
        );
        refused(
            b"\0asm\x01\0\0\0".to_vec(),
            &expect!["it is a core module, not a WebAssembly component: build it with `theriac remedy build`"],
        );
        refused(
            b"(component)".to_vec(),
            &expect!["it is text, not a WebAssembly component: build it with `theriac remedy build`"],
        );
        refused(
            b"\x7fELF\x02\x01\x01".to_vec(),
            &expect!["it is an ELF program, not a WebAssembly component: build it with `theriac remedy build`"],
        );
    }

    // SG03.
    #[test]
    fn exactly_one_manifest_is_allowed_and_at_the_top_only() {
        refused(
            component(),
            &expect![
                "it has no section `theriac:manifest`: build it with `theriac remedy build`, which puts remedy.toml in"
            ],
        );
        let twice = [embed(&component(), MANIFEST).unwrap(), section(SECTION, b"")].concat();
        refused(twice, &expect!["it has a second section `theriac:manifest`: exactly one, at the top, is allowed"]);
        let inner = [component(), section(SECTION, MANIFEST.as_bytes())].concat();
        let mut nested = component();
        nested.push(4);
        leb128(inner.len(), &mut nested);
        nested.extend_from_slice(&inner);
        refused(nested, &expect!["it has a second section `theriac:manifest`: exactly one, at the top, is allowed"]);
        assert!(matches!(embed(&embed(&component(), MANIFEST).unwrap(), MANIFEST), Err(PackageError::SecondManifest)));
    }

    // SG02, SG03, SG17.
    #[test]
    fn a_cut_or_extended_file_is_refused_or_has_another_hash() {
        let whole = embed(&component(), MANIFEST).unwrap();
        for length in 0..whole.len() {
            assert!(open(whole[..length].to_vec()).is_err(), "cut at {length}");
        }
        let longer = [whole.clone(), section("x", b"")].concat();
        assert_ne!(open(longer).unwrap().digest, open(whole).unwrap().digest);
    }

    // RS16.
    #[test]
    fn a_file_beyond_the_cap_is_refused_before_it_is_hashed() {
        refused(vec![0; MAX_PACKAGE + 1], &expect!["it has 16.0 MiB, at most 16 MiB are read"]);
    }

    #[test]
    fn a_bad_manifest_is_not_embedded() {
        assert!(matches!(embed(&component(), "[remedy]\nnam = 'x'"), Err(PackageError::Manifest { .. })));
        let bytes = [component(), section(SECTION, b"\xff")].concat();
        refused(bytes, &expect!["its manifest is not UTF-8 text"]);
    }

    #[test]
    fn imports_are_listed_by_name() {
        // One type section with an empty instance type, one import of it.
        let name = b"theriac:remedy/log@0.1.0";
        let types = [7, 3, 1, 0x42, 0];
        let mut import = vec![1, 0];
        leb128(name.len(), &mut import);
        import.extend_from_slice(name);
        import.extend_from_slice(&[5, 0]);
        let mut bytes = component();
        bytes.extend_from_slice(&types);
        bytes.push(10);
        leb128(import.len(), &mut bytes);
        bytes.extend_from_slice(&import);
        assert_eq!(imports(&bytes).unwrap(), ["theriac:remedy/log@0.1.0"]);
    }
}
