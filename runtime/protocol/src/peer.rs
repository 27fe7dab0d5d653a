//! Who is at the other end of a Unix socket: the kernel's word, not the peer's.

use std::io;
use std::os::unix::net::UnixStream;

/// A peer's credentials at the moment it connected (`SO_PEERCRED`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its process, for logs only: it may have been reused.
    pub pid: i32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

/// Asks the kernel.
pub fn of(stream: &UnixStream) -> io::Result<Peer> {
    let credentials = rustix::net::sockopt::socket_peercred(stream)?;
    Ok(Peer { pid: credentials.pid.as_raw_pid(), uid: credentials.uid.as_raw(), gid: credentials.gid.as_raw() })
}
