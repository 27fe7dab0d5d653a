//! The standing of a host: the journal's records, folded into what the guardrails need.
//!
//! The fold is used live and in recovery, entry by entry, so that a restarted runner stands exactly where the killed one
//! stood. It refuses what can't have happened: malformed saved state means stop and ask, never "start empty".

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use theriac_model::fault::FaultKind;
use theriac_model::id::{IncidentId, PlaybookName, RemedyName, RunId};
use theriac_model::plan::{Plan, PlanHash};
use theriac_model::record::{Entry, Proposal, Record};
use theriac_model::run::{RunEvent, RunState};
use theriac_model::target::Target;
use theriac_model::time::{GuardTime, Timestamp};

/// Faults remembered per remedy and target; the breaker needs three.
const MAX_FAULTS: usize = 16;
/// Ladders remembered; an agent that invents incidents must not fill memory. The oldest without an open run goes first.
const MAX_LADDERS: usize = 1024;

/// What the journal's records amount to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Standing {
    runs: BTreeMap<RunId, OpenRun>,
    last_runs: BTreeMap<Target, (IncidentId, GuardTime)>,
    cooldowns: BTreeMap<Target, GuardTime>,
    histories: BTreeMap<(RemedyName, Target), History>,
    breakers: BTreeMap<(RemedyName, Target), String>,
    holds: BTreeMap<Option<Target>, Hold>,
    /// By playbook too: an incident that turns out to be of another kind climbs that kind's ladder from its own foot.
    ladders: BTreeMap<(IncidentId, PlaybookName), Ladder>,
    serials: BTreeMap<RemedyName, u64>,
    last: Option<Last>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Last {
    seq: u64,
    guard: GuardTime,
    epoch: u64,
    at: Timestamp,
}

/// A run that is not over.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenRun {
    /// What was proposed.
    pub proposal: Proposal,
    /// Where it is.
    pub state: RunState,
    /// When it was reserved.
    pub reserved: GuardTime,
    /// Its newest plan.
    pub plan: Option<(Box<Plan>, PlanHash)>,
    /// The plan a person said yes to, and who.
    pub consented: Option<(Box<Plan>, String)>,
    /// It came as far as changing things.
    pub ran: bool,
}

/// What became of one remedy at one target since it was last armed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    faults: VecDeque<(GuardTime, FaultKind, IncidentId)>,
    /// Runs that were undone.
    pub undos: u32,
    /// A run could be neither finished nor taken back.
    pub lost: bool,
}

/// A person's stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Until when; `None` is until resumed.
    pub until: Option<GuardTime>,
    /// Who.
    pub by: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ladder {
    /// The highest rung that was reserved and is over, or can't be tried here.
    pub(super) tried: Option<u32>,
    /// The highest rung that changed things.
    pub(super) ran: Option<u32>,
    touched: u64,
}

/// An entry that can't follow the ones before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// Entries are missing or doubled.
    #[error("record {found} follows record {last}: the journal has a gap")]
    Gap { last: u64, found: u64 },
    /// Time or epoch went backwards.
    #[error("record {seq} has an older {what} than the one before it")]
    Backwards { seq: u64, what: &'static str },
    /// A run that was never reserved, or is over.
    #[error("record {seq} is about run `{run}`, which is not open")]
    NoSuchRun { seq: u64, run: RunId },
    /// A run was reserved twice.
    #[error("record {seq} reserves run `{run}` again")]
    ReservedTwice { seq: u64, run: RunId },
    /// A transition that the table does not have.
    #[error("record {seq} moves run `{run}` from {from} by {event:?} to {to}, which is no legal step")]
    Illegal { seq: u64, run: RunId, from: RunState, event: RunEvent, to: RunState },
    /// A hash that is not the plan's.
    #[error("record {seq} names a plan hash that is not that of the plan of run `{run}`")]
    WrongHash { seq: u64, run: RunId },
}

impl Standing {
    /// Folds the next entry in. After an error the standing is unchanged.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), FoldError> {
        let seq = entry.seq;
        if let Some(last) = self.last {
            if seq != last.seq.saturating_add(1) {
                return Err(FoldError::Gap { last: last.seq, found: seq });
            }
            if entry.guard < last.guard {
                return Err(FoldError::Backwards { seq, what: "guard time" });
            }
            if entry.epoch < last.epoch {
                return Err(FoldError::Backwards { seq, what: "fencing epoch" });
            }
        }
        self.apply_record(entry)?;
        let at = self.last.map_or(entry.at, |last| last.at.max(entry.at));
        self.last = Some(Last { seq, guard: entry.guard, epoch: entry.epoch, at });
        Ok(())
    }

    fn apply_record(&mut self, entry: &Entry) -> Result<(), FoldError> {
        let seq = entry.seq;
        match &entry.record {
            Record::Reserved { run, proposal } => self.reserve(entry, run, proposal),
            Record::Planned { run, plan, hash } => self.planned(seq, run, plan, *hash),
            Record::Consented { run, plan, by } => self.consented(seq, run, *plan, by),
            Record::Moved { run, event, state, .. } => self.moved(entry, run, *event, *state),
            Record::CooldownBegan { target, until } => {
                self.cooldowns.retain(|_, until| *until > entry.guard);
                // A later record can only lengthen a rest.
                let kept = self.cooldowns.entry(target.clone()).or_insert(*until);
                *kept = (*kept).max(*until);
                Ok(())
            }
            Record::BreakerTripped { remedy, target, reason } => {
                self.breakers.insert((remedy.clone(), target.clone()), reason.clone());
                Ok(())
            }
            Record::BreakerReset { remedy, target, .. } => {
                let key = (remedy.clone(), target.clone());
                self.breakers.remove(&key);
                self.histories.remove(&key);
                Ok(())
            }
            Record::Held { target, until, by } => {
                self.holds.insert(target.clone(), Hold { until: *until, by: by.clone() });
                Ok(())
            }
            Record::Resumed { target, .. } => {
                // Exactly the hold that is named: a hold of one target outlives the end of the host's.
                self.holds.remove(target);
                Ok(())
            }
            Record::RemedyLoaded { remedy, .. } => {
                let serial = self.serials.entry(remedy.name.clone()).or_insert(remedy.serial);
                *serial = (*serial).max(remedy.serial);
                Ok(())
            }
            Record::ProposalRefused { proposal, rule, .. } => {
                if rule == super::REMEDY_UNAVAILABLE {
                    self.climb(seq, proposal, false);
                }
                Ok(())
            }
            Record::IncidentEnded { summary } => {
                self.ladders.retain(|(incident, _), _| *incident != summary.incident);
                Ok(())
            }
            Record::Measured { run, .. }
            | Record::Decided { run, .. }
            | Record::Declined { run, .. }
            | Record::Intent { run, .. }
            | Record::Done { run, .. }
            | Record::UndoIntent { run, .. }
            | Record::UndoDone { run, .. } => self.open(seq, run).map(|_| ()),
            // What a worker or a late check still says about a run that is over changes nothing.
            Record::Denied { .. }
            | Record::RemedyLog { .. }
            | Record::WorkerEnded { .. }
            | Record::Verified { .. }
            | Record::Started { .. }
            | Record::Stopped
            | Record::RemedyRefused { .. }
            | Record::ReleaseSeen { .. }
            | Record::NotActing { .. } => Ok(()),
        }
    }

    fn open(&mut self, seq: u64, run: &RunId) -> Result<&mut OpenRun, FoldError> {
        self.runs.get_mut(run).ok_or_else(|| FoldError::NoSuchRun { seq, run: run.clone() })
    }

    fn reserve(&mut self, entry: &Entry, run: &RunId, proposal: &Proposal) -> Result<(), FoldError> {
        if self.runs.contains_key(run) {
            return Err(FoldError::ReservedTwice { seq: entry.seq, run: run.clone() });
        }
        let open = OpenRun {
            proposal: proposal.clone(),
            state: RunState::Reserved,
            reserved: entry.guard,
            plan: None,
            consented: None,
            ran: false,
        };
        self.runs.insert(run.clone(), open);
        Ok(())
    }

    fn planned(&mut self, seq: u64, run: &RunId, plan: &Plan, hash: PlanHash) -> Result<(), FoldError> {
        let open = self.open(seq, run)?;
        if plan.hash() != hash {
            return Err(FoldError::WrongHash { seq, run: run.clone() });
        }
        open.plan = Some((Box::new(plan.clone()), hash));
        Ok(())
    }

    fn consented(&mut self, seq: u64, run: &RunId, to: PlanHash, by: &str) -> Result<(), FoldError> {
        let open = self.open(seq, run)?;
        match &open.plan {
            Some((plan, hash)) if *hash == to => {
                open.consented = Some((plan.clone(), by.to_owned()));
                Ok(())
            }
            Some(_) | None => Err(FoldError::WrongHash { seq, run: run.clone() }),
        }
    }

    fn moved(&mut self, entry: &Entry, run: &RunId, event: RunEvent, to: RunState) -> Result<(), FoldError> {
        let open = self.open(entry.seq, run)?;
        let from = open.state;
        if from.on(event) != Ok(to) {
            return Err(FoldError::Illegal { seq: entry.seq, run: run.clone(), from, event, to });
        }
        open.state = to;
        if to == RunState::Running {
            open.ran = true;
            let proposal = open.proposal.clone();
            self.began(entry, &proposal);
        }
        if to.is_terminal()
            && let Some(over) = self.runs.remove(run)
        {
            self.ended(entry, to, &over);
        }
        Ok(())
    }

    fn began(&mut self, entry: &Entry, proposal: &Proposal) {
        self.climb(entry.seq, proposal, true);
        let key = (proposal.remedy.clone(), proposal.target.clone());
        let faults = &mut self.histories.entry(key).or_default().faults;
        if faults.iter().any(|(_, kind, incident)| *kind == proposal.kind && *incident == proposal.incident) {
            return;
        }
        if faults.len() >= MAX_FAULTS {
            faults.pop_front();
        }
        faults.push_back((entry.guard, proposal.kind, proposal.incident.clone()));
    }

    fn ended(&mut self, entry: &Entry, state: RunState, over: &OpenRun) {
        let proposal = &over.proposal;
        match state {
            RunState::Undone | RunState::FailedNeedsPerson if over.ran => {
                let key = (proposal.remedy.clone(), proposal.target.clone());
                let history = self.histories.entry(key).or_default();
                history.undos = history.undos.saturating_add(u32::from(state == RunState::Undone));
                history.lost |= state == RunState::FailedNeedsPerson;
            }
            RunState::Committed | RunState::Undone | RunState::FailedNeedsPerson | RunState::Refused => {}
            // These two can come again: the rung was not tried.
            RunState::Superseded | RunState::Deferred => return,
            RunState::Reserved
            | RunState::Planned
            | RunState::AwaitingConsent
            | RunState::Running
            | RunState::Verifying
            | RunState::Undoing => return,
        }
        self.climb(entry.seq, proposal, over.ran);
        if over.ran {
            self.last_runs.insert(proposal.target.clone(), (proposal.incident.clone(), entry.guard));
        }
    }

    fn climb(&mut self, seq: u64, proposal: &Proposal, ran: bool) {
        let key = (proposal.incident.clone(), proposal.playbook.clone());
        if !self.ladders.contains_key(&key) && self.ladders.len() >= MAX_LADDERS {
            let busy = |id: &IncidentId| self.runs.values().any(|run| run.proposal.incident == *id);
            let oldest = self.ladders.iter().filter(|((id, _), _)| !busy(id)).min_by_key(|(_, ladder)| ladder.touched);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.ladders.remove(&oldest);
            }
        }
        let rung = proposal.rung;
        let ladder = self.ladders.entry(key).or_default();
        ladder.tried = ladder.tried.max(Some(rung));
        ladder.touched = seq;
        if ran {
            ladder.ran = ladder.ran.max(Some(rung));
        }
    }

    /// The run, if it is not over.
    pub fn run(&self, run: &RunId) -> Option<&OpenRun> {
        self.runs.get(run)
    }

    /// Every run that is not over.
    pub fn open_runs(&self) -> impl Iterator<Item = (&RunId, &OpenRun)> {
        self.runs.iter()
    }

    /// The open run for this incident and rung: a proposal that comes twice is one run.
    pub fn open_run_for(&self, incident: &IncidentId, rung: u32) -> Option<&RunId> {
        let same = |run: &OpenRun| run.proposal.incident == *incident && run.proposal.rung == rung;
        self.runs.iter().find(|(_, run)| same(run)).map(|(id, _)| id)
    }

    /// Cooldowns that are not over, by target.
    pub fn cooldowns(&self, now: GuardTime) -> impl Iterator<Item = (&Target, GuardTime)> {
        self.cooldowns.iter().filter(move |(_, until)| now < **until).map(|(target, until)| (target, *until))
    }

    /// Holds that are not over; `None` is the whole host.
    pub fn holds(&self, now: GuardTime) -> impl Iterator<Item = (Option<&Target>, &Hold)> {
        let lasts = move |hold: &Hold| hold.until.is_none_or(|until| now < until);
        self.holds.iter().filter(move |(_, hold)| lasts(hold)).map(|(target, hold)| (target.as_ref(), hold))
    }

    /// Open breakers with their reasons.
    pub fn breakers(&self) -> impl Iterator<Item = (&RemedyName, &Target, &str)> {
        self.breakers.iter().map(|((remedy, target), reason)| (remedy, target, reason.as_str()))
    }

    /// The highest serial of a remedy that was ever loaded.
    pub fn high_water(&self, remedy: &RemedyName) -> Option<u64> {
        self.serials.get(remedy).copied()
    }

    /// The latest wall-clock time in the journal: no decision takes the clock for earlier than that.
    pub fn last_seen(&self) -> Timestamp {
        self.last.map_or(Timestamp(0), |last| last.at)
    }

    /// The latest guard time in the journal.
    pub fn last_guard(&self) -> GuardTime {
        self.last.map_or(GuardTime(0), |last| last.guard)
    }

    /// The highest fencing epoch in the journal.
    pub fn epoch(&self) -> u64 {
        self.last.map_or(0, |last| last.epoch)
    }

    pub(super) fn hold_on(&self, target: &Target, now: GuardTime) -> Option<(Option<&Target>, &Hold)> {
        self.holds(now).find(|(held, _)| held.is_none_or(|held| held == target))
    }

    pub(super) fn cooldown(&self, target: &Target) -> Option<GuardTime> {
        self.cooldowns.get(target).copied()
    }

    pub(super) fn last_run_at(&self, target: &Target) -> Option<(&IncidentId, GuardTime)> {
        self.last_runs.get(target).map(|(incident, ended)| (incident, *ended))
    }

    pub(super) fn breaker(&self, remedy: &RemedyName, target: &Target) -> Option<&str> {
        self.breakers.get(&(remedy.clone(), target.clone())).map(String::as_str)
    }

    pub(super) fn history(&self, remedy: &RemedyName, target: &Target) -> Option<&History> {
        self.histories.get(&(remedy.clone(), target.clone()))
    }

    pub(super) fn ladder(&self, proposal: &Proposal) -> Ladder {
        let key = (proposal.incident.clone(), proposal.playbook.clone());
        self.ladders.get(&key).copied().unwrap_or_default()
    }
}

impl History {
    /// How often each kind of fault was treated within the window: each incident once, and `except` not at all.
    pub(super) fn faults_within(
        &self,
        window: Duration,
        now: GuardTime,
        except: Option<&IncidentId>,
    ) -> BTreeMap<FaultKind, u32> {
        let mut counts = BTreeMap::new();
        let counted = |at: GuardTime, incident: &IncidentId| now.since(at) < window && except != Some(incident);
        for (_, kind, _) in self.faults.iter().filter(|(at, _, incident)| counted(*at, incident)) {
            *counts.entry(*kind).or_insert(0) += 1;
        }
        counts
    }
}
