//! The walls of the worker's process, raised before a byte of the component is read.
//!
//! Order matters, and is the order of [`raise`]: the descriptors first, while any number may be closed; the process' own
//! files while they can still be opened; the user; Landlock; the threads, which inherit all that; the system calls last.

mod limits;
pub mod seccomp;

use std::io;

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};
use rustix::process::{getegid, geteuid};
use theriac_protocol::process::{Identity, drop_privileges};

pub use limits::{Budget, no_new_processes, set_budget};

/// A wall that must stand and does not.
#[derive(Debug, thiserror::Error)]
pub enum WallError {
    /// The worker would run as root.
    #[error("the worker is root and was given no user to become: pass `--uid` and `--gid`")]
    Root,
    /// It could not become the user.
    #[error("the worker can't become uid {uid}, gid {gid}")]
    Identity { uid: u32, gid: u32, source: io::Error },
    /// It became the user and could go back.
    #[error("the worker became uid {uid} and can still become root")]
    Revocable { uid: u32 },
    /// Inherited descriptors could not be closed.
    #[error("inherited descriptors can't be closed")]
    Descriptors(#[source] io::Error),
    /// A resource limit was refused.
    #[error("resource limits can't be set")]
    Limits(#[source] io::Error),
    /// The filter was refused.
    #[error("the system call filter can't be installed")]
    Seccomp(#[from] seccomp::SeccompError),
    /// Threads can't be made.
    #[error("the clock can't be started")]
    Clock(#[source] io::Error),
}

/// Everything but the filter, which is last. Call it while there is one thread. Returns what stands and what does not, in
/// words for the runner's record.
pub fn raise(socket: i32, identity: Option<Identity>) -> Result<Vec<String>, WallError> {
    close_descriptors(socket).map_err(WallError::Descriptors)?;
    let mut walls = vec!["descriptors: one socket".to_owned(), first_victim()];
    limits::at_start().map_err(WallError::Limits)?;
    walls.push("rlimits: no files, no cores, no locked memory".to_owned());
    walls.push(become_user(identity)?);
    walls.push("no-new-privs, not dumpable".to_owned());
    walls.push(landlock());
    Ok(walls)
}

/// The socket stays; standard streams go too, so that nothing a guest causes can reach the runner's terminal or journal.
#[expect(unsafe_code, reason = "closing descriptors that nobody here owns has no safe wrapper")]
fn close_descriptors(socket: i32) -> io::Result<()> {
    let close = |first: i64, last: i64| {
        if first > last {
            return Ok(());
        }
        // SAFETY: no pointers. Nothing in this process has opened a descriptor yet; the socket is kept.
        match unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    close(0, i64::from(socket) - 1)?;
    close(i64::from(socket) + 1, i64::from(u32::MAX))
}

/// Under memory pressure the kernel takes the worker, never the runner.
fn first_victim() -> String {
    match std::fs::write("/proc/self/oom_score_adj", "1000") {
        Ok(()) => "oom: first victim".to_owned(),
        Err(error) => format!("oom: not raised ({error})"),
    }
}

fn become_user(identity: Option<Identity>) -> Result<String, WallError> {
    if identity.is_none() && geteuid().is_root() {
        return Err(WallError::Root);
    }
    let (uid, gid) = identity.map_or_else(|| (geteuid().as_raw(), getegid().as_raw()), |who| (who.uid, who.gid));
    drop_privileges(identity).map_err(|source| WallError::Identity { uid, gid, source })?;
    if can_be_root() {
        return Err(WallError::Revocable { uid });
    }
    Ok(match identity {
        Some(_) => format!("user: uid {uid}, gid {gid}"),
        None => format!("user: not raised (rootless: shares uid {uid} with the runner)"),
    })
}

#[expect(unsafe_code, reason = "setuid for the whole process has no safe wrapper")]
fn can_be_root() -> bool {
    // SAFETY: a plain system call, which must fail.
    unsafe { libc::setresuid(0, 0, 0) == 0 }
}

/// No path, no port, no abstract socket, no signal to another process; where the kernel has Landlock.
fn landlock() -> String {
    let deny_all = || {
        Ruleset::default()
            .handle_access(AccessFs::from_all(ABI::V6))?
            .handle_access(AccessNet::from_all(ABI::V6))?
            .scope(Scope::from_all(ABI::V6))?
            .create()?
            .restrict_self()
    };
    match deny_all().map(|status| status.ruleset) {
        Ok(RulesetStatus::FullyEnforced) => "landlock: denies everything".to_owned(),
        Ok(RulesetStatus::PartiallyEnforced) => "landlock: denies what this kernel's version knows".to_owned(),
        Ok(RulesetStatus::NotEnforced) => "landlock: not raised (this kernel has none)".to_owned(),
        Err(error) => format!("landlock: not raised ({error})"),
    }
}
