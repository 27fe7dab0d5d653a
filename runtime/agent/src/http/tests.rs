//! What comes in over HTTP, with each refusal beside what is let through.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::question::{Counts, Kept, Question};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const BODY: &str = r#"{"version":"4","alerts":[]}"#;

/// A site before an engine that says this of alerts.
async fn site(kept: Kept, token: Option<&str>) -> SocketAddr {
    let (asker, mut questions) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Some(question) = questions.recv().await {
            match question {
                Question::Alerts(_, reply) => drop(reply.send(kept)),
                Question::Counts(reply) => drop(reply.send(Counts::default())),
                Question::SelfTest(reply) => drop(reply.send(Ok(()))),
                Question::Status(_) | Question::Incidents(..) | Question::Incident(..) => {}
            }
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let token = token.map(|token| Token::parse("t".as_ref(), token).unwrap());
    let runner = RunnerLink::new("/nonexistent/runner.sock".into());
    let site = Site::new(asker, runner, token, (address, vec!["vps1".to_owned()]));
    tokio::spawn(serve(listener, Arc::new(site)));
    address
}

async fn send(address: SocketAddr, request: &str) -> u16 {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    std::str::from_utf8(&answer[9..]).unwrap().parse().unwrap()
}

fn post(headers: &[(&str, &str)], body: &str) -> String {
    let mut request = "POST /api/v1/alert/immediate HTTP/1.1\r\n".to_owned();
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request + &format!("Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

const GOOD: [(&str, &str); 3] = [
    ("Host", "localhost"),
    ("Authorization", "Bearer 0123456789abcdef0123456789abcdef"),
    ("Content-Type", "application/json"),
];

const DURABLE: Kept = Kept::Durable { new: 1, duplicates: 0 };

#[tokio::test]
async fn an_alert_needs_the_token_and_the_token_comes_first() {
    let address = site(DURABLE, Some(TOKEN)).await;
    assert_eq!(send(address, &post(&GOOD, BODY)).await, 200);
    let [host, _, kind] = GOOD;
    assert_eq!(send(address, &post(&[host, kind], BODY)).await, 401);
    let wrong = TOKEN.replace('f', "e");
    for value in [format!("Bearer {wrong}"), format!("Basic {TOKEN}"), "Bearer ".to_owned(), format!("Bearer {TOKEN}0")]
    {
        assert_eq!(
            send(address, &post(&[host, ("Authorization", &value), kind], "not even JSON")).await,
            401,
            "{value}"
        );
    }
    // Without its body: the answer does not wait for one.
    let endless = "POST /api/v1/alert/immediate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n";
    assert_eq!(send(address, endless).await, 401);
}

#[tokio::test]
async fn without_a_token_no_alert_is_taken_and_metrics_are_served() {
    let address = site(DURABLE, None).await;
    assert_eq!(send(address, &post(&GOOD, BODY)).await, 404);
    for path in ["/metrics", "/healthz"] {
        assert_eq!(send(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await, 200);
    }
    assert_eq!(send(address, "GET /other HTTP/1.1\r\nHost: localhost\r\n\r\n").await, 404);
    assert_eq!(send(address, "GET /api/v1/alert/immediate HTTP/1.1\r\nHost: localhost\r\n\r\n").await, 405);
}

#[tokio::test]
async fn what_is_no_webhook_is_refused_and_what_is_too_large_is_not_read() {
    let address = site(DURABLE, Some(TOKEN)).await;
    let [host, token, _] = GOOD;
    assert_eq!(send(address, &post(&[host, token, ("Content-Type", "text/plain")], BODY)).await, 415);
    assert_eq!(
        send(address, &post(&[host, token, ("Content-Type", "application/json; charset=utf-8")], BODY)).await,
        200
    );
    assert_eq!(send(address, &post(&GOOD, "{}")).await, 400);
    assert_eq!(send(address, &post(&GOOD, r#"{"version":"5","alerts":[]}"#)).await, 400);
    let headers = "Host: localhost\r\nAuthorization: Bearer 0123456789abcdef0123456789abcdef\r\nContent-Type: application/json\r\n";
    let announced = format!("POST /api/v1/alert/immediate HTTP/1.1\r\n{headers}Content-Length: 1048577\r\n\r\n");
    assert_eq!(send(address, &announced).await, 413);
    let (half, chunk) = ("x".repeat(600_000), format!("{:x}", 600_000));
    let chunked = format!(
        "POST /api/v1/alert/immediate HTTP/1.1\r\n{headers}Transfer-Encoding: chunked\r\n\r\n{chunk}\r\n{half}\r\n{chunk}\r\n{half}\r\n0\r\n\r\n"
    );
    assert_eq!(send(address, &chunked).await, 413);
}

#[tokio::test]
async fn an_inbox_that_cannot_be_written_says_so_and_a_flood_is_slowed() {
    let address = site(Kept::Unwritable, Some(TOKEN)).await;
    assert_eq!(send(address, &post(&GOOD, BODY)).await, 503);
    let address = site(DURABLE, Some(TOKEN)).await;
    let mut last = 0;
    for _ in 0..2_000 {
        last = send(address, &post(&GOOD, BODY)).await;
        if last == 429 {
            break;
        }
    }
    assert_eq!(last, 429);
}

#[tokio::test]
async fn a_page_that_calls_us_by_its_own_name_is_turned_away() {
    let address = site(DURABLE, None).await;
    let of = async |host: &str| send(address, &format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    for ours in ["localhost", "LOCALHOST:9099", "127.0.0.1:9099", "[::1]:9099", "vps1", "VPS1:80"] {
        assert_eq!(of(ours).await, 200, "{ours}");
    }
    for other in ["evil.example", "localhost.evil.example:80", "10.0.0.9", "vps1.evil.example"] {
        assert_eq!(of(other).await, 421, "{other}");
    }
    assert_eq!(send(address, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n").await, 421);
    assert_eq!(send(address, "GET /metrics HTTP/1.0\r\n\r\n").await, 421);
}
