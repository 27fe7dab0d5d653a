//! Questions to the runner and the agent over their sockets, each with a deadline.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use theriac_model::unit::UnitState;
use theriac_protocol::agent::{AgentAnswer, AgentRequest};
use theriac_protocol::frame::{self, Frame, FrameError};
use theriac_protocol::layout::{Layout, Socket};
use theriac_protocol::operator::{OperatorAnswer, OperatorRequest};
use theriac_protocol::runner::{RunnerAnswer, RunnerRequest};

use crate::failure::{Failure, chain};
use crate::text::outside;

/// Everything but a dry run is answered from memory.
const PATIENCE: Duration = Duration::from_secs(10);
/// A dry run may measure, compile and wait for slow log reads.
const DRY_RUN: Duration = Duration::from_secs(120);

/// Asks the runner. A no is a [`Failure`].
pub fn operator(layout: &Layout, request: &OperatorRequest) -> Result<OperatorAnswer, Failure> {
    let patience = if matches!(request, OperatorRequest::DryRun { .. }) { DRY_RUN } else { PATIENCE };
    let answer = Line::open(layout, Socket::Operator, "runner", patience)?.ask(request)?;
    if let OperatorAnswer::Refused(why) = answer { Err(Failure::refused(outside(&why))) } else { Ok(answer) }
}

/// Asks the agent. A no is a [`Failure`].
pub fn agent(layout: &Layout, request: &AgentRequest) -> Result<AgentAnswer, Failure> {
    let answer = Line::open(layout, Socket::Agent, "agent", PATIENCE)?.ask(request)?;
    if let AgentAnswer::Refused(why) = answer { Err(Failure::refused(outside(&why))) } else { Ok(answer) }
}

/// The units as the runner saw them last.
pub fn units(layout: &Layout) -> Result<Vec<UnitState>, Failure> {
    let mut line = Line::open(layout, Socket::Runner, "runner", PATIENCE)?;
    let hello = RunnerRequest::Hello { version: env!("CARGO_PKG_VERSION").to_owned() };
    let RunnerAnswer::Hello { .. } = line.ask(&hello)? else { return Err(unexpected("runner")) };
    let RunnerAnswer::Units(units) = line.ask(&RunnerRequest::Units)? else { return Err(unexpected("runner")) };
    Ok(units)
}

/// An answer to another question: the processes are of different versions.
pub fn unexpected(who: &str) -> Failure {
    Failure::failed(format!("the {who} answered something else than was asked"))
        .hint("install all binaries from one package, and restart")
}

/// One connection.
struct Line {
    stream: UnixStream,
    who: &'static str,
    next: u64,
}

impl Line {
    fn open(layout: &Layout, socket: Socket, who: &'static str, patience: Duration) -> Result<Self, Failure> {
        let path = layout.socket(socket);
        let failed = |error: io::Error| {
            if error.kind() == io::ErrorKind::PermissionDenied {
                return stranger(who);
            }
            if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
                return Failure::not_running(format!("can't connect to `{}`: {error}", path.display()));
            }
            Failure::not_running(format!("the {who} is not running (nobody listens on `{}`)", path.display())).hint(
                "start it with `theriac up` or `systemctl start theriac-runner theriac-agent`, or name its --state directory",
            )
        };
        let stream = UnixStream::connect(&path).map_err(failed)?;
        let timeouts = stream.set_read_timeout(Some(patience)).and_then(|()| stream.set_write_timeout(Some(patience)));
        timeouts.map_err(|error| Failure::failed(format!("can't set a deadline: {error}")))?;
        Ok(Self { stream, who, next: 1 })
    }

    fn ask<Q: Serialize, A: DeserializeOwned>(&mut self, question: &Q) -> Result<A, Failure> {
        let id = self.next;
        self.next += 1;
        let who = self.who;
        let failed = |error: FrameError| match error {
            // Whoever may not ask is hung up on without a word.
            FrameError::Closed => stranger(who),
            FrameError::Io(source) if is_hang_up(&source) => stranger(who),
            FrameError::Io(source) if matches!(source.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Failure::not_running(format!("the {who} did not answer in time"))
            }
            other @ (FrameError::Io(_)
            | FrameError::Magic
            | FrameError::Version { .. }
            | FrameError::TooLong { .. }
            | FrameError::Message(_)) => Failure::failed(format!("talking to the {who}: {}", chain(&other))),
        };
        frame::write(&mut self.stream, &Frame { epoch: 0, id, message: question }).map_err(failed)?;
        loop {
            let answer: Frame<A> = frame::read(&mut self.stream).map_err(failed)?;
            if answer.id == id {
                return Ok(answer.message);
            }
        }
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn stranger(who: &str) -> Failure {
    let uid = rustix::process::geteuid().as_raw();
    Failure::not_running(format!("the {who} does not answer uid {uid}"))
        .hint("ask as root, or as the user who started `theriac up`")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::exit::Exit;

    fn layout() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("run")).unwrap();
        let layout = Layout { config: dir.path().to_owned(), state: dir.path().to_owned() };
        (dir, layout)
    }

    /// Listens on the operator's socket and treats one connection so.
    fn runner(layout: &Layout, treat: impl FnOnce(UnixStream) + Send + 'static) {
        let listener = UnixListener::bind(layout.socket(Socket::Operator)).unwrap();
        std::thread::spawn(move || treat(listener.accept().unwrap().0));
    }

    #[test]
    fn a_runner_that_is_not_there_is_exit_4_with_a_hint() {
        let (_dir, layout) = layout();
        let failure = operator(&layout, &OperatorRequest::Numbers).unwrap_err();
        assert_eq!(failure.exit(), Exit::NotRunning);
        assert!(failure.to_string().starts_with("the runner is not running"), "{failure}");
        assert!(failure.advice().unwrap().contains("theriac up"));
    }

    #[test]
    fn a_refusal_is_exit_3_and_its_text_is_escaped_and_an_answer_is_one() {
        for (answer, exit) in
            [(OperatorAnswer::Refused("no \u{1b}[31m".into()), Some(Exit::Refused)), (OperatorAnswer::Done, None)]
        {
            let (_dir, layout) = layout();
            runner(&layout, move |mut stream| {
                let asked: Frame<OperatorRequest> = frame::read(&mut stream).unwrap();
                frame::write(&mut stream, &Frame { epoch: 1, id: asked.id, message: answer }).unwrap();
            });
            match operator(&layout, &OperatorRequest::Reload) {
                Ok(answer) => assert_eq!((answer, exit), (OperatorAnswer::Done, None)),
                Err(failure) => {
                    assert_eq!(Some(failure.exit()), exit);
                    assert!(!failure.to_string().contains('\u{1b}'));
                }
            }
        }
    }

    #[test]
    fn a_runner_that_hangs_up_does_not_know_this_user() {
        let (_dir, layout) = layout();
        runner(&layout, drop);
        let failure = operator(&layout, &OperatorRequest::Reload).unwrap_err();
        assert_eq!(failure.exit(), Exit::NotRunning);
        assert!(failure.to_string().contains("does not answer uid"), "{failure}");
    }
}
