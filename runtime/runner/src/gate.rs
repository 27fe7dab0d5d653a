//! The one function through which every effect goes.
//!
//! [`perform`]: authorise against the permit, prepare the undo, re-check the target and the deadline, journal the intent and sync
//! it, apply, journal the outcome. A capability describes its change as a [`Change`]; it is never applied from anywhere else.
//! Authority comes in as a [`Mode`]: recording needs a `DryRunPermit`, changing the world needs a `Warrant`.

use theriac_model::database::{DatabaseEffect, DatabaseVerb};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::effect::{Effect, Observed, Outcome, Undo, UndoClass};
use theriac_model::id::RunId;
use theriac_model::plan::{Guard, Plan, PlanCursor};
use theriac_model::record::Record;
use theriac_model::units::Permille;

use crate::crash::crash_point;
use crate::session::{Assumption, Scene};

/// A change that a capability can make of the world. Each step works on what the step before found.
pub(crate) trait Change {
    /// Looks at the target, holds the change against the grant, and says what it would be. Leaves no trace.
    fn draft(&mut self, scene: &mut Scene<'_>) -> Result<Draft, Denial>;
    /// Looks again, immediately before it is done: same target, guards still hold.
    fn recheck(&mut self, scene: &mut Scene<'_>) -> Result<(), Denial>;
    /// Saves what the undo needs, and says what it will be.
    fn keep(&mut self, scene: &mut Scene<'_>, place: &Place) -> Result<Kept, Denial>;
    /// Does it.
    fn apply(&mut self, scene: &mut Scene<'_>, kept: &Kept) -> Result<Applied, ApplyError>;
}

/// What a change would be.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    /// As it is asked for now.
    pub(crate) effect: Effect,
    /// As a plan has it: with head-room where the target grows by itself (a log that is being written).
    pub(crate) bound: Effect,
    pub(crate) class: UndoClass,
    /// Conditions that hold now and are checked again.
    pub(crate) guards: Vec<Guard>,
    pub(crate) before: Observed,
    pub(crate) reproducible: bool,
    /// Share of the traffic that the target serves; `None` is unknown, or the target serves none.
    pub(crate) traffic_share: Option<Permille>,
    /// What the caller is told, as far as it can be known: bytes freed or written.
    pub(crate) count: u64,
    /// What a dry run assumes from then on.
    pub(crate) assumption: Assumption,
}

/// Where in which run an effect stands. Names that an effect gives to new files are made from it, so that they are never
/// somebody else's.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) run: RunId,
    pub(crate) index: u32,
}

/// What is needed to take it back.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) before: Observed,
    pub(crate) undo: Undo,
}

/// The world read back after a change.
#[derive(Debug, Clone)]
pub(crate) struct Applied {
    pub(crate) after: Observed,
    pub(crate) bytes: u64,
}

/// Why a change was not made, or may not have been.
#[derive(Debug, Clone)]
pub(crate) enum ApplyError {
    /// Nothing changed.
    Denied(Denial),
    /// It may have happened.
    Ambiguous(Denial),
}

/// What a permit answers to a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Only written down.
    Recorded,
    /// Done, as that effect of the run.
    Perform { index: u32 },
}

/// The authority behind a session.
pub(crate) trait Mode {
    /// Holds the draft against what the permit allows, plan included.
    fn admit(&mut self, draft: &Draft) -> Result<Admission, Denial>;
    /// Whether the permit still lasts, asked as the last thing before the intent is written: what the undo needs may have
    /// taken minutes to save.
    fn in_time(&self, effect: &Effect) -> Result<(), Denial>;
    /// Takes what a dry run recorded.
    fn record(&mut self, draft: Draft);
    /// Learns that an effect failed after its intent was written: the run ends with an undo.
    fn failed(&mut self, denial: &Denial);
    /// The plan that it is held to and how far it has come there, for verbs that choose among many things: what came since the
    /// plan was made is left alone, and is no reason to end the run. `None`: there is no plan yet.
    fn plan(&self) -> Option<(&Plan, PlanCursor)> {
        None
    }
    /// It records only.
    fn is_dry(&self) -> bool;
}

/// Every effect goes through here.
pub(crate) fn perform(scene: &mut Scene<'_>, mode: &mut dyn Mode, change: &mut dyn Change) -> Result<u64, Denial> {
    if scene.journal_is_broken() {
        return Err(Denial::new(DenialCause::Unavailable, "journal", "journal", "change anything without a journal"));
    }
    let draft = change.draft(scene)?;
    match mode.admit(&draft)? {
        Admission::Recorded => {
            spend(scene, &draft.bound);
            scene.overlay.assume(draft.assumption.clone());
            let count = draft.count;
            mode.record(draft);
            Ok(count)
        }
        Admission::Perform { index } => {
            let place = Place { run: scene.run.clone(), index };
            let done = carry_out(scene, mode, change, draft, &place);
            if let Err(Failure { denial, ends_run: true }) = &done {
                mode.failed(denial);
            }
            done.map_err(|failure| failure.denial)
        }
    }
}

/// A denial, and whether the run can go on after it.
struct Failure {
    denial: Denial,
    ends_run: bool,
}

fn carry_out(
    scene: &mut Scene<'_>,
    mode: &dyn Mode,
    change: &mut dyn Change,
    draft: Draft,
    place: &Place,
) -> Result<u64, Failure> {
    let before_intent = |denial| Failure { denial, ends_run: false };
    let kept = change.keep(scene, place).map_err(before_intent)?;
    change.recheck(scene).map_err(before_intent)?;
    // What was authorised is over: nothing of this run may come later, and what came before is taken back.
    mode.in_time(&draft.effect).map_err(|denial| Failure { denial, ends_run: true })?;
    let attempted = draft.effect.to_string();
    spend(scene, &draft.effect);
    crash_point("gate.before-intent");
    let intent = Record::Intent {
        run: place.run.clone(),
        index: place.index,
        effect: draft.effect,
        class: draft.class,
        before: kept.before.clone(),
        undo: kept.undo.clone(),
    };
    write(scene, intent, &attempted)?;
    crash_point("gate.after-intent");
    let (outcome, result) = match change.apply(scene, &kept) {
        Ok(Applied { after, bytes }) => (Outcome::Applied { after, bytes }, Ok(bytes)),
        Err(ApplyError::Denied(denial)) => (Outcome::Denied(denial.clone()), Err(Failure { denial, ends_run: true })),
        Err(ApplyError::Ambiguous(denial)) => {
            let reason = format!("{denial}");
            (Outcome::Ambiguous { reason }, Err(Failure { denial, ends_run: true }))
        }
    };
    crash_point("gate.after-apply");
    write(scene, Record::Done { run: place.run.clone(), index: place.index, outcome }, &attempted)?;
    crash_point("gate.after-done");
    result
}

fn write(scene: &mut Scene<'_>, record: Record, attempted: &str) -> Result<(), Failure> {
    let denial = || Denial::new(DenialCause::Failed, "journal", "journal", attempted);
    if scene.write_synced(record) { Ok(()) } else { Err(Failure { denial: denial(), ends_run: true }) }
}

fn spend(scene: &mut Scene<'_>, effect: &Effect) {
    if let Effect::File { label, verb, .. } = effect {
        scene.budget.spend(label, verb.bytes());
    } else if let Effect::Database(DatabaseEffect { label, verb: DatabaseVerb::Terminate(_), .. }) = effect {
        scene.budget.end_session(label);
    }
}
