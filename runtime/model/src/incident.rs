//! Incidents: signals that share a cause, with a life.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::diagnosis::{Diagnosis, Evidence};
use crate::fault::{FaultKind, Severity};
use crate::id::{IncidentId, PlaybookName, RunId};
use crate::signal::Signal;
use crate::target::Target;
use crate::time::Timestamp;

/// Where an incident is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IncidentState {
    /// Signals have been put together.
    Opened,
    /// Causes are ranked.
    Diagnosed,
    /// A rung was proposed to the runner.
    Planned,
    /// A person is asked.
    AwaitingConsent,
    /// A run is under way, or being verified or undone.
    Healing,
    /// The fast check passed; the stability check has not yet.
    Healed,
    /// Handed to a person.
    Escalated,
    /// Over.
    Closed,
}

/// What can happen to an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IncidentEvent {
    /// Causes were ranked (again).
    Diagnosed,
    /// A rung was proposed.
    Proposed,
    /// The runner waits for a person.
    ConsentAsked,
    /// The run began.
    RunBegan,
    /// The fast check passed.
    FastCheckPassed,
    /// The run was not improved, refused or lost, and another rung is left.
    NextRung,
    /// No rung is left, or a person is needed.
    Escalated,
    /// The condition ended (the stability check passed, it went by itself, or nothing had to be done).
    Closed,
}

/// An event that its state does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an incident that is {state} can't take the event {event:?}")]
pub struct IllegalIncidentTransition {
    /// Where it was.
    pub state: IncidentState,
    /// What was about to happen.
    pub event: IncidentEvent,
}

impl IncidentState {
    /// The table.
    pub const fn on(self, event: IncidentEvent) -> Result<Self, IllegalIncidentTransition> {
        use IncidentEvent as E;
        use IncidentState as S;
        match (self, event) {
            (S::Opened | S::Diagnosed, E::Diagnosed) => Ok(S::Diagnosed),
            (S::Diagnosed, E::Proposed) => Ok(S::Planned),
            (S::Planned, E::ConsentAsked) => Ok(S::AwaitingConsent),
            (S::Planned | S::AwaitingConsent, E::RunBegan) => Ok(S::Healing),
            (S::Healing, E::FastCheckPassed) => Ok(S::Healed),
            // Back to the diagnosis, which is still good: the ladder goes on from there.
            (S::Planned | S::AwaitingConsent | S::Healing | S::Healed, E::NextRung) => Ok(S::Diagnosed),
            (S::Opened | S::Diagnosed | S::Planned | S::AwaitingConsent | S::Healing | S::Healed, E::Escalated) => {
                Ok(S::Escalated)
            }
            (
                S::Opened | S::Diagnosed | S::Planned | S::AwaitingConsent | S::Healing | S::Healed | S::Escalated,
                E::Closed,
            ) => Ok(S::Closed),
            (state, event) => Err(IllegalIncidentTransition { state, event }),
        }
    }

    /// The word used on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Diagnosed => "diagnosed",
            Self::Planned => "planned",
            Self::AwaitingConsent => "awaiting-consent",
            Self::Healing => "healing",
            Self::Healed => "healed",
            Self::Escalated => "escalated",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for IncidentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An incident as the agent keeps it. The record is bounded: see the caps in the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Incident {
    /// Stable.
    pub id: IncidentId,
    /// Where it is.
    pub state: IncidentState,
    /// What it is taken for.
    pub kind: FaultKind,
    /// What is at fault.
    pub target: Target,
    /// The worst of its signals.
    pub severity: Severity,
    /// When the condition was first true.
    pub onset: Timestamp,
    /// When it was detected.
    pub detected: Timestamp,
    /// When the fast check passed.
    pub healed: Option<Timestamp>,
    /// When the stability check passed.
    pub stable: Option<Timestamp>,
    /// When it ended.
    pub closed: Option<Timestamp>,
    /// The signals, oldest first.
    pub signals: Vec<Signal>,
    /// What was found.
    pub evidence: Vec<Evidence>,
    /// What it is taken to mean.
    pub diagnosis: Option<Diagnosis>,
    /// The playbook and the next rung.
    pub playbook: Option<(PlaybookName, u32)>,
    /// The runs made for it, oldest first.
    pub runs: Vec<RunId>,
    /// What happened, in sentences, oldest first.
    pub timeline: Vec<(Timestamp, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [IncidentState; 8] = [
        IncidentState::Opened,
        IncidentState::Diagnosed,
        IncidentState::Planned,
        IncidentState::AwaitingConsent,
        IncidentState::Healing,
        IncidentState::Healed,
        IncidentState::Escalated,
        IncidentState::Closed,
    ];

    #[test]
    fn every_open_incident_can_be_closed_and_a_closed_one_stays_closed() {
        for state in STATES {
            assert_eq!(state.on(IncidentEvent::Closed).is_ok(), state != IncidentState::Closed);
        }
        assert!(IncidentState::Closed.on(IncidentEvent::Diagnosed).is_err());
    }

    #[test]
    fn nothing_heals_that_was_not_proposed() {
        assert!(IncidentState::Diagnosed.on(IncidentEvent::RunBegan).is_err());
        assert!(IncidentState::Opened.on(IncidentEvent::Proposed).is_err());
    }
}
