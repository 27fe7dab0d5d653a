//! Signals: a detector's statement that something is abnormal.

use serde::{Deserialize, Serialize};

use crate::call::Number;
use crate::fault::{FaultKind, Severity};
use crate::target::Target;
use crate::time::Timestamp;

/// A detector's statement that something is abnormal, or that it no longer is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    /// The rule, detector or alert that says so.
    pub source: String,
    /// What it takes it for.
    pub kind: FaultKind,
    /// What is at fault.
    pub target: Target,
    /// How bad.
    pub severity: Severity,
    /// Why, in one sentence with the numbers in it. May hold text from outside: shown escaped.
    pub summary: String,
    /// The numbers.
    pub numbers: Vec<Number>,
    /// When the condition was first true.
    pub onset: Timestamp,
    /// When the detector said so.
    pub at: Timestamp,
    /// It says that the condition ended.
    pub resolved: bool,
    /// Measured here, or told by somebody else (an alert): what is only told never acts without a local measurement.
    pub origin: Origin,
}

/// Where a signal comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A local probe.
    Local,
    /// An alert.
    Alert,
}
