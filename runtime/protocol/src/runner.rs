//! What the agent asks the runner on `run/runner.sock`, and what the runner tells it. There is no message that changes
//! policy, raises autonomy, carries a path, a program or code.

use serde::{Deserialize, Serialize};

use theriac_model::catalog::Catalog;
use theriac_model::certificate::CertificateReading;
use theriac_model::container::ContainerState;
use theriac_model::database::PoolState;
use theriac_model::fault::FaultKind;
use theriac_model::health::HealthAnswer;
use theriac_model::id::{IncidentId, Label, RunId, UnitName};
use theriac_model::record::{IncidentSummary, Proposal};
use theriac_model::run::RunState;
use theriac_model::target::Target;
use theriac_model::time::Timestamp;
use theriac_model::unit::UnitState;
use theriac_model::verdict::{Phase, Verdict};

/// A request of the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RunnerRequest {
    /// First message on every connection; the answer carries the epoch.
    Hello { version: String },
    /// Targets, playbooks, remedies.
    Catalog,
    /// The units of the catalog that the launcher or systemd runs, as they are now.
    Units,
    /// Please run this rung.
    Propose(Box<Proposal>),
    /// The runs of an incident.
    Runs { incident: IncidentId },
    /// The last lines that a listed unit wrote, or that its service manager wrote about it. Text from outside.
    LogTail { unit: UnitName, lines: u32 },
    /// From now on, events arrive on this connection with id 0; the present units and health answers come first.
    Subscribe,
    /// The agent decided to do nothing; for the ledger, rate-limited by the runner.
    NotActing { incident: IncidentId, kind: FaultKind, target: Target, reason: String, summary: String },
    /// An incident ended; for the numbers.
    IncidentEnded(IncidentSummary),
    /// Counters for `/metrics`.
    Numbers,
}

/// The runner's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RunnerAnswer {
    /// To `Hello`.
    Hello { version: String, epoch: u64 },
    /// To `Catalog`.
    Catalog(Box<Catalog>),
    /// To `Units`.
    Units(Vec<UnitState>),
    /// To `Propose`: the run that was reserved, or that already is for this incident and rung.
    Accepted { run: RunId },
    /// To `Propose`: no, with the rule and the sentence.
    NotAccepted { rule: String, reason: String },
    /// To `Runs`, newest first.
    Runs(Vec<RunSummary>),
    /// To `LogTail`, oldest first.
    Lines(Vec<String>),
    /// To what needs no answer.
    Noted,
    /// To `Numbers`.
    Numbers(RunnerNumbers),
    /// The request was refused, in one sentence.
    Refused(String),
}

/// What the runner tells subscribers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RunnerEvent {
    /// A run moved.
    Run(RunSummary),
    /// A unit changed its state.
    Unit(UnitState),
    /// A health check was answered: one prober asks for both zones, so that a service is not asked twice.
    Health { target: Target, answer: HealthAnswer, failures: u32, at: Timestamp },
    /// A certificate was read.
    Certificate { name: Label, reading: CertificateReading },
    /// A container changed its state: its engine tells the runner's courier, and nobody else.
    Container { label: Label, state: ContainerState },
    /// A database server is more or less full than it was; the runner's courier is connected to it, and nobody else.
    Pool { database: Label, state: PoolState },
    /// Configuration, remedies, playbooks or holds changed: ask for the catalog again.
    CatalogChanged,
}

/// One run, for people and for the agent's incident loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSummary {
    /// Which run.
    pub run: RunId,
    /// For which incident.
    pub incident: IncidentId,
    /// At which target.
    pub target: Target,
    /// The rung's index.
    pub rung: u32,
    /// Where it is.
    pub state: RunState,
    /// Why it is there, in one sentence.
    pub reason: String,
    /// When it got there.
    pub at: Timestamp,
    /// When its first effect was applied.
    pub first_effect: Option<Timestamp>,
    /// When its fast check passed.
    pub healed: Option<Timestamp>,
    /// When its stability check passed.
    pub stable: Option<Timestamp>,
    /// The last verification that ended.
    pub verdict: Option<(Phase, Verdict)>,
    /// Effects applied so far.
    pub effects: u32,
    /// Policy wants a person to be told.
    pub tell: bool,
    /// A person said no: no further rung is tried by itself.
    pub declined: bool,
}

/// The runner's counters since its journal began.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunnerNumbers {
    /// Runs by final state (the state's word).
    pub runs: std::collections::BTreeMap<String, u64>,
    /// Denials by cause (the cause's word).
    pub denials: std::collections::BTreeMap<String, u64>,
    /// Decisions not to act, by reason.
    pub not_acting: std::collections::BTreeMap<String, u64>,
    /// Effects applied.
    pub effects: u64,
    /// Effects taken back.
    pub undone_effects: u64,
    /// Incidents ended, by fault kind.
    pub incidents: std::collections::BTreeMap<String, u64>,
    /// Of these: handed to a person.
    pub escalated: u64,
    /// Of these: false alarms.
    pub false_alarms: u64,
    /// Sum and count of time to detect, in milliseconds.
    pub detect_ms: (u64, u64),
    /// Sum and count of time to heal.
    pub heal_ms: (u64, u64),
    /// Sum and count of time to stable.
    pub stable_ms: (u64, u64),
    /// Records in the journal.
    pub records: u64,
    /// Proposals refused, by rule.
    pub refused: std::collections::BTreeMap<String, u64>,
}
