//! The agent's two connections to the runner: one asks, one listens. Either is made again when it breaks, and what was missed
//! is asked for afresh.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use theriac_protocol::frame::{self, Frame, FrameError, HEADER_LEN};
use theriac_protocol::runner::{RunnerAnswer, RunnerEvent, RunnerRequest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, mpsc};

/// The runner answers from memory, or reserves a run with one fsync: more than this and it is stuck.
const ANSWER: Duration = Duration::from_secs(10);
/// Between two tries to connect.
const RETRY: Duration = Duration::from_millis(250);
/// Events the agent may be behind before the runner's own limit drops it.
const BACKLOG: usize = 256;

/// Why the runner could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// Not there, or it does not let us in.
    #[error("can't reach the runner at `{}`", path.display())]
    Connect {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// It broke off.
    #[error("the conversation with the runner broke")]
    Frame(#[from] FrameError),
    /// It did not answer.
    #[error("the runner did not answer within {} s", ANSWER.as_secs())]
    Late,
}

/// What the listening connection tells.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Connected (again): everything that was known may be old.
    Connected,
    /// Something happened.
    Event(Box<RunnerEvent>),
    /// The connection broke.
    Lost,
}

/// The asking connection.
#[derive(Debug)]
pub(crate) struct RunnerLink {
    path: PathBuf,
    stream: Mutex<Option<UnixStream>>,
}

impl RunnerLink {
    /// Connects when it is first asked.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, stream: Mutex::new(None) }
    }

    /// Another connection to the same runner, for a question whose answer may take longer than others can wait.
    pub(crate) fn another(&self) -> Self {
        Self::new(self.path.clone())
    }

    /// Asks, connecting first where needed. A request that broke off is not sent again: the caller knows whether that is right.
    pub(crate) async fn ask(&self, request: &RunnerRequest) -> Result<RunnerAnswer, LinkError> {
        let mut slot = self.stream.lock().await;
        let mut stream = match slot.take().filter(is_open) {
            Some(stream) => stream,
            None => connect(&self.path).await?,
        };
        let answer = tokio::time::timeout(ANSWER, exchange(&mut stream, 1, request)).await;
        let answer = answer.map_err(|_elapsed| LinkError::Late)??;
        *slot = Some(stream);
        Ok(answer)
    }
}

/// A connection that the runner has closed reads as ended. It never sends what was not asked for.
fn is_open(stream: &UnixStream) -> bool {
    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Listens for as long as somebody hears.
pub(crate) fn listen(path: PathBuf) -> mpsc::Receiver<Heard> {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    tokio::spawn(async move {
        while !sender.is_closed() {
            if let Err(error) = follow(&path, &sender).await {
                tracing::debug!(%error, "not listening to the runner");
            }
            if sender.send(Heard::Lost).await.is_err() {
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    });
    receiver
}

async fn follow(path: &Path, heard: &mpsc::Sender<Heard>) -> Result<(), LinkError> {
    let mut stream = connect(path).await?;
    exchange(&mut stream, 2, &RunnerRequest::Subscribe).await?;
    if heard.send(Heard::Connected).await.is_err() {
        return Ok(());
    }
    loop {
        let event: Frame<RunnerEvent> = read(&mut stream).await?;
        if heard.send(Heard::Event(Box::new(event.message))).await.is_err() {
            return Ok(());
        }
    }
}

async fn connect(path: &Path) -> Result<UnixStream, LinkError> {
    let mut stream =
        UnixStream::connect(path).await.map_err(|source| LinkError::Connect { path: path.to_owned(), source })?;
    let hello = RunnerRequest::Hello { version: env!("CARGO_PKG_VERSION").to_owned() };
    exchange(&mut stream, 0, &hello).await?;
    Ok(stream)
}

async fn exchange(stream: &mut UnixStream, id: u64, request: &RunnerRequest) -> Result<RunnerAnswer, FrameError> {
    write(stream, &Frame { epoch: 0, id, message: request }).await?;
    Ok(read(stream).await?.message)
}

/// Writes one frame.
pub(crate) async fn write<T: Serialize>(stream: &mut UnixStream, frame: &Frame<T>) -> Result<(), FrameError> {
    let bytes = frame::encode(frame)?;
    stream.write_all(&bytes).await.map_err(FrameError::Io)
}

/// Reads one frame; memory is taken only after the length was checked.
pub(crate) async fn read<T: DeserializeOwned>(stream: &mut UnixStream) -> Result<Frame<T>, FrameError> {
    let mut header = [0; HEADER_LEN];
    match stream.read_exact(&mut header).await {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Err(FrameError::Closed),
        Err(error) => return Err(FrameError::Io(error)),
    }
    let header = frame::decode_header(&header)?;
    let mut payload = vec![0; header.length as usize];
    stream.read_exact(&mut payload).await.map_err(FrameError::Io)?;
    Ok(Frame { epoch: header.epoch, id: header.id, message: frame::decode_payload(&payload)? })
}
