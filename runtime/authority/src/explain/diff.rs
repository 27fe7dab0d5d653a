//! What a new version of a remedy asks for in addition, and what it gives up.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::kind;
use crate::grant::{self, sentence};
use crate::manifest::Manifest;

/// What differs between two manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `disk-reclaim 1.0.0 (serial 1)`.
    pub from: String,
    /// The same of the other.
    pub to: String,
    /// The new one is not newer: it would be refused after the old one.
    pub older: bool,
    /// What differs, most important first.
    pub changes: Vec<Change>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// The new one asks for something more.
    Added { what: String, now: String },
    /// It asks for something else: more or less, a person decides.
    Changed { what: String, before: String, now: String },
    /// It gives something up.
    Dropped { what: String, before: String },
}

/// Compares two manifests by what they permit; equal permissions with another `why` are no difference.
pub fn diff(from: &Manifest, to: &Manifest) -> Difference {
    let (before, now) = (facts(from), facts(to));
    let mut changes: Vec<Change> = Vec::new();
    for (what, now) in &now {
        match before.get(what) {
            None => changes.push(Change::Added { what: what.clone(), now: now.clone() }),
            Some(before) if before != now => {
                changes.push(Change::Changed { what: what.clone(), before: before.clone(), now: now.clone() });
            }
            Some(_) => {}
        }
    }
    for (what, before) in &before {
        if !now.contains_key(what) {
            changes.push(Change::Dropped { what: what.clone(), before: before.clone() });
        }
    }
    changes.sort_by_key(|change| match change {
        Change::Added { .. } => 0,
        Change::Changed { .. } => 1,
        Change::Dropped { .. } => 2,
    });
    let title = |manifest: &Manifest| format!("{} {} (serial {})", manifest.name, manifest.version, manifest.serial);
    Difference { from: title(from), to: title(to), older: to.serial <= from.serial, changes }
}

/// Everything that permits or bounds something, by name.
fn facts(manifest: &Manifest) -> BTreeMap<String, String> {
    let mut facts: BTreeMap<String, String> =
        manifest.grants.iter().map(|grant| (kind(grant), sentence(grant.grant))).collect();
    for fault in &manifest.handles {
        facts.insert(format!("fault `{fault}`"), "treated".to_owned());
    }
    for (name, spec) in &manifest.params {
        facts.insert(format!("parameter `{name}`"), spec.to_string());
    }
    facts.extend(grant::wasi(manifest.wasi).map(|sentence| ("WASI".to_owned(), sentence.to_owned())));
    facts.insert("an unknown result".to_owned(), manifest.on_ambiguous.to_string());
    let limits = &manifest.limits;
    facts.insert("limit `memory`".to_owned(), limits.memory.to_string());
    facts.insert("limit `time`".to_owned(), limits.time.to_string());
    facts.insert("limit `host_calls`".to_owned(), limits.host_calls.to_string());
    facts.insert("limit `handles`".to_owned(), limits.handles.to_string());
    facts.insert("limit `log_bytes`".to_owned(), limits.log_bytes.to_string());
    facts
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "from {}\nto   {}", self.from, self.to)?;
        if self.older {
            writeln!(f, "its serial is not higher: where the other was loaded, it is refused")?;
        }
        if self.changes.is_empty() {
            writeln!(f, "it asks for nothing else")?;
        }
        for change in &self.changes {
            match change {
                Change::Added { what, now } => writeln!(f, "+ {what}: {now}")?,
                Change::Changed { what, before, now } => writeln!(f, "~ {what}: {now}\n  before: {before}")?,
                Change::Dropped { what, before } => writeln!(f, "- {what}: {before}")?,
            }
        }
        Ok(())
    }
}
