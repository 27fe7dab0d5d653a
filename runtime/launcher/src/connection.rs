//! One peer's connection: frames in and out without ever blocking the loop. A peer that does not read is dropped.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use theriac_protocol::fence::Lead;
use theriac_protocol::frame::{self, Frame, FrameError, HEADER_LEN};
use theriac_protocol::launcher::{LauncherAnswer, LauncherRequest};

/// The longest request is a program: 33 arguments of at most 1 KiB, and 64 paths of at most 4 KiB.
const MAX_REQUEST: u32 = 512 << 10;
/// What a peer may leave unread before it is dropped: a list of 64 units is about 40 KiB, what a program wrote 700 KiB at most.
const MAX_UNSENT: usize = 2 << 20;

/// A connected peer whose uid was checked.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Tells connections apart for as long as the launcher lives.
    pub(crate) id: u64,
    stream: UnixStream,
    received: Vec<u8>,
    unsent: Vec<u8>,
    /// What its `Hello` was let in with.
    pub(crate) lead: Option<Lead>,
    /// It wants events.
    pub(crate) subscribed: bool,
}

impl Connection {
    pub(crate) fn new(id: u64, stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { id, stream, received: Vec::new(), unsent: Vec::new(), lead: None, subscribed: false })
    }

    /// Takes what arrived and the whole frames in it.
    pub(crate) fn receive(&mut self) -> Result<Vec<Frame<LauncherRequest>>, FrameError> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err(FrameError::Closed),
            Ok(length) => self.received.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(FrameError::Io(error)),
        }
        let mut frames = Vec::new();
        while let Some(frame) = self.next_frame()? {
            frames.push(frame);
        }
        Ok(frames)
    }

    fn next_frame(&mut self) -> Result<Option<Frame<LauncherRequest>>, FrameError> {
        let Some(header) = self.received.first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let header = frame::decode_header(header)?;
        if header.length > MAX_REQUEST {
            return Err(FrameError::TooLong { length: u64::from(header.length) });
        }
        let end = HEADER_LEN + header.length as usize;
        let Some(payload) = self.received.get(HEADER_LEN..end) else { return Ok(None) };
        let message = frame::decode_payload(payload)?;
        self.received.drain(..end);
        Ok(Some(Frame { epoch: header.epoch, id: header.id, message }))
    }

    /// Queues a frame and writes what the socket takes.
    pub(crate) fn send(&mut self, epoch: u64, id: u64, message: LauncherAnswer) -> Result<(), FrameError> {
        let bytes = frame::encode(&Frame { epoch, id, message })?;
        if self.unsent.len() + bytes.len() > MAX_UNSENT {
            return Err(FrameError::TooLong { length: (self.unsent.len() + bytes.len()) as u64 });
        }
        self.unsent.extend_from_slice(&bytes);
        self.flush()
    }

    /// Writes what the socket takes.
    pub(crate) fn flush(&mut self) -> Result<(), FrameError> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(0) => return Err(FrameError::Closed),
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(error) if is_transient(&error) => break,
                Err(error) => return Err(FrameError::Io(error)),
            }
        }
        Ok(())
    }

    pub(crate) fn wants_to_write(&self) -> bool {
        !self.unsent.is_empty()
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
