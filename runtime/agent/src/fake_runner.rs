//! For tests: the runner's end of `runner.sock`, with real frames on a real socket and the answers the test wants.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use theriac_model::catalog::Catalog;
use theriac_model::id::RunId;
use theriac_model::record::Proposal;
use theriac_protocol::frame::Frame;
use theriac_protocol::runner::{RunSummary, RunnerAnswer, RunnerEvent, RunnerNumbers, RunnerRequest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{broadcast, mpsc};
use tokio::task::{JoinHandle, JoinSet};

use crate::runner_link::{read, write};

/// Longer than anything a test waits for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A runner that dies when it is dropped.
pub(crate) struct FakeRunner {
    asked: mpsc::UnboundedReceiver<RunnerRequest>,
    events: broadcast::Sender<RunnerEvent>,
    /// What it answers to `Runs`.
    pub(crate) runs: Rc<RefCell<Vec<RunSummary>>>,
    /// What it answers to `LogTail`.
    pub(crate) log: Rc<RefCell<Vec<String>>>,
    task: JoinHandle<()>,
}

struct Shared {
    catalog: Catalog,
    asked: mpsc::UnboundedSender<RunnerRequest>,
    events: broadcast::Sender<RunnerEvent>,
    runs: Rc<RefCell<Vec<RunSummary>>>,
    log: Rc<RefCell<Vec<String>>>,
}

impl FakeRunner {
    /// Listens at the path, which an earlier one may have left.
    pub(crate) fn start(path: &Path, catalog: Catalog) -> Self {
        drop(std::fs::remove_file(path));
        let listener = UnixListener::bind(path).unwrap();
        let (sender, asked) = mpsc::unbounded_channel();
        let (events, _) = broadcast::channel(64);
        let (runs, log) = (Rc::default(), Rc::default());
        let answers = (Rc::clone(&runs), Rc::clone(&log));
        let shared = Shared { catalog, asked: sender, events: events.clone(), runs: answers.0, log: answers.1 };
        let shared = Rc::new(shared);
        let task = tokio::task::spawn_local(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn_local(converse(stream, Rc::clone(&shared)));
            }
        });
        Self { asked, events, runs, log, task }
    }

    /// The next request that fits; everything before it is passed over.
    pub(crate) async fn next<T>(&mut self, fits: impl Fn(&RunnerRequest) -> Option<T>) -> T {
        let wanted = async {
            loop {
                let request = self.asked.recv().await.expect("the runner lives");
                if let Some(found) = fits(&request) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wanted).await.expect("the agent asks")
    }

    /// The next proposal.
    pub(crate) async fn proposal(&mut self) -> Proposal {
        let proposal = |request: &RunnerRequest| {
            if let RunnerRequest::Propose(proposal) = request { Some((**proposal).clone()) } else { None }
        };
        self.next(proposal).await
    }

    /// Waits until the agent listens.
    pub(crate) async fn subscribed(&mut self) {
        self.next(|request| matches!(request, RunnerRequest::Subscribe).then_some(())).await;
    }

    /// Proposals that came besides those that were waited for.
    pub(crate) fn more_proposals(&mut self) -> usize {
        let waiting = std::iter::from_fn(|| self.asked.try_recv().ok());
        waiting.filter(|request| matches!(request, RunnerRequest::Propose(_))).count()
    }

    /// Tells every listener.
    pub(crate) fn tell(&self, event: RunnerEvent) {
        self.events.send(event).expect("somebody listens");
    }
}

impl Drop for FakeRunner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(mut stream: UnixStream, shared: Rc<Shared>) {
    while let Ok(Frame { id, message, .. }) = read::<RunnerRequest>(&mut stream).await {
        let mut events = shared.events.subscribe();
        let answer = match &message {
            RunnerRequest::Hello { .. } => RunnerAnswer::Hello { version: "0".into(), epoch: 1 },
            RunnerRequest::Catalog => RunnerAnswer::Catalog(Box::new(shared.catalog.clone())),
            RunnerRequest::Units => RunnerAnswer::Units(Vec::new()),
            RunnerRequest::Propose(proposal) => {
                RunnerAnswer::Accepted { run: RunId::parse(&format!("r-{}", proposal.rung)).unwrap() }
            }
            RunnerRequest::LogTail { .. } => RunnerAnswer::Lines(shared.log.borrow().clone()),
            RunnerRequest::Runs { .. } => RunnerAnswer::Runs(shared.runs.borrow().clone()),
            RunnerRequest::Subscribe | RunnerRequest::NotActing { .. } | RunnerRequest::IncidentEnded(_) => {
                RunnerAnswer::Noted
            }
            RunnerRequest::Numbers => RunnerAnswer::Numbers(RunnerNumbers::default()),
        };
        if write(&mut stream, &Frame { epoch: 1, id, message: answer }).await.is_err() {
            return;
        }
        let follows = matches!(message, RunnerRequest::Subscribe);
        drop(shared.asked.send(message));
        if follows {
            while let Ok(message) = events.recv().await {
                if write(&mut stream, &Frame { epoch: 1, id: 0, message }).await.is_err() {
                    return;
                }
            }
        }
    }
}
