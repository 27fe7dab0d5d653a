//! What each request of the protocol means. Peer and frame were checked before; here the epoch is.

use theriac_model::id::UnitName;
use theriac_model::unit::{KillWhom, Signal};
use theriac_protocol::fence::FenceError;
use theriac_protocol::frame::Frame;
use theriac_protocol::launcher::{LauncherAnswer, LauncherRequest};

use crate::service::Event;
use crate::supervisor::{Pending, Supervisor};

impl Supervisor {
    pub(crate) fn request(&mut self, connection: u64, frame: Frame<LauncherRequest>) {
        let Frame { epoch, id, message } = frame;
        if let Err(refusal) = self.pass(connection, epoch, &message) {
            return self.send(connection, id, LauncherAnswer::Refused(refusal.to_string()));
        }
        if let Some(answer) = self.answer(connection, id, message) {
            self.send(connection, id, answer);
        }
    }

    fn pass(&mut self, connection: u64, epoch: u64, message: &LauncherRequest) -> Result<(), FenceError> {
        let Some(peer) = self.connections.iter_mut().find(|peer| peer.id == connection) else { return Ok(()) };
        if matches!(message, LauncherRequest::Hello { .. }) {
            peer.lead = Some(self.fence.greet(epoch)?);
            // What an earlier runner started, nobody waits for any more.
            self.programs.end_older_than(epoch);
        }
        self.fence.check(peer.lead, epoch)
    }

    /// `None`: the answer follows when the verb has ended.
    fn answer(&mut self, connection: u64, id: u64, request: LauncherRequest) -> Option<LauncherAnswer> {
        match request {
            LauncherRequest::Hello { version: _ } => {
                Some(LauncherAnswer::Hello { version: env!("CARGO_PKG_VERSION").to_owned() })
            }
            LauncherRequest::Units => Some(LauncherAnswer::Units(self.states())),
            LauncherRequest::Subscribe => {
                if let Some(peer) = self.connections.iter_mut().find(|peer| peer.id == connection) {
                    peer.subscribed = true;
                }
                Some(LauncherAnswer::Subscribed)
            }
            LauncherRequest::Unit { name } => Some(self.named(&name, |_, _| None)),
            LauncherRequest::Reload { name } => Some(self.named(&name, Self::reload)),
            LauncherRequest::Kill { name, whom, signal } => {
                Some(self.named(&name, |launcher, slot| launcher.kill(slot, whom, signal)))
            }
            LauncherRequest::ResetFailed { name } => Some(self.named(&name, |launcher, slot| {
                launcher.apply(slot, Event::ResetAsked);
                None
            })),
            LauncherRequest::LogTail { name, lines } => Some(self.named(&name, |launcher, slot| {
                let slot = launcher.slots.get_mut(slot)?;
                let lines = usize::try_from(lines).unwrap_or(usize::MAX);
                Some(slot.output.tail(lines).map_or_else(
                    |error| LauncherAnswer::Refused(format!("its output can't be read: {error}")),
                    LauncherAnswer::Lines,
                ))
            })),
            LauncherRequest::Start { name } => self.begin(connection, id, &name, Event::StartAsked),
            LauncherRequest::Restart { name } => self.begin(connection, id, &name, Event::RestartAsked),
            LauncherRequest::Stop { name } => self.begin(connection, id, &name, Event::StopAsked),
            LauncherRequest::Run(program) => {
                if self.ending {
                    return Some(LauncherAnswer::Refused("the launcher is ending".to_owned()));
                }
                self.programs.start(connection, id, self.fence.epoch(), &program).err().map(LauncherAnswer::Refused)
            }
        }
    }

    fn find(&self, name: &UnitName) -> Option<usize> {
        self.slots.iter().position(|slot| slot.service.spec.name == *name)
    }

    /// Does it at once; where `act` has no answer of its own, the answer is the state afterwards.
    fn named(
        &mut self,
        name: &UnitName,
        act: impl FnOnce(&mut Self, usize) -> Option<LauncherAnswer>,
    ) -> LauncherAnswer {
        let Some(slot) = self.find(name) else { return LauncherAnswer::NoSuchUnit };
        act(self, slot).or_else(|| self.state(slot).map(LauncherAnswer::Unit)).unwrap_or(LauncherAnswer::NoSuchUnit)
    }

    fn begin(&mut self, connection: u64, id: u64, name: &UnitName, event: Event) -> Option<LauncherAnswer> {
        let Some(slot) = self.find(name) else { return Some(LauncherAnswer::NoSuchUnit) };
        let starts = event != Event::StopAsked;
        if starts && self.ending {
            return Some(LauncherAnswer::Refused("the launcher is ending".to_owned()));
        }
        self.apply(slot, event);
        self.pending.push(Pending { connection, id, slot, starts });
        None
    }

    fn reload(&mut self, index: usize) -> Option<LauncherAnswer> {
        let service = &self.slots.get(index)?.service;
        let refused = |sentence: &str| Some(LauncherAnswer::Refused(format!("`{}` {sentence}", service.spec.name)));
        let Some(signal) = service.spec.reload_signal else { return refused("has no `reload_signal`") };
        let Some(main) = service.main() else { return refused("is not running") };
        self.signal_one(main, raw(signal));
        None
    }

    fn kill(&mut self, index: usize, whom: KillWhom, signal: Signal) -> Option<LauncherAnswer> {
        let main = self.slots.get(index)?.service.main();
        match whom {
            KillWhom::Main => match main {
                Some(main) => self.signal_one(main, raw(signal)),
                None => return Some(LauncherAnswer::Refused("it has no main process".to_owned())),
            },
            KillWhom::All if signal == Signal::Kill => self.apply(index, Event::KillAsked),
            KillWhom::All => {
                for member in self.members(index) {
                    self.signal_one(member.key, raw(signal));
                }
            }
        }
        None
    }

    /// Answers the verbs whose service has come to rest.
    pub(crate) fn answer_pending(&mut self) {
        let now = std::time::Instant::now();
        let settled = |pending: &Pending| self.slots.get(pending.slot).is_none_or(|slot| slot.service.is_settled(now));
        let (done, waiting): (Vec<Pending>, Vec<Pending>) = self.pending.drain(..).partition(settled);
        self.pending = waiting;
        for Pending { connection, id, slot, starts } in done {
            let answer = self.verdict(slot, starts);
            self.send(connection, id, answer);
        }
    }

    fn verdict(&mut self, index: usize, starts: bool) -> LauncherAnswer {
        let Some(slot) = self.slots.get(index) else { return LauncherAnswer::NoSuchUnit };
        let name = &slot.service.spec.name;
        if slot.service.is_ending() {
            return LauncherAnswer::Refused(format!("a process of `{name}` did not end on KILL"));
        }
        if starts && slot.service.hit_start_limit() {
            return LauncherAnswer::Refused(format!(
                "`{name}` was started too often: start-limit-hit, until reset-failed"
            ));
        }
        if let Some(error) = slot.spawn_error.as_ref().filter(|_| starts) {
            return LauncherAnswer::Refused(format!("`{name}` could not be started: {error}"));
        }
        self.state(index).map_or(LauncherAnswer::NoSuchUnit, LauncherAnswer::Unit)
    }
}

fn raw(signal: Signal) -> rustix::process::Signal {
    match signal {
        Signal::Term => rustix::process::Signal::TERM,
        Signal::Kill => rustix::process::Signal::KILL,
        Signal::Hup => rustix::process::Signal::HUP,
        Signal::Usr1 => rustix::process::Signal::USR1,
    }
}
