//! The HTTP side: alerts in, metrics out. Everything that arrives here is hostile until it is mapped.
//!
//! Plain HTTP/1.1 on an address of the configuration; whoever wants TLS puts a proxy before it. There is no page here, and
//! nothing that makes anything happen but keeping an alert.

mod alerts;
mod metrics;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};

use crate::config::Token;
use crate::question::Asker;
use crate::runner_link::RunnerLink;

/// Connections at once: Alertmanager has one per group at most, a scraper one.
const MAX_CONNECTIONS: usize = 32;
/// A header that takes longer than this is an attack or a broken peer.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// A connection lives no longer than this.
const CONNECTION_TIME: Duration = Duration::from_secs(300);
/// Bytes of a request's head; the smallest that hyper takes is 8 KiB.
const HEAD_BYTES: usize = 16 << 10;
const MAX_HEADERS: usize = 64;

/// What the handlers need.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) asker: Asker,
    /// A link of its own: a scrape never stands before a proposal.
    pub(crate) runner: RunnerLink,
    /// Without it no alerts are taken.
    pub(crate) token: Option<Token>,
    /// Names a `Host` header may have.
    pub(crate) names: Vec<String>,
    pub(crate) rate: Mutex<alerts::Rate>,
}

impl Site {
    /// A site that answers to loopback names, the address, and these names.
    pub(crate) fn new(
        asker: Asker,
        runner: RunnerLink,
        token: Option<Token>,
        (address, names): (SocketAddr, Vec<String>),
    ) -> Self {
        let mut names: Vec<String> = names.into_iter().map(|name| name.to_ascii_lowercase()).collect();
        names.push("localhost".to_owned());
        if !address.ip().is_unspecified() {
            names.push(address.ip().to_string());
        }
        Self { asker, runner, token, names, rate: Mutex::new(alerts::Rate::new()) }
    }

    /// A page in somebody's browser reaches this port by a name of its own; it is turned away here.
    fn answers_to(&self, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(header::HOST).into_iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
        let Ok(host) = host.to_str() else { return false };
        let bare = bare_host(host);
        self.names.iter().any(|name| name.eq_ignore_ascii_case(bare))
            || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// The host without its port and brackets.
fn bare_host(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').map_or("", |(address, _)| address);
    }
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        Some(_) | None => host,
    }
}

/// The routes.
fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/healthz", get(metrics::healthz))
        .route("/metrics", get(metrics::metrics))
        .route("/api/v1/alert/immediate", post(alerts::take))
        .layer(middleware::from_fn_with_state(Arc::clone(&site), check_host))
        .with_state(site)
}

async fn check_host(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    if site.answers_to(request.headers()) {
        next.run(request).await
    } else {
        (StatusCode::MISDIRECTED_REQUEST, "this is not a name of this machine; add it to `listen.names`\n")
            .into_response()
    }
}

/// Serves for as long as the process lives.
pub(crate) async fn serve(listener: TcpListener, site: Arc<Site>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let service = router(site);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // Over the limit: closed at once, so that whoever waits in line hears of it.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIME)
                .max_buf_size(HEAD_BYTES)
                .max_headers(MAX_HEADERS);
            let connection = http.serve_connection(TokioIo::new(stream), service);
            match tokio::time::timeout(CONNECTION_TIME, connection).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(error)) => tracing::debug!(%error, "an HTTP connection ended"),
            }
            drop(place);
        });
    }
}
