//! Starting one service or one jail: its own session, its own user, an environment that is written down, and nothing else of ours.

#![expect(unsafe_code, reason = "`pre_exec` is the only place between fork and exec")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal};

use crate::config::ServiceSpec;
use crate::processes::{self, ProcessKey};
use crate::signals;

/// The variable that marks every process of one start, as under systemd. It survives a double fork and a new session.
pub(crate) const MARK: &str = "INVOCATION_ID";

/// Starts a service. The error is exec's own: the child reports it through a pipe before it is replaced.
pub(crate) fn spawn(spec: &ServiceSpec, invocation: &str, output: OwnedFd) -> io::Result<ProcessKey> {
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.args)
        .env_clear()
        .envs(&spec.env)
        .env(MARK, invocation)
        .current_dir(&spec.dir)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    if let Some(user) = spec.user {
        become_user(&mut command, user.uid, user.gid);
    }
    // Killed with SIGKILL, the launcher can stop nothing. The main process is then asked to end by the kernel, and what is left
    // of a service is found by its mark and killed by the next launcher before it starts anything.
    fork(command, Signal::TERM, &[])
}

/// Only for root. The standard library empties the supplementary groups when a uid is set by root.
pub(crate) fn become_user(command: &mut Command, uid: u32, gid: u32) {
    command.gid(gid).uid(uid);
}

/// Forks and execs; the child inherits `kept` beside its three streams, and gets `death` when the launcher dies.
pub(crate) fn fork(mut command: Command, death: Signal, kept: &[BorrowedFd<'_>]) -> io::Result<ProcessKey> {
    let launcher = rustix::process::getpid();
    let kept: Vec<RawFd> = kept.iter().map(|fd| fd.as_raw_fd()).collect();
    // SAFETY: the closure only makes async-signal-safe system calls and allocates nothing.
    unsafe {
        command.pre_exec(move || in_child(launcher, death, &kept));
    }
    let child = command.spawn()?;
    let pid = child.id();
    // The launcher reaps every child itself; `Child` has no destructor that would wait.
    drop(child);
    // A child that has not been waited for keeps its entry in /proc even when it has ended already.
    Ok(processes::stat(pid).map_or(ProcessKey { pid, start: 0 }, |stat| stat.key))
}

fn in_child(launcher: Pid, death: Signal, kept: &[RawFd]) -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::set_parent_process_death_signal(Some(death))?;
    if rustix::process::getppid() != Some(launcher) {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    rustix::thread::set_no_new_privs(true)?;
    signals::forget_all()?;
    close_on_exec_from(3)?;
    kept.iter().try_for_each(|fd| keep(*fd))
}

fn keep(fd: RawFd) -> io::Result<()> {
    // SAFETY: fcntl takes three integers, and the descriptor is open in the parent until the child has exec'ed.
    match unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Not closed at once: the standard library's own error pipe is among them and must reach exec.
fn close_on_exec_from(first: libc::c_uint) -> io::Result<()> {
    // SAFETY: close_range takes three integers and touches descriptors of this process only.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    match (done, io::Error::last_os_error()) {
        (0, _) => Ok(()),
        // Before Linux 5.11. Every descriptor of ours is opened with O_CLOEXEC anyway.
        (_, error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) => Ok(()),
        (_, error) => Err(error),
    }
}

/// 32 random hex digits, as systemd's InvocationID.
pub(crate) fn new_invocation() -> io::Result<String> {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    Ok(uuid.chars().filter(char::is_ascii_hexdigit).collect())
}
