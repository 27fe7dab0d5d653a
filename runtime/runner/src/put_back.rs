//! `theriac-runner --put-back`: what is left to do for a runner that died in the middle and does not come back.
//!
//! A runner that is started again goes on with its runs by itself. Where it can't start (a mistake in its configuration, a
//! worker that is gone), a number that one of its runs has set would stay in force, with nobody left to see whether it
//! helped. So whoever gave up on starting it starts this: it needs the journal and `/proc/sys`, reads no configuration and no
//! remedy, and ends. Everything else waits for the next runner: pre-images stay where they are, and an element of a
//! firewall's set has its time in the kernel.

use theriac_journal::Journal;
use theriac_model::id::RunId;
use theriac_model::run::{RunEvent, RunState};
use theriac_protocol::layout::Layout;

use crate::book::Book;
use crate::daemon::{DaemonError, open_book};
use crate::recover;
use crate::remedies::chain;
use crate::run::recovery::entries_of;
use crate::undo;
use crate::walls::{self, Netfilter};

/// Takes the journal, which a runner that lives does not let go of, and puts back what runs that are not over have set.
pub fn run(layout: &Layout) -> Result<(), DaemonError> {
    let (book, _) = open_book(layout)?;
    walls::raise(Netfilter::Closed)?;
    let open: Vec<(RunId, RunState)> =
        book.standing(|standing, _| standing.open_runs().map(|(id, run)| (id.clone(), run.state)).collect());
    for (run, state) in open {
        of_run(&book, &run, state)?;
    }
    if let Err(error) = book.with_journal(Journal::seal) {
        tracing::warn!(error = %chain(&error), "the last checkpoint was not written");
    }
    Ok(())
}

/// INVARIANT: the run is *undoing* before anything of it is put back, so that the next runner takes back the rest and does not
/// verify what only half stands.
fn of_run(book: &Book, run: &RunId, state: RunState) -> Result<(), DaemonError> {
    let entries = entries_of(book, run)?;
    if !undo::has_set_a_knob(run, &entries) {
        return Ok(());
    }
    match state {
        RunState::Running | RunState::Verifying => {
            book.step(run, RunEvent::Failed, "the runner did not come back")?;
        }
        RunState::Undoing => {}
        // Nothing is set before a run, and one that is over is not taken back.
        RunState::Reserved
        | RunState::Planned
        | RunState::AwaitingConsent
        | RunState::Committed
        | RunState::Undone
        | RunState::Refused
        | RunState::Superseded
        | RunState::Deferred
        | RunState::FailedNeedsPerson => return Ok(()),
    }
    recover::settle_knobs(book, run, &entries)?;
    for (index, outcome) in undo::take_back_knobs(book, run, &entries_of(book, run)?)? {
        tracing::warn!(%run, index, ?outcome, "a number of the kernel's was to be put back: the runner did not come back");
    }
    Ok(())
}
