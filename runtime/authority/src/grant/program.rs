//! `[grants.programs.LABEL]`: one program with a fixed argument template and the jail it runs in.

use std::collections::BTreeMap;

use serde::Serialize;
use theriac_model::id::Label;
use theriac_model::program::Network;
use theriac_model::target::MountPath;
use theriac_model::time::Span;
use theriac_model::units::Bytes;

use super::lines::{exact, globs};

/// A program with what may be put into its arguments and what it may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProgramsGrant {
    /// Absolute path and arguments; `{slot}` stands for exactly one value and is a whole argument or a part of one.
    pub run: Vec<String>,
    /// What each slot takes.
    pub slots: BTreeMap<Label, SlotSpec>,
    /// It changes something: an effect, never run in a dry run.
    pub changes: bool,
    /// Running it twice does no more than running it once.
    pub idempotent: bool,
    /// The argument template that takes it back, with the same slots; none: it can't be taken back.
    pub undo: Option<Vec<String>>,
    /// What it may read beside the system's programs and libraries.
    pub read: Vec<MountPath>,
    /// What it may write.
    pub write: Vec<MountPath>,
    /// The network.
    pub network: Network,
    /// Killed with everything it started after that.
    pub timeout: Span,
    /// How much of each of its streams is kept.
    pub output: Bytes,
    /// Why.
    pub why: String,
}

/// What a slot takes. There is no free text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlotSpec {
    /// A whole number between two bounds, both allowed.
    Integer { min: i64, max: i64 },
    /// One of these, none of which begins with a hyphen.
    OneOf(Vec<String>),
}

impl ProgramsGrant {
    /// What it permits, complete and in one sentence: the line a signer reads.
    pub(super) fn sentence(&self) -> String {
        let template = |arguments: &[String]| globs(arguments).replace(", ", " ");
        let mut text = format!("run {}", template(&self.run));
        for (name, spec) in &self.slots {
            match spec {
                SlotSpec::Integer { min, max } => text.push_str(&format!("; {name} of {min} to {max}")),
                SlotSpec::OneOf(values) => text.push_str(&format!("; {name} of {}", globs(values))),
            }
        }
        text.push_str(match (self.changes, self.idempotent) {
            (false, _) => "; it changes nothing",
            (true, false) => "; it changes something",
            (true, true) => "; it changes something, twice no more than once",
        });
        if let Some(undo) = &self.undo {
            text.push_str(&format!("; undone by {}", template(undo)));
        }
        let paths = |paths: &[MountPath]| globs(&paths.iter().map(ToString::to_string).collect::<Vec<_>>());
        if !self.read.is_empty() {
            text.push_str(&format!("; reads {}", paths(&self.read)));
        }
        if !self.write.is_empty() {
            text.push_str(&format!("; writes {}", paths(&self.write)));
        }
        text.push_str(match self.network {
            Network::None => "; no network",
            Network::Host => "; the host's network",
        });
        text.push_str(&format!("; {} at most, {} of output", self.timeout, exact(self.output)));
        text
    }
}
