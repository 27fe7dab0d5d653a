//! One question to a neighbour process over its Unix socket, within a deadline.
//!
//! Each verb has a connection of its own: it costs some 50 µs, and there is no broken connection to notice, no lock to hold
//! while a stop takes 90 s, and no answer that could be taken for another question's. Health checks alone, asked each second, are
//! worth keeping one for.

use std::io::{self, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use theriac_protocol::frame::{self, Frame, FrameError};
use theriac_protocol::peer;

/// Neighbours answer a greeting at once or not at all.
const GREETING: Duration = Duration::from_secs(2);
/// A health answer or the state of a service or two is taken in with one read; what is longer passes the buffer by.
const ANSWER: usize = 1 << 10;

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// Nobody listens.
    #[error("nothing answers on `{path}`")]
    Connect {
        path: String,
        #[source]
        source: io::Error,
    },
    /// Somebody else listens.
    #[error("`{path}` belongs to uid {uid}, which is not trusted here")]
    Stranger { path: String, uid: u32 },
    /// The deadline passed; what was asked may have happened.
    #[error("no answer in time")]
    Timeout,
    /// The connection broke; what was asked may have happened.
    #[error("the connection broke")]
    Frame(#[source] FrameError),
    /// The neighbour refused the greeting, or answered something else than was asked.
    #[error("an answer that was not expected")]
    Unexpected,
}

/// Connections to one neighbour.
#[derive(Debug, Clone)]
pub struct Neighbour {
    path: std::path::PathBuf,
    epoch: u64,
    /// Whom the socket may belong to, besides root and this process' own user.
    uid: Option<u32>,
}

impl Neighbour {
    /// A neighbour at a socket, spoken to with the runner's fencing epoch.
    pub fn new(path: &Path, epoch: u64) -> Self {
        Self { path: path.to_owned(), epoch, uid: None }
    }

    /// The neighbour runs as this user.
    #[must_use]
    pub fn run_by(self, uid: u32) -> Self {
        Self { uid: Some(uid), ..self }
    }

    /// Connects, checks who listens, and says `hello`; the answer to it comes back for the caller to check.
    pub(crate) fn connect<Q: Serialize, A: DeserializeOwned>(&self, hello: Q) -> Result<(Line, A), ExchangeError> {
        let path = || self.path.display().to_string();
        let stream =
            UnixStream::connect(&self.path).map_err(|source| ExchangeError::Connect { path: path(), source })?;
        let listener = peer::of(&stream).map_err(|source| ExchangeError::Connect { path: path(), source })?;
        let own = rustix::process::geteuid().as_raw();
        if listener.uid != 0 && listener.uid != own && Some(listener.uid) != self.uid {
            return Err(ExchangeError::Stranger { path: path(), uid: listener.uid });
        }
        let timed = Timed::new(stream);
        let mut line = Line { stream: BufReader::with_capacity(ANSWER, timed), epoch: self.epoch };
        let answer = line.ask(1, hello, GREETING)?;
        Ok((line, answer))
    }
}

/// An open connection whose reads and writes all end at one deadline.
#[derive(Debug)]
pub(crate) struct Line {
    stream: BufReader<Timed>,
    epoch: u64,
}

impl Line {
    /// Sends the question and reads until the frame with its id.
    pub(crate) fn ask<Q: Serialize, A: DeserializeOwned>(
        &mut self,
        id: u64,
        question: Q,
        timeout: Duration,
    ) -> Result<A, ExchangeError> {
        let frame = Frame { epoch: self.epoch, id, message: question };
        let timed = self.stream.get_mut();
        timed.deadline = Some(Instant::now() + timeout);
        frame::write(timed, &frame).map_err(classify)?;
        loop {
            let answer: Frame<A> = frame::read(&mut self.stream).map_err(classify)?;
            if answer.id == id {
                return Ok(answer.message);
            }
        }
    }

    /// The next event, however long it takes.
    pub(crate) fn next_event<A: DeserializeOwned>(&mut self) -> Result<A, ExchangeError> {
        self.stream.get_mut().deadline = None;
        frame::read(&mut self.stream).map(|frame: Frame<A>| frame.message).map_err(classify)
    }
}

/// A stream whose every read and write ends at the deadline, however little the peer sends or takes at once.
#[derive(Debug)]
pub(crate) struct Timed {
    stream: UnixStream,
    pub(crate) deadline: Option<Instant>,
}

impl Timed {
    pub(crate) const fn new(stream: UnixStream) -> Self {
        Self { stream, deadline: None }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let Some(deadline) = self.deadline else { return Ok(None) };
        let left = deadline.saturating_duration_since(Instant::now());
        // The kernel takes zero for "no timeout".
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn classify(error: FrameError) -> ExchangeError {
    match error {
        FrameError::Io(source) if matches!(source.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            ExchangeError::Timeout
        }
        error @ (FrameError::Io(_)
        | FrameError::Closed
        | FrameError::Magic
        | FrameError::Version { .. }
        | FrameError::TooLong { .. }
        | FrameError::Message(_)) => ExchangeError::Frame(error),
    }
}

/// An error and what caused it, in one line: the sentence an outcome keeps.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut sentence = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        sentence = format!("{sentence}: {cause}");
        source = cause.source();
    }
    sentence
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn neighbour(behaviour: impl FnOnce(UnixStream) + Send + 'static) -> (tempfile::TempDir, Neighbour) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n.sock");
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || behaviour(listener.accept().unwrap().0));
        let neighbour = Neighbour::new(&path, 7);
        (dir, neighbour)
    }

    fn greet(neighbour: &Neighbour) -> Result<String, ExchangeError> {
        neighbour.connect::<_, String>("hello").map(|(_, answer)| answer)
    }

    #[test]
    fn an_answer_is_told_from_events_by_its_id_and_carries_the_epoch() {
        let (_dir, neighbour) = neighbour(|mut stream| {
            let asked: Frame<String> = frame::read(&mut stream).unwrap();
            assert_eq!((asked.epoch, asked.message.as_str()), (7, "hello"));
            for (id, message) in [(0, "event"), (asked.id, "answer")] {
                frame::write(&mut stream, &Frame { epoch: 7, id, message }).unwrap();
            }
        });
        assert_eq!(greet(&neighbour).unwrap(), "answer");
    }

    #[test]
    fn a_neighbour_that_drips_a_frame_ends_with_the_deadline_and_not_with_each_byte() {
        let (_dir, neighbour) = neighbour(|mut stream| {
            let frame = frame::encode(&Frame { epoch: 7, id: 1, message: "answer" }).unwrap();
            for byte in frame.chunks(1) {
                std::thread::sleep(Duration::from_millis(150));
                if stream.write_all(byte).is_err() {
                    return;
                }
            }
        });
        let started = Instant::now();
        assert!(matches!(greet(&neighbour), Err(ExchangeError::Timeout)));
        assert!(started.elapsed() < GREETING * 3, "{:?}", started.elapsed());
    }

    #[test]
    fn nobody_there_and_hanging_up_are_told_apart() {
        let (_dir, neighbour) = neighbour(drop);
        assert!(matches!(greet(&neighbour), Err(ExchangeError::Frame(_))));
        let absent = Neighbour::new(Path::new("/nonexistent/n.sock"), 1);
        assert!(matches!(greet(&absent), Err(ExchangeError::Connect { .. })));
    }
}
