//! What the CLI asks the agent on `run/agent.sock`: reading only. Nothing here can make anything happen.

use serde::{Deserialize, Serialize};

use theriac_model::id::IncidentId;
use theriac_model::incident::Incident;

/// A question of the CLI.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum AgentRequest {
    /// How the agent is.
    Status,
    /// Incidents, newest first, at most `limit`.
    Incidents { limit: u32 },
    /// One incident.
    Incident { id: IncidentId },
}

/// The agent's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum AgentAnswer {
    /// To `Status`.
    Status(AgentStatus),
    /// To `Incidents`.
    Incidents(Vec<Incident>),
    /// To `Incident`; `None`: there is none of that id.
    Incident(Option<Box<Incident>>),
    /// The request was refused, in one sentence.
    Refused(String),
}

/// How the agent is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentStatus {
    /// Its version.
    pub version: String,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// It has a connection to the runner.
    pub runner_connected: bool,
    /// Series it samples.
    pub series: u32,
    /// Incidents that are not closed.
    pub open_incidents: u32,
    /// Detectors that failed their self-test and are off, each with the reason.
    pub disarmed: Vec<String>,
    /// Where it listens for alerts and serves `/metrics`, if it does.
    pub listen: Option<String>,
}
