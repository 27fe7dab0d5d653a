//! Servers of the test's own: in a directory of their own, on sockets of their own, ended with the test.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Far above what anything here takes, so that a slow machine fails no test.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Looks until it is so.
pub(super) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A child that ends with the test.
pub(super) struct Kept(pub(super) Child);

impl Drop for Kept {
    fn drop(&mut self) {
        // One that has ended already can't be killed.
        let _ignored = self.0.kill();
        let _ignored = self.0.wait();
    }
}

impl Kept {
    /// Tells a client something.
    pub(super) fn say(&mut self, text: &str) {
        let input = self.0.stdin.as_mut().unwrap();
        // One that was not let in has ended already.
        let _ignored = input.write_all(text.as_bytes());
    }

    pub(super) fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

/// A server that ends with the test, in good order: it has memory that outlives a killed process.
pub(super) struct Daemon(pub(super) Child);

impl Daemon {
    pub(super) fn end(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.0.id().cast_signed()) {
            // One that has ended already can't be told.
            let _ignored = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        }
        let _ignored = self.0.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

/// The first of these that is there.
pub(super) fn program(names: &[&str]) -> Option<PathBuf> {
    names.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// As that user where this is root: servers refuse to run as root.
pub(super) fn as_user(user: &str, program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups", "--"]).arg(program);
    command
}

/// Belongs to the server's user.
pub(super) fn give(path: &Path, user: &str) {
    if rustix::process::geteuid().is_root() {
        let status = Command::new("chown").arg(format!("{user}:{user}")).arg(path).status().unwrap();
        assert!(status.success());
    }
}

pub(super) fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}
