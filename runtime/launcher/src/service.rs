//! The life of one service: one `match (phase, event)`, without a system call in it, and its state in systemd's words.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use theriac_model::time::millis;
use theriac_model::unit::{ActiveState, UnitState};

use crate::config::{Restart, ServiceSpec};
use crate::processes::ProcessKey;

/// KILL can't be refused; a process that is still there after this long hangs in the kernel, and waiting on helps nobody.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// How often a killed service is looked at again: a process can fork between the look and the signal.
const KILL_AGAIN: Duration = Duration::from_millis(20);

/// How a start ended; systemd's Result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    ExitCode,
    Signal,
    /// It did not end on TERM in time.
    Timeout,
    /// It could not be started at all.
    Resources,
    StartLimitHit,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ExitCode => "exit-code",
            Self::Signal => "signal",
            Self::Timeout => "timeout",
            Self::Resources => "resources",
            Self::StartLimitHit => "start-limit-hit",
        }
    }
}

/// Who wanted the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// A request, or the launcher's own end.
    Request,
    /// The service, or whatever killed it.
    Itself,
}

/// What follows when nothing of a service is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// Whatever the restart policy says about the outcome.
    Policy,
    Stay,
    Start,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Down {
        outcome: Outcome,
        by: By,
    },
    Up {
        main: ProcessKey,
    },
    /// TERM was sent, or KILL; it waits for the last process.
    Ending {
        main: Option<ProcessKey>,
        outcome: Outcome,
        by: By,
        after: After,
        killed: Option<Instant>,
        deadline: Instant,
    },
    /// Down, with an automatic restart to come.
    Waiting {
        outcome: Outcome,
        until: Instant,
    },
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    StartAsked,
    StopAsked,
    RestartAsked,
    ResetAsked,
    /// KILL for every process.
    KillAsked,
    Spawned(ProcessKey),
    SpawnFailed,
    MainEnded(Outcome),
    /// No process of the service is left.
    AllGone,
    /// [`Service::deadline`] has passed.
    Deadline,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Nothing,
    /// Answer with [`Event::Spawned`] or [`Event::SpawnFailed`].
    Spawn,
    /// TERM and CONT to every process.
    Terminate,
    /// KILL to every process.
    Kill,
}

/// One service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) spec: ServiceSpec,
    phase: Phase,
    /// Of the last start.
    pub(crate) invocation: String,
    /// The session of the last start: its leader was the main process.
    pub(crate) session: u32,
    starts: VecDeque<Instant>,
    restarts: u32,
    since: Instant,
}

impl Service {
    pub(crate) fn new(spec: ServiceSpec, now: Instant) -> Self {
        let phase = Phase::Down { outcome: Outcome::Success, by: By::Request };
        Self { spec, phase, invocation: String::new(), session: 0, starts: VecDeque::new(), restarts: 0, since: now }
    }

    /// The table of transitions.
    pub(crate) fn on(&mut self, event: Event, now: Instant) -> Action {
        let before = self.words().0;
        let action = self.step(event, now);
        if self.words().0 != before || matches!(event, Event::Spawned(_)) {
            self.since = now;
        }
        action
    }

    fn step(&mut self, event: Event, now: Instant) -> Action {
        match (self.phase, event) {
            (Phase::Down { .. } | Phase::Waiting { .. }, Event::StartAsked | Event::RestartAsked) => {
                self.restarts = 0;
                self.try_start(now)
            }
            (Phase::Up { .. }, Event::StartAsked) => Action::Nothing,
            (Phase::Up { main }, Event::StopAsked) => self.end_by_request(main, After::Stay, now),
            (Phase::Up { main }, Event::RestartAsked) => {
                self.restarts = 0;
                self.end_by_request(main, After::Start, now)
            }
            (Phase::Up { .. }, Event::MainEnded(outcome)) => self.end_by_itself(outcome, now),
            (phase, Event::KillAsked) => self.end_by_kill(phase, now),
            (Phase::Waiting { outcome, .. }, Event::StopAsked) => {
                self.phase = Phase::Down { outcome, by: By::Request };
                Action::Nothing
            }
            (Phase::Waiting { .. }, Event::Deadline) => {
                self.restarts = self.restarts.saturating_add(1);
                self.try_start(now)
            }
            (Phase::Ending { main, outcome, by, killed, deadline, .. }, Event::StartAsked | Event::RestartAsked) => {
                self.phase = Phase::Ending { main, outcome, by, after: After::Start, killed, deadline };
                Action::Nothing
            }
            (Phase::Ending { main, outcome, killed, deadline, .. }, Event::StopAsked) => {
                self.phase = Phase::Ending { main, outcome, by: By::Request, after: After::Stay, killed, deadline };
                Action::Nothing
            }
            (Phase::Ending { outcome, by, after, killed, deadline, .. }, Event::MainEnded(ended)) => {
                // That our own KILL ended it is known already, and says more than "signal".
                let outcome = if outcome == Outcome::Timeout { outcome } else { ended };
                self.phase = Phase::Ending { main: None, outcome, by, after, killed, deadline };
                Action::Nothing
            }
            (Phase::Ending { main, outcome, by, after, killed, .. }, Event::Deadline) => {
                let outcome = if main.is_some() && killed.is_none() { Outcome::Timeout } else { outcome };
                let killed = Some(killed.unwrap_or(now));
                self.phase = Phase::Ending { main, outcome, by, after, killed, deadline: now + KILL_AGAIN };
                Action::Kill
            }
            (Phase::Ending { outcome, by, after, .. }, Event::AllGone) => self.settle(outcome, by, after, now),
            (Phase::Down { .. } | Phase::Waiting { .. }, Event::Spawned(main)) => {
                self.session = main.pid;
                self.phase = Phase::Up { main };
                Action::Nothing
            }
            (Phase::Down { .. } | Phase::Waiting { .. }, Event::SpawnFailed) => {
                self.settle(Outcome::Resources, By::Itself, After::Policy, now)
            }
            (Phase::Down { .. } | Phase::Waiting { .. }, Event::ResetAsked) => {
                self.forget_failures();
                if let Phase::Down { by, .. } = self.phase {
                    self.phase = Phase::Down { outcome: Outcome::Success, by };
                }
                Action::Nothing
            }
            (Phase::Up { .. } | Phase::Ending { .. }, Event::ResetAsked) => {
                self.forget_failures();
                Action::Nothing
            }
            // Late or impossible: what they ask for is so already.
            (Phase::Down { .. }, Event::StopAsked | Event::Deadline)
            | (Phase::Down { .. } | Phase::Waiting { .. }, Event::MainEnded(_) | Event::AllGone)
            | (Phase::Up { .. } | Phase::Ending { .. }, Event::Spawned(_) | Event::SpawnFailed)
            | (Phase::Up { .. }, Event::AllGone | Event::Deadline) => Action::Nothing,
        }
    }

    fn end_by_request(&mut self, main: ProcessKey, after: After, now: Instant) -> Action {
        let (main, deadline) = (Some(main), now + self.spec.stop_timeout);
        self.phase = Phase::Ending { main, outcome: Outcome::Success, by: By::Request, after, killed: None, deadline };
        Action::Terminate
    }

    /// Nothing survives that, so it counts as ending before it has ended: a start that comes meanwhile waits for it, and would
    /// find it running and do nothing otherwise.
    fn end_by_kill(&mut self, phase: Phase, now: Instant) -> Action {
        let (main, outcome, by, after, killed) = match phase {
            Phase::Up { main } => (Some(main), Outcome::Success, By::Itself, After::Policy, now),
            Phase::Ending { main, outcome, by, after, killed, .. } => (main, outcome, by, after, killed.unwrap_or(now)),
            Phase::Down { .. } | Phase::Waiting { .. } => return Action::Nothing,
        };
        self.phase = Phase::Ending { main, outcome, by, after, killed: Some(killed), deadline: now + KILL_AGAIN };
        Action::Kill
    }

    /// The main process is gone; what it left behind is ended, too, before anything follows.
    fn end_by_itself(&mut self, outcome: Outcome, now: Instant) -> Action {
        let (by, after, deadline) = (By::Itself, After::Policy, now + self.spec.stop_timeout);
        self.phase = Phase::Ending { main: None, outcome, by, after, killed: None, deadline };
        Action::Terminate
    }

    fn settle(&mut self, outcome: Outcome, by: By, after: After, now: Instant) -> Action {
        match (after, outcome, self.spec.restart) {
            (After::Start, _, _) => {
                self.phase = Phase::Down { outcome, by };
                self.try_start(now)
            }
            (After::Stay, _, _)
            | (After::Policy, Outcome::Success | Outcome::StartLimitHit, _)
            | (After::Policy, _, Restart::Never) => {
                self.phase = Phase::Down { outcome, by };
                Action::Nothing
            }
            (
                After::Policy,
                Outcome::ExitCode | Outcome::Signal | Outcome::Timeout | Outcome::Resources,
                Restart::OnFailure,
            ) => {
                self.phase = Phase::Waiting { outcome, until: now + self.spec.restart_delay };
                Action::Nothing
            }
        }
    }

    /// Every start counts, whoever asked for it, as under systemd.
    fn try_start(&mut self, now: Instant) -> Action {
        if !self.has_budget(now) {
            self.phase = Phase::Down { outcome: Outcome::StartLimitHit, by: By::Itself };
            return Action::Nothing;
        }
        self.starts.push_back(now);
        Action::Spawn
    }

    /// One more start at that time is within the limit.
    fn has_budget(&mut self, at: Instant) -> bool {
        while self.starts.front().is_some_and(|start| at.duration_since(*start) >= self.spec.start_limit_interval) {
            self.starts.pop_front();
        }
        self.starts.len() < self.spec.start_limit_burst
    }

    fn forget_failures(&mut self) {
        self.starts.clear();
        self.restarts = 0;
    }

    /// When [`Event::Deadline`] is due.
    pub(crate) const fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Ending { deadline, .. } => Some(deadline),
            Phase::Waiting { until, .. } => Some(until),
            Phase::Down { .. } | Phase::Up { .. } => None,
        }
    }

    /// The main process, while it runs.
    pub(crate) const fn main(&self) -> Option<ProcessKey> {
        match self.phase {
            Phase::Up { main } => Some(main),
            Phase::Ending { main, .. } => main,
            Phase::Down { .. } | Phase::Waiting { .. } => None,
        }
    }

    pub(crate) const fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Ending { .. })
    }

    /// A verb that waits may be answered: nothing more will follow by itself, or it was killed in vain.
    pub(crate) fn is_settled(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Down { .. } | Phase::Up { .. } | Phase::Waiting { .. } => true,
            Phase::Ending { killed, .. } => killed.is_some_and(|at| now.duration_since(at) > KILL_PATIENCE),
        }
    }

    pub(crate) fn hit_start_limit(&self) -> bool {
        matches!(self.phase, Phase::Down { outcome: Outcome::StartLimitHit, .. })
    }

    /// ActiveState, SubState and Result.
    pub(crate) const fn words(&self) -> (ActiveState, &'static str, Outcome) {
        match self.phase {
            Phase::Up { .. } => (ActiveState::Active, "running", Outcome::Success),
            Phase::Ending { killed: Some(_), outcome, .. } => (ActiveState::Deactivating, "stop-sigkill", outcome),
            Phase::Ending { main: Some(_), outcome, .. } => (ActiveState::Deactivating, "stop-sigterm", outcome),
            Phase::Ending { main: None, outcome, .. } => (ActiveState::Deactivating, "final-sigterm", outcome),
            Phase::Waiting { outcome, .. } => (ActiveState::Activating, "auto-restart", outcome),
            Phase::Down { outcome: Outcome::Success, .. } => (ActiveState::Inactive, "dead", Outcome::Success),
            Phase::Down { outcome, .. } => (ActiveState::Failed, "failed", outcome),
        }
    }

    /// In systemd's words; `pids` are the service's processes as they were just found.
    pub(crate) fn state(&mut self, pids: Vec<u32>, now: Instant) -> UnitState {
        let (active, sub, outcome) = self.words();
        let will_restart = match self.phase {
            Phase::Waiting { until, .. } => self.has_budget(until.max(now)),
            Phase::Down { .. } | Phase::Up { .. } | Phase::Ending { .. } => false,
        };
        let main = self.main();
        UnitState {
            name: self.spec.name.clone(),
            active,
            sub: sub.to_owned(),
            result: outcome.as_str().to_owned(),
            invocation: self.invocation.clone(),
            main_pid: main.map_or(0, |main| main.pid),
            main_start: main.map_or(0, |main| main.start),
            restarts: self.restarts,
            since_ms: millis(now.duration_since(self.since)),
            will_restart,
            stopped_on_purpose: self.stopped_on_purpose(),
            needs_reload: false,
            cgroup: String::new(),
            pids,
        }
    }

    /// Also a service that ended by itself without a failure: systemd can't tell it from a stop, and neither means trouble.
    const fn stopped_on_purpose(&self) -> bool {
        matches!(self.phase, Phase::Down { by: By::Request, .. } | Phase::Down { outcome: Outcome::Success, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LauncherConfig;

    const MAIN: ProcessKey = ProcessKey { pid: 100, start: 1 };

    struct World {
        service: Service,
        now: Instant,
    }

    impl World {
        fn new(extra: &str) -> Self {
            let text = format!("[[service]]\nname = \"web\"\ncommand = [\"/x\"]\n{extra}");
            let spec = LauncherConfig::parse(&text).unwrap().services.remove(0);
            let now = Instant::now();
            Self { service: Service::new(spec, now), now }
        }

        fn on(&mut self, event: Event) -> Action {
            self.service.on(event, self.now)
        }

        fn up(&mut self) {
            assert_eq!(self.on(Event::StartAsked), Action::Spawn);
            assert_eq!(self.on(Event::Spawned(MAIN)), Action::Nothing);
        }

        fn crash(&mut self) {
            assert_eq!(self.on(Event::MainEnded(Outcome::Signal)), Action::Terminate);
            assert_eq!(self.on(Event::AllGone), Action::Nothing);
        }

        fn words(&mut self) -> (ActiveState, String, String, bool, bool) {
            let state = self.service.state(Vec::new(), self.now);
            (state.active, state.sub, state.result, state.will_restart, state.stopped_on_purpose)
        }

        /// ActiveState, SubState, Result, will restart, stopped on purpose.
        fn expect(&mut self, active: ActiveState, words: [&str; 2], flags: [bool; 2]) {
            let ([sub, result], [will_restart, on_purpose]) = (words.map(str::to_owned), flags);
            assert_eq!(self.words(), (active, sub, result, will_restart, on_purpose));
        }
    }

    #[test]
    fn a_crash_is_followed_by_a_restart_after_the_delay() {
        let mut world = World::new("");
        world.up();
        world.crash();
        world.expect(ActiveState::Activating, ["auto-restart", "signal"], [true, false]);
        world.now += Duration::from_secs(1);
        assert_eq!(world.on(Event::Deadline), Action::Spawn);
        world.on(Event::Spawned(MAIN));
        assert_eq!(world.service.state(Vec::new(), world.now).restarts, 1);
        world.expect(ActiveState::Active, ["running", "success"], [false, false]);
    }

    #[test]
    fn a_crash_stays_failed_where_restart_is_never_and_is_not_on_purpose() {
        let mut world = World::new("restart = \"never\"");
        world.up();
        world.crash();
        world.expect(ActiveState::Failed, ["failed", "signal"], [false, false]);
    }

    #[test]
    fn a_start_that_follows_a_kill_waits_for_the_last_process() {
        let mut world = World::new("restart = \"never\"");
        world.up();
        assert_eq!(world.on(Event::KillAsked), Action::Kill);
        assert_eq!(world.on(Event::StartAsked), Action::Nothing);
        assert_eq!(world.on(Event::MainEnded(Outcome::Signal)), Action::Nothing);
        assert_eq!(world.on(Event::AllGone), Action::Spawn);
    }

    #[test]
    fn what_is_killed_and_slow_to_end_is_killed_again_and_is_a_failure_that_nobody_wanted() {
        let mut world = World::new("restart = \"never\"");
        world.up();
        world.on(Event::KillAsked);
        world.expect(ActiveState::Deactivating, ["stop-sigkill", "success"], [false, false]);
        world.now += KILL_AGAIN;
        assert_eq!(world.on(Event::Deadline), Action::Kill);
        world.on(Event::MainEnded(Outcome::Signal));
        world.on(Event::AllGone);
        world.expect(ActiveState::Failed, ["failed", "signal"], [false, false]);
    }

    #[test]
    fn a_stop_by_request_is_on_purpose_even_when_it_took_a_kill() {
        let mut world = World::new("");
        world.up();
        assert_eq!(world.on(Event::StopAsked), Action::Terminate);
        world.expect(ActiveState::Deactivating, ["stop-sigterm", "success"], [false, false]);
        world.now += Duration::from_secs(10);
        assert_eq!(world.on(Event::Deadline), Action::Kill);
        world.on(Event::MainEnded(Outcome::Signal));
        assert!(world.service.is_ending(), "a stop is not done while a process is left");
        world.on(Event::AllGone);
        world.expect(ActiveState::Failed, ["failed", "timeout"], [false, true]);
    }

    #[test]
    fn the_start_limit_counts_every_start_and_is_lifted_by_reset_failed_or_by_time() {
        let mut world = World::new("start_limit_burst = 2\nrestart_delay = \"0s\"");
        world.up();
        world.crash();
        assert_eq!(world.on(Event::Deadline), Action::Spawn);
        world.on(Event::Spawned(MAIN));
        world.crash();
        world.expect(ActiveState::Activating, ["auto-restart", "signal"], [false, false]);
        assert_eq!(world.on(Event::Deadline), Action::Nothing);
        world.expect(ActiveState::Failed, ["failed", "start-limit-hit"], [false, false]);
        assert_eq!(world.on(Event::StartAsked), Action::Nothing, "asking does not help");
        assert!(world.service.hit_start_limit());
        world.on(Event::ResetAsked);
        assert_eq!(world.words().0, ActiveState::Inactive);
        world.up();
        world.crash();
        world.on(Event::Deadline);
        world.on(Event::Spawned(MAIN));
        world.crash();
        world.on(Event::Deadline);
        assert!(world.service.hit_start_limit());
        world.now += Duration::from_secs(10);
        assert_eq!(world.on(Event::StartAsked), Action::Spawn);
    }

    #[test]
    fn a_stop_cancels_the_restart_that_was_due_and_the_one_that_was_asked_for() {
        let mut world = World::new("");
        world.up();
        world.crash();
        world.on(Event::StopAsked);
        assert_eq!(world.service.deadline(), None);
        world.up();
        world.on(Event::RestartAsked);
        world.on(Event::StopAsked);
        world.on(Event::MainEnded(Outcome::Success));
        assert_eq!(world.on(Event::AllGone), Action::Nothing);
        world.expect(ActiveState::Inactive, ["dead", "success"], [false, true]);
    }

    #[test]
    fn a_restart_starts_only_after_the_last_process_is_gone() {
        let mut world = World::new("");
        world.up();
        assert_eq!(world.on(Event::RestartAsked), Action::Terminate);
        assert_eq!(world.on(Event::MainEnded(Outcome::Success)), Action::Nothing);
        assert_eq!(world.on(Event::AllGone), Action::Spawn);
    }

    #[test]
    fn no_sequence_of_events_starts_a_service_twice_or_leaves_the_table() {
        let events = [
            Event::StartAsked,
            Event::StopAsked,
            Event::RestartAsked,
            Event::ResetAsked,
            Event::KillAsked,
            Event::MainEnded(Outcome::Signal),
            Event::AllGone,
            Event::Deadline,
        ];
        let mut seed = 1_u64;
        let mut world = World::new("start_limit_burst = 100\nstart_limit_interval = \"1s\"");
        let mut running = false;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let event = events[usize::try_from(seed >> 33).unwrap() % events.len()];
            // The world tells the truth: nothing can be gone while the main process runs.
            if running && event == Event::AllGone && world.service.main().is_some() {
                continue;
            }
            world.now += Duration::from_millis(300);
            if world.on(event) == Action::Spawn {
                assert!(world.service.main().is_none(), "{event:?} started a second one");
                world.on(Event::Spawned(MAIN));
                running = true;
            }
        }
    }
}
