//! The real binary: what it makes, who it becomes, what it says to systemd, how it ends.

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::os::unix::net::{UnixDatagram, UnixStream};
    use std::path::Path;
    use std::process::{Child, Command};
    use std::time::Duration;

    use theriac_protocol::agent::{AgentAnswer, AgentRequest};
    use theriac_protocol::frame::{self, Frame};
    use theriac_protocol::layout::{Layout, Socket};

    /// An ordinary user, where we may choose.
    const OTHER: u32 = 65_433;

    struct Agent(Child);

    impl Drop for Agent {
        fn drop(&mut self) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }

    fn start(dir: &Path, identity: Option<u32>, notify: &Path) -> Agent {
        let mut command = Command::new(env!("CARGO_BIN_EXE_theriac-agent"));
        command
            .arg("--config")
            .arg(dir.join("config"))
            .arg("--state")
            .arg(dir.join("state"))
            .env("NOTIFY_SOCKET", notify);
        if let Some(id) = identity {
            command.arg("--uid").arg(id.to_string()).arg("--gid").arg(id.to_string());
        }
        Agent(command.spawn().unwrap())
    }

    fn said(socket: &UnixDatagram, wanted: &str) -> bool {
        let mut text = [0; 256];
        loop {
            match socket.recv(&mut text) {
                Ok(length) if std::str::from_utf8(&text[..length]).unwrap().lines().any(|line| line == wanted) => {
                    return true;
                }
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    return false;
                }
            }
        }
    }

    #[test]
    fn it_becomes_its_user_keeps_its_inbox_to_itself_and_ends_when_told() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir(dir.path().join("config")).unwrap();
        let root = rustix::process::geteuid().is_root();
        let identity = root.then_some(OTHER);
        let notify = dir.path().join("notify");
        let systemd = UnixDatagram::bind(&notify).unwrap();
        std::fs::set_permissions(&notify, std::fs::Permissions::from_mode(0o777)).unwrap();
        systemd.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut agent = start(dir.path(), identity, &notify);
        assert!(said(&systemd, "READY=1"), "systemd is told");

        let state = dir.path().join("state");
        let layout = Layout { config: dir.path().join("config"), state: state.clone() };
        let mut stream = UnixStream::connect(layout.socket(Socket::Agent)).unwrap();
        frame::write(&mut stream, &Frame { epoch: 0, id: 1, message: AgentRequest::Status }).unwrap();
        let answer = frame::read::<AgentAnswer>(&mut stream).unwrap().message;
        assert!(
            matches!(&answer, AgentAnswer::Status(status) if !status.runner_connected && status.disarmed.is_empty()),
            "{answer:?}"
        );

        let own = std::fs::metadata(state.join("agent")).unwrap();
        assert_eq!(own.mode() & 0o777, 0o700);
        assert_eq!(own.uid(), identity.unwrap_or(rustix::process::geteuid().as_raw()));
        let status = std::fs::read_to_string(format!("/proc/{}/status", agent.0.id())).unwrap();
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        if let Some(id) = identity {
            assert!(
                status.contains(&format!("Uid:\t{id}\t{id}\t{id}\t{id}")) && status.contains("Groups:\t \n"),
                "{status}"
            );
            assert!(status.contains("CapEff:\t0000000000000000"));
        }

        let mut second = start(dir.path(), identity, &notify);
        assert!(!second.0.wait().unwrap().success(), "a second one on the same state is refused");
        let pid = rustix::process::Pid::from_child(&agent.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(agent.0.wait().unwrap().success() && said(&systemd, "STOPPING=1"));
    }
}
