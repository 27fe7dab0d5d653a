//! The loop: one `poll` over signals, requests, output and deadlines, and the hands of the state machine in `service`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use theriac_model::unit::UnitState;
use theriac_protocol::fence::Fence;
use theriac_protocol::launcher::LauncherAnswer;
use theriac_protocol::layout::{Layout, ListenError, Socket};
use theriac_protocol::peer;

use crate::config::LauncherConfig;
use crate::connection::Connection;
use crate::exec::{self, MARK};
use crate::output::Output;
use crate::processes::{self, ProcessKey, Stat};
use crate::programs::{Part, Programs};
use crate::service::{Action, Event, Outcome, Service};
use crate::signals::Signals;

/// The runner uses one short connection per call and one for events; the CLI a few more.
const MAX_CONNECTIONS: usize = 32;
/// How long what a killed launcher left is waited for, after KILL.
const LEFTOVER_PATIENCE: Duration = Duration::from_secs(5);

/// Why the launcher could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file or directory of its state.
    #[error("`{}` can't be used", path.display())]
    State {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A second launcher.
    #[error("another launcher uses `{}`", path.display())]
    Busy { path: PathBuf },
    /// Its socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A system call without which it can't watch anything.
    #[error("{what} failed")]
    System {
        what: &'static str,
        #[source]
        source: io::Error,
    },
}

/// One service with what the launcher holds for it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) service: Service,
    pub(crate) output: Output,
    /// Why the last start failed before the program ran.
    pub(crate) spawn_error: Option<String>,
}

/// A verb whose answer waits for its end.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) connection: u64,
    pub(crate) id: u64,
    pub(crate) slot: usize,
    pub(crate) starts: bool,
}

/// Everything the loop owns.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(crate) slots: Vec<Slot>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) pending: Vec<Pending>,
    pub(crate) fence: Fence,
    pub(crate) programs: Programs,
    pub(crate) ending: bool,
    dir: PathBuf,
    /// Orphans whose service was found once: a process may wipe its environment later.
    known: BTreeMap<ProcessKey, usize>,
    strays: BTreeSet<ProcessKey>,
    accepted: u64,
    /// Processes may have gone since the last look.
    look: bool,
}

/// What `poll` found.
#[derive(Debug, Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Output(usize),
    Connection(u64),
    Program(u64, Part),
}

/// Runs until TERM or INT, then stops every service. Must be called on the main thread, with no other thread about.
pub fn run(config: LauncherConfig, layout: &Layout) -> Result<(), RunError> {
    let system = |what| move |source: io::Error| RunError::System { what, source };
    let dir = layout.launcher();
    make_dir(&dir, 0o700)?;
    let _lock = lock(&dir)?;
    let signals = Signals::take().map_err(system("signalfd"))?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|errno| system("PR_SET_CHILD_SUBREAPER")(errno.into()))?;
    end_leftovers(&dir);
    let listener = listen(layout)?;
    let mut supervisor = Supervisor::new(config, dir);
    supervisor.autostart();
    notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(services = supervisor.slots.len(), "the launcher is ready");
    let watchdog = sd_notify::watchdog_enabled().map(|limit| limit / 2);
    let mut alive_at = Instant::now();
    while !(supervisor.ending && supervisor.all_down()) {
        let now = Instant::now();
        if watchdog.is_some_and(|every| now.duration_since(alive_at) >= every) {
            notify(&[sd_notify::NotifyState::Watchdog]);
            alive_at = now;
        }
        let timeout = supervisor.sleep_until(watchdog.map(|every| alive_at + every));
        for (source, flags) in supervisor.wait(&signals, &listener, timeout).map_err(system("poll"))? {
            supervisor.turn(source, flags, &signals, &listener);
        }
        supervisor.after_events();
    }
    notify(&[sd_notify::NotifyState::Stopping]);
    supervisor.end_strays();
    Ok(())
}

/// Not being able to tell systemd is systemd's to notice: that is what the watchdog is for.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "sd_notify failed");
    }
}

fn make_dir(path: &Path, mode: u32) -> Result<(), RunError> {
    let state = |source| RunError::State { path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(state)
}

fn lock(dir: &Path) -> Result<File, RunError> {
    let path = dir.join("lock");
    let state = |source| RunError::State { path: path.clone(), source };
    let file = File::options().create(true).append(true).open(&path).map_err(state)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(RunError::Busy { path: dir.to_owned() }),
        Err(fs::TryLockError::Error(source)) => Err(RunError::State { path, source }),
    }
}

fn listen(layout: &Layout) -> Result<UnixListener, RunError> {
    make_dir(&layout.state.join("run"), 0o755)?;
    // Only root and the own user pass the fence: nobody else needs to connect at all.
    let listener = layout.listen(Socket::Launcher, 0o600)?;
    listener.set_nonblocking(true).map_err(|source| RunError::System { what: "O_NONBLOCK", source })?;
    Ok(listener)
}

/// What a launcher that was killed left behind, by the mark each start wrote down: killed before anything is started, so that no
/// service ever runs twice.
fn end_leftovers(dir: &Path) {
    let marks: Vec<(PathBuf, String)> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "run"))
        .filter_map(|path| fs::read_to_string(&path).ok().map(|mark| (path, mark)))
        .collect();
    for (path, mark) in marks {
        let until = Instant::now() + LEFTOVER_PATIENCE;
        loop {
            let left: Vec<Stat> = processes::table()
                .into_iter()
                .filter(|stat| !stat.zombie && processes::carries(stat.key.pid, MARK, &mark))
                .collect();
            if left.is_empty() || Instant::now() > until {
                break;
            }
            tracing::warn!(count = left.len(), file = %path.display(), "killing what a killed launcher left");
            for stat in &left {
                processes::kill_and_wait(stat.key, until);
            }
        }
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(%error, file = %path.display(), "can't be removed");
        }
    }
}

impl Supervisor {
    fn new(config: LauncherConfig, dir: PathBuf) -> Self {
        let now = Instant::now();
        let slot = |spec: crate::config::ServiceSpec| Slot {
            output: Output::new(&dir, spec.name.as_str(), spec.log_cap),
            service: Service::new(spec, now),
            spawn_error: None,
        };
        Self {
            slots: config.services.into_iter().map(slot).collect(),
            connections: Vec::new(),
            pending: Vec::new(),
            fence: Fence::of_starter(),
            programs: Programs::new(config.programs),
            ending: false,
            dir,
            known: BTreeMap::new(),
            strays: BTreeSet::new(),
            accepted: 0,
            look: false,
        }
    }

    fn autostart(&mut self) {
        for index in 0..self.slots.len() {
            if self.slots.get(index).is_some_and(|slot| slot.service.spec.autostart) {
                self.apply(index, Event::StartAsked);
            }
        }
    }

    fn all_down(&self) -> bool {
        let now = Instant::now();
        self.programs.is_idle()
            && self.slots.iter().all(|slot| slot.service.main().is_none() && slot.service.is_settled(now))
    }

    fn sleep_until(&self, watchdog: Option<Instant>) -> Option<Duration> {
        let services = self.slots.iter().filter_map(|slot| slot.service.deadline());
        let deadlines = services.chain(self.programs.deadlines()).chain(watchdog);
        deadlines.min().map(|at| at.saturating_duration_since(Instant::now()))
    }

    fn wait(
        &self,
        signals: &Signals,
        listener: &UnixListener,
        timeout: Option<Duration>,
    ) -> io::Result<Vec<(Source, PollFlags)>> {
        let mut sources: Vec<(Source, BorrowedFd<'_>, PollFlags)> =
            vec![(Source::Signals, signals.as_fd(), PollFlags::IN)];
        if self.connections.len() < MAX_CONNECTIONS {
            sources.push((Source::Listener, listener.as_fd(), PollFlags::IN));
        }
        for (index, slot) in self.slots.iter().enumerate() {
            sources.extend(slot.output.pipe().map(|pipe| (Source::Output(index), pipe, PollFlags::IN)));
        }
        for (number, part, fd) in self.programs.waited_for() {
            sources.push((Source::Program(number, part), fd, PollFlags::IN));
        }
        for connection in &self.connections {
            let write = if connection.wants_to_write() { PollFlags::OUT } else { PollFlags::empty() };
            sources.push((Source::Connection(connection.id), connection.as_fd(), PollFlags::IN | write));
        }
        let mut fds: Vec<PollFd<'_>> =
            sources.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        let timeout = timeout.and_then(|span| Timespec::try_from(span).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = sources.iter().zip(&fds).map(|((source, ..), fd)| (*source, fd.revents()));
        Ok(ready.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    fn turn(&mut self, source: Source, flags: PollFlags, signals: &Signals, listener: &UnixListener) {
        match source {
            Source::Signals => {
                let arrived = signals.read();
                if arrived.child {
                    self.reap();
                }
                if arrived.end && !self.ending {
                    tracing::info!("stopping every service");
                    self.ending = true;
                    self.programs.end_all();
                    for index in 0..self.slots.len() {
                        self.apply(index, Event::StopAsked);
                    }
                }
            }
            Source::Listener => self.accept(listener),
            Source::Output(index) => {
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.output.drain();
                }
            }
            Source::Connection(id) => self.converse(id, flags),
            Source::Program(number, part) => self.programs.turn(number, part),
        }
    }

    fn accept(&mut self, listener: &UnixListener) {
        let Ok((stream, _)) = listener.accept() else { return };
        match peer::of(&stream) {
            Ok(peer) if self.fence.admits(&peer) => {}
            Ok(peer) => return tracing::warn!(uid = peer.uid, pid = peer.pid, "a peer was refused"),
            Err(error) => return tracing::warn!(%error, "a peer could not be identified"),
        }
        self.accepted += 1;
        match Connection::new(self.accepted, stream) {
            Ok(connection) => self.connections.push(connection),
            Err(error) => tracing::warn!(%error, "a connection failed"),
        }
    }

    fn converse(&mut self, id: u64, flags: PollFlags) {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else { return };
        let flushed = if flags.contains(PollFlags::OUT) { connection.flush() } else { Ok(()) };
        match flushed.and_then(|()| connection.receive()) {
            Ok(frames) => frames.into_iter().for_each(|frame| self.request(id, frame)),
            Err(error) => self.hang_up(id, &error),
        }
    }

    /// A peer that goes away takes its questions with it, never what it asked of a service; the programs that it runs end.
    fn hang_up(&mut self, id: u64, error: &theriac_protocol::frame::FrameError) {
        if !matches!(error, theriac_protocol::frame::FrameError::Closed) {
            tracing::warn!(%error, "a connection was dropped");
        }
        self.connections.retain(|connection| connection.id != id);
        self.pending.retain(|pending| pending.connection != id);
        self.programs.abandon(id);
    }

    pub(crate) fn send(&mut self, connection: u64, id: u64, answer: LauncherAnswer) {
        let epoch = self.fence.epoch();
        let Some(peer) = self.connections.iter_mut().find(|peer| peer.id == connection) else { return };
        if let Err(error) = peer.send(epoch, id, answer) {
            self.hang_up(connection, &error);
        }
    }

    /// Every child that ended, ours and the orphans that came to us.
    fn reap(&mut self) {
        self.look = true;
        self.programs.before_reaping();
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let ended = pid.as_raw_nonzero().get().unsigned_abs();
            self.programs.reaped(ended, status);
            let main = |slot: &Slot| slot.service.main().is_some_and(|main| main.pid == ended);
            if let Some(index) = self.slots.iter().position(main) {
                self.apply(index, Event::MainEnded(outcome(status)));
            }
        }
    }

    fn after_events(&mut self) {
        let now = Instant::now();
        for index in 0..self.slots.len() {
            if self.slots.get(index).and_then(|slot| slot.service.deadline()).is_some_and(|at| at <= now) {
                self.apply(index, Event::Deadline);
            }
        }
        // What ended may let something start, which may end: but each start costs budget, so this ends.
        while std::mem::take(&mut self.look) {
            self.find_gone();
        }
        self.answer_pending();
        for (connection, id, answer) in self.programs.finish(Instant::now()) {
            self.send(connection, id, answer);
        }
    }

    fn find_gone(&mut self) {
        let ending: Vec<usize> = (0..self.slots.len())
            .filter(|index| self.slots.get(*index).is_some_and(|slot| slot.service.is_ending()))
            .collect();
        if ending.is_empty() {
            return;
        }
        let owned = self.attribute(&processes::descendants_in(&processes::table(), std::process::id()));
        for index in ending {
            let main = self.slots.get(index).and_then(|slot| slot.service.main());
            if main.is_none() && !owned.iter().any(|(_, owner)| *owner == index) {
                self.apply(index, Event::AllGone);
            }
        }
    }

    /// Lets the state machine take a step, does what it says, and tells the subscribers.
    pub(crate) fn apply(&mut self, index: usize, event: Event) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let before = (slot.service.words(), slot.service.invocation.clone());
        match slot.service.on(event, Instant::now()) {
            Action::Nothing => {}
            Action::Spawn => self.spawn(index),
            Action::Terminate => {
                self.signal_all(index, &[Signal::TERM, Signal::CONT]);
                self.look = true;
            }
            Action::Kill => {
                self.signal_all(index, &[Signal::KILL]);
                self.look = true;
            }
        }
        let Some(slot) = self.slots.get(index) else { return };
        if before != (slot.service.words(), slot.service.invocation.clone()) {
            let (_, sub, outcome) = slot.service.words();
            tracing::info!(service = %slot.service.spec.name, sub, ?outcome, "state");
            self.publish(index);
        }
    }

    fn publish(&mut self, index: usize) {
        let subscribers: Vec<u64> =
            self.connections.iter().filter(|peer| peer.subscribed).map(|connection| connection.id).collect();
        if subscribers.is_empty() {
            return;
        }
        let Some(state) = self.state(index) else { return };
        for subscriber in subscribers {
            self.send(subscriber, 0, LauncherAnswer::UnitChanged(state.clone()));
        }
    }

    fn spawn(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let started = exec::new_invocation().and_then(|invocation| {
            // Written first: a launcher that dies after the fork has left its successor the mark.
            fs::write(self.dir.join(format!("{}.run", slot.service.spec.name)), &invocation).unwrap_or_else(|error| {
                tracing::warn!(%error, "the mark was not written (a full disk must not keep a service down)");
            });
            let writer = slot.output.open_pipe()?;
            let main = exec::spawn(&slot.service.spec, &invocation, writer)?;
            slot.service.invocation = invocation;
            Ok(main)
        });
        slot.spawn_error = started.as_ref().err().map(ToString::to_string);
        match started {
            Ok(main) => self.apply(index, Event::Spawned(main)),
            Err(error) => {
                tracing::warn!(service = %slot.service.spec.name, %error, "could not be started");
                self.apply(index, Event::SpawnFailed);
            }
        }
    }

    /// To every process of the service, the process group in one call first: that can't be outrun by forking.
    fn signal_all(&mut self, index: usize, signals: &[Signal]) {
        let members = self.members(index);
        let session = self.slots.get(index).map_or(0, |slot| slot.service.session);
        // The group's number can't have been given to anybody else while one of its session is left.
        let group = members.iter().any(|stat| stat.session == session).then_some(session);
        let group = group.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        for signal in signals {
            if let Some(group) = group {
                // ESRCH: every member has moved to another group; they follow one by one.
                rustix::process::kill_process_group(group, *signal).ok();
            }
            for member in members.iter().filter(|member| group.is_none() || member.session != session) {
                self.signal_one(member.key, *signal);
            }
        }
        if signals.contains(&Signal::KILL) {
            // A member of the session may have left the process group.
            members.iter().for_each(|member| self.signal_one(member.key, Signal::KILL));
        }
    }

    pub(crate) fn signal_one(&self, key: ProcessKey, signal: Signal) {
        if let Err(error) = processes::signal(key, signal) {
            tracing::warn!(pid = key.pid, %error, "a signal was not sent");
        }
    }

    /// The live processes of one service.
    pub(crate) fn members(&mut self, index: usize) -> Vec<Stat> {
        let found = processes::descendants_in(&processes::table(), std::process::id());
        self.attribute(&found).into_iter().filter(|(_, owner)| *owner == index).map(|(stat, _)| stat).collect()
    }

    /// One service's state with its processes.
    pub(crate) fn state(&mut self, index: usize) -> Option<UnitState> {
        let owned = self.attribute(&processes::descendants_of(std::process::id()));
        let pids = owned.into_iter().filter(|(_, owner)| *owner == index).map(|(stat, _)| stat.key.pid).collect();
        self.slots.get_mut(index).map(|slot| slot.service.state(pids, Instant::now()))
    }

    /// Every service's state, from one look at the processes.
    pub(crate) fn states(&mut self) -> Vec<UnitState> {
        let owned = self.attribute(&processes::descendants_of(std::process::id()));
        let now = Instant::now();
        let pids_of = |index| owned.iter().filter(|(_, owner)| *owner == index).map(|(stat, _)| stat.key.pid).collect();
        self.slots.iter_mut().enumerate().map(|(index, slot)| slot.service.state(pids_of(index), now)).collect()
    }

    /// Whose each live descendant is. A child of a member is a member; a daemon that left by a double fork comes back to the
    /// launcher as an orphan (it is the subreaper) and is told by its session, by having been seen before, or by its mark.
    fn attribute(&mut self, descendants: &[Stat]) -> Vec<(Stat, usize)> {
        let mut owners: BTreeMap<u32, usize> = BTreeMap::new();
        let (mut known, mut strays) = (BTreeMap::new(), BTreeSet::new());
        let mut owned = Vec::new();
        // Parents come before their children in the list.
        for stat in self.programs.without_jailed(descendants).iter().filter(|stat| !stat.zombie) {
            let runs = |slot: &Slot| slot.service.main().is_some() || slot.service.is_ending();
            let by_session = || self.slots.iter().position(|slot| runs(slot) && slot.service.session == stat.session);
            let by_mark =
                || self.slots.iter().position(|slot| processes::carries(stat.key.pid, MARK, &slot.service.invocation));
            let owner = by_session()
                .or_else(|| self.known.get(&stat.key).copied())
                .or_else(|| owners.get(&stat.parent).copied())
                .or_else(by_mark);
            match owner {
                Some(owner) => {
                    owners.insert(stat.key.pid, owner);
                    known.insert(stat.key, owner);
                    owned.push((*stat, owner));
                }
                None => {
                    strays.insert(stat.key);
                    if !self.strays.contains(&stat.key) {
                        tracing::warn!(
                            pid = stat.key.pid,
                            "an orphan belongs to no service; it ends with the launcher"
                        );
                    }
                }
            }
        }
        // Both hold only who is still there: what forks without end must not fill the memory.
        (self.known, self.strays) = (known, strays);
        owned
    }

    /// Orphans that hid whose they are.
    fn end_strays(&mut self) {
        let until = Instant::now() + LEFTOVER_PATIENCE;
        for stat in processes::descendants_in(&processes::table(), std::process::id()) {
            processes::kill_and_wait(stat.key, until);
        }
    }
}

/// As systemd counts: ending on a signal that asks to end is a clean end.
fn outcome(status: WaitStatus) -> Outcome {
    const CLEAN: [Signal; 4] = [Signal::TERM, Signal::INT, Signal::HUP, Signal::PIPE];
    match (status.exit_status(), status.terminating_signal()) {
        (Some(0), _) => Outcome::Success,
        (_, Some(signal)) if CLEAN.iter().any(|clean| clean.as_raw() == signal) => Outcome::Success,
        (_, Some(_)) => Outcome::Signal,
        (_, None) => Outcome::ExitCode,
    }
}
