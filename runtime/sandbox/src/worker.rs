//! The life of one worker: walls, `Ready`, one task, the end.

use std::os::fd::OwnedFd;

use theriac_protocol::frame::FrameError;
use theriac_protocol::process::Identity;
use theriac_protocol::worker::{EndReason, FromWorker, MAX_ARTEFACT, MAX_COMPONENT, ToWorker, WorkerLimits};
use wasmtime::Engine;

use crate::clock::Clock;
use crate::compile::{self, Artefact, Compiled};
use crate::engine::{self, EngineError};
use crate::guest::{Guest, Outcome};
use crate::limits::COMPILE_TIME;
use crate::port::{self, Port, PortError};
use crate::walls::seccomp::SeccompError;
use crate::walls::{self, Budget, WallError, seccomp};

/// How a worker is started.
#[derive(Debug)]
pub struct Options {
    /// The number of the inherited socket.
    pub descriptor: i32,
    /// The user to become; `None` where the runner is not root.
    pub identity: Option<Identity>,
    /// System calls that are taken out of the filter, for the test that each is needed.
    pub without: Vec<String>,
}

/// Why a worker ended early.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A wall.
    #[error(transparent)]
    Wall(#[from] WallError),
    /// wasmtime's configuration.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The runner.
    #[error(transparent)]
    Port(#[from] PortError),
}

impl From<SeccompError> for WorkerError {
    fn from(error: SeccompError) -> Self {
        Self::Wall(error.into())
    }
}

/// A worker behind its walls.
#[derive(Debug)]
pub struct Worker {
    engine: Engine,
    port: Port,
    clock: Clock,
}

impl Worker {
    /// Raises the walls and returns what stands, for `Ready`.
    pub fn enclose(options: &Options, socket: OwnedFd) -> Result<(Self, Vec<String>), WorkerError> {
        let port = Port::new(socket);
        let raised = Self::raise(options, &port);
        if let Err(error) = &raised {
            let mut sentence = error.to_string();
            let mut source = std::error::Error::source(error);
            while let Some(error) = source {
                sentence = format!("{sentence}: {error}");
                source = error.source();
            }
            // The runner sees the end of the process in any case.
            let _untold = port.send(0, &FromWorker::Ended { reason: EndReason::Worker, sentence });
        }
        raised
    }

    fn raise(options: &Options, port: &Port) -> Result<(Self, Vec<String>), WorkerError> {
        let mut walls = walls::raise(options.descriptor, options.identity)?;
        one_arena();
        let engine = engine::engine()?;
        let clock = Clock::start(engine.clone(), port.clone()).map_err(WallError::Clock)?;
        walls::no_new_processes().map_err(WallError::Limits)?;
        walls.push(seccomp::install(&options.without)?);
        Ok((Self { engine, port: port.clone(), clock }, walls))
    }

    /// Says `Ready`, takes one task from the runner, and does it.
    pub fn serve(&self, walls: Vec<String>) -> Result<(), WorkerError> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.port.send(0, &FromWorker::Ready { version, engine: engine::engine_id(&self.engine), walls })?;
        match self.port.receive()? {
            ToWorker::Compile { size } => self.compile(size),
            ToWorker::Load { size, limits, imports } => self.run(size, limits, &imports),
            other @ (ToWorker::Chunk(_) | ToWorker::Call { .. } | ToWorker::Reply(_)) => {
                Err(PortError::Unexpected { wanted: "`compile` or `load`", got: port::name(&other) }.into())
            }
        }
    }

    /// The component never runs here, so no memory needs to become executable.
    fn compile(&self, size: u64) -> Result<(), WorkerError> {
        walls::set_budget(Budget::COMPILE).map_err(WallError::Limits)?;
        seccomp::tighten()?;
        let component = self.port.receive_chunks(size, MAX_COMPONENT)?;
        let sentence = format!("compiling it takes more than {} s", COMPILE_TIME.as_secs());
        self.clock.arm(std::time::Instant::now() + COMPILE_TIME, sentence);
        let compiled = compile::compile(&self.engine, &component);
        self.clock.disarm();
        match compiled {
            Ok(Compiled { artefact, imports }) => {
                self.port.send(0, &FromWorker::Compiled { size: artefact.bytes().len() as u64, imports })?;
                Ok(self.port.send_chunks(artefact.bytes())?)
            }
            Err(error) => self.end(error.reason(), error.to_string()),
        }
    }

    fn run(&self, size: u64, limits: WorkerLimits, granted: &[String]) -> Result<(), WorkerError> {
        walls::set_budget(Budget::run(size.min(MAX_ARTEFACT), limits.memory, limits.time_ms))
            .map_err(WallError::Limits)?;
        let bytes = self.port.receive_chunks(size, MAX_ARTEFACT)?;
        #[expect(unsafe_code, reason = "the runner checked the MAC before it sent them")]
        // SAFETY: only the runner holds the other end of the socket; it sends bytes that a worker of this engine made and
        // whose MAC it checked (the promise of `ToWorker::Load`).
        let artefact = unsafe { Artefact::from_authenticated(bytes) };
        let guest = match Guest::load(&self.engine, &artefact, granted, limits) {
            Ok(guest) => guest,
            Err(error) => return self.end(error.reason(), error.to_string()),
        };
        drop(artefact);
        seccomp::tighten()?;
        self.port.send(0, &FromWorker::Loaded)?;
        self.calls(&guest)
    }

    /// `remediate`, and perhaps `check`; the runner closes the socket when it wants no more.
    fn calls(&self, guest: &Guest) -> Result<(), WorkerError> {
        loop {
            match self.port.receive() {
                Ok(ToWorker::Call { export, fault }) => {
                    match guest.call(&self.port, &self.clock, export, *fault)? {
                        Outcome::Remediated(report) => self.port.send(0, &FromWorker::Remediated(report))?,
                        Outcome::Checked(opinion) => self.port.send(0, &FromWorker::Checked(opinion))?,
                        // What a guest did before it was ended is known to nobody here.
                        Outcome::Ended(ending) => return self.end(ending.reason, ending.sentence),
                    }
                }
                Ok(
                    other
                    @ (ToWorker::Compile { .. } | ToWorker::Load { .. } | ToWorker::Chunk(_) | ToWorker::Reply(_)),
                ) => {
                    return Err(PortError::Unexpected { wanted: "`call`", got: port::name(&other) }.into());
                }
                Err(PortError::Frame(FrameError::Closed)) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn end(&self, reason: EndReason, sentence: String) -> Result<(), WorkerError> {
        Ok(self.port.send(0, &FromWorker::Ended { reason, sentence })?)
    }
}

/// One heap for both threads: glibc would ask the filesystem how many CPUs there are before it makes another.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "mallopt has no safe wrapper")]
fn one_arena() {
    // SAFETY: called before the second thread is started; it takes two numbers.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

#[cfg(not(target_env = "gnu"))]
fn one_arena() {}
