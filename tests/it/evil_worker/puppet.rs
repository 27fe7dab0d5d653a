//! The strings of a puppet worker: a socket beside the program, and a thread for each worker process that hangs on it.

use std::fs;
use std::io::Write as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use theriac_model::call::{Call, Export, Opinion, Reply, Report};
use theriac_model::units::Blob;
use theriac_protocol::frame::{self, Frame};
use theriac_protocol::worker::{FromWorker, ToWorker};

use crate::host::{PATIENCE, binary};

/// When a worker is asked to act. The first call of a run is its dry run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// It was started, and has not said that it is ready.
    Started,
    /// It was given its remedy, and has not said that it is loaded.
    Loaded,
    DryCall,
    LiveCall,
    /// The runner asks for the remedy's opinion.
    Check,
}

/// What the worker does at a moment; `false`: what a worker would do.
pub(super) type Act = Box<dyn Fn(&mut Puppet, Moment) -> bool + Send + Sync>;

/// What all puppets of one host share.
struct Play {
    act: Option<Arc<Act>>,
    /// Calls of the present run.
    calls: u32,
    /// An expectation of an act did not hold.
    broken: bool,
}

/// The hand.
pub(super) struct Strings {
    worker: PathBuf,
    play: Arc<Mutex<Play>>,
}

impl Strings {
    /// Puts the program and its socket there. Until it is told to act it behaves.
    pub(super) fn tie(dir: &Path) -> Self {
        let stage = dir.join("puppet");
        fs::create_dir(&stage).unwrap();
        let worker = stage.join("puppet-worker");
        fs::copy(binary("puppet-worker"), &worker).unwrap();
        let listener = UnixListener::bind(stage.join("strings")).unwrap();
        let play = Arc::new(Mutex::new(Play { act: None, calls: 0, broken: false }));
        let shared = Arc::clone(&play);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let play = Arc::clone(&shared);
                std::thread::spawn(move || Puppet { stream: Some(stream), play }.live());
            }
        });
        Self { worker, play }
    }

    pub(super) fn worker(&self) -> &Path {
        &self.worker
    }

    /// For the next run.
    pub(super) fn act(&self, act: Act) {
        *lock(&self.play) = Play { act: Some(Arc::new(act)), calls: 0, broken: false };
    }

    /// Whether every expectation of the act held so far.
    pub(super) fn held(&self) -> bool {
        !lock(&self.play).broken
    }
}

fn lock(play: &Mutex<Play>) -> std::sync::MutexGuard<'_, Play> {
    play.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One worker process.
pub(super) struct Puppet {
    stream: Option<UnixStream>,
    play: Arc<Mutex<Play>>,
}

impl Drop for Puppet {
    /// Noted before the strings are let go, and so before the runner can see the end of this worker.
    fn drop(&mut self) {
        if std::thread::panicking() {
            lock(&self.play).broken = true;
        }
    }
}

impl Puppet {
    /// From its start to its end, as a worker would, wherever it is not told otherwise. Its own words end the thread by failing:
    /// the runner has killed it.
    fn live(mut self) -> Option<()> {
        self.stream.as_ref()?.set_read_timeout(Some(PATIENCE)).ok()?;
        self.at(Moment::Started, |puppet| {
            puppet.say(&FromWorker::Ready { version: "puppet".into(), engine: "puppet".into(), walls: Vec::new() });
        });
        match self.hear()? {
            ToWorker::Compile { size } => {
                self.swallow(size)?;
                let imports = vec!["theriac:remedy/files@0.1.0".to_owned(), "theriac:remedy/units@0.1.0".to_owned()];
                self.say(&FromWorker::Compiled { size: 8, imports });
                self.say(&FromWorker::Chunk(Blob(b"artefact".to_vec())));
                return Some(());
            }
            ToWorker::Load { size, .. } => self.swallow(size)?,
            ToWorker::Chunk(_) | ToWorker::Call { .. } | ToWorker::Reply(_) => return None,
        }
        self.at(Moment::Loaded, |puppet| puppet.say(&FromWorker::Loaded));
        let ToWorker::Call { export, .. } = self.hear()? else { return None };
        let moment = self.moment(export);
        self.at(moment, |puppet| match export {
            Export::Remediate => puppet.say(&FromWorker::Remediated(Report::NothingToDo("nothing".into()))),
            Export::Check => puppet.say(&FromWorker::Checked(Opinion::Satisfied)),
        });
        // Until the runner hangs up.
        while self.hear().is_some() {}
        Some(())
    }

    fn moment(&self, export: Export) -> Moment {
        if export == Export::Check {
            return Moment::Check;
        }
        let mut play = lock(&self.play);
        play.calls += 1;
        if play.calls == 1 { Moment::DryCall } else { Moment::LiveCall }
    }

    fn at(&mut self, moment: Moment, behave: impl Fn(&mut Self)) {
        let act = lock(&self.play).act.clone();
        if !act.is_some_and(|act| act(self, moment)) {
            behave(self);
        }
    }

    /// Says it, if anybody is there to hear it.
    pub(super) fn say(&mut self, message: &FromWorker) {
        self.raw(&frame::encode(&Frame { epoch: 0, id: 0, message }).unwrap());
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        if let Some(stream) = &mut self.stream {
            stream.write_all(bytes).ok();
        }
    }

    /// The next message; `None` when the runner is done with this worker.
    fn hear(&mut self) -> Option<ToWorker> {
        frame::read(self.stream.as_mut()?).ok().map(|frame| frame.message)
    }

    pub(super) fn ask(&mut self, call: Call) -> Option<Reply> {
        self.tell(&FromWorker::Host(Box::new(call)))?
    }

    /// Says it, and hears the reply where one is due; `None` when the runner is done with this worker.
    pub(super) fn tell(&mut self, message: &FromWorker) -> Option<Option<Reply>> {
        self.say(message);
        match message {
            FromWorker::Host(_) => match self.hear()? {
                ToWorker::Reply(reply) => Some(Some(*reply)),
                _ => None,
            },
            _ => Some(None),
        }
    }

    fn swallow(&mut self, size: u64) -> Option<()> {
        let mut got = 0;
        while got < size {
            let ToWorker::Chunk(piece) = self.hear()? else { return None };
            got += piece.0.len() as u64;
        }
        Some(())
    }

    /// The process ends.
    pub(super) fn die(&mut self) {
        self.stream = None;
    }

    /// Says nothing until it is killed.
    pub(super) fn wait(&mut self) {
        while self.hear().is_some() {}
    }

    /// Byte by byte, until it is killed.
    pub(super) fn drip(&mut self, bytes: &[u8]) {
        let Some(stream) = &mut self.stream else { return };
        for byte in bytes.iter().cycle() {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Over and over, reading nothing, until it is killed.
    pub(super) fn flood(&mut self, bytes: &[u8]) {
        let Some(stream) = &mut self.stream else { return };
        while stream.write_all(bytes).is_ok() {}
    }
}
