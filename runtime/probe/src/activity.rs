//! Signs that the operator's tools are at work: a package manager, a deploy, a backup. Then what looks like a fault is meant.
//!
//! This is only ever a reason to do nothing, but a bystander who could give it would keep repairs away. So it stands on what only
//! root can do: hold the lock of a package manager's database, or run a known tool as root. A process' name alone counts for
//! nothing, and a tool that runs as an ordinary user is not seen: for such there are windows, holds and the deploy lock.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::proc::{self, Reader};

/// What package managers lock while they change the machine. Each lies where only root can open it for writing.
const LOCKS: [&str; 7] = [
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/lib/rpm/.rpm.lock",
    "/usr/lib/sysimage/rpm/.rpm.lock",
    "/lib/apk/db/lock",
    "/var/cache/apt/archives/lock",
];
/// Programs that replace software while they run, by the first 15 bytes of the name, as the kernel shows it.
const DEPLOYERS: [&str; 12] = [
    "apt-get",
    "aptitude",
    "dpkg",
    "rpm",
    "dnf",
    "yum",
    "zypper",
    "pacman",
    "apk",
    "ansible-playboo",
    "puppet",
    "chef-client",
];
/// Programs that read whole disks or databases.
const BACKUPS: [&str; 9] = [
    "restic",
    "borg",
    "pg_basebackup",
    "pg_dump",
    "pg_dumpall",
    "mysqldump",
    "mariadb-dump",
    "mariadb-backup",
    "rdiff-backup",
];

/// What is going on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Activity {
    /// The program that deploys or installs.
    pub deploy: Option<String>,
    /// The program that backs up.
    pub backup: Option<String>,
}

/// Looks through the machine's locks and processes. Costs a small read or two per process: call it for an incident, not each tick.
pub fn now() -> Activity {
    let mut reader = Reader::live();
    let locks = LOCKS.iter().filter_map(|path| Some(std::fs::metadata(Path::new(path)).ok()?.ino())).collect();
    let holders = reader.read(format_args!("locks")).map_or_else(BTreeSet::new, |text| holders(text, &locks));
    let root = reader.root().to_owned();
    of(proc::pids(&root).filter_map(|pid| {
        let comm = reader.comm(pid)?;
        let sign = sign(&comm, holders.contains(&pid))?;
        let alive = reader.process(pid).is_some_and(|stat| !stat.is_gone() && !stat.kernel);
        alive.then_some(Seen { uid: reader.uid(pid)?, comm, sign })
    }))
}

/// One process that may matter.
#[derive(Debug)]
struct Seen {
    comm: String,
    uid: u32,
    sign: Sign,
}

#[derive(Debug, Clone, Copy)]
enum Sign {
    Deploy,
    Backup,
}

/// What a process would be a sign of, were it root's. Whoever holds the lock of a package manager deploys, whatever its name.
fn sign(comm: &str, holds_lock: bool) -> Option<Sign> {
    if holds_lock || DEPLOYERS.contains(&comm) {
        Some(Sign::Deploy)
    } else {
        BACKUPS.contains(&comm).then_some(Sign::Backup)
    }
}

/// Who holds a lock on one of these inodes, from /proc/locks. The device is not compared: on btrfs and overlays the kernel shows
/// another one there than `stat` does. That the holder has to be root makes up for it.
fn holders(text: &str, inodes: &BTreeSet<u64>) -> BTreeSet<u32> {
    text.lines().filter_map(|line| holder(line, inodes)).collect()
}

/// `1: POSIX  ADVISORY  WRITE 1234 08:01:131090 0 EOF`. A line with `->` is of somebody who waits.
fn holder(line: &str, inodes: &BTreeSet<u64>) -> Option<u32> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (_sort, _manner, access, pid, file) =
        (fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let inode: u64 = file.rsplit_once(':')?.1.parse().ok()?;
    if access == "WRITE" && inodes.contains(&inode) { pid.parse().ok() } else { None }
}

fn of(seen: impl Iterator<Item = Seen>) -> Activity {
    let mut activity = Activity::default();
    for Seen { comm, sign, .. } in seen.filter(|seen| seen.uid == 0) {
        match sign {
            Sign::Deploy => activity.deploy.get_or_insert(comm),
            Sign::Backup => activity.backup.get_or_insert(comm),
        };
    }
    activity
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deploy and backup among processes of that name and user that hold a lock or don't.
    fn found(processes: &[(&str, u32, bool)]) -> (Option<String>, Option<String>) {
        let seen = processes.iter().filter_map(|(comm, uid, locks)| {
            Some(Seen { comm: (*comm).to_owned(), uid: *uid, sign: sign(comm, *locks)? })
        });
        let activity = of(seen);
        (activity.deploy, activity.backup)
    }

    #[test]
    fn roots_tools_are_recognised() {
        let both = found(&[("dpkg", 0, false), ("restic", 0, false)]);
        assert_eq!(both, (Some("dpkg".to_owned()), Some("restic".to_owned())));
        assert_eq!(found(&[("unattended-upgr", 0, true)]), (Some("unattended-upgr".to_owned()), None));
    }

    // PR03.
    #[test]
    fn a_bystander_under_their_names_is_nobody() {
        assert_eq!(found(&[("dpkg", 1000, false), ("restic", 33, false), ("apt-get", 1000, true)]), (None, None));
        assert_eq!(found(&[("dpkg-query", 0, false), ("my-dpkg", 0, false), ("borgmatic", 0, false)]), (None, None));
    }

    const LOCKED: &str = "1: POSIX  ADVISORY  WRITE 1234 08:01:131090 0 EOF
2: FLOCK  ADVISORY  WRITE 77 00:2f:9 0 EOF
2: -> FLOCK  ADVISORY  WRITE 78 00:2f:9 0 EOF
3: POSIX  ADVISORY  READ  900 08:01:131090 128 128
4: POSIX  ADVISORY  WRITE 901 08:01:131091 0 EOF
garbage
";

    #[test]
    fn the_holder_of_a_lock_is_told_from_readers_waiters_and_holders_of_other_files() {
        let of = |inodes: &[u64]| holders(LOCKED, &inodes.iter().copied().collect()).into_iter().collect::<Vec<_>>();
        assert_eq!(of(&[131_090]), [1234]);
        assert_eq!(of(&[9]), [77]);
        assert_eq!(of(&[1]), [] as [u32; 0]);
    }

    #[test]
    fn a_lock_that_is_really_held_is_found_with_its_holder() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let inodes = BTreeSet::from([file.as_file().metadata().unwrap().ino()]);
        let held = || Reader::live().read(format_args!("locks")).map(|text| holders(text, &inodes)).unwrap();
        assert!(!held().contains(&std::process::id()));
        rustix::fs::flock(file.as_file(), rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
        assert!(held().contains(&std::process::id()));
    }

    // PR03.
    #[test]
    fn a_running_process_that_took_the_name_of_a_tool_counts_only_as_root() {
        use std::os::unix::process::CommandExt as _;
        let dir = tempfile::tempdir().unwrap();
        let named = dir.path().join("restic");
        std::fs::copy("/bin/sleep", &named).unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let is_root = rustix::process::geteuid().is_root();
        let backup_of = |uid: Option<u32>| {
            let mut command = std::process::Command::new(&named);
            command.arg("60");
            if let Some(uid) = uid {
                command.uid(uid).gid(uid);
            }
            let mut child = command.spawn().unwrap();
            // The kernel lets the parent go on a moment before the child has its new name.
            while Reader::live().comm(child.id()).as_deref() != Some("restic") {}
            let backup = now().backup;
            child.kill().unwrap();
            child.wait().unwrap();
            backup
        };
        assert_eq!(backup_of(is_root.then_some(61_198)), None);
        if is_root {
            assert_eq!(backup_of(None).as_deref(), Some("restic"));
        }
    }

    #[test]
    fn no_name_is_longer_than_the_kernel_shows() {
        assert!(DEPLOYERS.iter().chain(&BACKUPS).all(|name| name.len() <= 15));
    }
}
