//! Confining and renicing a group, as the gate wants it.

use theriac_authority::effective::BoundGroup;
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::effect::{Effect, GroupVerb, Observed, Undo, UndoClass};
use theriac_model::id::Label;
use theriac_model::unit::ProcessId;

use super::affinity::{CpuMask, Threads, mask_of, nice_of, set_mask, set_nice};
use super::{members, threads_of};
use crate::crash::crash_point;
use crate::gate::{Applied, ApplyError, Change, Draft, Kept, Place};
use crate::session::{Assumption, Scene};

/// Most threads that are changed at once; the values before are part of the journal's record.
const MAX_THREADS: usize = 4096;
/// Looks at the group again so many times: a thread that was born meanwhile inherited the old value from one not yet changed.
const MAX_PASSES: usize = 8;
/// CAP_SYS_NICE: without it a raised nice value can't be lowered again.
const CAP_SYS_NICE: u32 = 23;

fn threads(scene: &mut Scene<'_>, bound: &BoundGroup) -> Result<Vec<ProcessId>, Denial> {
    let threads: Vec<ProcessId> = members(scene, bound)?.into_iter().flat_map(threads_of).collect();
    let no = |cause, rule| Err(Denial::new(cause, &bound.label, rule, format!("change {}", bound.group)));
    match threads.len() {
        0 => no(DenialCause::Unavailable, "empty"),
        n if n > MAX_THREADS => no(DenialCause::OverBudget, "threads"),
        _ => Ok(threads),
    }
}

/// Sets a value on every thread that `needs` it, until a look finds none.
fn settle(
    scene: &mut Scene<'_>,
    bound: &BoundGroup,
    attempted: &Effect,
    needs: &dyn Fn(ProcessId) -> bool,
    set: &dyn Fn(ProcessId) -> rustix::io::Result<()>,
) -> Result<(), Denial> {
    for _ in 0..MAX_PASSES {
        let pending: Vec<ProcessId> = threads(scene, bound)?.into_iter().filter(|thread| needs(*thread)).collect();
        if pending.is_empty() {
            return Ok(());
        }
        for thread in pending {
            set(thread).map_err(|errno| {
                let attempted = format!("{attempted}, thread {}: {errno}", thread.pid);
                Denial::new(DenialCause::Failed, &bound.label, "io", attempted)
            })?;
            crash_point("processes.half-set");
        }
    }
    Err(Denial::new(DenialCause::Failed, &bound.label, "settled", attempted))
}

/// `set-affinity`.
pub(super) struct Confine {
    label: Label,
    cpus: u32,
    before: Threads<CpuMask>,
}

impl Confine {
    pub(super) fn new(label: &Label, cpus: u32) -> Self {
        Self { label: label.clone(), cpus, before: Vec::new() }
    }

    fn effect(&self, bound: &BoundGroup) -> Effect {
        let verb = GroupVerb::SetAffinity { cpus: self.cpus };
        Effect::Group { label: self.label.clone(), group: bound.group.clone(), verb }
    }

    fn look(&mut self, scene: &mut Scene<'_>, bound: &BoundGroup) -> Result<(), Denial> {
        let threads = threads(scene, bound)?;
        self.before = threads.into_iter().filter_map(|thread| Some((thread, mask_of(thread)?))).collect();
        let allowed = self.union().map_or(0, |mask| mask.count());
        if self.cpus == 0 || self.cpus >= allowed {
            let attempted = format!("{}, which may use {allowed}", self.effect(bound));
            return Err(Denial::new(DenialCause::Conflict, &self.label, "cpus", attempted));
        }
        Ok(())
    }

    fn union(&self) -> Option<CpuMask> {
        let mut masks = self.before.iter().map(|(_, mask)| *mask);
        let first = masks.next()?;
        Some(masks.fold(first, |all, mask| all.union(&mask)))
    }

    fn texts(&self) -> Threads<String> {
        self.before.iter().map(|(thread, mask)| (*thread, mask.text())).collect()
    }
}

impl Change for Confine {
    fn draft(&mut self, scene: &mut Scene<'_>) -> Result<Draft, Denial> {
        let bound = scene.grants.group(self.label.as_str())?;
        self.look(scene, bound)?;
        let effect = self.effect(bound);
        Ok(Draft {
            bound: effect.clone(),
            effect,
            class: UndoClass::Exact,
            guards: Vec::new(),
            before: Observed::Affinity(self.texts()),
            reproducible: false,
            traffic_share: share(scene, bound),
            count: 0,
            assumption: Assumption::Confined { group: bound.group.clone(), cpus: self.cpus },
        })
    }

    fn recheck(&mut self, _scene: &mut Scene<'_>) -> Result<(), Denial> {
        // `keep` has just looked; each thread is compared by its start time when it is set.
        Ok(())
    }

    fn keep(&mut self, scene: &mut Scene<'_>, _place: &Place) -> Result<Kept, Denial> {
        let bound = scene.grants.group(self.label.as_str())?;
        self.look(scene, bound)?;
        let masks = self.texts();
        Ok(Kept {
            before: Observed::Affinity(masks.clone()),
            undo: Undo::SetAffinity { group: bound.group.clone(), masks },
        })
    }

    fn apply(&mut self, scene: &mut Scene<'_>, _kept: &Kept) -> Result<Applied, ApplyError> {
        let bound = scene.grants.group(self.label.as_str()).map_err(ApplyError::Denied)?;
        let effect = self.effect(bound);
        let empty = || ApplyError::Denied(Denial::new(DenialCause::Unavailable, &self.label, "empty", &effect));
        let narrow = self.union().map(|all| all.first(self.cpus)).ok_or_else(empty)?;
        let needs = |thread| mask_of(thread).is_some_and(|mask| mask != narrow);
        // What was set before an error stays set until the undo, which the failure brings about.
        settle(scene, bound, &effect, &needs, &|thread| set_mask(thread, &narrow)).map_err(ApplyError::Ambiguous)?;
        let now = threads(scene, bound).map_err(ApplyError::Ambiguous)?;
        let after = now.into_iter().filter_map(|thread| Some((thread, mask_of(thread)?.text()))).collect();
        Ok(Applied { after: Observed::Affinity(after), bytes: 0 })
    }
}

/// `renice`.
pub(super) struct Renice {
    label: Label,
    nice: i32,
}

impl Renice {
    pub(super) fn new(label: &Label, nice: i32) -> Self {
        Self { label: label.clone(), nice }
    }

    fn effect(&self, bound: &BoundGroup) -> Effect {
        let verb = GroupVerb::Renice { nice: self.nice };
        Effect::Group { label: self.label.clone(), group: bound.group.clone(), verb }
    }

    fn look(&self, scene: &mut Scene<'_>, bound: &BoundGroup) -> Result<Threads<i32>, Denial> {
        if !(1..=19).contains(&self.nice) {
            return Err(Denial::new(DenialCause::NotGranted, &self.label, "nice", self.effect(bound)));
        }
        // Undo is a type: an unprivileged runner could raise the value and never lower it.
        if !has_capability(CAP_SYS_NICE) {
            return Err(Denial::new(DenialCause::Unavailable, &self.label, "renice.undo", self.effect(bound)));
        }
        let threads = threads(scene, bound)?;
        Ok(threads.into_iter().filter_map(|thread| Some((thread, nice_of(thread)?))).collect())
    }
}

impl Change for Renice {
    fn draft(&mut self, scene: &mut Scene<'_>) -> Result<Draft, Denial> {
        let bound = scene.grants.group(self.label.as_str())?;
        let before = self.look(scene, bound)?;
        let effect = self.effect(bound);
        Ok(Draft {
            bound: effect.clone(),
            effect,
            class: UndoClass::Exact,
            guards: Vec::new(),
            before: Observed::Nice(before),
            reproducible: false,
            traffic_share: share(scene, bound),
            count: 0,
            assumption: Assumption::Nothing,
        })
    }

    fn recheck(&mut self, _scene: &mut Scene<'_>) -> Result<(), Denial> {
        Ok(())
    }

    fn keep(&mut self, scene: &mut Scene<'_>, _place: &Place) -> Result<Kept, Denial> {
        let bound = scene.grants.group(self.label.as_str())?;
        let values = self.look(scene, bound)?;
        Ok(Kept { before: Observed::Nice(values.clone()), undo: Undo::Renice { group: bound.group.clone(), values } })
    }

    fn apply(&mut self, scene: &mut Scene<'_>, _kept: &Kept) -> Result<Applied, ApplyError> {
        let bound = scene.grants.group(self.label.as_str()).map_err(ApplyError::Denied)?;
        let effect = self.effect(bound);
        let needs = |thread| nice_of(thread).is_some_and(|nice| nice < self.nice);
        settle(scene, bound, &effect, &needs, &|thread| set_nice(thread, self.nice)).map_err(ApplyError::Ambiguous)?;
        let now = threads(scene, bound).map_err(ApplyError::Ambiguous)?;
        let after = now.into_iter().filter_map(|thread| Some((thread, nice_of(thread)?))).collect();
        Ok(Applied { after: Observed::Nice(after), bytes: 0 })
    }
}

/// The traffic of the unit whose processes they are, where the remedy has that unit too; unknown counts as much.
pub(super) fn share(scene: &Scene<'_>, bound: &BoundGroup) -> Option<theriac_model::units::Permille> {
    let theriac_model::effect::GroupId::Unit(unit) = &bound.group else { return None };
    scene.grants.units.values().find(|granted| granted.unit == *unit)?.traffic_share
}

fn has_capability(bit: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|set| set >> bit & 1 == 1)
}
