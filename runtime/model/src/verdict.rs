//! Verification: what the runner measured after a run, and what it concludes.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The conclusion of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Worse than before the run.
    Worse,
    /// As before.
    NotImproved,
    /// Could not be measured; at the deadline it counts as not improved.
    Unknown,
    /// The fault is gone and the target serves.
    Improved,
}

impl Verdict {
    /// The lower of two: an opinion, or the agent's metrics, may lower a verdict and never raise it.
    #[must_use]
    pub fn lowered_by(self, other: Self) -> Self {
        self.min(other)
    }

    /// The word used in records and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Worse => "worse",
            Self::NotImproved => "not-improved",
            Self::Unknown => "unknown",
            Self::Improved => "improved",
        }
    }
}

/// Which of the two checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Measured before anything was done.
    Before,
    /// Seconds after the run: *healed*.
    Fast,
    /// Minutes after the run: *stable*.
    Stable,
}

/// What a trigger measured: the closed table of the runner's own conditions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// When.
    pub at: Timestamp,
    /// The fault is there (`None`: could not be measured).
    pub present: Option<bool>,
    /// The numbers in one sentence, such as `2.1 % free, threshold 5 %`.
    pub summary: String,
    /// How bad, on a scale where larger is worse and values of one kind compare; used for *worse*.
    pub badness: f64,
    /// The numbers, for the remedy.
    pub numbers: Vec<crate::call::Number>,
    /// What the target's health checks said (`None`: it has none).
    pub healthy: Option<bool>,
}
