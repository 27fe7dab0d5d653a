//! What the kernel says of a unit: its own files in the machine's cgroups, on version 1, version 2 and the hybrid of both.

use std::fs;
use std::time::{Duration, Instant};

use super::machine::Machine;

/// Between two readings of CPU time; less is noise.
const WINDOW: Duration = Duration::from_millis(300);

/// The first of these files that the unit's cgroup has.
fn read(machine: &Machine, unit: &str, files: &[(&str, &str)]) -> Option<String> {
    let cgroups = machine.place().cgroups();
    let path = |(hierarchy, file): &(&str, &str)| cgroups.join(hierarchy).join("system.slice").join(unit).join(file);
    files.iter().find_map(|file| fs::read_to_string(path(file)).ok())
}

fn counter(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The CPU quota in thousandths of a core; `None`: it may take all there is.
pub(super) fn cpu_quota(machine: &Machine, unit: &str) -> Option<u64> {
    let v1 = |file| read(machine, unit, &[("cpu", file)]);
    let both = v1("cpu.cfs_quota_us").zip(v1("cpu.cfs_period_us")).map(|(quota, period)| format!("{quota} {period}"));
    let text = read(machine, unit, &[("", "cpu.max")]).or(both)?;
    let mut words = text.split_ascii_whitespace();
    // `max` and -1 are none.
    let quota: u64 = words.next()?.parse().ok()?;
    let period: u64 = words.next()?.parse().unwrap();
    Some(quota * 1000 / period)
}

fn cpu_time(machine: &Machine, unit: &str) -> Option<Duration> {
    if let Some(text) = read(machine, unit, &[("cpuacct", "cpuacct.usage"), ("cpu,cpuacct", "cpuacct.usage")]) {
        return Some(Duration::from_nanos(text.trim().parse().unwrap()));
    }
    let text = read(machine, unit, &[("", "cpu.stat"), ("unified", "cpu.stat")])?;
    counter(&text, "usage_usec").map(Duration::from_micros)
}

/// The unit's share of all CPUs over the last moment, once there were two readings.
pub(super) fn cpu_share<'m>(machine: &'m Machine, unit: &'m str) -> impl FnMut() -> Option<f64> + 'm {
    let cpus = f64::from(u32::try_from(cpus()).unwrap());
    let mut last: Option<(Instant, Duration)> = None;
    let mut share = None;
    move || {
        let (at, time) = (Instant::now(), cpu_time(machine, unit)?);
        match last {
            Some((before, _)) if at - before < WINDOW => return share,
            // A restarted unit has a new cgroup, which counts from 0.
            Some((before, earlier)) if time >= earlier => {
                share = Some((time - earlier).as_secs_f64() / (at - before).as_secs_f64() / cpus);
            }
            Some(_) | None => share = None,
        }
        last = Some((at, time));
        share
    }
}

/// CPUs of the machine, which a container shares with us.
pub(super) fn cpus() -> usize {
    std::thread::available_parallelism().unwrap().get()
}

/// Anonymous memory in bytes.
pub(super) fn anonymous(machine: &Machine, unit: &str) -> Option<u64> {
    if let Some(text) = read(machine, unit, &[("memory", "memory.stat")]) {
        return counter(&text, "total_rss");
    }
    counter(&read(machine, unit, &[("", "memory.stat")])?, "anon")
}

/// Where the kernel begins to reclaim from the unit: `None` on version 1, which has no such thing.
pub(super) fn memory_high(machine: &Machine, unit: &str) -> Option<String> {
    read(machine, unit, &[("", "memory.high")]).map(|text| text.trim().to_owned())
}

/// How often the unit was throttled for being above it.
pub(super) fn times_above_high(machine: &Machine, unit: &str) -> Option<u64> {
    counter(&read(machine, unit, &[("", "memory.events")])?, "high")
}
