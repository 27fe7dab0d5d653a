//! One HTTP request of a remedy: the name resolved once, every address looked at, one connection to the first, one request whose
//! head is written here, one answer of bounded size. No redirect is followed, no proxy asked, no cookie kept, nothing inflated.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use theriac_model::http::{HttpAnswer, HttpRequest, Origin};
use theriac_model::units::Blob;
use theriac_protocol::courier::CourierAnswer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::check::{MAX_HEAD, MAX_HEADERS, USER_AGENT};
use crate::config::CourierConfig;
use crate::names::Names;
use crate::reach;

/// Why there is no answer, and whether the request may have arrived.
enum Fault {
    /// Nothing of it left this host.
    NotSent(String),
    /// It was sent, or partly.
    Lost(String),
}

/// Sends it, within its own timeout. The runner has made the target; what it says about addresses is checked here.
pub(crate) async fn send(request: &HttpRequest, config: &CourierConfig, names: &Names) -> CourierAnswer {
    let mut sent = false;
    let done = tokio::time::timeout(request.timeout.duration(), exchange(request, config, names, &mut sent)).await;
    match done {
        Ok(Ok(answer)) => CourierAnswer::Sent(answer),
        Ok(Err(Fault::NotSent(reason))) => CourierAnswer::NotSent(reason),
        Ok(Err(Fault::Lost(reason))) => CourierAnswer::Lost(reason),
        Err(_elapsed) if sent => CourierAnswer::Lost(format!("no whole answer within {}", request.timeout)),
        Err(_elapsed) => CourierAnswer::NotSent(format!("no connection within {}", request.timeout)),
    }
}

async fn exchange(
    request: &HttpRequest,
    config: &CourierConfig,
    names: &Names,
    sent: &mut bool,
) -> Result<HttpAnswer, Fault> {
    let head = head(request).map_err(|error| Fault::NotSent(format!("no request can be made of it: {error}")))?;
    let address = address(request, names).await.map_err(Fault::NotSent)?;
    let no_connection = |error: std::io::Error| Fault::NotSent(format!("{address}: {}", error.kind()));
    let stream = TcpStream::connect(address).await.map_err(no_connection)?;
    if !request.origin.tls() {
        return speak(stream, head, request.max_answer.0, sent).await;
    }
    let name =
        server_name(&request.origin).ok_or_else(|| Fault::NotSent("its host can't have a certificate".into()))?;
    let tls = TlsConnector::from(Arc::clone(&config.tls)).connect(name, stream).await;
    let refused = |error: std::io::Error| Fault::NotSent(crate::check::tls_words_of(&error).to_owned());
    speak(tls.map_err(refused)?, head, request.max_answer.0, sent).await
}

/// The first address, if every one is allowed: one that is not shows that the name is not what the operator meant.
async fn address(request: &HttpRequest, names: &Names) -> Result<SocketAddr, String> {
    let host = request.origin.host();
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let addresses = match literal {
        Ok(address) => vec![address],
        Err(_) => names.look_up(host).await.map_err(|why| format!("`{host}`: {why}"))?,
    };
    for address in &addresses {
        if let Some(why) = reach::refusal(*address, request.reach) {
            return Err(format!("`{host}` is {address}, and is not reached: {why}"));
        }
    }
    let first = addresses.first().ok_or_else(|| format!("`{host}`: the name has no address"))?;
    Ok(SocketAddr::new(*first, request.origin.port()))
}

fn server_name(origin: &Origin) -> Option<ServerName<'static>> {
    let host = origin.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    ServerName::try_from(host).ok()
}

/// Origin-form, one Host, and headers of ours only.
fn head(request: &HttpRequest) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let default = if request.origin.tls() { 443 } else { 80 };
    let host = match request.origin.port() {
        port if port == default => request.origin.host().to_owned(),
        port => format!("{}:{port}", request.origin.host()),
    };
    let mut builder = Request::builder()
        .method(request.method.as_str())
        .uri(&request.target)
        .header(header::HOST, host)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close");
    if let Some(kind) = &request.content_type {
        builder = builder.header(header::CONTENT_TYPE, kind);
    }
    if let Some(key) = &request.key {
        builder = builder.header("idempotency-key", key);
    }
    builder.body(Full::new(Bytes::from(request.body.0.clone())))
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    head: Request<Full<Bytes>>,
    keep: u64,
    sent: &mut bool,
) -> Result<HttpAnswer, Fault> {
    let lost = |error: hyper::Error| {
        Fault::Lost(crate::check::broken(&error).unwrap_or("the connection broke before a whole answer").to_owned())
    };
    let mut builder = http1::Builder::new();
    builder.max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD);
    let (mut sender, connection) = builder
        .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|_broken| Fault::NotSent("the connection broke before the request".to_owned()))?;
    *sent = true;
    let whole = async {
        let answer = sender.send_request(head).await.map_err(lost)?;
        read(answer, keep).await
    };
    let (mut whole, connection) = (pin!(whole), pin!(connection));
    tokio::select! {
        answer = &mut whole => answer,
        // It hands what it knows to the request before it ends.
        _ended = connection => whole.await,
    }
}

/// As much of the body as is kept; what comes after that is not read.
async fn read(answer: Response<Incoming>, keep: u64) -> Result<HttpAnswer, Fault> {
    let status = answer.status().as_u16();
    let mut body = answer.into_body();
    let mut kept: Vec<u8> = Vec::new();
    let mut cut = false;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_broken| Fault::Lost("the connection broke before a whole answer".to_owned()))?;
        let Ok(data) = frame.into_data() else { continue };
        let room = usize::try_from(keep).unwrap_or(usize::MAX).saturating_sub(kept.len());
        kept.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
        if data.len() > room {
            cut = true;
            break;
        }
    }
    Ok(HttpAnswer { status, body: Blob(kept), cut, assumed: false })
}
