//! What a new version of a remedy asks for in addition, and what it gives up.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use theriac_model::time::millis;

use super::kind;
use crate::grant::{self, GrantKind, sentence};
use crate::manifest::{Manifest, OnAmbiguous};

mod growth;

/// What differs between two manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `disk-reclaim 1.0.0 (serial 1)`.
    pub from: String,
    /// The same of the other.
    pub to: String,
    /// The new one is not newer: it would be refused after the old one.
    pub older: bool,
    /// The new one may do something that the old one may not, or it can't be told that it may not.
    pub grew: bool,
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

/// One thing that a manifest says, with what it is worth as a right.
struct Fact<'a> {
    sentence: String,
    right: Right<'a>,
}

/// What a fact permits.
#[derive(Clone, Copy)]
enum Right<'a> {
    /// What the grant says.
    Grant(GrantKind<'a>),
    /// At most so much.
    Limit(u64),
    /// Something that is there or not: a fault kind, a WASI.
    Whole,
    /// What is done where nobody knows what happened.
    Ambiguous(OnAmbiguous),
    /// Nothing by itself: a parameter's value reaches no further than the grants.
    Nothing,
}

impl Right<'_> {
    /// Having it is more than not having it.
    const fn is_one(self) -> bool {
        match self {
            Self::Grant(_) | Self::Limit(_) | Self::Whole | Self::Ambiguous(_) => true,
            Self::Nothing => false,
        }
    }

    /// It may be more than the other one was.
    fn exceeds(self, before: Self) -> bool {
        match (self, before) {
            (Self::Grant(now), Self::Grant(before)) => growth::exceeds(now, before),
            (Self::Limit(now), Self::Limit(before)) => now > before,
            // Asking a person is the only change that is certainly no more.
            (Self::Ambiguous(now), Self::Ambiguous(before)) => now != before && now != OnAmbiguous::Ask,
            (Self::Whole | Self::Nothing, Self::Whole | Self::Nothing) => false,
            (Self::Grant(_) | Self::Limit(_) | Self::Ambiguous(_) | Self::Whole | Self::Nothing, _) => true,
        }
    }
}

/// Compares two manifests by what they permit; equal permissions with another `why` are no difference.
pub fn diff(from: &Manifest, to: &Manifest) -> Difference {
    let (before, now) = (facts(from), facts(to));
    let mut changes: Vec<Change> = Vec::new();
    let mut grew = false;
    for (what, now) in &now {
        let (what, sentence) = (what.clone(), now.sentence.clone());
        match before.get(&what) {
            None => {
                grew |= now.right.is_one();
                changes.push(Change::Added { what, now: sentence });
            }
            Some(before) if before.sentence != sentence => {
                grew |= now.right.exceeds(before.right);
                changes.push(Change::Changed { what, before: before.sentence.clone(), now: sentence });
            }
            Some(_) => {}
        }
    }
    for (what, before) in &before {
        if !now.contains_key(what) {
            changes.push(Change::Dropped { what: what.clone(), before: before.sentence.clone() });
        }
    }
    changes.sort_by_key(|change| match change {
        Change::Added { .. } => 0,
        Change::Changed { .. } => 1,
        Change::Dropped { .. } => 2,
    });
    let title = |manifest: &Manifest| format!("{} {} (serial {})", manifest.name, manifest.version, manifest.serial);
    Difference { from: title(from), to: title(to), older: to.serial <= from.serial, grew, changes }
}

/// Everything that permits or bounds something, by name.
fn facts(manifest: &Manifest) -> BTreeMap<String, Fact<'_>> {
    let grants = manifest
        .grants
        .iter()
        .map(|grant| (kind(grant), Fact { sentence: sentence(grant.grant), right: Right::Grant(grant.grant) }));
    let mut facts: BTreeMap<String, Fact<'_>> = grants.collect();
    let mut add = |what: String, sentence: String, right| drop(facts.insert(what, Fact { sentence, right }));
    for fault in &manifest.handles {
        add(format!("fault `{fault}`"), "treated".to_owned(), Right::Whole);
    }
    for (name, spec) in &manifest.params {
        add(format!("parameter `{name}`"), spec.to_string(), Right::Nothing);
    }
    if let Some(sentence) = grant::wasi(manifest.wasi) {
        add("WASI".to_owned(), sentence.to_owned(), Right::Whole);
    }
    let ambiguous = manifest.on_ambiguous;
    add("an unknown result".to_owned(), ambiguous.to_string(), Right::Ambiguous(ambiguous));
    let limits = &manifest.limits;
    let mut limit = |name: &str, shown: String, most: u64| add(format!("limit `{name}`"), shown, Right::Limit(most));
    limit("memory", limits.memory.to_string(), limits.memory.0);
    limit("time", limits.time.to_string(), millis(limits.time.duration()));
    limit("host_calls", limits.host_calls.to_string(), limits.host_calls.into());
    limit("handles", limits.handles.to_string(), limits.handles.into());
    limit("log_bytes", limits.log_bytes.to_string(), limits.log_bytes.0);
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
        if self.grew {
            writeln!(f, "its rights grew")?;
        }
        Ok(())
    }
}
