//! A remedy compiled by a real worker, and workers with it in them.

use theriac_authority::manifest::Manifest;
use theriac_authority::package::Package;
use theriac_model::time::millis;
use theriac_protocol::worker::WorkerLimits;
use theriac_runner::remedies::linkable;
use theriac_runner::worker::{Artefact, Compiled, Worker, WorkerConfig};

use crate::error::ScenarioError;

/// A compiled remedy, and what its manifest lets it use.
#[derive(Debug)]
pub(crate) struct Loaded {
    artefact: Artefact,
    limits: WorkerLimits,
    workers: WorkerConfig,
}

impl Loaded {
    pub(crate) fn new(package: &Package, workers: WorkerConfig) -> Result<Self, ScenarioError> {
        let doing = "compiling the remedy";
        let worker = Worker::start(&workers, 0).map_err(ScenarioError::part(doing))?;
        Self::compiled_by(worker, package, workers)
    }

    /// The same by a worker that has been started.
    pub(crate) fn compiled_by(worker: Worker, package: &Package, workers: WorkerConfig) -> Result<Self, ScenarioError> {
        let doing = "compiling the remedy";
        let mut artefact = match worker.compile(&package.bytes).map_err(ScenarioError::part(doing))? {
            Compiled::Artefact(artefact) => artefact,
            Compiled::Refused { sentence, .. } => return Err(ScenarioError::Part { doing, why: sentence }),
        };
        artefact.imports =
            linkable(&package.manifest, &artefact.imports).map_err(ScenarioError::part("loading the remedy"))?;
        Ok(Self { artefact, limits: limits(&package.manifest), workers })
    }

    /// A fresh worker with the remedy in it.
    pub(crate) fn worker(&self) -> Result<Worker, ScenarioError> {
        let worker = Worker::start(&self.workers, 0).map_err(ScenarioError::part(STARTING))?;
        self.load_into(worker)
    }

    /// The same in a worker that has been started.
    pub(crate) fn load_into(&self, mut worker: Worker) -> Result<Worker, ScenarioError> {
        let imports = self.artefact.imports.clone();
        match worker.load(&self.artefact, self.limits, imports).map_err(ScenarioError::part(STARTING))? {
            None => Ok(worker),
            Some(ended) => Err(ScenarioError::Part { doing: STARTING, why: format!("{ended:?}") }),
        }
    }

    /// Machine code, in bytes.
    pub(crate) fn code(&self) -> u64 {
        self.artefact.bytes.len() as u64
    }
}

const STARTING: &str = "starting the remedy";

fn limits(manifest: &Manifest) -> WorkerLimits {
    let limits = manifest.limits;
    WorkerLimits {
        memory: limits.memory.0,
        time_ms: millis(limits.time.duration()),
        host_calls: limits.host_calls,
        handles: limits.handles,
        log_bytes: u32::try_from(limits.log_bytes.0).unwrap_or(u32::MAX),
    }
}
