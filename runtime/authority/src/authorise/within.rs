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
    let mut added: BTreeMap<&Label, u32> = BTreeMap::new();
    let mut ended: BTreeMap<&Label, u32> = BTreeMap::new();
    for planned in &plan.effects {
        let of = &planned.effect;
        match of {
            Effect::File { label, file, verb } => {
                let spent = spent.entry(label).or_default();
                check_file(planned, granted(&grants.files, of)?, file, *verb, *spent)?;
                spent.files = spent.files.saturating_add(1);
                spent.bytes = spent.bytes.saturating_add(verb.bytes());
            }
            Effect::Unit { unit, verb, .. } => {
                let bound = granted(&grants.units, of)?;
                same(of, bound.unit == *unit)?;
                bound.admits(&unit_call(*verb))?;
            }
            Effect::Group { group, verb, .. } => {
                let bound = granted(&grants.processes, of)?;
                same(of, bound.group == *group)?;
                bound.admits_group(&group_call(*verb))?;
            }
            Effect::Process { group, signal, .. } => {
                let bound = granted(&grants.processes, of)?;
                same(of, bound.group == *group)?;
                bound.admits_process(&ProcessCall::Signal { signal: *signal })?;
            }
            Effect::Certificate(effect) => granted(&grants.certificates, of)?.admits_effect(planned, effect)?,
            Effect::Program(effect) => granted(&grants.programs, of)?.admits_effect(planned, effect)?,
            Effect::Http(effect) => granted(&grants.http, of)?.admits_effect(planned, effect)?,
            Effect::Knob(effect) => granted(&grants.kernel, of)?.admits_effect(planned, effect)?,
            Effect::Release(effect) => granted(&grants.releases, of)?.admits_effect(planned, effect)?,
            Effect::Container(effect) => granted(&grants.containers, of)?.admits_effect(planned, effect)?,
            Effect::Firewall(effect) => {
                let added = added.entry(&effect.label).or_default();
                granted(&grants.firewall, of)?.admits_effect(planned, effect, *added)?;
                *added = added.saturating_add(1);
            }
            Effect::Database(effect) => {
                let ended = ended.entry(&effect.label).or_default();
                granted(&grants.databases, of)?.admits_effect(planned, effect, *ended)?;
                *ended = ended.saturating_add(u32::from(matches!(effect.verb, DatabaseVerb::Terminate(_))));
            }
        }
    }
    Ok(())
}

/// The grant under the effect's label.
fn granted<'g, T>(table: &'g BTreeMap<Label, T>, effect: &Effect) -> Result<&'g T, Denial> {
    table.get(effect.label()).ok_or_else(|| Denial::new(DenialCause::NotGranted, effect.label(), "label", effect))
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
