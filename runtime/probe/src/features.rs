//! What this machine can do, for `doctor` and for what must stay off. Every check looks or asks; none changes anything.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use crate::cgroup::{Tree, Version};
use crate::proc::{self, Reader};

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// Its name, such as `openat2`.
    pub name: &'static str,
    /// It is there.
    pub present: bool,
    /// What was found, in a few words.
    pub detail: String,
    /// What is off without it; empty when nothing is.
    pub without: &'static str,
}

/// Another program that heals by itself, and might fight over a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rival {
    /// The process' name.
    pub name: String,
    /// One of its processes.
    pub pid: u32,
    /// What it does that matters here.
    pub does: &'static str,
}

/// Everything `doctor` wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    /// The kernel's release.
    pub kernel: String,
    /// Which cgroup version's controllers count.
    pub cgroup: Version,
    /// The answers.
    pub features: Vec<Feature>,
    /// Other healers that run now.
    pub rivals: Vec<Rival>,
}

/// Healers that are known by the name of their process.
const RIVALS: [(&str, &str); 8] = [
    ("monit", "restarts services by its own rules"),
    ("autoheal", "restarts unhealthy containers"),
    ("earlyoom", "kills processes when memory is low"),
    ("systemd-oomd", "kills cgroups under memory pressure"),
    ("supervisord", "restarts the programs it supervises"),
    ("watchdog", "can reboot the machine"),
    ("keepalived", "moves addresses between machines"),
    ("fail2ban-server", "bans addresses: it keeps the firewall's block lists"),
];

/// Looks at the running machine.
pub fn detect() -> Features {
    let tree = Tree::live();
    let features =
        vec![controllers(&tree), pressure(), openat2(), landlock(), pidfd(), seccomp(), user_namespaces(), systemd()];
    let kernel = Reader::live()
        .read(format_args!("sys/kernel/osrelease"))
        .map_or_else(String::new, |text| text.trim().to_owned());
    Features { kernel, cgroup: tree.version(), features, rivals: rivals() }
}

fn feature(name: &'static str, found: Result<String, String>, without: &'static str) -> Feature {
    let present = found.is_ok();
    let (Ok(detail) | Err(detail)) = found;
    Feature { name, present, detail, without }
}

fn controllers(tree: &Tree) -> Feature {
    let controllers = tree.unified_controllers();
    let has = ["cpu", "memory"].iter().all(|wanted| controllers.iter().any(|name| name == wanted));
    let detail = format!("cgroup {}, v2 controllers: {}", tree.version().as_str(), controllers.join(" "));
    let without = "MemoryHigh, and a unit's own OOM count: memory is relieved by a restart";
    feature("cgroup-v2", if has { Ok(detail) } else { Err(detail) }, without)
}

fn pressure() -> Feature {
    let found =
        Reader::live().read(format_args!("pressure/memory")).and_then(|text| proc::parse_pressure(text, "full"));
    let found = found.map(|_| "readable".to_owned()).ok_or_else(|| "/proc/pressure can't be read".to_owned());
    feature("psi", found, "pressure metrics and the rules that need them")
}

fn openat2() -> Feature {
    let opened: Result<OwnedFd, _> = rustix::fs::openat2(
        CWD,
        "/proc",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    );
    let found = opened.map(|_| "works".to_owned()).map_err(|errno| errno.to_string());
    feature("openat2", found, "every `files` grant: a path could be swapped under us")
}

fn landlock() -> Feature {
    let found = match landlock_abi() {
        Ok(abi) => Ok(format!("ABI {abi}")),
        Err(error) => Err(error.to_string()),
    };
    feature("landlock", found, "one of the worker's walls; seccomp and its uid remain")
}

/// `landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION)` makes no ruleset; it answers with the ABI.
#[expect(unsafe_code, reason = "no safe wrapper asks for the version alone")]
fn landlock_abi() -> std::io::Result<i64> {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with a null attribute, size 0 and the version flag the kernel reads no memory of ours and makes no descriptor.
    let abi =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0_usize, VERSION) };
    if abi < 0 { Err(std::io::Error::last_os_error()) } else { Ok(abi) }
}

fn pidfd() -> Feature {
    let found =
        pidfd_open(getpid(), PidfdFlags::empty()).map(|_| "works".to_owned()).map_err(|errno| errno.to_string());
    feature("pidfd", found, "signals to processes: a PID alone may be another's by then")
}

fn seccomp() -> Feature {
    let found =
        Reader::live().read(format_args!("sys/kernel/seccomp/actions_avail")).map(|text| text.trim().to_owned());
    let found = found
        .filter(|actions| actions.contains("kill_process"))
        .map(|_| "filters with kill_process".to_owned())
        .ok_or_else(|| "no seccomp filters".to_owned());
    feature("seccomp", found, "workers: no remedy runs without its filter")
}

fn user_namespaces() -> Feature {
    let mut reader = Reader::live();
    let most: u64 = reader
        .read(format_args!("sys/user/max_user_namespaces"))
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    let switch = |reader: &mut Reader, name: &str| {
        reader.read(format_args!("sys/kernel/{name}")).map(|text| text.trim().to_owned())
    };
    let forbidden = switch(&mut reader, "unprivileged_userns_clone").is_some_and(|value| value == "0")
        || switch(&mut reader, "apparmor_restrict_unprivileged_userns").is_some_and(|value| value == "1");
    let found = match (most, forbidden) {
        (0, _) => Err("max_user_namespaces is 0".to_owned()),
        (_, true) => Err("forbidden to unprivileged users".to_owned()),
        (most, false) => Ok(format!("up to {most}")),
    };
    feature("user-namespaces", found, "the rootless demo's scratch filesystem, and jails for programs")
}

fn systemd() -> Feature {
    let found = if Path::new("/run/systemd/system").is_dir() {
        Ok("is the init system".to_owned())
    } else {
        Err("is not the init system here".to_owned())
    };
    feature("systemd", found, "units of systemd; the launcher's services remain")
}

fn rivals() -> Vec<Rival> {
    let mut reader = Reader::live();
    let root = reader.root().to_owned();
    let mut rivals: Vec<Rival> = Vec::new();
    for pid in proc::pids(&root) {
        let Some(name) = reader.comm(pid) else { continue };
        let known = RIVALS.iter().find(|(rival, _)| name == *rival);
        // A kernel thread is called `watchdogd`, and on some kernels `watchdog/0`: no rival.
        let ours = known.filter(|_| reader.process(pid).is_some_and(|stat| !stat.kernel));
        if let Some((_, does)) = ours
            && !rivals.iter().any(|rival| rival.name == name)
        {
            rivals.push(Rival { name, pid, does });
        }
    }
    rivals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_is_answered_with_what_was_found() {
        let found = detect();
        assert!(!found.kernel.is_empty());
        let names: Vec<_> = found.features.iter().map(|feature| feature.name).collect();
        let all = ["cgroup-v2", "psi", "openat2", "landlock", "pidfd", "seccomp", "user-namespaces", "systemd"];
        assert_eq!(names, all);
        assert!(found.features.iter().all(|feature| !feature.detail.is_empty() && !feature.without.is_empty()));
    }

    #[test]
    fn what_this_kernel_surely_has_is_found() {
        for name in ["openat2", "pidfd"] {
            let found = detect();
            let feature = found.features.iter().find(|feature| feature.name == name).unwrap();
            assert!(feature.present, "{feature:?}");
        }
    }
}
