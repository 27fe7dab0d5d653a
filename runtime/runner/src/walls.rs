//! What the runner denies itself before it reads a byte from anybody, and what its workers inherit.
//!
//! The runner keeps root's rights over files and services, because that is its work. It gives up the network (no socket but
//! Unix ones, and the kernel's own firewall where a set of it is listed) and what no repair needs: tracing others, loading
//! code into the kernel, changing mounts and the clock.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

/// System calls that are denied whatever their arguments, each with its reason.
const DENIED: &[(libc::c_long, &str)] = &[
    (libc::SYS_ptrace, "reading or steering another process"),
    (libc::SYS_process_vm_readv, "the same without ptrace"),
    (libc::SYS_process_vm_writev, "the same without ptrace"),
    (libc::SYS_init_module, "code into the kernel"),
    (libc::SYS_finit_module, "code into the kernel"),
    (libc::SYS_delete_module, "code out of the kernel"),
    (libc::SYS_kexec_load, "another kernel"),
    (libc::SYS_kexec_file_load, "another kernel"),
    (libc::SYS_bpf, "code into the kernel"),
    (libc::SYS_perf_event_open, "watching other processes"),
    (libc::SYS_mount, "another view of the files that grants are about"),
    (libc::SYS_umount2, "the same"),
    (libc::SYS_move_mount, "the same"),
    (libc::SYS_pivot_root, "the same"),
    (libc::SYS_chroot, "the same"),
    (libc::SYS_setns, "the same"),
    (libc::SYS_unshare, "the same"),
    (libc::SYS_reboot, "no remedy reboots"),
    (libc::SYS_swapon, "no remedy changes swap"),
    (libc::SYS_swapoff, "under pressure it kills the machine"),
    (libc::SYS_settimeofday, "time is evidence"),
    (libc::SYS_clock_settime, "time is evidence"),
    (libc::SYS_add_key, "kernel keyrings"),
    (libc::SYS_keyctl, "kernel keyrings"),
    (libc::SYS_request_key, "kernel keyrings"),
    (libc::SYS_userfaultfd, "an exploit's tool"),
];

/// Why the filter could not be raised; the runner does not start without it.
#[derive(Debug, thiserror::Error)]
pub enum WallError {
    /// The table does not compile: a bug.
    #[error("the system-call filter does not compile")]
    Compile(#[source] seccompiler::BackendError),
    /// The kernel refused it.
    #[error("the kernel refused the system-call filter")]
    Apply(#[source] seccompiler::Error),
}

/// The way to the kernel's own firewall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Netfilter {
    /// A set is listed that remedies may use: `socket(AF_NETLINK, …, NETLINK_NETFILTER)` is allowed, and no other netlink.
    Open,
    /// None is.
    Closed,
}

/// Raises the filter for every thread of this process and for all that it will start.
pub fn raise(netfilter: Netfilter) -> Result<(), WallError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = DENIED.iter().map(|(number, _)| (*number, Vec::new())).collect();
    rules.insert(libc::SYS_socket, sockets(netfilter).map_err(WallError::Compile)?);
    // EPERM, not a kill: a library that probes for the network must not end a run half-way.
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(WallError::Compile)?;
    let program: BpfProgram = SeccompFilter::new(rules, SeccompAction::Allow, denied, arch)
        .and_then(TryInto::try_into)
        .map_err(WallError::Compile)?;
    seccompiler::apply_filter_all_threads(&program).map_err(WallError::Apply)
}

/// The calls of `socket` that are denied: a rule holds when each of its conditions does.
fn sockets(netfilter: Netfilter) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let not = |argument, value: i32| {
        let value = u64::from(value.unsigned_abs());
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value)
    };
    let (family, protocol) = (0, 2);
    Ok(match netfilter {
        Netfilter::Closed => vec![SeccompRule::new(vec![not(family, libc::AF_UNIX)?])?],
        Netfilter::Open => vec![
            SeccompRule::new(vec![not(family, libc::AF_UNIX)?, not(family, libc::AF_NETLINK)?])?,
            SeccompRule::new(vec![not(family, libc::AF_UNIX)?, not(protocol, libc::NETLINK_NETFILTER)?])?,
        ],
    })
}
