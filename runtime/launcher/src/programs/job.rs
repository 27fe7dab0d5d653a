//! One program in its jail: bubblewrap, the init that it makes inside, and what comes out of the pipes.
//!
//! Bubblewrap tells through a pipe which process is the jail's init and how the program ended. Everything in the jail lives in
//! the init's pid namespace: when the init is gone, the kernel has killed and waited for all of it.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, WaitStatus, pidfd_open, pidfd_send_signal};
use serde::Deserialize;
use theriac_model::program::{ProgramEnding, ProgramOutput, ProgramSpec};
use theriac_model::units::Blob;
use theriac_protocol::launcher::LauncherAnswer;
use theriac_protocol::program::BUBBLEWRAP;

use super::{filter, jail};
use crate::exec;
use crate::processes::{self, ProcessKey};

/// Read in one turn of the loop: a program that writes without end may not keep the launcher from its other work.
const TURN: usize = 64 << 10;
/// What a pipe may still hold when its last writer is gone: the kernel's limit for a user's pipe is 1 MiB.
const LAST_TURNS: usize = 17;
/// Bubblewrap says two short lines.
const MAX_STATUS: usize = 4 << 10;
/// After a KILL that did not end it.
const KILL_AGAIN: Duration = Duration::from_secs(1);
/// A shell's, and bubblewrap's, way to say "by a signal" in a status.
const BY_SIGNAL: i32 = 128;

/// Whom to tell.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) connection: u64,
    pub(super) id: u64,
    pub(super) epoch: u64,
}

/// A descriptor of a job that the loop waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// What bubblewrap says.
    Status,
    /// The end of the jail's init.
    Init,
}

/// A started program.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) asked: Asked,
    outer: ProcessKey,
    outer_ended: Option<WaitStatus>,
    init: Option<Init>,
    status: Stream,
    exit: Option<i32>,
    stdout: Stream,
    stderr: Stream,
    /// When to kill it, or to kill it again.
    pub(super) deadline: Instant,
    killed: bool,
    timed_out: bool,
}

#[derive(Debug)]
struct Init {
    pid: u32,
    pidfd: OwnedFd,
    gone: bool,
}

/// What is kept of a pipe; the rest is read and thrown away, so that the writer is never blocked.
#[derive(Debug)]
struct Stream {
    pipe: Option<OwnedFd>,
    kept: Vec<u8>,
    cap: usize,
    cut: bool,
}

/// One line of bubblewrap's status; others may be added to it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct StatusLine {
    child_pid: Option<u32>,
    /// Only where the program was started at all.
    exit_code: Option<i32>,
}

impl Job {
    /// Forks and execs bubblewrap as the jail's user.
    pub(super) fn start(number: u64, asked: Asked, program: &ProgramSpec) -> io::Result<Self> {
        let cap = usize::try_from(program.output.0).unwrap_or(usize::MAX);
        let (stdout, stdout_end) = Stream::open(cap)?;
        let (stderr, stderr_end) = Stream::open(cap)?;
        let (status, status_end) = Stream::open(MAX_STATUS)?;
        let filter = filter::file()?;
        let mut command = Command::new(BUBBLEWRAP);
        command
            .args(jail::arguments(program, status_end.as_fd(), filter.as_fd()))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(stdout_end)
            .stderr(stderr_end);
        if rustix::process::geteuid().is_root() {
            exec::become_user(&mut command, program.jail.uid, program.jail.gid);
        }
        let outer = exec::fork(command, Signal::KILL, &[status_end.as_fd(), filter.as_fd()])?;
        let deadline = Instant::now() + program.timeout.duration();
        let (killed, timed_out) = (false, false);
        Ok(Self {
            number,
            asked,
            outer,
            outer_ended: None,
            init: None,
            status,
            exit: None,
            stdout,
            stderr,
            deadline,
            killed,
            timed_out,
        })
    }

    /// What the loop has to wait for.
    pub(super) fn parts(&self) -> impl Iterator<Item = (Part, BorrowedFd<'_>)> {
        let init = self.init.as_ref().filter(|init| !init.gone).map(|init| (Part::Init, init.pidfd.as_fd()));
        let streams = [(Part::Stdout, &self.stdout), (Part::Stderr, &self.stderr), (Part::Status, &self.status)];
        init.into_iter()
            .chain(streams.into_iter().filter_map(|(part, stream)| Some((part, stream.pipe.as_ref()?.as_fd()))))
    }

    pub(super) fn turn(&mut self, part: Part) {
        match part {
            Part::Stdout => drop(self.stdout.drain()),
            Part::Stderr => drop(self.stderr.drain()),
            Part::Status => self.read_status(),
            Part::Init => self.look_at_init(),
        }
    }

    /// Must be called before any child is waited for: until then, the init's pid is the init's.
    pub(super) fn read_status(&mut self) {
        while self.status.drain() {}
        let text = String::from_utf8_lossy(&self.status.kept);
        for line in text.lines().filter_map(|line| serde_json::from_str::<StatusLine>(line).ok()) {
            self.exit = line.exit_code.or(self.exit);
            let found = line.child_pid.filter(|_| self.init.is_none());
            if let Some(pid) = found {
                let opened =
                    i32::try_from(pid).ok().and_then(Pid::from_raw).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
                // No such process: it is gone already, and all of the jail with it.
                if let Some(Ok(pidfd)) = opened {
                    self.init = Some(Init { pid, pidfd, gone: false });
                }
            }
        }
    }

    fn look_at_init(&mut self) {
        if let Some(init) = &mut self.init {
            // A pidfd is readable once its process has ended.
            let mut fds = [PollFd::new(&init.pidfd, PollFlags::IN)];
            init.gone |= poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0);
        }
    }

    /// The launcher waited for this child.
    pub(super) fn reaped(&mut self, pid: u32, status: WaitStatus) {
        if self.outer.pid == pid && self.outer_ended.is_none() {
            self.outer_ended = Some(status);
        }
        if let Some(init) = self.init.as_mut().filter(|init| init.pid == pid) {
            init.gone = true;
        }
    }

    /// The process is bubblewrap or the init; what is in the jail descends from them.
    pub(super) fn is_root_of(&self, pid: u32) -> bool {
        (self.outer.pid == pid && self.outer_ended.is_none()) || self.init.as_ref().is_some_and(|init| init.pid == pid)
    }

    /// Its time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        self.read_status();
        self.timed_out |= !self.killed && self.exit.is_none();
        self.kill(now);
    }

    /// Kills the init, and with it all of the jail. Bubblewrap itself only where that did not help, or there is no init yet.
    pub(super) fn kill(&mut self, now: Instant) {
        self.read_status();
        let again = std::mem::replace(&mut self.killed, true);
        self.deadline = now + KILL_AGAIN;
        let mut failed = Vec::new();
        if let Some(init) = self.init.as_ref().filter(|init| !init.gone) {
            failed.extend(pidfd_send_signal(&init.pidfd, Signal::KILL).err().filter(|e| *e != rustix::io::Errno::SRCH));
        }
        if self.outer_ended.is_none() && (again || self.init.is_none()) {
            failed.extend(processes::signal(self.outer, Signal::KILL).err().map(|_| rustix::io::Errno::PERM));
        }
        for error in failed {
            tracing::warn!(%error, "a program could not be killed");
        }
    }

    /// The last process of it is gone.
    pub(super) fn is_over(&self) -> bool {
        self.outer_ended.is_some() && self.init.as_ref().is_none_or(|init| init.gone)
    }

    /// What came of it; called once, when it is over.
    pub(super) fn answer(mut self) -> LauncherAnswer {
        self.read_status();
        // Nobody writes any more, but somebody outside may hold the pipe open: the end of file is not waited for.
        for stream in [&mut self.stdout, &mut self.stderr] {
            let _all_read = (0..LAST_TURNS).all(|_| stream.drain());
        }
        let ending = match (self.exit, self.outer_ended.and_then(WaitStatus::terminating_signal)) {
            _ if self.timed_out => ProgramEnding::TimedOut,
            (Some(code), _) if code > BY_SIGNAL => ProgramEnding::Signalled { signal: code - BY_SIGNAL },
            (Some(code), _) => ProgramEnding::Exited { code },
            (None, Some(signal)) => ProgramEnding::Signalled { signal },
            (None, None) => return LauncherAnswer::Refused(self.no_jail()),
        };
        LauncherAnswer::Ran(ProgramOutput {
            ending,
            cut: self.stdout.cut || self.stderr.cut,
            stdout: Blob(self.stdout.kept),
            stderr: Blob(self.stderr.kept),
            assumed: false,
        })
    }

    /// Bubblewrap ended before the program began.
    fn no_jail(&self) -> String {
        let said = String::from_utf8_lossy(&self.stderr.kept);
        let line: String = said.lines().next().unwrap_or("bubblewrap said nothing").chars().take(300).collect();
        format!("the program was not started: {}", line.escape_debug())
    }
}

impl Stream {
    /// The reading end here and the writing end for the child.
    fn open(cap: usize) -> io::Result<(Self, OwnedFd)> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        // Only our end: a program does not expect its standard output to be non-blocking.
        rustix::fs::fcntl_setfl(&reader, rustix::fs::OFlags::NONBLOCK)?;
        Ok((Self { pipe: Some(reader), kept: Vec::new(), cap, cut: false }, writer))
    }

    /// Takes what is there, at most one turn's worth. `false`: nothing was.
    fn drain(&mut self) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        let mut buffer = vec![0; TURN];
        match rustix::io::read(pipe, buffer.as_mut_slice()) {
            Ok(0) => self.pipe = None,
            Ok(length) => {
                let room = self.cap.saturating_sub(self.kept.len()).min(length);
                self.kept.extend_from_slice(buffer.get(..room).unwrap_or_default());
                self.cut |= room < length;
                return true;
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => self.pipe = None,
        }
        false
    }
}
