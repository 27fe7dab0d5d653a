//! `kernel`: one number of the kernel's configuration. It is a file below `/proc/sys`, opened beneath that directory without
//! following a link, and read back after each change: the kernel takes some values and keeps another.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode as FileMode, OFlags, ResolveFlags, openat2};
use theriac_authority::effective::BoundKnob;
use theriac_model::call::Reply;
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::effect::{Effect, Observed, Undo, UndoClass, UndoOutcome};
use theriac_model::id::Label;
use theriac_model::kernel::{KnobCall, KnobEffect, KnobInfo, KnobName};
use theriac_model::plan::Guard;

use crate::gate::{Applied, ApplyError, Change, Draft, Kept, Mode, Place, perform};
use crate::recover::Happened;
use crate::session::{Assumption, Scene};
use crate::undo::Intent;

/// A 64-bit number with its sign and a line feed is 21 bytes; a file with more is no single number.
const LONGEST: u64 = 64;

/// Why a number could not be read or set.
#[derive(Debug, thiserror::Error)]
enum KnobError {
    #[error("this kernel has no `{knob}`")]
    Missing { knob: KnobName },
    #[error("`{knob}` is not one whole number")]
    NotANumber { knob: KnobName },
    #[error("`{knob}` can't be reached")]
    Io {
        knob: KnobName,
        #[source]
        source: io::Error,
    },
}

impl KnobError {
    fn denial(&self, label: &Label, attempted: impl std::fmt::Display) -> Denial {
        let (cause, rule) = match self {
            Self::Missing { .. } => (DenialCause::Unavailable, "kernel"),
            Self::NotANumber { .. } => (DenialCause::Unavailable, "number"),
            Self::Io { .. } => (DenialCause::Failed, "kernel"),
        };
        Denial::new(cause, label, rule, format!("{attempted}: {}", crate::exchange::chain(self)))
    }
}

fn open(knob: &KnobName, flags: OFlags) -> Result<File, KnobError> {
    let at = |error: rustix::io::Errno| match error {
        rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR => KnobError::Missing { knob: knob.clone() },
        other => KnobError::Io { knob: knob.clone(), source: other.into() },
    };
    let root: OwnedFd = openat2(
        CWD,
        "/proc/sys",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        FileMode::empty(),
        ResolveFlags::NO_SYMLINKS,
    )
    .map_err(at)?;
    let beneath =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    openat2(root, knob.below_proc_sys(), flags, FileMode::empty(), beneath).map(File::from).map_err(at)
}

fn read(knob: &KnobName) -> Result<i64, KnobError> {
    let mut text = String::new();
    let read = open(knob, OFlags::RDONLY)?.take(LONGEST).read_to_string(&mut text);
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(KnobError::NotANumber { knob: knob.clone() });
        }
        Err(source) => return Err(KnobError::Io { knob: knob.clone(), source }),
    }
    text.trim_end().parse().map_err(|_not_one| KnobError::NotANumber { knob: knob.clone() })
}

/// Sets it and reads it back.
fn write(knob: &KnobName, value: i64) -> Result<i64, KnobError> {
    let written = open(knob, OFlags::WRONLY)?.write_all(format!("{value}\n").as_bytes());
    written.map_err(|source| KnobError::Io { knob: knob.clone(), source })?;
    read(knob)
}

/// A verb of a number of the kernel's.
pub(crate) fn serve(
    scene: &mut Scene<'_>,
    mode: &mut dyn Mode,
    label: &Label,
    call: &KnobCall,
) -> Result<Reply, Denial> {
    let bound = scene.grants.knob(label.as_str())?;
    match *call {
        KnobCall::Get => {
            bound.admits(call)?;
            let assumed = scene.overlay.knob(&bound.knob);
            let value = match assumed {
                Some(value) => value,
                None => read(&bound.knob).map_err(|error| error.denial(label, format_args!("get {}", bound.knob)))?,
            };
            Ok(Reply::Knob(KnobInfo { value, assumed: assumed.is_some() }))
        }
        KnobCall::Set { value } => {
            perform(scene, mode, &mut SetKnob { label: label.clone(), value, before: None }).map(|_| Reply::Done)
        }
    }
}

/// One change of one number.
struct SetKnob {
    label: Label,
    value: i64,
    before: Option<i64>,
}

impl SetKnob {
    fn effect(&self, bound: &BoundKnob) -> KnobEffect {
        KnobEffect { label: self.label.clone(), knob: bound.knob.clone(), value: self.value }
    }

    fn now(&self, bound: &BoundKnob) -> Result<i64, Denial> {
        read(&bound.knob).map_err(|error| error.denial(&self.label, self.effect(bound)))
    }
}

impl Change for SetKnob {
    fn draft(&mut self, scene: &mut Scene<'_>) -> Result<Draft, Denial> {
        let bound = scene.grants.knob(self.label.as_str())?;
        bound.admits(&KnobCall::Set { value: self.value })?;
        let now = self.now(bound)?;
        let before = scene.overlay.knob(&bound.knob).unwrap_or(now);
        self.before = Some(now);
        let effect = Effect::Knob(self.effect(bound));
        Ok(Draft {
            bound: effect.clone(),
            effect,
            class: UndoClass::Exact,
            guards: vec![Guard::SameValue],
            before: Observed::Knob(before),
            reproducible: false,
            traffic_share: None,
            count: 0,
            assumption: Assumption::Knob { knob: bound.knob.clone(), value: self.value },
        })
    }

    fn recheck(&mut self, scene: &mut Scene<'_>) -> Result<(), Denial> {
        let bound = scene.grants.knob(self.label.as_str())?;
        if self.before == Some(self.now(bound)?) {
            Ok(())
        } else {
            Err(Denial::new(DenialCause::Conflict, &self.label, "same-value", self.effect(bound)))
        }
    }

    fn keep(&mut self, scene: &mut Scene<'_>, _place: &Place) -> Result<Kept, Denial> {
        let bound = scene.grants.knob(self.label.as_str())?;
        let value = self.now(bound)?;
        Ok(Kept { before: Observed::Knob(value), undo: Undo::SetKnob { knob: bound.knob.clone(), value } })
    }

    fn apply(&mut self, scene: &mut Scene<'_>, _kept: &Kept) -> Result<Applied, ApplyError> {
        let bound = scene.grants.knob(self.label.as_str()).map_err(ApplyError::Denied)?;
        let effect = self.effect(bound);
        match write(&bound.knob, self.value) {
            Ok(after) if after == self.value => Ok(Applied { after: Observed::Knob(after), bytes: 0 }),
            Ok(other) => {
                let attempted = format!("{effect}, and the kernel made it {other}");
                Err(ApplyError::Ambiguous(Denial::new(DenialCause::Failed, &self.label, "kernel", attempted)))
            }
            // The kernel takes a number whole or not at all.
            Err(error) => Err(ApplyError::Denied(error.denial(&self.label, &effect))),
        }
    }
}

/// Asks the world whether the intent's effect happened. Changes nothing.
pub(crate) fn observe(intent: &Intent<'_>, effect: &KnobEffect) -> Happened {
    match read(&effect.knob) {
        Ok(now) if *intent.before == Observed::Knob(now) => Happened::No,
        Ok(now) if now == effect.value => Happened::Yes(Observed::Knob(now)),
        Ok(now) => Happened::Unknown { reason: format!("{} is {now} by now", effect.knob) },
        Err(error) => Happened::Unknown { reason: crate::exchange::chain(&error) },
    }
}

/// Puts the value back that was there before, unless somebody has set another one since.
pub(crate) fn take_back(knob: &KnobName, before: i64, after: Option<&Observed>) -> UndoOutcome {
    let failed = |error: &KnobError| UndoOutcome::Failed { reason: crate::exchange::chain(error) };
    let now = match read(knob) {
        Ok(now) => now,
        Err(error) => return failed(&error),
    };
    if now == before {
        return UndoOutcome::Restored;
    }
    if after != Some(&Observed::Knob(now)) {
        return UndoOutcome::ChangedSince { found: format!("{knob} is {now}") };
    }
    match write(knob, before) {
        Ok(read_back) if read_back == before => UndoOutcome::Restored,
        Ok(read_back) => UndoOutcome::Failed { reason: format!("{knob} is {read_back} after it was set to {before}") },
        Err(error) => failed(&error),
    }
}
