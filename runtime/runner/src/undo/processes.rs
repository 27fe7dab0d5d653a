//! Putting CPU masks and nice values back, thread by thread. A thread whose value is not the one that was set belongs to
//! somebody else by now; one that was born since inherited the value and gets its leader's old one.

use theriac_model::effect::{GroupId, Observed, UndoOutcome};
use theriac_model::unit::ProcessId;
use theriac_probe::group::Groups;

use super::{changed, failed, not_needed};
use crate::capability::processes::{CpuMask, facts, mask_of, nice_of, set_mask, set_nice, threads_of};
use crate::crash::crash_point;
use crate::world::World;

/// What happened to the threads.
#[derive(Debug, Default)]
struct Tally {
    restored: usize,
    foreign: usize,
    failure: Option<String>,
}

impl Tally {
    fn count(&mut self, result: rustix::io::Result<()>) {
        match result {
            Ok(()) => self.restored += 1,
            Err(errno) => self.failure = Some(errno.to_string()),
        }
        crash_point("undo.threads-half");
    }

    fn outcome(self) -> UndoOutcome {
        if let Some(failure) = self.failure {
            failed(failure)
        } else if self.foreign > 0 {
            changed(format!("{} threads have another value by now", self.foreign))
        } else if self.restored > 0 {
            UndoOutcome::Restored
        } else {
            not_needed("every thread has the value of before, or is gone")
        }
    }
}

/// The threads of the group now, each with its process; none when the group is gone.
fn now(world: &World, group: &GroupId) -> Vec<(ProcessId, ProcessId)> {
    let members = Groups::live().members(group, &facts(world, group)).unwrap_or_default();
    members
        .into_iter()
        .flat_map(|process| threads_of(process).into_iter().map(move |thread| (process, thread)))
        .collect()
}

/// The recorded threads that are no longer members (their process left the group) count too: they were changed by us.
fn everybody<T>(world: &World, group: &GroupId, kept: &[(ProcessId, T)]) -> Vec<(ProcessId, ProcessId)> {
    let mut all = now(world, group);
    for (thread, _) in kept {
        if !all.iter().any(|(_, known)| known == thread) {
            all.push((*thread, *thread));
        }
    }
    all
}

fn of<T>(kept: &[(ProcessId, T)], thread: ProcessId, process: ProcessId) -> Option<&T> {
    let find = |wanted| kept.iter().find(|(known, _)| *known == wanted).map(|(_, value)| value);
    find(thread).or_else(|| find(process)).or_else(|| kept.first().map(|(_, value)| value))
}

pub(super) fn set_affinity(
    world: &World,
    group: &GroupId,
    masks: &[(ProcessId, String)],
    after: Option<&Observed>,
) -> UndoOutcome {
    let set = match after {
        Some(Observed::Affinity(left)) => left.iter().filter_map(|(_, mask)| CpuMask::parse(mask)).collect(),
        // How far it got is unknown: every mask narrower than the old one may be ours.
        Some(_) | None => Vec::new(),
    };
    let mut tally = Tally::default();
    for (process, thread) in everybody(world, group, masks) {
        let old = of(masks, thread, process).and_then(|mask| CpuMask::parse(mask));
        let (Some(old), Some(mask)) = (old, mask_of(thread)) else { continue };
        if mask == old {
            continue;
        }
        let ours = if set.is_empty() { mask.count() < old.count() } else { set.contains(&mask) };
        if ours { tally.count(set_mask(thread, &old)) } else { tally.foreign += 1 }
    }
    tally.outcome()
}

pub(super) fn renice(
    world: &World,
    group: &GroupId,
    values: &[(ProcessId, i32)],
    after: Option<&Observed>,
) -> UndoOutcome {
    let set = match after {
        Some(Observed::Nice(left)) => left.iter().map(|(_, nice)| *nice).collect(),
        Some(_) | None => Vec::new(),
    };
    let mut tally = Tally::default();
    for (process, thread) in everybody(world, group, values) {
        let (Some(old), Some(nice)) = (of(values, thread, process).copied(), nice_of(thread)) else { continue };
        if nice == old {
            continue;
        }
        let ours = if set.is_empty() { nice > old } else { set.contains(&nice) };
        if ours { tally.count(set_nice(thread, old)) } else { tally.foreign += 1 }
    }
    tally.outcome()
}
