//! Workers: one short-lived process per export call, spoken to over the socket it has as standard input.
//!
//! The runner never trusts what comes back: every message is a typed frame with a cap, every host call is decided by the
//! session, and a worker that is late or talks nonsense is killed.

pub(crate) mod cache;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use theriac_model::call::{Call, Export, FaultInput, Opinion, Reply, Report};
use theriac_model::denial::Denial;
use theriac_model::units::Blob;
use theriac_protocol::frame::{self, Frame, FrameError};
use theriac_protocol::process::Identity;
use theriac_protocol::worker::{CHUNK, EndReason, FromWorker, MAX_ARTEFACT, ToWorker, WorkerLimits};

use crate::exchange::Timed;

/// How long a worker may take to start and raise its walls.
const START: Duration = Duration::from_secs(5);
/// How long a compile-only worker may take.
const COMPILE: Duration = Duration::from_secs(30);
/// Above the guest's own limit: what the worker needs to translate its end into a sentence before it is killed.
const GRACE: Duration = Duration::from_millis(500);
/// Messages of one call beyond those that its limits lead to.
const SPARE_MESSAGES: u32 = 64;
/// Characters of a worker's text that are kept. The worker cuts what its guest says; one that was taken over does not.
const MAX_SAID: usize = 4096;

/// How workers are started.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The `theriac-worker` binary.
    pub program: PathBuf,
    /// The uid of each slot where the runner is root; empty otherwise.
    pub identities: Vec<Identity>,
}

/// How an export call ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// `remediate` returned.
    Remediated(Report),
    /// `check` returned.
    Checked(Opinion),
    /// The guest was ended, or its worker was: a sentence for people.
    Ended { reason: EndReason, sentence: String },
}

/// Why a worker could not be used at all. A guest that misbehaves is an [`Ending`], not this.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The binary is missing or can't be executed.
    #[error("can't start the worker `{}`", program.display())]
    Start {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It could not raise its walls, and would not go on without them.
    #[error("the worker ended itself: {sentence}")]
    Walls { sentence: String },
    /// The conversation broke before the guest was reached.
    #[error("the worker went away while {during}")]
    Gone {
        during: &'static str,
        #[source]
        source: FrameError,
    },
    /// It said something that does not fit.
    #[error("the worker broke the protocol while {during}")]
    Protocol { during: &'static str },
}

/// A compiled component.
#[derive(Debug, Clone)]
pub struct Artefact {
    /// What wasmtime made of it.
    pub bytes: Vec<u8>,
    /// The component's imports.
    pub imports: Vec<String>,
    /// The engine that made it.
    pub engine: String,
}

/// What a compile-only worker said.
#[derive(Debug)]
pub enum Compiled {
    /// It compiles.
    Artefact(Artefact),
    /// It was refused: a sentence for people.
    Refused { reason: EndReason, sentence: String },
}

/// One worker process.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    stream: Timed,
    engine: String,
    walls: Vec<String>,
    /// Messages that one call may have before it is no remedy's any more.
    messages: u32,
}

impl Worker {
    /// Starts one; `slot` picks its uid.
    pub fn start(config: &WorkerConfig, slot: usize) -> Result<Self, WorkerError> {
        let failed = |source| WorkerError::Start { program: config.program.clone(), source };
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let mut command = Command::new(&config.program);
        command.arg("--fd").arg("0");
        if let Some(Identity { uid, gid }) = config.identities.get(slot % config.identities.len().max(1)) {
            command.arg("--uid").arg(uid.to_string()).arg("--gid").arg(gid.to_string());
        }
        let child = command
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let mut worker = Self {
            child,
            stream: Timed::new(ours),
            engine: String::new(),
            walls: Vec::new(),
            messages: SPARE_MESSAGES,
        };
        match worker.receive(Instant::now() + START, "it started")? {
            FromWorker::Ready { engine, walls, .. } => (worker.engine, worker.walls) = (engine, walls),
            FromWorker::Ended { sentence, .. } => return Err(WorkerError::Walls { sentence }),
            FromWorker::Compiled { .. }
            | FromWorker::Chunk(_)
            | FromWorker::Loaded
            | FromWorker::Host(_)
            | FromWorker::Remediated(_)
            | FromWorker::Checked(_) => {
                return Err(WorkerError::Protocol { during: "it started" });
            }
        }
        Ok(worker)
    }

    /// The engine id that keys the cache.
    pub fn engine(&self) -> &str {
        &self.engine
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The walls it raised, for `doctor`.
    pub fn walls(&self) -> &[String] {
        &self.walls
    }

    /// Compiles and ends this worker.
    pub fn compile(mut self, component: &[u8]) -> Result<Compiled, WorkerError> {
        let during = "it compiled";
        let deadline = Instant::now() + COMPILE;
        // A worker that refuses early closes its end: what it said is still there to be read.
        let sent = self
            .send(&ToWorker::Compile { size: component.len() as u64 }, deadline)
            .and_then(|()| self.send_chunks(component, deadline));
        let (size, imports) = match self.receive(deadline, during) {
            Ok(FromWorker::Compiled { size, imports }) if size <= MAX_ARTEFACT => (size, imports),
            Ok(FromWorker::Ended { reason, sentence }) => return Ok(Compiled::Refused { reason, sentence }),
            Ok(_) => return Err(WorkerError::Protocol { during }),
            Err(gone) => {
                sent.map_err(|source| WorkerError::Gone { during, source })?;
                return self
                    .explain_death(gone)
                    .map(|sentence| Compiled::Refused { reason: EndReason::Memory, sentence });
            }
        };
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        while (bytes.len() as u64) < size {
            let FromWorker::Chunk(Blob(piece)) = self.receive(deadline, during)? else {
                return Err(WorkerError::Protocol { during });
            };
            if piece.is_empty() || bytes.len() as u64 + piece.len() as u64 > size {
                return Err(WorkerError::Protocol { during });
            }
            bytes.extend(piece);
        }
        Ok(Compiled::Artefact(Artefact { bytes, imports, engine: self.engine.clone() }))
    }

    /// A compile-only worker that its own limits killed says nothing: its end is told by how it died.
    fn explain_death(&mut self, gone: WorkerError) -> Result<String, WorkerError> {
        self.kill();
        let why = self.child.wait().ok().and_then(|status| limit_of(status));
        why.map(|why| format!("the component could not be compiled within the worker's limits: {why}")).ok_or(gone)
    }

    /// Loads an artefact whose MAC was checked, linking only the listed imports.
    pub fn load(
        &mut self,
        artefact: &Artefact,
        limits: WorkerLimits,
        imports: Vec<String>,
    ) -> Result<Option<Ending>, WorkerError> {
        let during = "it loaded the component";
        let gone = |source| WorkerError::Gone { during, source };
        // A host call can give out as many handles as may be open, and each is given back with a message of its own.
        let per_call = limits.handles.saturating_add(1);
        self.messages = limits.host_calls.saturating_mul(per_call).saturating_add(SPARE_MESSAGES);
        // A worker that takes nothing in is as late as one that says nothing.
        let taken = Instant::now() + COMPILE;
        self.send(&ToWorker::Load { size: artefact.bytes.len() as u64, limits, imports }, taken).map_err(gone)?;
        self.send_chunks(&artefact.bytes, taken).map_err(gone)?;
        let answer = self.receive(Instant::now() + START, during)?;
        if let FromWorker::Ended { reason, sentence } = answer {
            return Ok(Some(ended(reason, &sentence)));
        }
        if answer == FromWorker::Loaded { Ok(None) } else { Err(WorkerError::Protocol { during }) }
    }

    /// Calls an export once; `answer` serves its host calls. The time a host call takes in waiting for a job is the
    /// grant's business (`job_timeout`), so only the guest's own time counts against `time`.
    pub fn call(
        mut self,
        export: Export,
        fault: FaultInput,
        time: Duration,
        mut answer: impl FnMut(Call) -> Reply,
    ) -> Ending {
        let mut left = time + GRACE;
        let begun = Instant::now();
        if let Err(error) = self.send(&ToWorker::Call { export, fault: Box::new(fault) }, begun + left) {
            return ended(EndReason::Trap, &format!("the worker went away before the call: {error}"));
        }
        loop {
            let asked = Instant::now();
            let message = self.receive(asked + left, "the remedy ran");
            left = left.saturating_sub(asked.elapsed());
            match message {
                Ok(FromWorker::Host(_)) if self.messages == 0 => {
                    return ended(
                        EndReason::Budget,
                        "more host calls than its worker lets a remedy make: it was killed",
                    );
                }
                Ok(FromWorker::Host(call)) => {
                    self.messages -= 1;
                    let reply = answer(*call);
                    // A worker that does not take its answers must not hold the runner: that is its time too.
                    let answered = Instant::now();
                    if let Err(error) = self.send(&ToWorker::Reply(Box::new(reply)), answered + left) {
                        return ended(EndReason::Trap, &format!("the worker went away in a host call: {error}"));
                    }
                    left = left.saturating_sub(answered.elapsed());
                }
                Ok(FromWorker::Remediated(report)) if export == Export::Remediate => {
                    return Ending::Remediated(report_cut(report));
                }
                Ok(FromWorker::Checked(opinion)) if export == Export::Check => {
                    return Ending::Checked(opinion_cut(opinion));
                }
                Ok(FromWorker::Ended { reason, sentence }) => return ended(reason, &sentence),
                Ok(_) => return ended(EndReason::Trap, "the worker broke the protocol and was killed"),
                Err(_) if left.is_zero() => {
                    return ended(EndReason::Time, &format!("killed at the time limit of {} ms", time.as_millis()));
                }
                Err(error) => return ended(EndReason::Trap, &self.death(&error)),
            }
        }
    }

    /// How the worker died, for people.
    fn death(&mut self, error: &WorkerError) -> String {
        // It closed its socket, or is past its deadline: either way it has nothing more to say.
        self.kill();
        match self.child.wait().ok().and_then(|status| limit_of(status)) {
            Some(why) => format!("the worker was ended: {why}"),
            None => format!("the worker ended without an answer: {error}"),
        }
    }

    /// Sends one message, all of it by the deadline: a socket's buffer is small, and nobody has to read at the other end.
    fn send(&mut self, message: &ToWorker, deadline: Instant) -> Result<(), FrameError> {
        self.stream.deadline = Some(deadline);
        frame::write(&mut self.stream, &Frame { epoch: 0, id: 0, message })
    }

    fn send_chunks(&mut self, bytes: &[u8], deadline: Instant) -> Result<(), FrameError> {
        bytes.chunks(CHUNK).try_for_each(|piece| self.send(&ToWorker::Chunk(Blob(piece.to_vec())), deadline))
    }

    /// Reads one message. A worker that drips bytes gains nothing: each read has only what is left until the deadline, and
    /// a frame is short.
    fn receive(&mut self, deadline: Instant, during: &'static str) -> Result<FromWorker, WorkerError> {
        self.stream.deadline = Some(deadline);
        frame::read(&mut self.stream).map(|frame| frame.message).map_err(|source| WorkerError::Gone { during, source })
    }

    fn kill(&mut self) {
        // The child was not waited for, so its pid can't have been reused. An error means that it is dead already.
        self.child.kill().ok();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
        self.child.wait().ok();
    }
}

fn ended(reason: EndReason, sentence: &str) -> Ending {
    Ending::Ended { reason, sentence: cut(sentence) }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_SAID).collect()
}

fn report_cut(report: Report) -> Report {
    match report {
        Report::Treated(said) => Report::Treated(cut(&said)),
        Report::NothingToDo(said) => Report::NothingToDo(cut(&said)),
        Report::GaveUp(said) => Report::GaveUp(cut(&said)),
        Report::Denied(Denial { cause, label, rule, attempted, suggestion }) => {
            let made = Denial::new(cause, label, &cut(&rule), attempted);
            Report::Denied(match suggestion {
                Some(line) => made.suggest(cut(&line)),
                None => made,
            })
        }
    }
}

fn opinion_cut(opinion: Opinion) -> Opinion {
    match opinion {
        Opinion::Satisfied => Opinion::Satisfied,
        Opinion::Unsure(said) => Opinion::Unsure(cut(&said)),
        Opinion::NotImproved(said) => Opinion::NotImproved(cut(&said)),
    }
}

/// The limit that ended a worker, by its signal or its exit code (`theriac-worker` documents them).
fn limit_of(status: std::process::ExitStatus) -> Option<&'static str> {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.signal(), status.code()) {
        (Some(libc::SIGSYS), _) => Some("it tried a system call that no remedy may make"),
        (Some(libc::SIGXCPU), _) | (_, Some(75)) => Some("it used up its time"),
        (Some(libc::SIGKILL), _) => Some("it was killed at a limit"),
        (Some(_), _) => Some("it crashed"),
        (None, Some(71)) => Some("it used up its memory"),
        (None, _) => None,
    }
}
