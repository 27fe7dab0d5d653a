//! The real binary with real processes: what a service does, what the launcher says, and what is left afterwards.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, and so do its helpers"
)]

use std::fs;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use theriac_model::id::UnitName;
use theriac_model::unit::{ActiveState, KillWhom, Signal, UnitState};
use theriac_protocol::frame::{self, Frame};
use theriac_protocol::launcher::{LauncherAnswer, LauncherRequest};

/// Far above what anything here takes, so that a slow machine fails no test.
const PATIENCE: Duration = Duration::from_secs(20);

struct Launcher {
    child: Child,
    dir: tempfile::TempDir,
}

impl Launcher {
    fn start(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("launcher.toml"), config.replace("DIR", &dir.path().display().to_string())).unwrap();
        let child = Self::spawn(dir.path());
        Self { child, dir }
    }

    /// Returns when it says that it is ready, as it says it to systemd.
    fn spawn(dir: &Path) -> Child {
        let told = dir.join("notify");
        // Of the launcher that ran here before.
        fs::remove_file(&told).ok();
        let ready = UnixDatagram::bind(&told).unwrap();
        ready.set_read_timeout(Some(PATIENCE)).unwrap();
        // As `nohup` starts it.
        let child = Command::new("env")
            .args(["--ignore-signal=HUP", env!("CARGO_BIN_EXE_theriac-launcher")])
            .args(["--config".as_ref(), dir, "--state".as_ref(), dir])
            .env("NOTIFY_SOCKET", &told)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = [0; 64];
        ready.recv(&mut said).unwrap();
        assert!(said.starts_with(b"READY=1"));
        child
    }

    fn again(&mut self) {
        self.child = Self::spawn(self.dir.path());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn connect(&self) -> Peer {
        let stream = UnixStream::connect(self.path("run/launcher.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Peer { stream, epoch: 1, id: 0 }
    }

    fn peer(&self) -> Peer {
        let mut peer = self.connect();
        assert!(matches!(peer.ask(hello()), LauncherAnswer::Hello { .. }));
        peer
    }

    fn state(&self) -> UnitState {
        unit(self.peer().ask(LauncherRequest::Unit { name: web() }))
    }

    fn wait_for(&self, what: &str, wanted: impl Fn(&UnitState) -> bool) -> UnitState {
        until(what, || Some(self.state()).filter(&wanted))
    }

    /// A pid that a service wrote down.
    fn pid(&self, file: &str) -> u32 {
        until(file, || fs::read_to_string(self.path(file)).ok()?.trim().parse().ok())
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        terminate(self.child.id());
        self.child.wait().unwrap();
    }
}

struct Peer {
    stream: UnixStream,
    epoch: u64,
    id: u64,
}

fn hello() -> LauncherRequest {
    LauncherRequest::Hello { version: "t".to_owned() }
}

impl Peer {
    fn send(&mut self, message: LauncherRequest) {
        self.id += 1;
        frame::write(&mut self.stream, &Frame { epoch: self.epoch, id: self.id, message }).unwrap();
    }

    fn ask(&mut self, message: LauncherRequest) -> LauncherAnswer {
        self.send(message);
        loop {
            let answer: Frame<LauncherAnswer> = frame::read(&mut self.stream).unwrap();
            if answer.id == self.id {
                return answer.message;
            }
        }
    }
}

fn web() -> UnitName {
    UnitName::parse("web").unwrap()
}

fn unit(answer: LauncherAnswer) -> UnitState {
    match answer {
        LauncherAnswer::Unit(state) => state,
        other => panic!("{other:?}"),
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

fn terminate(pid: u32) {
    signal(pid, rustix::process::Signal::TERM);
}

fn alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn service(script: &str, extra: &str) -> String {
    format!("[[service]]\nname = \"web\"\ncommand = ['/bin/sh', '-c', '{script}']\nrestart_delay = \"0s\"\n{extra}\n")
}

#[test]
fn a_killed_service_is_seen_at_once_and_comes_back_as_another_invocation() {
    let launcher = Launcher::start(&service("exec sleep 1000", ""));
    let mut events = launcher.peer();
    assert_eq!(events.ask(LauncherRequest::Subscribe), LauncherAnswer::Subscribed);
    let before = launcher.wait_for("the start", |state| state.active == ActiveState::Active);
    assert_eq!((before.invocation.len(), before.pids.as_slice()), (32, [before.main_pid].as_slice()));
    signal(before.main_pid, rustix::process::Signal::KILL);
    let mut words = Vec::new();
    let after = loop {
        let event: Frame<LauncherAnswer> = frame::read(&mut events.stream).unwrap();
        let LauncherAnswer::UnitChanged(state) = event.message else { panic!("{event:?}") };
        assert_eq!(event.id, 0);
        words.push((state.sub.clone(), state.result.clone()));
        if state.active == ActiveState::Active {
            break state;
        }
    };
    assert!(words.contains(&("auto-restart".to_owned(), "signal".to_owned())), "{words:?}");
    assert_ne!(before.invocation, after.invocation);
    assert_eq!((after.restarts, after.is_up()), (1, true));
    assert!(!alive(before.main_pid));
}

#[test]
fn a_service_that_always_fails_ends_in_the_start_limit_and_reset_failed_gives_it_another_chance() {
    let config = service("exit 3", "start_limit_burst = 3\nstart_limit_interval = \"1h\"");
    let launcher = Launcher::start(&config);
    let state = launcher.wait_for("the limit", |state| state.result == "start-limit-hit");
    assert_eq!((state.active, state.will_restart, state.stopped_on_purpose), (ActiveState::Failed, false, false));
    let mut peer = launcher.peer();
    let LauncherAnswer::Refused(reason) = peer.ask(LauncherRequest::Start { name: web() }) else { panic!() };
    assert!(reason.contains("start-limit-hit"), "{reason}");
    let state = unit(peer.ask(LauncherRequest::ResetFailed { name: web() }));
    assert_eq!((state.active, state.result.as_str()), (ActiveState::Inactive, "success"));
    assert!(matches!(peer.ask(LauncherRequest::Start { name: web() }), LauncherAnswer::Unit(_)));
}

#[test]
fn a_program_that_is_not_there_is_refused_with_the_kernels_reason() {
    let config =
        "[[service]]\nname = \"web\"\ncommand = [\"/nonexistent/app\"]\nautostart = false\nrestart = \"never\"\n";
    let launcher = Launcher::start(config);
    let LauncherAnswer::Refused(reason) = launcher.peer().ask(LauncherRequest::Start { name: web() }) else { panic!() };
    assert!(reason.contains("No such file"), "{reason}");
    assert_eq!(launcher.state().result, "resources");
    let nobody = UnitName::parse("nobody").unwrap();
    assert_eq!(launcher.peer().ask(LauncherRequest::Start { name: nobody }), LauncherAnswer::NoSuchUnit);
}

/// It ignores TERM, and one child left by a double fork into a session of its own.
const STUBBORN: &str = r#"trap "" TERM; setsid sh -c "trap \"\" TERM; (echo \$\$ > DIR/escaped; while :; do sleep 1000; done) &" & echo $$ > DIR/main; while :; do sleep 1000; done"#;

// EX10.
#[test]
fn a_stop_leaves_nothing_not_even_what_double_forked_and_ignores_term() {
    let launcher = Launcher::start(&service(STUBBORN, "stop_timeout = \"100ms\""));
    let (main, escaped) = (launcher.pid("main"), launcher.pid("escaped"));
    // `$$` in the escaped subshell is the shell that left already; the processes are found by the launcher.
    let state = launcher.wait_for("the escaped child", |state| state.pids.len() >= 4);
    assert_eq!(state.main_pid, main);
    assert_ne!(main, escaped);
    let state = unit(launcher.peer().ask(LauncherRequest::Stop { name: web() }));
    assert_eq!((state.active, state.result.as_str()), (ActiveState::Failed, "timeout"));
    assert!(state.stopped_on_purpose && state.pids.is_empty() && state.main_pid == 0, "{state:?}");
    for pid in [main].into_iter().chain(launcher.state().pids) {
        assert!(!alive(pid), "{pid} is left");
    }
    assert_eq!(marked(&state.invocation), Vec::<u32>::new());
}

/// Every process of one start, however it got away.
fn marked(invocation: &str) -> Vec<u32> {
    let wanted = format!("INVOCATION_ID={invocation}");
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(|pid| alive(*pid))
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes())
        })
        .collect()
}

#[test]
fn a_stopped_process_still_ends_on_stop() {
    let launcher = Launcher::start(&service("exec sleep 1000", ""));
    let state = launcher.wait_for("the start", |state| state.active == ActiveState::Active);
    signal(state.main_pid, rustix::process::Signal::STOP);
    let state = unit(launcher.peer().ask(LauncherRequest::Stop { name: web() }));
    assert_eq!((state.active, state.stopped_on_purpose), (ActiveState::Inactive, true));
}

#[test]
fn restart_reload_and_kill_do_what_they_say() {
    let script =
        r#"trap "echo reloaded" HUP; trap "echo usr1" USR1; echo started; while :; do sleep 1000 & wait; done"#;
    let launcher = Launcher::start(&service(script, "reload_signal = \"HUP\""));
    let mut peer = launcher.peer();
    let tail = |peer: &mut Peer, wanted: &str| {
        until(wanted, || match peer.ask(LauncherRequest::LogTail { name: web(), lines: 10 }) {
            LauncherAnswer::Lines(lines) => lines.iter().any(|line| line == wanted).then_some(()),
            other => panic!("{other:?}"),
        });
    };
    tail(&mut peer, "started");
    let before = launcher.state();
    unit(peer.ask(LauncherRequest::Reload { name: web() }));
    tail(&mut peer, "reloaded");
    unit(peer.ask(LauncherRequest::Kill { name: web(), whom: KillWhom::Main, signal: Signal::Usr1 }));
    tail(&mut peer, "usr1");
    assert_eq!(launcher.state().invocation, before.invocation);
    let after = unit(peer.ask(LauncherRequest::Restart { name: web() }));
    assert!(after.is_up() && after.invocation != before.invocation && after.restarts == 0, "{after:?}");
    assert_eq!(marked(&before.invocation), Vec::<u32>::new());
    unit(peer.ask(LauncherRequest::Kill { name: web(), whom: KillWhom::All, signal: Signal::Kill }));
    launcher.wait_for("the automatic restart", |state| state.restarts == 1 && state.is_up());
}

#[test]
fn a_start_right_after_a_kill_starts_it_again() {
    let launcher = Launcher::start(&service("exec sleep 1000", "restart = \"never\""));
    let before = launcher.wait_for("the start", |state| state.active == ActiveState::Active);
    let mut peer = launcher.peer();
    // Both are there before the kernel has ended anything.
    peer.send(LauncherRequest::Kill { name: web(), whom: KillWhom::All, signal: Signal::Kill });
    let after = unit(peer.ask(LauncherRequest::Start { name: web() }));
    assert!(after.is_up() && after.invocation != before.invocation, "{after:?}");
    assert_eq!(marked(&before.invocation), Vec::<u32>::new());
}

/// Eight processes, each of which hands itself on to a new one as fast as it can: never more than that, and never the same.
const RELAY: &str = r#"trap "" TERM; echo "/bin/sh DIR/relay &" > DIR/relay; for i in 1 2 3 4 5 6 7 8; do /bin/sh DIR/relay & done; while :; do sleep 1000; done"#;

// PR05.
#[test]
fn a_kill_leaves_nobody_of_those_who_fork_faster_than_they_can_be_listed() {
    let launcher = Launcher::start(&service(RELAY, "restart = \"never\""));
    let before = launcher.wait_for("the relay", |state| state.pids.len() > 4);
    until("others in their place", || {
        let now = launcher.state().pids;
        (now.len() > 4 && now.iter().filter(|pid| before.pids.contains(pid)).count() <= 2).then_some(())
    });
    unit(launcher.peer().ask(LauncherRequest::Kill { name: web(), whom: KillWhom::All, signal: Signal::Kill }));
    let after = launcher.wait_for("the end", |state| state.active == ActiveState::Failed);
    assert_eq!((after.result.as_str(), after.pids.len()), ("signal", 0));
    assert_eq!(marked(&before.invocation), Vec::<u32>::new());
}

// EX11.
#[test]
fn a_service_gets_only_the_environment_and_descriptors_that_are_written_down() {
    let script = "env > DIR/env; ls -l /proc/self/fd > DIR/fds; cat /proc/self/status > DIR/status; exec sleep 1000";
    let launcher = Launcher::start(&service(script, "env = { GREETING = \"hello\" }"));
    let state = launcher.wait_for("the start", |state| state.active == ActiveState::Active);
    until("status", || fs::read_to_string(launcher.path("status")).ok()?.contains("NoNewPrivs:\t1").then_some(()));
    let env = fs::read_to_string(launcher.path("env")).unwrap();
    let mut names: Vec<&str> = env.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    names.sort_unstable();
    // The shell adds its own three.
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
    assert_eq!(names, ["GREETING", "INVOCATION_ID"]);
    assert!(env.contains(&state.invocation));
    let fds = fs::read_to_string(launcher.path("fds")).unwrap();
    assert!(!fds.contains("socket") && !fds.contains("lock") && !fds.contains("signalfd"), "{fds}");
}

#[test]
fn a_service_ignores_no_signal_that_the_launcher_was_started_to_ignore() {
    let launcher = Launcher::start(&service("exec sleep 1000", ""));
    let service = launcher.wait_for("the start", |state| state.active == ActiveState::Active).main_pid;
    // The C library's own two, 32 and 33, are ignored in whatever it starts.
    let ignores = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
        u64::from_str_radix(mask, 16).unwrap() & !(0b11 << 31)
    };
    assert_eq!(ignores(launcher.child.id()) & 1, 1, "the launcher was told to ignore HUP");
    assert_eq!(ignores(service), 0);
}

#[test]
fn a_lower_epoch_is_refused_and_so_is_whoever_does_not_greet_first() {
    let launcher = Launcher::start(&service("exec sleep 1000", ""));
    let mut rude = launcher.connect();
    assert!(matches!(rude.ask(LauncherRequest::Stop { name: web() }), LauncherAnswer::Refused(_)));
    let mut old = launcher.peer();
    let mut new = launcher.peer();
    new.epoch = 7;
    assert!(matches!(new.ask(hello()), LauncherAnswer::Hello { .. }));
    assert!(matches!(new.ask(LauncherRequest::Units), LauncherAnswer::Units(units) if units.len() == 1));
    assert_eq!(
        old.ask(LauncherRequest::Stop { name: web() }),
        LauncherAnswer::Refused("epoch 1 is over: epoch 7 has been seen".to_owned())
    );
    assert!(unit(new.ask(LauncherRequest::Unit { name: web() })).is_up());
}

#[test]
fn an_absurd_epoch_fences_nobody_out() {
    let launcher = Launcher::start(&service("exec sleep 1000", ""));
    let mut runner = launcher.peer();
    let mut absurd = launcher.connect();
    absurd.epoch = u64::MAX;
    assert_eq!(absurd.ask(hello()), LauncherAnswer::Refused(format!("epoch {} can't follow epoch 1", u64::MAX)));
    assert!(unit(runner.ask(LauncherRequest::Unit { name: web() })).is_up());
}

#[test]
fn garbage_and_a_peer_that_never_reads_do_not_disturb_the_others() {
    use std::io::Write as _;
    let launcher = Launcher::start(&service("exec sleep 1000", ""));
    let mut garbage = UnixStream::connect(launcher.path("run/launcher.sock")).unwrap();
    garbage.write_all(&[0xff; 4096]).unwrap();
    let mut deaf = launcher.peer();
    deaf.stream.set_nonblocking(true).unwrap();
    for _ in 0..20_000 {
        let frame = Frame { epoch: 1, id: 9, message: LauncherRequest::Units };
        if frame::write(&mut deaf.stream, &frame).is_err() {
            break;
        }
    }
    assert!(launcher.state().is_up());
}

#[test]
fn term_ends_the_launcher_and_all_of_its_services() {
    let mut launcher = Launcher::start(&service(STUBBORN, "stop_timeout = \"50ms\""));
    let state = launcher.wait_for("the children", |state| state.pids.len() >= 4);
    terminate(launcher.child.id());
    assert!(launcher.child.wait().unwrap().success());
    assert_eq!(marked(&state.invocation), Vec::<u32>::new());
    // For the destructor.
    launcher.again();
}

#[test]
fn what_a_killed_launcher_leaves_is_ended_before_the_next_one_starts_anything() {
    let mut launcher = Launcher::start(&service(STUBBORN, "stop_timeout = \"50ms\""));
    let first = launcher.wait_for("the children", |state| state.pids.len() >= 4);
    signal(launcher.child.id(), rustix::process::Signal::KILL);
    launcher.child.wait().unwrap();
    assert_ne!(marked(&first.invocation), Vec::<u32>::new(), "it ignores the TERM that the kernel sends");
    launcher.again();
    let second = launcher.wait_for("the start", |state| state.active == ActiveState::Active);
    assert_ne!(first.invocation, second.invocation);
    assert_eq!(marked(&first.invocation), Vec::<u32>::new());
}

#[test]
fn a_service_dies_with_a_killed_launcher_unless_it_refuses() {
    let mut launcher = Launcher::start(&service("exec sleep 1000", ""));
    let state = launcher.wait_for("the start", |state| state.active == ActiveState::Active);
    signal(launcher.child.id(), rustix::process::Signal::KILL);
    launcher.child.wait().unwrap();
    until("the end", || (!alive(state.main_pid)).then_some(()));
    launcher.again();
}

#[test]
fn a_second_launcher_of_the_same_state_is_refused() {
    let launcher = Launcher::start("");
    let second = Command::new(env!("CARGO_BIN_EXE_theriac-launcher"))
        .args(["--config".as_ref(), launcher.dir.path(), "--state".as_ref(), launcher.dir.path()])
        .output()
        .unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("another launcher uses"));
    launcher.peer();
}

#[test]
fn as_root_a_service_runs_as_its_own_user_without_supplementary_groups() {
    if !rustix::process::geteuid().is_root() {
        return println!("not possible here: needs root");
    }
    let launcher = Launcher::start(&service("exec sleep 1000", "user = \"65533\""));
    let state = launcher.wait_for("the start", |state| state.active == ActiveState::Active);
    let status = fs::read_to_string(format!("/proc/{}/status", state.main_pid)).unwrap();
    assert!(status.contains("Uid:\t65533\t65533\t65533\t65533"), "{status}");
    assert!(status.contains("Gid:\t65533\t65533\t65533\t65533"), "{status}");
    assert!(status.lines().any(|line| line.trim_end() == "Groups:"), "{status}");
}
