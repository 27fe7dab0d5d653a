//! The engine: one task that owns senses, incidents and inbox, and takes one thing at a time.
//!
//! After each thing, what changed goes to disk with one sync, and only then out: proposals, reports, notifications, the answer
//! to whoever sent an alert. Asking the runner never blocks it: answers come back as things to take.

mod outward;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use theriac_analysis::alert::{Body, Here, Mapping, Meaning, Status};
use theriac_model::catalog::Catalog;
use theriac_model::id::{Digest, IncidentId};
use theriac_model::incident::Incident;
use theriac_model::record::{IncidentSummary, Proposal};
use theriac_model::signal::Signal;
use theriac_model::time::Timestamp;
use theriac_probe::HealthStreak;
use theriac_protocol::runner::{RunSummary, RunnerAnswer, RunnerEvent};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::clock::{chain, wall};
use crate::heartbeat::tell_systemd;
use crate::inbox::{AlertKey, Inbox, Record};
use crate::incidents::{Act, Answer, Incidents, Moment};
use crate::notify::Notifier;
use crate::question::{Counts, Kept, Question};
use crate::runner_link::{Heard, LinkError, RunnerLink};
use crate::senses::Senses;
use crate::units::{self, Told, Watch};

/// Answers of the runner that may wait.
const ANSWERS: usize = 256;
/// How often a sign of life is written.
const ALIVE: Duration = Duration::from_secs(60);
/// Characters of a key from outside.
const MAX_KEY: usize = 128;

/// What the runner answered.
#[derive(Debug)]
enum Reply {
    Proposal(Box<Proposal>, Result<RunnerAnswer, LinkError>),
    Runs(IncidentId, Vec<RunSummary>),
    Catalog(Option<Box<Catalog>>),
    Reported(IncidentId, bool),
    Log(IncidentId, Vec<String>),
}

/// What the engine is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) senses: Senses,
    pub(crate) incidents: Incidents,
    pub(crate) inbox: Inbox,
    pub(crate) notifier: Notifier,
    pub(crate) link: Arc<RunnerLink>,
    pub(crate) heard: mpsc::Receiver<Heard>,
    pub(crate) questions: mpsc::Receiver<Question>,
    pub(crate) mapping: Mapping,
    /// Names of this machine in alerts.
    pub(crate) names: Vec<String>,
    pub(crate) boot: String,
    pub(crate) listen: Option<String>,
    /// Incidents whose end the runner has not heard of.
    pub(crate) unreported: Vec<IncidentSummary>,
    /// They end with the engine.
    pub(crate) servers: JoinSet<()>,
}

/// The engine.
#[derive(Debug)]
pub(crate) struct Engine {
    parts: Parts,
    told: (mpsc::Sender<Told>, mpsc::Receiver<Told>),
    replies: (mpsc::Sender<Reply>, mpsc::Receiver<Reply>),
    watch: Option<Watch>,
    every: Duration,
    connected: bool,
    wants_catalog: bool,
    counts: Counts,
    started: Instant,
    alive: Option<Instant>,
    /// Alerts of this turn, to be kept, with their senders.
    alerts: Vec<Record>,
    senders: Vec<(oneshot::Sender<Kept>, usize, usize)>,
}

impl Engine {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            parts,
            told: units::channel(),
            replies: mpsc::channel(ANSWERS),
            watch: None,
            every: Duration::from_secs(1),
            connected: false,
            wants_catalog: false,
            counts: Counts::default(),
            started: Instant::now(),
            alive: None,
            alerts: Vec::new(),
            senders: Vec::new(),
        }
    }

    /// Runs until `stop` is done.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut next = tokio::time::Instant::now();
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(told) = self.told.1.recv() => self.told(told),
                Some(heard) = self.parts.heard.recv() => self.heard(heard),
                Some(reply) = self.replies.1.recv() => self.reply(reply),
                () = tokio::time::sleep_until(next) => {
                    next = tokio::time::Instant::now() + self.every;
                    self.tick();
                }
                Some(question) = self.parts.questions.recv() => self.question(question),
                else => break,
            }
            self.settle();
        }
        tell_systemd(sd_notify::NotifyState::Stopping);
        // Nothing is taken in any more that could not be kept.
        self.parts.servers.shutdown().await;
        self.parts.inbox.alive(wall(), &self.parts.boot);
    }

    fn tick(&mut self) {
        let now = wall();
        if self.parts.incidents.catalog().is_some() {
            let signals = self.parts.senses.tick(now);
            self.signals(now, signals);
        }
        self.with(now, |incidents, at| incidents.tick(at));
        if self.wants_catalog && self.connected {
            self.ask_catalog();
        }
        if self.alive.is_none_or(|at| at.elapsed() >= ALIVE) {
            self.alive = Some(Instant::now());
            self.parts.inbox.alive(now, &self.parts.boot);
        }
        tell_systemd(sd_notify::NotifyState::Watchdog);
    }

    fn with(&mut self, now: Timestamp, step: impl FnOnce(&mut Incidents, Moment<'_>)) {
        let Parts { incidents, senses, .. } = &mut self.parts;
        step(incidents, Moment { now, senses });
    }

    fn signals(&mut self, now: Timestamp, signals: Vec<Signal>) {
        for signal in signals {
            self.with(now, |incidents, at| incidents.signal(at, signal));
        }
    }

    fn told(&mut self, told: Told) {
        let now = wall();
        let signals = match told {
            Told::Following => {
                self.parts.senses.follow_systemd(true);
                return;
            }
            Told::Lost => {
                self.parts.senses.follow_systemd(false);
                return;
            }
            Told::LostUnit(name) => {
                self.parts.senses.lost_unit(&name);
                return;
            }
            Told::Unit(name, state) => self.parts.senses.unit(now, name, *state),
        };
        self.signals(now, signals);
    }

    fn heard(&mut self, heard: Heard) {
        let now = wall();
        match heard {
            Heard::Connected => {
                self.connected = true;
                self.ask_catalog();
                self.report_again();
            }
            Heard::Lost => {
                if self.connected {
                    tracing::warn!("the runner is gone; detection goes on, nothing can be healed");
                    self.parts.senses.forget_told();
                }
                self.connected = false;
            }
            Heard::Event(event) => match *event {
                RunnerEvent::Run(run) => self.with(now, |incidents, at| incidents.run(at, &run)),
                RunnerEvent::Unit(state) => {
                    let signals = self.parts.senses.told_unit(now, state);
                    self.signals(now, signals);
                }
                RunnerEvent::Health { target, answer, failures, at } => {
                    let streak = HealthStreak { ok: answer.ok, failures, last: answer, at };
                    let signals = self.parts.senses.health(now, target, streak);
                    self.signals(now, signals);
                }
                RunnerEvent::Certificate { name, reading } => self.parts.senses.told_certificate(name, reading),
                RunnerEvent::Container { label, state } => {
                    let signals = self.parts.senses.told_container(now, label, state);
                    self.signals(now, signals);
                }
                RunnerEvent::Pool { database, state } => {
                    let signals = self.parts.senses.told_pool(now, database, state);
                    self.signals(now, signals);
                }
                RunnerEvent::CatalogChanged => self.ask_catalog(),
            },
        }
    }

    fn reply(&mut self, reply: Reply) {
        let now = wall();
        match reply {
            Reply::Proposal(proposal, answer) => {
                let answer = match answer {
                    Ok(RunnerAnswer::Accepted { run }) => Answer::Accepted(run),
                    Ok(RunnerAnswer::NotAccepted { rule, reason }) => Answer::NotAccepted { rule, reason },
                    Ok(RunnerAnswer::Refused(reason)) => Answer::Unheard(reason),
                    Ok(_another_question) => Answer::Unheard("the runner answered another question".to_owned()),
                    Err(error) => Answer::Unheard(chain(&error)),
                };
                self.with(now, |incidents, at| incidents.answered(at, &proposal, answer));
            }
            Reply::Log(id, lines) => self.with(now, |incidents, at| incidents.log(at, &id, &lines)),
            Reply::Runs(id, runs) => self.with(now, |incidents, at| incidents.runs(at, &id, runs)),
            Reply::Catalog(Some(catalog)) => self.take_catalog(now, *catalog),
            Reply::Catalog(None) => self.wants_catalog = true,
            Reply::Reported(incident, true) => {
                self.parts.unreported.retain(|kept| kept.incident != incident);
                self.alerts.push(Record::Reported { at: now, incident });
            }
            Reply::Reported(..) => {}
        }
    }

    fn take_catalog(&mut self, now: Timestamp, catalog: Catalog) {
        self.wants_catalog = false;
        let before = self.parts.senses.systemd_units();
        self.parts.senses.set_targets(&catalog.targets);
        let units = self.parts.senses.systemd_units();
        if units != before {
            self.watch = units::watch(units, self.told.0.clone());
        }
        self.every = catalog.sample_every.duration().max(Duration::from_millis(100));
        tracing::info!(
            targets = catalog.targets.len(),
            mode = catalog.mode.as_str(),
            "the runner's catalog is in force"
        );
        let signals = self.parts.senses.tick(now);
        self.with(now, |incidents, at| incidents.set_catalog(at, catalog));
        self.signals(now, signals);
    }

    fn question(&mut self, question: Question) {
        // A sender that went away does not want the answer any more.
        match question {
            Question::Alerts(body, reply) => self.take_alerts(&body, reply),
            Question::Status(reply) => drop(reply.send(self.status())),
            Question::Incidents(limit, reply) => drop(reply.send(self.parts.inbox.newest(limit))),
            Question::Incident(id, reply) => drop(reply.send(self.parts.inbox.get(&id).cloned().map(Box::new))),
            Question::Counts(reply) => drop(reply.send(self.counts())),
            Question::SelfTest(reply) => drop(reply.send(self.self_test())),
        }
    }

    fn take_alerts(&mut self, body: &Body, reply: oneshot::Sender<Kept>) {
        let now = wall();
        let (mut new, mut duplicates) = (0, 0);
        for alert in &body.alerts {
            // Not every sender gives one: the labels are then what tells alerts apart.
            let fingerprint = match alert.fingerprint.as_str() {
                "" => Digest::of(format!("{:?}", alert.labels).as_bytes()).hex(),
                given => given.chars().take(MAX_KEY).collect(),
            };
            let key = AlertKey {
                fingerprint,
                starts_at: alert.starts_at.chars().take(MAX_KEY).collect(),
                resolved: alert.status == Status::Resolved,
            };
            let this_turn = |record: &Record| matches!(record, Record::Alert { key: other, .. } if *other == key);
            if self.parts.inbox.knows(&key) || self.alerts.iter().any(this_turn) {
                duplicates += 1;
                continue;
            }
            new += 1;
            let targets = self.parts.incidents.catalog().map_or(&[][..], |catalog| &catalog.targets);
            let here = Here { names: &self.parts.names, targets };
            let meaning = match self.parts.mapping.meaning(alert, here, now) {
                Meaning::Signal(signal) => {
                    let meaning = format!("{} of {}", signal.kind, signal.target);
                    self.signals(now, vec![*signal]);
                    meaning
                }
                Meaning::Elsewhere(host) => {
                    self.counts.elsewhere += 1;
                    format!("about {host}")
                }
            };
            self.alerts.push(Record::Alert { at: now, key, meaning });
        }
        self.senders.push((reply, new, duplicates));
    }

    /// Disk first, then the world.
    fn settle(&mut self) {
        let (changed, acts) = self.parts.incidents.take();
        let (now, next) = (wall(), self.parts.incidents.next_number());
        let snapshot = |incident: &Incident| Record::Incident { at: now, incident: Box::new(incident.clone()), next };
        let mut records: Vec<Record> =
            changed.iter().filter_map(|id| self.parts.incidents.get(id)).map(snapshot).collect();
        for act in &acts {
            if let Act::Ended(incident, summary) = act {
                records.extend([snapshot(incident), Record::Ended { at: now, summary: summary.clone() }]);
            }
        }
        // The alert after the incident that it made: an alert on disk never lacks its consequence.
        records.append(&mut self.alerts);
        let kept = records.is_empty() || self.parts.inbox.keep(records).is_ok();
        for (reply, new, duplicates) in self.senders.drain(..) {
            self.counts.alerts += new as u64;
            self.counts.duplicates += duplicates as u64;
            let durable = kept && self.parts.inbox.is_writable();
            let answer = if durable { Kept::Durable { new, duplicates } } else { Kept::Unwritable };
            if reply.send(answer).is_err() {
                tracing::debug!("the sender of an alert went away; it will send it again");
            }
        }
        for act in acts {
            self.perform(act);
        }
    }
}
