//! Who is at the other end of a Unix socket: the kernel's word, not the peer's.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;

/// A peer's credentials at the moment it connected (`SO_PEERCRED`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its process, for logs only: it may have been reused, and it is 0 for one outside of our PID namespace.
    pub pid: i32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

/// Asks the kernel. By the plain call: rustix' type has no room for the 0 that stands for a process of another PID namespace,
/// and reading it as one is undefined.
#[expect(unsafe_code, reason = "getsockopt of a structure has no safe wrapper that holds a pid of 0")]
pub fn of(stream: &UnixStream) -> io::Result<Peer> {
    let mut credentials = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let size = libc::socklen_t::try_from(size_of::<libc::ucred>()).map_err(io::Error::other)?;
    let mut written = size;
    let (into, descriptor) = (std::ptr::from_mut(&mut credentials).cast(), stream.as_raw_fd());
    // SAFETY: the descriptor is open, `into` has room for `size` bytes, and any bytes are a valid `ucred`.
    let answer = unsafe { libc::getsockopt(descriptor, libc::SOL_SOCKET, libc::SO_PEERCRED, into, &raw mut written) };
    match answer {
        0 if written == size => Ok(Peer { pid: credentials.pid, uid: credentials.uid, gid: credentials.gid }),
        0 => Err(io::ErrorKind::InvalidData.into()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_end_of_our_own_pair_is_ourselves() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let peer = of(&ours).unwrap();
        assert_eq!(peer.pid, i32::try_from(std::process::id()).unwrap());
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        assert_eq!(peer.gid, rustix::process::getegid().as_raw());
    }
}
