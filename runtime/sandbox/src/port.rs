//! The socket to the runner. There is exactly one, inherited; a worker can open no other.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use theriac_protocol::frame::{self, Frame, FrameError};
use theriac_protocol::worker::{CHUNK, EndReason, FromWorker, ToWorker};

/// A shared handle to the socket. It is a `File`, not a `UnixStream`: plain `read` and `write` are all the system calls the
/// worker is left with for it.
#[derive(Debug, Clone)]
pub struct Port(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    socket: File,
    writing: Mutex<()>,
    epoch: AtomicU64,
}

/// Why the conversation with the runner can't go on. The worker ends; nobody is left to tell.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The socket or a frame failed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A message at the wrong moment.
    #[error("the runner sent {got} where {wanted} was due")]
    Unexpected { wanted: &'static str, got: &'static str },
    /// The pieces do not add up to the announced size.
    #[error("{announced} bytes were announced, and more came")]
    Overrun { announced: u64 },
    /// The announced size is over the cap.
    #[error("{announced} bytes were announced, and {cap} are allowed")]
    Size { announced: u64, cap: u64 },
}

impl Port {
    /// Takes the socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self(Arc::new(Inner { socket: File::from(socket), writing: Mutex::new(()), epoch: AtomicU64::new(0) }))
    }

    /// Sends one message; `id` 0 is an event.
    pub fn send(&self, id: u64, message: &FromWorker) -> Result<(), PortError> {
        let bytes = frame::encode(&Frame { epoch: self.0.epoch.load(Ordering::Relaxed), id, message })?;
        let _turn = self.0.writing.lock().unwrap_or_else(PoisonError::into_inner);
        (&self.0.socket).write_all(&bytes).map_err(FrameError::Io)?;
        Ok(())
    }

    /// Waits for the runner's next message. The conversation is in lock step, so that ids pair nothing here; the epoch that
    /// the message carries is carried back.
    pub fn receive(&self) -> Result<ToWorker, PortError> {
        let frame: Frame<ToWorker> = frame::read(&mut Reading(&self.0.socket))?;
        self.0.epoch.fetch_max(frame.epoch, Ordering::Relaxed);
        Ok(frame.message)
    }

    /// Collects the chunks that follow an announcement.
    pub fn receive_chunks(&self, announced: u64, cap: u64) -> Result<Vec<u8>, PortError> {
        let size =
            usize::try_from(announced).ok().filter(|_| announced <= cap).ok_or(PortError::Size { announced, cap })?;
        let mut bytes = Vec::with_capacity(size);
        while bytes.len() < size {
            let message = self.receive()?;
            let got = name(&message);
            let ToWorker::Chunk(piece) = message else {
                return Err(PortError::Unexpected { wanted: "a chunk", got });
            };
            if piece.0.is_empty() {
                return Err(PortError::Unexpected { wanted: "bytes", got: "an empty chunk" });
            }
            bytes.extend_from_slice(&piece.0);
            if bytes.len() > size {
                return Err(PortError::Overrun { announced });
            }
        }
        Ok(bytes)
    }

    /// Sends bytes in chunks.
    pub fn send_chunks(&self, bytes: &[u8]) -> Result<(), PortError> {
        for piece in bytes.chunks(CHUNK) {
            self.send(0, &FromWorker::Chunk(theriac_model::units::Blob(piece.to_vec())))?;
        }
        Ok(())
    }

    /// For the clock thread, which is about to end the process: says why, unless another thread is stuck in the middle of a
    /// frame, which a second one would only garble.
    pub(crate) fn last_words(&self, reason: EndReason, sentence: &str) {
        let message = FromWorker::Ended { reason, sentence: sentence.to_owned() };
        let Ok(bytes) = frame::encode(&Frame { epoch: self.0.epoch.load(Ordering::Relaxed), id: 0, message }) else {
            return;
        };
        let patience = Instant::now() + Duration::from_millis(20);
        loop {
            match self.0.writing.try_lock() {
                Ok(_turn) => return drop((&self.0.socket).write_all(&bytes)),
                Err(TryLockError::Poisoned(_)) => return,
                Err(TryLockError::WouldBlock) if Instant::now() >= patience => return,
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            }
        }
    }
}

/// `frame::read` takes a reader by mutable reference; a shared file is one.
struct Reading<'a>(&'a File);

impl Read for Reading<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

/// What a message is, for [`PortError::Unexpected`].
pub(crate) const fn name(message: &ToWorker) -> &'static str {
    match message {
        ToWorker::Compile { .. } => "`compile`",
        ToWorker::Load { .. } => "`load`",
        ToWorker::Chunk(_) => "a chunk",
        ToWorker::Call { .. } => "`call`",
        ToWorker::Reply(_) => "a reply",
    }
}
