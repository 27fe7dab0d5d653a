//! The courier's socket: peers are checked, frames bounded, epochs fenced, and no more than so many checks run at once.

use std::cell::RefCell;
use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use theriac_model::health::HealthCheck;
use theriac_model::http::HttpRequest;
use theriac_model::time::Span;
use theriac_protocol::courier::{CourierAnswer, CourierRequest};
use theriac_protocol::fence::{Fence, FenceError, Lead};
use theriac_protocol::frame::{self, Frame, FrameError, HEADER_LEN};
use theriac_protocol::layout::{Layout, ListenError, Socket};
use theriac_protocol::peer;
use theriac_protocol::process::{Identity, drop_privileges};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};
use tokio::task::LocalSet;

use crate::check::{self, MAX_TIMEOUT};
use crate::config::CourierConfig;
use crate::names::Names;
use crate::notify::Notifier;
use crate::request;
use crate::seal::{self, SealError};

/// The longest request holds a body of 256 KiB in base64.
const MAX_REQUEST: u32 = 512 << 10;
/// The runner keeps a few and makes another for each check beyond them.
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

/// Everything the connections share; one thread, so no lock.
struct Desk {
    config: CourierConfig,
    names: Names,
    slots: Arc<Semaphore>,
    fence: RefCell<Fence>,
}

/// Listens, drops the user, seals itself and serves until it is killed. Must be called while the process has one thread.
pub fn run(config: CourierConfig, layout: &Layout, identity: Option<Identity>) -> Result<(), StartError> {
    let system = |what| move |source| StartError::System { what, source };
    let directory = layout.state.join("run");
    std::fs::create_dir_all(&directory).map_err(|source| StartError::State { path: directory, source })?;
    let listener = layout.listen(Socket::CourierNet, 0o600)?;
    listener.set_nonblocking(true).map_err(system("O_NONBLOCK"))?;
    let notifier = Notifier::connect().map_err(system("sd_notify"))?;
    // Whom it becomes below is nobody's runner.
    let fence = Fence::of_starter();
    drop_privileges(identity).map_err(system("dropping privileges"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(system("the event loop"))?;
    let names = Names::of_this_machine();
    seal::seal()?;
    LocalSet::new().block_on(&runtime, serve(config, names, listener, notifier, fence)).map_err(system("accept"))
}

async fn serve(
    config: CourierConfig,
    names: Names,
    listener: StdListener,
    notifier: Notifier,
    fence: Fence,
) -> io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let desk = Rc::new(Desk {
        slots: Arc::new(Semaphore::new(usize::from(config.max_checks))),
        config,
        names,
        fence: RefCell::new(fence),
    });
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    notifier.say("READY=1");
    tracing::info!("the net courier is ready");
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
                // Out of descriptors, most likely: the checks that run will give some back.
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

async fn converse(stream: UnixStream, desk: &Rc<Desk>) -> Result<(), FrameError> {
    let stream = stream.into_std().map_err(FrameError::Io)?;
    let peer = peer::of(&stream).map_err(FrameError::Io)?;
    if !desk.fence.borrow().admits(&peer) {
        tracing::warn!(uid = peer.uid, pid = peer.pid, "a peer was refused");
        return Ok(());
    }
    let (mut reader, writer) = UnixStream::from_std(stream).map_err(FrameError::Io)?.into_split();
    let writer = Rc::new(Mutex::new(writer));
    let mut lead = None;
    while let Some(Frame { epoch, id, message }) = read(&mut reader).await? {
        if let Err(refusal) = desk.pass(&mut lead, epoch, &message) {
            let highest = desk.fence.borrow().epoch();
            send(&writer, highest, id, CourierAnswer::Refused(refusal.to_string())).await?;
            continue;
        }
        match message {
            CourierRequest::Hello { version: _ } => {
                let version = env!("CARGO_PKG_VERSION").to_owned();
                send(&writer, epoch, id, CourierAnswer::Hello { version }).await?;
            }
            CourierRequest::Check(check) => {
                let desk = Rc::clone(desk);
                reply(&writer, epoch, id, async move { desk.check(&check).await });
            }
            CourierRequest::Send(request) => {
                let desk = Rc::clone(desk);
                reply(&writer, epoch, id, async move { desk.send(&request).await });
            }
        }
    }
    Ok(())
}

/// Answers may overtake each other: a slow peer holds up no other.
fn reply(
    writer: &Rc<Mutex<OwnedWriteHalf>>,
    epoch: u64,
    id: u64,
    answer: impl Future<Output = CourierAnswer> + 'static,
) {
    let writer = Rc::clone(writer);
    tokio::task::spawn_local(async move {
        if let Err(error) = send(&writer, epoch, id, answer.await).await {
            tracing::debug!(%error, "nobody waits for the answer any more");
        }
    });
}

impl Desk {
    fn pass(&self, lead: &mut Option<Lead>, epoch: u64, message: &CourierRequest) -> Result<(), FenceError> {
        let mut fence = self.fence.borrow_mut();
        if matches!(message, CourierRequest::Hello { .. }) {
            *lead = Some(fence.greet(epoch)?);
        }
        fence.check(*lead, epoch)
    }

    async fn check(&self, check: &HealthCheck) -> CourierAnswer {
        match self.slot(check.timeout()) {
            Ok(_slot) => CourierAnswer::Checked(check::make(check, &self.config).await),
            Err(reason) => CourierAnswer::Refused(reason),
        }
    }

    async fn send(&self, request: &HttpRequest) -> CourierAnswer {
        match self.slot(request.timeout) {
            Ok(_slot) => request::send(request, &self.config, &self.names).await,
            Err(reason) => CourierAnswer::NotSent(reason),
        }
    }

    /// Waiting for one would be counted as the service's slowness.
    fn slot(&self, timeout: Span) -> Result<SemaphorePermit<'_>, String> {
        if timeout.duration() > MAX_TIMEOUT {
            return Err(format!("it may take at most {} s", MAX_TIMEOUT.as_secs()));
        }
        self.slots.try_acquire().map_err(|_full| format!("{} are under way already", self.config.max_checks))
    }
}

/// The next frame; `None` when the peer has closed between two.
async fn read(reader: &mut OwnedReadHalf) -> Result<Option<Frame<CourierRequest>>, FrameError> {
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
        if header.length > MAX_REQUEST {
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

async fn send(writer: &Mutex<OwnedWriteHalf>, epoch: u64, id: u64, message: CourierAnswer) -> Result<(), FrameError> {
    let bytes = frame::encode(&Frame { epoch, id, message })?;
    let mut writer = writer.lock().await;
    let written = tokio::time::timeout(FRAME_TIME, writer.write_all(&bytes)).await;
    written.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into())).map_err(FrameError::Io)
}
