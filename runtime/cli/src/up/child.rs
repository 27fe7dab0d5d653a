//! One process of ours: how it is started, and what is done when it dies.

use std::ffi::OsString;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use theriac_protocol::layout::{Layout, Socket};

use super::relay::{LastLines, Log};
use crate::failure::{Failure, OrFail as _};

/// A process that died that often within [`WINDOW`] is not started again.
const DEATHS: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);
/// The first restart is quick, because a dead runner heals nothing; each further one waits twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// How a process is started.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<OsString>,
    socket: PathBuf,
}

impl Spec {
    pub(super) fn new(name: &'static str, program: PathBuf, layout: &Layout, socket: Socket, uid: Option<u32>) -> Self {
        let mut arguments: Vec<OsString> = vec!["--config".into(), layout.config.clone().into()];
        arguments.extend(["--state".into(), layout.state.clone().into(), "--die-with-parent".into()]);
        if let Some(uid) = uid {
            let uid = OsString::from(uid.to_string());
            arguments.extend(["--uid".into(), uid.clone(), "--gid".into(), uid]);
        }
        Self { name, program, arguments, socket: layout.socket(socket) }
    }

    /// The same with a subcommand in front.
    pub(super) fn after(mut self, subcommand: &str) -> Self {
        self.arguments.insert(0, subcommand.into());
        self
    }

    /// The same with a further flag.
    pub(super) fn with(mut self, flag: &str) -> Self {
        self.arguments.push(flag.into());
        self
    }

    #[cfg(test)]
    pub(super) const fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    /// In a process group of its own, so that Ctrl-C reaches us alone and all is stopped in order. The environment is empty:
    /// configuration comes from files, and what a shell exported must not reach root's processes.
    fn spawn(&self) -> Result<std::process::Child, Failure> {
        Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .env("NO_COLOR", "1")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .or_fail_at(format!("starting `{}`", self.program.display()))
            .map_err(|failure| failure.hint("all programs of Theriac lie in one directory"))
    }
}

/// One process of ours.
pub(super) struct Child {
    spec: Spec,
    process: Option<std::process::Child>,
    last: LastLines,
    deaths: Vec<Instant>,
    due: Option<Instant>,
}

impl Child {
    pub(super) fn start(spec: Spec, log: &Log) -> Result<Self, Failure> {
        let mut child = Self { spec, process: None, last: LastLines::default(), deaths: Vec::new(), due: None };
        child.spawn(log)?;
        Ok(child)
    }

    fn spawn(&mut self, log: &Log) -> Result<(), Failure> {
        let mut process = self.spec.spawn()?;
        self.last = LastLines::default();
        if let Some(out) = process.stdout.take() {
            log.relay(self.spec.name, out, self.last.clone())?;
        }
        if let Some(err) = process.stderr.take() {
            log.relay(self.spec.name, err, self.last.clone())?;
        }
        self.process = Some(process);
        self.due = None;
        Ok(())
    }

    pub(super) const fn name(&self) -> &'static str {
        self.spec.name
    }

    /// When it is to be started again.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// How it ended, if it did.
    pub(super) fn ended(&mut self) -> Result<Option<String>, Failure> {
        let Some(process) = &mut self.process else { return Ok(None) };
        let status = process.try_wait().or_fail_at(format!("waiting for theriac-{}", self.spec.name))?;
        if status.is_some() {
            self.process = None;
        }
        Ok(status.map(describe))
    }

    /// Notices a death, and starts it again when that is due.
    pub(super) fn tend(&mut self, log: &Log) -> Result<(), Failure> {
        if let Some(how) = self.ended()? {
            let now = Instant::now();
            self.deaths.retain(|death| now.duration_since(*death) < WINDOW);
            self.deaths.push(now);
            let Some(pause) = pause(self.deaths.len()) else {
                return Err(
                    self.explain(&format!("theriac-{} ended {DEATHS} times within a minute ({how})", self.spec.name))
                );
            };
            log.say(&format!(
                "theriac-{} ended ({how}): starting it again in {} ms",
                self.spec.name,
                pause.as_millis()
            ));
            self.due = Some(now + pause);
        }
        if self.due.is_some_and(|due| due <= Instant::now()) {
            self.spawn(log)?;
        }
        Ok(())
    }

    /// The failure with the last thing that the process said.
    pub(super) fn explain(&self, sentence: &str) -> Failure {
        let last = self.last.settled();
        let failure = Failure::failed(match last.last() {
            Some(line) => format!("{sentence}: {}", line.trim()),
            None => sentence.to_owned(),
        });
        failure.hint(format!(
            "its last lines are above; `theriac doctor` looks at the machine (theriac-{})",
            self.spec.name
        ))
    }

    pub(super) fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(None)))
    }

    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(super) fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Some(process) = &mut self.process {
            // Killed: it is gone in a moment, or the kernel holds it and nobody can help.
            process.wait().ok();
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            // It may have ended by itself; not yet waited for, its number is still its own.
            kill_process(Pid::from_child(process), signal).ok();
        }
    }
}

/// How long to wait after that many deaths within the window; `None`: no more.
fn pause(deaths: usize) -> Option<Duration> {
    let doublings = u32::try_from(deaths.saturating_sub(1)).unwrap_or(u32::MAX);
    (deaths < DEATHS).then(|| FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(doublings)))
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_are_quick_at_first_then_slower_and_then_over() {
        let pauses: Vec<_> = (1..=5).map(|deaths| pause(deaths).map(|pause| pause.as_millis())).collect();
        assert_eq!(pauses, [Some(100), Some(200), Some(400), Some(800), None]);
    }

    #[test]
    fn a_process_that_says_why_it_ends_is_quoted() {
        let layout = Layout { config: "/c".into(), state: "/s".into() };
        let mut spec = Spec::new("runner", "/bin/sh".into(), &layout, Socket::Runner, None);
        spec.arguments = vec!["-c".into(), "echo 'no room for the journal' >&2; exit 7".into()];
        let mut child = Child::start(spec, &Log::default()).unwrap();
        let how = loop {
            if let Some(how) = child.ended().unwrap() {
                break how;
            }
            std::thread::yield_now();
        };
        assert_eq!(how, "exit code 7");
        assert_eq!(child.explain("it ended").to_string(), "it ended: no room for the journal");
    }
}
