//! The engine's verbs that this courier knows: which container it is, a change of it, its output.

use std::cell::Cell;
use std::fs;
use std::time::Duration;

use hyper::Method;
use jiff::Timestamp;
use theriac_model::container::{
    ContainerId, ContainerLabel, ContainerName, ContainerRef, ContainerSelector, ContainerVerb, Incarnation,
};
use theriac_model::target::MountPath;
use theriac_protocol::docker::{DockerAnswer, MAX_LINES};
use tokio::time::Instant;

use super::output;
use super::reading::{self, Description};
use super::transport::{self, Answer, TransportError};

/// A look takes milliseconds. The runner waits longer than this for all that one errand looks at.
const LOOK: Duration = Duration::from_secs(2);
/// How long an engine may take to clean up after a stop, and how often it is asked.
const SETTLED: Duration = Duration::from_secs(3);
/// See [`SETTLED`].
const AGAIN: Duration = Duration::from_millis(50);
/// An inspection is 10 KB, and a list of a hundred containers 200 KB.
pub(super) const LONGEST_ANSWER: usize = 1 << 20;
/// 200 lines of 10 KB. With each request at its longest, and a copy of it, the courier stays within its unit's memory.
const LONGEST_OUTPUT: usize = 2 << 20;
/// Headers and some: what is said there is not read.
pub(super) const LONGEST_NOTHING: usize = 64 << 10;
/// How much of a sentence of the engine's is passed on, in characters.
const SENTENCE: usize = 300;
/// The newest minor version of protocol 1 that this was written against; none of the eight requests changed since 1.24.
const NEWEST: u16 = 47;

/// The engine behind one socket.
#[derive(Debug)]
pub(super) struct Engine {
    socket: MountPath,
    /// This process' group is the socket's.
    group_is_right: bool,
    /// The minor version that both speak.
    version: Cell<Option<u16>>,
    /// `/proc/self/cgroup` and `/proc/self/mountinfo`, read before the seal: which container this process runs in.
    around: [String; 2],
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// No connection.
    Unreachable(String),
    /// There is no such container or image.
    Absent(String),
    /// It said no, or nothing that can be understood.
    Failed(String),
    /// It was asked, and nobody knows what came of it.
    Lost(String),
}

impl Fault {
    /// Of a request that only looks: nothing is lost with it.
    pub(super) fn of_look(self) -> DockerAnswer {
        match self {
            Self::Unreachable(reason) => DockerAnswer::Unreachable(reason),
            Self::Absent(reason) => DockerAnswer::Stale(reason),
            Self::Failed(reason) | Self::Lost(reason) => DockerAnswer::Failed(reason),
        }
    }
}

/// A name or a label, looked up.
enum Found {
    One(Box<Description>),
    Several(usize),
}

impl Engine {
    pub(super) fn new(socket: MountPath, group_is_right: bool) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let around = ["/proc/self/cgroup", "/proc/self/mountinfo"].map(read);
        Self { socket, group_is_right, version: Cell::new(None), around }
    }

    pub(super) async fn find(&self, selector: &ContainerSelector) -> DockerAnswer {
        let found = match selector {
            ContainerSelector::Name(name) => self.named(name).await,
            ContainerSelector::Label(label) => self.labelled(label).await,
        };
        match found {
            Ok(Found::One(found)) => DockerAnswer::Container(found.state),
            Ok(Found::Several(number)) => DockerAnswer::Ambiguous(format!("{number} containers answer to {selector}")),
            Err(fault) => fault.of_look(),
        }
    }

    pub(super) async fn change(&self, meant: &ContainerRef, verb: ContainerVerb, timeout: Duration) -> DockerAnswer {
        let [cgroup, mountinfo] = &self.around;
        if meant.id.is_around(cgroup, mountinfo) {
            return DockerAnswer::Refused("Theriac itself runs in that container".to_owned());
        }
        match self.by_id(&meant.id).await {
            Ok(now) if meant.is(&now.state) => {}
            Ok(now) => {
                let started = if now.state.started.is_empty() { "never" } else { &now.state.started };
                return DockerAnswer::Stale(format!("{} was last started {started}", meant.id.short()));
            }
            Err(fault) => return fault.of_look(),
        }
        let until = Instant::now() + timeout;
        match self.post(&meant.id, verb, timeout).await {
            Ok(()) => {}
            Err(Fault::Lost(reason)) => return DockerAnswer::Lost(reason),
            Err(fault @ (Fault::Unreachable(_) | Fault::Absent(_) | Fault::Failed(_))) => return fault.of_look(),
        }
        let after = match verb {
            ContainerVerb::Start | ContainerVerb::Restart => self.by_id(&meant.id).await,
            ContainerVerb::Stop => self.down(meant, until).await,
        };
        match after {
            Ok(after) => DockerAnswer::Container(after.state),
            Err(_) => DockerAnswer::Lost("it was done, and can't be looked at afterwards".to_owned()),
        }
    }

    /// How it is after a stop. podman answers before it has cleaned up, and until then its word is the same as between two restarts
    /// of a loop. A stop that meets such a restart is lost, and is said again until the loop has ended or the time is over.
    async fn down(&self, meant: &ContainerRef, until: Instant) -> Result<Description, Fault> {
        let deadline = until.max(Instant::now() + SETTLED);
        let in_loop = matches!(meant.incarnation, Incarnation::InLoop { .. });
        loop {
            let now = self.by_id(&meant.id).await?;
            let settled = !now.state.is_up() && !now.state.will_restart();
            if settled || Instant::now() >= deadline {
                return Ok(now);
            }
            if in_loop && meant.is(&now.state) {
                self.post(&meant.id, ContainerVerb::Stop, deadline - Instant::now()).await?;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    pub(super) async fn log_tail(&self, id: &ContainerId, lines: u32) -> DockerAnswer {
        let lines = lines.min(MAX_LINES);
        let told = async {
            let tty = self.by_id(id).await?.tty;
            let target = format!("/containers/{}/logs?stdout=1&stderr=1&tail={lines}", id.as_str());
            let answer = self.get(&target, LONGEST_OUTPUT).await?;
            Ok(output::lines(&answer.body, tty, lines as usize))
        };
        told.await.map_or_else(Fault::of_look, DockerAnswer::Lines)
    }

    /// By its full id: whatever has its name by now is not touched.
    async fn post(&self, id: &ContainerId, verb: ContainerVerb, timeout: Duration) -> Result<(), Fault> {
        let target = format!("/containers/{}/{}", id.as_str(), verb.as_str());
        let answer = self.ask(Method::POST, &target, timeout, LONGEST_NOTHING).await?;
        match answer.status {
            // 304: it is so already.
            200..=299 | 304 => Ok(()),
            // It may have come half-way, and does not say.
            500..=599 => Err(Fault::Lost(no(&answer))),
            404 => Err(Fault::Absent(no(&answer))),
            _ => Err(Fault::Failed(no(&answer))),
        }
    }

    /// Engines take a name for the beginning of an id, too, when no container has it.
    async fn named(&self, name: &ContainerName) -> Result<Found, Fault> {
        let found = self.inspect(name.as_str()).await?;
        if found.state.name == *name {
            Ok(Found::One(Box::new(found)))
        } else {
            Err(Fault::Absent(format!("no container is called {name}")))
        }
    }

    async fn by_id(&self, id: &ContainerId) -> Result<Description, Fault> {
        let found = self.inspect(id.as_str()).await?;
        // A container can be called like another one's id.
        if found.state.id == *id {
            Ok(found)
        } else {
            Err(Fault::Absent(format!("no container has the id {}", id.short())))
        }
    }

    async fn labelled(&self, label: &ContainerLabel) -> Result<Found, Fault> {
        let absent = || Fault::Absent(format!("no container has the label {label}"));
        // Letters, digits, `.`, `_`, `-`, `/`, `:` and `=` are all that is in it: in JSON they stand for themselves.
        let target = format!("/containers/json?all=1&filters=%7B%22label%22%3A%5B%22{}%22%5D%7D", encoded(label));
        let ids = self.get(&target, LONGEST_ANSWER).await.and_then(|answer| readable(reading::ids(&answer.body)))?;
        let found = match ids.as_slice() {
            [] => return Err(absent()),
            [id] => self.by_id(id).await?,
            several => return Ok(Found::Several(several.len())),
        };
        // What a filter means is the engine's to say; what a label is, is not.
        if found.has_label(label.key(), label.value()) { Ok(Found::One(Box::new(found))) } else { Err(absent()) }
    }

    async fn inspect(&self, which: &str) -> Result<Description, Fault> {
        let answer = self.get(&format!("/containers/{which}/json"), LONGEST_ANSWER).await?;
        readable(reading::description(&answer.body, Timestamp::now()))
    }

    /// A request that only looks, and its answer if that is a yes.
    pub(super) async fn get(&self, target: &str, longest: usize) -> Result<Answer, Fault> {
        let answer = self.ask(Method::GET, target, LOOK, longest).await?;
        match answer.status {
            200..=299 => Ok(answer),
            404 => Err(Fault::Absent(no(&answer))),
            _ => {
                self.version.set(None);
                Err(Fault::Failed(no(&answer)))
            }
        }
    }

    pub(super) async fn ask(
        &self,
        method: Method,
        target: &str,
        timeout: Duration,
        longest: usize,
    ) -> Result<Answer, Fault> {
        let version = self.version().await?;
        self.send(method, &format!("/v1.{version}{target}"), timeout, longest).await
    }

    /// The version that both speak: asked once, and again after an error, because engines are upgraded.
    async fn version(&self) -> Result<u16, Fault> {
        if let Some(known) = self.version.get() {
            return Ok(known);
        }
        let asked = self.send(Method::GET, "/_ping", LOOK, LONGEST_NOTHING).await;
        let answer = asked.map_err(|fault| match fault {
            // Nothing was asked for yet.
            Fault::Lost(reason) => Fault::Failed(reason),
            fault @ (Fault::Unreachable(_) | Fault::Absent(_) | Fault::Failed(_)) => fault,
        })?;
        let minor = answer.api_version.as_deref().and_then(|version| version.strip_prefix("1.")?.parse::<u16>().ok());
        let Some(minor) = minor.filter(|_| answer.status == 200) else {
            return Err(Fault::Failed("what listens there is no container engine".to_owned()));
        };
        let both = minor.min(NEWEST);
        self.version.set(Some(both));
        Ok(both)
    }

    async fn send(&self, method: Method, target: &str, timeout: Duration, longest: usize) -> Result<Answer, Fault> {
        let asked = tokio::time::timeout(timeout, transport::ask(self.socket.as_str(), method, target, longest)).await;
        match asked {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.fault(&error)),
            Err(_elapsed) => {
                self.version.set(None);
                Err(Fault::Lost(format!("no whole answer of the engine within {} ms", timeout.as_millis())))
            }
        }
    }

    fn fault(&self, error: &TransportError) -> Fault {
        self.version.set(None);
        if error.is_denied() && !self.group_is_right {
            // The socket came after us, and its group with it: started again, this process becomes a member.
            tracing::error!(
                "the engine's socket belongs to another group than this process: ending, to be started again"
            );
            std::process::exit(1);
        }
        let reason = format!("{}: {}", self.socket, sentence(&chain(error)));
        if error.was_sent() { Fault::Lost(reason) } else { Fault::Unreachable(reason) }
    }
}

pub(super) fn readable<T>(read: Result<T, reading::ReadingError>) -> Result<T, Fault> {
    read.map_err(|error| Fault::Failed(format!("the engine's answer can't be used: {}", sentence(&chain(&error)))))
}

/// The engine's no.
pub(super) fn no(answer: &Answer) -> String {
    format!("the engine answered with {}: {}", answer.status, sentence(&reading::refusal(&answer.body)))
}

/// A label as a part of a query.
fn encoded(label: &ContainerLabel) -> String {
    label.to_string().replace('/', "%2F").replace(':', "%3A").replace('=', "%3D")
}

/// A sentence of somebody else's: one line, and not too long.
fn sentence(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SENTENCE).collect()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
