//! The host calls of one worker, served.
//!
//! A session is made from a permit, and its type says what it can do: [`Recording`] writes effects down and changes nothing,
//! [`Live`] does what its warrant's plan says, [`Checking`] only reads. It owns the run's handles, budgets and overlay; when
//! it is dropped they are gone.

mod budget;
mod live;
mod overlay;
mod recording;
mod scene;
mod serve;
mod table;

pub(crate) use overlay::Assumption;
pub(crate) use scene::Scene;
pub(crate) use table::Held;

use theriac_authority::authorise::{DryRunPermit, Warrant};
use theriac_model::call::{Call, Reply};
use theriac_model::denial::Denial;
use theriac_model::id::{RemedyName, RunId};
use theriac_model::plan::PlannedEffect;

use crate::world::World;
use crate::writer::WriteError;

pub use live::{Clock, Live};
pub use recording::{Checking, Recording};

/// Answers host calls.
pub trait Host {
    /// Serves one call. Nothing that a worker sends ends the runner; what it may not have is a denial.
    fn answer(&mut self, call: Call) -> Reply;
}

/// One worker's host calls, under one permit.
pub struct Session<'a, M> {
    scene: Scene<'a>,
    mode: M,
}

impl<M> std::fmt::Debug for Session<'_, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("run", &self.scene.run).finish_non_exhaustive()
    }
}

/// How a live run ended, as far as the gate saw it.
#[derive(Debug)]
pub struct LiveEnd {
    /// Effects that have an intent.
    pub intents: u32,
    /// The first effect that was off plan: everything is undone.
    pub off_plan: Option<Denial>,
    /// The first effect that failed after its intent, or may have happened: everything is undone.
    pub failed: Option<Denial>,
    /// The journal failed: the runner stops.
    pub journal: Option<WriteError>,
}

impl LiveEnd {
    /// What was done has to be taken back.
    pub const fn must_undo(&self) -> bool {
        self.off_plan.is_some() || self.failed.is_some() || self.journal.is_some()
    }
}

/// What a dry run recorded.
#[derive(Debug)]
pub struct Recorded {
    /// The effects, in order.
    pub effects: Vec<PlannedEffect>,
    /// The journal failed: the runner stops.
    pub journal: Option<WriteError>,
}

impl<'a> Session<'a, Recording> {
    /// A dry run.
    pub fn record(world: &'a World, permit: &'a DryRunPermit, run: RunId, remedy: RemedyName) -> Self {
        Self { scene: Scene::new(world, permit.grants(), run, remedy), mode: Recording::default() }
    }

    /// What the remedy would do.
    pub fn finish(mut self) -> Recorded {
        serve::note_unrecorded(&mut self.scene, true);
        Recorded { effects: self.mode.into_effects(), journal: self.scene.into_broken() }
    }
}

impl<'a> Session<'a, Live<'a>> {
    /// The live run of the warrant's plan, which ends with the warrant's deadline by that clock.
    pub fn live(world: &'a World, warrant: &'a Warrant, clock: Clock<'a>, remedy: RemedyName) -> Self {
        let scene = Scene::new(world, warrant.grants(), warrant.run().clone(), remedy);
        Self { scene, mode: Live::new(warrant, clock) }
    }

    /// How it went.
    pub fn finish(mut self) -> LiveEnd {
        serve::note_unrecorded(&mut self.scene, false);
        let (intents, off_plan, failed) = self.mode.into_end();
        LiveEnd { intents, off_plan, failed, journal: self.scene.into_broken() }
    }
}

impl<'a> Session<'a, Checking> {
    /// The remedy's own opinion after a live run: it reads, and every changing verb is denied.
    pub fn check(world: &'a World, warrant: &'a Warrant, remedy: RemedyName) -> Self {
        Self { scene: Scene::new(world, warrant.grants(), warrant.run().clone(), remedy), mode: Checking }
    }
}

impl Host for Session<'_, Recording> {
    fn answer(&mut self, call: Call) -> Reply {
        serve::answer(&mut self.scene, &mut self.mode, call)
    }
}

impl Host for Session<'_, Live<'_>> {
    fn answer(&mut self, call: Call) -> Reply {
        serve::answer(&mut self.scene, &mut self.mode, call)
    }
}

impl Host for Session<'_, Checking> {
    fn answer(&mut self, call: Call) -> Reply {
        serve::answer(&mut self.scene, &mut self.mode, call)
    }
}

#[cfg(test)]
#[expect(clippy::wildcard_enum_match_arm, reason = "a test names the answer it wants and fails on every other")]
mod tests;
