//! An intent without an outcome: the runner died in the middle, or an answer did not come. It *may have happened*. Before
//! anything is done about it, the world is asked.

use theriac_journal::Durability;
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::effect::{Effect, FileId, FileState, FileVerb, GroupVerb, Observed, Outcome, Undo, UnitVerb};
use theriac_model::id::RunId;
use theriac_model::record::{Entry, Record};
use theriac_model::unit::{ActiveState, ProcessId, Signal, UnitState};
use theriac_probe::group::Groups;

use crate::capability::files::{Archive, PlaceError, state};
use crate::capability::processes::{facts, mask_of, nice_of, start_of, threads_of};
use crate::capability::{certificates, containers, databases, firewall, http, kernel, programs, releases};
pub use crate::undo::Intent;
use crate::undo::{self, identity, place};
use crate::world::World;
use crate::writer::{WriteError, Writer};

/// What the world says about an intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// It happened, and this is how the world is now.
    Yes(Observed),
    /// It did not.
    No,
    /// The world does not tell.
    Unknown {
        /// Why.
        reason: String,
    },
}

fn unknown(reason: impl std::fmt::Display) -> Happened {
    Happened::Unknown { reason: reason.to_string() }
}

/// Asks the world whether the intent's effect happened. Changes nothing.
pub fn observe(world: &World, intent: &Intent<'_>) -> Happened {
    match intent.effect {
        Effect::File { file, verb, .. } => of_file(world, intent, file, *verb),
        Effect::Unit { verb, .. } => of_unit(world, intent, *verb),
        Effect::Group { verb, .. } => of_group(world, intent, *verb),
        Effect::Process { process, signal, .. } => of_process(*process, *signal),
        Effect::Certificate(_) => certificates::observe(intent),
        Effect::Program(effect) => programs::observe(effect),
        Effect::Http(effect) => http::observe(effect),
        Effect::Knob(effect) => kernel::observe(intent, effect),
        Effect::Release(effect) => releases::observe(world, effect),
        Effect::Container(effect) => containers::observe(world, intent, effect),
        Effect::Firewall(_) => firewall::observe(intent),
        Effect::Database(effect) => databases::observe(world, intent, effect),
    }
}

/// Writes the missing outcome of every intent of the run that has none, as far as the world tells.
pub fn settle(world: &World, run: &RunId, entries: &[Entry]) -> Result<Vec<(u32, Outcome)>, WriteError> {
    settle_each(&*world.writer, undo::unsettled(run, entries), |intent| {
        certificates::settle_down(intent);
        observe(world, intent)
    })
}

/// The same for numbers of the kernel's alone.
pub(crate) fn settle_knobs(
    writer: &dyn Writer,
    run: &RunId,
    entries: &[Entry],
) -> Result<Vec<(u32, Outcome)>, WriteError> {
    let of_knob = |intent: &Intent<'_>| {
        let Effect::Knob(effect) = intent.effect else { return unknown("it is no number of the kernel's") };
        kernel::observe(intent, effect)
    };
    let mut unsettled = undo::unsettled(run, entries);
    unsettled.retain(|intent| matches!(intent.effect, Effect::Knob(_)));
    settle_each(writer, unsettled, of_knob)
}

fn settle_each(
    writer: &dyn Writer,
    unsettled: Vec<Intent<'_>>,
    observe: impl Fn(&Intent<'_>) -> Happened,
) -> Result<Vec<(u32, Outcome)>, WriteError> {
    let mut settled = Vec::new();
    for intent in unsettled {
        let outcome = match observe(&intent) {
            Happened::Yes(after) => Outcome::Applied { after, bytes: 0 },
            Happened::No => {
                let attempted = format!("{}, which the runner's end prevented", intent.effect);
                Outcome::Denied(Denial::new(DenialCause::Failed, intent.effect.label(), "crash", attempted))
            }
            Happened::Unknown { reason } => Outcome::Ambiguous { reason },
        };
        let record = Record::Done { run: intent.run.clone(), index: intent.index, outcome: outcome.clone() };
        writer.write(record, Durability::Synced)?;
        settled.push((intent.index, outcome));
    }
    Ok(settled)
}

fn of_file(world: &World, intent: &Intent<'_>, file: &FileId, verb: FileVerb) -> Happened {
    let Observed::File(before) = intent.before else { return unknown("the record has no file state") };
    if file.deleted {
        return unknown("a file without a name can't be found again");
    }
    let now = place(world, file).and_then(|(root, below)| match root.find(&below) {
        Ok(found) => {
            let same = found.identity() == identity(file);
            Ok(Some((state::with_content(&found.read()?)?, same)))
        }
        Err(PlaceError::Gone) => Ok(None),
        Err(error) => Err(error),
    });
    match now {
        Ok(now) => compare(intent, before, verb, now),
        Err(error) => unknown(error),
    }
}

/// `now` is the file at the path with whether it is the same inode; `None` when there is none.
fn compare(intent: &Intent<'_>, before: &FileState, verb: FileVerb, now: Option<(FileState, bool)>) -> Happened {
    let Some((now, same_inode)) = now else {
        return match (verb, intent.undo) {
            (FileVerb::Remove { .. }, _) => Happened::Yes(Observed::NoFile),
            (FileVerb::Archive { .. }, Undo::RestoreArchived { archive, content, .. }) => {
                let whole = Archive::at(archive).is_ok_and(|archive| archive.holds(before, *content));
                if whole {
                    Happened::Yes(Observed::NoFile)
                } else {
                    unknown("the file is gone and its archive is not whole")
                }
            }
            (FileVerb::SetAside { .. }, Undo::PutBack { file, aside }) => {
                let there = Archive::at(aside).is_ok_and(|aside| aside.identity() == Some(identity(file)));
                if there { Happened::Yes(Observed::NoFile) } else { unknown("the file is gone and was not set aside") }
            }
            _ => unknown("the file is gone"),
        };
    };
    // Before or after: a restore gives the content back in another inode.
    if before.content.is_some() && state::same(&now, before) {
        return Happened::No;
    }
    let unchanged = same_inode && now.size == before.size && now.mtime == before.mtime;
    match verb {
        FileVerb::Replace { content, .. } if now.content == Some(content) => Happened::Yes(Observed::File(now)),
        FileVerb::Append { bytes, .. } if same_inode && now.size == before.size.saturating_add(bytes) => {
            Happened::Yes(Observed::File(now))
        }
        FileVerb::Truncate { .. } | FileVerb::CopyTruncate { .. } if same_inode && now.size == 0 && before.size > 0 => {
            Happened::Yes(Observed::File(now))
        }
        FileVerb::Remove { .. } | FileVerb::Archive { .. } | FileVerb::SetAside { .. } if same_inode => Happened::No,
        FileVerb::Replace { .. }
        | FileVerb::Append { .. }
        | FileVerb::Truncate { .. }
        | FileVerb::CopyTruncate { .. }
            if unchanged =>
        {
            Happened::No
        }
        FileVerb::Replace { .. }
        | FileVerb::Append { .. }
        | FileVerb::Truncate { .. }
        | FileVerb::CopyTruncate { .. }
        | FileVerb::Remove { .. }
        | FileVerb::Archive { .. }
        | FileVerb::SetAside { .. } => unknown("the file has changed in another way"),
    }
}

fn of_unit(world: &World, intent: &Intent<'_>, verb: UnitVerb) -> Happened {
    let Effect::Unit { unit, .. } = intent.effect else { return unknown("no unit") };
    let Some(manager) = world.manager_of(unit) else { return unknown("its service manager is not there") };
    if let UnitVerb::SetProperty { property } = verb {
        return match manager.property(unit, property) {
            Ok(now) if *intent.before == Observed::Property(now) => Happened::No,
            Ok(now) if now == property => Happened::Yes(Observed::Property(now)),
            Ok(now) => unknown(format!("it is {now} by now")),
            Err(error) => unknown(error),
        };
    }
    let state = match manager.state(unit) {
        Ok(state) => state,
        Err(error) => return unknown(error),
    };
    let Observed::Unit { invocation, active, .. } = intent.before else {
        return unknown("the record has no unit state");
    };
    let another = state.invocation != *invocation;
    let yes = |state: UnitState| {
        Happened::Yes(Observed::Unit { active: state.active, invocation: state.invocation, sub: state.sub })
    };
    match verb {
        // Each start has an invocation of its own: systemd itself says whether there was another.
        UnitVerb::Start | UnitVerb::Restart if another => yes(state),
        UnitVerb::Start => Happened::No,
        UnitVerb::Restart if state.is_up() => Happened::No,
        UnitVerb::Stop if !state.is_up() && !another => yes(state),
        UnitVerb::Stop if !another => Happened::No,
        UnitVerb::Kill { .. } if another || !state.is_up() => yes(state),
        UnitVerb::ResetFailed if *active == ActiveState::Failed && state.active == ActiveState::Failed && !another => {
            Happened::No
        }
        UnitVerb::ResetFailed => yes(state),
        UnitVerb::Restart
        | UnitVerb::Stop
        | UnitVerb::Reload
        | UnitVerb::Kill { .. }
        | UnitVerb::SetProperty { .. } => unknown("the unit's state does not tell"),
    }
}

fn of_group(world: &World, intent: &Intent<'_>, verb: GroupVerb) -> Happened {
    let Effect::Group { group, .. } = intent.effect else { return unknown("no group") };
    let Ok(members) = Groups::live().members(group, &facts(world, group)) else {
        return unknown("the group can't be listed");
    };
    let threads: Vec<ProcessId> = members.into_iter().flat_map(threads_of).collect();
    match (verb, intent.before) {
        (GroupVerb::SetAffinity { .. }, Observed::Affinity(before)) => {
            let now: Vec<_> = threads.iter().filter_map(|thread| Some((*thread, mask_of(*thread)?.text()))).collect();
            settled(before, now, Observed::Affinity)
        }
        (GroupVerb::Renice { .. }, Observed::Nice(before)) => {
            let now: Vec<_> = threads.iter().filter_map(|thread| Some((*thread, nice_of(*thread)?))).collect();
            settled(before, now, Observed::Nice)
        }
        (GroupVerb::SetAffinity { .. } | GroupVerb::Renice { .. }, _) => unknown("the record has no such values"),
    }
}

/// Nothing moved: it did not happen. Everything moved: it did. In between, the undo looks at each thread.
fn settled<T: PartialEq>(
    before: &[(ProcessId, T)],
    now: Vec<(ProcessId, T)>,
    observed: impl FnOnce(Vec<(ProcessId, T)>) -> Observed,
) -> Happened {
    let moved = |(thread, value): &&(ProcessId, T)| before.iter().any(|(known, old)| known == thread && old != value);
    match now.iter().filter(moved).count() {
        0 => Happened::No,
        n if n == now.len() => Happened::Yes(observed(now)),
        _ => unknown("some threads were changed"),
    }
}

fn of_process(process: ProcessId, signal: Signal) -> Happened {
    if start_of(process.pid) != Some(process.start) {
        return Happened::Yes(Observed::Gone(process));
    }
    match signal {
        Signal::Kill => Happened::No,
        Signal::Term | Signal::Hup | Signal::Usr1 => unknown("a process does not say which signals it got"),
    }
}
