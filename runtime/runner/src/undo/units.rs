//! Putting units back.

use std::time::Duration;

use theriac_model::effect::{Effect, Observed, UndoOutcome, UnitVerb};
use theriac_model::id::UnitName;
use theriac_model::release::ReleasePlace;
use theriac_model::unit::{Property, UnitState};
use theriac_model::verdict::Verdict;

use super::{Intent, changed, failed, not_needed};
use crate::backend::ServiceManager;
use crate::capability::releases::switched_ago;
use crate::world::World;

/// systemd's own default for a start or a stop; an undo has no grant to take one from.
const JOB_TIMEOUT: Duration = Duration::from_secs(90);

fn reach<'w>(world: &'w World, unit: &UnitName) -> Result<(&'w dyn ServiceManager, UnitState), UndoOutcome> {
    let manager = world.manager_of(unit).ok_or_else(|| failed(format!("no service manager has `{unit}`")))?;
    let state = manager.state(unit).map_err(failed)?;
    Ok((manager, state))
}

/// Another invocation than the one the effect left: somebody else has started it since.
fn is_another(state: &UnitState, after: Option<&Observed>) -> bool {
    matches!(after, Some(Observed::Unit { invocation, .. }) if *invocation != state.invocation)
}

/// Only when it made things worse: a unit that was down and now serves a little is better left up.
pub(super) fn stop(world: &World, unit: &UnitName, after: Option<&Observed>, verdict: Verdict) -> UndoOutcome {
    if verdict != Verdict::Worse {
        return not_needed("a unit that was started is stopped again only when that made things worse");
    }
    let (manager, state) = match reach(world, unit) {
        Ok(reached) => reached,
        Err(outcome) => return outcome,
    };
    if !state.is_up() {
        return not_needed("it does not run");
    }
    if is_another(&state, after) {
        return changed("somebody else has started it since");
    }
    match manager.stop(unit, JOB_TIMEOUT) {
        Ok(_) => UndoOutcome::Restored,
        Err(error) => failed(error),
    }
}

pub(super) fn start(world: &World, unit: &UnitName, intent: &Intent<'_>, after: Option<&Observed>) -> UndoOutcome {
    let (manager, state) = match reach(world, unit) {
        Ok(reached) => reached,
        Err(outcome) => return outcome,
    };
    if state.is_up() {
        return not_needed("it runs");
    }
    // A unit that we stopped ended without a failure too; only that one was not stopped by a person.
    let we_stopped_it = matches!(intent.effect, Effect::Unit { verb: UnitVerb::Stop, .. });
    let by_a_person = state.stopped_on_purpose && !we_stopped_it;
    let kill = matches!(intent.effect, Effect::Process { .. } | Effect::Unit { verb: UnitVerb::Kill { .. }, .. });
    if (by_a_person || is_another(&state, after)) && !kill {
        return changed("somebody else has started or stopped it since");
    }
    if state.will_restart {
        return not_needed("the service manager is about to start it by itself");
    }
    match manager.start(unit, JOB_TIMEOUT) {
        Ok(_) => UndoOutcome::Restored,
        Err(error) => failed(error),
    }
}

/// Restarts a service that was started between the switch to another release and its undo: it runs the other one. What was
/// started after the undo runs the right one, so that doing this twice is as good as once.
pub(super) fn onto_release(world: &World, unit: &UnitName, place: &ReleasePlace, invocation: &str) -> UndoOutcome {
    let (manager, state) = match reach(world, unit) {
        Ok(reached) => reached,
        Err(outcome) => return outcome,
    };
    let switched = match switched_ago(place) {
        Ok(ago) => ago,
        Err(error) => return failed(error),
    };
    let started_after = switched.is_some_and(|ago| Duration::from_millis(state.since_ms) < ago);
    if !state.is_up() || state.invocation == invocation || started_after {
        return UndoOutcome::Restored;
    }
    match manager.restart(unit, JOB_TIMEOUT) {
        Ok(_) => UndoOutcome::Restored,
        Err(error) => failed(error),
    }
}

/// Reloads or restarts a service that one of these verbs, which were taken back before, has made to load its files.
pub(super) fn load_again(world: &World, unit: &UnitName, verbs: impl Iterator<Item = UnitVerb>) -> UndoOutcome {
    let by_reload = verbs.filter_map(|verb| match verb {
        UnitVerb::Reload => Some(true),
        UnitVerb::Start | UnitVerb::Restart => Some(false),
        UnitVerb::Stop | UnitVerb::Kill { .. } | UnitVerb::ResetFailed | UnitVerb::SetProperty { .. } => None,
    });
    let Some(by_reload) = by_reload.last() else { return UndoOutcome::Restored };
    let (manager, state) = match reach(world, unit) {
        Ok(reached) => reached,
        Err(outcome) => return outcome,
    };
    // It loads what is there when it starts.
    if !state.is_up() {
        return UndoOutcome::Restored;
    }
    let loaded = if by_reload { manager.reload(unit, JOB_TIMEOUT) } else { manager.restart(unit, JOB_TIMEOUT) };
    loaded.map_or_else(failed, |_| UndoOutcome::Restored)
}

pub(super) fn set_property(world: &World, unit: &UnitName, before: Property, after: Option<&Observed>) -> UndoOutcome {
    let Some(manager) = world.manager_of(unit) else {
        return failed(format!("no service manager has `{unit}`"));
    };
    let now = match manager.property(unit, before) {
        Ok(now) => now,
        Err(error) => return failed(error),
    };
    if now == before {
        return not_needed("it has the value of before");
    }
    if !matches!(after, Some(Observed::Property(left)) if *left == now) {
        return changed(now);
    }
    match manager.set_property(unit, before) {
        Ok(read) if read == before => UndoOutcome::Restored,
        Ok(read) => failed(format!("it reads back as {read}")),
        Err(error) => failed(error),
    }
}
