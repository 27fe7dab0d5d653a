//! A signal to one process, as the gate wants it.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags};
use theriac_authority::effective::BoundGroup;
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::effect::{Effect, GroupId, Observed, Undo, UndoClass};
use theriac_model::id::Label;
use theriac_model::unit::{ProcessId, Signal};

use super::{change::share, members, start_of};
use crate::gate::{Applied, ApplyError, Change, Draft, Kept, Place};
use crate::session::{Assumption, Scene};

/// How long the end of a process is waited for before the outcome is written: SIGKILL acts in milliseconds, and SIGTERM's
/// handlers are not ours to wait for.
const WAIT: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// `signal`.
pub(super) struct Send {
    label: Label,
    process: ProcessId,
    signal: Signal,
}

impl Send {
    pub(super) fn new(label: &Label, process: ProcessId, signal: Signal) -> Self {
        Self { label: label.clone(), process, signal }
    }

    fn effect(&self, bound: &BoundGroup) -> Effect {
        Effect::Process {
            label: self.label.clone(),
            group: bound.group.clone(),
            process: self.process,
            signal: self.signal,
        }
    }

    /// Still a member of the group, and still the same process.
    fn check(&self, scene: &mut Scene<'_>, bound: &BoundGroup) -> Result<(), Denial> {
        let gone = scene.overlay.process_gone(self.process);
        if !gone && members(scene, bound)?.contains(&self.process) {
            return Ok(());
        }
        Err(Denial::new(DenialCause::StaleTarget, &self.label, "process", self.effect(bound)))
    }

    const fn ends_it(&self) -> bool {
        match self.signal {
            Signal::Term | Signal::Kill => true,
            Signal::Hup | Signal::Usr1 => false,
        }
    }
}

/// A descriptor of exactly that process; `None` when it is gone or the PID is somebody else's.
fn pidfd(process: ProcessId) -> Option<OwnedFd> {
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw)?;
    let fd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // Compared after the descriptor is held: from here on the PID may be reused, the descriptor not.
    (start_of(process.pid) == Some(process.start)).then_some(fd)
}

impl Change for Send {
    fn draft(&mut self, scene: &mut Scene<'_>) -> Result<Draft, Denial> {
        let bound = scene.grants.group(self.label.as_str())?;
        self.check(scene, bound)?;
        let effect = self.effect(bound);
        let class = match &bound.group {
            GroupId::Unit(_) => UndoClass::Compensated { inverse: "start the unit, if it does not run".to_owned() },
            GroupId::Cgroup(_) | GroupId::User(_) => {
                UndoClass::Irreversible { reason: "a signal can't be called back".to_owned() }
            }
        };
        let ends = self.ends_it();
        Ok(Draft {
            bound: effect.clone(),
            effect,
            class,
            guards: Vec::new(),
            before: Observed::Running(self.process),
            reproducible: false,
            traffic_share: share(scene, bound),
            count: 0,
            assumption: if ends { Assumption::ProcessGone { process: self.process } } else { Assumption::Nothing },
        })
    }

    fn recheck(&mut self, scene: &mut Scene<'_>) -> Result<(), Denial> {
        let bound = scene.grants.group(self.label.as_str())?;
        self.check(scene, bound)
    }

    fn keep(&mut self, scene: &mut Scene<'_>, _place: &Place) -> Result<Kept, Denial> {
        let undo = match &scene.grants.group(self.label.as_str())?.group {
            GroupId::Unit(unit) => Undo::StartUnit { unit: unit.clone() },
            GroupId::Cgroup(_) | GroupId::User(_) => {
                Undo::Nothing { reason: "a signal can't be called back".to_owned() }
            }
        };
        Ok(Kept { before: Observed::Running(self.process), undo })
    }

    fn apply(&mut self, scene: &mut Scene<'_>, _kept: &Kept) -> Result<Applied, ApplyError> {
        let bound = scene.grants.group(self.label.as_str()).map_err(ApplyError::Denied)?;
        let no = |cause, rule| ApplyError::Denied(Denial::new(cause, &self.label, rule, self.effect(bound)));
        let fd = pidfd(self.process).ok_or_else(|| no(DenialCause::StaleTarget, "process"))?;
        let signal = match self.signal {
            Signal::Term => rustix::process::Signal::TERM,
            Signal::Kill => rustix::process::Signal::KILL,
            Signal::Hup => rustix::process::Signal::HUP,
            Signal::Usr1 => rustix::process::Signal::USR1,
        };
        rustix::process::pidfd_send_signal(&fd, signal).map_err(|errno| {
            let attempted = format!("{}: {errno}", self.effect(bound));
            ApplyError::Denied(Denial::new(DenialCause::Failed, &self.label, "signal", attempted))
        })?;
        let gone = self.ends_it() && matches!(poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&WAIT)), Ok(1..));
        let after = if gone { Observed::Gone(self.process) } else { Observed::Running(self.process) };
        Ok(Applied { after, bytes: 0 })
    }
}
