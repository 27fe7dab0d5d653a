//! The real `theriac`, alone and with all daemons below `theriac up`. Build with `--workspace`: the daemons lie beside it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and so do its fixtures")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const THERIAC: &str = env!("CARGO_BIN_EXE_theriac");
const PATIENCE: Duration = Duration::from_secs(60);

/// A configuration and a state directory, with what runs on them.
struct Scratch {
    dir: tempfile::TempDir,
    up: Option<Child>,
}

impl Scratch {
    fn new(runner_toml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // As root the agent is another user and has to pass.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("c")).unwrap();
        fs::write(dir.path().join("c/runner.toml"), runner_toml).unwrap();
        Self { dir, up: None }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(THERIAC);
        command.args(words).arg("--config").arg(self.path("c")).arg("--state").arg(self.path("s"));
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn json(&self, words: &[&str]) -> serde_json::Value {
        let output = self.run(&[words, &["--json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn up(&mut self) {
        let log = fs::File::create(self.path("up.log")).unwrap();
        let up = self.command(&["up"]).stdin(Stdio::null()).stderr(log).spawn().unwrap();
        self.up = Some(up);
        self.wait("everything is up", |me| me.log().contains("everything is up"));
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("up.log")).unwrap_or_default()
    }

    fn wait(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "waited in vain for: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal_up(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(self.up.as_ref().unwrap());
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Processes that were started for this scratch area.
    fn processes(&self) -> Vec<(u32, String)> {
        let state = self.path("s").display().to_string();
        let line = |pid: u32| {
            let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&bytes).replace('\0', " ");
            line.contains(&state).then_some((pid, line))
        };
        theriac_probe::proc::pids(Path::new("/proc")).filter_map(line).collect()
    }

    fn pid_of(&self, program: &str) -> Option<u32> {
        self.processes().into_iter().find(|(_, line)| line.contains(program)).map(|(pid, _)| pid)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(up) = &mut self.up {
            up.kill().ok();
            up.wait().ok();
        }
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn everything_comes_up_answers_is_held_and_stops_in_good_order() {
    let mut scratch = Scratch::new("");
    scratch.up();
    scratch.wait("the agent's connection", |me| me.json(&["status"])["agent"]["runner_connected"] == true);
    assert_eq!(scratch.json(&["incidents"]), serde_json::json!([]));

    assert!(scratch.run(&["hold", "--for", "2h"]).status.success());
    assert_eq!(scratch.json(&["status"])["runner"]["holds"].as_array().map(Vec::len), Some(1));
    assert!(scratch.run(&["resume"]).status.success());
    assert_eq!(scratch.json(&["status"])["runner"]["holds"].as_array().map(Vec::len), Some(0));
    assert_eq!(scratch.run(&["hold", "unit:unlisted"]).status.code(), Some(3));

    let second = scratch.run(&["up"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("running already"), "{}", stderr(&second));
    assert_eq!(scratch.json(&["audit", "verify"])["ok"], true);

    scratch.signal_up(rustix::process::Signal::TERM);
    assert!(scratch.up.take().unwrap().wait().unwrap().success());
    assert!(scratch.processes().is_empty());
    assert_eq!(scratch.run(&["status"]).status.code(), Some(4));
    let report = scratch.json(&["audit", "verify"]);
    assert_eq!((&report["ok"], &report["records"]), (&true.into(), &report["checkpointed"]), "{report}");
}

#[test]
fn what_dies_is_started_again_and_nothing_outlives_a_killed_up() {
    let mut scratch = Scratch::new("");
    scratch.up();
    let first = scratch.pid_of("theriac-runner").unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(first.cast_signed()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    scratch.wait("a new runner", |me| me.json(&["status"])["runner"]["epoch"] == 2);
    assert_ne!(scratch.pid_of("theriac-runner"), Some(first));

    scratch.signal_up(rustix::process::Signal::KILL);
    scratch.up.take().unwrap().wait().unwrap();
    scratch.wait("all to be gone", |me| me.processes().is_empty());
}

#[test]
fn a_changed_record_is_named_by_the_audit() {
    let mut scratch = Scratch::new("");
    scratch.up();
    scratch.signal_up(rustix::process::Signal::TERM);
    scratch.up.take().unwrap().wait().unwrap();
    assert!(scratch.run(&["audit", "verify"]).status.success());
    // Nobody runs any more: the journal itself is read.
    let shown = scratch.json(&["audit", "show"]);
    let shown = shown.as_array().unwrap();
    assert!(shown.iter().any(|entry| entry.pointer("/record/started").is_some()));
    assert_eq!(shown.last().unwrap()["record"], "stopped");
    let place = |path: &Path| fs::read(path).ok()?.windows(7).position(|window| window == b"started");
    let files = fs::read_dir(scratch.path("s/runner/journal")).unwrap().map(|entry| entry.unwrap().path());
    let (segment, at) = files.filter_map(|path| place(&path).map(|at| (path, at))).next().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[at] = b'S';
    fs::write(&segment, bytes).unwrap();
    let bad = scratch.run(&["audit", "verify"]);
    assert_eq!(bad.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&bad.stdout).starts_with("NOT AS SIGNED"), "{bad:?}");
    let shown = scratch.run(&["audit", "show"]);
    assert_eq!(shown.status.code(), Some(1));
    assert!(stderr(&shown).contains("nothing after this can be read"), "{}", stderr(&shown));
}

#[test]
fn a_mistake_in_a_file_is_said_in_one_sentence_and_nothing_is_left_running() {
    let scratch = Scratch::new("mod = 1\n");
    let output = scratch.run(&["up"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("runner.toml") && stderr(&output).contains("`mod`"), "{}", stderr(&output));

    let scratch = Scratch::new("");
    fs::write(scratch.path("c/agent.toml"), "x = 1\n").unwrap();
    let output = scratch.run(&["up"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("theriac: theriac-agent did not start"), "{}", stderr(&output));
    assert!(scratch.processes().is_empty());
}

#[test]
fn a_configuration_that_init_wrote_comes_up() {
    let mut scratch = Scratch::new("");
    fs::remove_dir_all(scratch.path("c")).unwrap();
    fs::write(scratch.path("pass"), "only a test\n").unwrap();
    let pass = scratch.path("pass").display().to_string();
    let init = scratch.run(&["init", "--passphrase-file", &pass]);
    assert!(init.status.success(), "{}", stderr(&init));
    scratch.up();
    assert_eq!(scratch.json(&["status"])["runner"]["mode"], "observe");
}

#[test]
fn completions_and_usage_errors_are_as_scripts_expect_them() {
    let run = |words: &[&str]| Command::new(THERIAC).args(words).output().unwrap();
    assert!(String::from_utf8_lossy(&run(&["completions", "bash"]).stdout).contains("_theriac"));
    assert_eq!(run(&["frobnicate"]).status.code(), Some(2));
    assert_eq!(run(&["hold", "--for", "soon"]).status.code(), Some(2));
    assert_eq!(run(&["help", "exit-codes"]).status.code(), Some(0));
}
