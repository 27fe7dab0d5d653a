//! The ladder: what the runner says of proposals and runs, and which rung comes next.

use std::time::Duration;

use theriac_model::catalog::{Catalog, Mode};
use theriac_model::diagnosis::{Inaction, InactionReason};
use theriac_model::id::{IncidentId, RunId};
use theriac_model::incident::{Incident, IncidentEvent, IncidentState};
use theriac_model::record::Proposal;
use theriac_model::run::RunState;
use theriac_model::time::Timestamp;
use theriac_protocol::runner::RunSummary;

use super::{Act, Ending, Incidents, Moment, What};

/// Runs kept with an incident.
const MAX_RUNS: usize = 64;
/// What frees itself within minutes is waited for this long.
const SHORT_PATIENCE: Duration = Duration::from_secs(3600);
/// What a person or a calendar ends is waited for this long.
const LONG_PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// Stands for a rule where the runner said nothing.
const UNHEARD: &str = "not heard";

/// What came of a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is a run.
    Accepted(RunId),
    /// The runner's rule and sentence.
    NotAccepted { rule: String, reason: String },
    /// The runner could not be asked, or could not answer.
    Unheard(String),
}

/// What the runner's no means for the incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum No {
    /// It passes.
    Wait(Duration),
    /// This rung is used up.
    NextRung,
    /// Our catalog is older than the runner's.
    OldCatalog,
    /// It does not pass by itself.
    Person,
}

/// The runner's rules by name; one that is not known here is a person's business.
fn meaning(rule: &str) -> No {
    match rule {
        "cooldown" | "target-locked" | "slots" | "rate" | UNHEARD => No::Wait(SHORT_PATIENCE),
        "hold" | "window" | "deploy-lock" => No::Wait(LONG_PATIENCE),
        "ladder" | "remedy-unavailable" => No::NextRung,
        "playbook" | "rung" | "remedy" => No::OldCatalog,
        _breaker_target_or_unknown => No::Person,
    }
}

/// The rungs before the proposed one that nobody tried because their remedy is not approved here.
pub(super) fn passed_over(incident: &Incident, catalog: &Catalog, proposal: &Proposal) -> Vec<Proposal> {
    let first = incident.playbook.as_ref().map_or(0, |(_, next)| *next);
    let playbook = catalog.playbooks.iter().find(|playbook| playbook.name == proposal.playbook);
    let rungs = (0_u32..).zip(playbook.into_iter().flat_map(|playbook| &playbook.rungs));
    let missing = rungs.filter(|(index, rung)| {
        (first..proposal.rung).contains(index) && !catalog.remedies.iter().any(|offer| offer.remedy.name == rung.remedy)
    });
    missing.map(|(index, rung)| Proposal { rung: index, remedy: rung.remedy.clone(), ..proposal.clone() }).collect()
}

impl Incidents {
    /// The runner answered a proposal, or did not.
    pub(crate) fn answered(&mut self, at: Moment<'_>, proposal: &Proposal, answer: Answer) {
        let id = &proposal.incident;
        let Some(state) = self.get(id).map(|incident| incident.state) else { return };
        self.course(id).in_flight = false;
        let (rule, reason) = match answer {
            Answer::Accepted(run) => return self.keep_run(at.now, id, run),
            Answer::NotAccepted { rule, reason } => (rule, reason),
            Answer::Unheard(reason) => (UNHEARD.to_owned(), reason),
        };
        // An event may have been faster than the answer.
        if state != IncidentState::Planned {
            return;
        }
        let refused = format!("the runner does not take it ({rule}): {reason}");
        self.step(at.now, id, IncidentEvent::NextRung, None);
        match meaning(&rule) {
            No::Wait(patience) => self.wait(at.now, id, patience, &refused),
            No::NextRung => {
                self.line(at.now, id, refused);
                self.go_on(at, id, proposal.rung);
            }
            No::OldCatalog => {
                self.acts.push(Act::AskCatalog);
                self.wait(at.now, id, Duration::from_secs(60), &refused);
            }
            No::Person => self.escalate(at.now, id, refused),
        }
    }

    /// All runs of an incident, as the runner has them. An incident whose proposal got lost is looked at again.
    pub(crate) fn runs(&mut self, at: Moment<'_>, id: &IncidentId, mut runs: Vec<RunSummary>) {
        runs.sort_by_key(|run| (run.rung, run.at));
        for run in &runs {
            self.run(at, run);
        }
        let lost = runs.is_empty() && !self.course(id).in_flight;
        if lost && self.get(id).is_some_and(|incident| super::is_under_way(incident.state)) {
            self.step(at.now, id, IncidentEvent::NextRung, Some("the runner knows no run of it".to_owned()));
            self.consider_if_due(at, id, true);
        }
    }

    /// A run moved.
    pub(crate) fn run(&mut self, at: Moment<'_>, run: &RunSummary) {
        let id = &run.incident;
        if self.get(id).is_none() {
            return;
        }
        self.keep_run(at.now, id, run.run.clone());
        let newest = self.get(id).and_then(|incident| incident.runs.last()) == Some(&run.run);
        let heard = Some((run.run.clone(), run.state, run.healed.is_some()));
        let course = self.course(id);
        course.acted |= run.first_effect.is_some();
        if !newest || course.heard == heard {
            return;
        }
        course.heard = heard;
        course.in_flight = false;
        // A run that is deferred at once is no progress: the next try still comes later than this one.
        if matches!(run.state, RunState::Running | RunState::Verifying) {
            course.moved();
        }
        let line = if run.state == RunState::Verifying && run.healed.is_some() {
            format!("healed by run {}; whether it lasts is watched", run.run)
        } else {
            format!("run {} is {}: {}", run.run, run.state, run.reason)
        };
        self.line(at.now, id, line);
        if run.tell
            && matches!(run.state, RunState::Running | RunState::Verifying | RunState::Committed | RunState::Undone)
        {
            self.tell(id, What::Runs, Some(run.run.clone()), run.reason.clone());
        }
        self.follow(at, run);
    }

    fn follow(&mut self, at: Moment<'_>, run: &RunSummary) {
        use IncidentEvent as E;
        let id = &run.incident;
        let asked = self.get(id).is_some_and(|incident| incident.state == IncidentState::AwaitingConsent);
        match run.state {
            RunState::Reserved | RunState::Planned => self.bring(at.now, id, &[E::Diagnosed, E::Proposed]),
            RunState::AwaitingConsent => {
                self.bring(at.now, id, &[E::Diagnosed, E::Proposed, E::ConsentAsked]);
                self.tell(id, What::ConsentAsked, Some(run.run.clone()), run.reason.clone());
            }
            RunState::Running | RunState::Undoing => self.bring(at.now, id, &[E::Diagnosed, E::Proposed, E::RunBegan]),
            RunState::Verifying => self.began(at.now, run),
            RunState::Committed => {
                self.began(at.now, run);
                if let Some(incident) = self.correlator.get_mut(id) {
                    incident.stable = run.stable;
                }
                self.close(at.now, id, Ending::Settled, run.reason.clone());
            }
            RunState::Superseded => self.close(at.now, id, Ending::Settled, run.reason.clone()),
            RunState::FailedNeedsPerson => self.give_up(at.now, id, run.reason.clone()),
            RunState::Undone => self.ended(at, run),
            RunState::Deferred => {
                if self.back(at.now, run) {
                    self.wait(at.now, id, LONG_PATIENCE, &run.reason);
                }
            }
            RunState::Refused if run.declined || asked => self.give_up(at.now, id, run.reason.clone()),
            RunState::Refused if self.catalog.as_ref().is_some_and(|catalog| catalog.mode == Mode::Observe) => {
                let summary = format!("the mode is `observe`: {}", run.reason);
                if self.back(at.now, run) {
                    self.do_nothing(at.now, id, Inaction { reason: InactionReason::Observing, summary });
                }
            }
            RunState::Refused => self.ended(at, run),
        }
    }

    fn began(&mut self, now: Timestamp, run: &RunSummary) {
        use IncidentEvent as E;
        self.bring(now, &run.incident, &[E::Diagnosed, E::Proposed, E::RunBegan]);
        if run.healed.is_some() {
            self.bring(now, &run.incident, &[E::FastCheckPassed]);
            if let Some(incident) = self.correlator.get_mut(&run.incident) {
                incident.healed = run.healed;
            }
        }
    }

    /// The run came to nothing: the next rung, if the condition is still there.
    fn ended(&mut self, at: Moment<'_>, run: &RunSummary) {
        if let Some(incident) = self.correlator.get_mut(&run.incident) {
            incident.healed = None;
        }
        if self.back(at.now, run) {
            self.go_on(at, &run.incident, run.rung);
        }
    }

    /// Back to the diagnosis; `false` where the incident is a person's already.
    fn back(&mut self, now: Timestamp, run: &RunSummary) -> bool {
        self.bring(now, &run.incident, &[IncidentEvent::Diagnosed, IncidentEvent::NextRung]);
        self.get(&run.incident).is_some_and(|incident| incident.state == IncidentState::Diagnosed)
    }

    /// Climbs: the next rung, or a person.
    fn go_on(&mut self, at: Moment<'_>, id: &IncidentId, rung: u32) {
        let Some((playbook, _)) = self.get(id).and_then(|incident| incident.playbook.clone()) else {
            return self.escalate(at.now, id, "its playbook is not known any more".to_owned());
        };
        self.set_rung(id, playbook, rung.saturating_add(1));
        self.course(id).moved();
        // What it wrote since tells why the rung did not help.
        self.ask_log(id);
        if self.course(id).cleared.is_none() {
            self.consider(at, id);
        }
    }

    fn give_up(&mut self, now: Timestamp, id: &IncidentId, reason: String) {
        if self.get(id).is_some_and(|incident| incident.state != IncidentState::Escalated) {
            self.escalate(now, id, reason);
        }
    }

    /// Takes those of the events that are still ahead: the runner's word may come late, twice, or all at once.
    fn bring(&mut self, now: Timestamp, id: &IncidentId, events: &[IncidentEvent]) {
        for event in events {
            let Some(incident) = self.get(id) else { return };
            let ahead = match event {
                IncidentEvent::Diagnosed => incident.state == IncidentState::Opened,
                IncidentEvent::Proposed
                | IncidentEvent::ConsentAsked
                | IncidentEvent::RunBegan
                | IncidentEvent::FastCheckPassed
                | IncidentEvent::NextRung
                | IncidentEvent::Escalated
                | IncidentEvent::Closed => incident.state.on(*event).is_ok(),
            };
            if ahead {
                self.step(now, id, *event, None);
            }
        }
    }

    fn keep_run(&mut self, now: Timestamp, id: &IncidentId, run: RunId) {
        let Some(incident) = self.correlator.get_mut(id) else { return };
        if incident.runs.contains(&run) {
            return;
        }
        if incident.runs.len() >= MAX_RUNS {
            incident.runs.remove(0);
        }
        incident.runs.push(run);
        self.course(id).asked = now;
        self.changed.insert(id.clone());
    }
}
