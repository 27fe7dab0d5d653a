//! Evidence and diagnosis.

use serde::{Deserialize, Serialize};

use crate::fault::FaultKind;
use crate::id::EvidenceId;
use crate::target::Target;
use crate::time::Timestamp;
use crate::units::Permille;

/// One piece of what a diagnosis rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Its id within the incident.
    pub id: EvidenceId,
    /// When it was taken.
    pub at: Timestamp,
    /// What sort of fact it is.
    pub source: EvidenceSource,
    /// One sentence. May hold text from outside: shown escaped.
    pub summary: String,
}

/// What sort of fact a piece of evidence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceSource {
    /// A detector's signal.
    Signal,
    /// A series around the onset.
    Metric,
    /// The service manager's word.
    UnitState,
    /// A health check.
    Health,
    /// Log lines: never enough alone.
    Log,
    /// Processes, files, kernel counters.
    System,
}

impl EvidenceSource {
    /// Measured, as opposed to told by whoever writes the log.
    pub const fn is_measured(self) -> bool {
        match self {
            Self::Signal | Self::Metric | Self::UnitState | Self::Health | Self::System => true,
            Self::Log => false,
        }
    }
}

/// One cause with what it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cause {
    /// What is wrong.
    pub kind: FaultKind,
    /// With what.
    pub target: Target,
    /// In one sentence.
    pub summary: String,
    /// How sure.
    pub confidence: Permille,
    /// The evidence it cites.
    pub evidence: Vec<EvidenceId>,
    /// The rule that named it.
    pub rule: String,
}

/// Ranked causes, the likeliest first, and the decision they lead to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Diagnosis {
    /// The likeliest first; may be empty.
    pub causes: Vec<Cause>,
    /// Why nothing should be done now, if so.
    pub inaction: Option<Inaction>,
}

/// Doing nothing, as a decision with a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inaction {
    /// The word that is counted.
    pub reason: InactionReason,
    /// The sentence that is shown.
    pub summary: String,
}

/// Why nothing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InactionReason {
    /// A deploy or a package manager runs.
    DeployRunning,
    /// A person stopped the unit.
    StoppedOnPurpose,
    /// The service manager is about to restart it itself.
    RestartsItself,
    /// A backup runs.
    BackupRunning,
    /// The hypervisor steals the CPU.
    HostSteals,
    /// The condition was gone when it was measured afresh.
    Gone,
    /// No playbook for this fault kind, or no remedy for it.
    NoPlaybook,
    /// The target is not in the operator's configuration.
    NotListed,
    /// The mode is `observe`.
    Observing,
    /// The runner said no; its own record has the rule.
    NotAllowed,
}

impl InactionReason {
    /// Every reason, for metrics that show zeros too.
    pub const ALL: [Self; 10] = [
        Self::DeployRunning,
        Self::StoppedOnPurpose,
        Self::RestartsItself,
        Self::BackupRunning,
        Self::HostSteals,
        Self::Gone,
        Self::NoPlaybook,
        Self::NotListed,
        Self::Observing,
        Self::NotAllowed,
    ];

    /// The word used in records and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DeployRunning => "deploy-running",
            Self::StoppedOnPurpose => "stopped-on-purpose",
            Self::RestartsItself => "restarts-itself",
            Self::BackupRunning => "backup-running",
            Self::HostSteals => "host-steals",
            Self::Gone => "gone",
            Self::NoPlaybook => "no-playbook",
            Self::NotListed => "not-listed",
            Self::Observing => "observing",
            Self::NotAllowed => "not-allowed",
        }
    }
}
