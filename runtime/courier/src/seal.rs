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

/// Sockets that a courier still makes after the seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reaches {
    /// TCP over IPv4 and IPv6.
    Tcp,
    /// UDP over both, for names.
    Names,
    /// Unix stream sockets. A filter sees no paths: to which one, is for this process' user and group to decide, and for the
    /// directories that its unit leaves it.
    UnixSockets,
}

impl Reaches {
    /// Families and types: no raw and no netlink.
    const fn sockets(self) -> &'static [(libc::c_int, libc::c_int)] {
        match self {
            Self::Tcp => &[(libc::AF_INET, libc::SOCK_STREAM), (libc::AF_INET6, libc::SOCK_STREAM)],
            Self::Names => &[(libc::AF_INET, libc::SOCK_DGRAM), (libc::AF_INET6, libc::SOCK_DGRAM)],
            Self::UnixSockets => &[(libc::AF_UNIX, libc::SOCK_STREAM)],
        }
    }
}

/// Seals this thread, and every thread it will ever start.
pub(crate) fn seal(reaches: &[Reaches]) -> Result<(), SealError> {
    apply_filter(&program(reaches).map_err(SealError::Build)?).map_err(SealError::Apply)
}

fn program(reaches: &[Reaches]) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> =
        ALLOWED.iter().chain(ALLOWED_HERE).map(|number| (*number, Vec::new())).collect();
    // An empty list of rules would allow the call whatever its arguments are.
    if !reaches.is_empty() {
        rules.insert(libc::SYS_socket, sockets(reaches)?);
    }
    // The resolver's questions leave from a port of their own; nothing can listen.
    if reaches.contains(&Reaches::Names) {
        rules.insert(libc::SYS_bind, Vec::new());
    }
    // mmap(.., prot, ..) and mprotect(.., prot): the third argument of both.
    rules.insert(libc::SYS_mmap, without_exec()?);
    rules.insert(libc::SYS_mprotect, without_exec()?);
    let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch)?.try_into()
}

fn sockets(reaches: &[Reaches]) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let rule = |(family, kind): &(libc::c_int, libc::c_int)| {
        SeccompRule::new(vec![
            SeccompCondition::new(0, Width::Dword, SeccompCmpOp::Eq, u64::from(family.cast_unsigned()))?,
            // The low bits are the type; the rest are SOCK_CLOEXEC and SOCK_NONBLOCK.
            SeccompCondition::new(1, Width::Dword, SeccompCmpOp::MaskedEq(0xf), u64::from(kind.cast_unsigned()))?,
        ])
    };
    reaches.iter().flat_map(|reach| reach.sockets()).map(rule).collect()
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
        sealed_to(&[Reaches::Tcp, Reaches::Names], attempt)
    }

    fn sealed_to<T: Send + 'static>(reaches: &'static [Reaches], attempt: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            seal(reaches).unwrap();
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
    fn one_that_speaks_to_a_unix_socket_reaches_no_network_and_opens_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let to = |attempt: fn() -> std::io::Result<()>| sealed_to(&[Reaches::UnixSockets], attempt);
        assert!(sealed_to(&[Reaches::UnixSockets], move || std::os::unix::net::UnixStream::connect(path).is_ok()));
        assert!(refused(to(|| std::net::TcpStream::connect("127.0.0.1:1").map(drop))));
        assert!(refused(to(|| std::net::TcpStream::connect("[::1]:1").map(drop))));
        assert!(refused(to(|| std::os::unix::net::UnixDatagram::unbound().map(drop))));
        assert!(refused(to(|| std::fs::File::open("/etc/hostname").map(drop))));
    }

    #[test]
    fn one_that_looks_up_no_names_makes_tcp_alone_and_one_without_peers_no_socket_at_all() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(sealed_to(&[Reaches::Tcp], move || std::net::TcpStream::connect(address).is_ok()));
        assert!(refused(sealed_to(&[Reaches::Tcp], || std::net::UdpSocket::bind("127.0.0.1:0"))));
        assert!(refused(sealed_to(&[Reaches::Tcp], std::os::unix::net::UnixDatagram::unbound)));
        assert!(refused(sealed_to(&[Reaches::Tcp], || std::os::unix::net::UnixStream::connect("/nowhere"))));
        assert!(refused(sealed_to(&[], move || std::net::TcpStream::connect(address))));
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
