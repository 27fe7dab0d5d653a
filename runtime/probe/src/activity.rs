//! Signs that people or their tools are at work: a package manager, a deploy, a backup. Then what looks like a fault is meant.
//!
//! Names of processes prove nothing, so this can only ever be a reason to do nothing.

use crate::proc::{self, Reader};

/// Programs that replace software while they run.
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

/// Looks through the machine's processes. Costs one small read per process: call it for an incident, not each tick.
pub fn now() -> Activity {
    let mut reader = Reader::live();
    let root = reader.root().to_owned();
    of(proc::pids(&root).filter_map(|pid| {
        let comm = reader.comm(pid)?;
        let alive = reader.process(pid).is_some_and(|stat| !stat.is_gone() && !stat.kernel);
        alive.then_some(comm)
    }))
}

fn of(names: impl Iterator<Item = String>) -> Activity {
    let mut activity = Activity::default();
    for name in names {
        if DEPLOYERS.contains(&name.as_str()) {
            activity.deploy.get_or_insert(name);
        } else if BACKUPS.contains(&name.as_str()) {
            activity.backup.get_or_insert(name);
        }
    }
    activity
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_manager_and_a_backup_are_recognised_by_their_whole_name() {
        let names = ["sh", "dpkg", "restic", "dpkg-query", "borgmatic"].map(str::to_owned);
        let activity = of(names.into_iter());
        assert_eq!((activity.deploy.as_deref(), activity.backup.as_deref()), (Some("dpkg"), Some("restic")));
        assert_eq!(of(["apt", "my-dpkg"].map(str::to_owned).into_iter()), Activity::default());
    }

    #[test]
    fn no_name_is_longer_than_the_kernel_shows() {
        assert!(DEPLOYERS.iter().chain(&BACKUPS).all(|name| name.len() <= 15));
    }

    #[test]
    fn the_running_machine_can_be_looked_at() {
        let _ = now();
    }
}
