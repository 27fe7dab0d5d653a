//! Plays cases: once to see where the run passes, then once for each of those points with the runner dying there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use theriac_model::effect::{UndoClass, UndoOutcome};
use theriac_model::record::{Proposal, Record};
use theriac_model::run::RunState;
use theriac_protocol::operator::{OperatorAnswer, OperatorRequest};
use theriac_protocol::runner::RunnerAnswer;

use super::stage::{Beside, Case, Ends, Stage, Whole};
use crate::host::{Host, PATIENCE, pause};

/// Hosts at once, over all cases: each is five processes, which wait most of the time.
const HOSTS: usize = 8;
static FREE: (Mutex<usize>, Condvar) = (Mutex::new(HOSTS), Condvar::new());

/// Who has it may take every CPU it gets.
static HOG: Mutex<()> = Mutex::new(());

/// One of the [`HOSTS`], or all of them where a case can't be played beside any other.
struct Permit {
    hosts: usize,
    _hog: Option<MutexGuard<'static, ()>>,
}

impl Permit {
    fn take(case: &Case) -> Self {
        let hosts = if case.beside == Beside::Nothing { HOSTS } else { 1 };
        let _hog = (case.beside != Beside::Others).then(|| HOG.lock().unwrap_or_else(PoisonError::into_inner));
        let free = FREE.0.lock().unwrap_or_else(PoisonError::into_inner);
        *FREE.1.wait_while(free, |free| *free < hosts).unwrap_or_else(PoisonError::into_inner) -= hosts;
        Self { hosts, _hog }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *FREE.0.lock().unwrap_or_else(PoisonError::into_inner) += self.hosts;
        FREE.1.notify_all();
    }
}

/// A point at its first passing, or at a later one: `gate.after-done@2`.
type Moment = String;

pub(super) fn survives_a_kill_at_each_step(case: &Case) {
    if let Some(why) = case.impossible() {
        println!("not possible here: {why}");
        return;
    }
    let passed = passes_unharmed(case);
    std::thread::scope(|scope| {
        for moment in moments(&passed) {
            scope.spawn(move || {
                let recovered = killed_at(case, &moment, None);
                // Once each: what a second death adds, the second effect does not change.
                if case.twice && is_first(&moment) {
                    for again in moments(&recovered).iter().filter(|again| is_first(again)) {
                        killed_at(case, &moment, Some(again));
                    }
                }
            });
        }
    });
}

/// The first and the last passing of each point.
fn moments(passed: &[String]) -> Vec<Moment> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    passed.iter().for_each(|point| *counts.entry(point).or_default() += 1);
    let last = |(point, count): (&&str, &usize)| (*count > 1).then(|| format!("{point}@{count}"));
    counts.keys().map(|point| (*point).to_owned()).chain(counts.iter().filter_map(last)).collect()
}

fn is_first(moment: &str) -> bool {
    !moment.contains('@')
}

/// A run that nobody kills ends as the case says, and passes exactly the points that the case says.
fn passes_unharmed(case: &Case) -> Vec<String> {
    let _permit = Permit::take(case);
    let mut play = Play::begin(case, &["--crash-trace"]);
    let state = play.follow(RunState::is_terminal);
    let ended = match case.ends {
        Ends::Committed => RunState::Committed,
        Ends::TakenBack => RunState::Undone,
        Ends::GivenUp => RunState::Refused,
    };
    let told = format!("{} {} {}", case.playbook, case.rung, state);
    assert_eq!(state, ended, "{told}\n{:#?}", play.host.records());
    let passed = play.trace_until("run.ended");
    play.check(state, &told);
    let reached: BTreeSet<&str> = passed.iter().map(String::as_str).collect();
    assert_eq!(reached, case.points().collect(), "{told}: left: points that it passed, right: points it has to pass");
    passed
}

/// The runner dies at the moment, and at the second one while it recovers; the one after that ends the run. The points that
/// the last runner passed.
fn killed_at(case: &Case, moment: &str, again: Option<&str>) -> Vec<String> {
    let _permit = Permit::take(case);
    let mut play = Play::begin(case, &["--crash-at", moment]);
    play.dies(moment);
    if let Some(again) = again {
        play.host.start_runner(&["--crash-at".to_owned(), again.to_owned()]);
        play.dies(again);
    }
    let trace = play.trace_argument();
    play.host.start_runner(&trace);
    let state = play.follow(RunState::is_terminal);
    let again = again.map_or_else(String::new, |again| format!(" and again at {again}"));
    let told = format!("{} {} killed at {moment}{again}: {state}", case.playbook, case.rung);
    play.may_end(case, state, &told);
    play.check(state, &told);
    println!("{told}");
    play.trace()
}

/// The runner dies at the moment, and something happens before it comes back. How the run ends then, and what is in the
/// journal.
pub(super) fn comes_back_late(case: &Case, moment: &str, meanwhile: impl FnOnce(&Host)) -> (RunState, Vec<Record>) {
    let _permit = Permit::take(case);
    let mut play = Play::begin(case, &["--crash-at", moment]);
    play.dies(moment);
    meanwhile(&play.host);
    play.host.start_runner(&[]);
    let state = play.follow(RunState::is_terminal);
    let records = play.host.records();
    every_intent_is_settled(&records, moment);
    assert!(play.host.stop_runner().success(), "{}", play.host.log("theriac-runner"));
    play.host.verify_ledger();
    (state, records)
}

/// One run on one host.
struct Play {
    // Dropped in this order: a volume has to be gone before the directory that it is mounted on is removed with the host.
    _keep: Vec<Box<dyn std::any::Any>>,
    host: Host,
    proposal: Proposal,
    whole: Whole,
}

impl Play {
    /// Sets the stage, makes the fault, climbs to the rung and proposes it. The runner may die of the proposal.
    fn begin(case: &Case, script: &[&str]) -> Self {
        let mut stage = (case.set)();
        let text = case.text(&stage);
        let mut script: Vec<String> = script.iter().map(|arg| (*arg).to_owned()).collect();
        if script == ["--crash-trace"] {
            script.push(trace_file(stage.dir.path()).display().to_string());
        }
        let proposals: Vec<Proposal> = (0..=case.rung).map(|rung| case.proposal(&stage, &text, rung)).collect();
        let (proposal, below) = proposals.split_last().unwrap();
        stage.setup.playbooks.push(("case.yaml", text));
        let remedies: BTreeSet<&str> = proposals.iter().map(remedy_of).collect();
        stage.setup.remedies.extend(remedies);
        if below.is_empty() {
            stage.setup.runner_args.clone_from(&script);
        } else {
            stage.setup.mode = Some("observe");
        }
        let Stage { dir, setup, fault, keep, .. } = stage;
        let mut host = Host::start_in(dir, &setup);
        let whole = fault(&host);
        if !below.is_empty() {
            climb(&mut host, below, &script);
        }
        // The runner may die before it answers: that is the point.
        let answer = host.try_propose(proposal);
        assert!(
            !matches!(answer, Ok(RunnerAnswer::NotAccepted { .. })),
            "{answer:?}\n{:#?}\n{}",
            host.records(),
            host.log("theriac-runner")
        );
        Self { _keep: keep, host, proposal: proposal.clone(), whole }
    }

    /// Until the run is as wanted; a person's yes is given when it is asked for.
    fn follow(&mut self, wanted: impl Fn(RunState) -> bool) -> RunState {
        let state = self.host.wait_for(&self.proposal, |state| wanted(state) || state == RunState::AwaitingConsent);
        if state.state == RunState::AwaitingConsent && !wanted(state.state) {
            self.consent();
            return self.host.wait_for(&self.proposal, wanted).state;
        }
        state.state
    }

    /// Waits for the runner's death, and that it is the one we asked for: a runner that ends in any other way was not killed in
    /// the middle of anything.
    fn dies(&mut self, moment: &str) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.host.runner_status() {
                break status;
            }
            if self.host.try_state(&self.proposal) == Some(RunState::AwaitingConsent) {
                self.consent();
            }
            assert!(
                Instant::now() < deadline,
                "`{moment}` was not reached: {:?}\n{}",
                self.host.try_state(&self.proposal),
                self.host.log("theriac-runner")
            );
            pause();
        };
        let killed = status.signal() == Some(rustix::process::Signal::KILL.as_raw());
        assert!(killed, "not killed at `{moment}` but {status}\n{}", self.host.log("theriac-runner"));
    }

    /// As a person; the runner may die of it.
    fn consent(&self) {
        let incident = self.proposal.incident.clone();
        let waiting = self.host.try_operator(&OperatorRequest::Waiting { incident: incident.clone() });
        if let Ok(OperatorAnswer::Waiting(Some(plan))) = waiting {
            let yes = OperatorRequest::Consent { incident, plan: plan.hash, note: None };
            let _may_be_gone = self.host.try_operator(&yes);
        }
    }

    /// A run ends committed, undone or superseded. Only one that the case lets help is committed, and a person gets only what
    /// nothing can take back.
    fn may_end(&self, case: &Case, state: RunState, told: &str) {
        let records = self.host.records();
        let may = match state {
            RunState::Committed => case.ends == Ends::Committed,
            RunState::Refused => case.ends == Ends::GivenUp,
            RunState::Undone | RunState::Superseded => true,
            RunState::FailedNeedsPerson => self.has_irreversible_effect(&records),
            RunState::Reserved
            | RunState::Planned
            | RunState::AwaitingConsent
            | RunState::Running
            | RunState::Verifying
            | RunState::Undoing
            | RunState::Deferred => false,
        };
        assert!(may, "{told}\n{records:#?}\n{}", self.host.log("theriac-runner"));
    }

    fn has_irreversible_effect(&self, records: &[Record]) -> bool {
        records.iter().any(|record| {
            matches!(record, Record::UndoDone { outcome: UndoOutcome::Impossible { .. }, index, .. }
                if records.iter().any(|other| matches!(other,
                    Record::Intent { index: of, class: UndoClass::Irreversible { .. }, .. } if of == index)))
        })
    }

    /// The world, the journal and the ledger.
    fn check(&mut self, state: RunState, told: &str) {
        (self.whole)(&self.host, state);
        every_intent_is_settled(&self.host.records(), told);
        assert!(self.host.stop_runner().success(), "{told}\n{}", self.host.log("theriac-runner"));
        self.host.verify_ledger();
    }

    fn trace_argument(&self) -> Vec<String> {
        vec!["--crash-trace".to_owned(), trace_file(self.host.path()).display().to_string()]
    }

    fn trace(&self) -> Vec<String> {
        let text = fs::read_to_string(trace_file(self.host.path())).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// What was passed, once the last point was.
    fn trace_until(&self, last: &str) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let trace = self.trace();
            if trace.last().is_some_and(|point| point == last) {
                return trace;
            }
            assert!(Instant::now() < deadline, "`{last}` was not passed: {trace:?}");
            pause();
        }
    }
}

fn trace_file(dir: &Path) -> PathBuf {
    dir.join("trace")
}

fn remedy_of(proposal: &Proposal) -> &'static str {
    const REMEDIES: [&str; 9] = [
        "certificate-renew",
        "service-recover",
        "disk-reclaim",
        "cpu-calm",
        "memory-relief",
        "release-return",
        "db-relieve",
        "misguided",
        "verbs",
    ];
    let name = proposal.remedy.as_str();
    REMEDIES.into_iter().find(|known| *known == name).unwrap_or_else(|| panic!("`{name}` has no folder here"))
}

/// The ladder is climbed from its foot: in mode `observe` each rung below is planned and refused, so that the fault stays.
fn climb(host: &mut Host, below: &[Proposal], script: &[String]) {
    for proposal in below {
        assert_eq!(host.heal(proposal).state, RunState::Refused, "{:#?}", host.records());
    }
    assert!(host.stop_runner().success());
    host.change_mode("observe", "relaxed");
    host.start_runner(script);
}

/// I1 to I3 and I6 of the crash design: an outcome for every intent, and each effect taken back at most once.
fn every_intent_is_settled(records: &[Record], told: &str) {
    let of = |wanted: &dyn Fn(&Record) -> Option<u32>| -> Vec<u32> { records.iter().filter_map(wanted).collect() };
    let intents = of(&|record| if let Record::Intent { index, .. } = record { Some(*index) } else { None });
    let done = of(&|record| if let Record::Done { index, .. } = record { Some(*index) } else { None });
    let restored = of(&|record| match record {
        Record::UndoDone { index, outcome: UndoOutcome::Restored, .. } => Some(*index),
        _ => None,
    });
    for once in [&intents, &done, &restored] {
        let distinct: BTreeSet<u32> = once.iter().copied().collect();
        assert_eq!(distinct.len(), once.len(), "{told}: twice\n{records:#?}");
    }
    assert_eq!(intents, done, "{told}: an effect has no outcome, or an outcome no effect\n{records:#?}");
}
