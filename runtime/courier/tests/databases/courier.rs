//! The courier as a process, and the runner's side of its socket.

use std::fs;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Child, Command, Stdio};

use theriac_model::database::{
    ApplicationName, PoolState, Session, SessionState, Sessions, Setting, SettingChange, SettingGoal, SettingState,
    Termination,
};
use theriac_model::id::Label;
use theriac_protocol::database::{DatabaseAnswer, DatabaseNo, DatabaseRequest};
use theriac_protocol::frame::{self, Frame};

use super::place::PATIENCE;

pub(super) struct Courier {
    child: Child,
    stream: UnixStream,
    id: u64,
    _dir: tempfile::TempDir,
}

impl Courier {
    /// Starts it with this configuration, and greets it.
    pub(super) fn start(config: &str) -> Self {
        Self::start_with(config, &[])
    }

    pub(super) fn start_with(config: &str, extra: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("courier-databases.toml"), config).unwrap();
        let told = dir.path().join("notify");
        let ready = UnixDatagram::bind(&told).unwrap();
        ready.set_read_timeout(Some(PATIENCE)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_theriac-courier"))
            .args(["databases".as_ref(), "--config".as_ref(), dir.path(), "--state".as_ref(), dir.path()])
            .args(extra)
            .env("NOTIFY_SOCKET", &told)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = [0; 64];
        ready.recv(&mut said).unwrap();
        assert!(said.starts_with(b"READY=1"), "it says so once it is sealed");
        let stream = UnixStream::connect(dir.path().join("run/courier-databases.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut courier = Self { child, stream, id: 0, _dir: dir };
        let hello = courier.ask(DatabaseRequest::Hello { version: "t".into() });
        assert!(matches!(hello, DatabaseAnswer::Hello { .. }));
        courier
    }

    pub(super) fn ask(&mut self, message: DatabaseRequest) -> DatabaseAnswer {
        self.id += 1;
        frame::write(&mut self.stream, &Frame { epoch: 1, id: self.id, message }).unwrap();
        let answer: Frame<DatabaseAnswer> = frame::read(&mut self.stream).unwrap();
        assert_eq!(answer.id, self.id);
        answer.message
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(super) fn sessions(&mut self) -> Sessions {
        match self.ask(DatabaseRequest::Sessions { database: main() }) {
            DatabaseAnswer::Sessions(sessions) => sessions,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn pool(&mut self) -> PoolState {
        match self.ask(DatabaseRequest::Pool { database: main() }) {
            DatabaseAnswer::Pool(pool) => pool,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn terminate(&mut self, session: &Session, state: SessionState, older_than_s: u64) -> DatabaseAnswer {
        let application = ApplicationName::parse(&session.application).unwrap();
        let termination = Termination { session: session.id, state, application, older_than_s };
        self.ask(DatabaseRequest::Terminate { database: main(), termination })
    }

    pub(super) fn setting(&mut self, setting: Setting) -> SettingState {
        match self.ask(DatabaseRequest::Settings { database: main(), settings: vec![setting] }) {
            DatabaseAnswer::Settings(mut found) if found.len() == 1 => found.remove(0).1,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn set(&mut self, setting: Setting, expected: &SettingState, goal: SettingGoal) -> DatabaseAnswer {
        let change = SettingChange { setting, expected: expected.clone(), goal };
        self.ask(DatabaseRequest::Set { database: main(), change })
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

pub(super) fn main() -> Label {
    Label::parse("main").unwrap()
}

pub(super) fn of<'s>(sessions: &'s Sessions, application: &str, state: SessionState) -> Vec<&'s Session> {
    let wanted = |session: &&Session| session.application == application && session.state == state;
    sessions.sessions.iter().filter(wanted).collect()
}

/// Sessions of applications: an administrator's that is just ending is not among them.
pub(super) fn of_applications(sessions: &Sessions) -> usize {
    sessions.sessions.iter().filter(|session| ["shop", "mail"].contains(&session.application.as_str())).count()
}

pub(super) fn is_stale(answer: &DatabaseAnswer) -> bool {
    matches!(answer, DatabaseAnswer::No(DatabaseNo::Stale(_)))
}

pub(super) fn is_refused(answer: &DatabaseAnswer) -> bool {
    matches!(answer, DatabaseAnswer::No(DatabaseNo::Refused(_)))
}
