//! Resource limits: the kernel's own bounds, for whatever gets past wasmtime's.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::limits::{BASE_MEMORY, COMPILE_MEMORY, COMPILE_TIME, MAIN_STACK};

/// What one task may use.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Private writable memory (`RLIMIT_DATA`; not `RLIMIT_AS`, because wasmtime reserves address space that it never uses).
    pub memory: u64,
    /// Seconds of CPU, at which the kernel kills.
    pub cpu_seconds: u64,
}

impl Budget {
    /// For one compilation.
    pub const COMPILE: Self = Self { memory: COMPILE_MEMORY, cpu_seconds: COMPILE_TIME.as_secs() + 5 };

    /// For one run: the guest's memory, its code three times (as received, as held, as mapped), and ours. The CPU limit leaves
    /// room for `remediate` and `check`.
    pub const fn run(artefact: u64, memory: u64, time_ms: u64) -> Self {
        let memory = BASE_MEMORY.saturating_add(memory).saturating_add(artefact.saturating_mul(3));
        Self { memory, cpu_seconds: (time_ms / 1000).saturating_mul(2).saturating_add(5) }
    }
}

/// What holds for every worker from its start.
pub(super) fn at_start() -> io::Result<()> {
    let limits = [
        // One socket, and room for the descriptor that building the Landlock rules takes.
        (Resource::Nofile, 8),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
        (Resource::Nice, 0),
        (Resource::Rtprio, 0),
        (Resource::Stack, MAIN_STACK),
        (Resource::Data, COMPILE_MEMORY + BASE_MEMORY),
    ];
    limits.into_iter().try_for_each(|(resource, value)| set(resource, value))
}

/// Tightens to the task at hand.
pub fn set_budget(budget: Budget) -> io::Result<()> {
    set(Resource::Data, budget.memory)?;
    set(Resource::Cpu, budget.cpu_seconds)
}

/// No process and no thread from here on. It counts per user, so that only "none at all" is a limit that means something.
pub fn no_new_processes() -> io::Result<()> {
    set(Resource::Nproc, 0)
}

/// Soft and hard; a limit that is already lower stays.
fn set(resource: Resource, value: u64) -> io::Result<()> {
    let present = rustix::process::getrlimit(resource);
    let value = present.maximum.map_or(value, |maximum| maximum.min(value));
    setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })?;
    Ok(())
}
