//! The local sampler: one tick reads every listed target and the machine, and keeps the last readings of each series.
//!
//! The agent and the runner each have their own, so that the runner never has to believe the agent's numbers.

use std::collections::{BTreeMap, VecDeque};

use theriac_model::catalog::TargetSpec;
use theriac_model::container::ContainerState;
use theriac_model::effect::GroupId;
use theriac_model::id::{Label, UnitName};
use theriac_model::observation::{Metric, Sample, SeriesId};
use theriac_model::target::Target;
use theriac_model::time::Timestamp;
use theriac_model::unit::UnitState;

use crate::facts::{self, Facts};
use crate::fs;
use crate::group::{Groups, Reading, Spared, monotonic_ns};
use crate::proc::{self, CpuTimes, Reader};

/// Readings kept per series: ten minutes at one a second, 9.6 KB.
const HISTORY: usize = 600;

/// Reads the listed targets and the machine, tick by tick.
#[derive(Debug)]
pub struct Sampler {
    specs: Vec<TargetSpec>,
    proc: Reader,
    groups: Groups,
    host: Option<HostCounters>,
    oom: OomWatch,
    units: BTreeMap<UnitName, UnitCounters>,
    series: BTreeMap<SeriesId, VecDeque<(Timestamp, f64)>>,
}

/// Counters of the machine at the last tick.
#[derive(Debug, Clone, Copy)]
struct HostCounters {
    at_ns: u64,
    cpu: CpuTimes,
    swapped: u64,
    oom_kills: u64,
}

/// Counters of a unit at the last tick.
#[derive(Debug, Default)]
struct UnitCounters {
    reading: Option<Reading>,
    /// The cgroup's own counter, which starts again with each cgroup.
    cgroup_kills: Option<u64>,
    /// Kills since the probe started.
    kills: u64,
    /// The run of the unit whose end was already looked at.
    judged: Option<(String, u32)>,
}

/// Whether the machine counted an OOM kill. The kernel counts before the victim is gone, and its end takes a service manager to
/// be told: it may be seen a tick later.
#[derive(Debug, Default)]
struct OomWatch {
    in_last_tick: bool,
}

impl OomWatch {
    /// In this tick or in the last one.
    fn see(&mut self, in_this_tick: bool) -> bool {
        std::mem::replace(&mut self.in_last_tick, in_this_tick) || in_this_tick
    }
}

/// What one tick collects.
struct Tick<'a> {
    now: Timestamp,
    samples: Vec<Sample>,
    series: &'a mut BTreeMap<SeriesId, VecDeque<(Timestamp, f64)>>,
}

impl Tick<'_> {
    fn add(&mut self, target: &Target, metric: Metric, value: Option<f64>) {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            self.push(Sample { series: SeriesId { target: target.clone(), metric }, at: self.now, value });
        }
    }

    fn push(&mut self, sample: Sample) {
        let history = self.series.entry(sample.series.clone()).or_insert_with(|| VecDeque::with_capacity(HISTORY));
        // A clock that was set back leaves readings from the future: they would outlive every window.
        while history.back().is_some_and(|(at, _)| *at > sample.at) {
            history.pop_back();
        }
        if history.back().is_some_and(|(at, _)| *at == sample.at) {
            history.pop_back();
        }
        if history.len() == HISTORY {
            history.pop_front();
        }
        history.push_back((sample.at, sample.value));
        self.samples.push(sample);
    }
}

impl Sampler {
    /// A sampler of these targets on the running machine. The machine itself is always sampled.
    pub fn new(specs: Vec<TargetSpec>) -> Self {
        Self {
            specs,
            proc: Reader::live(),
            groups: Groups::live(),
            host: None,
            oom: OomWatch::default(),
            units: BTreeMap::new(),
            series: BTreeMap::new(),
        }
    }

    /// The targets with their thresholds.
    pub fn specs(&self) -> &[TargetSpec] {
        &self.specs
    }

    /// The target's entry in the configuration.
    pub fn spec(&self, target: &Target) -> Option<&TargetSpec> {
        self.specs.iter().find(|spec| spec.target == *target)
    }

    /// Takes another list of targets and keeps the history of those that stay.
    pub fn set_specs(&mut self, specs: Vec<TargetSpec>) {
        self.specs = specs;
        let listed = |target: &Target| *target == Target::Host || self.specs.iter().any(|spec| spec.target == *target);
        self.series.retain(|id, _| listed(&id.target));
        self.units.retain(|name, _| self.specs.iter().any(|spec| spec.target == Target::Unit(name.clone())));
    }

    /// Reads everything once.
    #[expect(clippy::cast_precision_loss, reason = "a sample is a float; 53 bits hold every second of a certificate")]
    pub fn sample(&mut self, now: Timestamp, facts: &Facts) -> Vec<Sample> {
        let Self { specs, proc, groups, host, oom, units, series } = self;
        let mut tick = Tick { now, samples: Vec::with_capacity(series.len()), series };
        let before = *host;
        let counters = read_host(proc, &mut tick);
        if let Some(counters) = counters {
            rates(before, counters, &mut tick);
        }
        *host = counters;
        let machine = Machine {
            cpus: counters.map_or(1, |counters| counters.cpu.cpus),
            oom_killed: oom.see(before.zip(counters).is_some_and(|(before, now)| now.oom_kills > before.oom_kills)),
        };
        let mut spared = None;
        for spec in specs.iter() {
            match &spec.target {
                Target::Mount(path) => sample_mount(path.as_path(), &spec.target, &mut tick),
                Target::Unit(name) => {
                    let Some(state) = facts.units.get(name) else { continue };
                    let counters = units.entry(name.clone()).or_default();
                    let spared = spared.get_or_insert_with(|| groups.spared());
                    let unit = Unit { name, state, target: &spec.target };
                    sample_unit(unit, counters, (groups, spared), (facts, machine), &mut tick);
                }
                Target::Certificate(name) => {
                    let reading = facts.certificates.get(name);
                    let left = reading.and_then(|reading| reading.left_s(now)).map(|seconds| seconds as f64);
                    tick.add(&spec.target, Metric::CertificateLeft, left);
                }
                Target::Container(label) => {
                    let Some(state) = facts.containers.get(label) else { continue };
                    sample_container(label, state, spec, &mut tick);
                }
                Target::Pool(database) => {
                    let Some(state) = facts.pools.get(database) else { continue };
                    tick.push(facts::pool_sample(database, *state, now));
                }
                Target::Host => {}
            }
        }
        tick.samples
    }

    /// The newest reading.
    pub fn latest(&self, series: &SeriesId) -> Option<(Timestamp, f64)> {
        self.series.get(series)?.back().copied()
    }

    /// The readings of the last seconds before the newest one, oldest first.
    pub fn range(&self, series: &SeriesId, seconds: u32) -> Vec<(Timestamp, f64)> {
        self.window(series, seconds).collect()
    }

    /// The same without a copy.
    pub fn window(
        &self,
        series: &SeriesId,
        seconds: u32,
    ) -> impl DoubleEndedIterator<Item = (Timestamp, f64)> + Clone + '_ {
        let history = self.series.get(series);
        let newest = history.and_then(|history| history.back()).map_or(0, |(at, _)| at.0);
        let oldest = Timestamp(newest.saturating_sub(u64::from(seconds) * 1000));
        history.into_iter().flatten().copied().filter(move |(at, _)| *at >= oldest)
    }

    /// How many series it keeps.
    pub fn series(&self) -> usize {
        self.series.len()
    }

    /// Puts a reading into the history.
    #[cfg(test)]
    pub(crate) fn insert(&mut self, target: &Target, metric: Metric, at: Timestamp, value: f64) {
        Tick { now: at, samples: Vec::new(), series: &mut self.series }.add(target, metric, Some(value));
    }
}

/// What of the machine matters for its units.
#[derive(Debug, Clone, Copy)]
struct Machine {
    cpus: u32,
    oom_killed: bool,
}

/// One unit in a tick.
#[derive(Clone, Copy)]
struct Unit<'a> {
    name: &'a UnitName,
    state: &'a UnitState,
    target: &'a Target,
}

#[expect(clippy::cast_precision_loss, reason = "a sample is a float; 53 bits hold every byte count of a machine")]
fn read_host(proc: &mut Reader, tick: &mut Tick<'_>) -> Option<HostCounters> {
    let host = &Target::Host;
    tick.add(host, Metric::HostLoad1, proc.read(format_args!("loadavg")).and_then(proc::parse_load1));
    if let Some(text) = proc.read(format_args!("meminfo")) {
        let (total, available) = (proc::parse_kib(text, "MemTotal"), proc::parse_kib(text, "MemAvailable"));
        tick.add(host, Metric::HostMemoryAvailable, available.map(|bytes| bytes as f64));
        let share = total.zip(available).map(|(total, available)| fs::permille(available, total));
        tick.add(host, Metric::HostMemoryAvailableShare, share);
    }
    let pressures = [
        ("cpu", "some", Metric::HostCpuPressure),
        ("memory", "full", Metric::HostMemoryPressure),
        ("io", "full", Metric::HostIoPressure),
    ];
    for (file, line, metric) in pressures {
        let value = proc.read(format_args!("pressure/{file}")).and_then(|text| proc::parse_pressure(text, line));
        tick.add(host, metric, value);
    }
    let vmstat = proc.read(format_args!("vmstat"))?;
    let counter = |name| proc::parse_counter(vmstat, name);
    let swapped = counter("pswpin").unwrap_or(0).saturating_add(counter("pswpout").unwrap_or(0));
    let oom_kills = counter("oom_kill").unwrap_or(0);
    let cpu = proc.read(format_args!("stat")).and_then(proc::parse_cpu)?;
    Some(HostCounters { at_ns: monotonic_ns(), cpu, swapped, oom_kills })
}

fn rates(before: Option<HostCounters>, now: HostCounters, tick: &mut Tick<'_>) {
    let Some(before) = before else { return };
    let total = now.cpu.total.saturating_sub(before.cpu.total);
    if total > 0 {
        let steal = now.cpu.steal.saturating_sub(before.cpu.steal);
        // /proc/stat's idle time can step back by a tick on some kernels; a share is never negative.
        let idle = now.cpu.idle.saturating_sub(before.cpu.idle);
        let busy = total.saturating_sub(idle).saturating_sub(steal);
        tick.add(&Target::Host, Metric::HostCpu, Some(fs::permille(busy, total)));
        tick.add(&Target::Host, Metric::HostSteal, Some(fs::permille(steal, total)));
    }
    let seconds = std::time::Duration::from_nanos(now.at_ns.saturating_sub(before.at_ns)).as_secs_f64();
    if seconds > 0.0 {
        let pages = u32::try_from(now.swapped.saturating_sub(before.swapped)).unwrap_or(u32::MAX);
        tick.add(&Target::Host, Metric::HostSwapPages, Some(f64::from(pages) / seconds));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a sample is a float; 53 bits hold every byte count of a machine")]
fn sample_mount(path: &std::path::Path, target: &Target, tick: &mut Tick<'_>) {
    let Ok(space) = fs::space_of_mount(path) else { return };
    tick.add(target, Metric::DiskAvailable, Some(space.available_permille()));
    tick.add(target, Metric::DiskAvailableBytes, Some(space.available as f64));
    tick.add(target, Metric::InodesAvailable, space.inodes_permille());
}

#[expect(clippy::cast_precision_loss, reason = "a sample is a float; 53 bits hold every byte count of a machine")]
fn sample_unit(
    unit: Unit<'_>,
    counters: &mut UnitCounters,
    (groups, spared): (&mut Groups, &Spared),
    (facts, machine): (&Facts, Machine),
    tick: &mut Tick<'_>,
) {
    for sample in facts::unit_samples(unit.name, unit.state, tick.now) {
        tick.push(sample);
    }
    if let Some(sample) = facts.health.get(unit.target).and_then(|streak| facts::health_sample(unit.target, streak)) {
        let series = tick.series.get(&sample.series).and_then(VecDeque::back);
        // One answer is one sample, however many ticks pass before the next answer.
        if series.is_none_or(|(at, _)| *at != sample.at) {
            tick.push(sample);
        }
    }
    if let Ok(reading) = groups.read_sparing(spared, &GroupId::Unit(unit.name.clone()), facts) {
        if let Some(millicores) = counters.reading.as_ref().and_then(|earlier| reading.millicores_since(earlier)) {
            tick.add(unit.target, Metric::UnitCpu, Some(f64::from(millicores)));
            let share = f64::from(millicores) / f64::from(machine.cpus);
            tick.add(unit.target, Metric::UnitCpuShare, Some(share.min(1000.0)));
        }
        tick.add(unit.target, Metric::UnitMemory, Some(reading.memory as f64));
        tick.add(unit.target, Metric::UnitProcesses, Some(f64::from(reading.processes())));
        counters.reading = Some(reading);
    } else {
        counters.reading = None;
    }
    count_kills(unit.state, counters, groups, machine.oom_killed);
    tick.add(unit.target, Metric::UnitOomKills, Some(counters.kills as f64));
}

fn sample_container(label: &Label, state: &ContainerState, spec: &TargetSpec, tick: &mut Tick<'_>) {
    for sample in facts::container_samples(label, state, tick.now) {
        tick.push(sample);
    }
    let within = spec.thresholds.loop_within.duration();
    let series = SeriesId { target: spec.target.clone(), metric: Metric::ContainerRestarts };
    let history = tick.series.get(&series).into_iter().flatten();
    let since = tick.now.0.saturating_sub(theriac_model::time::millis(within));
    let recent = rises(history.filter(|(at, _)| at.0 >= since).map(|(_, value)| *value));
    tick.add(&spec.target, Metric::ContainerRecentRestarts, Some(recent));
}

/// How far a counter has come, which begins at 0 again when somebody starts the container by hand.
fn rises(values: impl Iterator<Item = f64>) -> f64 {
    let step = |(sum, last): (f64, Option<f64>), now: f64| {
        let rose = last.map_or(0.0, |last| if now >= last { now - last } else { now });
        (sum + rose, Some(now))
    };
    values.fold((0.0, None), step).0
}

/// Adds what the unit's cgroup counted. A cgroup dies with its unit and takes the counter along (and version 1 says `signal`,
/// never `oom-kill`): then a unit that was killed in the tick in which the machine counted a kill, or in the next, was the victim.
fn count_kills(state: &UnitState, counters: &mut UnitCounters, groups: &Groups, machine_killed: bool) {
    let kills = groups.tree().oom_kills(&state.cgroup);
    let rose = match (counters.cgroup_kills, kills) {
        (Some(before), Some(now)) if now >= before => now - before,
        (Some(_), Some(now)) => now,
        (None, _) | (_, None) => 0,
    };
    counters.kills = counters.kills.saturating_add(rose);
    counters.cgroup_kills = kills;
    let end = (state.invocation.clone(), state.restarts);
    let told = state.result == "oom-kill" || (state.result == "signal" && machine_killed);
    let counted = rose > 0 || counters.judged.as_ref() == Some(&end);
    if !state.is_up() && told {
        counters.kills = counters.kills.saturating_add(u64::from(!counted));
        counters.judged = Some(end);
    }
}

#[cfg(test)]
mod tests {
    use theriac_model::catalog::Thresholds;
    use theriac_model::health::HealthAnswer;
    use theriac_model::unit::ActiveState;

    use super::*;
    use crate::facts::HealthStreak;
    use crate::facts::tests::unit;

    fn spec(target: &str) -> TargetSpec {
        TargetSpec {
            target: target.parse().unwrap(),
            traffic_share: None,
            health: Vec::new(),
            thresholds: Thresholds::default(),
            backend: None,
        }
    }

    fn series(target: &str, metric: Metric) -> SeriesId {
        SeriesId { target: target.parse().unwrap(), metric }
    }

    #[test]
    fn the_machine_a_mount_and_a_unit_are_sampled() {
        let mut sampler = Sampler::new(vec![spec("mount:/"), spec("unit:web")]);
        let mut state = unit("web");
        // The shell that started the tests is an ancestor and no member: a process of its own is needed to see anything.
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        state.pids = vec![child.id()];
        let facts = Facts { units: [(state.name.clone(), state)].into(), ..Facts::default() };
        sampler.sample(Timestamp(1_000), &facts);
        sampler.sample(Timestamp(2_000), &facts);
        child.kill().unwrap();
        child.wait().unwrap();
        for (target, metric) in [
            ("host", Metric::HostLoad1),
            ("host", Metric::HostMemoryAvailableShare),
            ("mount:/", Metric::DiskAvailable),
            ("mount:/", Metric::DiskAvailableBytes),
            ("unit:web", Metric::UnitUp),
            ("unit:web", Metric::UnitMemory),
            ("unit:web", Metric::UnitCpuShare),
        ] {
            let (at, value) = sampler.latest(&series(target, metric)).unwrap_or_else(|| panic!("{metric:?}"));
            assert!(at == Timestamp(2_000) && value.is_finite());
        }
        assert_eq!(sampler.latest(&series("unit:web", Metric::UnitProcesses)), Some((Timestamp(2_000), 1.0)));
    }

    #[test]
    fn a_mount_point_without_a_mount_has_no_samples() {
        let dir = tempfile::tempdir().unwrap();
        let target = format!("mount:{}", dir.path().display());
        let mut sampler = Sampler::new(vec![spec(&target)]);
        sampler.sample(Timestamp(1), &Facts::default());
        assert_eq!(sampler.latest(&series(&target, Metric::DiskAvailable)), None);
    }

    #[test]
    fn the_history_is_a_ring_and_a_range_counts_back_from_the_newest() {
        let mut sampler = Sampler::new(Vec::new());
        for second in 0..1_000_u32 {
            sampler.insert(&Target::Host, Metric::HostLoad1, Timestamp(u64::from(second) * 1000), f64::from(second));
        }
        let load = series("host", Metric::HostLoad1);
        assert_eq!(sampler.range(&load, 100_000).len(), HISTORY);
        let values: Vec<f64> = sampler.range(&load, 2).into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, [997.0, 998.0, 999.0]);
    }

    #[test]
    fn a_clock_set_back_leaves_no_readings_from_the_future() {
        let mut sampler = Sampler::new(Vec::new());
        for at in [1_000, 2_000, 9_000_000, 3_000] {
            sampler.insert(&Target::Host, Metric::HostLoad1, Timestamp(at), 1.0);
        }
        let load = series("host", Metric::HostLoad1);
        let times: Vec<u64> = sampler.range(&load, 600).into_iter().map(|(at, _)| at.0).collect();
        assert_eq!(times, [1_000, 2_000, 3_000]);
    }

    #[test]
    fn one_health_answer_is_one_sample() {
        let mut sampler = Sampler::new(vec![spec("unit:web")]);
        let state = unit("web");
        let mut facts = Facts { units: [(state.name.clone(), state)].into(), ..Facts::default() };
        let answer = HealthAnswer { ok: false, latency_ms: 1, detail: "answered 503".into() };
        let target: Target = "unit:web".parse().unwrap();
        facts.health.insert(target.clone(), HealthStreak::after(None, answer.clone(), Timestamp(500)));
        for at in [1_000, 2_000, 3_000] {
            sampler.sample(Timestamp(at), &facts);
        }
        let healthy = series("unit:web", Metric::UnitHealthy);
        assert_eq!(sampler.range(&healthy, 600), [(Timestamp(500), 0.0)]);
        let streak = HealthStreak::after(facts.health.get(&target), answer, Timestamp(3_500));
        facts.health.insert(target, streak);
        sampler.sample(Timestamp(4_000), &facts);
        assert_eq!(sampler.range(&healthy, 600).len(), 2);
    }

    #[test]
    fn a_unit_that_the_kernel_killed_is_counted_once_for_each_end() {
        let groups = Groups::live();
        let mut state = unit("web.service");
        let mut counters = UnitCounters::default();
        state.active = ActiveState::Failed;
        state.result = "signal".into();
        count_kills(&state, &mut counters, &groups, false);
        assert_eq!(counters.kills, 0, "a plain SIGKILL is no OOM kill");
        count_kills(&state, &mut counters, &groups, true);
        count_kills(&state, &mut counters, &groups, true);
        assert_eq!(counters.kills, 1);
        state.invocation = "f".repeat(32);
        state.result = "oom-kill".into();
        count_kills(&state, &mut counters, &groups, false);
        assert_eq!(counters.kills, 2);
    }

    #[test]
    fn a_victim_whose_end_is_seen_a_tick_after_the_kill_was_counted_is_known_and_a_later_end_is_not_one() {
        let mut watch = OomWatch::default();
        assert!(!watch.see(false));
        assert!(watch.see(true), "the tick of the kill");
        assert!(watch.see(false), "the tick in which the victim's end is seen");
        assert!(!watch.see(false), "whoever ends now ended of something else");
    }

    #[test]
    fn a_target_that_is_no_longer_listed_is_forgotten() {
        let mut sampler = Sampler::new(vec![spec("mount:/")]);
        sampler.sample(Timestamp(1), &Facts::default());
        sampler.set_specs(Vec::new());
        assert_eq!(sampler.latest(&series("mount:/", Metric::DiskAvailable)), None);
        assert!(sampler.latest(&series("host", Metric::HostLoad1)).is_some());
    }
}
