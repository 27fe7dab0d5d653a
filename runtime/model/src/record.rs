//! Records of the runner's journal: every decision, intent, outcome and denial. They are the ledger's leaves, byte for byte.

use serde::{Deserialize, Serialize};

use crate::denial::Denial;
use crate::effect::{Effect, Observed, Outcome, Undo, UndoClass, UndoOutcome};
use crate::fault::FaultKind;
use crate::id::{Digest, IncidentId, PlaybookName, RemedyName, RunId, UnitName};
use crate::plan::{Plan, PlanHash};
use crate::playbook::Level;
use crate::release::{ReleaseName, ReleasePlace};
use crate::remedy::{Params, RemedyRef};
use crate::run::{RunEvent, RunState};
use crate::target::Target;
use crate::time::{GuardTime, Span, Timestamp};
use crate::units::Permille;
use crate::verdict::{Measurement, Phase, Verdict};

/// One entry of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Position in the ledger, from 0, without gaps.
    pub seq: u64,
    /// Wall clock, for people.
    pub at: Timestamp,
    /// Guard time.
    pub guard: GuardTime,
    /// The fencing epoch of the runner that wrote it.
    pub epoch: u64,
    /// What happened.
    pub record: Record,
}

/// What happened.
#[expect(
    clippy::large_enum_variant,
    reason = "records are written and folded one at a time, never kept by the thousand"
)]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Record {
    /// A runner started: a new fencing epoch.
    Started { version: String, boot_id: String, boottime_ms: u64, configuration: Digest, outage: Option<Span> },
    /// A runner stopped in good order.
    Stopped,
    /// An attempt was reserved for a proposal.
    Reserved { run: RunId, proposal: Proposal },
    /// What the runner measured itself.
    Measured { run: RunId, phase: Phase, measurement: Measurement },
    /// A dry run gave a plan.
    Planned { run: RunId, plan: Box<Plan>, hash: PlanHash },
    /// Policy decided.
    Decided { run: RunId, decision: Decision },
    /// A person said yes to a plan hash.
    Consented { run: RunId, plan: PlanHash, by: String },
    /// A person said no.
    Declined { run: RunId, by: String },
    /// The run's state changed.
    Moved { run: RunId, event: RunEvent, state: RunState, reason: String },
    /// About to do an effect: everything needed to undo it or to find out whether it happened.
    Intent { run: RunId, index: u32, effect: Effect, class: UndoClass, before: Observed, undo: Undo },
    /// What came of it.
    Done { run: RunId, index: u32, outcome: Outcome },
    /// A host call was denied, live or in a dry run.
    Denied { run: Option<RunId>, remedy: RemedyName, dry: bool, denial: Denial },
    /// A line a remedy logged (capped; escaped when shown).
    RemedyLog { run: RunId, dry: bool, text: String },
    /// A worker ended in another way than by answering, in a translated sentence.
    WorkerEnded { run: RunId, dry: bool, sentence: String },
    /// About to take an effect back.
    UndoIntent { run: RunId, index: u32 },
    /// What came of that.
    UndoDone { run: RunId, index: u32, outcome: UndoOutcome },
    /// A verification phase ended.
    Verified { run: RunId, phase: Phase, verdict: Verdict, summary: String },
    /// The ladder for a target ended: the cooldown starts.
    CooldownBegan { target: Target, until: GuardTime },
    /// A remedy is disarmed for a target.
    BreakerTripped { remedy: RemedyName, target: Target, reason: String },
    /// A person armed it again.
    BreakerReset { remedy: RemedyName, target: Target, by: String },
    /// A person stopped healing, of one target or (`None`) all of them; `until: None` is until resumed.
    Held { target: Option<Target>, until: Option<GuardTime>, by: String },
    /// A person let it go on.
    Resumed { target: Option<Target>, by: String },
    /// A remedy was loaded: its serial is the high-water mark from now on.
    RemedyLoaded { remedy: RemedyRef, signers: Vec<String> },
    /// A remedy was refused at load.
    RemedyRefused { name: String, reason: String },
    /// A proposal was refused before a run was reserved.
    ProposalRefused { proposal: Proposal, rule: String, reason: String },
    /// That release of a service is in use: what `previous` and `switch-back` go by.
    ReleaseSeen { unit: UnitName, place: ReleasePlace, release: ReleaseName },
    /// The agent decided to do nothing.
    NotActing { incident: IncidentId, kind: FaultKind, target: Target, reason: String, summary: String },
    /// The agent reports how an incident ended, for the numbers.
    IncidentEnded { summary: IncidentSummary },
}

impl Record {
    /// The incident it names by itself; a run's records belong to the incident the run was reserved for.
    pub const fn incident(&self) -> Option<&IncidentId> {
        match self {
            Self::Reserved { proposal, .. } | Self::ProposalRefused { proposal, .. } => Some(&proposal.incident),
            Self::NotActing { incident, .. } => Some(incident),
            Self::IncidentEnded { summary } => Some(&summary.incident),
            Self::Started { .. }
            | Self::Stopped
            | Self::Measured { .. }
            | Self::Planned { .. }
            | Self::Decided { .. }
            | Self::Consented { .. }
            | Self::Declined { .. }
            | Self::Moved { .. }
            | Self::Intent { .. }
            | Self::Done { .. }
            | Self::Denied { .. }
            | Self::RemedyLog { .. }
            | Self::WorkerEnded { .. }
            | Self::UndoIntent { .. }
            | Self::UndoDone { .. }
            | Self::Verified { .. }
            | Self::CooldownBegan { .. }
            | Self::BreakerTripped { .. }
            | Self::BreakerReset { .. }
            | Self::Held { .. }
            | Self::Resumed { .. }
            | Self::ReleaseSeen { .. }
            | Self::RemedyLoaded { .. }
            | Self::RemedyRefused { .. } => None,
        }
    }

    /// The run it belongs to.
    pub const fn run(&self) -> Option<&RunId> {
        match self {
            Self::Reserved { run, .. }
            | Self::Measured { run, .. }
            | Self::Planned { run, .. }
            | Self::Decided { run, .. }
            | Self::Consented { run, .. }
            | Self::Declined { run, .. }
            | Self::Moved { run, .. }
            | Self::Intent { run, .. }
            | Self::Done { run, .. }
            | Self::RemedyLog { run, .. }
            | Self::WorkerEnded { run, .. }
            | Self::UndoIntent { run, .. }
            | Self::UndoDone { run, .. }
            | Self::Verified { run, .. } => Some(run),
            Self::Denied { run, .. } => run.as_ref(),
            Self::Started { .. }
            | Self::Stopped
            | Self::CooldownBegan { .. }
            | Self::BreakerTripped { .. }
            | Self::BreakerReset { .. }
            | Self::Held { .. }
            | Self::Resumed { .. }
            | Self::RemedyLoaded { .. }
            | Self::RemedyRefused { .. }
            | Self::ProposalRefused { .. }
            | Self::ReleaseSeen { .. }
            | Self::NotActing { .. }
            | Self::IncidentEnded { .. } => None,
        }
    }
}

/// The agent's request: a choice out of what the catalog offers, nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// For which incident.
    pub incident: IncidentId,
    /// Of which kind.
    pub kind: FaultKind,
    /// At which target.
    pub target: Target,
    /// Which playbook and rung.
    pub playbook: PlaybookName,
    /// The rung's index, from 0.
    pub rung: u32,
    /// The remedy of that rung.
    pub remedy: RemedyName,
    /// Values for its parameters; the rung's own values win.
    pub params: Params,
    /// When the condition was first true, as the agent saw it; for the numbers only.
    pub onset: Timestamp,
    /// When the agent detected it; for the numbers only.
    pub detected: Timestamp,
    /// Evidence summaries for the remedy, at most 32, each at most 512 characters.
    pub evidence: Vec<(crate::id::EvidenceId, String)>,
}

/// What policy decided about one plan, with the reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// What may be done.
    pub action: Action,
    /// The plan's risk.
    pub risk: Permille,
    /// The level that follows.
    pub level: Level,
    /// The policies and guardrails that decided, by id.
    pub rules: Vec<String>,
    /// In one sentence.
    pub summary: String,
}

/// What policy lets happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Runs.
    Run,
    /// Runs, and a person is told.
    RunAndTell,
    /// Runs when a person says yes.
    RunWithConsent,
    /// Waits for the next window.
    Defer,
    /// Does not run.
    Refuse,
}

/// How an incident ended, for `/metrics` and the learned history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IncidentSummary {
    /// Which.
    pub incident: IncidentId,
    /// Of which kind.
    pub kind: FaultKind,
    /// At which target.
    pub target: Target,
    /// Milliseconds from onset to detection.
    pub detected_ms: u64,
    /// Milliseconds from onset to the first passing fast check.
    pub healed_ms: Option<u64>,
    /// Milliseconds from onset to the stability check.
    pub stable_ms: Option<u64>,
    /// It was handed to a person.
    pub escalated: bool,
    /// The condition was gone before anything was done.
    pub false_alarm: bool,
}
