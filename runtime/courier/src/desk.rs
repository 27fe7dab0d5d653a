//! A courier's socket, whatever it is a courier of: peers are checked, frames bounded, epochs fenced, and answers may overtake each
//! other. What is asked and answered is the [`Errands`]' business.

use std::cell::RefCell;
use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use theriac_protocol::fence::{Fence, FenceError, Lead};
use theriac_protocol::frame::{self, Frame, FrameError, HEADER_LEN};
use theriac_protocol::layout::{Layout, ListenError, Socket};
use theriac_protocol::peer;
use theriac_protocol::process::{Identity, drop_privileges};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::LocalSet;

use crate::notify::Notifier;
use crate::seal::{self, Reaches, SealError};

/// The runner keeps a few and makes another for each errand beyond them.
const MAX_CONNECTIONS: usize = 300;
/// A frame that has begun must end; between frames a peer may be silent.
const FRAME_TIME: Duration = Duration::from_secs(5);
/// After a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the courier could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The directory of its socket.
    #[error("`{}` can't be used", path.display())]
    State {
        path: std::path::PathBuf,
        #[source]
        source: io::Error,
    },
    /// Its walls.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A system call without which it can't start.
    #[error("{what} failed")]
    System {
        what: &'static str,
        #[source]
        source: io::Error,
    },
}

/// What one kind of courier does. One thread, so neither it nor its futures are `Send`.
pub(crate) trait Errands: 'static {
    /// What it is asked.
    type Request: DeserializeOwned + 'static;
    /// What it answers.
    type Answer: Serialize + 'static;
    /// What a connection remembers from one request to the next; gone when it closes and its last errand is done.
    type Visit: Default + 'static;
    /// Where it is asked.
    const SOCKET: Socket;
    /// The longest request, in bytes.
    const MAX_REQUEST: u32;

    /// The sockets it makes once it is sealed.
    fn reaches(&self) -> Vec<Reaches>;
    /// The greeting that brings an epoch in.
    fn is_hello(request: &Self::Request) -> bool;
    /// The answer to it.
    fn hello(&self, version: String) -> Self::Answer;
    /// No, in one sentence.
    fn refused(reason: String) -> Self::Answer;
    /// What it does by itself, once it is sealed.
    fn begin(&self) {}
    /// Anything but a greeting.
    fn run(&self, visit: &Self::Visit, request: Self::Request) -> impl Future<Output = Self::Answer>;
}

/// Everything the connections share.
struct Desk<E> {
    errands: E,
    fence: RefCell<Fence>,
}

/// Listens, drops the user, seals itself and serves until it is killed. Must be called while the process has one thread.
pub(crate) fn open<E: Errands>(errands: E, layout: &Layout, identity: Option<Identity>) -> Result<(), StartError> {
    let system = |what| move |source| StartError::System { what, source };
    let directory = layout.state.join("run");
    std::fs::create_dir_all(&directory).map_err(|source| StartError::State { path: directory, source })?;
    let listener = layout.listen(E::SOCKET, 0o600)?;
    listener.set_nonblocking(true).map_err(system("O_NONBLOCK"))?;
    let notifier = Notifier::connect().map_err(system("sd_notify"))?;
    // Whom it becomes below is nobody's runner.
    let fence = Fence::of_starter();
    drop_privileges(identity).map_err(system("dropping privileges"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(system("the event loop"))?;
    seal::seal(&errands.reaches())?;
    let desk = Desk { errands, fence: RefCell::new(fence) };
    LocalSet::new().block_on(&runtime, serve(desk, listener, notifier)).map_err(system("accept"))
}

async fn serve<E: Errands>(desk: Desk<E>, listener: StdListener, notifier: Notifier) -> io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let desk = Rc::new(desk);
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    desk.errands.begin();
    notifier.say("READY=1");
    tracing::info!(socket = E::SOCKET.file_name(), "the courier is ready");
    if let Some(every) = notifier.every {
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(every).await;
                notifier.say("WATCHDOG=1");
            }
        });
    }
    loop {
        // Taken before the connection is: the rest wait in the kernel's queue.
        let Ok(place) = Arc::clone(&connections).acquire_owned().await else { return Ok(()) };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: the errands that run will give some back.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let desk = Rc::clone(&desk);
        tokio::task::spawn_local(async move {
            if let Err(error) = converse(stream, &desk).await {
                tracing::warn!(%error, "a connection was dropped");
            }
            drop(place);
        });
    }
}

async fn converse<E: Errands>(stream: UnixStream, desk: &Rc<Desk<E>>) -> Result<(), FrameError> {
    let stream = stream.into_std().map_err(FrameError::Io)?;
    let peer = peer::of(&stream).map_err(FrameError::Io)?;
    if !desk.fence.borrow().admits(&peer) {
        tracing::warn!(uid = peer.uid, pid = peer.pid, "a peer was refused");
        return Ok(());
    }
    let (mut reader, writer) = UnixStream::from_std(stream).map_err(FrameError::Io)?.into_split();
    let writer = Rc::new(Mutex::new(writer));
    let visit = Rc::new(E::Visit::default());
    let mut lead = None;
    while let Some(Frame { epoch, id, message }) = read::<E::Request>(&mut reader, E::MAX_REQUEST).await? {
        if let Err(refusal) = desk.pass(&mut lead, epoch, &message) {
            let highest = desk.fence.borrow().epoch();
            send(&writer, highest, id, E::refused(refusal.to_string())).await?;
            continue;
        }
        if E::is_hello(&message) {
            send(&writer, epoch, id, desk.errands.hello(env!("CARGO_PKG_VERSION").to_owned())).await?;
            continue;
        }
        let (desk, visit, writer) = (Rc::clone(desk), Rc::clone(&visit), Rc::clone(&writer));
        // Answers may overtake each other: a slow errand holds up no other.
        tokio::task::spawn_local(async move {
            let answer = desk.errands.run(&visit, message).await;
            if let Err(error) = send(&writer, epoch, id, answer).await {
                tracing::debug!(%error, "nobody waits for the answer any more");
            }
        });
    }
    Ok(())
}

impl<E: Errands> Desk<E> {
    fn pass(&self, lead: &mut Option<Lead>, epoch: u64, message: &E::Request) -> Result<(), FenceError> {
        let mut fence = self.fence.borrow_mut();
        if E::is_hello(message) {
            *lead = Some(fence.greet(epoch)?);
        }
        fence.check(*lead, epoch)
    }
}

/// The next frame; `None` when the peer has closed between two.
async fn read<Q: DeserializeOwned>(reader: &mut OwnedReadHalf, longest: u32) -> Result<Option<Frame<Q>>, FrameError> {
    let mut first = [0];
    if reader.read(&mut first).await.map_err(FrameError::Io)? == 0 {
        return Ok(None);
    }
    let whole = async {
        let mut bytes = [0; HEADER_LEN];
        let (start, rest) = bytes.split_at_mut(first.len());
        start.copy_from_slice(&first);
        reader.read_exact(rest).await.map_err(FrameError::Io)?;
        let header = frame::decode_header(&bytes)?;
        if header.length > longest {
            return Err(FrameError::TooLong { length: u64::from(header.length) });
        }
        let mut payload = vec![0; header.length as usize];
        reader.read_exact(&mut payload).await.map_err(FrameError::Io)?;
        Ok(Some(Frame { epoch: header.epoch, id: header.id, message: frame::decode_payload(&payload)? }))
    };
    tokio::time::timeout(FRAME_TIME, whole)
        .await
        .unwrap_or_else(|_elapsed| Err(FrameError::Io(io::ErrorKind::TimedOut.into())))
}

async fn send<A: Serialize>(writer: &Mutex<OwnedWriteHalf>, epoch: u64, id: u64, message: A) -> Result<(), FrameError> {
    let bytes = frame::encode(&Frame { epoch, id, message })?;
    let mut writer = writer.lock().await;
    let written = tokio::time::timeout(FRAME_TIME, writer.write_all(&bytes)).await;
    written.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into())).map_err(FrameError::Io)
}
