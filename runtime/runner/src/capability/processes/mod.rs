//! `processes`: the processes of a granted unit, cgroup or user. Members are looked up each time, and a process is a pidfd and
//! a start time; PID 1, kernel threads, the runner's own family and its other daemons are no members of anything.

mod affinity;
mod change;
mod signal;

use std::path::Path;
use std::time::Duration;

use theriac_authority::effective::BoundGroup;
use theriac_model::call::{GroupCall, GroupUsage, ProcessCall, ProcessInfo, ProcessRef, Reply};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::effect::GroupId;
use theriac_model::id::Label;
use theriac_model::unit::ProcessId;
use theriac_probe::Facts;
use theriac_probe::proc::{self, Reader, USER_HZ};

use crate::gate::{Mode, perform};
use crate::session::{Held, Scene};
use crate::world::World;

pub(crate) use affinity::{CpuMask, mask_of, nice_of, set_mask, set_nice};

/// Most processes of one listing.
const MAX_LISTED: usize = 256;
/// The interval over which `usage` is measured. Shorter ones say more about the kernel's 10 ms ticks than about the group.
const USAGE_INTERVAL: Duration = Duration::from_millis(300);

/// When the process with that PID started; `None` when there is none (or it is a zombie).
pub(crate) fn start_of(pid: u32) -> Option<u64> {
    Reader::live().process(pid).filter(|stat| !stat.is_gone()).map(|stat| stat.id.start)
}

/// What has to be known to find a group's members.
pub(crate) fn facts(world: &World, group: &GroupId) -> Facts {
    let mut facts = Facts::default();
    if let GroupId::Unit(unit) = group
        && let Some(Ok(state)) = world.manager_of(unit).map(|manager| manager.state(unit))
    {
        facts.units.insert(unit.clone(), state);
    }
    facts
}

/// The members now.
pub(crate) fn members(scene: &mut Scene<'_>, bound: &BoundGroup) -> Result<Vec<ProcessId>, Denial> {
    let facts = facts(scene.world, &bound.group);
    scene.groups.members(&bound.group, &facts).map_err(|error| {
        Denial::new(DenialCause::Unavailable, &bound.label, "members", format!("list {}: {error}", bound.group))
    })
}

/// A verb of a group.
pub(crate) fn group(
    scene: &mut Scene<'_>,
    mode: &mut dyn Mode,
    label: &Label,
    call: GroupCall,
) -> Result<Reply, Denial> {
    let bound = scene.grants.group(label.as_str())?;
    bound.admits_group(&call)?;
    match call {
        GroupCall::List => list(scene, bound),
        GroupCall::Usage => usage(scene, bound),
        GroupCall::SetAffinity { cpus } => {
            perform(scene, mode, &mut change::Confine::new(label, cpus)).map(|_| Reply::Done)
        }
        GroupCall::Renice { nice } => perform(scene, mode, &mut change::Renice::new(label, nice)).map(|_| Reply::Done),
    }
}

/// A verb of one process.
pub(crate) fn process(
    scene: &mut Scene<'_>,
    mode: &mut dyn Mode,
    label: &Label,
    process: ProcessId,
    call: ProcessCall,
) -> Result<Reply, Denial> {
    let bound = scene.grants.group(label.as_str())?;
    bound.admits_process(&call)?;
    match call {
        ProcessCall::Info => info(scene, bound, process),
        ProcessCall::Signal { signal } => {
            perform(scene, mode, &mut signal::Send::new(label, process, signal)).map(|_| Reply::Done)
        }
    }
}

fn list(scene: &mut Scene<'_>, bound: &BoundGroup) -> Result<Reply, Denial> {
    let members = members(scene, bound)?;
    let mut reader = Reader::live();
    let mut listed = Vec::new();
    for process in members.into_iter().filter(|process| !scene.overlay.process_gone(*process)).take(MAX_LISTED) {
        let name = reader.comm(process.pid).unwrap_or_default().escape_debug().to_string();
        let attempted = format!("open process {}", process.pid);
        let handle = scene.table.open(Held::Process(bound.label.clone(), process), &attempted)?;
        listed.push(ProcessRef { handle, name });
    }
    Ok(Reply::Processes(listed))
}

fn usage(scene: &mut Scene<'_>, bound: &BoundGroup) -> Result<Reply, Denial> {
    let facts = facts(scene.world, &bound.group);
    let no = |why: &dyn std::fmt::Display| {
        Denial::new(DenialCause::Unavailable, &bound.label, "usage", format!("usage of {}: {why}", bound.group))
    };
    let first = scene.groups.read(&bound.group, &facts).map_err(|error| no(&error))?;
    std::thread::sleep(USAGE_INTERVAL);
    let second = scene.groups.read(&bound.group, &facts).map_err(|error| no(&error))?;
    let cpus = Reader::live().read(format_args!("stat")).and_then(proc::parse_cpu).map_or(1, |times| times.cpus);
    let usage = second.usage_since(&first, cpus).ok_or_else(|| no(&"no time has passed"))?;
    let assumed = scene.overlay.confined(&bound.group);
    Ok(Reply::Usage(GroupUsage {
        cpus_allowed: assumed.unwrap_or(usage.cpus_allowed),
        assumed: assumed.is_some(),
        ..usage
    }))
}

fn info(scene: &mut Scene<'_>, bound: &BoundGroup, process: ProcessId) -> Result<Reply, Denial> {
    let stale =
        || Denial::new(DenialCause::StaleTarget, &bound.label, "process", format!("info of process {}", process.pid));
    let gone = scene.overlay.process_gone(process);
    if gone || !members(scene, bound)?.contains(&process) {
        return Err(stale());
    }
    let mut reader = Reader::live();
    let name = reader.comm(process.pid).unwrap_or_default().escape_debug().to_string();
    let memory =
        reader.read(format_args!("{}/status", process.pid)).and_then(|status| proc::parse_kib(status, "RssAnon"));
    let stat = reader.process(process.pid).filter(|stat| stat.id == process).ok_or_else(stale)?;
    let uptime = reader.read(format_args!("uptime")).and_then(|text| text.split('.').next()?.parse::<u64>().ok());
    let age_s = uptime.ok_or_else(stale)?.saturating_sub(process.start / USER_HZ);
    let cpu = stat.ticks.saturating_mul(1000) / (age_s.max(1).saturating_mul(USER_HZ));
    Ok(Reply::Process(ProcessInfo {
        name,
        cpu: u32::try_from(cpu).unwrap_or(u32::MAX),
        memory: memory.unwrap_or(0),
        threads: stat.threads,
        age_s,
    }))
}

/// The threads of a process.
pub(crate) fn threads_of(process: ProcessId) -> Vec<ProcessId> {
    let mut reader = Reader::live();
    let mut threads = Vec::new();
    for tid in super::files::numbers(Path::new(&format!("/proc/{}/task", process.pid))) {
        let stat = reader.read_bytes(format_args!("{}/task/{tid}/stat", process.pid)).and_then(proc::parse_process);
        threads.extend(stat.filter(|stat| !stat.is_gone()).map(|stat| stat.id));
    }
    // The list belongs to another process when the PID was reused meanwhile.
    if start_of(process.pid) == Some(process.start) { threads } else { Vec::new() }
}
