//! One health check against a peer that may do anything: answer late, never, for ever, or with what is no HTTP at all.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustls::CertificateError;
use theriac_model::health::{HealthAnswer, HealthCheck, HealthUrl};
use tokio::net::TcpStream;

use crate::config::CourierConfig;

/// A check that takes longer is no health check, and would hold a slot of the few.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(60);
/// A status needs a handful of headers.
const MAX_HEADERS: usize = 64;

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
    let answer = match request(url, config) {
        Ok(request) => request.send().await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(answer) if answer.status().as_u16() == wanted => Finding::Passed(format!("answered {wanted}")),
        Ok(answer) => Finding::Failed(format!("answered {}", answer.status().as_u16())),
        Err(error) => Finding::Failed(words(&error).to_owned()),
    }
}

/// A client of its own for each check: no pool, no cookie, no state that one peer could leave for another.
fn request(url: &HealthUrl, config: &CourierConfig) -> reqwest::Result<reqwest::RequestBuilder> {
    let address = url.address();
    // The name is resolved to the check's own address, so no resolver is ever asked.
    let (host, target) = match config.names.get(&address).filter(|_| url.is_https()) {
        Some(name) => (name.as_str(), format!("https://{name}:{}{}", address.port(), url.path())),
        None => ("localhost", url.to_string()),
    };
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured((*config.tls).clone())
        .resolve(host, address)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .http1_only()
        .http1_max_headers(MAX_HEADERS)
        .pool_max_idle_per_host(0)
        .user_agent(concat!("theriac/", env!("CARGO_PKG_VERSION")))
        .build()?;
    Ok(client.get(target).header("connection", "close"))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "an open enum of somebody else's: the rest has one sentence")]
fn io_words(error: &io::Error) -> &'static str {
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

/// The innermost cause that says something.
fn words(error: &reqwest::Error) -> &'static str {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    let mut broken = None;
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return tls_words(error);
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
    broken.unwrap_or(if error.is_connect() { "connection failed" } else { "no HTTP answer" })
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
