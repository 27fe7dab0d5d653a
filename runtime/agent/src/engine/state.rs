//! How the agent is: for the CLI, for `/metrics`, for the heartbeat.

use std::time::Duration;

use theriac_model::incident::IncidentState;
use theriac_protocol::agent::AgentStatus;

use super::Engine;
use crate::clock::wall;
use crate::question::Counts;

/// Ticks that may be missed before the self-test fails.
const MISSED_TICKS: u32 = 5;
const SLOWEST_TICK: Duration = Duration::from_secs(5);

impl Engine {
    pub(super) fn counts(&self) -> Counts {
        let open = self.parts.incidents.open();
        let escalated = open.filter(|incident| incident.state == IncidentState::Escalated).count();
        Counts {
            open: self.parts.incidents.open().count() as u64,
            escalated: escalated as u64,
            series: self.parts.senses.series() as u64,
            missteps: self.parts.incidents.missteps(),
            dropped: self.parts.incidents.dropped(),
            armed: self.parts.senses.armed() as u64,
            disarmed: self.parts.senses.disarmed().len() as u64,
            connected: self.connected,
            inbox: self.parts.inbox.is_writable(),
            uptime_s: self.started.elapsed().as_secs(),
            ..self.counts
        }
    }

    pub(super) fn status(&self) -> AgentStatus {
        AgentStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.started.elapsed().as_secs(),
            runner_connected: self.connected,
            series: u32::try_from(self.parts.senses.series()).unwrap_or(u32::MAX),
            open_incidents: u32::try_from(self.parts.incidents.open().count()).unwrap_or(u32::MAX),
            disarmed: self.parts.senses.disarmed().to_vec(),
            listen: self.parts.listen.clone(),
        }
    }

    /// The runner is there, samples are fresh, the inbox takes, the rules separate.
    pub(super) fn self_test(&self) -> Result<(), String> {
        let patience = (self.every * MISSED_TICKS).max(SLOWEST_TICK);
        if !self.connected {
            return Err("the runner can't be reached".to_owned());
        }
        if self.parts.senses.ticked().is_none_or(|at| wall().since(at) > patience) {
            return Err("the samples are old".to_owned());
        }
        if !self.parts.inbox.is_writable() {
            return Err("the inbox can't be written".to_owned());
        }
        match self.parts.senses.disarmed().first() {
            Some(reason) => Err(reason.clone()),
            None => Ok(()),
        }
    }
}
