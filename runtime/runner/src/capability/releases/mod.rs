//! `releases`: which release of a service is in use, which one was before, and back to that one.
//!
//! Switching changes one symbolic link, or the tag that images are started by. The service goes on with what it has until it is
//! restarted, which is a verb of `units`.

mod link;
mod place;

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use theriac_authority::effective::BoundRelease;
use theriac_model::call::Reply;
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::effect::{Effect, Observed, Undo, UndoClass, UndoOutcome};
use theriac_model::id::{Label, UnitName};
use theriac_model::plan::Guard;
use theriac_model::release::{ReleaseCall, ReleaseEffect, ReleaseInfo, ReleaseName, ReleasePlace};
use theriac_model::time::Timestamp;

use crate::exchange::chain;
use crate::gate::{Applied, ApplyError, Change, Draft, Kept, Mode, Place, perform};
use crate::recover::Happened;
use crate::session::{Assumption, Scene};
use crate::undo::Intent;
use crate::world::World;

/// The release in use at a place; what the runner journals when it changes.
pub(crate) fn in_use(world: &World, place: &ReleasePlace) -> Result<ReleaseName, String> {
    place::in_use(world, place).map_err(|error| chain(&error))
}

/// A verb of a service's releases.
pub(crate) fn serve(
    scene: &mut Scene<'_>,
    mode: &mut dyn Mode,
    label: &Label,
    call: ReleaseCall,
) -> Result<Reply, Denial> {
    let bound = scene.grants.release(label.as_str())?;
    match call {
        ReleaseCall::Current => {
            bound.admits(call)?;
            let (release, assumed) = current(scene, bound)?;
            let since = scene.world.releases.since(&bound.place, &release);
            Ok(info(scene, &release, since.filter(|_| !assumed), assumed))
        }
        ReleaseCall::Previous => {
            bound.admits(call)?;
            let (release, assumed) = current(scene, bound)?;
            let (before, since) = previous(scene, bound, &release)?;
            Ok(info(scene, &before, Some(since), assumed))
        }
        ReleaseCall::SwitchBack => {
            perform(scene, mode, &mut SwitchBack { label: label.clone(), found: None }).map(|_| Reply::Done)
        }
    }
}

fn info(scene: &Scene<'_>, release: &ReleaseName, since: Option<Timestamp>, assumed: bool) -> Reply {
    let now = scene.world.senses.now();
    let age = |since: Timestamp| Duration::from_millis(now.0.saturating_sub(since.0)).as_secs();
    Reply::Release(ReleaseInfo { name: release.to_string(), since_s: since.map(age), assumed })
}

fn current(scene: &Scene<'_>, bound: &BoundRelease) -> Result<(ReleaseName, bool), Denial> {
    if let Some(assumed) = scene.overlay.release(&bound.place) {
        return Ok((assumed.clone(), true));
    }
    let attempted = format_args!("read {}", bound.place);
    place::in_use(scene.world, &bound.place)
        .map(|release| (release, false))
        .map_err(|error| error.denial(&bound.label, attempted))
}

fn previous(
    scene: &Scene<'_>,
    bound: &BoundRelease,
    release: &ReleaseName,
) -> Result<(ReleaseName, Timestamp), Denial> {
    scene.world.releases.before(&bound.place, release).ok_or_else(|| {
        let attempted = format!("find what was in use before {release} of {}: nothing was recorded", bound.unit);
        Denial::new(DenialCause::Unavailable, &bound.label, "previous", attempted)
    })
}

/// Back to the release before.
struct SwitchBack {
    label: Label,
    found: Option<ReleaseEffect>,
}

impl SwitchBack {
    fn effect(&self) -> Result<&ReleaseEffect, Denial> {
        let undrafted = || Denial::new(DenialCause::Failed, &self.label, "draft", "switch back without a draft");
        self.found.as_ref().ok_or_else(undrafted)
    }

    /// Of the service as it runs now; empty where it does not.
    fn invocation(&self, scene: &Scene<'_>, unit: &UnitName) -> Result<String, Denial> {
        let denied = |reason: String| {
            let attempted = format!("see what runs of {unit} before it is switched: {reason}");
            Denial::new(DenialCause::Unavailable, &self.label, "backend", attempted)
        };
        let manager = scene.world.manager_of(unit).ok_or_else(|| denied("no service manager has it".to_owned()))?;
        let state = manager.state(unit).map_err(|error| denied(error.to_string()))?;
        Ok(if state.is_up() { state.invocation } else { String::new() })
    }

    /// The release that was found is still the one in use.
    fn is_as_found(&self, scene: &Scene<'_>) -> Result<(), Denial> {
        let effect = self.effect()?;
        let now = place::in_use(scene.world, &effect.place).map_err(|error| error.denial(&self.label, effect))?;
        if now == effect.from {
            Ok(())
        } else {
            let attempted = format!("{effect}, and {now} is in use by now");
            Err(Denial::new(DenialCause::Conflict, &self.label, "same-value", attempted))
        }
    }
}

impl Change for SwitchBack {
    fn draft(&mut self, scene: &mut Scene<'_>) -> Result<Draft, Denial> {
        let bound = scene.grants.release(self.label.as_str())?;
        bound.admits(ReleaseCall::SwitchBack)?;
        let (from, _) = current(scene, bound)?;
        let (to, _) = previous(scene, bound, &from)?;
        let effect = ReleaseEffect {
            label: self.label.clone(),
            unit: bound.unit.clone(),
            place: bound.place.clone(),
            from: from.clone(),
            to: to.clone(),
        };
        place::usable(scene.world, &bound.place, &to).map_err(|error| error.denial(&self.label, &effect))?;
        self.found = Some(effect.clone());
        Ok(Draft {
            effect: Effect::Release(effect.clone()),
            bound: Effect::Release(effect),
            class: UndoClass::Exact,
            guards: vec![Guard::SameValue],
            before: Observed::Release(from),
            reproducible: false,
            traffic_share: bound.traffic_share,
            count: 0,
            assumption: Assumption::Release { place: bound.place.clone(), release: to },
        })
    }

    fn recheck(&mut self, scene: &mut Scene<'_>) -> Result<(), Denial> {
        self.is_as_found(scene)
    }

    fn keep(&mut self, scene: &mut Scene<'_>, _place: &Place) -> Result<Kept, Denial> {
        let effect = self.effect()?;
        let undo = Undo::SwitchRelease {
            unit: effect.unit.clone(),
            place: effect.place.clone(),
            release: effect.from.clone(),
            invocation: self.invocation(scene, &effect.unit)?,
        };
        Ok(Kept { before: Observed::Release(effect.from.clone()), undo })
    }

    fn apply(&mut self, scene: &mut Scene<'_>, _kept: &Kept) -> Result<Applied, ApplyError> {
        let effect = self.effect().map_err(ApplyError::Denied)?;
        self.is_as_found(scene).map_err(ApplyError::Denied)?;
        let own = own_name(scene.run.as_str());
        match place::switch(scene.world, &effect.place, (&effect.from, &effect.to), &own) {
            Ok(()) => Ok(Applied { after: Observed::Release(effect.to.clone()), bytes: 0 }),
            Err(error) => {
                let denial = error.denial(&self.label, effect);
                // A switch can fail when it is done already: in the sync of the directory, or in the engine's answer.
                let not_switched = place::in_use(scene.world, &effect.place).is_ok_and(|now| now == effect.from);
                Err(if not_switched { ApplyError::Denied(denial) } else { ApplyError::Ambiguous(denial) })
            }
        }
    }
}

/// The name of the new link until it takes the old one's place: of one run, so that it is nobody else's.
fn own_name(run: &str) -> String {
    format!(".theriac-{run}")
}

/// Asks the world whether the intent's effect happened. Changes nothing.
pub(crate) fn observe(world: &World, effect: &ReleaseEffect) -> Happened {
    match in_use(world, &effect.place) {
        Ok(now) if now == effect.from => Happened::No,
        Ok(now) if now == effect.to => Happened::Yes(Observed::Release(now)),
        Ok(now) => Happened::Unknown { reason: format!("{now} is in use by now") },
        Err(reason) => Happened::Unknown { reason },
    }
}

/// How long ago the link was made; engines don't say that of a tag.
pub(crate) fn switched_ago(place: &ReleasePlace) -> io::Result<Option<Duration>> {
    let ReleasePlace::Link(place) = place else { return Ok(None) };
    let meta = std::fs::symlink_metadata(place.link.as_str())?;
    let made = Duration::new(meta.ctime().try_into().unwrap_or(0), meta.ctime_nsec().try_into().unwrap_or(0));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Some(now.saturating_sub(made)))
}

/// Goes forward again to the release that was in use before, unless somebody has chosen another one since.
pub(crate) fn take_back(
    world: &World,
    intent: &Intent<'_>,
    place: &ReleasePlace,
    before: &ReleaseName,
    after: Option<&Observed>,
) -> UndoOutcome {
    let now = match place::in_use(world, place) {
        Ok(now) => now,
        Err(error) if error.is_somebody_elses() => return UndoOutcome::ChangedSince { found: chain(&error) },
        Err(error) => return UndoOutcome::Failed { reason: chain(&error) },
    };
    if now == *before {
        return UndoOutcome::Restored;
    }
    if after != Some(&Observed::Release(now.clone())) {
        return UndoOutcome::ChangedSince { found: format!("{now} is in use") };
    }
    match place::switch(world, place, (&now, before), &own_name(intent.run.as_str())) {
        Ok(()) => UndoOutcome::Restored,
        Err(error) => UndoOutcome::Failed { reason: chain(&error) },
    }
}
