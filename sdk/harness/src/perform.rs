//! Playing a scenario: as written, again on what that left, and broken off before and after each effect.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use theriac_authority::package;
use theriac_model::call::{Export, FaultInput, Report};
use theriac_model::effect::{Effect, UndoClass, UndoOutcome};
use theriac_model::fault::Severity;
use theriac_model::id::{IncidentId, PlaybookName, RunId};
use theriac_model::plan::{Plan, PlannedEffect};
use theriac_model::record::{Entry, Proposal};
use theriac_model::remedy::{Params, resolve_params};
use theriac_model::time::{GuardTime, Timestamp, millis};
use theriac_model::verdict::Verdict as Verification;
use theriac_runner::session::{Host as _, LiveEnd, Session};
use theriac_runner::undo::{self, Intent};
use theriac_runner::worker::Ending;

use crate::compare::{problems, said};
use crate::error::{ScenarioError, chain};
use crate::licence::Licence;
use crate::namespace;
use crate::notes::BreakOff;
use crate::programs::{Programs, name};
use crate::recording::{Exchange, Recording};
use crate::scenario::Scenario;
use crate::snapshot::FileKey;
use crate::stage::{Props, Stage};
use crate::summary::{Outcome, Verdict};

/// Plays the scenario. This process must have one thread, and is in a mount namespace of its own afterwards.
pub fn play(programs: &Programs, remedy: &Path, file: &Path) -> Outcome {
    let mut outcome = Outcome {
        scenario: name(file),
        summary: String::new(),
        verdict: Verdict::Failed { problems: Vec::new() },
        asks: None,
    };
    outcome.verdict = match played(programs, remedy, file, &mut outcome) {
        Ok((worlds, problems)) if problems.is_empty() => Verdict::Passed { worlds },
        Ok((_, problems)) => Verdict::Failed { problems },
        Err(ScenarioError::NotPossible { reason }) => Verdict::NotPossible { reason },
        Err(error) => Verdict::Failed { problems: vec![chain(&error)] },
    };
    outcome
}

fn played(
    programs: &Programs,
    remedy: &Path,
    file: &Path,
    outcome: &mut Outcome,
) -> Result<(u32, Vec<String>), ScenarioError> {
    let scenario = Scenario::read(file)?;
    outcome.summary.clone_from(&scenario.summary);
    let bytes = std::fs::read(remedy).map_err(ScenarioError::io(format!("reading `{}`", remedy.display())))?;
    let package = package::open(bytes).map_err(ScenarioError::part("opening the remedy"))?;
    let no_mounts = namespace::enter().err().map(|error| format!("a filesystem of its own: {error}"));
    let licence = Licence::new(&package, programs.workers())?;
    let props = Props { programs, scenario: &scenario, manifest: &package.manifest, no_mounts: no_mounts.as_deref() };
    let play = Play { props, licence: &licence };
    let (effects, mut problems) = play.as_written(outcome)?;
    let mut worlds = 1;
    if !scenario.once && problems.is_empty() {
        let each = (0..effects).flat_map(|index| [BreakOff::Before(index), BreakOff::After(index)]).map(Some);
        for break_off in each.chain((effects > 0).then_some(None)) {
            worlds += 1;
            problems.extend(play.taken_back(break_off)?);
        }
    }
    Ok((worlds, problems))
}

/// A dry run in the scenario's world, as a recording. This process must have one thread, and is in a mount namespace of its own
/// afterwards.
pub fn record(programs: &Programs, remedy: &Path, file: &Path) -> Result<Recording, ScenarioError> {
    let scenario = Scenario::read(file)?;
    let bytes = std::fs::read(remedy).map_err(ScenarioError::io(format!("reading `{}`", remedy.display())))?;
    let package = package::open(bytes).map_err(ScenarioError::part("opening the remedy"))?;
    let no_mounts = namespace::enter().err().map(|error| format!("a filesystem of its own: {error}"));
    let licence = Licence::new(&package, programs.workers())?;
    let props = Props { programs, scenario: &scenario, manifest: &package.manifest, no_mounts: no_mounts.as_deref() };
    let play = Play { props, licence: &licence };
    let stage = Stage::set(props, None)?;
    let Rehearsal { input, ending, effects, exchanges } = play.rehearse(&stage, &run_id(1)?, &play.params()?)?;
    Ok(Recording::new(package.reference(), input, exchanges, effects, ending))
}

/// One dry run, with everything that was said in it.
#[derive(Debug)]
pub(crate) struct Rehearsal {
    pub(crate) input: FaultInput,
    pub(crate) ending: Ending,
    pub(crate) effects: Vec<PlannedEffect>,
    pub(crate) exchanges: Vec<Exchange>,
}

/// One dry run, and one live run where that gave a plan.
#[derive(Debug)]
pub(crate) struct Performance {
    pub(crate) dry: Ending,
    pub(crate) plan: Vec<PlannedEffect>,
    live: Option<Live>,
    asks: Option<String>,
}

#[derive(Debug)]
struct Live {
    ending: Ending,
    end: LiveEnd,
    /// What the remedy thinks of it; not asked where the run was broken off.
    check: Option<Ending>,
}

impl Performance {
    /// What no run of a sound remedy has, whatever the scenario expects.
    pub(crate) fn trouble(&self) -> Vec<String> {
        let Some(Live { ending, end, check }) = &self.live else { return Vec::new() };
        let mut trouble = Vec::new();
        trouble.extend(end.off_plan.as_ref().map(|denial| format!("the live run left its plan: {denial}")));
        trouble.extend(end.failed.as_ref().map(|denial| format!("an effect failed: {denial}")));
        if !matches!(ending, Ending::Remediated(Report::Treated(_))) {
            trouble.push(format!("the dry run treated, the live run did not: {}", said(ending)));
        }
        let checked = check.as_ref().filter(|check| !matches!(check, Ending::Checked(_)));
        trouble.extend(checked.map(|check| format!("its check: {}", said(check))));
        trouble
    }

    fn intents(&self) -> u32 {
        self.live.as_ref().map_or(0, |live| live.end.intents)
    }
}

pub(crate) struct Play<'a> {
    pub(crate) props: Props<'a>,
    pub(crate) licence: &'a Licence,
}

impl Play<'_> {
    /// As written, and again on what that left. The number of effects that were done.
    fn as_written(&self, outcome: &mut Outcome) -> Result<(u32, Vec<String>), ScenarioError> {
        let stage = Stage::set(self.props, None)?;
        let before = stage.snapshot()?;
        let first = self.perform(&stage, 1)?;
        outcome.asks.clone_from(&first.asks);
        let after = stage.snapshot()?;
        let mut found = problems(&self.props.scenario.expect, &first, &stage, &before, &after);
        if !self.props.scenario.once && found.is_empty() {
            let again = self.perform(&stage, 2)?;
            let mut trouble = again.trouble();
            if matches!(again.dry, Ending::Ended { .. } | Ending::Remediated(Report::Denied(_))) {
                trouble.push(said(&again.dry));
            }
            found.extend(trouble.into_iter().map(|trouble| format!("done twice: {trouble}")));
        }
        Ok((first.intents(), found))
    }

    /// A run that is broken off (or, with `None`, did not help): what it did is taken back, and taking it back twice is as
    /// good as once.
    fn taken_back(&self, break_off: Option<BreakOff>) -> Result<Vec<String>, ScenarioError> {
        let stage = Stage::set(self.props, break_off)?;
        let start = stage.snapshot()?;
        self.perform(&stage, 1)?;
        let mut found = Vec::new();
        for time in ["taken back", "taken back twice"] {
            let entries = stage.notes.entries();
            let outcomes = undo::take_back(&stage.world, &run_id(1)?, &entries, Verification::Worse)
                .map_err(ScenarioError::part("taking the run back"))?;
            let lost = irreversible(&entries);
            for (index, outcome) in outcomes {
                if !is_back(&outcome, lost.contains(&index)) {
                    found.push(format!("{time}: effect {}: {outcome:?}", index + 1));
                }
            }
            let gone = files_of(&entries, &lost);
            found.extend(
                stage.snapshot()?.differs_from(&start, &gone).into_iter().map(|what| format!("{time}: {what}")),
            );
        }
        let when = break_off.map_or_else(|| "the run did not help".to_owned(), |at| at.to_string());
        Ok(found.into_iter().map(|what| format!("{when}: {what}")).collect())
    }

    /// A dry run.
    pub(crate) fn rehearse(&self, stage: &Stage, run: &RunId, params: &Params) -> Result<Rehearsal, ScenarioError> {
        let remedy = self.licence.approved.remedy();
        let permit = self.licence.permit(&stage.host, self.props.scenario.fault, &stage.target)?;
        let mut session = Session::record(&stage.world, &permit, run.clone(), remedy.name.clone());
        let time = self.props.manifest.limits.time.duration();
        let (worker, input) = (self.licence.worker()?, self.input(stage, params));
        let mut exchanges = Vec::new();
        let ending = worker.call(Export::Remediate, input.clone(), time, |call| {
            let reply = session.answer(call.clone());
            exchanges.push(Exchange { call, reply: reply.clone() });
            reply
        });
        Ok(Rehearsal { input, ending, effects: session.finish().effects, exchanges })
    }

    fn perform(&self, stage: &Stage, number: u32) -> Result<Performance, ScenarioError> {
        let (run, params) = (run_id(number)?, self.params()?);
        let remedy = self.licence.approved.remedy();
        let kind = self.props.scenario.fault;
        let time = self.props.manifest.limits.time.duration();
        let Rehearsal { ending: dry, effects: plan, .. } = self.rehearse(stage, &run, &params)?;
        if !matches!(dry, Ending::Remediated(Report::Treated(_))) || plan.is_empty() {
            return Ok(Performance { dry, plan, live: None, asks: None });
        }
        let proposal = self.proposal(stage, number, params.clone())?;
        let whole = Plan {
            incident: proposal.incident.clone(),
            kind,
            target: stage.target.clone(),
            remedy: remedy.clone(),
            params: params.clone(),
            rung: None,
            effects: plan.clone(),
            report: said(&dry),
        };
        let leave = self.licence.warrant(&stage.host, &run, &whole, &proposal)?;
        // Guard time begins with the warrant here.
        let began = Instant::now();
        let clock = || GuardTime(millis(began.elapsed()));
        let mut session = Session::live(&stage.world, &leave.warrant, &clock, remedy.name.clone());
        let worker = self.licence.worker()?;
        let ending = worker.call(Export::Remediate, self.input(stage, &params), time, |call| session.answer(call));
        let end = session.finish();
        let check = if end.must_undo() {
            None
        } else {
            let mut session = Session::check(&stage.world, &leave.warrant, remedy.name.clone());
            let worker = self.licence.worker()?;
            Some(worker.call(Export::Check, self.input(stage, &params), time, |call| session.answer(call)))
        };
        Ok(Performance { dry, plan, live: Some(Live { ending, end, check }), asks: leave.asks })
    }

    pub(crate) fn params(&self) -> Result<Params, ScenarioError> {
        resolve_params(&self.props.manifest.params, &self.props.scenario.params())
            .map_err(ScenarioError::part("giving the remedy its parameters"))
    }

    fn input(&self, stage: &Stage, params: &Params) -> FaultInput {
        FaultInput {
            kind: self.props.scenario.fault,
            severity: Severity::Critical,
            target: stage.target.to_string(),
            summary: self.props.scenario.summary.clone(),
            numbers: self.props.scenario.number.clone(),
            evidence: Vec::new(),
            params: params.clone().into_iter().collect(),
        }
    }

    fn proposal(&self, stage: &Stage, number: u32, params: Params) -> Result<Proposal, ScenarioError> {
        let doing = "proposing the run";
        Ok(Proposal {
            incident: IncidentId::parse(&format!("i-{number}")).map_err(ScenarioError::part(doing))?,
            kind: self.props.scenario.fault,
            target: stage.target.clone(),
            playbook: PlaybookName::parse("scenario").map_err(ScenarioError::part(doing))?,
            rung: 0,
            remedy: self.licence.approved.remedy().name.clone(),
            params,
            onset: Timestamp(0),
            detected: Timestamp(0),
            evidence: Vec::new(),
        })
    }
}

pub(crate) fn run_id(number: u32) -> Result<RunId, ScenarioError> {
    RunId::parse(&format!("r-{number}")).map_err(ScenarioError::part("naming the run"))
}

/// Everything is back, as far as its class promises.
const fn is_back(outcome: &UndoOutcome, irreversible: bool) -> bool {
    match outcome {
        UndoOutcome::Restored | UndoOutcome::NotNeeded { .. } => true,
        UndoOutcome::Impossible { .. } => irreversible,
        UndoOutcome::ChangedSince { .. } | UndoOutcome::Failed { .. } => false,
    }
}

/// The effects that nobody promised to take back.
fn irreversible(entries: &[Entry]) -> BTreeSet<u32> {
    let intents = entries.iter().filter_map(|entry| Intent::of(&entry.record));
    intents.filter(|intent| matches!(intent.class, UndoClass::Irreversible { .. })).map(|intent| intent.index).collect()
}

fn files_of(entries: &[Entry], effects: &BTreeSet<u32>) -> BTreeSet<FileKey> {
    let intents = entries.iter().filter_map(|entry| Intent::of(&entry.record));
    let file = |intent: Intent<'_>| match intent.effect {
        Effect::File { label, file, .. } => Some((label.clone(), file.path.clone())),
        Effect::Unit { .. }
        | Effect::Group { .. }
        | Effect::Process { .. }
        | Effect::Certificate(_)
        | Effect::Program(_)
        | Effect::Http(_)
        | Effect::Knob(_)
        | Effect::Release(_)
        | Effect::Container(_)
        | Effect::Database(_)
        | Effect::Firewall(_) => None,
    };
    intents.filter(|intent| effects.contains(&intent.index)).filter_map(file).collect()
}
