//! What the agent may ask. It is the process that faces the network, so nothing here can widen anything: it reads, it
//! proposes one of the choices it was offered, and it reports.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use theriac_journal::Durability;
use theriac_model::id::UnitName;
use theriac_model::record::Record;
use theriac_protocol::frame::{self, Frame};
use theriac_protocol::peer::Peer;
use theriac_protocol::runner::{RunnerAnswer, RunnerEvent, RunnerRequest};

use crate::backend;
use crate::parts::Parts;
use crate::run;
use crate::server::Service;
use crate::writer::Writer as _;

/// Records that an agent may cause per minute besides proposals: a compromised one must not fill the journal.
const NOTES_PER_MINUTE: u32 = 120;
/// Proposals per minute.
const PROPOSALS_PER_MINUTE: u32 = 60;
/// Looks at logs per minute: each costs a bounded read of the journal's files.
const LOOKS_PER_MINUTE: u32 = 60;
const MAX_TEXT: usize = 512;
const MAX_RUNS: usize = 64;

/// The service on `run/runner.sock`.
#[derive(Debug)]
pub(crate) struct AgentSocket {
    pub(crate) parts: Arc<Parts>,
    /// The agent's user.
    pub(crate) agent: u32,
    pub(crate) notes: Allowance,
    pub(crate) proposals: Allowance,
    pub(crate) looks: Allowance,
}

/// So many per minute.
#[derive(Debug)]
pub(crate) struct Allowance {
    most: u32,
    used: Mutex<(Instant, u32)>,
}

impl Allowance {
    fn new(most: u32) -> Self {
        Self { most, used: Mutex::new((Instant::now(), 0)) }
    }

    fn take(&self) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.0.elapsed() >= Duration::from_secs(60) {
            *used = (Instant::now(), 0);
        }
        used.1 = used.1.saturating_add(1);
        used.1 <= self.most
    }
}

impl AgentSocket {
    pub(crate) fn new(parts: Arc<Parts>, agent: u32) -> Self {
        let (notes, proposals) = (Allowance::new(NOTES_PER_MINUTE), Allowance::new(PROPOSALS_PER_MINUTE));
        Self { parts, agent, notes, proposals, looks: Allowance::new(LOOKS_PER_MINUTE) }
    }

    fn note(&self, record: Record) -> RunnerAnswer {
        if !self.notes.take() {
            return RunnerAnswer::Refused("too many reports: this one is not kept".into());
        }
        match self.parts.book.write(record, Durability::Buffered) {
            Ok(_) => RunnerAnswer::Noted,
            Err(error) => RunnerAnswer::Refused(error.to_string()),
        }
    }

    /// The log of a unit that root's configuration lists; of no other.
    fn log_tail(&self, unit: &UnitName, lines: u32) -> RunnerAnswer {
        let Some(manager) = self.parts.world.manager_of(unit) else {
            return RunnerAnswer::Refused(format!("`{unit}` is not listed in runner.toml"));
        };
        if !self.looks.take() {
            return RunnerAnswer::Refused(format!("more than {LOOKS_PER_MINUTE} looks at logs in a minute"));
        }
        match backend::log_tail(manager, unit, lines) {
            Ok(lines) => RunnerAnswer::Lines(lines),
            Err(error) => RunnerAnswer::Refused(error.to_string()),
        }
    }

    fn propose(&self, proposal: theriac_model::record::Proposal) -> RunnerAnswer {
        if !self.proposals.take() {
            let reason = format!("more than {PROPOSALS_PER_MINUTE} proposals in a minute");
            return RunnerAnswer::NotAccepted { rule: "rate".into(), reason };
        }
        match run::accept(&self.parts, proposal) {
            Ok(Ok(run)) => RunnerAnswer::Accepted { run },
            Ok(Err(no)) => RunnerAnswer::NotAccepted { rule: no.rule, reason: no.reason },
            Err(error) => RunnerAnswer::Refused(error.to_string()),
        }
    }
}

fn cut(text: String) -> String {
    if text.len() <= MAX_TEXT { text } else { text.chars().take(MAX_TEXT).collect() }
}

impl Service for AgentSocket {
    type Request = RunnerRequest;
    type Answer = RunnerAnswer;

    fn admits(&self, peer: Peer) -> bool {
        peer.uid == self.agent || peer.uid == 0
    }

    fn answer(&self, _: Peer, request: RunnerRequest) -> (RunnerAnswer, bool) {
        let answer = match request {
            RunnerRequest::Hello { .. } => {
                RunnerAnswer::Hello { version: env!("CARGO_PKG_VERSION").to_owned(), epoch: self.parts.book.epoch() }
            }
            RunnerRequest::Catalog => RunnerAnswer::Catalog(Box::new(self.parts.catalog())),
            RunnerRequest::Units => RunnerAnswer::Units(self.parts.observer.units()),
            RunnerRequest::Propose(proposal) => self.propose(*proposal),
            RunnerRequest::LogTail { unit, lines } => self.log_tail(&unit, lines),
            RunnerRequest::Runs { incident } => RunnerAnswer::Runs(self.parts.book.runs(Some(&incident), MAX_RUNS)),
            RunnerRequest::Subscribe => return (RunnerAnswer::Noted, true),
            RunnerRequest::NotActing { incident, kind, target, reason, summary } => {
                let (reason, summary) = (cut(reason), cut(summary));
                self.note(Record::NotActing { incident, kind, target, reason, summary })
            }
            RunnerRequest::IncidentEnded(summary) => self.note(Record::IncidentEnded { summary }),
            RunnerRequest::Numbers => RunnerAnswer::Numbers(self.parts.book.numbers()),
        };
        (answer, false)
    }

    fn follow(&self, stream: &mut UnixStream) {
        let events = self.parts.book.events().subscribe();
        let mut send =
            |event: &RunnerEvent| frame::write(stream, &Frame { epoch: self.epoch(), id: 0, message: event });
        for event in self.parts.observer.known() {
            if send(&event).is_err() {
                return;
            }
        }
        for event in events {
            if send(&event).is_err() {
                return;
            }
        }
    }

    fn epoch(&self) -> u64 {
        self.parts.book.epoch()
    }
}
