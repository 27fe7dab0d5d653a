//! One run from its reservation to its end: measure, dry run, authorise, perform, verify, and keep it or take it back.
//!
//! Each step is a record before it is a fact, so that [`recovery`] can go on from any of them. A run has a thread of its own;
//! what it may do is in its warrant, and what it did is in the journal.

mod dry;
pub(crate) mod recovery;
mod verify;

use std::sync::Arc;
use std::time::Duration;

use theriac_authority::authorise::{self, Decided, Request, Warrant};
use theriac_authority::consent::Consent;
use theriac_authority::guardrail::{self, Objection};
use theriac_journal::Durability;
use theriac_model::call::{Call, Export, FaultInput, Opinion, Reply, Report};
use theriac_model::id::RunId;
use theriac_model::plan::Plan;
use theriac_model::playbook::{Playbook, Rung};
use theriac_model::record::{Action, Decision, Proposal, Record};
use theriac_model::run::{RunEvent, RunState};
use theriac_model::verdict::{Measurement, Phase, Verdict};

use crate::book::{Answer, Reserved, StepError};
use crate::crash::crash_point;
use crate::parts::Parts;
use crate::remedies::{Loaded, chain};
use crate::rules::Rules;
use crate::session::{Host as _, LiveEnd, Session};
use crate::undo;
use crate::worker::{Ending, WorkerError};
use crate::writer::{WriteError, Writer as _};
pub(crate) use dry::dry_run;
use dry::{Ask, Dry, DryError, Recorder};
use verify::Verification;

/// How long the runner looks for the fault that the agent says is there: its third failed health check may come a moment
/// after the agent's.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a planned run waits for one of the slots.
const SLOT_PATIENCE: Duration = Duration::from_secs(60);
/// Evidence that is handed to a remedy.
const MAX_EVIDENCE: usize = 32;
const MAX_SUMMARY: usize = 512;

/// Why a run stopped being driven. Not why it did not help: that is in the journal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The journal failed, or a transition was illegal: nothing more may be done.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The journal failed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A proposal that can't become a run.
#[derive(Debug)]
pub(crate) struct NotAccepted {
    pub(crate) rule: String,
    pub(crate) reason: String,
}

/// What a proposal became.
pub(crate) type Accepted = Result<Result<RunId, NotAccepted>, WriteError>;

/// Takes a proposal: checks it against what this host offers, reserves a run and starts its thread.
pub(crate) fn accept(parts: &Arc<Parts>, mut proposal: Proposal) -> Accepted {
    let rules = parts.rules();
    let rung = match rung_of(&rules, &proposal) {
        Ok(rung) => rung.clone(),
        Err(no) => return refuse(parts, proposal, no).map(Err),
    };
    // The rung's own values win: root wrote them.
    proposal.params.extend(rung.params.clone());
    proposal.evidence.truncate(MAX_EVIDENCE);
    for (_, summary) in &mut proposal.evidence {
        *summary = summary.chars().take(MAX_SUMMARY).collect();
    }
    if parts.remedies().get(&proposal.remedy).is_none() {
        let reason = format!("no approved remedy `{}` is loaded here", proposal.remedy);
        let no = NotAccepted { rule: guardrail::REMEDY_UNAVAILABLE.to_owned(), reason };
        return refuse(parts, proposal, no).map(Err);
    }
    let guardrails = Parts::guardrails(&rules);
    match parts.book.reserve(proposal.clone(), &guardrails, |now| Parts::situation(&rules, now))? {
        Reserved::Same(run) => Ok(Ok(run)),
        Reserved::No(objection) => {
            Ok(Err(NotAccepted { rule: objection.rule().to_owned(), reason: objection.to_string() }))
        }
        Reserved::New(run) => {
            let attempt = Attempt { parts: Arc::clone(parts), rules, run: run.clone(), proposal, rung };
            attempt.spawn(|attempt| attempt.go())?;
            Ok(Ok(run))
        }
    }
}

fn refuse(parts: &Parts, proposal: Proposal, no: NotAccepted) -> Result<NotAccepted, WriteError> {
    let record = Record::ProposalRefused { proposal, rule: no.rule.clone(), reason: no.reason.clone() };
    parts.book.write(record, Durability::Buffered)?;
    Ok(no)
}

/// The rung that the proposal names, if it is one: the agent chooses, it does not compose.
fn rung_of<'r>(rules: &'r Rules, proposal: &Proposal) -> Result<&'r Rung, NotAccepted> {
    let no = |rule: &str, reason: String| NotAccepted { rule: rule.to_owned(), reason };
    if rules.host.target(&proposal.target).is_none() {
        return Err(no("target", format!("`{}` is not listed in runner.toml", proposal.target)));
    }
    let chosen = Playbook::choose(&rules.playbooks, proposal.kind, &proposal.target);
    let playbook = chosen
        .filter(|playbook| playbook.name == proposal.playbook)
        .ok_or_else(|| no("playbook", format!("`{}` is not the playbook for this fault", proposal.playbook)))?;
    let rung = usize::try_from(proposal.rung).ok().and_then(|index| playbook.rungs.get(index));
    let rung = rung.ok_or_else(|| no("rung", format!("`{}` has {} rungs", playbook.name, playbook.rungs.len())))?;
    if rung.remedy != proposal.remedy {
        return Err(no("remedy", format!("that rung is for `{}`", rung.remedy)));
    }
    Ok(rung)
}

/// A reserved run, being driven.
pub(crate) struct Attempt {
    pub(crate) parts: Arc<Parts>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) run: RunId,
    pub(crate) proposal: Proposal,
    pub(crate) rung: Rung,
}

impl Attempt {
    /// Drives it on a thread of its own.
    pub(crate) fn spawn(
        self,
        drive: impl FnOnce(&Self) -> Result<(), RunError> + Send + 'static,
    ) -> Result<(), WriteError> {
        let name = format!("run-{}", self.run);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let span = tracing::info_span!("run", run = %self.run, incident = %self.proposal.incident);
            let _entered = span.enter();
            match drive(&self).and_then(|()| self.close()) {
                Ok(()) => {}
                Err(error) => tracing::error!(error = %chain(&error), "the run stopped being driven"),
            }
        });
        thread.map(drop).map_err(|source| WriteError { source })
    }

    fn go(&self) -> Result<(), RunError> {
        crash_point("run.reserved");
        let Some(before) = self.measure()? else { return Ok(()) };
        let remedies = self.parts.remedies();
        let Some(loaded) = remedies.get(&self.proposal.remedy) else {
            return self.step(RunEvent::Refused, "the remedy is no longer loaded");
        };
        let Some(plan) = self.plan(loaded, &before)? else { return Ok(()) };
        crash_point("run.planned");
        let Some(warrant) = self.authorise(loaded, plan, &before)? else { return Ok(()) };
        if !self.begin()? {
            return Ok(());
        }
        crash_point("run.running");
        if self.perform(loaded, &warrant, &before)? {
            self.verify(&before, Some((loaded, &warrant)), false)
        } else {
            self.take_back(Verdict::Unknown)
        }
    }

    /// The runner's own measurement. Without it, or without the fault, nothing goes on.
    fn measure(&self) -> Result<Option<Measurement>, RunError> {
        let Proposal { kind, target, .. } = &self.proposal;
        let Some(before) = self.parts.observer.measure_until_present(*kind, target, PATIENCE) else {
            let reason = format!("the runner can't measure `{kind}` at `{target}` itself: a person is needed");
            self.step(RunEvent::Refused, reason)?;
            return Ok(None);
        };
        let record = Record::Measured { run: self.run.clone(), phase: Phase::Before, measurement: before.clone() };
        self.parts.book.write(record, Durability::Buffered)?;
        match before.present {
            Some(true) => Ok(Some(before)),
            Some(false) => {
                self.step(RunEvent::Superseded, format!("the fault is not there: {}", before.summary)).map(|()| None)
            }
            None => {
                self.step(RunEvent::Refused, format!("the fault can't be measured: {}", before.summary)).map(|()| None)
            }
        }
    }

    /// The dry run.
    fn plan(&self, loaded: &Loaded, before: &Measurement) -> Result<Option<Plan>, RunError> {
        match self.recorder(loaded).record(Some(before)) {
            Ok(Dry::Plan(plan)) => {
                let hash = plan.hash();
                let record = Record::Planned { run: self.run.clone(), plan: plan.clone(), hash };
                self.parts.book.write(record, Durability::Buffered)?;
                self.step(RunEvent::Planned, format!("{} effects, risk {}", plan.effects.len(), plan.risk()))?;
                Ok(Some(*plan))
            }
            Ok(Dry::Nothing(reason)) => self.step(RunEvent::Refused, reason).map(|()| None),
            Err(DryError::Write(error)) => Err(error.into()),
            Err(error) => self.step(RunEvent::Refused, chain(&error)).map(|()| None),
        }
    }

    fn recorder<'a>(&'a self, loaded: &'a Loaded) -> Recorder<'a> {
        let rung = Some((self.proposal.playbook.clone(), self.proposal.rung));
        Recorder { parts: &self.parts, rules: &self.rules, loaded, run: &self.run, proposal: &self.proposal, rung }
    }

    /// Policy, and a person where policy wants one.
    fn authorise(&self, loaded: &Loaded, plan: Plan, before: &Measurement) -> Result<Option<Warrant>, RunError> {
        let slots = Parts::guardrails(&self.rules).slots;
        self.parts.book.wait_for_slot(slots, SLOT_PATIENCE);
        let Decided { decision, warrant } = self.decide(loaded, &plan, None)?;
        match (decision.action, warrant) {
            (Action::Run | Action::RunAndTell, Some(warrant)) => Ok(Some(warrant)),
            (Action::RunWithConsent, _) => self.ask(loaded, &decision, before),
            (Action::Defer, _) => self.step(RunEvent::Deferred, decision.summary).map(|()| None),
            (Action::Run | Action::RunAndTell | Action::Refuse, _) => {
                self.step(RunEvent::Refused, decision.summary).map(|()| None)
            }
        }
    }

    fn decide(&self, loaded: &Loaded, plan: &Plan, consent: Option<&Consent>) -> Result<Decided, RunError> {
        let moment = self.parts.moment();
        let decided = self.parts.book.standing(|standing, now| {
            let situation = Parts::situation(&self.rules, now);
            authorise::authorise(&Request {
                run: &self.run,
                plan,
                rung: self.rung.level,
                approved: &loaded.approved,
                host: &self.rules.host,
                policies: &self.rules.policies,
                standing,
                situation: &situation,
                now: moment,
                consent,
            })
        });
        let record = Record::Decided { run: self.run.clone(), decision: decided.decision.clone() };
        self.parts.book.write(record, Durability::Synced)?;
        Ok(decided)
    }

    /// Asks a person, then plans again: what was consented to hours ago may be a larger thing now.
    fn ask(&self, loaded: &Loaded, decision: &Decision, before: &Measurement) -> Result<Option<Warrant>, RunError> {
        self.step(RunEvent::ConsentAsked, decision.summary.clone())?;
        crash_point("run.asked");
        let patience = self.rules.host.timing.consent_valid.duration();
        let consent = match self.parts.book.wait_for_answer(&self.run, patience) {
            Answer::Yes(consent) => consent,
            Answer::No => return self.step(RunEvent::Refused, "a person said no").map(|()| None),
            Answer::Silence => return self.step(RunEvent::Refused, "nobody answered in time").map(|()| None),
        };
        let Some(now) = self.parts.observer.measure(self.proposal.kind, &self.proposal.target) else {
            return self.step(RunEvent::Refused, "the fault can't be measured any more").map(|()| None);
        };
        if now.present == Some(false) {
            return self.step(RunEvent::Superseded, format!("the fault is gone: {}", now.summary)).map(|()| None);
        }
        let plan = match self.recorder(loaded).record(Some(before)) {
            Ok(Dry::Plan(plan)) => *plan,
            Ok(Dry::Nothing(reason)) => return self.step(RunEvent::Superseded, reason).map(|()| None),
            Err(DryError::Write(error)) => return Err(error.into()),
            Err(error) => return self.step(RunEvent::Refused, chain(&error)).map(|()| None),
        };
        match self.decide(loaded, &plan, Some(&consent))? {
            Decided { warrant: Some(warrant), .. } => Ok(Some(warrant)),
            Decided { decision, .. } => self.step(RunEvent::Refused, decision.summary).map(|()| None),
        }
    }

    /// Takes a slot. A hold or a window that came meanwhile wins.
    fn begin(&self) -> Result<bool, RunError> {
        let guardrails = Parts::guardrails(&self.rules);
        let situation = |now| Parts::situation(&self.rules, now);
        match self.parts.book.begin(&self.run, &guardrails, situation, SLOT_PATIENCE)? {
            Ok(()) => Ok(true),
            Err(Objection::Defer { reason, .. }) => self.step(RunEvent::Deferred, reason).map(|()| false),
            Err(Objection::Refuse { reason, .. }) => self.step(RunEvent::Refused, reason).map(|()| false),
        }
    }

    /// The live run. `false`: what was done has to be taken back.
    fn perform(&self, loaded: &Loaded, warrant: &Warrant, before: &Measurement) -> Result<bool, RunError> {
        let clock = || self.parts.book.now();
        let mut session = Session::live(&self.parts.world, warrant, &clock, self.proposal.remedy.clone());
        let input = self.recorder(loaded).input(Some(before));
        let ending = match input {
            Ok(input) => self.call(loaded, Export::Remediate, input, |call| session.answer(call)),
            Err(error) => return self.step(RunEvent::Failed, error.to_string()).map(|()| false),
        };
        let end: LiveEnd = session.finish();
        if let Some(error) = end.journal {
            return Err(error.into());
        }
        let failed = |reason: String| self.step(RunEvent::Failed, reason).map(|()| false);
        match (ending, end.off_plan.or(end.failed)) {
            (_, Some(denial)) => failed(denial.to_string()),
            (Ok(Ending::Remediated(Report::Treated(said) | Report::NothingToDo(said))), None) => {
                self.step(RunEvent::Ran, said).map(|()| true)
            }
            (Ok(Ending::Remediated(Report::GaveUp(said))), None) => failed(format!("the remedy gave up: {said}")),
            (Ok(Ending::Remediated(Report::Denied(denial))), None) => failed(denial.to_string()),
            (Ok(Ending::Checked(_)), None) => failed("the worker answered another question".into()),
            (Ok(Ending::Ended { sentence, .. }), None) => {
                self.note_end(&sentence, false)?;
                failed(sentence)
            }
            (Err(error), None) => failed(chain(&error)),
        }
    }

    fn call(
        &self,
        loaded: &Loaded,
        export: Export,
        input: FaultInput,
        answer: impl FnMut(Call) -> Reply,
    ) -> Result<Ending, WorkerError> {
        dry::call(&self.parts, loaded, &self.run, Ask { export, input }, answer)
    }

    fn note_end(&self, sentence: &str, dry: bool) -> Result<(), WriteError> {
        let record = Record::WorkerEnded { run: self.run.clone(), dry, sentence: sentence.to_owned() };
        self.parts.book.write(record, Durability::Buffered).map(drop)
    }

    /// Did it help, and does it last? `healed_before`: a fast check passed before a restart of the runner.
    pub(crate) fn verify(
        &self,
        before: &Measurement,
        opinion_of: Option<(&Loaded, &Warrant)>,
        healed_before: bool,
    ) -> Result<(), RunError> {
        crash_point("run.verifying");
        let timing = self.rules.host.timing;
        let cancelled = || self.parts.book.is_broken();
        let verification = Verification {
            observer: &self.parts.observer,
            kind: self.proposal.kind,
            target: &self.proposal.target,
            before,
            cancelled: &cancelled,
        };
        if !healed_before {
            let within = self.rung.healed_within.unwrap_or(timing.healed_within).duration();
            let mut finding = verification.fast(within);
            if let Some(lower) = opinion_of
                .filter(|_| finding.verdict == Verdict::Improved)
                .and_then(|(loaded, warrant)| self.opinion(loaded, warrant, before))
            {
                finding.verdict = finding.verdict.lowered_by(lower.0);
                finding.summary = format!("{}; the remedy says: {}", finding.summary, lower.1);
            }
            if !self.note_verdict(Phase::Fast, &finding)? {
                return self.take_back(finding.verdict);
            }
        }
        crash_point("run.healed");
        let lasting = self.rung.stable_for.unwrap_or(timing.stable_for).duration();
        let finding = verification.stable(lasting, timing.sample_every.duration());
        if !self.note_verdict(Phase::Stable, &finding)? {
            return self.take_back(finding.verdict);
        }
        self.parts.book.step(&self.run, RunEvent::Improved, finding.summary)?;
        Ok(())
    }

    /// Writes the verdict; `false` when the run is to be undone, which is then its next state.
    fn note_verdict(&self, phase: Phase, finding: &verify::Finding) -> Result<bool, RunError> {
        let verified = Record::Verified {
            run: self.run.clone(),
            phase,
            verdict: finding.verdict,
            summary: finding.summary.clone(),
        };
        self.parts.book.write(verified, Durability::Synced)?;
        if finding.verdict == Verdict::Improved {
            return Ok(true);
        }
        self.parts.book.step(
            &self.run,
            RunEvent::NotImproved,
            format!("{}: {}", finding.verdict.as_str(), finding.summary),
        )?;
        Ok(false)
    }

    /// The remedy's own view, which may lower the verdict. A remedy that can't tell lowers nothing: the runner could.
    fn opinion(&self, loaded: &Loaded, warrant: &Warrant, before: &Measurement) -> Option<(Verdict, String)> {
        let mut session = Session::check(&self.parts.world, warrant, self.proposal.remedy.clone());
        let input = self.recorder(loaded).input(Some(before)).ok()?;
        match self.call(loaded, Export::Check, input, |call| session.answer(call)) {
            Ok(Ending::Checked(Opinion::NotImproved(said))) => Some((Verdict::NotImproved, said)),
            Ok(
                Ending::Checked(Opinion::Satisfied | Opinion::Unsure(_)) | Ending::Remediated(_) | Ending::Ended { .. },
            )
            | Err(_) => None,
        }
    }

    /// Puts the effects back, newest first.
    pub(crate) fn take_back(&self, verdict: Verdict) -> Result<(), RunError> {
        crash_point("run.undoing");
        let entries = recovery::entries_of(&self.parts.book, &self.run)?;
        let outcomes = undo::take_back(&self.parts.world, &self.run, &entries, verdict)?;
        let unsettled: Vec<String> = outcomes
            .iter()
            .filter(|(_, outcome)| outcome.needs_person())
            .map(|(index, outcome)| format!("effect {index}: {outcome:?}"))
            .collect();
        if unsettled.is_empty() {
            self.step(RunEvent::UndoFinished, format!("{} effects taken back", outcomes.len()))
        } else {
            self.step(RunEvent::UndoFailed, unsettled.join("; "))
        }
    }

    /// After the end: breaker and cooldown, both of which outlive the run.
    fn close(&self) -> Result<(), RunError> {
        crash_point("run.ended");
        let Some(summary) = self.parts.book.run(&self.run) else { return Ok(()) };
        let rungs = Playbook::choose(&self.rules.playbooks, self.proposal.kind, &self.proposal.target)
            .map_or(0, |playbook| playbook.rungs.len());
        let last = usize::try_from(self.proposal.rung).map_or(true, |rung| rung + 1 >= rungs);
        let ended = match summary.state {
            RunState::Committed | RunState::FailedNeedsPerson => true,
            RunState::Undone => last,
            RunState::Reserved
            | RunState::Planned
            | RunState::AwaitingConsent
            | RunState::Running
            | RunState::Verifying
            | RunState::Undoing
            | RunState::Refused
            | RunState::Superseded
            | RunState::Deferred => false,
        };
        let guardrails = Parts::guardrails(&self.rules);
        let tripped = self
            .parts
            .book
            .standing(|standing, now| guardrail::breaker_due(standing, &guardrails, &self.proposal, now));
        if let Some(tripped) = tripped {
            self.parts.book.write(tripped, Durability::Synced)?;
        }
        if ended {
            let until = self.parts.book.now().after(guardrails.cooldown.duration());
            let record = Record::CooldownBegan { target: self.proposal.target.clone(), until };
            self.parts.book.write(record, Durability::Synced)?;
        }
        Ok(())
    }

    fn step(&self, event: RunEvent, reason: impl Into<String>) -> Result<(), RunError> {
        self.parts.book.step(&self.run, event, reason)?;
        Ok(())
    }
}
