//! What the runner tells the agent: targets, thresholds, playbooks, remedies. Root's configuration is their one source,
//! and no secret is in it.

use serde::{Deserialize, Serialize};

use crate::health::HealthCheck;
use crate::playbook::Playbook;
use crate::remedy::RemedyOffer;
use crate::target::Target;
use crate::time::Span;
use crate::unit::Backend;
use crate::units::{Bytes, Permille};

/// Everything the agent needs to detect and to propose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    /// The listed targets.
    pub targets: Vec<TargetSpec>,
    /// The playbooks in force.
    pub playbooks: Vec<Playbook>,
    /// The approved remedies.
    pub remedies: Vec<RemedyOffer>,
    /// How much is done without a person.
    pub mode: Mode,
    /// How often probes are read.
    pub sample_every: Span,
}

/// `observe` plans only; `strict` asks above level 1 and tells of level 1; `relaxed` does as the levels say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Plans only.
    Observe,
    /// Level 1 tells, 2 and 3 ask.
    Strict,
    /// As the levels say.
    Relaxed,
}

impl Mode {
    /// The word used in configuration and policy.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Strict => "strict",
            Self::Relaxed => "relaxed",
        }
    }
}

/// One listed target with what is normal for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetSpec {
    /// Which.
    pub target: Target,
    /// Share of the traffic that depends on it; `None` is unknown, and unknown asks.
    pub traffic_share: Option<Permille>,
    /// What to ask it; all must pass.
    pub health: Vec<HealthCheck>,
    /// What is abnormal for it.
    pub thresholds: Thresholds,
    /// Which service manager runs it (units only).
    pub backend: Option<Backend>,
}

/// Where the runner's own triggers lie. Root's configuration sets them; the agent can't.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// `disk-full` below this share of available blocks.
    pub disk_full: Permille,
    /// `disk-filling` below this share and shrinking.
    pub disk_filling: Permille,
    /// `inode-exhaustion` below this share of free inodes.
    pub inodes: Permille,
    /// `cpu-saturation` above this share of the machine's CPU, for a unit.
    pub cpu_share: Permille,
    /// … for this long.
    pub cpu_for: Span,
    /// `memory-leak` above this much anonymous memory of a unit; `None`: not watched.
    pub memory: Option<Bytes>,
    /// `certificate-expiry` when a certificate expires sooner than this.
    pub expires_within: Span,
    /// Failed health checks in a row that make `service-unhealthy`.
    pub health_failures: u32,
    /// `container-unhealthy` at that many starts by the engine itself …
    pub loop_restarts: u32,
    /// … within this time.
    pub loop_within: Span,
    /// `db-connections-exhausted` from this share of used connections on, of those that ordinary clients can get.
    pub connections_used: Permille,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            disk_full: Permille::clamped(50),
            disk_filling: Permille::clamped(150),
            inodes: Permille::clamped(50),
            cpu_share: Permille::clamped(850),
            cpu_for: Span::from_secs(15),
            memory: None,
            expires_within: Span::from_secs(14 * 86_400),
            health_failures: 3,
            loop_restarts: 3,
            loop_within: Span::from_secs(300),
            connections_used: Permille::clamped(900),
        }
    }
}
