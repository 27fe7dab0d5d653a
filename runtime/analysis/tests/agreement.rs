//! The agent's default rules and the runner's own conditions agree: what a rule calls a fault, the runner measures as present, and
//! what it does not, the runner measures as absent. Else proposals would be refused that are right, or never made.

#![expect(clippy::unwrap_used, reason = "a fixture of tests; a failure here is a failed test")]

use theriac_analysis::detect::{Detector, RuleSet};
use theriac_model::catalog::{TargetSpec, Thresholds};
use theriac_model::database::PoolState;
use theriac_model::fault::FaultKind;
use theriac_model::health::HealthAnswer;
use theriac_model::id::Label;
use theriac_model::target::Target;
use theriac_model::time::{Span, Timestamp};
use theriac_model::unit::{ActiveState, UnitState};
use theriac_model::units::{Bytes, Permille};
use theriac_probe::{Facts, HealthStreak, Sampler, precondition};

const START: u64 = 1_795_000_000_000;

struct World {
    sampler: Sampler,
    detector: Detector,
    target: Target,
    facts: Facts,
    now: Timestamp,
    fired: Vec<FaultKind>,
}

impl World {
    fn new(target: &str, thresholds: Thresholds) -> Self {
        let target: Target = target.parse().unwrap();
        let spec =
            TargetSpec { target: target.clone(), traffic_share: None, health: Vec::new(), thresholds, backend: None };
        let mut facts = Facts::default();
        if let Target::Unit(name) = &target {
            facts.units.insert(name.clone(), UnitState::running(name.clone()));
        }
        Self {
            detector: Detector::new(RuleSet::defaults().unwrap(), std::slice::from_ref(&spec)),
            sampler: Sampler::new(vec![spec]),
            target,
            facts,
            now: Timestamp(START),
            fired: Vec::new(),
        }
    }

    fn unit(mut self, change: impl Fn(&mut UnitState)) -> Self {
        self.facts.units.values_mut().for_each(change);
        self
    }

    /// Ticks of one second each, by the given clock: nothing is waited for.
    fn ticks(mut self, count: usize) -> Self {
        for _ in 0..count {
            self.now = Timestamp(self.now.0 + 1_000);
            let samples = self.sampler.sample(self.now, &self.facts);
            let signals = self.detector.observe(self.now, &samples);
            self.fired.extend(signals.iter().filter(|signal| !signal.resolved).map(|signal| signal.kind));
        }
        self
    }

    fn check(&self, kind: FaultKind, wanted: bool) {
        let measured = precondition(kind, &self.target, &self.sampler, &self.facts, self.now).unwrap();
        assert_eq!(self.fired.contains(&kind), wanted, "the rule for {kind}; fired: {:?}", self.fired);
        assert_eq!(measured.present, Some(wanted), "the runner's condition for {kind}: {}", measured.summary);
    }
}

const WEB: &str = "unit:web";

#[test]
fn on_a_full_disk_and_on_one_with_room() {
    for (share, wanted) in [(Permille::FULL, true), (Permille::ZERO, false)] {
        let thresholds = Thresholds { disk_full: share, inodes: share, ..Thresholds::default() };
        let world = World::new("mount:/", thresholds).ticks(2);
        world.check(FaultKind::DiskFull, wanted);
        world.check(FaultKind::InodeExhaustion, wanted);
    }
}

#[test]
fn on_a_pool_that_is_exhausted_and_on_one_with_room() {
    for (used, wanted) in [(90, true), (89, false)] {
        let mut world = World::new("pool:main", Thresholds::default());
        world.facts.pools.insert(Label::parse("main").unwrap(), PoolState::Counted { used, max: 103, reserved: 3 });
        world.ticks(2).check(FaultKind::DbConnectionsExhausted, wanted);
    }
}

#[test]
fn on_a_unit_that_is_up_and_one_that_crashed() {
    World::new(WEB, Thresholds::default()).ticks(2).check(FaultKind::ServiceCrash, false);
    let failed = |state: &mut UnitState| {
        state.active = ActiveState::Failed;
        state.result = "exit-code".into();
    };
    let world = World::new(WEB, Thresholds::default()).unit(failed).ticks(1);
    world.check(FaultKind::ServiceCrash, true);
}

#[test]
fn on_a_unit_whose_start_limit_was_hit() {
    let limited = |state: &mut UnitState| {
        state.active = ActiveState::Failed;
        state.result = "start-limit-hit".into();
    };
    World::new(WEB, Thresholds::default()).unit(limited).ticks(1).check(FaultKind::StartLimitHit, true);
    World::new(WEB, Thresholds::default()).ticks(1).check(FaultKind::StartLimitHit, false);
}

#[test]
fn on_a_unit_that_was_stopped_on_purpose() {
    let stopped = |state: &mut UnitState| {
        state.active = ActiveState::Inactive;
        state.stopped_on_purpose = true;
    };
    World::new(WEB, Thresholds::default()).unit(stopped).ticks(3).check(FaultKind::ServiceCrash, false);
}

#[test]
fn on_failed_health_checks_in_a_row() {
    for (checks, wanted) in [(3, true), (2, false)] {
        let mut world = World::new(WEB, Thresholds::default());
        for _ in 0..checks {
            let answer = HealthAnswer { ok: false, latency_ms: 1, detail: "answered 503".into() };
            let at = Timestamp(world.now.0 + 500);
            let streak = HealthStreak::after(world.facts.health.get(&world.target), answer, at);
            world.facts.health.insert(world.target.clone(), streak);
            // Three ticks for each answer: ticks are not checks.
            world = world.ticks(3);
        }
        world.check(FaultKind::ServiceUnhealthy, wanted);
    }
}

#[test]
fn on_memory_over_a_limit_and_under_it() {
    let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
    let id = child.id();
    for (limit, wanted) in [(1, true), (1 << 40, false)] {
        let thresholds = Thresholds { memory: Some(Bytes(limit)), ..Thresholds::default() };
        let world = World::new(WEB, thresholds).unit(|state| state.pids = vec![id]).ticks(4);
        world.check(FaultKind::MemoryLeak, wanted);
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn on_cpu_over_a_share_for_long_enough_and_under_it() {
    let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
    let id = child.id();
    // Any process takes at least nothing, and a sleeping one takes less than everything.
    for (cpu_share, wanted) in [(Permille::ZERO, true), (Permille::FULL, false)] {
        let thresholds = Thresholds { cpu_share, cpu_for: Span::from_secs(5), ..Thresholds::default() };
        let world = World::new(WEB, thresholds).unit(|state| state.pids = vec![id]).ticks(9);
        world.check(FaultKind::CpuSaturation, wanted);
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn on_an_oom_kill_that_ended_the_unit() {
    let killed = |state: &mut UnitState| {
        state.active = ActiveState::Failed;
        state.result = "oom-kill".into();
    };
    let world = World::new(WEB, Thresholds::default()).ticks(12).unit(killed).ticks(3);
    world.check(FaultKind::OomKill, true);
    World::new(WEB, Thresholds::default()).ticks(12).check(FaultKind::OomKill, false);
}
