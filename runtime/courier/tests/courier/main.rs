//! The real binary, sealed, against servers on loopback that do what they should not.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, and so do its helpers"
)]

mod look;
mod name_server;
mod requests;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use theriac_model::health::{HealthAnswer, HealthCheck, HealthUrl};
use theriac_model::time::Span;
use theriac_protocol::courier::{CourierAnswer, CourierRequest};
use theriac_protocol::frame::{self, Frame};

/// Far above what anything here takes, so that a slow machine fails no test.
const PATIENCE: Duration = Duration::from_secs(30);
/// For servers that never answer.
const SHORT: Span = Span::from_millis(300);
/// For servers that do.
const LONG: Span = Span::from_secs(20);

const PROGRAM: &str = env!("CARGO_BIN_EXE_theriac-courier");

struct Courier {
    child: Child,
    dir: tempfile::TempDir,
}

impl Courier {
    fn start(config: &str, extra: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::start_in(dir, config, extra)
    }

    fn start_in(dir: tempfile::TempDir, config: &str, extra: &[&str]) -> Self {
        Self::start_by(Command::new(PROGRAM), dir, config, extra)
    }

    /// Started as it is, or by another program that becomes it.
    fn start_by(mut command: Command, dir: tempfile::TempDir, config: &str, extra: &[&str]) -> Self {
        fs::write(dir.path().join("courier-net.toml"), config).unwrap();
        let told = dir.path().join("notify");
        let ready = UnixDatagram::bind(&told).unwrap();
        ready.set_read_timeout(Some(PATIENCE)).unwrap();
        let child = command
            .args(["net".as_ref(), "--config".as_ref(), dir.path(), "--state".as_ref(), dir.path()])
            .args(extra)
            // Would be obeyed by a client that reads its environment.
            .env("http_proxy", "http://127.0.0.1:1/")
            .env("HTTPS_PROXY", "http://127.0.0.1:1/")
            .env("NOTIFY_SOCKET", &told)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // As it says it to systemd, once it is sealed.
        let mut said = [0; 64];
        ready.recv(&mut said).unwrap();
        assert!(said.starts_with(b"READY=1"));
        Self { child, dir }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("run/courier-net.sock")
    }

    fn peer(&self) -> Peer {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut peer = Peer { stream, epoch: 1, id: 0 };
        assert!(matches!(peer.ask(hello()), CourierAnswer::Hello { .. }));
        peer
    }

    fn check(&self, check: HealthCheck) -> HealthAnswer {
        match self.peer().ask(CourierRequest::Check(check)) {
            CourierAnswer::Checked(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    fn http(&self, server: SocketAddr, timeout: Span) -> HealthAnswer {
        self.check(http(&format!("http://{server}/health"), timeout))
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

struct Peer {
    stream: UnixStream,
    epoch: u64,
    id: u64,
}

fn hello() -> CourierRequest {
    CourierRequest::Hello { version: "t".to_owned() }
}

impl Peer {
    fn send(&mut self, message: CourierRequest) -> u64 {
        self.id += 1;
        frame::write(&mut self.stream, &Frame { epoch: self.epoch, id: self.id, message }).unwrap();
        self.id
    }

    fn next(&mut self) -> Frame<CourierAnswer> {
        frame::read(&mut self.stream).unwrap()
    }

    fn ask(&mut self, message: CourierRequest) -> CourierAnswer {
        let id = self.send(message);
        let answer = self.next();
        assert_eq!(answer.id, id);
        answer.message
    }
}

fn http(url: &str, timeout: Span) -> HealthCheck {
    HealthCheck::Http { url: HealthUrl::parse(url).unwrap(), status: 200, timeout }
}

/// Serves every connection with the same behaviour, each on a thread of its own.
fn server(behaviour: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let behaviour = Arc::new(behaviour);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let behaviour = Arc::clone(&behaviour);
            std::thread::spawn(move || behaviour(stream));
        }
    });
    address
}

/// Reads the request's head, then writes the answer.
fn answering(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer = answer.into();
    server(move |mut stream| {
        read_head(&mut stream);
        stream.write_all(&answer).ok();
    })
}

fn read_head(stream: &mut impl Read) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Writes the piece until the peer has had enough, after the request: an answer before it is another fault.
fn for_ever_after_head(mut stream: TcpStream, piece: &[u8], pause: Duration) {
    read_head(&mut stream);
    for_ever(stream, piece, pause);
}

/// Writes the piece until the peer has had enough.
fn for_ever(mut stream: TcpStream, piece: &[u8], pause: Duration) {
    while stream.write_all(piece).is_ok() {
        std::thread::sleep(pause);
    }
}

// NW10.
#[test]
fn a_serving_peer_passes_and_a_wrong_status_or_a_closed_port_fails() {
    let courier = Courier::start("", &[]);
    let ok = answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let answer = courier.http(ok, LONG);
    assert_eq!((answer.ok, answer.detail.as_str()), (true, "answered 200"));
    let sick = courier.http(answering("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"), LONG);
    assert_eq!((sick.ok, sick.detail.as_str()), (false, "answered 503"));
    let tcp = |address| courier.check(HealthCheck::Tcp { address, timeout: LONG });
    assert!(tcp(ok).ok);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!((tcp(closed).ok, tcp(closed).detail.as_str()), (false, "connection refused"));
    assert_eq!(courier.http(closed, LONG).detail, "connection refused");
}

#[test]
fn localhost_is_reached_without_a_resolver() {
    let courier = Courier::start("", &[]);
    let address = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    assert!(courier.check(http(&format!("http://localhost:{}/health", address.port()), LONG)).ok);
}

// NW01.
#[test]
fn a_redirect_is_an_answer_and_is_not_followed() {
    let courier = Courier::start("", &[]);
    let followed = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let answer = format!("HTTP/1.1 302 Found\r\nlocation: http://{followed}/\r\ncontent-length: 0\r\n\r\n");
    let answer = courier.http(answering(answer), LONG);
    assert_eq!((answer.ok, answer.detail.as_str()), (false, "answered 302"));
}

// NW08.
#[test]
fn the_body_is_not_waited_for_however_large_or_slow() {
    let courier = Courier::start("", &[]);
    let huge = server(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n").unwrap();
        for_ever(stream, &[b'x'; 65536], Duration::ZERO);
    });
    assert!(courier.http(huge, LONG).ok);
    let slow = server(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        for_ever(stream, b"1\r\nx\r\n", Duration::from_millis(50));
    });
    assert!(courier.http(slow, LONG).ok);
}

/// The answer must come at the check's timeout, not at the peer's pleasure.
fn times_out(courier: &Courier, address: SocketAddr) {
    let started = Instant::now();
    let answer = courier.http(address, SHORT);
    assert_eq!((answer.ok, answer.detail.as_str()), (false, "no answer within 300ms"));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

// NW08, RS14.
#[test]
fn a_peer_that_drips_or_says_nothing_ends_with_the_timeout() {
    let courier = Courier::start("", &[]);
    times_out(&courier, server(|stream| for_ever_after_head(stream, b"H", Duration::from_secs(5))));
    times_out(&courier, server(|mut stream| drop(stream.read_to_end(&mut Vec::new()))));
    let drip = server(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
        for_ever(stream, b"x", Duration::from_millis(20));
    });
    times_out(&courier, drip);
    times_out(
        &courier,
        server(|stream| for_ever_after_head(stream, b"HTTP/1.1 100 Continue\r\n\r\n", Duration::from_millis(1))),
    );
}

// NW08.
#[test]
fn headers_without_end_and_what_is_no_http_are_no_answer_and_cost_no_memory() {
    let courier = Courier::start("", &[]);
    let endless = server(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
        let mut line = vec![b'a'; 60_000];
        line[1] = b':';
        line.extend_from_slice(b"\r\n");
        for_ever(stream, &line, Duration::ZERO);
    });
    let many = answering(format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(200)));
    for hostile in [endless, many, answering("SSH-2.0-OpenSSH_9.2\r\n"), answering([0xff; 100])] {
        let answer = courier.http(hostile, LONG);
        assert_eq!((answer.ok, answer.detail.as_str()), (false, "no HTTP answer"));
    }
    assert!(!courier.http(server(drop), LONG).ok);
    let status = fs::read_to_string(format!("/proc/{}/status", courier.child.id())).unwrap();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    assert!(peak.unwrap() < 64 << 10, "{peak:?} kB");
}

// RS14.
#[test]
fn one_slow_check_holds_up_no_other_and_more_than_allowed_are_refused() {
    let courier = Courier::start("max_checks = 2", &[]);
    let silent = server(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let healthy = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let mut peer = courier.peer();
    let slow = peer.send(CourierRequest::Check(http(&format!("http://{silent}/"), Span::from_secs(3))));
    let fast = peer.send(CourierRequest::Check(http(&format!("http://{healthy}/"), LONG)));
    let first = peer.next();
    assert_eq!(first.id, fast);
    assert!(matches!(first.message, CourierAnswer::Checked(answer) if answer.ok));
    peer.send(CourierRequest::Check(http(&format!("http://{silent}/"), Span::from_secs(3))));
    let third = peer.ask(CourierRequest::Check(http(&format!("http://{healthy}/"), LONG)));
    assert_eq!(third, CourierAnswer::Refused("2 are under way already".to_owned()));
    assert_eq!(peer.next().id, slow);
    let endless = CourierRequest::Check(http(&format!("http://{healthy}/"), Span::from_secs(3600)));
    assert!(matches!(courier.peer().ask(endless), CourierAnswer::Refused(_)));
}

#[test]
fn a_lower_epoch_is_refused_and_garbage_disturbs_nobody() {
    let courier = Courier::start("", &[]);
    let healthy = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let check = || CourierRequest::Check(http(&format!("http://{healthy}/"), LONG));
    let mut old = courier.peer();
    let mut new = courier.peer();
    new.epoch = 2;
    assert!(matches!(new.ask(hello()), CourierAnswer::Hello { .. }));
    assert!(matches!(new.ask(check()), CourierAnswer::Checked(_)));
    assert_eq!(old.ask(check()), CourierAnswer::Refused("epoch 1 is over: epoch 2 has been seen".to_owned()));
    UnixStream::connect(courier.socket()).unwrap().write_all(&[0xff; 4096]).ok();
    assert!(matches!(new.ask(check()), CourierAnswer::Checked(_)));
}

#[test]
fn the_running_courier_is_sealed_and_holds_no_file() {
    let root = rustix::process::geteuid().is_root();
    let user: &[&str] = if root { &["--uid", "65532", "--gid", "65532"] } else { &[] };
    let courier = Courier::start("", user);
    assert!(courier.http(answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), LONG).ok);
    let status = fs::read_to_string(format!("/proc/{}/status", courier.child.id())).unwrap();
    assert!(status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"), "{status}");
    assert!(status.contains("Threads:\t1"), "a thread before the seal would not be sealed: {status}");
    if root {
        assert!(status.contains("Uid:\t65532\t65532\t65532\t65532") && status.contains("CapEff:\t0000000000000000"));
        assert!(status.lines().any(|line| line.trim_end() == "Groups:"), "{status}");
    }
}

struct Tls {
    authority: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

impl Tls {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        Self { authority: rcgen::CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    /// Serves HTTPS with a certificate for these names.
    fn server(&self, names: &[&str]) -> SocketAddr {
        self.server_until(names, 2999)
    }

    /// The same with a certificate that ends with that year's first day.
    fn server_until(&self, names: &[&str], year: i32) -> SocketAddr {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        let config = Arc::new(config);
        server(move |stream| {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = rustls::StreamOwned::new(connection, stream);
            if read_head(&mut tls).contains("GET /health") {
                tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok();
            }
        })
    }

    fn courier(&self, extra: &str) -> Courier {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        fs::write(&path, self.authority.pem()).unwrap();
        Courier::start_in(dir, &format!("ca_files = [{path:?}]\n{extra}"), &[])
    }
}

fn https(courier: &Courier, address: SocketAddr) -> (bool, String) {
    let answer = courier.check(http(&format!("https://{address}/health"), LONG));
    (answer.ok, answer.detail)
}

// NW11.
#[test]
fn tls_is_verified_against_the_configured_authority() {
    let tls = Tls::new();
    let address = tls.server(&["127.0.0.1"]);
    assert_eq!(https(&tls.courier(""), address), (true, "answered 200".to_owned()));
    let stranger = Courier::start("", &[]);
    assert_eq!(https(&stranger, address), (false, "the certificate's issuer is not trusted".to_owned()));
    let plain = server(|mut stream| stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap());
    assert_eq!(https(&stranger, plain), (false, "the TLS handshake failed".to_owned()));
}

// NW11.
#[test]
fn a_certificate_whose_time_is_over_is_not_trusted_and_is_called_so() {
    let tls = Tls::new();
    let expired = https(&tls.courier(""), tls.server_until(&["127.0.0.1"], 2020));
    assert_eq!(expired, (false, "the certificate has expired".to_owned()));
    assert!(https(&tls.courier(""), tls.server(&["127.0.0.1"])).0);
}

// NW11.
#[test]
fn a_certificate_for_a_name_needs_that_name_to_be_configured_for_the_address() {
    let tls = Tls::new();
    let address = tls.server(&["www.example.com"]);
    assert_eq!(https(&tls.courier(""), address), (false, "the certificate is for another name".to_owned()));
    let named = |name| format!("[[tls]]\naddress = \"{address}\"\nname = \"{name}\"");
    assert!(https(&tls.courier(&named("www.example.com")), address).0);
    assert!(!https(&tls.courier(&named("www.example.org")), address).0);
}
