//! The book: the journal with everything that is folded from it, behind one lock. Whoever changes something writes here first.
//!
//! INVARIANT: what is in memory is the fold of what is in the journal. A record is appended before it is folded, and a record
//! that can't be appended is not folded.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use theriac_authority::consent::Consent;
use theriac_authority::guardrail::{self, Guardrails, Objection, Situation, Standing};
use theriac_journal::guard_time::GuardClock;
use theriac_journal::{Durability, Head, Journal, Stamp};
use theriac_model::id::{IncidentId, RunId};
use theriac_model::record::{Entry, Proposal, Record};
use theriac_model::run::{RunEvent, RunState};
use theriac_model::time::GuardTime;
use theriac_protocol::runner::{RunSummary, RunnerEvent, RunnerNumbers};

use crate::clock;
use crate::events::Events;
use crate::numbers;
use crate::summary::Summaries;
use crate::writer::{WriteError, Writer};

/// The journal and its folds.
#[derive(Debug)]
pub struct Book {
    inner: Mutex<Inner>,
    changed: Condvar,
    events: Events,
    epoch: u64,
}

#[derive(Debug)]
struct Inner {
    journal: Journal,
    clock: GuardClock,
    standing: Standing,
    summaries: Summaries,
    numbers: RunnerNumbers,
    next_run: u64,
    /// Yeses that a waiting run has not picked up yet.
    consents: BTreeMap<RunId, Consent>,
    /// An append failed: nothing may be changed any more.
    broken: bool,
}

/// What became of a proposal.
#[derive(Debug)]
pub enum Reserved {
    /// A new run.
    New(RunId),
    /// The run there already is for this incident and rung.
    Same(RunId),
    /// No, and why.
    No(Objection),
}

/// What a run that waits for a person got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Yes, to one plan.
    Yes(Consent),
    /// No.
    No,
    /// Nothing in time.
    Silence,
}

impl Book {
    /// Takes the journal over, with the entries that were in it.
    pub fn open(journal: Journal, clock: GuardClock, entries: &[Entry]) -> Result<Self, guardrail::FoldError> {
        let mut standing = Standing::default();
        let mut summaries = Summaries::default();
        let mut folded = numbers::empty();
        for entry in entries {
            standing.apply(entry)?;
            summaries.apply(entry);
            numbers::apply(&mut folded, entry);
        }
        let epoch = standing.epoch() + 1;
        let inner = Inner {
            journal,
            clock,
            standing,
            summaries,
            numbers: folded,
            next_run: 0,
            consents: BTreeMap::new(),
            broken: false,
        };
        Ok(Self { inner: Mutex::new(inner), changed: Condvar::new(), events: Events::default(), epoch })
    }

    /// The fencing epoch of this runner.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Who is told of what happens.
    pub const fn events(&self) -> &Events {
        &self.events
    }

    /// Guard time now.
    pub fn now(&self) -> GuardTime {
        self.lock().clock.now()
    }

    /// An append failed: the process has to stop.
    pub fn is_broken(&self) -> bool {
        self.lock().broken
    }

    /// Reads the standing.
    pub fn standing<R>(&self, read: impl FnOnce(&Standing, GuardTime) -> R) -> R {
        let mut inner = self.lock();
        let now = inner.clock.now();
        read(&inner.standing, now)
    }

    /// The counters.
    pub fn numbers(&self) -> RunnerNumbers {
        self.lock().numbers.clone()
    }

    /// Size and root of the ledger.
    pub fn head(&self) -> Head {
        self.lock().journal.head()
    }

    /// Entries from `from` on.
    pub fn entries(&self, from: u64, limit: usize) -> io::Result<Vec<Entry>> {
        self.lock().journal.read(from, limit).map_err(io::Error::other)
    }

    /// Where the records of a run begin.
    pub fn reserved_at(&self, run: &RunId) -> Option<u64> {
        self.lock().summaries.reserved_at(run)
    }

    /// One run's summary.
    pub fn run(&self, run: &RunId) -> Option<RunSummary> {
        self.lock().summaries.get(run).cloned()
    }

    /// The newest runs, of one incident or of all.
    pub fn runs(&self, incident: Option<&IncidentId>, limit: usize) -> Vec<RunSummary> {
        self.lock().summaries.newest(incident).take(limit).cloned().collect()
    }

    /// Checks the guardrails and reserves a run, in one step: of two equal proposals one becomes a run.
    pub fn reserve(
        &self,
        proposal: Proposal,
        guardrails: &Guardrails,
        situation: impl FnOnce(GuardTime) -> Situation,
    ) -> Result<Reserved, WriteError> {
        let mut inner = self.lock();
        if let Some(run) = inner.standing.open_run_for(&proposal.incident, proposal.rung) {
            return Ok(Reserved::Same(run.clone()));
        }
        let situation = situation(inner.clock.now());
        if let Err(objection) = guardrail::check_proposal(&inner.standing, guardrails, &proposal, &situation) {
            let refused =
                Record::ProposalRefused { proposal, rule: objection.rule().to_owned(), reason: objection.to_string() };
            self.append(&mut inner, refused, Durability::Buffered)?;
            return Ok(Reserved::No(objection));
        }
        inner.next_run += 1;
        let Ok(run) = RunId::parse(&format!("r{}-{}", self.epoch, inner.next_run)) else {
            return Err(WriteError { source: io::Error::other("no run id") });
        };
        self.append(&mut inner, Record::Reserved { run: run.clone(), proposal }, Durability::Synced)?;
        Ok(Reserved::New(run))
    }

    /// Moves a run along the table; an illegal step is a bug and changes nothing.
    pub fn step(&self, run: &RunId, event: RunEvent, reason: impl Into<String>) -> Result<RunState, StepError> {
        let mut inner = self.lock();
        let from = inner.standing.run(run).ok_or_else(|| StepError::NotOpen { run: run.clone() })?.state;
        let state = from.on(event).map_err(StepError::Illegal)?;
        let moved = Record::Moved { run: run.clone(), event, state, reason: reason.into() };
        self.append(&mut inner, moved, Durability::Synced)?;
        Ok(state)
    }

    /// Waits for a slot and takes it by moving the run to *running*, guardrails being checked in the same step. A hold, a
    /// window or a breaker that came in the meantime wins.
    pub fn begin(
        &self,
        run: &RunId,
        guardrails: &Guardrails,
        situation: impl Fn(GuardTime) -> Situation,
        patience: Duration,
    ) -> Result<Result<(), Objection>, StepError> {
        let deadline = Instant::now() + patience;
        let mut inner = self.lock();
        loop {
            let now = inner.clock.now();
            match guardrail::check_start(&inner.standing, guardrails, run, &situation(now)) {
                Ok(()) => break,
                Err(Objection::Defer { rule: "slots", .. }) if Instant::now() < deadline => {
                    inner = self.wait(inner, deadline.saturating_duration_since(Instant::now()));
                }
                Err(objection) => return Ok(Err(objection)),
            }
        }
        let from = inner.standing.run(run).ok_or_else(|| StepError::NotOpen { run: run.clone() })?.state;
        let state = from.on(RunEvent::Authorised).map_err(StepError::Illegal)?;
        let moved = Record::Moved { run: run.clone(), event: RunEvent::Authorised, state, reason: "authorised".into() };
        self.append(&mut inner, moved, Durability::Synced)?;
        Ok(Ok(()))
    }

    /// Waits until a person answered for this run, or the time is up.
    pub fn wait_for_answer(&self, run: &RunId, patience: Duration) -> Answer {
        let deadline = Instant::now() + patience;
        let mut inner = self.lock();
        loop {
            if let Some(consent) = inner.consents.remove(run) {
                return Answer::Yes(consent);
            }
            if inner.summaries.get(run).is_some_and(|summary| summary.declined) {
                return Answer::No;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || inner.broken {
                return Answer::Silence;
            }
            inner = self.wait(inner, left);
        }
    }

    /// Takes a person's yes for a run that waits: on disk first, then handed over.
    pub fn consent(&self, consent: Consent) -> Result<(), WriteError> {
        let mut inner = self.lock();
        let question = consent.question().clone();
        let record = Record::Consented { run: question.run.clone(), plan: question.plan, by: consent.by().to_owned() };
        self.append(&mut inner, record, Durability::Synced)?;
        inner.consents.insert(question.run, consent);
        self.changed.notify_all();
        Ok(())
    }

    /// Waits until fewer runs than there are slots are at work, or the time is up.
    pub fn wait_for_slot(&self, slots: u32, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut inner = self.lock();
        loop {
            let taken = inner.standing.open_runs().filter(|(_, run)| run.state.holds_slot()).count();
            let left = deadline.saturating_duration_since(Instant::now());
            if taken < slots as usize || left.is_zero() || inner.broken {
                return;
            }
            inner = self.wait(inner, left);
        }
    }

    /// Reads or seals the journal itself.
    pub fn with_journal<R>(&self, act: impl FnOnce(&mut Journal) -> R) -> R {
        act(&mut self.lock().journal)
    }

    fn append(&self, inner: &mut Inner, record: Record, durability: Durability) -> Result<Entry, WriteError> {
        if inner.broken {
            return Err(WriteError { source: io::Error::other("an earlier write failed") });
        }
        let stamp = Stamp { at: clock::wall(), guard: inner.clock.now(), epoch: self.epoch };
        let entry = match inner.journal.append(stamp, record, durability) {
            Ok(entry) => entry,
            Err(error) => {
                // No retry: after a failed fsync the page may be marked clean though it is not on disk.
                inner.broken = true;
                self.changed.notify_all();
                tracing::error!(%error, "the journal failed: stopping");
                return Err(WriteError { source: io::Error::other(error) });
            }
        };
        if let Err(error) = inner.standing.apply(&entry) {
            inner.broken = true;
            tracing::error!(%error, "a record does not fit the ones before it: stopping");
            return Err(WriteError { source: io::Error::other(error) });
        }
        numbers::apply(&mut inner.numbers, &entry);
        if let Some(summary) = inner.summaries.apply(&entry) {
            self.events.publish(&RunnerEvent::Run(summary.clone()));
        }
        self.changed.notify_all();
        Ok(entry)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock was held left the journal ahead of its fold at worst; going on would break the invariant.
        self.inner.lock().unwrap_or_else(|poisoned| {
            let mut inner = PoisonError::into_inner(poisoned);
            inner.broken = true;
            inner
        })
    }

    fn wait<'a>(&self, inner: MutexGuard<'a, Inner>, left: Duration) -> MutexGuard<'a, Inner> {
        self.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Writer for Book {
    fn write(&self, record: Record, durability: Durability) -> Result<Entry, WriteError> {
        self.append(&mut self.lock(), record, durability)
    }

    fn guard_now(&self) -> GuardTime {
        self.now()
    }
}

/// Why a run could not be moved.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// It is over, or never was.
    #[error("run `{run}` is not open")]
    NotOpen { run: RunId },
    /// A bug of ours.
    #[error(transparent)]
    Illegal(theriac_model::run::IllegalTransition),
    /// The journal failed.
    #[error(transparent)]
    Write(#[from] WriteError),
}
