//! What a person asks the runner, through the CLI, on `run/operator.sock`. Works with the agent dead.

use serde::{Deserialize, Serialize};

use theriac_model::catalog::{Catalog, Mode};
use theriac_model::fault::FaultKind;
use theriac_model::id::{IncidentId, RemedyName, RunId};
use theriac_model::plan::{Plan, PlanHash};
use theriac_model::record::{Decision, Entry};
use theriac_model::remedy::{Params, RemedyRef};
use theriac_model::target::Target;
use theriac_model::time::Span;

use crate::runner::{RunSummary, RunnerNumbers};

/// A request of a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum OperatorRequest {
    /// How the runner is.
    Status,
    /// Targets, playbooks, remedies.
    Catalog,
    /// Runs, newest first, at most `limit`, of one incident or of all.
    Runs { incident: Option<IncidentId>, limit: u32 },
    /// Every record of one run.
    Run { run: RunId },
    /// The plan that waits for a consent.
    Waiting { incident: IncidentId },
    /// Yes to exactly this plan. `note` is a signed note over the hash where the socket alone does not prove a person.
    Consent { incident: IncidentId, plan: PlanHash, note: Option<String> },
    /// No.
    Decline { incident: IncidentId },
    /// Stop healing this target, or everything; `None` is until resumed.
    Hold { target: Option<Target>, span: Option<Span> },
    /// Go on.
    Resume { target: Option<Target> },
    /// Arm a remedy again that a breaker disarmed.
    ResetBreaker { remedy: RemedyName, target: Target },
    /// Plan this, do nothing.
    DryRun { kind: FaultKind, target: Target, remedy: RemedyName, params: Params },
    /// Journal entries from `from`, at most 256.
    Entries { from: u64 },
    /// Counters.
    Numbers,
    /// Read configuration, remedies and policies again.
    Reload,
}

/// The runner's answer to a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum OperatorAnswer {
    /// To `Status`.
    Status(Box<RunnerStatus>),
    /// To `Catalog`.
    Catalog(Box<Catalog>),
    /// To `Runs`.
    Runs(Vec<RunSummary>),
    /// To `Run` and `Entries`.
    Entries { entries: Vec<Entry>, more: bool },
    /// To `Waiting`.
    Waiting(Option<Box<WaitingPlan>>),
    /// To `DryRun`: the plan and what policy would say.
    DryRun { plan: Box<Plan>, hash: PlanHash, decision: Decision },
    /// Done.
    Done,
    /// To `Numbers`.
    Numbers(RunnerNumbers),
    /// No, in one sentence.
    Refused(String),
}

/// A plan that waits for a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitingPlan {
    /// The run.
    pub run: RunId,
    /// The plan.
    pub plan: Plan,
    /// Its hash.
    pub hash: PlanHash,
    /// Why policy asks.
    pub decision: Decision,
    /// A signed note is needed: the socket can't tell a person from the agent here (all share one uid).
    pub needs_note: bool,
}

/// How the runner is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunnerStatus {
    /// Its version.
    pub version: String,
    /// Its fencing epoch.
    pub epoch: u64,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// The mode.
    pub mode: Mode,
    /// Targets listed.
    pub targets: u32,
    /// Remedies that may run.
    pub remedies: Vec<RemedyRef>,
    /// Remedies that were refused at load, each with the sentence.
    pub refused: Vec<(String, String)>,
    /// Runs that are not over.
    pub open_runs: Vec<RunSummary>,
    /// Holds: the target (`None`: everything) and how much longer (`None`: until resumed).
    pub holds: Vec<(Option<Target>, Option<Span>)>,
    /// Breakers that are open.
    pub breakers: Vec<(RemedyName, Target, String)>,
    /// Cooldowns: the target and how much longer.
    pub cooldowns: Vec<(Target, Span)>,
    /// What is off on this machine, and why.
    pub disabled: Vec<String>,
    /// Records in the journal, and the ledger's root over them in hex.
    pub ledger: (u64, String),
}
