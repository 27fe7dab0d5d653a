//! The remedies that may run on this host: read, judged, compiled, at start and on `reload`.
//!
//! The order is the point: the whole file is hashed and its signatures are judged before a worker, let alone a compiler, sees a
//! byte of it. The bytes that were judged are the bytes that are compiled.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use theriac_authority::manifest::Manifest;
use theriac_authority::package::{self, PackageError};
use theriac_authority::trust::{Approved, Candidate, Moment, Refusal, TrustStore};
use theriac_model::call::Interface;
use theriac_model::id::RemedyName;
use theriac_model::remedy::{RemedyOffer, RemedyRef, Wasi};
use theriac_protocol::worker::MAX_COMPONENT;

use crate::worker::cache::Cache;
use crate::worker::{Artefact, Compiled, Worker, WorkerConfig, WorkerError};

/// Remedies in one directory; more is a mistake, and each costs a compilation.
const MAX_REMEDIES: usize = 256;
/// An approval is a page of text with at most 16 signatures.
const MAX_NOTE: u64 = 64 << 10;

/// What every remedy may import; whatever else it imports, a grant has to cover.
const FREE: [&str; 3] = ["types", "fault", "log"];

/// One remedy that may run.
#[derive(Debug)]
pub struct Loaded {
    /// The proof that it was approved.
    pub approved: Approved,
    /// What the compile worker made of it.
    pub artefact: Artefact,
}

/// The remedies of this host.
#[derive(Debug, Default)]
pub struct Remedies {
    loaded: BTreeMap<RemedyName, Loaded>,
    refused: Vec<(String, String)>,
}

/// Why one file is no remedy here. The chain is the sentence the operator reads.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file or its approval can't be read.
    #[error("can't read `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// No component with a manifest.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// Not approved.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It imports something that no grant covers.
    #[error("it imports `{import}`: {help}")]
    Import { import: String, help: String },
    /// It does not compile.
    #[error("{sentence}")]
    Compile { sentence: String },
    /// There is no worker to compile it.
    #[error("it could not be compiled")]
    Worker(#[from] WorkerError),
    /// Two files are the same remedy.
    #[error("`{name}` is there twice: serial {kept} is kept")]
    Twice { name: RemedyName, kept: u64 },
}

/// What loading needs.
#[derive(Debug)]
pub(crate) struct Loader<'a> {
    pub(crate) trust: &'a TrustStore,
    pub(crate) now: Moment,
    pub(crate) workers: &'a WorkerConfig,
    pub(crate) cache: Option<&'a Cache>,
    pub(crate) engine: &'a str,
}

impl Remedies {
    /// Reads every `*.wasm` of the directory. A file that is refused takes nothing else with it.
    pub(crate) fn load(dir: &Path, loader: &Loader<'_>, high_water: impl Fn(&RemedyName) -> Option<u64>) -> Self {
        let mut remedies = Self::default();
        for path in files(dir) {
            match loader.load(&path, &high_water) {
                Ok(loaded) => remedies.keep(loaded, &path),
                Err(error) => remedies.refuse(&path, &error),
            }
        }
        remedies
    }

    /// One remedy by name.
    pub fn get(&self, name: &RemedyName) -> Option<&Loaded> {
        self.loaded.get(name)
    }

    /// What the agent is told.
    pub fn offers(&self) -> Vec<RemedyOffer> {
        let offer = |loaded: &Loaded| loaded.approved.manifest().offer(loaded.approved.remedy().component);
        self.loaded.values().map(offer).collect()
    }

    /// Which are loaded, with their signers.
    pub fn loaded(&self) -> impl Iterator<Item = (&RemedyRef, Vec<String>)> {
        self.loaded.values().map(|loaded| {
            (loaded.approved.remedy(), loaded.approved.signers().iter().map(ToString::to_string).collect())
        })
    }

    /// Which files were refused, and why.
    pub fn refused(&self) -> &[(String, String)] {
        &self.refused
    }

    fn keep(&mut self, loaded: Loaded, path: &Path) {
        let (name, serial) = (loaded.approved.remedy().name.clone(), loaded.approved.remedy().serial);
        match self.loaded.get(&name) {
            Some(other) if other.approved.remedy().serial >= serial => {
                let kept = other.approved.remedy().serial;
                self.refuse(path, &LoadError::Twice { name, kept });
            }
            Some(_) | None => {
                self.loaded.insert(name, loaded);
            }
        }
    }

    fn refuse(&mut self, path: &Path, error: &LoadError) {
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        self.refused.push((name, chain(error)));
    }
}

impl Loader<'_> {
    fn load(&self, path: &Path, high_water: impl Fn(&RemedyName) -> Option<u64>) -> Result<Loaded, LoadError> {
        let bytes = read(path, MAX_COMPONENT)?;
        let note_path = path.with_extension("approval");
        let note = match read(&note_path, MAX_NOTE) {
            Ok(note) => Some(note),
            Err(LoadError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let sealed = package::Sealed::new(bytes)?;
        self.trust.vouch(&name_of(path), sealed.digest(), note.as_deref())?;
        let package = sealed.open()?;
        let candidate = Candidate { manifest: &package.manifest, component: package.digest, note: note.as_deref() };
        let approved = self.trust.judge(&candidate, self.now, high_water)?;
        let mut artefact = self.compile(&package.bytes, &approved)?;
        artefact.imports = linkable(approved.manifest(), &artefact.imports)?;
        Ok(Loaded { approved, artefact })
    }

    fn compile(&self, component: &[u8], approved: &Approved) -> Result<Artefact, LoadError> {
        let digest = approved.remedy().component;
        if let Some(artefact) = self.cache.and_then(|cache| cache.get(digest, self.engine)) {
            return Ok(artefact);
        }
        match Worker::start(self.workers, 0)?.compile(component)? {
            Compiled::Refused { sentence, .. } => Err(LoadError::Compile { sentence }),
            Compiled::Artefact(artefact) => {
                if let Some(Err(error)) = self.cache.map(|cache| cache.put(digest, &artefact)) {
                    // Without a cache the next start compiles again: slower, not wrong.
                    tracing::warn!(%error, remedy = %approved.remedy().name, "the compiled remedy was not kept");
                }
                Ok(artefact)
            }
        }
    }
}

/// The imports that are linked: all of them, each covered by a grant; or the one that is not.
pub fn linkable(manifest: &Manifest, imports: &[String]) -> Result<Vec<String>, LoadError> {
    for import in imports {
        if manifest.wasi.covers(import) {
            continue;
        }
        let help = match opened_by(import) {
            Some(interfaces) if covered(&interfaces, manifest) => continue,
            Some(interfaces) => {
                let tables = interfaces.iter().map(|opens| format!("[grants.{}.LABEL]", opens.grant_table()));
                format!("no grant covers it; {} would", tables.collect::<Vec<_>>().join(" or "))
            }
            None if Wasi::Sealed.covers(import) => format!(
                "no grant covers WASI; a component of another language's tools needs `{}` in `[remedy]`, and reaches nothing by it",
                Wasi::LINE
            ),
            None => "no grant can cover it: a remedy imports only theriac:remedy".to_owned(),
        };
        return Err(LoadError::Import { import: import.clone(), help });
    }
    Ok(imports.to_vec())
}

/// What an interface of the contract opens: nothing, where it is free. `None`: it is none of the contract's.
fn opened_by(import: &str) -> Option<Vec<Interface>> {
    let name = import.strip_prefix("theriac:remedy/")?.strip_suffix("@0.1.0")?;
    let opens: Vec<Interface> = Interface::ALL.into_iter().filter(|opens| opens.of_contract() == name).collect();
    (FREE.contains(&name) || !opens.is_empty()).then_some(opens)
}

fn covered(interfaces: &[Interface], manifest: &Manifest) -> bool {
    interfaces.is_empty() || manifest.grants.iter().any(|grant| interfaces.contains(&grant.grant.interface()))
}

/// What a file calls itself, for the sentence about one that nobody vouches for.
fn name_of(path: &Path) -> RemedyName {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    #[expect(clippy::expect_used, reason = "a constant name")]
    RemedyName::parse(&stem).unwrap_or_else(|_odd| RemedyName::parse("remedy").expect("a name"))
}

/// The remedy files, in the order of their names.
fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .take(MAX_REMEDIES)
        .collect();
    files.sort();
    files
}

/// Reads a regular file up to a cap; a larger one is refused before it is read.
fn read(path: &Path, most: u64) -> Result<Vec<u8>, LoadError> {
    let failed = |source| LoadError::Read { path: path.to_owned(), source };
    // A FIFO of that name must not hold the runner until somebody writes into it.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() || meta.len() > most {
        return Err(failed(io::Error::other(format!("it is no regular file of at most {most} bytes"))));
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// The whole chain of an error, as one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    // CF34, RS16.
    #[test]
    fn what_is_no_regular_file_or_too_large_is_not_read_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("good.wasm"), "x").unwrap();
        fs::File::create(at("large.wasm")).unwrap().set_len(1 << 40).unwrap();
        fs::create_dir(at("dir.wasm")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at("fifo.wasm"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        for name in ["large.wasm", "dir.wasm", "fifo.wasm", "absent.wasm"] {
            assert!(matches!(read(&at(name), MAX_COMPONENT), Err(LoadError::Read { .. })), "{name}");
        }
        assert_eq!(read(&at("good.wasm"), MAX_COMPONENT).unwrap(), b"x");
    }
}
