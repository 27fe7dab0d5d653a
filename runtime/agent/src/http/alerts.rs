//! `POST /api/v1/alert/immediate`: Alertmanager's webhook. 2xx means: on disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use theriac_analysis::alert::{self, MAX_BODY};

use super::Site;
use crate::clock::chain;
use crate::question::{Kept, Question, ask};

/// A body that takes longer than this is not waited for.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Requests with a good token per second, and how many may come at once.
const PER_SECOND: f64 = 10.0;
const BURST: f64 = 50.0;

/// A token bucket.
#[derive(Debug)]
pub(crate) struct Rate {
    tokens: f64,
    at: Instant,
}

impl Rate {
    pub(super) fn new() -> Self {
        Self { tokens: BURST, at: Instant::now() }
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = passed.mul_add(PER_SECOND, self.tokens).min(BURST);
        self.at = now;
        let free = self.tokens >= 1.0;
        if free {
            self.tokens -= 1.0;
        }
        free
    }
}

/// The token is looked at before a byte of the body is.
pub(super) async fn take(State(site): State<Arc<Site>>, request: Request<Body>) -> Response {
    let Some(token) = &site.token else {
        return (StatusCode::NOT_FOUND, "no alerts are taken here: set `listen.token_file` in agent.toml\n")
            .into_response();
    };
    if !bearer(request.headers()).is_some_and(|given| token.is(given)) {
        let challenge = [(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))];
        return (StatusCode::UNAUTHORIZED, challenge, "the bearer token is missing or wrong\n").into_response();
    }
    if !is_json(request.headers()) {
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, "send `content-type: application/json`\n").into_response();
    }
    if !site.rate.lock().await.take(Instant::now()) {
        return later(StatusCode::TOO_MANY_REQUESTS, "1", "too many requests\n");
    }
    if announced(request.headers()).is_some_and(|bytes| bytes > MAX_BODY as u64) {
        return too_large();
    }
    let body = axum::body::to_bytes(request.into_body(), MAX_BODY);
    let body = match tokio::time::timeout(BODY_TIME, body).await {
        Ok(Ok(body)) => body,
        Ok(Err(_over_the_limit_or_cut)) => return too_large(),
        Err(_) => return (StatusCode::REQUEST_TIMEOUT, "the body took too long\n").into_response(),
    };
    let body = match alert::parse(&body) {
        Ok(body) => body,
        Err(error) => return (StatusCode::BAD_REQUEST, chain(&error) + "\n").into_response(),
    };
    match ask(&site.asker, |reply| Question::Alerts(Box::new(body), reply)).await {
        Some(Kept::Durable { new, duplicates }) => {
            (StatusCode::OK, format!("{new} kept, {duplicates} known already\n")).into_response()
        }
        Some(Kept::Unwritable) => later(StatusCode::SERVICE_UNAVAILABLE, "30", "the inbox can't be written\n"),
        None => later(StatusCode::SERVICE_UNAVAILABLE, "5", "the agent is too busy\n"),
    }
}

fn too_large() -> Response {
    (StatusCode::PAYLOAD_TOO_LARGE, format!("a body may have {MAX_BODY} bytes\n")).into_response()
}

fn later(status: StatusCode, seconds: &'static str, text: &'static str) -> Response {
    (status, [(header::RETRY_AFTER, HeaderValue::from_static(seconds))], text).into_response()
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_taken_and_a_flood_is_not() {
        let start = Instant::now();
        let mut rate = Rate { tokens: BURST, at: start };
        assert_eq!((0..200).filter(|_| rate.take(start)).count(), 50);
        assert_eq!((0..200).filter(|_| rate.take(start + Duration::from_secs(1))).count(), 10);
    }
}
