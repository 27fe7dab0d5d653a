//! `containers`: one container of the machine's engine, reached through the `docker` courier.
//!
//! A grant says where to look: a name, or a label. What a run changes is the container that it found there, by full id and
//! life; the courier looks once more immediately before it asks the engine, by the id alone. A container that took over the name
//! meanwhile is another one.

mod own;

use theriac_authority::effective::BoundContainer;
use theriac_model::call::Reply;
use theriac_model::container::{
    ContainerCall, ContainerEffect, ContainerHealth, ContainerId, ContainerInfo, ContainerRef, ContainerSelector,
    ContainerState, ContainerVerb, Incarnation, RunState,
};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::effect::{Effect, Observed, Undo, UndoClass, UndoOutcome};
use theriac_model::id::Label;
use theriac_model::plan::Guard;
use theriac_model::verdict::Verdict;

use crate::gate::{Applied, ApplyError, Change, Draft, Kept, Mode, Place, perform};
use crate::hands::{Containers, HandError};
use crate::recover::Happened;
use crate::session::{Assumption, Scene};
use crate::undo::Intent;
use crate::world::World;

/// An undo has no grant to take a time from; engines wait 10 s for a container to stop, and most that wait longer are databases.
const UNDO_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(90);

/// What this run knows of a container.
#[derive(Debug, Clone)]
pub(crate) struct Acquaintance {
    /// As the run found it; effects name it, so that a plan stays comparable after a restart of its own.
    found: ContainerState,
    /// As it was left by our last effect; `None` where that is not known.
    now: Option<ContainerRef>,
    /// This run has started or stopped it: what a person did before is answered already.
    by_us: bool,
}

/// A verb of a container.
pub(crate) fn serve(
    scene: &mut Scene<'_>,
    mode: &mut dyn Mode,
    label: &Label,
    call: ContainerCall,
) -> Result<Reply, Denial> {
    let bound = scene.grants.container(label.as_str())?;
    bound.admits(call)?;
    let verb = match call {
        ContainerCall::Name => return Ok(Reply::Text(bound.selector.to_string())),
        ContainerCall::Inspect => return inspect(scene, bound),
        ContainerCall::LogTail { lines } => return log_tail(scene, bound, lines),
        ContainerCall::Start => ContainerVerb::Start,
        ContainerCall::Stop => ContainerVerb::Stop,
        ContainerCall::Restart => ContainerVerb::Restart,
    };
    perform(scene, mode, &mut ContainerChange { label: label.clone(), call, verb }).map(|_| Reply::Done)
}

fn hand<'w>(world: &'w World, label: &Label, attempted: &str) -> Result<&'w dyn Containers, Denial> {
    let missing = || Denial::new(DenialCause::Unavailable, label, "courier", attempted);
    world.hands.containers.as_deref().ok_or_else(missing)
}

/// The container as it is now; one that we run in is no container of anybody's grant.
fn find(scene: &Scene<'_>, bound: &BoundContainer, attempted: &str) -> Result<ContainerState, Denial> {
    let found = hand(scene.world, &bound.label, attempted)?.find(&bound.selector);
    let state = found.map_err(|error| error.denial(&bound.label, rule_of(&error), attempted))?;
    if own::is_own(&state.id) {
        return Err(Denial::new(DenialCause::NotGranted, &bound.label, "never", attempted));
    }
    Ok(state)
}

const fn rule_of(error: &HandError) -> &'static str {
    match error {
        HandError::Stale { .. } => "container",
        HandError::Refused { .. } => "one-container",
        HandError::Unavailable { .. } => "courier",
        HandError::Failed { .. } | HandError::Unknown { .. } => "engine",
    }
}

fn inspect(scene: &Scene<'_>, bound: &BoundContainer) -> Result<Reply, Denial> {
    let state = find(scene, bound, &format!("inspect {}", bound.selector))?;
    let assumed = scene.overlay.container(&bound.selector);
    let run = assumed.unwrap_or(state.run);
    let changed = assumed.is_some();
    let up = matches!(run, RunState::Running | RunState::Paused);
    Ok(Reply::Container(ContainerInfo {
        run,
        // A dry run assumes that what was started gets well.
        health: match state.health {
            ContainerHealth::Starting | ContainerHealth::Unhealthy if changed && up => ContainerHealth::Healthy,
            health @ (ContainerHealth::None
            | ContainerHealth::Starting
            | ContainerHealth::Healthy
            | ContainerHealth::Unhealthy) => health,
        },
        failing_streak: if changed { 0 } else { state.failing_streak },
        restarts: if changed { 0 } else { state.restarts },
        exit_code: (!up && !changed && run != RunState::Created).then_some(state.exit_code),
        oom_killed: state.oom_killed && !changed,
        since_s: if changed && up { Some(0) } else { state.since_ms.map(|ms| ms / 1000) },
        will_restart: state.will_restart() && !changed,
        stopped_on_purpose: state.stopped_on_purpose() && !changed,
        assumed: changed,
    }))
}

fn log_tail(scene: &Scene<'_>, bound: &BoundContainer, lines: u32) -> Result<Reply, Denial> {
    let attempted = format!("log-tail {}", bound.selector);
    let state = find(scene, bound, &attempted)?;
    let told = hand(scene.world, &bound.label, &attempted)?.log_tail(&state.id, lines);
    told.map(Reply::Lines).map_err(|error| error.denial(&bound.label, rule_of(&error), &attempted))
}

fn observed(state: &ContainerState) -> Observed {
    Observed::Container { container: state.reference(), run: state.run, restarts: state.restarts }
}

/// One change of one container.
struct ContainerChange {
    label: Label,
    call: ContainerCall,
    verb: ContainerVerb,
}

impl ContainerChange {
    /// As the verb means it: a stop means the container in whichever life the engine gave it last, a start and a restart the
    /// one that was looked at.
    fn meant(&self, state: &ContainerState) -> ContainerRef {
        match self.verb {
            ContainerVerb::Stop => state.reference_to_loop(),
            ContainerVerb::Start | ContainerVerb::Restart => state.reference(),
        }
    }

    fn effect(&self, bound: &BoundContainer, found: &ContainerState) -> ContainerEffect {
        ContainerEffect {
            label: self.label.clone(),
            target: bound.target.clone(),
            selector: bound.selector.clone(),
            container: self.meant(found),
            verb: self.verb,
        }
    }

    const fn starts(&self) -> bool {
        match self.verb {
            ContainerVerb::Start | ContainerVerb::Restart => true,
            ContainerVerb::Stop => false,
        }
    }

    /// The state now, if it is the container that this run found and nobody has a better claim on it.
    fn check(&self, scene: &mut Scene<'_>, bound: &BoundContainer) -> Result<(ContainerState, Acquaintance), Denial> {
        let state = find(scene, bound, &format!("{} {}", self.verb.as_str(), bound.selector))?;
        let fresh = || Acquaintance { found: state.clone(), now: None, by_us: false };
        let known = scene.containers.entry(bound.selector.clone()).or_insert_with(fresh).clone();
        let no = |cause, rule| Err(Denial::new(cause, &self.label, rule, self.effect(bound, &known.found)));
        let meant = known.now.clone().unwrap_or_else(|| self.meant(&known.found));
        // After an effect of ours that did not tell, any life of the same container is ours to deal with.
        let same = if known.by_us && known.now.is_none() { meant.id == state.id } else { meant.is(&state) };
        if !same {
            return no(DenialCause::StaleTarget, "container");
        }
        if self.starts() && state.stopped_on_purpose() && !known.by_us {
            return no(DenialCause::Conflict, "stopped-on-purpose");
        }
        if self.starts() && state.will_restart() {
            return no(DenialCause::Conflict, "restarting-itself");
        }
        Ok((state, known))
    }

    fn class(&self) -> UndoClass {
        let inverse = match self.verb {
            ContainerVerb::Start => "stop, only when it made things worse",
            ContainerVerb::Stop => "start",
            ContainerVerb::Restart => "start, if it does not run",
        };
        UndoClass::Compensated { inverse: inverse.to_owned() }
    }

    /// What this run knows from now on.
    fn remember(&self, scene: &mut Scene<'_>, bound: &BoundContainer, after: Option<&ContainerState>) {
        if let Some(known) = scene.containers.get_mut(&bound.selector) {
            known.by_us = true;
            known.now = after.map(ContainerState::reference);
        }
    }
}

impl Change for ContainerChange {
    fn draft(&mut self, scene: &mut Scene<'_>) -> Result<Draft, Denial> {
        let bound = scene.grants.container(self.label.as_str())?;
        bound.admits(self.call)?;
        let (state, known) = self.check(scene, bound)?;
        let mut guards = vec![Guard::SameContainer];
        if self.starts() {
            guards.extend([Guard::NotStoppedOnPurpose, Guard::NotRestartingItself]);
        }
        let effect = Effect::Container(self.effect(bound, &known.found));
        let run = if self.starts() { RunState::Running } else { RunState::Exited };
        Ok(Draft {
            bound: effect.clone(),
            effect,
            class: self.class(),
            guards,
            before: observed(&state),
            reproducible: false,
            traffic_share: bound.traffic_share,
            count: 0,
            assumption: Assumption::Container { selector: bound.selector.clone(), run },
        })
    }

    fn recheck(&mut self, scene: &mut Scene<'_>) -> Result<(), Denial> {
        let bound = scene.grants.container(self.label.as_str())?;
        self.check(scene, bound).map(|_| ())
    }

    fn keep(&mut self, scene: &mut Scene<'_>, _place: &Place) -> Result<Kept, Denial> {
        let bound = scene.grants.container(self.label.as_str())?;
        let (state, _) = self.check(scene, bound)?;
        let (selector, id) = (bound.selector.clone(), state.id.clone());
        let nothing = |reason: &str| Undo::Nothing { reason: reason.to_owned() };
        let undo = match self.verb {
            ContainerVerb::Start if state.is_up() => nothing("it was up already"),
            ContainerVerb::Start => Undo::StopContainer { selector, id },
            // One that its engine restarts without end was no more running than it was down; it was to be running.
            ContainerVerb::Stop if !state.is_up() && !state.will_restart() => nothing("it was down already"),
            ContainerVerb::Stop | ContainerVerb::Restart => Undo::StartContainer { selector, id },
        };
        Ok(Kept { before: observed(&state), undo })
    }

    fn apply(&mut self, scene: &mut Scene<'_>, kept: &Kept) -> Result<Applied, ApplyError> {
        let bound = scene.grants.container(self.label.as_str()).map_err(ApplyError::Denied)?;
        let attempted = format!("{} {}", self.verb.as_str(), bound.selector);
        let hand = hand(scene.world, &self.label, &attempted).map_err(ApplyError::Denied)?;
        // That of the moment when the undo was saved, and no other: the courier compares once more.
        let Observed::Container { container, restarts, .. } = &kept.before else {
            return Err(ApplyError::Denied(Denial::new(DenialCause::Failed, &self.label, "undo", attempted)));
        };
        let mut meant = container.clone();
        if self.verb == ContainerVerb::Stop && *restarts > 0 {
            meant.incarnation = Incarnation::InLoop { restarts: *restarts };
        }
        match hand.change(&meant, self.verb, bound.job_timeout.duration()) {
            Ok(after) => {
                self.remember(scene, bound, Some(&after));
                Ok(Applied { after: observed(&after), bytes: 0 })
            }
            Err(error) => {
                self.remember(scene, bound, None);
                let denial = error.denial(&self.label, rule_of(&error), &attempted);
                Err(if error.may_have_happened() { ApplyError::Ambiguous(denial) } else { ApplyError::Denied(denial) })
            }
        }
    }
}

/// The container that an effect was about, found by its selector; `Err` says what is there in its place.
fn again(world: &World, selector: &ContainerSelector, id: &ContainerId) -> Result<ContainerState, Missing> {
    let hand = world.hands.containers.as_deref().ok_or_else(|| Missing::Unknown("no courier is there".to_owned()))?;
    match hand.find(selector) {
        Ok(state) if state.id == *id => Ok(state),
        Ok(state) => Err(Missing::Another(format!("{selector} is {} by now", state.id.short()))),
        Err(error @ HandError::Stale { .. }) => Err(Missing::Another(error.to_string())),
        Err(error) => Err(Missing::Unknown(error.to_string())),
    }
}

/// Why there is nothing to look at.
enum Missing {
    /// Somebody took it away, or put another one in its place.
    Another(String),
    /// It is not known.
    Unknown(String),
}

/// Asks the engine whether the intent's effect happened. Each start has a time of its own, which only the engine sets.
pub(crate) fn observe(world: &World, intent: &Intent<'_>, effect: &ContainerEffect) -> Happened {
    let Observed::Container { container, run, restarts } = intent.before else {
        return Happened::Unknown { reason: "the record has no container state".to_owned() };
    };
    let now = match again(world, &effect.selector, &effect.container.id) {
        Ok(now) => now,
        Err(Missing::Another(reason) | Missing::Unknown(reason)) => return Happened::Unknown { reason },
    };
    let started_anew = !container.is(&now);
    // The engine counts what it starts itself; a start by hand begins the count anew.
    let by_the_engine = started_anew && now.restarts > *restarts;
    let unknown = |reason: &str| Happened::Unknown { reason: reason.to_owned() };
    match effect.verb {
        ContainerVerb::Start | ContainerVerb::Restart if by_the_engine => {
            unknown("the engine has started it again by itself since")
        }
        ContainerVerb::Start | ContainerVerb::Restart if started_anew => Happened::Yes(observed(&now)),
        ContainerVerb::Start => Happened::No,
        // Neither started nor stopped since: a restart that had begun would have stopped it.
        ContainerVerb::Restart if now.run == *run => Happened::No,
        ContainerVerb::Stop if now.is_up() || now.will_restart() => {
            if started_anew && !by_the_engine {
                unknown("somebody has started it since")
            } else {
                Happened::No
            }
        }
        ContainerVerb::Stop if matches!(run, RunState::Exited | RunState::Created) => Happened::No,
        ContainerVerb::Stop => Happened::Yes(observed(&now)),
        ContainerVerb::Restart => unknown("it is down, and was up before"),
    }
}

fn failed(reason: impl std::fmt::Display) -> UndoOutcome {
    UndoOutcome::Failed { reason: reason.to_string() }
}

fn not_needed(reason: &str) -> UndoOutcome {
    UndoOutcome::NotNeeded { reason: reason.to_owned() }
}

/// Another life than the one the effect left behind: somebody else has started it since.
fn is_another(state: &ContainerState, after: Option<&Observed>) -> bool {
    matches!(after, Some(Observed::Container { container, .. }) if !container.is(state))
}

fn change(world: &World, state: &ContainerState, verb: ContainerVerb) -> UndoOutcome {
    let Some(hand) = world.hands.containers.as_deref() else { return failed("no courier is there") };
    match hand.change(&state.reference(), verb, UNDO_TIMEOUT) {
        Ok(_) => UndoOutcome::Restored,
        Err(HandError::Stale { reason }) => UndoOutcome::ChangedSince { found: reason },
        Err(error) => failed(error),
    }
}

fn reach(world: &World, selector: &ContainerSelector, id: &ContainerId) -> Result<ContainerState, UndoOutcome> {
    again(world, selector, id).map_err(|missing| match missing {
        Missing::Another(found) => UndoOutcome::ChangedSince { found },
        Missing::Unknown(reason) => failed(reason),
    })
}

/// Only when it made things worse: a container that was down and now serves a little is better left up.
pub(crate) fn stop_again(
    world: &World,
    (selector, id): (&ContainerSelector, &ContainerId),
    after: Option<&Observed>,
    verdict: Verdict,
) -> UndoOutcome {
    if verdict != Verdict::Worse {
        return not_needed("a container that was started is stopped again only when that made things worse");
    }
    let state = match reach(world, selector, id) {
        Ok(state) => state,
        Err(outcome) => return outcome,
    };
    if !state.is_up() && !state.will_restart() {
        return not_needed("it does not run");
    }
    // Lives that the engine gave it since are the same fault's.
    if is_another(&state, after) && !state.is_in_loop() {
        return UndoOutcome::ChangedSince { found: "somebody else has started it since".to_owned() };
    }
    change(world, &state, ContainerVerb::Stop)
}

/// Starts what was running before, unless somebody has started it or stopped it since.
pub(crate) fn start_again(
    world: &World,
    (selector, id): (&ContainerSelector, &ContainerId),
    intent: &Intent<'_>,
    after: Option<&Observed>,
) -> UndoOutcome {
    let state = match reach(world, selector, id) {
        Ok(state) => state,
        Err(outcome) => return outcome,
    };
    if state.is_up() {
        return not_needed("it runs");
    }
    if state.will_restart() {
        return not_needed("the engine is about to start it by itself");
    }
    // One that we stopped ended without a failure too; only that one was not stopped by a person.
    let we_stopped_it = matches!(intent.effect, Effect::Container(effect) if effect.verb == ContainerVerb::Stop);
    if is_another(&state, after) || (state.stopped_on_purpose() && !we_stopped_it) {
        return UndoOutcome::ChangedSince { found: "somebody else has started or stopped it since".to_owned() };
    }
    change(world, &state, ContainerVerb::Start)
}
