//! The runner's hands as it holds them: its launcher and its couriers as real processes.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use theriac_model::health::HealthCheck;
use theriac_model::id::{Label, UnitName};
use theriac_model::time::Span;
use theriac_model::unit::{ActiveState, KillWhom, Property, Signal};
use theriac_runner::backend::supervised::Supervised;
use theriac_runner::backend::{ServiceManager, UnitError};
use theriac_runner::courier::{CheckError, NetCourier};
use theriac_runner::databases::DatabaseCourier;
use theriac_runner::hands::{Databases as _, HandError};

const TIMEOUT: Duration = Duration::from_secs(30);

/// A process of ours, ended with the test.
struct Process {
    child: Child,
    socket: PathBuf,
}

impl Process {
    fn start(binary: &str, kind: &[&str], dir: &Path, socket: &str) -> Self {
        // Cargo puts the tests of a workspace beside its binaries.
        let target = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join(binary);
        assert!(target.exists(), "{} is not built: test with --workspace", target.display());
        let child = Command::new(target)
            .args(kind)
            .args(["--config".as_ref(), dir, "--state".as_ref(), dir])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let socket = dir.join("run").join(socket);
        let deadline = Instant::now() + TIMEOUT;
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(Instant::now() < deadline, "no socket {}", socket.display());
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { child, socket }
    }

    fn end(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.end();
        }
    }
}

fn launcher(dir: &Path) -> Process {
    let config = "[[service]]\nname = \"web\"\ncommand = [\"/bin/sleep\", \"1000\"]\nrestart_delay = \"0s\"\n\
                  [[service]]\nname = \"deaf\"\ncommand = [\"/bin/sh\", \"-c\", \"trap '' TERM; while :; do sleep 1; done\"]\n\
                  stop_timeout = \"2s\"\n";
    fs::write(dir.join("launcher.toml"), config).unwrap();
    Process::start("theriac-launcher", &[], dir, "launcher.sock")
}

fn unit(name: &str) -> UnitName {
    UnitName::parse(name).unwrap()
}

#[test]
fn a_supervised_service_is_restarted_killed_and_watched() {
    let dir = tempfile::tempdir().unwrap();
    let process = launcher(dir.path());
    let services = Supervised::new(&process.socket, 1);
    let (sender, events) = mpsc::channel();
    let _subscription = services.subscribe(move |state| sender.send(state).unwrap_or_default()).unwrap();
    let mut names: Vec<String> = (0..2).map(|_| events.recv_timeout(TIMEOUT).unwrap().name.to_string()).collect();
    names.sort();
    assert_eq!(names, ["deaf", "web"], "the present states come first");
    let before = services.state(&unit("web")).unwrap();
    let after = services.restart(&unit("web"), TIMEOUT).unwrap();
    assert!(before.is_up() && after.is_up() && before.invocation != after.invocation);
    services.kill(&unit("web"), KillWhom::Main, Signal::Kill).unwrap();
    let restarted = loop {
        let state = events.recv_timeout(TIMEOUT).unwrap();
        if state.restarts == 1 && state.is_up() {
            break state;
        }
    };
    assert_ne!(restarted.invocation, after.invocation);
    let stopped = services.stop(&unit("web"), TIMEOUT).unwrap();
    assert_eq!((stopped.active, stopped.stopped_on_purpose), (ActiveState::Inactive, true));
    assert_eq!(services.units().unwrap().len(), 2);
}

// RS03, SV10.
#[test]
fn a_stop_that_takes_too_long_may_have_happened_and_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let process = launcher(dir.path());
    let services = Supervised::new(&process.socket, 1);
    // Killed before it is up, the trap is not set yet.
    while services.state(&unit("deaf")).unwrap().pids.len() < 2 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let error = services.stop(&unit("deaf"), Duration::from_millis(200)).unwrap_err();
    assert!(matches!(error, UnitError::Timeout { .. }) && error.may_have_happened(), "{error}");
    assert!(services.restart(&unit("web"), TIMEOUT).unwrap().is_up());
    services.kill(&unit("deaf"), KillWhom::All, Signal::Kill).unwrap();
}

#[test]
fn a_launcher_that_is_gone_is_a_connection_error_and_its_return_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = launcher(dir.path());
    let services = Supervised::new(&process.socket, 1);
    let (sender, events) = mpsc::channel();
    let _subscription = services.subscribe(move |state| sender.send(state).unwrap_or_default()).unwrap();
    let first = events.recv_timeout(TIMEOUT).unwrap();
    services.kill(&unit("deaf"), KillWhom::All, Signal::Kill).unwrap();
    process.end();
    assert!(matches!(services.state(&unit("web")), Err(UnitError::Connection { .. })));
    let _again = launcher(dir.path());
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let state = events.recv_timeout(deadline.saturating_duration_since(Instant::now())).unwrap();
        if state.is_up() && state.name == first.name && state.invocation != first.invocation {
            break;
        }
    }
}

#[test]
fn what_a_supervised_service_does_not_have_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let process = launcher(dir.path());
    let services = Supervised::new(&process.socket, 1);
    assert!(matches!(services.state(&unit("nobody")), Err(UnitError::NoSuchUnit { .. })));
    assert!(matches!(services.reload(&unit("web"), TIMEOUT), Err(UnitError::Refused { .. })));
    let limit = services.set_property(&unit("web"), Property::CpuQuota(Some(500)));
    assert!(matches!(limit, Err(UnitError::Unavailable { .. })));
    let newer = Supervised::new(&process.socket, 2);
    assert!(newer.state(&unit("web")).unwrap().is_up());
    assert!(services.stop(&unit("web"), TIMEOUT).is_err(), "the lead of epoch 1 is over");
    assert!(newer.state(&unit("web")).unwrap().is_up());
}

#[test]
fn a_check_through_the_courier_is_an_answer_and_a_dead_courier_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start("theriac-courier", &["net"], dir.path(), "courier-net.sock");
    let courier = NetCourier::new(&process.socket, 1);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let check = HealthCheck::Tcp { address: listener.local_addr().unwrap(), timeout: Span::from_secs(5) };
    assert!(courier.check(&check).unwrap().ok);
    drop(listener);
    let answer = courier.check(&check).unwrap();
    assert_eq!((answer.ok, answer.detail.as_str()), (false, "connection refused"));
    let endless = HealthCheck::Tcp { address: "127.0.0.1:1".parse().unwrap(), timeout: Span::from_secs(3600) };
    assert!(matches!(courier.check(&endless), Err(CheckError::Refused { .. })));
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    assert!(matches!(courier.check(&check), Err(CheckError::Courier(_))), "nothing was measured");
}

#[test]
fn a_database_that_cant_be_reached_is_unavailable_and_so_is_a_dead_courier() {
    let dir = tempfile::tempdir().unwrap();
    let server = "[[server]]\nname = \"main\"\nkind = \"postgres\"\nsocket = \"/nonexistent/s\"\nuser = \"theriac\"\n";
    fs::write(dir.path().join("courier-databases.toml"), server).unwrap();
    let mut process = Process::start("theriac-courier", &["databases"], dir.path(), "courier-databases.sock");
    let courier = DatabaseCourier::new(&process.socket, 1);
    let ask = |name: &str| match courier.sessions(&Label::parse(name).unwrap()) {
        Err(HandError::Unavailable { reason }) => reason,
        other => panic!("{other:?}"),
    };
    assert!(ask("main").contains("can't be reached"));
    assert!(ask("other").contains("no [[server]] `other`"));
    let newer = DatabaseCourier::new(&process.socket, 2);
    assert!(matches!(newer.sessions(&Label::parse("main").unwrap()), Err(HandError::Unavailable { .. })));
    let over = courier.sessions(&Label::parse("main").unwrap());
    assert!(matches!(over, Err(HandError::Refused { .. })), "the lead of epoch 1 is over: {over:?}");
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    assert!(matches!(newer.sessions(&Label::parse("main").unwrap()), Err(HandError::Unavailable { .. })));
}
