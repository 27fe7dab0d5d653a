//! After a crash: every run that was not over goes on or is taken back. An old event alone never causes an effect, so whatever
//! had not begun is dropped and, if the fault is still there, proposed anew.

use std::sync::Arc;

use theriac_authority::manifest::OnAmbiguous;
use theriac_journal::Durability;
use theriac_model::id::RunId;
use theriac_model::playbook::{Level, Playbook, Rung};
use theriac_model::record::{Entry, Proposal, Record};
use theriac_model::run::{RunEvent, RunState};
use theriac_model::time::Timestamp;
use theriac_model::verdict::{Measurement, Phase, Verdict};

use super::{Attempt, RunError};
use crate::book::Book;
use crate::crash::crash_point;
use crate::parts::Parts;
use crate::recover;
use crate::writer::{WriteError, Writer as _};

/// Entries read at a time.
const BATCH: usize = 256;

/// Every record of one run, oldest first.
pub(crate) fn entries_of(book: &Book, run: &RunId) -> Result<Vec<Entry>, WriteError> {
    let mut found = Vec::new();
    let mut from = book.reserved_at(run).unwrap_or(0);
    loop {
        let batch = book.entries(from, BATCH).map_err(|source| WriteError { source })?;
        let Some(last) = batch.last() else { return Ok(found) };
        from = last.seq + 1;
        found.extend(batch.into_iter().filter(|entry| entry.record.run() == Some(run)));
    }
}

/// Starts a thread for every run that was not over when the last runner ended.
pub(crate) fn resume(parts: &Arc<Parts>) -> Result<usize, WriteError> {
    let open: Vec<(RunId, Proposal, RunState)> = parts.book.standing(|standing, _| {
        standing.open_runs().map(|(id, run)| (id.clone(), run.proposal.clone(), run.state)).collect()
    });
    let count = open.len();
    let rules = parts.rules();
    for (run, proposal, state) in open {
        let rung = Playbook::choose(&rules.playbooks, proposal.kind, &proposal.target)
            .and_then(|playbook| playbook.rungs.get(usize::try_from(proposal.rung).ok()?).cloned())
            .unwrap_or_else(|| Rung {
                remedy: proposal.remedy.clone(),
                params: proposal.params.clone(),
                level: Level::THREE,
                healed_within: None,
                stable_for: None,
            });
        let attempt = Attempt { parts: Arc::clone(parts), rules: Arc::clone(&rules), run, proposal, rung };
        attempt.spawn(move |attempt| go_on(attempt, state))?;
    }
    Ok(count)
}

fn go_on(attempt: &Attempt, state: RunState) -> Result<(), RunError> {
    tracing::info!(run = %attempt.run, %state, "found a run that was not over");
    match state {
        RunState::Reserved | RunState::Planned | RunState::AwaitingConsent => {
            attempt.step(RunEvent::Superseded, "the runner was restarted before anything was done")
        }
        RunState::Running => settle(attempt),
        RunState::Verifying => {
            let entries = entries_of(&attempt.parts.book, &attempt.run)?;
            attempt.verify(&before(&entries), None, was_healed(&entries))
        }
        RunState::Undoing => {
            // A last hand that put numbers of the kernel's back has looked at nothing else.
            let entries = entries_of(&attempt.parts.book, &attempt.run)?;
            recover::settle(&attempt.parts.world, &attempt.run, &entries)?;
            attempt.take_back(Verdict::Unknown)
        }
        RunState::Committed
        | RunState::Undone
        | RunState::Refused
        | RunState::Superseded
        | RunState::Deferred
        | RunState::FailedNeedsPerson => Ok(()),
    }
}

/// A crash in the middle of the live run: observe what may have happened, then undo or go on, as the manifest says.
fn settle(attempt: &Attempt) -> Result<(), RunError> {
    let entries = entries_of(&attempt.parts.book, &attempt.run)?;
    for settled in recover::settle(&attempt.parts.world, &attempt.run, &entries)? {
        tracing::info!(index = settled.0, outcome = ?settled.1, "settled an effect that may have happened");
    }
    crash_point("recover.settled");
    let remedies = attempt.parts.remedies();
    let on_ambiguous = remedies.get(&attempt.proposal.remedy).map(|loaded| loaded.approved.manifest().on_ambiguous);
    match on_ambiguous {
        Some(OnAmbiguous::Ask) => {
            attempt.step(RunEvent::Lost, "the runner was killed in the middle; the manifest says to ask")
        }
        Some(OnAmbiguous::Observe) if is_gone(attempt)? => {
            attempt.step(RunEvent::Ran, "the runner was killed in the middle; the fault is gone")?;
            attempt.verify(&before(&entries), None, false)
        }
        Some(OnAmbiguous::Observe | OnAmbiguous::Undo) | None => {
            attempt.step(RunEvent::Failed, "the runner was killed in the middle")?;
            attempt.take_back(Verdict::Unknown)
        }
    }
}

fn is_gone(attempt: &Attempt) -> Result<bool, RunError> {
    let measured = attempt.parts.observer.measure(attempt.proposal.kind, &attempt.proposal.target);
    let Some(measurement) = measured else { return Ok(false) };
    let gone = measurement.present == Some(false);
    let record = Record::Measured { run: attempt.run.clone(), phase: Phase::Fast, measurement };
    attempt.parts.book.write(record, Durability::Buffered)?;
    Ok(gone)
}

/// What was measured before the run; without it nothing can be *worse*.
fn before(entries: &[Entry]) -> Measurement {
    let found = entries.iter().find_map(|entry| {
        if let Record::Measured { phase: Phase::Before, measurement, .. } = &entry.record {
            Some(measurement.clone())
        } else {
            None
        }
    });
    found.unwrap_or(Measurement {
        at: Timestamp(0),
        present: None,
        summary: "not measured".into(),
        badness: f64::MAX,
        numbers: Vec::new(),
        healthy: None,
    })
}

fn was_healed(entries: &[Entry]) -> bool {
    entries
        .iter()
        .any(|entry| matches!(&entry.record, Record::Verified { phase: Phase::Fast, verdict: Verdict::Improved, .. }))
}
