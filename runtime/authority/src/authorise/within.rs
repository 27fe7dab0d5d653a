//! Whether every effect of a plan lies within the effective grants, as they are at this moment.
//!
//! The recorder asked the same while the plan was made. It is asked again because a person may have taken hours to say yes,
//! and because a plan is data: what it claims counts for nothing here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use theriac_model::call::{GroupCall, ProcessCall, UnitCall};
use theriac_model::database::DatabaseVerb;
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::effect::{Effect, FileId, FileVerb, GroupVerb, UndoClass, UnitVerb};
use theriac_model::id::Label;
use theriac_model::plan::{Plan, PlannedEffect};

use crate::effective::{BoundDir, Effective, Spent};
use crate::grant::FilesVerb;

/// Checks each effect against the grant under its label: the thing, the verb, its bounds, and the sums over the plan.
pub fn check_effects(plan: &Plan, grants: &Effective) -> Result<(), Denial> {
    let mut spent: BTreeMap<&Label, Spent> = BTreeMap::new();
    let mut ended: BTreeMap<&Label, u32> = BTreeMap::new();
    for planned in &plan.effects {
        match &planned.effect {
            Effect::File { label, file, verb } => {
                let dir = grants.files.get(label).ok_or_else(|| none(&planned.effect))?;
                let spent = spent.entry(label).or_default();
                check_file(planned, dir, file, *verb, *spent)?;
                spent.files = spent.files.saturating_add(1);
                spent.bytes = spent.bytes.saturating_add(verb.bytes());
            }
            Effect::Unit { label, unit, verb, .. } => {
                let bound = grants.units.get(label).ok_or_else(|| none(&planned.effect))?;
                same(&planned.effect, bound.unit == *unit)?;
                bound.admits(&unit_call(*verb))?;
            }
            Effect::Group { label, group, verb } => {
                let bound = grants.processes.get(label).ok_or_else(|| none(&planned.effect))?;
                same(&planned.effect, bound.group == *group)?;
                bound.admits_group(&group_call(*verb))?;
            }
            Effect::Process { label, group, signal, .. } => {
                let bound = grants.processes.get(label).ok_or_else(|| none(&planned.effect))?;
                same(&planned.effect, bound.group == *group)?;
                bound.admits_process(&ProcessCall::Signal { signal: *signal })?;
            }
            Effect::Program(effect) => {
                grants
                    .programs
                    .get(&effect.label)
                    .ok_or_else(|| none(&planned.effect))?
                    .admits_effect(planned, effect)?;
            }
            Effect::Http(effect) => {
                grants.http.get(&effect.label).ok_or_else(|| none(&planned.effect))?.admits_effect(planned, effect)?;
            }
            Effect::Knob(effect) => {
                grants
                    .kernel
                    .get(&effect.label)
                    .ok_or_else(|| none(&planned.effect))?
                    .admits_effect(planned, effect)?;
            }
            Effect::Release(effect) => {
                grants
                    .releases
                    .get(&effect.label)
                    .ok_or_else(|| none(&planned.effect))?
                    .admits_effect(planned, effect)?;
            }
            Effect::Container(effect) => {
                grants
                    .containers
                    .get(&effect.label)
                    .ok_or_else(|| none(&planned.effect))?
                    .admits_effect(planned, effect)?;
            }
            Effect::Database(effect) => {
                let bound = grants.databases.get(&effect.label).ok_or_else(|| none(&planned.effect))?;
                let ended = ended.entry(&effect.label).or_default();
                bound.admits_effect(planned, effect, *ended)?;
                *ended = ended.saturating_add(u32::from(matches!(effect.verb, DatabaseVerb::Terminate(_))));
            }
        }
    }
    Ok(())
}

fn none(effect: &Effect) -> Denial {
    Denial::new(DenialCause::NotGranted, effect.label(), "label", effect)
}

/// The label stands for another thing now than when the plan was made.
fn same(effect: &Effect, same: bool) -> Result<(), Denial> {
    if same { Ok(()) } else { Err(Denial::new(DenialCause::StaleTarget, effect.label(), "identity", effect)) }
}

fn check_file(
    planned: &PlannedEffect,
    dir: &BoundDir,
    file: &FileId,
    verb: FileVerb,
    spent: Spent,
) -> Result<(), Denial> {
    same(&planned.effect, dir.dir == file.dir)?;
    let path = path_of(file);
    let word = files_verb(verb);
    if file.deleted { dir.for_deleted().admits(&path, word) } else { dir.admits(&path, word) }?;
    dir.admits_amount(&path, word, spent, verb.bytes())?;
    // Whether data may be lost unattended is root's word, not the plan's.
    let lost = matches!(planned.undo, UndoClass::Irreversible { .. });
    if lost && planned.reproducible && !dir.is_reproducible(&path) {
        return Err(Denial::new(DenialCause::NotGranted, &dir.label, "reproducible", &planned.effect));
    }
    Ok(())
}

/// The path below the directory. Names that are not UTF-8 are kept as `\xNN`.
fn path_of(file: &FileId) -> PathBuf {
    let mut bytes = Vec::with_capacity(file.path.len());
    let mut rest = file.path.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = rest.strip_prefix(b"\\x").and_then(|digits| digits.split_first_chunk::<2>());
        let byte = escaped.and_then(|(digits, after)| {
            let digits = std::str::from_utf8(digits).ok()?;
            Some((u8::from_str_radix(digits, 16).ok()?, after))
        });
        let (byte, after) = byte.unwrap_or((first, tail));
        bytes.push(byte);
        rest = after;
    }
    PathBuf::from(OsString::from_vec(bytes))
}

const fn files_verb(verb: FileVerb) -> FilesVerb {
    match verb {
        FileVerb::Replace { .. } => FilesVerb::Replace,
        FileVerb::Append { .. } => FilesVerb::Append,
        FileVerb::Truncate { .. } => FilesVerb::Truncate,
        FileVerb::CopyTruncate { .. } => FilesVerb::CopyTruncate,
        FileVerb::Remove { .. } => FilesVerb::Remove,
        FileVerb::Archive { .. } => FilesVerb::Archive,
        FileVerb::SetAside { .. } => FilesVerb::SetAside,
    }
}

const fn unit_call(verb: UnitVerb) -> UnitCall {
    match verb {
        UnitVerb::Start => UnitCall::Start,
        UnitVerb::Stop => UnitCall::Stop,
        UnitVerb::Restart => UnitCall::Restart,
        UnitVerb::Reload => UnitCall::Reload,
        UnitVerb::Kill { whom, signal } => UnitCall::Kill { whom, signal },
        UnitVerb::ResetFailed => UnitCall::ResetFailed,
        UnitVerb::SetProperty { property } => UnitCall::SetProperty { property },
    }
}

const fn group_call(verb: GroupVerb) -> GroupCall {
    match verb {
        GroupVerb::SetAffinity { cpus } => GroupCall::SetAffinity { cpus },
        GroupVerb::Renice { nice } => GroupCall::Renice { nice },
    }
}
