//! A runner of a few lines.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use theriac_model::call::{Call, Export, FaultInput, Reply};
use theriac_model::fault::{FaultKind, Severity};
use theriac_model::units::Blob;
use theriac_protocol::frame::{self, Frame, FrameError};
use theriac_protocol::worker::{CHUNK, EndReason, FromWorker, ToWorker, WorkerLimits};

pub(crate) const LIMITS: WorkerLimits =
    WorkerLimits { memory: 16 << 20, time_ms: 400, host_calls: 1_000, handles: 8, log_bytes: 4_096 };

pub(crate) struct Runner {
    pub(crate) child: Child,
    stream: UnixStream,
    pub(crate) walls: Vec<String>,
}

/// How a conversation ended.
#[derive(Debug)]
pub(crate) enum End {
    Said(FromWorker),
    Died(ExitStatus),
}

impl End {
    pub(crate) fn sentence(self, expected: EndReason) -> String {
        match self {
            Self::Said(FromWorker::Ended { reason, sentence }) if reason == expected => sentence,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_theriac-worker"));
    command.args(["--fd", "0"]).args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    if rustix::process::geteuid().is_root() {
        command.args(["--uid", "64099", "--gid", "64099"]);
    }
    command
}

impl Runner {
    pub(crate) fn start(arguments: &[&str]) -> Result<Self, End> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let child = command(arguments).stdin(Stdio::from(OwnedFd::from(theirs))).spawn().unwrap();
        let mut runner = Self { child, stream: ours, walls: Vec::new() };
        match runner.receive() {
            End::Said(FromWorker::Ready { walls, .. }) => runner.walls = walls,
            other => return Err(other),
        }
        Ok(runner)
    }

    fn send(&mut self, message: &ToWorker) {
        // A worker that has already ended closes its side; what it said is read next.
        let _ended = frame::write(&mut self.stream, &Frame { epoch: 7, id: 0, message });
    }

    pub(crate) fn receive(&mut self) -> End {
        match frame::read(&mut self.stream) {
            Ok(frame) => End::Said(frame.message),
            Err(FrameError::Closed | FrameError::Io(_)) => End::Died(self.child.wait().unwrap()),
            Err(error) => panic!("{error}"),
        }
    }

    fn send_chunks(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(CHUNK) {
            self.send(&ToWorker::Chunk(Blob(piece.to_vec())));
        }
    }

    pub(crate) fn compile(mut self, component: &[u8]) -> Result<(Vec<u8>, Vec<String>), End> {
        self.send(&ToWorker::Compile { size: component.len() as u64 });
        self.send_chunks(component);
        let (size, imports) = match self.receive() {
            End::Said(FromWorker::Compiled { size, imports }) => (size, imports),
            other => return Err(other),
        };
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < size {
            match self.receive() {
                End::Said(FromWorker::Chunk(piece)) => bytes.extend(piece.0),
                other => return Err(other),
            }
        }
        Ok((bytes, imports))
    }

    pub(crate) fn hang_up(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Both).unwrap();
    }

    pub(crate) fn load(&mut self, artefact: &[u8], limits: WorkerLimits, imports: &[String]) -> Result<(), End> {
        self.send(&ToWorker::Load { size: artefact.len() as u64, limits, imports: imports.to_vec() });
        self.send_chunks(artefact);
        match self.receive() {
            End::Said(FromWorker::Loaded) => Ok(()),
            other => Err(other),
        }
    }

    pub(crate) fn call(&mut self, export: Export, mut answer: impl FnMut(Call) -> Reply) -> End {
        self.send(&ToWorker::Call { export, fault: Box::new(fault()) });
        loop {
            match self.receive() {
                End::Said(FromWorker::Host(call)) => {
                    let reply = answer(*call);
                    self.send(&ToWorker::Reply(Box::new(reply)));
                }
                other => return other,
            }
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

pub(crate) fn fault() -> FaultInput {
    FaultInput {
        kind: FaultKind::DiskFull,
        severity: Severity::Critical,
        target: "/srv".into(),
        summary: "it is full".into(),
        numbers: Vec::new(),
        evidence: Vec::new(),
        params: Vec::new(),
    }
}

/// Compiles and loads with every import granted, calls `remediate`, and says how long the call took.
pub(crate) fn remediate_within(
    component: &[u8],
    limits: WorkerLimits,
    answer: impl FnMut(Call) -> Reply,
) -> (End, Duration) {
    let (artefact, imports) = Runner::start(&[]).unwrap().compile(component).unwrap();
    let mut runner = Runner::start(&[]).unwrap();
    runner.load(&artefact, limits, &imports).unwrap();
    let begun = Instant::now();
    let end = runner.call(Export::Remediate, answer);
    (end, begun.elapsed())
}

pub(crate) fn remediate(component: &[u8], answer: impl FnMut(Call) -> Reply) -> End {
    remediate_within(component, LIMITS, answer).0
}

pub(crate) fn no_calls(call: Call) -> Reply {
    panic!("an unexpected host call: {call:?}")
}
