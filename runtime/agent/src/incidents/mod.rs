//! The incident loop: each incident from its first signal to its end, driven by signals, by the runner's word, and by time.
//!
//! Pure: it reads no clock, opens nothing and sends nothing. What it wants done it says as [`Act`]s, which the engine performs
//! after everything that changed is on disk. It decides nothing that the runner would have to believe.

mod course;
mod ending;
mod ladder;
mod look;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use theriac_analysis::correlate::{Change, Correlator, note};
use theriac_analysis::diagnose::Causes;
use theriac_analysis::propose::{Choice, propose};
use theriac_model::catalog::Catalog;
use theriac_model::diagnosis::{Inaction, InactionReason};
use theriac_model::id::{IncidentId, PlaybookName, RunId, UnitName};
use theriac_model::incident::{Incident, IncidentEvent, IncidentState};
use theriac_model::record::{IncidentSummary, Proposal};
use theriac_model::signal::{Origin, Signal};
use theriac_model::target::Target;
use theriac_model::time::Timestamp;

use crate::senses::Senses;
use course::Course;
use ending::Ending;
#[cfg(test)]
pub(crate) use ending::summary_of;
pub(crate) use ladder::Answer;

/// The condition has to be gone for this long before it counts as gone by itself: a value on the border flaps.
const CALM: Duration = Duration::from_secs(10);
/// After a restart, rules with a `for` need this long to find again what is still there.
const RESTART_CALM: Duration = Duration::from_secs(90);
/// A deploy, a backup or a restart that takes longer than this is not waited for.
const INACTION_PATIENCE: Duration = Duration::from_secs(2 * 3600);
/// How often the runner is asked about runs we heard nothing of.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// The moment of a decision, and what is perceived at it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment<'a> {
    pub(crate) now: Timestamp,
    pub(crate) senses: &'a Senses,
}

/// What the loop wants done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Act {
    /// Ask the runner for this run.
    Propose(Box<Proposal>),
    /// Tell the runner of a rung whose remedy is not approved, so that its ladder goes on, too.
    PassOver(Box<Proposal>),
    /// Ask the runner about the runs of an incident.
    AskRuns(IncidentId),
    /// Ask the runner for the end of a unit's log.
    AskLog(IncidentId, UnitName),
    /// Ask the runner for its catalog again.
    AskCatalog,
    /// Let the runner write down that nothing is done.
    NotActing(Box<Incident>, Inaction),
    /// An incident is over.
    Ended(Box<Incident>, IncidentSummary),
    /// Tell people.
    Tell(Box<News>),
}

/// What people are told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct News {
    pub(crate) what: What,
    pub(crate) incident: Incident,
    pub(crate) run: Option<RunId>,
    pub(crate) summary: String,
}

/// Why they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// Policy wants this run told.
    Runs,
    /// A person's yes is waited for.
    ConsentAsked,
    /// A person has to look.
    Escalated,
    /// A run that was told of, or an escalation, is over.
    Over,
}

/// The incidents that are open, and what is on its way about them.
#[derive(Debug)]
pub(crate) struct Incidents {
    correlator: Correlator,
    causes: Causes,
    catalog: Option<Catalog>,
    courses: BTreeMap<IncidentId, Course>,
    /// Signals that were not over when their incident was, with the time from which they count again.
    leftovers: BTreeMap<(String, String), (Signal, Timestamp)>,
    changed: BTreeSet<IncidentId>,
    acts: Vec<Act>,
    missteps: u64,
}

impl Incidents {
    /// Goes on with what was open before a restart. Nothing acts on its old signals: they count as over until measured again.
    pub(crate) fn resume(causes: Causes, open: Vec<Incident>, next: u64, now: Timestamp) -> Self {
        let open = open.into_iter().map(|mut incident| {
            for signal in incident.signals.iter_mut().filter(|signal| signal.origin == Origin::Local) {
                signal.resolved = true;
            }
            note(&mut incident, now, "the agent started again; everything is measured afresh".to_owned());
            incident
        });
        Self {
            correlator: Correlator::new(open, next),
            causes,
            catalog: None,
            courses: BTreeMap::new(),
            leftovers: BTreeMap::new(),
            changed: BTreeSet::new(),
            acts: Vec::new(),
            missteps: 0,
        }
    }

    /// Takes the runner's catalog. With the first one, what was open before a restart goes on.
    pub(crate) fn set_catalog(&mut self, at: Moment<'_>, catalog: Catalog) {
        let first = self.catalog.replace(catalog).is_none();
        for id in self.ids() {
            if first && !self.courses.contains_key(&id) {
                self.course(&id).calm = RESTART_CALM;
                self.watch_calm(at.now, &id);
            }
            self.ask_runs(at.now, &id);
            // A hold may be over, a remedy approved, the runner back: what was waited for may be possible now.
            self.course(&id).next_try = None;
            self.consider_if_due(at, &id, true);
        }
    }

    /// What the runner offers.
    pub(crate) const fn catalog(&self) -> Option<&Catalog> {
        self.catalog.as_ref()
    }

    /// Open incidents, by id.
    pub(crate) fn open(&self) -> impl Iterator<Item = &Incident> {
        self.correlator.open()
    }

    /// One open incident.
    pub(crate) fn get(&self, id: &IncidentId) -> Option<&Incident> {
        self.correlator.get(id)
    }

    /// The number of the next incident.
    pub(crate) const fn next_number(&self) -> u64 {
        self.correlator.next_number()
    }

    /// Signals there was no room for.
    pub(crate) const fn dropped(&self) -> u64 {
        self.correlator.dropped()
    }

    /// Illegal steps that were refused: bugs of this loop.
    pub(crate) const fn missteps(&self) -> u64 {
        self.missteps
    }

    /// What has to be saved, and then done.
    pub(crate) fn take(&mut self) -> (Vec<IncidentId>, Vec<Act>) {
        (std::mem::take(&mut self.changed).into_iter().collect(), std::mem::take(&mut self.acts))
    }

    /// A detector or an alert says something.
    pub(crate) fn signal(&mut self, at: Moment<'_>, signal: Signal) {
        let key = (signal.source.clone(), signal.target.to_string());
        self.leftovers.remove(&key);
        match self.correlator.take(signal) {
            Change::Opened(id) => {
                self.look_at_again(at, &id);
                self.ask_log(&id);
            }
            Change::Joined { id, .. } => self.look_at_again(at, &id),
            Change::Repeated(id) => {
                self.course(&id).cleared = None;
                self.consider_if_due(at, &id, false);
            }
            Change::Eased(id) => {
                self.changed.insert(id);
            }
            Change::Cleared(id) => {
                self.changed.insert(id.clone());
                self.watch_calm(at.now, &id);
            }
            Change::Nothing => {}
            Change::Dropped => tracing::warn!("too many open incidents: a signal was dropped"),
        }
    }

    fn look_at_again(&mut self, at: Moment<'_>, id: &IncidentId) {
        self.changed.insert(id.clone());
        self.course(id).cleared = None;
        self.consider(at, id);
    }

    /// After the proposal: the log is evidence, and nothing waits for it.
    fn ask_log(&mut self, id: &IncidentId) {
        if let Some(Target::Unit(unit)) = self.get(id).map(|incident| incident.target.clone()) {
            self.acts.push(Act::AskLog(id.clone(), unit));
        }
    }

    /// The end of its log came in. It may name a better cause of what was measured; nothing starts from it.
    pub(crate) fn log(&mut self, at: Moment<'_>, id: &IncidentId, lines: &[String]) {
        let Self { correlator, causes, courses, .. } = self;
        let Some(incident) = correlator.get_mut(id) else { return };
        let context = courses.get(id).and_then(|course| course.context.as_deref());
        if look::read_log(incident, causes, (lines, context), at) {
            self.changed.insert(id.clone());
        }
    }

    /// Time passes.
    pub(crate) fn tick(&mut self, at: Moment<'_>) {
        for id in self.ids() {
            let Some(incident) = self.correlator.get(&id) else { continue };
            let course = self.courses.get(&id).cloned().unwrap_or_default();
            match incident.state {
                IncidentState::Opened | IncidentState::Diagnosed | IncidentState::Escalated
                    if course.is_calm(at.now) =>
                {
                    self.close(at.now, &id, Ending::Gone, "the condition is gone".to_owned());
                }
                IncidentState::Opened | IncidentState::Diagnosed => self.consider_if_due(at, &id, false),
                IncidentState::Planned
                | IncidentState::AwaitingConsent
                | IncidentState::Healing
                | IncidentState::Healed => {
                    if !course.in_flight && at.now.since(course.asked) >= ASK_AGAIN {
                        self.ask_runs(at.now, &id);
                    }
                }
                IncidentState::Escalated | IncidentState::Closed => {}
            }
        }
        let due = self.leftovers.iter().filter(|(_, (_, from))| at.now >= *from).map(|(key, _)| key.clone());
        for key in due.collect::<Vec<_>>() {
            if let Some((signal, _)) = self.leftovers.remove(&key) {
                self.signal(at, Signal { at: at.now, ..signal });
            }
        }
    }

    fn ids(&self) -> Vec<IncidentId> {
        self.correlator.open().map(|incident| incident.id.clone()).collect()
    }

    fn course(&mut self, id: &IncidentId) -> &mut Course {
        self.courses.entry(id.clone()).or_default()
    }

    fn watch_calm(&mut self, now: Timestamp, id: &IncidentId) {
        let all_over = self.get(id).is_some_and(|incident| incident.signals.iter().all(|signal| signal.resolved));
        self.course(id).cleared = all_over.then_some(now);
    }

    fn ask_runs(&mut self, now: Timestamp, id: &IncidentId) {
        if self.get(id).is_some_and(|incident| !incident.runs.is_empty() || is_under_way(incident.state)) {
            self.course(id).asked = now;
            self.acts.push(Act::AskRuns(id.clone()));
        }
    }

    /// Looks again at an incident for which it is time; `now` even where nothing was waited for.
    fn consider_if_due(&mut self, at: Moment<'_>, id: &IncidentId, now: bool) {
        let course = self.course(id);
        let due = course.next_try.map_or(now, |next| at.now >= next);
        if due && course.cleared.is_none() && !course.in_flight {
            self.consider(at, id);
        }
    }

    /// Diagnoses and chooses what to do: the way from a signal to a proposal, without a wait in it.
    fn consider(&mut self, at: Moment<'_>, id: &IncidentId) {
        let Self { correlator, causes, catalog: Some(catalog), courses, .. } = self else { return };
        let Some(incident) = correlator.get_mut(id) else { return };
        if !matches!(incident.state, IncidentState::Opened | IncidentState::Diagnosed) {
            return;
        }
        courses.entry(id.clone()).or_default().next_try = None;
        theriac_analysis::correlate::reconsider(incident);
        let context = look::diagnose(incident, causes, at);
        courses.entry(id.clone()).or_default().context = Some(Arc::new(context));
        let choice = propose(incident, catalog);
        let skipped = match &choice {
            Choice::Propose(proposal) => ladder::passed_over(incident, catalog, proposal),
            Choice::Nothing(_) | Choice::Escalate(_) => Vec::new(),
        };
        self.step(at.now, id, IncidentEvent::Diagnosed, None);
        match choice {
            Choice::Propose(proposal) => {
                let line = format!("proposed {} (rung {} of {})", proposal.remedy, proposal.rung, proposal.playbook);
                self.step(at.now, id, IncidentEvent::Proposed, Some(line));
                self.set_rung(id, proposal.playbook.clone(), proposal.rung);
                self.course(id).in_flight = true;
                self.acts.extend(skipped.into_iter().map(|proposal| Act::PassOver(Box::new(proposal))));
                self.acts.push(Act::Propose(proposal));
            }
            Choice::Nothing(inaction) => self.do_nothing(at.now, id, inaction),
            Choice::Escalate(reason) => self.escalate(at.now, id, reason),
        }
    }

    fn do_nothing(&mut self, now: Timestamp, id: &IncidentId, inaction: Inaction) {
        if self.course(id).inaction.replace(inaction.reason) != Some(inaction.reason)
            && let Some(incident) = self.correlator.get_mut(id)
        {
            note(incident, now, format!("not acting ({}): {}", inaction.reason.as_str(), inaction.summary));
            self.changed.insert(id.clone());
            self.acts.push(Act::NotActing(Box::new(incident.clone()), inaction.clone()));
        }
        match inaction.reason {
            InactionReason::DeployRunning
            | InactionReason::RestartsItself
            | InactionReason::BackupRunning
            | InactionReason::HostSteals => self.wait(now, id, INACTION_PATIENCE, &inaction.summary),
            InactionReason::StoppedOnPurpose | InactionReason::Gone => {
                self.close(now, id, Ending::Meant, inaction.summary)
            }
            InactionReason::NoPlaybook
            | InactionReason::NotListed
            | InactionReason::Observing
            | InactionReason::NotAllowed => self.escalate(now, id, inaction.summary),
        }
    }

    /// Looks again later, each time later, until patience is at its end.
    fn wait(&mut self, now: Timestamp, id: &IncidentId, patience: Duration, reason: &str) {
        if self.course(id).wait(now, patience) {
            self.line(now, id, format!("waiting: {reason}"));
        } else {
            self.escalate(now, id, format!("still not possible after {} s: {reason}", patience.as_secs()));
        }
    }

    fn escalate(&mut self, now: Timestamp, id: &IncidentId, reason: String) {
        if !self.step(now, id, IncidentEvent::Escalated, Some(format!("a person is needed: {reason}"))) {
            return;
        }
        self.tell(id, What::Escalated, None, reason);
    }

    /// Moves an incident along its table. An illegal step is a bug of this loop: it is logged and changes nothing.
    fn step(&mut self, now: Timestamp, id: &IncidentId, event: IncidentEvent, line: Option<String>) -> bool {
        let Some(incident) = self.correlator.get_mut(id) else { return false };
        match incident.state.on(event) {
            Ok(state) => {
                incident.state = state;
                if let Some(line) = line {
                    tracing::info!(incident = %id, %state, "{line}");
                    note(incident, now, line);
                }
                self.changed.insert(id.clone());
                true
            }
            Err(error) => {
                self.missteps = self.missteps.saturating_add(1);
                tracing::error!(incident = %id, %error, "the incident loop is out of step");
                false
            }
        }
    }

    fn line(&mut self, now: Timestamp, id: &IncidentId, line: String) {
        if self.course(id).says(&line)
            && let Some(incident) = self.correlator.get_mut(id)
        {
            note(incident, now, line);
            self.changed.insert(id.clone());
        }
    }

    fn set_rung(&mut self, id: &IncidentId, playbook: PlaybookName, rung: u32) {
        if let Some(incident) = self.correlator.get_mut(id) {
            incident.playbook = Some((playbook, rung));
        }
    }

    fn tell(&mut self, id: &IncidentId, what: What, run: Option<RunId>, summary: String) {
        if !self.course(id).told.insert((what, run.clone())) {
            return;
        }
        if let Some(incident) = self.get(id).cloned() {
            self.acts.push(Act::Tell(Box::new(News { what, incident, run, summary })));
        }
    }
}

const fn is_under_way(state: IncidentState) -> bool {
    match state {
        IncidentState::Planned | IncidentState::AwaitingConsent | IncidentState::Healing | IncidentState::Healed => {
            true
        }
        IncidentState::Opened | IncidentState::Diagnosed | IncidentState::Escalated | IncidentState::Closed => false,
    }
}
