//! Which processes there are and whose children they are, read from /proc; and signals that never reach a reused pid.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal};

/// A process, told from a later one of the same pid by its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ProcessKey {
    pub(crate) pid: u32,
    /// Clock ticks since boot, field 22 of /proc/PID/stat.
    pub(crate) start: u64,
}

/// What /proc/PID/stat says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) key: ProcessKey,
    pub(crate) parent: u32,
    pub(crate) session: u32,
    /// Ended, and not yet waited for.
    pub(crate) zombie: bool,
}

/// One process, if it is there.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The command name is written by the process itself and may hold spaces and parentheses: the fields start after the last one.
fn parse(pid: u32, text: &[u8]) -> Option<Stat> {
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Field 3 of proc(5) is the first here.
    let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok());
    Some(Stat {
        key: ProcessKey { pid, start: number(22)? },
        parent: u32::try_from(number(4)?).ok()?,
        session: u32::try_from(number(6)?).ok()?,
        zombie: matches!(fields.first(), Some(&("Z" | "X"))),
    })
}

/// Every process.
pub(crate) fn table() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| stat(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// The descendants of `root` in a table.
pub(crate) fn descendants_in(table: &[Stat], root: u32) -> Vec<Stat> {
    let mut children: BTreeMap<u32, Vec<&Stat>> = BTreeMap::new();
    for stat in table {
        children.entry(stat.parent).or_default().push(stat);
    }
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(parent) = open.pop() {
        for stat in children.remove(&parent).unwrap_or_default() {
            open.push(stat.key.pid);
            found.push(*stat);
        }
    }
    found
}

/// The descendants of `root` by way of the kernel's lists of children: cheap, but a child may be missed while its sibling ends.
/// Good for telling; what decides uses the whole [`table`].
pub(crate) fn descendants_of(root: u32) -> Vec<Stat> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::from([root]);
    let mut open = vec![root];
    while let Some(parent) = open.pop() {
        for pid in children_of(parent) {
            if seen.insert(pid) {
                open.push(pid);
                found.extend(stat(pid));
            }
        }
    }
    found
}

fn children_of(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// The process' initial environment holds `name=value`.
pub(crate) fn carries(pid: u32, name: &str, value: &str) -> bool {
    let wanted = format!("{name}={value}");
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes()))
}

/// Sends a signal to exactly this process. `Ok(false)`: it is gone.
pub(crate) fn signal(key: ProcessKey, signal: Signal) -> io::Result<bool> {
    let Some(pid) = i32::try_from(key.pid).ok().and_then(Pid::from_raw) else { return Ok(false) };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(rustix::io::Errno::SRCH) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    // The pidfd holds the process that has the pid now; the start time tells whether it is the one that was meant.
    if stat(key.pid).is_none_or(|stat| stat.key != key) {
        return Ok(false);
    }
    match pidfd_send_signal(&pidfd, signal) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// KILL, and until it has ended or `until` has passed; reaps it where it is a child.
pub(crate) fn kill_and_wait(key: ProcessKey, until: Instant) {
    let Some(pid) = i32::try_from(key.pid).ok().and_then(Pid::from_raw) else { return };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if !matches!(signal(key, Signal::KILL), Ok(true)) {
        return;
    }
    let timeout = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
    // A pidfd is readable when its process has ended. A failed wait is a shorter one; the caller looks again.
    poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], timeout.as_ref()).ok();
    rustix::process::waitpid(Some(pid), WaitOptions::NOHANG).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let line = b"42 (a) R 1 (b) S 7 42 40 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 9876 0";
        let stat = parse(42, line).unwrap();
        assert_eq!((stat.parent, stat.session, stat.key.start, stat.zombie), (7, 40, 9876, false));
    }

    #[test]
    fn both_ways_find_a_child_and_the_table_finds_this_process() {
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let own = std::process::id();
        assert!(descendants_of(own).iter().any(|stat| stat.key.pid == child.id()));
        assert!(descendants_in(&table(), own).iter().any(|stat| stat.key.pid == child.id()));
        let key = stat(child.id()).unwrap().key;
        assert!(
            !signal(ProcessKey { start: key.start + 1, ..key }, Signal::KILL).unwrap(),
            "another start time is another process"
        );
        assert!(child.try_wait().unwrap().is_none());
        assert!(signal(key, Signal::KILL).unwrap());
        child.wait().unwrap();
        assert!(!signal(key, Signal::KILL).unwrap());
    }
}
