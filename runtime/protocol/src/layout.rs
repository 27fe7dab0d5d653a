//! Where the processes find each other: everything lies below `--config` and `--state`, so that several can run side by side.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// The longest path a Unix socket can have, without the closing NUL (`sun_path` is 108 bytes).
const SUN_PATH: usize = 107;

/// The two directories of one Theriac.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Read only: what the operator wrote.
    pub config: PathBuf,
    /// What the processes keep.
    pub state: PathBuf,
}

/// The sockets below `STATE/run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Socket {
    /// The agent asks the runner.
    Runner,
    /// A person asks the runner.
    Operator,
    /// The CLI asks the agent.
    Agent,
    /// The runner asks the `net` courier.
    CourierNet,
    /// The runner asks the `acme` courier.
    CourierAcme,
    /// The runner asks the `docker` courier.
    CourierDocker,
    /// The runner asks the `databases` courier.
    CourierDatabases,
    /// The runner asks the launcher.
    Launcher,
}

impl Socket {
    /// The file's name.
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Runner => "runner.sock",
            Self::Operator => "operator.sock",
            Self::Agent => "agent.sock",
            Self::CourierNet => "courier-net.sock",
            Self::CourierAcme => "courier-acme.sock",
            Self::CourierDocker => "courier-docker.sock",
            Self::CourierDatabases => "courier-databases.sock",
            Self::Launcher => "launcher.sock",
        }
    }
}

/// Why a socket could not be opened for listening.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The kernel's limit.
    #[error("the socket path `{}` is longer than {SUN_PATH} bytes: use a shorter --state directory", path.display())]
    TooLong { path: PathBuf },
    /// Somebody listens there already.
    #[error("another process listens on `{}`: is Theriac running with the same --state?", path.display())]
    InUse { path: PathBuf },
    /// The filesystem said no.
    #[error("can't listen on `{}`", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Layout {
    /// The defaults of a packaged installation.
    pub fn system() -> Self {
        Self { config: PathBuf::from("/etc/theriac"), state: PathBuf::from("/var/lib/theriac") }
    }

    /// A socket's path.
    pub fn socket(&self, socket: Socket) -> PathBuf {
        self.state.join("run").join(socket.file_name())
    }

    /// The runner's own directory.
    pub fn runner(&self) -> PathBuf {
        self.state.join("runner")
    }

    /// The agent's own directory.
    pub fn agent(&self) -> PathBuf {
        self.state.join("agent")
    }

    /// The launcher's own directory.
    pub fn launcher(&self) -> PathBuf {
        self.state.join("launcher")
    }

    /// Listens, with the mode; a socket file that nobody listens on any more is replaced.
    pub fn listen(&self, socket: Socket, mode: u32) -> Result<UnixListener, ListenError> {
        let path = self.socket(socket);
        check_length(&path)?;
        if path.exists() && std::os::unix::net::UnixStream::connect(&path).is_ok() {
            return Err(ListenError::InUse { path });
        }
        let failed = |source| ListenError::Io { path: path.clone(), source };
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path).map_err(failed)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
        Ok(listener)
    }
}

fn check_length(path: &Path) -> Result<(), ListenError> {
    if path.as_os_str().len() > SUN_PATH { Err(ListenError::TooLong { path: path.to_owned() }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("run")).unwrap();
        let layout = Layout { config: dir.path().to_owned(), state: dir.path().to_owned() };
        (dir, layout)
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let (_dir, layout) = layout();
        drop(layout.listen(Socket::Runner, 0o600).unwrap());
        let live = layout.listen(Socket::Runner, 0o600).unwrap();
        assert!(matches!(layout.listen(Socket::Runner, 0o600), Err(ListenError::InUse { .. })));
        drop(live);
    }

    #[test]
    fn a_path_the_kernel_would_cut_is_refused_with_a_sentence() {
        let state = PathBuf::from(format!("/{}", "x".repeat(120)));
        let layout = Layout { config: state.clone(), state };
        assert!(layout.listen(Socket::Runner, 0o600).unwrap_err().to_string().contains("shorter --state"));
    }
}
