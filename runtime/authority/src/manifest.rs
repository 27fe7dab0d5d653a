//! `remedy.toml`: read once, to types. Every key is enforced somewhere or refused here.
//!
//! What the grants come to on a host is not decided here, see [`crate::effective`].

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use theriac_model::fault::FaultKind;
use theriac_model::id::{Label, RemedyName};
use theriac_model::remedy::{ParamSpec, RemedyOffer, RemedyRef, Wasi};
use theriac_model::time::Span;
use theriac_model::units::Bytes;

use crate::document::{self, Field, Mistake};
use crate::grant::{Grants, WordError};

mod grants;
mod params;

pub(crate) use grants::container::selector as container_selector;
pub(crate) use grants::database::{
    MAX_ENDED, MAX_IDLE, MIN_IDLE, applications as database_applications, setting as database_setting,
};
pub(crate) use grants::firewall::{max_timeout, prefix4, prefix6};
pub(crate) use grants::kernel::{knob, range as knob_range};
pub(crate) use grants::program::{network as program_network, paths as program_paths};
pub(crate) use grants::{cgroup, uid};

/// Why a manifest is refused: the line, what is wrong there, what to write instead.
pub type ManifestError = Mistake;

/// A linear memory of one remedy; the SDK's smallest guest needs 1 MiB, and the worker's cgroup holds one remedy.
pub const MAX_MEMORY: Bytes = Bytes(256 << 20);
/// Two 64 KiB pages of wasm, below which no component of the SDK starts.
const MIN_MEMORY: Bytes = Bytes(128 << 10);
/// When nothing is written.
pub const DEFAULT_MEMORY: Bytes = Bytes(16 << 20);
/// Longest run: guest and host work together. A stop may take systemd's 90 s, twice in a restart, and some more.
pub const MAX_TIME: Span = Span::from_secs(600);
/// When nothing is written.
pub const DEFAULT_TIME: Span = Span::from_secs(30);
/// Host calls of one run: 2,000 files with a few calls each, with room to spare.
pub const MAX_HOST_CALLS: u32 = 100_000;
/// When nothing is written.
pub const DEFAULT_HOST_CALLS: u32 = 10_000;
/// Handles that are open at once; each costs the runner a descriptor, and its limit is 1024 by custom.
pub const MAX_HANDLES: u32 = 512;
/// When nothing is written.
pub const DEFAULT_HANDLES: u32 = 64;
/// Log lines of one run together: they go into the journal, which is preallocated.
pub const MAX_LOG_BYTES: Bytes = Bytes(64 << 10);
/// When nothing is written.
pub const DEFAULT_LOG_BYTES: Bytes = Bytes(16 << 10);
/// A reviewer reads every grant.
pub const MAX_GRANTS: usize = 32;
/// More parameters than that are a configuration language.
pub const MAX_PARAMS: usize = 16;
/// Serials beyond this are refused, so that nobody can burn the whole range with one approval and lock out every successor.
pub const MAX_SERIAL: u64 = 1_000_000_000;

/// One remedy's manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// Its name.
    pub name: RemedyName,
    /// Its version, for people.
    pub version: String,
    /// Only ever grows; an older one is refused.
    pub serial: u64,
    /// One line for people.
    pub summary: String,
    /// The fault kinds it treats.
    pub handles: Vec<FaultKind>,
    /// What happens when a result is unknown.
    pub on_ambiguous: OnAmbiguous,
    /// Whether it is linked with a WASI, which is then sealed.
    pub wasi: Wasi,
    /// Its parameters.
    pub params: BTreeMap<Label, ParamSpec>,
    /// What it asks for.
    pub grants: Grants,
    /// Its limits.
    pub limits: Limits,
}

/// What to do when an effect *may have happened*, after the world was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnAmbiguous {
    /// Look: what happened counts as done, and the run goes on to its verification.
    Observe,
    /// Take everything back.
    Undo,
    /// Ask a person.
    Ask,
}

impl OnAmbiguous {
    /// The word used in the manifest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Undo => "undo",
            Self::Ask => "ask",
        }
    }

    const ALL: [Self; 3] = [Self::Observe, Self::Undo, Self::Ask];
}

impl fmt::Display for OnAmbiguous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for OnAmbiguous {
    type Err = WordError;
    fn from_str(word: &str) -> Result<Self, WordError> {
        let all = Self::ALL;
        all.into_iter()
            .find(|one| one.as_str() == word)
            .ok_or_else(|| WordError::new("a way to treat an unknown result", word, all.iter().map(|one| one.as_str())))
    }
}

/// What one run may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// All memories and tables together.
    pub memory: Bytes,
    /// Guest and host work together.
    pub time: Span,
    /// Calls to the host.
    pub host_calls: u32,
    /// Handles open at once.
    pub handles: u32,
    /// Bytes of log lines.
    pub log_bytes: Bytes,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: DEFAULT_MEMORY,
            time: DEFAULT_TIME,
            host_calls: DEFAULT_HOST_CALLS,
            handles: DEFAULT_HANDLES,
            log_bytes: DEFAULT_LOG_BYTES,
        }
    }
}

const REMEDY_KEYS: &[&str] = &["name", "version", "serial", "summary", "handles", "on_ambiguous", "wasi"];

impl Manifest {
    /// Reads `remedy.toml`.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let mut top = document::toml(text)?.table(&["remedy", "params", "grants", "limits"])?;
        let remedy = top.required("remedy", "`[remedy]` with name, version, serial, summary and handles")?;
        let params = top.optional("params").map_or_else(|| Ok(BTreeMap::new()), params::parse)?;
        let grants = top.optional("grants").map_or_else(|| Ok(Grants::default()), grants::parse)?;
        let limits = top.optional("limits").map_or_else(|| Ok(Limits::default()), limits)?;
        identity(remedy, params, grants, limits)
    }

    /// This remedy as one exact thing, given the digest of the file it is in.
    pub fn reference(&self, component: theriac_model::id::Digest) -> RemedyRef {
        RemedyRef { name: self.name.clone(), version: self.version.clone(), serial: self.serial, component }
    }

    /// What the agent is told of it.
    pub fn offer(&self, component: theriac_model::id::Digest) -> RemedyOffer {
        RemedyOffer {
            remedy: self.reference(component),
            summary: self.summary.clone(),
            handles: self.handles.clone(),
            params: self.params.clone(),
        }
    }
}

fn identity(
    remedy: Field,
    params: BTreeMap<Label, ParamSpec>,
    grants: Grants,
    limits: Limits,
) -> Result<Manifest, Mistake> {
    let mut table = remedy.table(REMEDY_KEYS)?;
    Ok(Manifest {
        name: table.required("name", "a name such as `disk-reclaim`")?.parse()?,
        version: table.required("version", "a version such as `1.0.0`")?.parse_with(version)?,
        serial: table.required("serial", "a whole number that grows with each release")?.integer(1, MAX_SERIAL)?,
        summary: table.required("summary", "one line about what it does")?.sentence(160)?,
        handles: fault_kinds(table.required("handles", "a list of fault kinds such as [\"disk-full\"]")?)?,
        on_ambiguous: table.optional("on_ambiguous").map_or(Ok(OnAmbiguous::Ask), |field| field.parse())?,
        wasi: table.optional("wasi").map_or(Ok(Wasi::None), |field| sealed(&field))?,
        params,
        grants,
        limits,
    })
}

/// `wasi = "sealed"` is for components of other languages' tools, which import WASI whether they use it or not. There is no
/// word for a WASI that is not sealed.
fn sealed(field: &Field) -> Result<Wasi, Mistake> {
    match field.text() {
        Ok("sealed") => Ok(Wasi::Sealed),
        Ok(_) | Err(_) => {
            let instead =
                "write that for a component of another language's tools; without the line a remedy gets no WASI";
            Err(field.mistake("the only word here is \"sealed\"", instead))
        }
    }
}

/// Three numbers: the version is for people, the serial is what counts.
fn version(text: &str) -> Result<String, String> {
    let number = |part: &str| !part.is_empty() && part.len() <= 6 && part.bytes().all(|b| b.is_ascii_digit());
    if text.split('.').count() == 3 && text.split('.').all(number) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{}` is not a version: write three numbers such as `1.2.0`",
            text.chars().take(40).collect::<String>().escape_debug()
        ))
    }
}

/// A list of fault kinds, at least one, none twice, none that is always a person's.
pub(crate) fn fault_kinds(field: Field) -> Result<Vec<FaultKind>, Mistake> {
    let empty = field.mistake("what treats nothing is never chosen", "write a list such as [\"disk-full\"]");
    let mut kinds = Vec::new();
    for item in field.list()? {
        let kind: FaultKind = item.parse_with(|word| {
            word.parse::<FaultKind>()
                .map_err(|_name| WordError::new("a fault kind", word, FaultKind::ALL.iter().map(|kind| kind.as_str())))
        })?;
        if kind == FaultKind::Unknown {
            return Err(
                item.mistake("a fault that no rule names is always a person's", "name fault kinds that it treats")
            );
        }
        if kinds.contains(&kind) {
            return Err(item.mistake("it is listed twice", "leave one out"));
        }
        kinds.push(kind);
    }
    if kinds.is_empty() { Err(empty) } else { Ok(kinds) }
}

fn limits(field: Field) -> Result<Limits, Mistake> {
    let mut table = field.table(&["memory", "time", "host_calls", "handles", "log_bytes"])?;
    let mut limits = Limits::default();
    if let Some(field) = table.optional("memory") {
        limits.memory = field.bytes(MIN_MEMORY, MAX_MEMORY)?;
    }
    if let Some(field) = table.optional("time") {
        limits.time = field.span(Span::from_millis(100), MAX_TIME)?;
    }
    if let Some(field) = table.optional("host_calls") {
        limits.host_calls = field.integer(1, MAX_HOST_CALLS)?;
    }
    if let Some(field) = table.optional("handles") {
        limits.handles = field.integer(1, MAX_HANDLES)?;
    }
    if let Some(field) = table.optional("log_bytes") {
        limits.log_bytes = field.bytes(Bytes(0), MAX_LOG_BYTES)?;
    }
    Ok(limits)
}

#[cfg(test)]
mod tests;
