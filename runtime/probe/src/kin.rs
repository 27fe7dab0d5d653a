//! Which processes are Theriac's own, so that no verb on a group reaches them.
//!
//! Told by what the kernel says of a process and it can't say of itself: who started it, which unit it is in, which file it runs
//! as which user. Never by its name or its arguments, which it chooses: with a name like ours a runaway would escape throttling.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::proc::{ProcessStat, Reader};

/// The command, whose `up` starts the others as its children.
const COMMAND: &str = "theriac";
/// How our programs' files and units begin.
const OURS: &str = "theriac";

/// What this process knows of its family.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Kin {
    own: u32,
    uid: u32,
    /// `theriac up`, where it started this process: all that it starts are ours.
    supervisor: Option<u32>,
    /// The slice of this process' unit, where it is a unit of ours: only root puts processes there.
    slice: Option<String>,
    /// Where our programs lie.
    programs: Option<PathBuf>,
}

impl Kin {
    /// The family of the process `own`, which is this one.
    pub(crate) fn of(own: u32, proc: &mut Reader) -> Self {
        let programs = exe(proc, own).and_then(|exe| exe.parent().map(Path::to_owned));
        let parent = proc.process(own).map_or(0, |stat| stat.parent);
        let supervisor = Some(parent).filter(|parent| {
            let started_by = exe(proc, *parent);
            *parent > 1
                && started_by.is_some_and(|exe| {
                    exe.file_name() == Some(OsStr::new(COMMAND)) && exe.parent() == programs.as_deref()
                })
        });
        let slice = proc.read(format_args!("{own}/cgroup")).and_then(our_unit).map(|(slice, _)| slice.to_owned());
        Self { own, uid: rustix::process::geteuid().as_raw(), supervisor, slice, programs }
    }

    /// A worker, or whatever else this process started.
    pub(crate) const fn is_child(&self, stat: &ProcessStat) -> bool {
        stat.parent == self.own
    }

    /// Another of our daemons.
    pub(crate) fn is_sibling(&self, stat: &ProcessStat, proc: &mut Reader) -> bool {
        self.supervisor == Some(stat.parent)
            || self.is_unit_of_ours(stat.id.pid, proc)
            || self.runs_ours(stat.id.pid, proc)
    }

    fn is_unit_of_ours(&self, pid: u32, proc: &mut Reader) -> bool {
        let Some(ours) = self.slice.as_deref() else { return false };
        proc.read(format_args!("{pid}/cgroup")).and_then(our_unit).is_some_and(|(slice, _)| slice == ours)
    }

    /// Runs a program of ours from where ours lie, as root or as this process' user. As another user it proves nothing: anybody can
    /// run our file and make it do something else.
    fn runs_ours(&self, pid: u32, proc: &mut Reader) -> bool {
        let Some(exe) = exe(proc, pid) else { return false };
        let named = exe.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(OURS.as_bytes()));
        let placed = self.programs.is_some() && exe.parent() == self.programs.as_deref();
        named && placed && proc.uid(pid).is_some_and(|uid| uid == 0 || uid == self.uid)
    }
}

fn exe(proc: &Reader, pid: u32) -> Option<PathBuf> {
    std::fs::read_link(proc.root().join(pid.to_string()).join("exe")).ok()
}

/// Slice and name of the service of ours that a process is in, from its /proc/PID/cgroup.
fn our_unit(text: &str) -> Option<(&str, &str)> {
    let of_systemd = |line: &&str| line.starts_with("0::/") || line.contains(":name=systemd:/");
    text.lines().filter(of_systemd).find_map(|line| {
        let (slice, unit) = line.rsplit_once(':')?.1.rsplit_once('/')?;
        let named = unit.strip_prefix(OURS).is_some_and(|rest| rest.starts_with('-') && rest.ends_with(".service"));
        named.then_some((slice, unit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use theriac_model::unit::ProcessId;

    fn stat(pid: u32, parent: u32) -> ProcessStat {
        ProcessStat { id: ProcessId { pid, start: 1 }, parent, state: b'S', ticks: 0, threads: 1, kernel: false }
    }

    /// A /proc of our own with one process in it.
    fn proc_with(pid: u32, exe: &str, uid: u32, cgroup: &str) -> (tempfile::TempDir, Reader) {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join(pid.to_string());
        std::fs::create_dir(&dir).unwrap();
        std::os::unix::fs::symlink(exe, dir.join("exe")).unwrap();
        std::fs::write(dir.join("status"), format!("Name:\ttheriac-agent\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n"))
            .unwrap();
        std::fs::write(dir.join("cgroup"), cgroup).unwrap();
        let reader = Reader::new(root.path());
        (root, reader)
    }

    fn kin() -> Kin {
        let (slice, programs) = (Some("/system.slice".to_owned()), Some(PathBuf::from("/usr/lib/theriac")));
        Kin { own: 10, uid: 1000, supervisor: Some(9), slice, programs }
    }

    const ELSEWHERE: &str = "0::/user.slice/user-1000.slice/session-1.scope\n";

    fn sibling(parent: u32, exe: &str, uid: u32, cgroup: &str) -> bool {
        let (_root, mut reader) = proc_with(77, exe, uid, cgroup);
        kin().is_sibling(&stat(77, parent), &mut reader)
    }

    #[test]
    fn what_up_started_is_ours_and_what_a_shell_started_under_our_name_is_not() {
        assert!(sibling(9, "/bin/sh", 2000, ELSEWHERE));
        assert!(!sibling(8, "/home/mallory/theriac-agent", 2000, ELSEWHERE));
        assert!(kin().is_child(&stat(78, 10)) && !kin().is_child(&stat(78, 77)));
    }

    #[test]
    fn a_unit_of_ours_is_one_in_our_own_slice() {
        assert!(sibling(1, "/bin/sh", 61_101, "0::/system.slice/theriac-agent.service\n"));
        assert!(sibling(1, "/bin/sh", 61_101, "1:name=systemd:/system.slice/theriac-agent.service\n0::/\n"));
        let users = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/theriac-agent.service\n";
        assert!(!sibling(1, "/bin/sh", 2000, users));
        assert!(!sibling(1, "/bin/sh", 2000, "0::/system.slice/nginx.service\n"));
        assert!(!sibling(1, "/bin/sh", 2000, "5:cpu:/system.slice/theriac-agent.service\n"));
    }

    // PR03.
    #[test]
    fn a_program_of_ours_counts_as_root_or_as_us_and_proves_nothing_as_anybody_else() {
        for (uid, ours) in [(0, true), (1000, true), (2000, false)] {
            assert_eq!(sibling(1, "/usr/lib/theriac/theriac-launcher", uid, ELSEWHERE), ours, "uid {uid}");
        }
        assert!(!sibling(1, "/tmp/theriac-launcher", 1000, ELSEWHERE));
        assert!(!sibling(1, "/usr/lib/theriac/sleep", 1000, ELSEWHERE));
    }

    #[test]
    fn the_family_of_this_test_is_known_without_a_supervisor() {
        let mut live = Reader::live();
        let kin = Kin::of(std::process::id(), &mut live);
        assert!(kin.programs.is_some() && kin.supervisor.is_none());
    }
}
