//! What a remedy costs: its compilation, its worker, its start, each host call, and the memory of its process.
//!
//! The host calls are answered at once, out of a recording or with a denial, so that the figures are the remedy's and the
//! sandbox's, and no disk's or service's.

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use serde::Serialize;
use theriac_authority::package::Package;
use theriac_model::call::{Call, Export, FaultInput, Reply};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::fault::{FaultKind, Severity};
use theriac_model::remedy::{Params, resolve_params};
use theriac_model::units::Bytes;
use theriac_runner::worker::{Worker, WorkerConfig};

use crate::error::ScenarioError;
use crate::load::Loaded;
use crate::programs::Programs;
use crate::recording::{Exchange, Recording};

/// What was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// The remedy's file.
    pub component_bytes: u64,
    /// Its machine code.
    pub code_bytes: u64,
    /// How many times each was measured.
    pub runs: u32,
    /// Host calls of one run.
    pub host_calls: usize,
    /// The largest resident memory of a worker with the remedy in it.
    pub peak_memory_bytes: u64,
    /// The times.
    pub times: Vec<Time>,
}

/// One thing that takes time, in microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Time {
    /// What.
    pub what: &'static str,
    /// The shortest.
    pub least_us: u64,
    /// Half were shorter.
    pub median_us: u64,
    /// The longest.
    pub most_us: u64,
}

#[derive(Debug, Default)]
struct Samples {
    start: Vec<Duration>,
    compile: Vec<Duration>,
    load: Vec<Duration>,
    begin: Vec<Duration>,
    call: Vec<Duration>,
    whole: Vec<Duration>,
    peak: u64,
    calls: usize,
}

/// Measures the remedy `runs` times, compiling it a tenth as often.
pub fn bench(
    programs: &Programs,
    package: &Package,
    recording: Option<&Recording>,
    runs: u32,
) -> Result<Figures, ScenarioError> {
    let fault = recording.map_or_else(|| fault(package), |recording| Ok(recording.fault.clone()))?;
    let exchanges = recording.map_or(&[][..], |recording| recording.exchanges.as_slice());
    let subject = Subject { package, workers: programs.workers(), fault, exchanges };
    let mut samples = Samples::default();
    let mut loaded = samples.compile(&subject)?;
    for _ in 0..runs / 10 {
        loaded = samples.compile(&subject)?;
    }
    for _ in 0..runs {
        samples.run(&subject, &loaded)?;
    }
    Ok(samples.figures(package, &loaded, runs))
}

/// What is measured.
struct Subject<'a> {
    package: &'a Package,
    workers: WorkerConfig,
    fault: FaultInput,
    exchanges: &'a [Exchange],
}

impl Samples {
    fn started(&mut self, workers: &WorkerConfig) -> Result<Worker, ScenarioError> {
        let began = Instant::now();
        let worker = Worker::start(workers, 0).map_err(ScenarioError::part("starting a worker"))?;
        self.start.push(began.elapsed());
        Ok(worker)
    }

    fn compile(&mut self, subject: &Subject<'_>) -> Result<Loaded, ScenarioError> {
        let worker = self.started(&subject.workers)?;
        let began = Instant::now();
        let loaded = Loaded::compiled_by(worker, subject.package, subject.workers.clone())?;
        self.compile.push(began.elapsed());
        Ok(loaded)
    }

    fn run(&mut self, subject: &Subject<'_>, loaded: &Loaded) -> Result<(), ScenarioError> {
        let Subject { package, workers, fault, exchanges } = subject;
        let worker = self.started(workers)?;
        let began = Instant::now();
        let worker = loaded.load_into(worker)?;
        self.load.push(began.elapsed());
        let process = worker.id();
        self.peak = self.peak.max(peak_memory(process));
        let (began, mut calls) = (Instant::now(), 0);
        let mut answered: Option<Instant> = None;
        let time = package.manifest.limits.time.duration();
        worker.call(Export::Remediate, fault.clone(), time, |call| {
            match answered {
                None => self.begin.push(began.elapsed()),
                Some(answered) => self.call.push(answered.elapsed()),
            }
            let reply = answer(exchanges, calls, &call);
            calls += 1;
            if calls == exchanges.len().max(1) {
                self.peak = self.peak.max(peak_memory(process));
            }
            answered = Some(Instant::now());
            reply
        });
        self.whole.push(began.elapsed());
        self.calls = calls;
        Ok(())
    }

    fn figures(self, package: &Package, loaded: &Loaded, runs: u32) -> Figures {
        let times = [
            ("start a worker, walls up", self.start),
            ("compile", self.compile),
            ("load", self.load),
            ("instantiate, to the first host call", self.begin),
            ("one host call", self.call),
            ("the whole call", self.whole),
        ];
        Figures {
            component_bytes: package.bytes.len() as u64,
            code_bytes: loaded.code(),
            runs,
            host_calls: self.calls,
            peak_memory_bytes: self.peak,
            times: times.into_iter().filter_map(|(what, samples)| time(what, samples)).collect(),
        }
    }
}

/// The recorded answer to this very call; a no where there is none.
fn answer(exchanges: &[Exchange], at: usize, call: &Call) -> Reply {
    match exchanges.get(at) {
        Some(known) if known.call == *call => known.reply.clone(),
        Some(_) | None => match call {
            Call::Log { .. } | Call::Panicked { .. } | Call::Drop { .. } => Reply::Done,
            Call::Open { .. }
            | Call::Dir { .. }
            | Call::Entry { .. }
            | Call::Unit { .. }
            | Call::Group { .. }
            | Call::Process { .. }
            | Call::Series { .. }
            | Call::Probe { .. }
            | Call::Program { .. }
            | Call::Http { .. }
            | Call::Knob { .. }
            | Call::Release { .. }
            | Call::Container { .. }
            | Call::Certificate { .. }
            | Call::Database { .. }
            | Call::Firewall { .. } => {
                Reply::Denied(Denial::new(DenialCause::Unavailable, "bench", "bench", "anything"))
            }
        },
    }
}

fn fault(package: &Package) -> Result<FaultInput, ScenarioError> {
    let params = resolve_params(&package.manifest.params, &Params::new())
        .map_err(ScenarioError::part("giving the remedy its parameters"))?;
    Ok(FaultInput {
        kind: package.manifest.handles.first().copied().unwrap_or(FaultKind::Unknown),
        severity: Severity::Critical,
        target: "host".to_owned(),
        summary: "it is measured".to_owned(),
        numbers: Vec::new(),
        evidence: Vec::new(),
        params: params.into_iter().collect(),
    })
}

/// VmHWM of a process, in bytes; 0 where it can't be read.
fn peak_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().map_or(0, |kib| kib.saturating_mul(1024))
}

fn time(what: &'static str, mut samples: Vec<Duration>) -> Option<Time> {
    samples.sort_unstable();
    let micros = |sample: &Duration| u64::try_from(sample.as_micros()).unwrap_or(u64::MAX);
    Some(Time {
        what,
        least_us: samples.first().map(micros)?,
        median_us: samples.get(samples.len() / 2).map(micros)?,
        most_us: samples.last().map(micros)?,
    })
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<40}{:>12}{:>12}{:>12}", "", "least", "median", "most")?;
        for Time { what, least_us, median_us, most_us } in &self.times {
            writeln!(f, "{what:<40}{:>12}{:>12}{:>12}", micros(*least_us), micros(*median_us), micros(*most_us))?;
        }
        let Self { component_bytes, code_bytes, peak_memory_bytes, host_calls, runs, .. } = self;
        writeln!(
            f,
            "{} of component, {} of code, {} of memory at most; {host_calls} host calls in each of {runs} runs",
            Bytes(*component_bytes),
            Bytes(*code_bytes),
            Bytes(*peak_memory_bytes)
        )
    }
}

fn micros(us: u64) -> String {
    if us < 10_000 { format!("{us} µs") } else { format!("{}.{} ms", us / 1000, us % 1000 / 100) }
}
