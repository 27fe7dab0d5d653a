//! The dry run: a remedy against a recording session, in a worker of its own. What it asked for is the plan.

use theriac_authority::authorise::{self, DryRunError};
use theriac_authority::policy::{Facts, Setting};
use theriac_journal::Durability;
use theriac_model::call::{Call, Export, FaultInput, Reply, Report};
use theriac_model::denial::Denial;
use theriac_model::fault::Severity;
use theriac_model::id::{PlaybookName, RunId};
use theriac_model::plan::Plan;
use theriac_model::playbook::Level;
use theriac_model::record::{Decision, Proposal, Record};
use theriac_model::remedy::{ParamError, Params, resolve_params};
use theriac_model::verdict::Measurement;
use theriac_protocol::worker::WorkerLimits;

use crate::parts::Parts;
use crate::remedies::{Loaded, chain};
use crate::rules::Rules;
use crate::session::{Host as _, Session};
use crate::worker::{Ending, Worker, WorkerError};
use crate::writer::{WriteError, Writer as _};

/// What a dry run outside a run gives: for `theriac dry-run`, nothing is reserved and nothing can follow.
pub(crate) fn dry_run(parts: &Parts, proposal: &Proposal) -> Result<(Plan, Decision), String> {
    let remedies = parts.remedies();
    let loaded = remedies
        .get(&proposal.remedy)
        .ok_or_else(|| format!("no approved remedy `{}` is loaded here", proposal.remedy))?;
    let rules = parts.rules();
    let measurement = parts.observer.measure(proposal.kind, &proposal.target);
    let run = RunId::parse("dry-run").map_err(|error| error.to_string())?;
    let recorder = Recorder { parts, rules: &rules, loaded, run: &run, proposal, rung: None };
    let plan = match recorder.record(measurement.as_ref()) {
        Ok(Dry::Plan(plan)) => *plan,
        Ok(Dry::Nothing(reason)) => return Err(format!("the remedy would do nothing: {reason}")),
        Err(error) => return Err(chain(&error)),
    };
    let setting = Setting {
        mode: rules.host.mode,
        rung: Level::ONE,
        in_window: Parts::situation(&rules, parts.book.now()).window.is_some(),
        wasi: loaded.approved.manifest().wasi,
        host: &rules.host,
    };
    let decision = rules.policies.decide(&Facts::of(&plan, &setting));
    Ok((plan, decision))
}

/// What a dry run gave.
pub(super) enum Dry {
    Plan(Box<Plan>),
    Nothing(String),
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub(super) enum DryError {
    #[error(transparent)]
    NotAllowed(#[from] DryRunError),
    #[error(transparent)]
    Params(#[from] ParamError),
    #[error(transparent)]
    Worker(#[from] WorkerError),
    #[error("the remedy was ended in its dry run: {sentence}")]
    Ended { sentence: String },
    #[error("the remedy was denied in its dry run: {denial}")]
    Denied { denial: Denial },
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Runs a remedy against a recording session.
pub(super) struct Recorder<'a> {
    pub(super) parts: &'a Parts,
    pub(super) rules: &'a Rules,
    pub(super) loaded: &'a Loaded,
    pub(super) run: &'a RunId,
    pub(super) proposal: &'a Proposal,
    pub(super) rung: Option<(PlaybookName, u32)>,
}

impl Recorder<'_> {
    fn params(&self) -> Result<Params, ParamError> {
        resolve_params(&self.loaded.approved.manifest().params, &self.proposal.params)
    }

    pub(super) fn input(&self, measured: Option<&Measurement>) -> Result<FaultInput, ParamError> {
        Ok(FaultInput {
            kind: self.proposal.kind,
            severity: Severity::Critical,
            target: self.proposal.target.to_string(),
            summary: measured.map_or_else(String::new, |measured| measured.summary.clone()),
            numbers: measured.map_or_else(Vec::new, |measured| measured.numbers.clone()),
            evidence: self.proposal.evidence.clone(),
            params: self.params()?.into_iter().collect(),
        })
    }

    pub(super) fn record(&self, measured: Option<&Measurement>) -> Result<Dry, DryError> {
        let Proposal { kind, target, remedy, .. } = self.proposal;
        let moment = self.parts.moment();
        let permit = authorise::authorise_dry_run(&self.loaded.approved, &self.rules.host, *kind, target, moment)?;
        let mut session = Session::record(&self.parts.world, &permit, self.run.clone(), remedy.clone());
        let ask = Ask { export: Export::Remediate, input: self.input(measured)? };
        let ending = call(self.parts, self.loaded, self.run, ask, |call| session.answer(call))?;
        let recorded = session.finish();
        if let Some(error) = recorded.journal {
            return Err(error.into());
        }
        let report = match ending {
            Ending::Remediated(Report::Treated(said)) => said,
            Ending::Remediated(Report::NothingToDo(said)) => return Ok(Dry::Nothing(format!("nothing to do: {said}"))),
            Ending::Remediated(Report::GaveUp(said)) => return Ok(Dry::Nothing(format!("the remedy gave up: {said}"))),
            Ending::Remediated(Report::Denied(denial)) => return Err(DryError::Denied { denial }),
            Ending::Checked(_) => return Err(DryError::Ended { sentence: "it answered another question".into() }),
            Ending::Ended { sentence, .. } => {
                let record = Record::WorkerEnded { run: self.run.clone(), dry: true, sentence: sentence.clone() };
                if self.rung.is_some() {
                    self.parts.book.write(record, Durability::Buffered)?;
                }
                return Err(DryError::Ended { sentence });
            }
        };
        if recorded.effects.is_empty() {
            return Ok(Dry::Nothing(format!("it would change nothing: {report}")));
        }
        Ok(Dry::Plan(Box::new(Plan {
            incident: self.proposal.incident.clone(),
            kind: *kind,
            target: target.clone(),
            remedy: self.loaded.approved.remedy().clone(),
            params: self.params()?,
            rung: self.rung.clone(),
            effects: recorded.effects,
            report,
        })))
    }
}

/// One question to a worker.
pub(super) struct Ask {
    pub(super) export: Export,
    pub(super) input: FaultInput,
}

/// A fresh worker, one call, and it is gone.
pub(super) fn call(
    parts: &Parts,
    loaded: &Loaded,
    run: &RunId,
    ask: Ask,
    answer: impl FnMut(Call) -> Reply,
) -> Result<Ending, WorkerError> {
    let limits = loaded.approved.manifest().limits;
    let mut worker = Worker::start(&parts.workers, slot_of(run))?;
    let time = limits.time.duration();
    let limits = WorkerLimits {
        memory: limits.memory.0,
        time_ms: theriac_model::time::millis(time),
        host_calls: limits.host_calls,
        handles: limits.handles,
        log_bytes: u32::try_from(limits.log_bytes.0).unwrap_or(u32::MAX),
    };
    if let Some(ending) = worker.load(&loaded.artefact, limits, loaded.artefact.imports.clone())? {
        return Ok(ending);
    }
    Ok(worker.call(ask.export, ask.input, time, answer))
}

/// Runs take turns with the workers' users, so that two at once never share one.
fn slot_of(run: &RunId) -> usize {
    run.as_str().rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
