//! The system calls a worker may make: one table, with a reason for each. Everything else kills the process.
//!
//! Two filters. The first stands before anything is read from the runner. The second is put on top of it when the code of the
//! guest is in place: from then on no memory becomes executable, and no filter, limit or property of the process changes.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// Why a filter could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// It could not be built for this machine.
    #[error("the filter does not build")]
    Build(#[from] seccompiler::BackendError),
    /// The kernel did not take it.
    #[error("the kernel does not take the filter")]
    Install(#[from] seccompiler::Error),
}

/// Which arguments are let through.
#[derive(Debug, Clone, Copy)]
enum Only {
    /// Any.
    Any,
    /// The first argument is this.
    First(u64),
    /// To this very process, and only this signal.
    OwnSignal(i32),
}

/// When a worker makes a call, so that a test can take the line out, bring the moment about, and see it missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// A compilation or a run.
    Work,
    /// A fault of the guest's becomes a trap.
    Trap,
    /// The worker aborts.
    Abort,
    /// The worker crashes, and must be seen to have crashed.
    Crash,
    /// It goes on after it was stopped by a signal.
    Stopped,
    /// Nothing that a test could bring about at will.
    Rare,
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Allowed {
    /// The call's name.
    pub name: &'static str,
    number: libc::c_long,
    only: Only,
    /// Why the worker needs it.
    pub why: &'static str,
    /// When it is made.
    pub deed: Deed,
}

const fn line(name: &'static str, number: libc::c_long, only: Only, why: &'static str) -> Allowed {
    when(Deed::Work, name, number, only, why)
}

const fn when(deed: Deed, name: &'static str, number: libc::c_long, only: Only, why: &'static str) -> Allowed {
    Allowed { name, number, only, why, deed }
}

const SECCOMP_SET_MODE_FILTER: u64 = 1;

/// The table.
pub const ALLOWED: &[Allowed] = &[
    line("read", libc::SYS_read, Only::Any, "frames from the runner"),
    line("write", libc::SYS_write, Only::Any, "frames to the runner"),
    line("mmap", libc::SYS_mmap, Only::Any, "heap, linear memories, the artefact's code"),
    line("munmap", libc::SYS_munmap, Only::Any, "heap, linear memories"),
    line("mprotect", libc::SYS_mprotect, Only::Any, "linear memories grow; the artefact's code becomes executable"),
    when(Deed::Rare, "mremap", libc::SYS_mremap, Only::Any, "realloc of large buffers"),
    when(Deed::Rare, "madvise", libc::SYS_madvise, Only::Any, "the allocator gives pages back"),
    line("brk", libc::SYS_brk, Only::Any, "heap"),
    when(Deed::Rare, "futex", libc::SYS_futex, Only::Any, "the lock that main and clock thread share"),
    line("clock_nanosleep", libc::SYS_clock_nanosleep, Only::Any, "the clock thread's tick"),
    when(
        Deed::Stopped,
        "restart_syscall",
        libc::SYS_restart_syscall,
        Only::Any,
        "a tick that was interrupted by SIGSTOP goes on",
    ),
    when(Deed::Rare, "clock_gettime", libc::SYS_clock_gettime, Only::Any, "machines whose vDSO can't tell the time"),
    when(Deed::Rare, "getrandom", libc::SYS_getrandom, Only::Any, "keys of the standard library's hash maps"),
    when(Deed::Rare, "sched_yield", libc::SYS_sched_yield, Only::Any, "the clock thread waits for a frame to end"),
    line("sigaltstack", libc::SYS_sigaltstack, Only::Any, "wasmtime's stack for signals, the runtime's at exit"),
    when(
        Deed::Crash,
        "rt_sigaction",
        libc::SYS_rt_sigaction,
        Only::Any,
        "a handler takes itself out before it crashes for good",
    ),
    when(
        Deed::Trap,
        "rt_sigreturn",
        libc::SYS_rt_sigreturn,
        Only::Any,
        "a guest's fault was a trap, and goes on as one",
    ),
    when(Deed::Abort, "rt_sigprocmask", libc::SYS_rt_sigprocmask, Only::Any, "abort"),
    when(Deed::Abort, "getpid", libc::SYS_getpid, Only::Any, "abort"),
    when(Deed::Abort, "gettid", libc::SYS_gettid, Only::Any, "abort"),
    when(
        Deed::Abort,
        "tgkill",
        libc::SYS_tgkill,
        Only::OwnSignal(libc::SIGABRT),
        "abort, so that it is told from a forbidden call",
    ),
    line("exit_group", libc::SYS_exit_group, Only::Any, "the end"),
    line("prlimit64", libc::SYS_prlimit64, Only::First(0), "limits are tightened to the task; until the second filter"),
    line("prctl", libc::SYS_prctl, Only::First(libc::PR_SET_NO_NEW_PRIVS as u64), "for the second filter; until then"),
    line("seccomp", libc::SYS_seccomp, Only::First(SECCOMP_SET_MODE_FILTER), "the second filter; until then"),
];

/// Installs the first filter in every thread. `without` takes lines out, for the test that each is needed.
pub fn install(without: &[String]) -> Result<String, SeccompError> {
    let lines = ALLOWED.iter().filter(|line| !without.iter().any(|name| name == line.name));
    let mut rules = BTreeMap::new();
    for line in lines.clone() {
        rules.insert(line.number, rule(line.only)?);
    }
    let filter = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch()?)?;
    apply(filter)?;
    Ok(format!("seccomp: {} system calls, no others", lines.count()))
}

/// Installs the second filter.
pub fn tighten() -> Result<(), SeccompError> {
    let executable = || {
        let protection = 2;
        let exec = u64::from(libc::PROT_EXEC.unsigned_abs());
        SeccompRule::new(vec![equal(protection, SeccompCmpOp::MaskedEq(exec), exec)?]).map(|rule| vec![rule])
    };
    let mut rules = BTreeMap::new();
    rules.insert(libc::SYS_mmap, executable()?);
    rules.insert(libc::SYS_mprotect, executable()?);
    for number in [libc::SYS_prlimit64, libc::SYS_prctl, libc::SYS_seccomp] {
        rules.insert(number, Vec::new());
    }
    apply(SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::KillProcess, arch()?)?)
}

fn rule(only: Only) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let conditions = match only {
        Only::Any => return Ok(Vec::new()),
        Only::First(value) => vec![equal(0, SeccompCmpOp::Eq, value)?],
        Only::OwnSignal(signal) => vec![
            equal(0, SeccompCmpOp::Eq, u64::from(std::process::id()))?,
            equal(2, SeccompCmpOp::Eq, u64::from(signal.unsigned_abs()))?,
        ],
    };
    Ok(vec![SeccompRule::new(conditions)?])
}

/// Compares the lower half: the kernel takes all of these arguments as 32 bits.
fn equal(argument: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)
}

fn arch() -> Result<seccompiler::TargetArch, seccompiler::BackendError> {
    std::env::consts::ARCH.try_into()
}

fn apply(filter: SeccompFilter) -> Result<(), SeccompError> {
    let program: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter_all_threads(&program)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_is_listed_once_and_says_why() {
        let mut names: Vec<_> = ALLOWED.iter().map(|line| line.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALLOWED.len());
        assert!(ALLOWED.iter().all(|line| !line.why.is_empty()));
    }

    #[test]
    fn nothing_that_opens_connects_traces_or_starts_is_listed() {
        for forbidden in [
            libc::SYS_openat,
            libc::SYS_openat2,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_kill,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_memfd_create,
            libc::SYS_userfaultfd,
            libc::SYS_process_vm_readv,
            libc::SYS_dup,
            libc::SYS_recvmsg,
        ] {
            assert!(ALLOWED.iter().all(|line| line.number != forbidden), "{forbidden}");
        }
    }
}
