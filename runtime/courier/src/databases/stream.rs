//! Connections to servers: where they listen, TLS on top, and a count of what a server may still say.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::config::{Place, Tls};

/// Bytes a server may send between two questions: four thousand sessions with their names, three times over.
const MAX_ANSWER: usize = 2 << 20;

/// Something that can be read and written.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// Any of them.
pub(super) type Stream = Box<dyn Duplex>;

/// Connects.
pub(super) async fn open(place: &Place) -> io::Result<Stream> {
    Ok(match place {
        Place::Socket(path) => Box::new(UnixStream::connect(path).await?),
        Place::Address(address) => Box::new(TcpStream::connect(address).await?),
    })
}

/// Speaks TLS from here on.
pub(super) async fn secure(stream: Stream, tls: &Tls) -> io::Result<Stream> {
    let connected = TlsConnector::from(Arc::clone(&tls.config)).connect(tls.name.clone(), stream).await?;
    Ok(Box::new(connected))
}

/// What a server may still say before it is asked something again.
#[derive(Clone)]
pub(super) struct Allowance(Rc<Cell<usize>>);

impl Allowance {
    pub(super) fn new() -> Self {
        Self(Rc::new(Cell::new(MAX_ANSWER)))
    }

    /// For the next question.
    pub(super) fn renew(&self) {
        self.0.set(MAX_ANSWER);
    }
}

/// A stream that breaks when more is read than is allowed.
pub(super) struct Metered {
    stream: Stream,
    left: Allowance,
}

impl Metered {
    pub(super) fn new(stream: Stream, left: Allowance) -> Self {
        Self { stream, left }
    }

    /// The stream below, for TLS to come between.
    pub(super) fn into_inner(self) -> Stream {
        self.stream
    }
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let read = buffer.filled().len().saturating_sub(before);
        match self.left.0.get().checked_sub(read) {
            Some(left) => {
                self.left.0.set(left);
                polled
            }
            None => Poll::Ready(Err(io::Error::other("the server says more than an answer may have"))),
        }
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
