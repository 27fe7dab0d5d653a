//! Runs as people and the agent see them: a fold over the journal, live and at start alike.

use std::collections::{BTreeMap, VecDeque};

use theriac_model::effect::Outcome;
use theriac_model::id::{IncidentId, RunId};
use theriac_model::record::{Action, Entry, Record};
use theriac_model::run::RunState;
use theriac_model::verdict::{Phase, Verdict};
use theriac_protocol::runner::RunSummary;

/// Finished runs kept at hand; older ones are in the index.
const KEPT: usize = 512;

/// The newest runs.
#[derive(Debug, Default)]
pub(crate) struct Summaries {
    by_run: BTreeMap<RunId, (u64, RunSummary)>,
    order: VecDeque<RunId>,
}

impl Summaries {
    /// Folds the next entry in; the run's new summary where it changed.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Option<&RunSummary> {
        if let Record::Reserved { run, proposal } = &entry.record {
            self.make_room();
            self.order.push_back(run.clone());
            let summary = RunSummary {
                run: run.clone(),
                incident: proposal.incident.clone(),
                target: proposal.target.clone(),
                rung: proposal.rung,
                state: RunState::Reserved,
                reason: format!("{} proposed", proposal.remedy),
                at: entry.at,
                first_effect: None,
                healed: None,
                stable: None,
                verdict: None,
                effects: 0,
                tell: false,
                declined: false,
            };
            self.by_run.insert(run.clone(), (entry.seq, summary));
            return self.get(run);
        }
        let (_, summary) = self.by_run.get_mut(entry.record.run()?)?;
        update(summary, entry).then_some(&*summary)
    }

    /// One run.
    pub(crate) fn get(&self, run: &RunId) -> Option<&RunSummary> {
        self.by_run.get(run).map(|(_, summary)| summary)
    }

    /// The position of the run's first record.
    pub(crate) fn reserved_at(&self, run: &RunId) -> Option<u64> {
        self.by_run.get(run).map(|(seq, _)| *seq)
    }

    /// Newest first, of one incident or of all.
    pub(crate) fn newest<'a>(&'a self, incident: Option<&'a IncidentId>) -> impl Iterator<Item = &'a RunSummary> {
        let wanted = move |summary: &&RunSummary| incident.is_none_or(|incident| summary.incident == *incident);
        self.order.iter().rev().filter_map(|run| self.get(run)).filter(wanted)
    }

    /// Forgets the oldest run that is over.
    fn make_room(&mut self) {
        if self.order.len() < KEPT {
            return;
        }
        let over = |run: &RunId| self.get(run).is_none_or(|summary| summary.state.is_terminal());
        if let Some(run) = self.order.iter().position(over).and_then(|at| self.order.remove(at)) {
            self.by_run.remove(&run);
        }
    }
}

/// Whether listeners should hear of it.
fn update(summary: &mut RunSummary, entry: &Entry) -> bool {
    match &entry.record {
        Record::Moved { state, reason, .. } => {
            summary.state = *state;
            summary.reason.clone_from(reason);
            summary.at = entry.at;
            true
        }
        Record::Decided { decision, .. } => {
            summary.tell = matches!(decision.action, Action::RunAndTell | Action::RunWithConsent);
            false
        }
        Record::Declined { .. } => {
            summary.declined = true;
            false
        }
        Record::Done { outcome: Outcome::Applied { .. }, .. } => {
            summary.effects += 1;
            summary.first_effect = summary.first_effect.or(Some(entry.at));
            summary.effects == 1
        }
        Record::Verified { phase, verdict, .. } => {
            summary.verdict = Some((*phase, *verdict));
            match (phase, verdict) {
                (Phase::Fast, Verdict::Improved) => summary.healed = Some(entry.at),
                (Phase::Stable, Verdict::Improved) => summary.stable = Some(entry.at),
                (Phase::Before, _)
                | (Phase::Fast | Phase::Stable, Verdict::Worse | Verdict::NotImproved | Verdict::Unknown) => {}
            }
            true
        }
        Record::Started { .. }
        | Record::Stopped
        | Record::Reserved { .. }
        | Record::Measured { .. }
        | Record::Planned { .. }
        | Record::Consented { .. }
        | Record::Intent { .. }
        | Record::Done { .. }
        | Record::Denied { .. }
        | Record::RemedyLog { .. }
        | Record::WorkerEnded { .. }
        | Record::UndoIntent { .. }
        | Record::UndoDone { .. }
        | Record::CooldownBegan { .. }
        | Record::BreakerTripped { .. }
        | Record::BreakerReset { .. }
        | Record::Held { .. }
        | Record::Resumed { .. }
        | Record::RemedyLoaded { .. }
        | Record::RemedyRefused { .. }
        | Record::ProposalRefused { .. }
        | Record::ReleaseSeen { .. }
        | Record::NotActing { .. }
        | Record::IncidentEnded { .. } => false,
    }
}
