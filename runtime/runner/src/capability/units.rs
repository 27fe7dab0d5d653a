//! `units`: one unit of a service manager, bound before the run.

use theriac_authority::effective::BoundUnit;
use theriac_model::call::{Reply, UnitCall, UnitInfo};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::effect::{Effect, Observed, Undo, UndoClass, UnitVerb};
use theriac_model::id::Label;
use theriac_model::plan::Guard;
use theriac_model::unit::{ActiveState, Property, UnitState};

use crate::backend::{self, ServiceManager, UnitError};
use crate::gate::{Applied, ApplyError, Change, Draft, Kept, Mode, Place, perform};
use crate::session::{Assumption, Scene};

/// What this run knows of a unit's invocation.
#[derive(Debug, Clone)]
pub(crate) struct Invocation {
    /// The one that the run found; effects name it, so that a plan stays comparable after a restart of its own.
    found: String,
    /// The one after our last effect; `None` where that can't be foreseen (a kill).
    now: Option<String>,
    /// This run has started or stopped it: what a person did before is answered already.
    by_us: bool,
}

/// A verb of a unit.
pub(crate) fn unit(scene: &mut Scene<'_>, mode: &mut dyn Mode, label: &Label, call: UnitCall) -> Result<Reply, Denial> {
    let bound = scene.grants.unit(label.as_str())?;
    let verb = match call {
        UnitCall::Name => return Ok(Reply::Text(bound.unit.to_string())),
        UnitCall::Status => {
            bound.admits(&call)?;
            return status(scene, bound);
        }
        UnitCall::LogTail { lines } => {
            bound.admits(&call)?;
            return log_tail(scene, bound, lines);
        }
        UnitCall::Start => UnitVerb::Start,
        UnitCall::Stop => UnitVerb::Stop,
        UnitCall::Restart => UnitVerb::Restart,
        UnitCall::Reload => UnitVerb::Reload,
        UnitCall::Kill { whom, signal } => UnitVerb::Kill { whom, signal },
        UnitCall::ResetFailed => UnitVerb::ResetFailed,
        UnitCall::SetProperty { property } => UnitVerb::SetProperty { property },
    };
    perform(scene, mode, &mut UnitChange { label: label.clone(), call, verb, old: None }).map(|_| Reply::Done)
}

fn manager<'w>(scene: &Scene<'w>, bound: &BoundUnit) -> Result<&'w dyn ServiceManager, Denial> {
    let missing = || Denial::new(DenialCause::Unavailable, &bound.label, "backend", format!("reach {}", bound.unit));
    scene.world.manager(bound.backend).ok_or_else(missing)
}

fn denial(bound: &BoundUnit, attempted: &str, error: &UnitError) -> Denial {
    let (cause, rule) = match error {
        UnitError::NoSuchUnit { .. } => (DenialCause::StaleTarget, "unit"),
        UnitError::Alias { .. } => (DenialCause::StaleTarget, "alias"),
        UnitError::Unavailable { .. } => (DenialCause::Unavailable, "backend"),
        UnitError::Timeout { .. } => (DenialCause::Failed, "job_timeout"),
        UnitError::Job { .. } | UnitError::Refused { .. } | UnitError::Connection { .. } => {
            (DenialCause::Failed, "backend")
        }
    };
    Denial::new(cause, &bound.label, rule, format!("{attempted}: {error}"))
}

fn state(scene: &Scene<'_>, bound: &BoundUnit) -> Result<UnitState, Denial> {
    let attempted = format!("status {}", bound.unit);
    let state = manager(scene, bound)?.state(&bound.unit).map_err(|error| denial(bound, &attempted, &error))?;
    if state.name == bound.unit {
        Ok(state)
    } else {
        Err(Denial::new(
            DenialCause::StaleTarget,
            &bound.label,
            "alias",
            format!("{attempted}, which is {}", state.name),
        ))
    }
}

fn status(scene: &Scene<'_>, bound: &BoundUnit) -> Result<Reply, Denial> {
    let state = state(scene, bound)?;
    let assumed = scene.overlay.unit(&bound.unit);
    let (active, sub) = match assumed {
        Some(Some((active, sub))) => (active, sub.to_owned()),
        Some(None) | None => (state.active, state.sub),
    };
    let healthy = match assumed {
        Some(Some((active, _))) => (!bound.health.is_empty()).then_some(active == ActiveState::Active),
        Some(None) | None => healthy(scene, bound),
    };
    let changed = matches!(assumed, Some(Some(_)));
    Ok(Reply::Status(UnitInfo {
        active,
        sub,
        result: state.result,
        restarts: state.restarts,
        since_s: if changed { 0 } else { state.since_ms / 1000 },
        will_restart: state.will_restart && !changed,
        stopped_on_purpose: state.stopped_on_purpose && !changed,
        healthy,
        assumed: assumed.is_some(),
    }))
}

/// All checks pass; `None` where there are none, or one can't be run.
fn healthy(scene: &Scene<'_>, bound: &BoundUnit) -> Option<bool> {
    let mut answers = bound.health.iter().map(|check| scene.world.senses.check(check).ok().map(|answer| answer.ok));
    let first = answers.next()??;
    answers.try_fold(first, |all, answer| Some(all && answer?))
}

fn log_tail(scene: &Scene<'_>, bound: &BoundUnit, lines: u32) -> Result<Reply, Denial> {
    let attempted = format!("log-tail {}", bound.unit);
    let lines = backend::log_tail(manager(scene, bound)?, &bound.unit, lines);
    lines.map(Reply::Lines).map_err(|error| denial(bound, &attempted, &error))
}

/// One change of one unit.
struct UnitChange {
    label: Label,
    call: UnitCall,
    verb: UnitVerb,
    old: Option<Property>,
}

fn observed(state: &UnitState) -> Observed {
    Observed::Unit { active: state.active, invocation: state.invocation.clone(), sub: state.sub.clone() }
}

impl UnitChange {
    fn effect(&self, bound: &BoundUnit, invocation: &str) -> Effect {
        Effect::Unit {
            label: self.label.clone(),
            unit: bound.unit.clone(),
            invocation: invocation.to_owned(),
            verb: self.verb,
        }
    }

    /// The state now, if it is the unit that this run found and nobody has a better claim on it.
    fn check(&self, scene: &mut Scene<'_>, bound: &BoundUnit) -> Result<(UnitState, Invocation), Denial> {
        let state = state(scene, bound)?;
        let fresh =
            || Invocation { found: state.invocation.clone(), now: Some(state.invocation.clone()), by_us: false };
        let known = scene.invocations.entry(bound.unit.clone()).or_insert_with(fresh).clone();
        let no = |cause, rule| Err(Denial::new(cause, &self.label, rule, self.effect(bound, &known.found)));
        if known.now.as_ref().is_some_and(|now| *now != state.invocation) {
            return no(DenialCause::StaleTarget, "invocation");
        }
        if self.starts() && state.stopped_on_purpose && !known.by_us {
            return no(DenialCause::Conflict, "stopped-on-purpose");
        }
        if self.starts() && state.will_restart {
            return no(DenialCause::Conflict, "restarting-itself");
        }
        Ok((state, known))
    }

    const fn starts(&self) -> bool {
        match self.verb {
            UnitVerb::Start | UnitVerb::Restart | UnitVerb::ResetFailed => true,
            UnitVerb::Stop | UnitVerb::Reload | UnitVerb::Kill { .. } | UnitVerb::SetProperty { .. } => false,
        }
    }

    fn class(&self) -> UndoClass {
        let inverse = match self.verb {
            UnitVerb::Start => "stop, only when it made things worse",
            UnitVerb::Stop => "start",
            UnitVerb::Restart | UnitVerb::Reload | UnitVerb::Kill { .. } => "start, if it does not run",
            UnitVerb::ResetFailed => "none: only a record of failures was forgotten",
            UnitVerb::SetProperty { .. } => return UndoClass::Exact,
        };
        UndoClass::Compensated { inverse: inverse.to_owned() }
    }

    fn assumption(&self, bound: &BoundUnit, state: &UnitState) -> Assumption {
        let unit = bound.unit.clone();
        match self.verb {
            UnitVerb::Start | UnitVerb::Restart | UnitVerb::Reload => {
                Assumption::Unit { unit, active: ActiveState::Active, sub: "running" }
            }
            UnitVerb::Stop => Assumption::Unit { unit, active: ActiveState::Inactive, sub: "dead" },
            UnitVerb::ResetFailed if state.active == ActiveState::Failed => {
                Assumption::Unit { unit, active: ActiveState::Inactive, sub: "dead" }
            }
            UnitVerb::ResetFailed | UnitVerb::Kill { .. } | UnitVerb::SetProperty { .. } => {
                Assumption::UnitAsBefore { unit }
            }
        }
    }

    /// What this run knows from now on.
    fn remember(&self, scene: &mut Scene<'_>, bound: &BoundUnit, after: Option<&UnitState>) {
        if let Some(known) = scene.invocations.get_mut(&bound.unit) {
            known.by_us |= self.starts() || matches!(self.verb, UnitVerb::Stop | UnitVerb::Kill { .. });
            let killed = matches!(self.verb, UnitVerb::Kill { .. });
            known.now = after.filter(|_| !killed).map(|state| state.invocation.clone());
        }
    }
}

impl Change for UnitChange {
    fn draft(&mut self, scene: &mut Scene<'_>) -> Result<Draft, Denial> {
        let bound = scene.grants.unit(self.label.as_str())?;
        bound.admits(&self.call)?;
        let (state, known) = self.check(scene, bound)?;
        let mut before = observed(&state);
        if let UnitVerb::SetProperty { property } = self.verb {
            let attempted = format!("read {} of {}", property.name(), bound.unit);
            let old = manager(scene, bound)?.property(&bound.unit, property);
            let old = old.map_err(|error| denial(bound, &attempted, &error))?;
            self.old = Some(old);
            before = Observed::Property(old);
        }
        let mut guards = vec![Guard::SameInvocation];
        if self.starts() {
            guards.extend([Guard::NotStoppedOnPurpose, Guard::NotRestartingItself]);
        }
        let effect = self.effect(bound, &known.found);
        Ok(Draft {
            bound: effect.clone(),
            effect,
            class: self.class(),
            guards,
            before,
            reproducible: false,
            traffic_share: bound.traffic_share,
            count: 0,
            assumption: self.assumption(bound, &state),
        })
    }

    fn recheck(&mut self, scene: &mut Scene<'_>) -> Result<(), Denial> {
        let bound = scene.grants.unit(self.label.as_str())?;
        self.check(scene, bound).map(|_| ())
    }

    fn keep(&mut self, scene: &mut Scene<'_>, _place: &Place) -> Result<Kept, Denial> {
        let bound = scene.grants.unit(self.label.as_str())?;
        let state = state(scene, bound)?;
        let unit = bound.unit.clone();
        let nothing = |reason: &str| Undo::Nothing { reason: reason.to_owned() };
        let undo = match (self.verb, self.old) {
            (UnitVerb::SetProperty { .. }, Some(property)) => Undo::SetProperty { unit, property },
            (UnitVerb::SetProperty { .. }, None) => {
                let attempted = self.effect(bound, &state.invocation);
                return Err(Denial::new(DenialCause::Failed, &self.label, "undo", attempted));
            }
            (UnitVerb::Start, _) if state.is_up() => nothing("it was up already"),
            (UnitVerb::Start, _) => Undo::StopUnit { unit },
            (UnitVerb::Stop | UnitVerb::Kill { .. } | UnitVerb::Reload, _) if !state.is_up() => {
                nothing("it was down already")
            }
            (UnitVerb::Stop | UnitVerb::Kill { .. } | UnitVerb::Restart | UnitVerb::Reload, _) => {
                Undo::StartUnit { unit }
            }
            (UnitVerb::ResetFailed, _) => nothing("only a record of failures was forgotten"),
        };
        let before = self.old.map_or_else(|| observed(&state), Observed::Property);
        Ok(Kept { before, undo })
    }

    fn apply(&mut self, scene: &mut Scene<'_>, _kept: &Kept) -> Result<Applied, ApplyError> {
        let bound = scene.grants.unit(self.label.as_str()).map_err(ApplyError::Denied)?;
        let manager = manager(scene, bound).map_err(ApplyError::Denied)?;
        let (unit, timeout) = (&bound.unit, bound.job_timeout.duration());
        let done = match self.verb {
            UnitVerb::Start => manager.start(unit, timeout),
            UnitVerb::Stop => manager.stop(unit, timeout),
            UnitVerb::Restart => manager.restart(unit, timeout),
            UnitVerb::Reload => manager.reload(unit, timeout),
            UnitVerb::Kill { whom, signal } => manager.kill(unit, whom, signal),
            UnitVerb::ResetFailed => manager.reset_failed(unit),
            UnitVerb::SetProperty { property } => {
                let set = manager.set_property(unit, property);
                return set
                    .map(|read| Applied { after: Observed::Property(read), bytes: 0 })
                    .map_err(|error| failed(bound, self.verb, &error));
            }
        };
        match done {
            Ok(after) => {
                self.remember(scene, bound, Some(&after));
                Ok(Applied { after: observed(&after), bytes: 0 })
            }
            Err(error) => {
                self.remember(scene, bound, None);
                Err(failed(bound, self.verb, &error))
            }
        }
    }
}

/// A job that ended badly may have ended the old process before: that is not *nothing changed*.
fn failed(bound: &BoundUnit, verb: UnitVerb, error: &UnitError) -> ApplyError {
    let attempted = format!("{verb:?} of {}", bound.unit).to_lowercase();
    let denial = denial(bound, &attempted, error);
    let job_failed = matches!(error, UnitError::Job { .. });
    if job_failed || error.may_have_happened() { ApplyError::Ambiguous(denial) } else { ApplyError::Denied(denial) }
}
