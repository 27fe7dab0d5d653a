//! One HTTP request to the engine: a connection of its own to the one configured socket, a head that is written here, an answer that
//! is read as far as it may go and no further.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};

use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::check::{MAX_HEAD, MAX_HEADERS, USER_AGENT};

/// An answer of the engine's: whatever its status, and no more of it than was asked for.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// What `_ping` says about the protocol.
    pub(super) api_version: Option<String>,
    pub(super) body: Vec<u8>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransportError {
    /// Nothing of the request left this process.
    #[error("no connection")]
    Connect(#[source] io::Error),
    /// Nor this; a target that is none was asked for.
    #[error("no request can be made of it")]
    Request(#[source] hyper::http::Error),
    /// The connection broke, or what came is no HTTP.
    #[error("no HTTP answer")]
    Broken(#[source] hyper::Error),
    /// An honest engine has less to say.
    #[error("the answer is longer than {longest} bytes")]
    TooLong { longest: usize },
}

impl TransportError {
    /// The engine may have got the request.
    pub(super) const fn was_sent(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Request(_) => false,
            Self::Broken(_) | Self::TooLong { .. } => true,
        }
    }

    /// The socket is there, and not for this user.
    pub(super) fn is_denied(&self) -> bool {
        matches!(self, Self::Connect(error) if error.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// Asks once. It ends with the answer, or with the caller's patience: dropping it closes the connection.
pub(super) async fn ask(socket: &str, method: Method, target: &str, longest: usize) -> Result<Answer, TransportError> {
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, "engine")
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::CONNECTION, "close")
        .body(String::new())
        .map_err(TransportError::Request)?;
    let stream = UnixStream::connect(socket).await.map_err(TransportError::Connect)?;
    let mut builder = http1::Builder::new();
    builder.max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD);
    let (mut sender, connection) =
        builder.handshake::<_, String>(TokioIo::new(stream)).await.map_err(TransportError::Broken)?;
    let whole = async {
        let answer = sender.send_request(request).await.map_err(TransportError::Broken)?;
        read(answer, longest).await
    };
    let (mut whole, connection) = (pin!(whole), pin!(connection));
    tokio::select! {
        answer = &mut whole => answer,
        // It hands what it knows to the request before it ends.
        _ended = connection => whole.await,
    }
}

async fn read(answer: Response<Incoming>, longest: usize) -> Result<Answer, TransportError> {
    let status = answer.status().as_u16();
    let named = answer.headers().get("api-version").and_then(|value| value.to_str().ok());
    let api_version = named.map(str::to_owned);
    let mut incoming = answer.into_body();
    let mut body = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await {
        let Ok(data) = frame.map_err(TransportError::Broken)?.into_data() else { continue };
        if body.len() + data.len() > longest {
            return Err(TransportError::TooLong { longest });
        }
        body.extend_from_slice(&data);
    }
    Ok(Answer { status, api_version, body })
}
