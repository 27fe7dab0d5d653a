//! Service managers: systemd over D-Bus, and the launcher for machines and containers without it. Both run programs, too.
//!
//! A backend does what it is told and reports what it reads back. Whether it may be told is the gate's business.

mod kernel_file;
pub mod supervised;
pub mod systemd;
mod transient;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use theriac_model::id::UnitName;
use theriac_model::unit::{Backend, KillWhom, Property, Signal, UnitState};

/// Most lines of a log in one answer, and most bytes of them.
const MAX_LINES: u32 = 200;
const MAX_LOG: usize = 64 << 10;

/// A systemd runs this machine, and this process is root, whom it obeys: where sd_booted(3) looks.
pub fn systemd_runs() -> bool {
    rustix::process::geteuid().is_root() && std::path::Path::new("/run/systemd/system").is_dir()
}

/// What a service manager can do for the gate. Every call is bounded in time.
pub trait ServiceManager: Send + Sync {
    /// The unit's state now. Aliases answer with the canonical name.
    fn state(&self, unit: &UnitName) -> Result<UnitState, UnitError>;
    /// The states of several units now, in their order. A manager that tells all of them in one answer does so here.
    fn states(&self, units: &[UnitName]) -> Vec<Result<UnitState, UnitError>> {
        units.iter().map(|unit| self.state(unit)).collect()
    }
    /// Starts it and waits for the job.
    fn start(&self, unit: &UnitName, timeout: Duration) -> Result<UnitState, UnitError>;
    /// Stops it and waits for the job.
    fn stop(&self, unit: &UnitName, timeout: Duration) -> Result<UnitState, UnitError>;
    /// Restarts it and waits for the job.
    fn restart(&self, unit: &UnitName, timeout: Duration) -> Result<UnitState, UnitError>;
    /// Reloads it and waits for the job.
    fn reload(&self, unit: &UnitName, timeout: Duration) -> Result<UnitState, UnitError>;
    /// Sends a signal.
    fn kill(&self, unit: &UnitName, whom: KillWhom, signal: Signal) -> Result<UnitState, UnitError>;
    /// Forgets failures and the start counter.
    fn reset_failed(&self, unit: &UnitName) -> Result<UnitState, UnitError>;
    /// The present value of the same property.
    fn property(&self, unit: &UnitName, like: Property) -> Result<Property, UnitError>;
    /// Sets a run-time property and reads the *kernel's* file back: a controller that is not there is `Unavailable`.
    fn set_property(&self, unit: &UnitName, property: Property) -> Result<Property, UnitError>;
    /// The last lines of its log.
    fn log_tail(&self, unit: &UnitName, lines: u32) -> Result<Vec<String>, UnitError>;
}

/// The last lines of a unit's log, as many of them as one answer may hold. Text from outside, kept as data.
pub(crate) fn log_tail(manager: &dyn ServiceManager, unit: &UnitName, lines: u32) -> Result<Vec<String>, UnitError> {
    let most = lines.min(MAX_LINES);
    let lines = manager.log_tail(unit, most)?;
    let mut left = MAX_LOG;
    let mut newest: Vec<String> = Vec::new();
    for line in lines.into_iter().rev().take(most as usize) {
        let Some(rest) = left.checked_sub(line.len()) else { break };
        left = rest;
        newest.push(line);
    }
    newest.reverse();
    Ok(newest)
}

/// Why a service manager did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// The manager does not know it.
    #[error("there is no unit `{unit}`")]
    NoSuchUnit { unit: UnitName },
    /// The name is an alias of another unit.
    #[error("`{asked}` is an alias of `{canonical}`: name that one")]
    Alias { asked: UnitName, canonical: UnitName },
    /// The job ended in another way than `done`.
    #[error("{verb} of `{unit}` ended as `{result}`")]
    Job { verb: &'static str, unit: UnitName, result: String },
    /// The answer did not come in time: it may have happened.
    #[error("{verb} of `{unit}` did not end within {} s", timeout.as_secs())]
    Timeout { verb: &'static str, unit: UnitName, timeout: Duration },
    /// This machine can't do it.
    #[error("{what} is not available here: {why}")]
    Unavailable { what: String, why: String },
    /// The manager refused.
    #[error("the service manager refused {verb} of `{unit}`: {reason}")]
    Refused { verb: &'static str, unit: UnitName, reason: String },
    /// The manager can't be reached: it may have happened.
    #[error("the connection to the service manager failed: {reason}")]
    Connection { reason: String },
}

impl UnitError {
    /// It is unknown whether it happened: observe before doing anything else.
    pub const fn may_have_happened(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Connection { .. } => true,
            Self::NoSuchUnit { .. }
            | Self::Alias { .. }
            | Self::Job { .. }
            | Self::Unavailable { .. }
            | Self::Refused { .. } => false,
        }
    }
}

/// The service managers of this host, and which of them has which unit.
#[derive(Clone, Default)]
pub struct Managers {
    /// systemd, where it runs.
    pub systemd: Option<Arc<dyn ServiceManager>>,
    /// The launcher, where it runs.
    pub supervised: Option<Arc<dyn ServiceManager>>,
    /// By root's configuration.
    pub backends: BTreeMap<UnitName, Backend>,
}

impl std::fmt::Debug for Managers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Managers").field("backends", &self.backends).finish_non_exhaustive()
    }
}

impl Managers {
    /// The state of a listed unit.
    pub fn state(&self, unit: &UnitName) -> Result<UnitState, UnitError> {
        self.of(unit).ok_or_else(|| UnitError::NoSuchUnit { unit: unit.clone() })?.state(unit)
    }

    /// The states of listed units, asked for in as few questions as their managers allow. Those of each manager stay in order.
    pub fn states(&self, units: &[UnitName]) -> Vec<(UnitName, Result<UnitState, UnitError>)> {
        let mut states = Vec::with_capacity(units.len());
        for backend in [Backend::Systemd, Backend::Supervised] {
            let of_backend = |unit: &&UnitName| self.backends.get(*unit) == Some(&backend);
            let units: Vec<UnitName> = units.iter().filter(of_backend).cloned().collect();
            let Some(manager) = self.manager(backend).filter(|_| !units.is_empty()) else { continue };
            let answers = manager.states(&units);
            states.extend(units.into_iter().zip(answers));
        }
        states
    }

    fn of(&self, unit: &UnitName) -> Option<&Arc<dyn ServiceManager>> {
        self.manager(*self.backends.get(unit)?)
    }

    const fn manager(&self, backend: Backend) -> Option<&Arc<dyn ServiceManager>> {
        match backend {
            Backend::Systemd => self.systemd.as_ref(),
            Backend::Supervised => self.supervised.as_ref(),
        }
    }
}
