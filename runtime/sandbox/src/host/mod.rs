//! The host's side of each import: build a [`Call`], send it, wait for the [`Reply`], turn it into the contract's types.
//!
//! Nothing is decided here. What is checked here (budgets, sizes) protects this process and the runner's time; what a remedy
//! may do is checked by the runner, on the other side of the socket.

mod certificates;
mod containers;
mod databases;
mod fault;
mod files;
mod firewall;
mod http;
mod kernel;
mod log;
mod observe;
mod processes;
mod programs;
mod releases;
mod units;
pub(crate) mod wasi;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use theriac_model::call::{Call, Handle, Interface, Reply};
use theriac_model::denial::{Denial, DenialCause};
use theriac_protocol::worker::{FromWorker, ToWorker, WorkerLimits};
use wasmtime::component::Resource;

use crate::bindings::types;
use crate::clock::Clock;
use crate::ending::{Stop, time_limit};
use crate::meter::Meter;
use crate::port::{self, Port, PortError};

pub(crate) use fault::{input, opinion, report};

/// A label longer than this is none, and is cut before it is sent.
const LABEL_CHARS: usize = 128;

/// What one store holds.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) meter: Meter,
    /// What the SDK's panic handler said before the trap.
    pub(crate) panic: Option<String>,
    port: Port,
    clock: Clock,
    deadline: Instant,
    limits: WorkerLimits,
    calls: u32,
    handles: u32,
    log_bytes: u32,
    /// Names of entries and processes, which came with their handles.
    names: BTreeMap<u32, String>,
    /// Of a sealed WASI.
    sealed: wasi::Sealed,
}

/// A call's answer: what it asked for, or the runner's no. An error ends the guest.
pub(crate) type Answer<T> = wasmtime::Result<Result<T, types::Denial>>;

/// Asks, and takes the one kind of reply that fits.
macro_rules! ask {
    ($state:expr, $call:expr, $fits:pat => $value:expr) => {
        match $state.ask($call)? {
            Ok($fits) => Ok(Ok($value)),
            Err(denial) => Ok(Err(denial)),
            Ok(_) => Err(wasmtime::Error::from($crate::ending::Stop::WrongReply)),
        }
    };
}
pub(crate) use ask;

impl State {
    /// Starts the guest's time.
    pub(crate) fn new(port: Port, clock: Clock, limits: WorkerLimits) -> Self {
        let deadline = Instant::now() + Duration::from_millis(limits.time_ms);
        clock.arm(deadline, time_limit(limits));
        Self {
            clock,
            deadline,
            meter: Meter::new(limits.memory),
            panic: None,
            port,
            limits,
            calls: 0,
            handles: 0,
            log_bytes: 0,
            names: BTreeMap::new(),
            sealed: wasi::Sealed::default(),
        }
    }

    /// One host call, within the budget.
    pub(crate) fn ask(&mut self, call: Call) -> Result<Result<Reply, types::Denial>, Stop> {
        self.calls = self.calls.saturating_add(1);
        if self.calls > self.limits.host_calls {
            return Err(Stop::HostCalls { allowed: self.limits.host_calls });
        }
        self.exchange(call)
    }

    /// Sends and waits. The guest's time stands still meanwhile: how long a verb may take is the runner's to say, and a
    /// runner that is gone closes the socket.
    fn exchange(&mut self, call: Call) -> Result<Result<Reply, types::Denial>, Stop> {
        let asked = Instant::now();
        self.clock.disarm();
        self.port.send(u64::from(self.calls), &FromWorker::Host(Box::new(call)))?;
        let message = self.port.receive()?;
        self.deadline += asked.elapsed();
        self.clock.arm(self.deadline, time_limit(self.limits));
        let got = port::name(&message);
        let ToWorker::Reply(reply) = message else {
            return Err(Stop::Port(PortError::Unexpected { wanted: "the reply to this host call", got }));
        };
        if let Reply::Denied(denial) = *reply { Ok(Err(refused(denial))) } else { Ok(Ok(*reply)) }
    }

    /// Whether the guest's time is up.
    pub(crate) fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// `open(label)` of an interface.
    pub(crate) fn open<T: 'static>(&mut self, interface: Interface, label: String) -> Answer<Resource<T>> {
        let label = label.chars().take(LABEL_CHARS).collect();
        match ask!(self, Call::Open { interface, label }, Reply::Opened(handle) => handle)? {
            Ok(handle) => Ok(Ok(self.hold(handle, None)?)),
            Err(denial) => Ok(Err(denial)),
        }
    }

    /// Takes a handle the runner gave out; its number is the resource's.
    pub(crate) fn hold<T: 'static>(&mut self, handle: Handle, name: Option<String>) -> Result<Resource<T>, Stop> {
        self.handles = self.handles.saturating_add(1);
        if self.handles > self.limits.handles {
            return Err(Stop::Handles { allowed: self.limits.handles });
        }
        if let Some(name) = name {
            self.names.insert(handle.0, name);
        }
        Ok(Resource::new_own(handle.0))
    }

    /// The guest dropped it. Not counted as a host call: each was opened by one.
    pub(crate) fn give_back<T: 'static>(&mut self, resource: &Resource<T>) -> wasmtime::Result<()> {
        self.handles = self.handles.saturating_sub(1);
        self.names.remove(&resource.rep());
        // A runner that has already forgotten the handle is told nothing new.
        let _forgotten = self.exchange(Call::Drop { handle: handle(resource) })?;
        Ok(())
    }

    /// The name that came with the handle.
    pub(crate) fn name_of<T: 'static>(&self, resource: &Resource<T>) -> String {
        self.names.get(&resource.rep()).cloned().unwrap_or_default()
    }
}

/// The runner's handle behind a resource.
pub(crate) fn handle<T: 'static>(resource: &Resource<T>) -> Handle {
    Handle(resource.rep())
}

/// A denial in the contract's types.
pub(crate) fn refused(denial: Denial) -> types::Denial {
    let refusal = types::Refusal {
        label: denial.label,
        rule: denial.rule,
        attempted: denial.attempted,
        suggestion: denial.suggestion.unwrap_or_default(),
    };
    match denial.cause {
        DenialCause::NotGranted => types::Denial::NotGranted(refusal),
        DenialCause::OffPlan => types::Denial::OffPlan(refusal),
        DenialCause::OverBudget => types::Denial::OverBudget(refusal),
        DenialCause::StaleTarget => types::Denial::StaleTarget(refusal),
        DenialCause::Conflict => types::Denial::Conflict(refusal),
        DenialCause::Unavailable => types::Denial::Unavailable(refusal),
        DenialCause::Failed => types::Denial::Failed(refusal),
    }
}

/// A denial that a remedy returned as its own result. Its text is the guest's, and is cut.
pub(crate) fn returned(denial: types::Denial) -> Denial {
    let (cause, refusal) = match denial {
        types::Denial::NotGranted(refusal) => (DenialCause::NotGranted, refusal),
        types::Denial::OffPlan(refusal) => (DenialCause::OffPlan, refusal),
        types::Denial::OverBudget(refusal) => (DenialCause::OverBudget, refusal),
        types::Denial::StaleTarget(refusal) => (DenialCause::StaleTarget, refusal),
        types::Denial::Conflict(refusal) => (DenialCause::Conflict, refusal),
        types::Denial::Unavailable(refusal) => (DenialCause::Unavailable, refusal),
        types::Denial::Failed(refusal) => (DenialCause::Failed, refusal),
    };
    let made = Denial::new(cause, cut(refusal.label, 512), &cut(refusal.rule, 64), cut(refusal.attempted, 512));
    let suggestion = cut(refusal.suggestion, 512);
    if suggestion.is_empty() { made } else { made.suggest(suggestion) }
}

/// A text of the guest's, no longer than `chars`.
pub(crate) fn cut(text: String, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

impl types::Host for State {}
