//! The life of a run, as one table of legal transitions that live code and recovery share.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a run is. Every state is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// The attempt is counted; nothing else has happened.
    Reserved,
    /// A dry run gave a plan.
    Planned,
    /// A person is asked.
    AwaitingConsent,
    /// Effects are being done.
    Running,
    /// Effects are done; the runner measures whether they helped.
    Verifying,
    /// Effects are being taken back.
    Undoing,
    /// It helped, and stays.
    Committed,
    /// It did not help, and is taken back.
    Undone,
    /// It was not allowed.
    Refused,
    /// The fault was gone, or another run took its place.
    Superseded,
    /// It waits for the next window; a new proposal continues it.
    Deferred,
    /// A person has to look.
    FailedNeedsPerson,
}

/// What can happen to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunEvent {
    /// The dry run ended with a plan.
    Planned,
    /// Policy wants a person's yes.
    ConsentAsked,
    /// Policy, or a consent, lets it run.
    Authorised,
    /// Policy, a person, or a failed check says no.
    Refused,
    /// The fault is gone before anything was done.
    Superseded,
    /// A window, silence or deploy lock is in the way.
    Deferred,
    /// Every effect the remedy asked for is done.
    Ran,
    /// An effect failed, was off plan, or the worker died: take back what was done.
    Failed,
    /// Verdict *improved*.
    Improved,
    /// Verdict *not-improved*, *worse*, or *unknown* at the deadline.
    NotImproved,
    /// Everything that can be taken back is back.
    UndoFinished,
    /// An undo met a foreign change, failed, or was impossible.
    UndoFailed,
    /// The state can't be settled: stop and ask.
    Lost,
}

/// An event that its state does not allow: an invariant is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a run that is {state} can't take the event {event:?}")]
pub struct IllegalTransition {
    /// Where the run was.
    pub state: RunState,
    /// What was about to happen to it.
    pub event: RunEvent,
}

impl RunState {
    /// The table.
    pub const fn on(self, event: RunEvent) -> Result<Self, IllegalTransition> {
        use RunEvent as E;
        use RunState as S;
        match (self, event) {
            (S::Reserved, E::Planned) => Ok(S::Planned),
            (S::Planned, E::ConsentAsked) => Ok(S::AwaitingConsent),
            (S::Planned | S::AwaitingConsent, E::Authorised) => Ok(S::Running),
            (S::Reserved | S::Planned | S::AwaitingConsent, E::Refused) => Ok(S::Refused),
            (S::Reserved | S::Planned | S::AwaitingConsent, E::Superseded) => Ok(S::Superseded),
            (S::Reserved | S::Planned | S::AwaitingConsent, E::Deferred) => Ok(S::Deferred),
            (S::Running, E::Ran) => Ok(S::Verifying),
            (S::Running | S::Verifying, E::Failed) | (S::Verifying, E::NotImproved) => Ok(S::Undoing),
            (S::Verifying, E::Improved) => Ok(S::Committed),
            (S::Undoing, E::UndoFinished) => Ok(S::Undone),
            (S::Undoing, E::UndoFailed) => Ok(S::FailedNeedsPerson),
            // A crash while undoing starts the undo again: each step of it is idempotent.
            (S::Undoing, E::Failed) => Ok(S::Undoing),
            (S::Reserved | S::Planned | S::AwaitingConsent | S::Running | S::Verifying | S::Undoing, E::Lost) => {
                Ok(S::FailedNeedsPerson)
            }
            (state, event) => Err(IllegalTransition { state, event }),
        }
    }

    /// Nothing more happens to it.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Committed
            | Self::Undone
            | Self::Refused
            | Self::Superseded
            | Self::Deferred
            | Self::FailedNeedsPerson => true,
            Self::Reserved
            | Self::Planned
            | Self::AwaitingConsent
            | Self::Running
            | Self::Verifying
            | Self::Undoing => false,
        }
    }

    /// It takes one of the slots ("at most 2 runs at once").
    pub const fn holds_slot(self) -> bool {
        matches!(self, Self::Running | Self::Undoing)
    }

    /// The word used in records and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Planned => "planned",
            Self::AwaitingConsent => "awaiting-consent",
            Self::Running => "running",
            Self::Verifying => "verifying",
            Self::Undoing => "undoing",
            Self::Committed => "committed",
            Self::Undone => "undone",
            Self::Refused => "refused",
            Self::Superseded => "superseded",
            Self::Deferred => "deferred",
            Self::FailedNeedsPerson => "failed-needs-person",
        }
    }

    /// Every state.
    pub const ALL: [Self; 12] = [
        Self::Reserved,
        Self::Planned,
        Self::AwaitingConsent,
        Self::Running,
        Self::Verifying,
        Self::Undoing,
        Self::Committed,
        Self::Undone,
        Self::Refused,
        Self::Superseded,
        Self::Deferred,
        Self::FailedNeedsPerson,
    ];
}

impl RunEvent {
    /// Every event.
    pub const ALL: [Self; 13] = [
        Self::Planned,
        Self::ConsentAsked,
        Self::Authorised,
        Self::Refused,
        Self::Superseded,
        Self::Deferred,
        Self::Ran,
        Self::Failed,
        Self::Improved,
        Self::NotImproved,
        Self::UndoFinished,
        Self::UndoFailed,
        Self::Lost,
    ];
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_states_take_no_event() {
        for state in RunState::ALL.into_iter().filter(|state| state.is_terminal()) {
            for event in RunEvent::ALL {
                assert!(state.on(event).is_err(), "{state} took {event:?}");
            }
        }
    }

    #[test]
    fn every_other_state_can_reach_a_terminal_one() {
        for start in RunState::ALL.into_iter().filter(|state| !state.is_terminal()) {
            assert!(
                RunEvent::ALL.into_iter().filter_map(|event| start.on(event).ok()).any(RunState::is_terminal)
                    || start == RunState::Running,
                "{start} is stuck"
            );
        }
        assert_eq!(RunState::Running.on(RunEvent::Lost), Ok(RunState::FailedNeedsPerson));
    }

    #[test]
    fn nothing_runs_that_was_not_authorised() {
        for state in RunState::ALL {
            for event in RunEvent::ALL {
                if state.on(event) == Ok(RunState::Running) {
                    assert_eq!(event, RunEvent::Authorised);
                }
            }
        }
    }
}
