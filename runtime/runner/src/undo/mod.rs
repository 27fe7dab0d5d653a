//! Taking a run's effects back, newest first.
//!
//! Before anything is restored, the world is compared with what the effect left behind: what somebody else has changed
//! since is left alone, its pre-image stays where it is, and a person is asked. Doing it twice, or after a crash in the
//! middle of doing it, is harmless.

mod files;
mod processes;
mod units;

pub(crate) use files::{identity, place};

use std::collections::BTreeMap;

use theriac_journal::Durability;
use theriac_model::certificate::CertificateEffect;
use theriac_model::effect::{Effect, Observed, Outcome, Undo, UndoClass, UndoOutcome};
use theriac_model::id::RunId;
use theriac_model::record::{Entry, Record};
use theriac_model::verdict::Verdict;

use crate::capability;
use crate::crash::crash_point;
use crate::gate::Place;
use crate::recover::{Happened, observe};
use crate::world::World;
use crate::writer::{WriteError, Writer};

/// An intent as the journal has it.
#[derive(Debug, Clone, Copy)]
pub struct Intent<'e> {
    /// Of which run.
    pub run: &'e RunId,
    /// Which of its effects.
    pub index: u32,
    /// What was to be done.
    pub effect: &'e Effect,
    /// Whether it can be taken back.
    pub class: &'e UndoClass,
    /// The state before.
    pub before: &'e Observed,
    /// How to take it back.
    pub undo: &'e Undo,
}

impl<'e> Intent<'e> {
    /// The intent of a record that is one.
    pub fn of(record: &'e Record) -> Option<Self> {
        if let Record::Intent { run, index, effect, class, before, undo } = record {
            Some(Self { run, index: *index, effect, class, before, undo })
        } else {
            None
        }
    }

    pub(crate) fn place(&self) -> Place {
        Place { run: self.run.clone(), index: self.index }
    }
}

/// One effect of a run with everything the journal says about it.
struct Step<'e> {
    intent: Intent<'e>,
    outcome: Option<&'e Outcome>,
    undone: Option<&'e UndoOutcome>,
}

impl Step<'_> {
    /// What the effect left behind, as far as the world tells; or why nothing is to be taken back.
    fn left_behind(&self, observe: impl FnOnce(&Intent<'_>) -> Happened) -> Result<Option<Observed>, &'static str> {
        match self.outcome {
            Some(Outcome::Denied(_)) => Err("nothing was changed"),
            Some(Outcome::Applied { after, .. }) => Ok(Some(after.clone())),
            Some(Outcome::Ambiguous { .. }) | None => match observe(&self.intent) {
                Happened::No => Err("it had not happened"),
                Happened::Yes(after) => Ok(Some(after)),
                Happened::Unknown { .. } => Ok(None),
            },
        }
    }

    /// A number of the kernel's that is not put back yet.
    fn has_set_a_knob(&self) -> bool {
        matches!(self.intent.undo, Undo::SetKnob { .. })
            && !matches!(self.outcome, Some(Outcome::Denied(_)))
            && self.undone.is_none_or(|done| matches!(done, UndoOutcome::Failed { .. }))
    }
}

/// Whether the run has set numbers of the kernel's that are not put back yet.
pub(crate) fn has_set_a_knob(run: &RunId, entries: &[Entry]) -> bool {
    steps(run, entries).values().any(Step::has_set_a_knob)
}

fn steps<'e>(run: &RunId, entries: &'e [Entry]) -> BTreeMap<u32, Step<'e>> {
    let mut steps: BTreeMap<u32, Step<'e>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.record.run() == Some(run)) {
        if let Some(intent) = Intent::of(&entry.record) {
            steps.insert(intent.index, Step { intent, outcome: None, undone: None });
        } else if let Record::Done { index, outcome, .. } = &entry.record {
            if let Some(step) = steps.get_mut(index) {
                step.outcome = Some(outcome);
            }
        } else if let Record::UndoDone { index, outcome, .. } = &entry.record
            && let Some(step) = steps.get_mut(index)
        {
            step.undone = Some(outcome);
        }
    }
    steps
}

/// The intents of a run that have no outcome, oldest first.
pub(crate) fn unsettled<'e>(run: &RunId, entries: &'e [Entry]) -> Vec<Intent<'e>> {
    steps(run, entries).into_values().filter(|step| step.outcome.is_none()).map(|step| step.intent).collect()
}

/// Takes back what the run did, newest first, and journals each step before and after it. Entries of other runs are passed
/// by. Effects that were taken back already are reported as they were.
pub fn take_back(
    world: &World,
    run: &RunId,
    entries: &[Entry],
    verdict: Verdict,
) -> Result<Vec<(u32, UndoOutcome)>, WriteError> {
    let steps = steps(run, entries);
    each(&*world.writer, run, &steps, |index, step| match (one(world, step, verdict), step.intent.effect) {
        (UndoOutcome::Restored, Effect::Certificate(effect)) => load_again(world, effect, later(&steps, index)),
        (outcome, _) => outcome,
    })
}

/// The same for numbers of the kernel's alone, which need nothing but the kernel: for a runner that has nothing else.
pub(crate) fn take_back_knobs(
    writer: &dyn Writer,
    run: &RunId,
    entries: &[Entry],
) -> Result<Vec<(u32, UndoOutcome)>, WriteError> {
    let mut steps = steps(run, entries);
    steps.retain(|_, step| step.has_set_a_knob());
    each(writer, run, &steps, |_, step| knob(step))
}

fn each(
    writer: &dyn Writer,
    run: &RunId,
    steps: &BTreeMap<u32, Step<'_>>,
    take_back: impl Fn(u32, &Step<'_>) -> UndoOutcome,
) -> Result<Vec<(u32, UndoOutcome)>, WriteError> {
    let mut outcomes = Vec::new();
    for (index, step) in steps.iter().rev().map(|(index, step)| (*index, step)) {
        // A failure is tried again: the disk may have room by now.
        if let Some(done) = step.undone.filter(|done| !matches!(done, UndoOutcome::Failed { .. })) {
            outcomes.push((index, done.clone()));
            continue;
        }
        writer.write(Record::UndoIntent { run: run.clone(), index }, Durability::Synced)?;
        crash_point("undo.after-intent");
        let outcome = take_back(index, step);
        crash_point("undo.after-apply");
        let record = Record::UndoDone { run: run.clone(), index, outcome: outcome.clone() };
        writer.write(record, Durability::Synced)?;
        crash_point("undo.after-done");
        outcomes.push((index, outcome));
    }
    Ok(outcomes)
}

fn later<'e>(steps: &BTreeMap<u32, Step<'e>>, index: u32) -> impl Iterator<Item = &'e Effect> {
    let after = steps.range(index.saturating_add(1)..).map(|(_, step)| step);
    after.filter(|step| !matches!(step.outcome, Some(Outcome::Denied(_)))).map(|step| step.intent.effect)
}

/// Who was made to load the new certificate by a later effect of the same run is made to load the old one, in the same way: the
/// later effect was taken back first, when the new one was still in its place.
fn load_again<'e>(world: &World, of: &CertificateEffect, later: impl Iterator<Item = &'e Effect>) -> UndoOutcome {
    let Some(server) = &of.unit else { return UndoOutcome::Restored };
    let verbs = later.filter_map(|effect| {
        if let Effect::Unit { unit, verb, .. } = effect { (unit == server).then_some(*verb) } else { None }
    });
    units::load_again(world, server, verbs)
}

fn one(world: &World, step: &Step<'_>, verdict: Verdict) -> UndoOutcome {
    let intent = &step.intent;
    let after = match step.left_behind(|intent| observe(world, intent)) {
        Ok(after) => after,
        Err(nothing) => {
            files::discard_leftovers(world, intent);
            return not_needed(nothing);
        }
    };
    let after = after.as_ref();
    match intent.undo {
        Undo::RestoreFile { .. } | Undo::RestoreArchived { .. } | Undo::CutBack { .. } | Undo::PutBack { .. } => {
            files::take_back(world, intent, after)
        }
        Undo::StopUnit { unit } => units::stop(world, unit, after, verdict),
        Undo::StartUnit { unit } => units::start(world, unit, intent, after),
        Undo::SetProperty { unit, property } => units::set_property(world, unit, *property, after),
        Undo::SetAffinity { group, masks } => processes::set_affinity(world, group, masks, after),
        Undo::Renice { group, values } => processes::renice(world, group, values, after),
        Undo::RestoreCertificate(undo) => capability::certificates::take_back(world, intent, undo),
        Undo::RunProgram { inverse } => capability::programs::take_back(world, inverse),
        Undo::SendHttp { inverse } => capability::http::take_back(world, inverse, after),
        Undo::SetKnob { knob, value } => capability::kernel::take_back(knob, *value, after),
        Undo::StopContainer { selector, id } => {
            capability::containers::stop_again(world, (selector, id), after, verdict)
        }
        Undo::StartContainer { selector, id } => {
            capability::containers::start_again(world, (selector, id), intent, after)
        }
        Undo::SetDatabase(undo) => capability::databases::take_back(world, undo, after),
        Undo::SwitchRelease { unit, place, release, invocation } => {
            match capability::releases::take_back(world, intent, place, release, after) {
                UndoOutcome::Restored => units::onto_release(world, unit, place, invocation),
                kept @ (UndoOutcome::NotNeeded { .. }
                | UndoOutcome::ChangedSince { .. }
                | UndoOutcome::Failed { .. }
                | UndoOutcome::Impossible { .. }) => kept,
            }
        }
        Undo::RemoveElement { set, network, element } => capability::firewall::take_back(set, network, element),
        Undo::Nothing { reason } => match intent.class {
            UndoClass::Irreversible { .. } => UndoOutcome::Impossible { reason: reason.clone() },
            UndoClass::Exact | UndoClass::Compensated { .. } => not_needed(reason),
        },
    }
}

fn knob(step: &Step<'_>) -> UndoOutcome {
    let (Effect::Knob(effect), Undo::SetKnob { knob, value }) = (step.intent.effect, step.intent.undo) else {
        return not_needed("no number of the kernel's");
    };
    match step.left_behind(|intent| capability::kernel::observe(intent, effect)) {
        Ok(after) => capability::kernel::take_back(knob, *value, after.as_ref()),
        Err(nothing) => not_needed(nothing),
    }
}

fn not_needed(reason: &str) -> UndoOutcome {
    UndoOutcome::NotNeeded { reason: reason.to_owned() }
}

fn changed(found: impl std::fmt::Display) -> UndoOutcome {
    UndoOutcome::ChangedSince { found: found.to_string() }
}

fn failed(reason: impl std::fmt::Display) -> UndoOutcome {
    UndoOutcome::Failed { reason: reason.to_string() }
}
