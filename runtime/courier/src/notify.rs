//! sd_notify over a socket that was connected before the seal: afterwards there is no way to reach another path.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// systemd's end, if systemd started us.
#[derive(Debug)]
pub(crate) struct Notifier {
    socket: Option<UnixDatagram>,
    /// How often to say that we are alive.
    pub(crate) every: Option<Duration>,
}

impl Notifier {
    pub(crate) fn connect() -> io::Result<Self> {
        let every = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        let socket = std::env::var_os("NOTIFY_SOCKET").map(connected).transpose()?;
        Ok(Self { socket, every })
    }

    /// Not being heard is systemd's to notice: that is what the watchdog is for.
    pub(crate) fn say(&self, state: &str) {
        if let Some(Err(error)) = self.socket.as_ref().map(|socket| socket.send(state.as_bytes())) {
            tracing::warn!(%error, "sd_notify failed");
        }
    }
}

fn connected(path: OsString) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    // A leading `@` is systemd's spelling of an abstract socket.
    match path.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(&path)?,
    }
    Ok(socket)
}
