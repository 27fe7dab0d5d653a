//! The HTTP of ACME: one connection for each request, to the directory's own origin and no other, and answers of bounded size.

use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::check::{MAX_HEAD, MAX_HEADERS};
use crate::names::Names;

/// A chain has some 8 KiB, an order less.
const MAX_BODY: usize = 256 << 10;
/// Of one order with twenty names, each looked at a few times, and every nonce refused once.
const MAX_REQUESTS: u32 = 200;
/// From the look-up of the name to the last byte of one answer.
const REQUEST: Duration = Duration::from_secs(20);
/// An authority that wants to be asked again later than this is asked by the next run.
const MAX_RETRY_S: u64 = 60;

/// What one order's requests are made with.
pub(super) struct Client {
    origin: Uri,
    tls: Arc<ClientConfig>,
    names: Names,
    made: AtomicU32,
}

impl Client {
    pub(super) const fn new(directory: Uri, tls: Arc<ClientConfig>, names: Names) -> Self {
        Self { origin: directory, tls, names, made: AtomicU32::new(0) }
    }
}

/// Why a request was not made, or has no answer.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("it leads to another origin than the directory's")]
    Elsewhere,
    #[error("more than {MAX_REQUESTS} requests for one order")]
    TooMany,
    #[error("no whole answer within {} s", REQUEST.as_secs())]
    Late,
    #[error("{0}")]
    Name(&'static str),
    #[error("the connection failed")]
    Connect(#[source] std::io::Error),
    #[error("the TLS handshake failed: {0}")]
    Tls(&'static str),
    #[error("the connection broke before a whole answer")]
    Broken(#[source] hyper::Error),
    #[error("the answer is longer than {} KiB, or broke off", MAX_BODY >> 10)]
    Body,
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Other(Box::new(fault))
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let made = self.made.fetch_add(1, Ordering::Relaxed);
        let admitted = admitted(&self.origin, request.uri(), made);
        let (tls, names) = (Arc::clone(&self.tls), self.names.clone());
        Box::pin(async move {
            admitted?;
            let exchange = exchange(request, tls, names);
            Ok(tokio::time::timeout(REQUEST, exchange).await.unwrap_or(Err(Fault::Late))?)
        })
    }
}

/// The authority names addresses, and this process follows it to none that root's configuration has not named.
fn admitted(directory: &Uri, asked: &Uri, made: u32) -> Result<(), Fault> {
    let same =
        asked.scheme_str() == Some("https") && asked.host() == directory.host() && port(asked) == port(directory);
    match (same, made < MAX_REQUESTS) {
        (true, true) => Ok(()),
        (true, false) => Err(Fault::TooMany),
        (false, _) => Err(Fault::Elsewhere),
    }
}

fn port(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(443)
}

async fn exchange(
    request: Request<BodyWrapper<Bytes>>,
    tls: Arc<ClientConfig>,
    names: Names,
) -> Result<BytesResponse, Fault> {
    let host = request.uri().host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let address = match host.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => {
            *names.look_up(&host).await.map_err(Fault::Name)?.first().ok_or(Fault::Name("the name has no address"))?
        }
    };
    let stream = TcpStream::connect(SocketAddr::new(address, port(request.uri()))).await.map_err(Fault::Connect)?;
    let name = ServerName::try_from(host).map_err(|_wrong| Fault::Tls("its host can't have a certificate"))?;
    let stream = TlsConnector::from(tls).connect(name, stream).await;
    let stream = stream.map_err(|error| Fault::Tls(crate::check::broken(&error).unwrap_or("it broke off")))?;
    let mut builder = http1::Builder::new();
    builder.max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(Fault::Broken)?;
    let whole = async {
        let answer = sender.send_request(in_origin_form(request)).await.map_err(Fault::Broken)?;
        whole(answer).await
    };
    let (mut whole, connection) = (pin!(whole), pin!(connection));
    tokio::select! {
        answer = &mut whole => answer,
        // It hands what it knows to the request before it ends.
        _ended = connection => whole.await,
    }
}

/// RFC 9112, 3.2.1, with one Host.
fn in_origin_form(mut request: Request<BodyWrapper<Bytes>>) -> Request<BodyWrapper<Bytes>> {
    let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str()).parse();
    if let Ok(target) = target {
        *request.uri_mut() = target;
    }
    if let Some(host) = authority.and_then(|host| HeaderValue::try_from(host).ok()) {
        request.headers_mut().insert(header::HOST, host);
    }
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    request
}

async fn whole(answer: Response<Incoming>) -> Result<BytesResponse, Fault> {
    let (mut parts, body) = answer.into_parts();
    patience(&mut parts.headers);
    let body = Limited::new(body, MAX_BODY).collect().await.map_err(|_long_or_broken| Fault::Body)?.to_bytes();
    Ok(BytesResponse { parts, body: Box::new(body) })
}

/// A `Retry-After` of some seconds is kept; one that is no number, or larger than anybody can wait for, is not: it would be added
/// to the time of day, and a sum that no clock can show ends the order with a panic.
fn patience(headers: &mut HeaderMap) {
    let seconds = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    if seconds.is_none_or(|seconds| seconds > MAX_RETRY_S) {
        headers.remove(header::RETRY_AFTER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_is_followed_to_its_own_origin_only() {
        let directory: Uri = "https://acme.test/dir".parse().unwrap();
        let asked = |text: &str| admitted(&directory, &text.parse().unwrap(), 0);
        for same in ["https://acme.test/order/1", "https://acme.test:443/x?y=1"] {
            assert!(asked(same).is_ok(), "{same}");
        }
        for other in [
            "http://acme.test/order",
            "https://acme.test:8443/order",
            "https://evil.test/",
            "https://169.254.169.254/latest/meta-data",
            "https://acme.test.evil/",
            "https://acme.test@evil.test/",
            "/relative",
        ] {
            assert!(matches!(asked(other), Err(Fault::Elsewhere)), "{other}");
        }
    }

    #[test]
    fn an_order_makes_so_many_requests_and_no_more() {
        let directory: Uri = "https://acme.test/dir".parse().unwrap();
        assert!(admitted(&directory, &directory, MAX_REQUESTS - 1).is_ok());
        assert!(matches!(admitted(&directory, &directory, MAX_REQUESTS), Err(Fault::TooMany)));
    }

    #[test]
    fn nobody_is_waited_for_longer_than_a_clock_can_show() {
        let kept = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_str(value).unwrap());
            patience(&mut headers);
            headers.contains_key(header::RETRY_AFTER)
        };
        assert!(kept("3") && kept("60"));
        for wrong in ["61", "18446744073709551615", "-1", "Fri, 31 Dec 9999 23:59:59 GMT", "soon"] {
            assert!(!kept(wrong), "{wrong}");
        }
    }
}
