//! The seccomp filter: what the courier may still ask of the kernel once it has read its configuration. Everything that is not
//! in the table answers EPERM; there is no file, no program, no other process and no executable memory in it.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

/// Why the courier could not seal itself.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The table is malformed, or the machine of a kind that has no filter.
    #[error("the seccomp filter can't be built")]
    Build(#[source] seccompiler::BackendError),
    /// The kernel refused it.
    #[error("the kernel refused the seccomp filter")]
    Apply(#[source] seccompiler::Error),
}

/// Allowed with any arguments.
const ALLOWED: &[c_long] = &[
    // Open descriptors: the sockets, the log on standard error, epoll's own.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fcntl,
    // Talking to the runner and to peers.
    libc::SYS_accept4,
    libc::SYS_connect,
    // The resolver's questions leave from a port of their own; nothing can listen.
    libc::SYS_bind,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    // The event loop and its timers.
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_ppoll,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    // Memory; mapping is below, without PROT_EXEC.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // TLS.
    libc::SYS_getrandom,
    // Ending, in good order or by a panic's abort.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_sigaltstack,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
];

/// The older names of calls above, which x86-64 still has and its C library uses.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[c_long] = &[libc::SYS_epoll_wait, libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[c_long] = &[];

/// Seals this thread, and every thread it will ever start.
pub(crate) fn seal() -> Result<(), SealError> {
    apply_filter(&program().map_err(SealError::Build)?).map_err(SealError::Apply)
}

fn program() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> =
        ALLOWED.iter().chain(ALLOWED_HERE).map(|number| (*number, Vec::new())).collect();
    rules.insert(libc::SYS_socket, inet_sockets()?);
    // mmap(.., prot, ..) and mprotect(.., prot): the third argument of both.
    rules.insert(libc::SYS_mmap, without_exec()?);
    rules.insert(libc::SYS_mprotect, without_exec()?);
    let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch)?.try_into()
}

/// TCP, and UDP for names, over IPv4 and IPv6: no raw, no netlink, and no Unix socket to somebody else's daemon.
fn inet_sockets() -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let families = [libc::AF_INET, libc::AF_INET6];
    let kinds = [libc::SOCK_STREAM, libc::SOCK_DGRAM];
    let each = families.into_iter().flat_map(|family| kinds.map(|kind| (family, kind)));
    each.map(|(family, kind)| {
        SeccompRule::new(vec![
            SeccompCondition::new(0, Width::Dword, SeccompCmpOp::Eq, u64::from(family.cast_unsigned()))?,
            // The low bits are the type; the rest are SOCK_CLOEXEC and SOCK_NONBLOCK.
            SeccompCondition::new(1, Width::Dword, SeccompCmpOp::MaskedEq(0xf), u64::from(kind.cast_unsigned()))?,
        ])
    })
    .collect()
}

fn without_exec() -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let exec = u64::from(libc::PROT_EXEC.cast_unsigned());
    Ok(vec![SeccompRule::new(vec![SeccompCondition::new(2, Width::Dword, SeccompCmpOp::MaskedEq(exec), 0)?])?])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A filter can't be taken off again: each attempt is made by a thread that ends with it.
    fn sealed<T: Send + 'static>(attempt: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            seal().unwrap();
            attempt()
        });
        thread.join().unwrap()
    }

    fn refused<T>(result: std::io::Result<T>) -> bool {
        result.is_err_and(|error| error.raw_os_error() == Some(libc::EPERM))
    }

    #[test]
    fn a_sealed_courier_connects_and_opens_no_file() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(sealed(move || std::net::TcpStream::connect(address).is_ok()));
        assert!(refused(sealed(|| std::fs::File::open("/etc/hostname"))));
        assert!(refused(sealed(|| std::fs::read_dir("/"))));
    }

    #[test]
    fn it_starts_no_program_and_reaches_no_other_process() {
        assert!(refused(sealed(|| std::process::Command::new("/bin/true").status())));
        assert!(refused(sealed(|| Ok(rustix::process::kill_process(
            rustix::process::getpid(),
            rustix::process::Signal::CONT
        )?))));
    }

    #[test]
    fn it_makes_no_socket_but_of_tcp_and_udp() {
        assert!(sealed(|| std::net::UdpSocket::bind("127.0.0.1:0").is_ok()), "the resolver's");
        assert!(refused(sealed(std::os::unix::net::UnixDatagram::unbound)));
        let raw = || rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::RAW, None);
        assert!(refused(sealed(move || Ok(raw().map(drop)?))));
        assert!(refused(sealed(|| std::net::TcpListener::bind("127.0.0.1:0"))), "it serves nobody new");
    }
}
