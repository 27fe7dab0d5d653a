//! The launcher as a service manager: one bounded question per call, and its events on a thread of their own.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use theriac_model::id::UnitName;
use theriac_model::program::{ProgramOutput, ProgramSpec};
use theriac_model::unit::{KillWhom, Property, Signal, UnitState};
use theriac_protocol::launcher::{LauncherAnswer, LauncherRequest};

use super::{ServiceManager, UnitError};
use crate::exchange::{ExchangeError, Line, Neighbour, chain};
use crate::hands::{HandError, Programs};

/// For what the launcher answers without waiting for a process.
const AT_ONCE: Duration = Duration::from_secs(5);
/// On top of a program's own time: making its jail, and killing what is in it.
const AROUND: Duration = Duration::from_secs(10);
/// Between two attempts to subscribe again.
const RECONNECT: Duration = Duration::from_secs(1);

/// Services owned by the launcher.
#[derive(Debug, Clone)]
pub struct Supervised {
    launcher: Neighbour,
}

/// Ends its subscription when it is dropped: the thread stops at the next event or attempt.
#[derive(Debug)]
pub struct Subscription {
    ended: Arc<AtomicBool>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

impl Supervised {
    /// The launcher at this socket, spoken to with the runner's fencing epoch.
    pub fn new(socket: &Path, epoch: u64) -> Self {
        Self { launcher: Neighbour::new(socket, epoch) }
    }

    /// Every service.
    pub fn units(&self) -> Result<Vec<UnitState>, UnitError> {
        let answer = self.ask(LauncherRequest::Units, AT_ONCE).map_err(|error| connection(&error))?;
        if let LauncherAnswer::Units(units) = answer { Ok(units) } else { Err(unexpected()) }
    }

    /// Calls back with every service's state now, and with each change from then on, over restarts of the launcher too (after
    /// which all states come again). The callback runs on the subscription's own thread.
    pub fn subscribe(&self, callback: impl FnMut(UnitState) + Send + 'static) -> std::io::Result<Subscription> {
        let ended = Arc::new(AtomicBool::new(false));
        let (launcher, over) = (self.clone(), Arc::clone(&ended));
        let mut callback = callback;
        std::thread::Builder::new().name("launcher-events".to_owned()).spawn(move || {
            while !over.load(Ordering::Relaxed) {
                if let Err(error) = launcher.follow(&mut callback, &over) {
                    tracing::debug!(error = chain(&error), "no events from the launcher");
                }
                std::thread::sleep(RECONNECT);
            }
        })?;
        Ok(Subscription { ended })
    }

    fn follow(&self, callback: &mut impl FnMut(UnitState), over: &AtomicBool) -> Result<(), ExchangeError> {
        let mut line = self.greeted()?;
        // Subscribed first: a change between the two answers comes twice rather than never.
        line.ask::<_, LauncherAnswer>(2, LauncherRequest::Subscribe, AT_ONCE)?;
        if let LauncherAnswer::Units(units) = line.ask(3, LauncherRequest::Units, AT_ONCE)? {
            units.into_iter().for_each(&mut *callback);
        }
        while !over.load(Ordering::Relaxed) {
            if let LauncherAnswer::UnitChanged(state) = line.next_event()? {
                callback(state);
            }
        }
        Ok(())
    }

    fn greeted(&self) -> Result<Line, ExchangeError> {
        let hello = LauncherRequest::Hello { version: env!("CARGO_PKG_VERSION").to_owned() };
        let (line, answer) = self.launcher.connect(hello)?;
        if matches!(answer, LauncherAnswer::Hello { .. }) { Ok(line) } else { Err(ExchangeError::Unexpected) }
    }

    fn ask(&self, request: LauncherRequest, timeout: Duration) -> Result<LauncherAnswer, ExchangeError> {
        self.greeted()?.ask(2, request, timeout)
    }

    fn unit(&self, verb: &'static str, unit: &UnitName, request: LauncherRequest) -> Result<UnitState, UnitError> {
        self.unit_within(verb, unit, request, AT_ONCE)
    }

    fn unit_within(
        &self,
        verb: &'static str,
        unit: &UnitName,
        request: LauncherRequest,
        timeout: Duration,
    ) -> Result<UnitState, UnitError> {
        let answer = self.named(verb, unit, request, timeout)?;
        if let LauncherAnswer::Unit(state) = answer { Ok(state) } else { Err(unexpected()) }
    }

    fn named(
        &self,
        verb: &'static str,
        unit: &UnitName,
        request: LauncherRequest,
        timeout: Duration,
    ) -> Result<LauncherAnswer, UnitError> {
        match self.ask(request, timeout) {
            Ok(LauncherAnswer::NoSuchUnit) => Err(UnitError::NoSuchUnit { unit: unit.clone() }),
            Ok(LauncherAnswer::Refused(reason)) => Err(UnitError::Refused { verb, unit: unit.clone(), reason }),
            Ok(answer) => Ok(answer),
            Err(ExchangeError::Timeout) => Err(UnitError::Timeout { verb, unit: unit.clone(), timeout }),
            Err(error) => Err(connection(&error)),
        }
    }
}

fn connection(error: &ExchangeError) -> UnitError {
    UnitError::Connection { reason: chain(error) }
}

fn unexpected() -> UnitError {
    UnitError::Connection { reason: "the launcher answered something else than was asked".to_owned() }
}

fn no_property(property: &Property) -> UnitError {
    UnitError::Unavailable {
        what: property.name().to_owned(),
        why: "a supervised service has no cgroup of its own; use the verbs of `processes`".to_owned(),
    }
}

impl ServiceManager for Supervised {
    fn state(&self, unit: &UnitName) -> Result<UnitState, UnitError> {
        self.unit("status", unit, LauncherRequest::Unit { name: unit.clone() })
    }

    /// One question for all: the launcher looks through all its processes for each answer, whether it tells one service or every.
    fn states(&self, units: &[UnitName]) -> Vec<Result<UnitState, UnitError>> {
        let all = self.units();
        let of = |unit: &UnitName| match &all {
            Ok(all) => {
                let found = all.iter().find(|state| state.name == *unit).cloned();
                found.ok_or_else(|| UnitError::NoSuchUnit { unit: unit.clone() })
            }
            Err(error) => Err(UnitError::Connection { reason: chain(error) }),
        };
        units.iter().map(of).collect()
    }

    fn start(&self, unit: &UnitName, timeout: Duration) -> Result<UnitState, UnitError> {
        self.unit_within("start", unit, LauncherRequest::Start { name: unit.clone() }, timeout)
    }

    fn stop(&self, unit: &UnitName, timeout: Duration) -> Result<UnitState, UnitError> {
        self.unit_within("stop", unit, LauncherRequest::Stop { name: unit.clone() }, timeout)
    }

    fn restart(&self, unit: &UnitName, timeout: Duration) -> Result<UnitState, UnitError> {
        self.unit_within("restart", unit, LauncherRequest::Restart { name: unit.clone() }, timeout)
    }

    fn reload(&self, unit: &UnitName, timeout: Duration) -> Result<UnitState, UnitError> {
        self.unit_within("reload", unit, LauncherRequest::Reload { name: unit.clone() }, timeout)
    }

    fn kill(&self, unit: &UnitName, whom: KillWhom, signal: Signal) -> Result<UnitState, UnitError> {
        self.unit("kill", unit, LauncherRequest::Kill { name: unit.clone(), whom, signal })
    }

    fn reset_failed(&self, unit: &UnitName) -> Result<UnitState, UnitError> {
        self.unit("reset-failed", unit, LauncherRequest::ResetFailed { name: unit.clone() })
    }

    fn property(&self, _unit: &UnitName, like: Property) -> Result<Property, UnitError> {
        Err(no_property(&like))
    }

    fn set_property(&self, _unit: &UnitName, property: Property) -> Result<Property, UnitError> {
        Err(no_property(&property))
    }

    fn log_tail(&self, unit: &UnitName, lines: u32) -> Result<Vec<String>, UnitError> {
        let answer = self.named("log-tail", unit, LauncherRequest::LogTail { name: unit.clone(), lines }, AT_ONCE)?;
        if let LauncherAnswer::Lines(lines) = answer { Ok(lines) } else { Err(unexpected()) }
    }
}

impl Programs for Supervised {
    fn run(&self, program: &ProgramSpec) -> Result<ProgramOutput, HandError> {
        let mut line = self.greeted().map_err(|error| HandError::Unavailable { reason: chain(&error) })?;
        let timeout = program.timeout.duration() + AROUND;
        let unknown = |reason: String| HandError::Unknown { reason };
        match line.ask(2, LauncherRequest::Run(program.clone()), timeout).map_err(|error| unknown(chain(&error)))? {
            LauncherAnswer::Ran(output) => Ok(output),
            LauncherAnswer::Refused(reason) => Err(HandError::Refused { reason }),
            LauncherAnswer::Hello { .. }
            | LauncherAnswer::Units(_)
            | LauncherAnswer::Unit(_)
            | LauncherAnswer::Lines(_)
            | LauncherAnswer::Subscribed
            | LauncherAnswer::UnitChanged(_)
            | LauncherAnswer::NoSuchUnit => {
                Err(unknown("the launcher answered something else than was asked".to_owned()))
            }
        }
    }
}
