//! Playbooks: per fault kind the ladder of rungs. The YAML is parsed in `theriac-authority`; these are the parsed types.

use serde::{Deserialize, Serialize};

use crate::fault::FaultKind;
use crate::id::{PlaybookName, RemedyName};
use crate::remedy::Params;
use crate::target::Target;
use crate::time::Span;

/// One playbook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Playbook {
    /// Its name.
    pub name: PlaybookName,
    /// For people.
    pub summary: String,
    /// The fault kinds it is for.
    pub handles: Vec<FaultKind>,
    /// Only at these targets; empty is any. A playbook that names the target wins over one that does not.
    #[serde(default)]
    pub targets: Vec<Target>,
    /// Tried in order; each is one run.
    pub rungs: Vec<Rung>,
}

impl Playbook {
    /// Whether it is for this kind at this target.
    pub fn is_for(&self, kind: FaultKind, target: &Target) -> bool {
        self.handles.contains(&kind) && (self.targets.is_empty() || self.targets.contains(target))
    }

    /// The playbook for this kind at this target: the first that names the target, else the first for any.
    pub fn choose<'a>(playbooks: &'a [Self], kind: FaultKind, target: &Target) -> Option<&'a Self> {
        let mut fitting = playbooks.iter().filter(|playbook| playbook.is_for(kind, target));
        let first = fitting.clone().next();
        fitting.find(|playbook| !playbook.targets.is_empty()).or(first)
    }
}

/// One rung: a remedy with its parameters, and how long its success is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rung {
    /// The remedy.
    pub remedy: RemedyName,
    /// Values for some of its parameters; the others take their defaults.
    #[serde(default)]
    pub params: Params,
    /// Level 1 runs by itself, 2 runs and tells, 3 asks; risk may raise it.
    pub level: Level,
    /// The target must be healed within this time after the run, or the run is undone; `None`: the configuration's.
    pub healed_within: Option<Span>,
    /// And stay so for this long; `None`: the configuration's.
    pub stable_for: Option<Span>,
}

/// How much autonomy a rung needs: 1, 2 or 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Level(u8);

/// A number that is no level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a level: use 1 (runs), 2 (runs and tells) or 3 (asks)")]
pub struct LevelError(u8);

impl Level {
    /// Runs by itself.
    pub const ONE: Self = Self(1);
    /// Runs and tells.
    pub const TWO: Self = Self(2);
    /// Asks.
    pub const THREE: Self = Self(3);

    /// Takes 1, 2 or 3.
    pub const fn new(level: u8) -> Result<Self, LevelError> {
        if matches!(level, 1..=3) { Ok(Self(level)) } else { Err(LevelError(level)) }
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Level {
    type Error = LevelError;
    fn try_from(level: u8) -> Result<Self, LevelError> {
        Self::new(level)
    }
}

impl From<Level> for u8 {
    fn from(level: Level) -> u8 {
        level.0
    }
}
