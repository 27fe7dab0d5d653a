//! What the servers (HTTP, `agent.sock`, the heartbeat) ask the engine, which alone owns incidents and inbox.

use theriac_analysis::alert::Body;
use theriac_model::id::IncidentId;
use theriac_model::incident::Incident;
use theriac_protocol::agent::AgentStatus;
use tokio::sync::{mpsc, oneshot};

/// Questions that may wait; a server that finds the queue full says so to its own peer.
pub(crate) const BACKLOG: usize = 64;

/// A question with the place for its answer.
#[derive(Debug)]
pub(crate) enum Question {
    /// Keep these alerts; answered when they are on disk.
    Alerts(Box<Body>, oneshot::Sender<Kept>),
    /// How are you?
    Status(oneshot::Sender<AgentStatus>),
    /// Newest first.
    Incidents(usize, oneshot::Sender<Vec<Incident>>),
    /// One of them.
    Incident(IncidentId, oneshot::Sender<Option<Box<Incident>>>),
    /// For `/metrics`.
    Counts(oneshot::Sender<Counts>),
    /// Is all well?
    SelfTest(oneshot::Sender<Result<(), String>>),
}

/// What became of a body of alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// On disk.
    Durable { new: usize, duplicates: usize },
    /// The inbox can't take it: send it again.
    Unwritable,
}

/// The agent's own counters since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// Incidents that are not closed.
    pub(crate) open: u64,
    /// Of these: waiting for a person.
    pub(crate) escalated: u64,
    /// Series sampled.
    pub(crate) series: u64,
    /// Alerts kept.
    pub(crate) alerts: u64,
    /// Alerts that were there already.
    pub(crate) duplicates: u64,
    /// Alerts about other machines.
    pub(crate) elsewhere: u64,
    /// Signals there was no room for.
    pub(crate) dropped: u64,
    /// Steps of the incident loop that its table refused.
    pub(crate) missteps: u64,
    /// Rules at work, and rules that failed their self-test.
    pub(crate) armed: u64,
    /// See `armed`.
    pub(crate) disarmed: u64,
    /// The runner answers.
    pub(crate) connected: bool,
    /// The inbox can be written.
    pub(crate) inbox: bool,
    /// Since the start.
    pub(crate) uptime_s: u64,
}

/// Where questions go.
pub(crate) type Asker = mpsc::Sender<Question>;

/// Asks and waits; `None` when the engine has no room or is gone.
pub(crate) async fn ask<T>(asker: &Asker, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    asker.try_send(question(sender)).ok()?;
    receiver.await.ok()
}
