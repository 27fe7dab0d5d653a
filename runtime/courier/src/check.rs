//! One health check against a peer that may do anything: answer late, never, for ever, or with what is no HTTP at all.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use rustls::CertificateError;
use rustls::pki_types::ServerName;
use theriac_model::health::{HealthAnswer, HealthCheck, HealthUrl};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::CourierConfig;

/// A check that takes longer is no health check, and would hold a slot of the few.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(60);
/// A status needs a handful of headers.
pub(crate) const MAX_HEADERS: usize = 64;

/// Status line and headers together: more than any honest server sends before its page.
pub(crate) const MAX_HEAD: usize = 64 << 10;
/// The port that a Host header does not name.
const HTTPS: u16 = 443;
pub(crate) const USER_AGENT: &str = concat!("theriac/", env!("CARGO_PKG_VERSION"));

/// What came of one attempt, in words of ours: nothing the peer sent is repeated.
enum Finding {
    Passed(String),
    Failed(String),
}

/// Makes the check once. Ends within the check's timeout, whatever the peer does.
pub async fn make(check: &HealthCheck, config: &CourierConfig) -> HealthAnswer {
    let (started, timeout) = (Instant::now(), check.timeout());
    let attempt = async {
        match check {
            HealthCheck::Tcp { address, .. } => connect(*address).await,
            HealthCheck::Http { url, status, .. } => get(url, *status, config).await,
        }
    };
    let finding = tokio::time::timeout(timeout.duration(), attempt)
        .await
        .unwrap_or_else(|_elapsed| Finding::Failed(format!("no answer within {timeout}")));
    let latency_ms = u32::try_from(started.elapsed().as_millis()).unwrap_or(u32::MAX);
    match finding {
        Finding::Passed(detail) => HealthAnswer { ok: true, latency_ms, detail },
        Finding::Failed(detail) => HealthAnswer { ok: false, latency_ms, detail },
    }
}

async fn connect(address: SocketAddr) -> Finding {
    match TcpStream::connect(address).await {
        Ok(_) => Finding::Passed("connected".to_owned()),
        Err(error) => Finding::Failed(io_words(&error).to_owned()),
    }
}

/// The status line decides. The body is never read: a large one costs nothing, a slow one no time.
async fn get(url: &HealthUrl, wanted: u16, config: &CourierConfig) -> Finding {
    match status(url, config).await {
        Ok(status) if status == wanted => Finding::Passed(format!("answered {wanted}")),
        Ok(status) => Finding::Failed(format!("answered {status}")),
        Err(fault) => Finding::Failed(fault.words().to_owned()),
    }
}

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("connecting")]
    Connect(#[source] io::Error),
    #[error("the TLS handshake")]
    Tls(#[source] io::Error),
    #[error("the request")]
    Request(#[from] hyper::http::Error),
    #[error("the answer")]
    Answer(#[from] hyper::Error),
}

/// A connection of its own for each check, to the check's own address: no pool, no cookie, no resolver, no proxy, no redirect, and
/// no state that one peer could leave for another.
async fn status(url: &HealthUrl, config: &CourierConfig) -> Result<u16, Fault> {
    let address = url.address();
    let stream = TcpStream::connect(address).await.map_err(Fault::Connect)?;
    if !url.is_https() {
        return exchange(stream, url.authority(), url.path()).await;
    }
    let (name, host) = match config.names.get(&address) {
        Some(name) if address.port() == HTTPS => (name.clone(), name.clone()),
        Some(name) => (name.clone(), format!("{name}:{}", address.port())),
        None => (address.ip().to_string(), url.authority().to_owned()),
    };
    // Every name was checked when the configuration was read, and an address is one.
    let name = ServerName::try_from(name).map_err(|wrong| Fault::Tls(io::Error::other(wrong)))?;
    let stream = TlsConnector::from(Arc::clone(&config.tls)).connect(name, stream).await.map_err(Fault::Tls)?;
    exchange(stream, &host, url.path()).await
}

async fn exchange(stream: impl AsyncRead + AsyncWrite + Unpin, host: &str, path: &str) -> Result<u16, Fault> {
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .handshake::<_, String>(TokioIo::new(stream))
        .await?;
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(String::new())?;
    let (mut answer, connection) = (pin!(sender.send_request(request)), pin!(connection));
    let answer = tokio::select! {
        answer = &mut answer => answer,
        // It hands what it knows to the request before it ends.
        _ended = connection => answer.await,
    };
    Ok(answer?.status().as_u16())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "an open enum of somebody else's: the rest has one sentence")]
pub(crate) fn io_words(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "connection reset",
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionAborted => "closed without an answer",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "host unreachable",
        io::ErrorKind::AddrNotAvailable => "no free local port",
        io::ErrorKind::TimedOut => "the kernel gave up connecting",
        _other => "connection failed",
    }
}

impl Fault {
    fn words(&self) -> &'static str {
        match self {
            Self::Connect(error) => io_words(error),
            Self::Tls(error) => broken(error).unwrap_or("the TLS handshake failed"),
            Self::Request(_) => "no HTTP request can be made of it",
            Self::Answer(error) => broken(error).unwrap_or("no HTTP answer"),
        }
    }
}

/// The innermost cause that says something.
pub(crate) fn broken(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut cause = Some(error);
    let mut broken = None;
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(tls_words(error));
        }
        // An I/O error's payload is not its source: a TLS error travels inside two of them.
        cause = match error.downcast_ref::<io::Error>() {
            Some(error) => {
                broken = Some(io_words(error));
                error.get_ref().map(|inner| inner as &(dyn Error + 'static))
            }
            None => error.source(),
        };
    }
    broken
}

/// What became of a TLS handshake.
pub(crate) fn tls_words_of(error: &io::Error) -> &'static str {
    broken(error).unwrap_or("the TLS handshake failed")
}

#[expect(clippy::wildcard_enum_match_arm, reason = "an open enum of somebody else's: the rest has one sentence")]
fn tls_words(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(reason) => match reason {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "the certificate has expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the certificate is not valid yet"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the certificate is for another name"
            }
            CertificateError::UnknownIssuer => "the certificate's issuer is not trusted",
            _other => "the certificate is not valid",
        },
        _other => "the TLS handshake failed",
    }
}
