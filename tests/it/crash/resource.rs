//! Services that spin, leak, or are killed for their memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity};
use theriac_model::run::RunState;

use super::service::{stage_in, started_once_at_most};
use super::stage::{Stage, cpus};
use crate::host::{Host, PATIENCE, Service, pause};
use crate::releases::Releases;

/// Spins on every CPU, ahead of others; confined to half of them it is below the threshold.
pub(super) fn spinning() -> Stage {
    spins(0.55, push_forward)
}

/// The threshold is so low that a throttle does not help, and a restart does.
pub(super) fn spinning_on() -> Stage {
    spins(0.02, |_| ())
}

fn spins(threshold: f64, before_it_spins: fn(Pid)) -> Stage {
    let dir = Host::scratch();
    let spin = dir.path().join("spin");
    let mut hog = Service::new("hog");
    hog.args = vec!["--spin-when".into(), spin.display().to_string()];
    hog.rules = format!("processes = [\"set-affinity\", \"renice\"]\ncpu_share = {threshold}\ncpu_for = \"1s\"");
    stage_in(dir, "cpu-saturation", &hog, move |host, hog| {
        Host::wait_for_status(&hog, "200");
        let pid = host.main_pid("hog");
        let before = masks(pid);
        before_it_spins(pid);
        fs::write(spin, "").unwrap();
        wait_until_it_takes(pid, threshold);
        let once = at_most_one_start(host, hog);
        Box::new(move |host, state| {
            let starts = once(host, state);
            let now = masks(pid);
            if starts > 0 || now.is_empty() {
                return;
            }
            let all = before_count(&before);
            let wanted = if state == RunState::Committed { 1.max(all / 2) } else { all };
            assert!(
                now.iter().all(|mask| mask.count() as usize == wanted),
                "{state}: its threads may use {:?} CPUs, not {wanted}",
                now.iter().map(CpuSet::count).collect::<Vec<_>>()
            );
        })
    })
}

fn before_count(masks: &[CpuSet]) -> usize {
    masks.first().map_or_else(cpus, |mask| mask.count() as usize)
}

/// Like [`started_once_at_most`], but a run may help without a start.
fn at_most_one_start(host: &Host, service: Service) -> impl Fn(&Host, RunState) -> usize + use<> {
    let before = super::stage::starts_of(host, service.name);
    move |host, state| {
        Host::wait_for_status(&service, "200");
        let starts = super::stage::starts_of(host, service.name) - before;
        assert!(starts <= 1, "{state}: it was started {starts} times for one fault");
        starts
    }
}

/// The CPUs that each of its threads may use; none when it is gone.
fn masks(pid: Pid) -> Vec<CpuSet> {
    threads(pid).filter_map(|thread| sched_getaffinity(Some(thread)).ok()).collect()
}

fn threads(pid: Pid) -> impl Iterator<Item = Pid> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok().and_then(Pid::from_raw))
}

/// Where we may, ahead of whatever else this machine does at the moment: the fault has to be there. A service is a session of
/// its own, and where the kernel schedules by sessions a nice value counts inside of one only: the session has its own.
fn push_forward(pid: Pid) {
    // As much as nine other busy sessions together.
    fs::write(format!("/proc/{pid}/autogroup"), "-10").ok();
    for thread in threads(pid) {
        rustix::process::setpriority_process(Some(thread), -10).ok();
    }
}

/// Waits until it has taken that share of the machine for a second.
fn wait_until_it_takes(pid: Pid, share: f64) {
    let deadline = Instant::now() + PATIENCE;
    let (mut since, mut ticks) = (Instant::now(), ticks_of(pid));
    loop {
        pause();
        let passed = since.elapsed();
        if passed < Duration::from_secs(1) {
            continue;
        }
        let now = ticks_of(pid);
        // A tick is 10 ms on every Linux.
        let taken = f64::from(u32::try_from(now - ticks).unwrap()) / 100.0 / passed.as_secs_f64();
        let taken = taken / f64::from(u32::try_from(cpus()).unwrap());
        if taken >= share {
            return;
        }
        assert!(Instant::now() < deadline, "it takes {taken:.2} of the machine and has to take {share}");
        (since, ticks) = (Instant::now(), now);
    }
}

fn ticks_of(pid: Pid) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // After the name, which may hold anything: fields 14 and 15 are user and system time.
    let rest = stat.rsplit_once(") ").unwrap().1;
    rest.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

pub(super) fn leaking() -> Stage {
    let dir = Host::scratch();
    let leak = dir.path().join("leak");
    let mut leaker = Service::new("leaker");
    leaker.args = vec!["--leak-when".into(), leak.display().to_string()];
    leaker.rules = "memory_limit = \"64MiB\"".into();
    stage_in(dir, "memory-leak", &leaker, move |host, leaker| {
        Host::wait_for_status(&leaker, "200");
        let pid = host.main_pid("leaker");
        fs::write(leak, "").unwrap();
        wait_for_memory(pid, 80 << 10);
        started_once_at_most(host, leaker)
    })
}

/// It leaks since it runs v2.3.2, and can go back to v2.3.1.
pub(super) fn leaking_since_its_release() -> Stage {
    let dir = Host::scratch();
    let releases = Releases::make(dir.path());
    releases.put("v2.3.2", "leaks");
    let mut leaker = Service::new("leaker");
    leaker.args = vec!["--leak-when".into(), releases.file("leaks")];
    leaker.rules = format!("memory_limit = \"64MiB\"{}", releases.listed("leaker", "\"switch-back\""));
    stage_in(dir, "memory-leak", &leaker, move |host, leaker| {
        Host::wait_for_status(&leaker, "200");
        releases.deploy(host, "v2.3.2");
        wait_for_memory(host.main_pid("leaker"), 80 << 10);
        Box::new(move |_, state| {
            Host::wait_for_status(&leaker, "200");
            let wanted = if state == RunState::Committed { "v2.3.1" } else { "v2.3.2" };
            assert_eq!(releases.in_use(), wanted, "{state}");
        })
    })
}

fn wait_for_memory(pid: Pid, kib: u64) {
    let deadline = Instant::now() + PATIENCE;
    let anonymous = || -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    while anonymous().is_none_or(|now| now < kib) {
        assert!(Instant::now() < deadline, "it holds {:?} KiB and has to hold {kib}", anonymous());
        pause();
    }
}

/// In a memory cgroup that is too small for it: the kernel kills it.
pub(super) fn out_of_memory() -> Stage {
    let dir = Host::scratch();
    let leak = dir.path().join("leak");
    let cage = Cage::make(dir.path());
    let procs = cage.dir.join("cgroup.procs");
    let mut leaker = Service::new("leaker");
    leaker.args = vec!["--leak-when".into(), leak.display().to_string()];
    let mut stage = stage_in(dir, "oom-kill", &leaker, move |host, leaker| {
        Host::wait_for_status(&leaker, "200");
        fs::write(procs, host.main_pid("leaker").to_string()).unwrap();
        fs::write(leak, "").unwrap();
        host.wait_for_unit("leaker", |unit| !unit.is_up());
        started_once_at_most(host, leaker)
    });
    stage.keep.push(Box::new(cage));
    stage
}

/// A cgroup of our own with little memory, removed with the test.
struct Cage {
    dir: PathBuf,
}

impl Cage {
    fn make(scratch: &Path) -> Self {
        let name = scratch.file_name().unwrap();
        let (top, limit) = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")]
            .into_iter()
            .find(|(top, _)| Path::new(top).join("cgroup.procs").exists())
            .expect("a memory controller");
        let dir = Path::new(top).join(name);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(limit), (48 << 20).to_string()).unwrap();
        Self { dir }
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        // Whoever was in it is dead or dying.
        let deadline = Instant::now() + PATIENCE;
        while fs::remove_dir(&self.dir).is_err() && Instant::now() < deadline {
            pause();
        }
    }
}
