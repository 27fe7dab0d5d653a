//! The real binary, sealed, against an authority that does what it should not: whatever it answers is bounded, and what comes of it
//! is a sentence. The end-to-end tests order from a real one.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, and so do its helpers"
)]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use theriac_model::certificate::DnsName;
use theriac_model::units::Blob;
use theriac_protocol::acme::{AcmeAnswer, AcmeRequest};
use theriac_protocol::frame::{self, Frame};

const PATIENCE: Duration = Duration::from_secs(60);
const NONCE: &str = "Replay-Nonce: abcdefghijklmnop\r\n";

/// What it answers to the request for a path.
type Manner = fn(&str, &Authority) -> String;

/// A server on loopback whose certificate is right and whose answers are not.
struct Authority {
    address: SocketAddr,
    asked: Arc<AtomicU32>,
    root: String,
}

impl Clone for Authority {
    fn clone(&self) -> Self {
        Self { address: self.address, asked: Arc::clone(&self.asked), root: self.root.clone() }
    }
}

impl Authority {
    fn start(manner: Manner) -> Self {
        let (root, root_key) = (ca(), KeyPair::generate().unwrap());
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let own = own.signed_by(&key, &Issuer::from_params(&root, &root_key)).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let secret = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let config = Arc::new(builder.with_no_client_auth().with_single_cert(vec![own.der().clone()], secret).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = Self {
            address: listener.local_addr().unwrap(),
            asked: Arc::default(),
            root: root.self_signed(&root_key).unwrap().pem(),
        };
        let mine = authority.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map(Result::unwrap) {
                let (config, mine) = (Arc::clone(&config), mine.clone());
                std::thread::spawn(move || {
                    let connection = rustls::ServerConnection::new(config).unwrap();
                    let mut tls = rustls::StreamOwned::new(connection, stream);
                    let path = path_of(&mut tls);
                    if path.is_empty() {
                        // No handshake, and so no request.
                        return;
                    }
                    mine.asked.fetch_add(1, Ordering::Relaxed);
                    let answer = manner(&path, &mine);
                    if answer == ENDLESS {
                        tls.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok();
                        while tls.write_all(&[b'x'; 65_536]).is_ok() {}
                    } else {
                        tls.write_all(answer.as_bytes()).ok();
                        tls.conn.send_close_notify();
                        tls.flush().ok();
                    }
                });
            }
        });
        authority
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }
}

const ENDLESS: &str = "endless";

fn ca() -> CertificateParams {
    let mut root = CertificateParams::new(Vec::new()).unwrap();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root
}

/// Reads the whole request, so that closing afterwards loses no answer.
fn path_of(tls: &mut impl Read) -> String {
    let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let shown = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = shown.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return head.split(' ').nth(1).unwrap_or_default().to_owned();
            }
        }
        match tls.read(&mut chunk) {
            Ok(0) | Err(_) => return String::new(),
            Ok(n) => text.extend_from_slice(&chunk[..n]),
        }
    }
}

fn json(status: &str, more: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n{NONCE}{more}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn directory(authority: &Authority) -> String {
    let url = |path| authority.url(path);
    let body = format!(
        r#"{{"newNonce":{:?},"newAccount":{:?},"newOrder":{:?}}}"#,
        url("/nonce"),
        url("/account"),
        url("/order")
    );
    json("200 OK", "", &body)
}

/// As it should be, up to the challenges; then that token.
fn orderly(path: &str, authority: &Authority, token: &str) -> String {
    let url = |path| authority.url(path);
    match path {
        "/dir" => directory(authority),
        "/account" => json("201 Created", &format!("Location: {}\r\n", url("/account/1")), r#"{"status":"valid"}"#),
        "/order" => json(
            "201 Created",
            &format!("Location: {}\r\n", url("/order/1")),
            &format!(
                r#"{{"status":"pending","authorizations":[{:?}],"finalize":{:?}}}"#,
                url("/authz"),
                url("/finalize")
            ),
        ),
        "/authz" => json(
            "200 OK",
            "",
            &format!(
                r#"{{"status":"pending","identifier":{{"type":"dns","value":"a.test"}},"challenges":[{{"type":"http-01","url":{:?},"token":{token:?},"status":"pending"}}]}}"#,
                url("/challenge")
            ),
        ),
        "/challenge" => json(
            "200 OK",
            "",
            &format!(r#"{{"type":"http-01","url":{:?},"token":{token:?},"status":"processing"}}"#, url("/challenge")),
        ),
        // HEAD of the nonce.
        _ => format!("HTTP/1.1 200 OK\r\n{NONCE}content-length: 0\r\n\r\n"),
    }
}

struct Courier {
    child: Child,
    dir: tempfile::TempDir,
}

impl Courier {
    fn start(authority: &Authority) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let account = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        fs::write(path("account.key"), account.serialize_pem()).unwrap();
        fs::set_permissions(path("account.key"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(path("ca.pem"), &authority.root).unwrap();
        let config = format!(
            "directory = {:?}\nterms_agreed = true\naccount_key = {:?}\npublic_roots = false\nca_files = [{:?}]\n",
            authority.url("/dir"),
            path("account.key"),
            path("ca.pem"),
        );
        fs::write(path("courier-acme.toml"), config).unwrap();
        let told = path("notify");
        let ready = UnixDatagram::bind(&told).unwrap();
        ready.set_read_timeout(Some(PATIENCE)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_theriac-courier"))
            .args(["acme".as_ref(), "--config".as_ref(), dir.path(), "--state".as_ref(), dir.path()])
            .env("HTTPS_PROXY", "http://127.0.0.1:1/")
            .env("NOTIFY_SOCKET", &told)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = [0; 64];
        ready.recv(&mut said).unwrap();
        assert!(said.starts_with(b"READY=1"));
        Self { child, dir }
    }

    fn peer(&self) -> Peer {
        let stream = UnixStream::connect(self.dir.path().join("run/courier-acme.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE * 3)).unwrap();
        Peer { stream, id: 0 }
    }

    fn order(&self) -> AcmeAnswer {
        let mut peer = self.peer();
        let AcmeAnswer::Hello { account, .. } = peer.ask(AcmeRequest::Hello { version: "t".to_owned() }) else {
            panic!("no hello")
        };
        assert_eq!(account.len(), 43);
        peer.ask(AcmeRequest::Order { names: vec![DnsName::parse("a.test").unwrap()] })
    }

    fn failure(&self) -> String {
        match self.order() {
            AcmeAnswer::Failed(words) => words,
            other => panic!("{other:?}"),
        }
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
    id: u64,
}

impl Peer {
    fn ask(&mut self, message: AcmeRequest) -> AcmeAnswer {
        self.id += 1;
        frame::write(&mut self.stream, &Frame { epoch: 1, id: self.id, message }).unwrap();
        let answer: Frame<AcmeAnswer> = frame::read(&mut self.stream).unwrap();
        assert_eq!(answer.id, self.id);
        answer.message
    }
}

fn failure_of(manner: Manner) -> String {
    Courier::start(&Authority::start(manner)).failure()
}

#[test]
fn challenges_are_handed_on_as_they_are_and_looked_at_by_the_runner() {
    let authority = Authority::start(|path, authority| orderly(path, authority, "../../etc/cron.d/x"));
    let AcmeAnswer::Challenges(challenges) = Courier::start(&authority).order() else { panic!("no challenges") };
    assert_eq!(challenges[0].token, "../../etc/cron.d/x");
    assert!(!challenges[0].is_sound(challenges[0].answer.rsplit('.').next().unwrap()));
}

// NW08.
#[test]
fn an_endless_answer_ends() {
    let began = Instant::now();
    let words = failure_of(|_, _| ENDLESS.to_owned());
    assert!(words.contains("longer than 256 KiB"), "{words}");
    assert!(began.elapsed() < PATIENCE);
}

// NW03, NW09.
#[test]
fn another_origin_is_never_asked() {
    let words = failure_of(|path, authority| match path {
        "/dir" => json(
            "200 OK",
            "",
            r#"{"newNonce":"https://169.254.169.254/","newAccount":"https://127.0.0.1:1/","newOrder":"http://127.0.0.1/"}"#,
        ),
        _ => orderly(path, authority, "t"),
    });
    assert!(words.contains("another origin"), "{words}");
}

#[test]
fn what_is_no_answer_of_an_authority_is_a_sentence() {
    for manner in [
        (|_, _| json("200 OK", "", "[[[[")) as Manner,
        |_, _| json("500 Oops", "", "\u{1b}[2J"),
        |_, _| "not HTTP at all".to_owned(),
        |_, _| String::new(),
        |_, _| json("200 OK", "", &"[".repeat(200_000)),
    ] {
        let words = failure_of(manner);
        assert!(!words.is_empty() && words.chars().all(|c| !c.is_control()) && words.len() < 4_000, "{words:?}");
    }
}

#[test]
fn what_it_says_is_told_cut_and_escaped() {
    let words = failure_of(|path, authority| match path {
        "/order" => {
            let body = format!(
                r#"{{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many\u001b[2J certificates {}"}}"#,
                "x".repeat(9_000)
            );
            json("429 Too Many Requests", "", &body)
        }
        _ => orderly(path, authority, "t"),
    });
    assert!(words.contains("too many\\u{1b}[2J certificates") && words.len() < 4_000, "{words}");
}

#[test]
fn an_authority_that_asks_for_the_next_century_ends_the_order_and_not_the_courier() {
    static LOOKS: AtomicU32 = AtomicU32::new(0);
    let authority = Authority::start(|path, authority| match path {
        "/order/1" => {
            let status = if LOOKS.fetch_add(1, Ordering::Relaxed) == 0 { "pending" } else { "invalid" };
            let finalize = authority.url("/finalize");
            let body = format!(r#"{{"status":"{status}","authorizations":[],"finalize":{finalize:?}}}"#);
            json("200 OK", "Retry-After: 18446744073709551615\r\n", &body)
        }
        _ => orderly(path, authority, "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"),
    });
    let courier = Courier::start(&authority);
    let mut peer = courier.peer();
    peer.ask(AcmeRequest::Hello { version: "t".to_owned() });
    let order = AcmeRequest::Order { names: vec![DnsName::parse("a.test").unwrap()] };
    assert!(matches!(peer.ask(order), AcmeAnswer::Challenges(_)));
    let AcmeAnswer::Failed(words) = peer.ask(AcmeRequest::Proceed { csr: Blob(vec![0x30, 0]) }) else {
        panic!("issued")
    };
    assert!(words.contains("did not find the answers"), "{words}");
    assert_eq!(LOOKS.load(Ordering::Relaxed), 2, "it was asked again soon, and not in the next century");
    assert!(matches!(courier.order(), AcmeAnswer::Challenges(_)), "the next order is served");
}

#[test]
fn one_connection_is_one_order_and_none_is_begun_before_hello() {
    let authority = Authority::start(|path, authority| orderly(path, authority, "t"));
    let courier = Courier::start(&authority);
    let mut peer = courier.peer();
    let order = || AcmeRequest::Order { names: vec![DnsName::parse("a.test").unwrap()] };
    assert!(matches!(peer.ask(order()), AcmeAnswer::Refused(_)));
    peer.ask(AcmeRequest::Hello { version: "t".to_owned() });
    assert!(matches!(peer.ask(AcmeRequest::Proceed { csr: Blob(Vec::new()) }), AcmeAnswer::Refused(_)));
    assert!(matches!(peer.ask(order()), AcmeAnswer::Challenges(_)));
    assert!(matches!(peer.ask(order()), AcmeAnswer::Refused(_)));
}

// NW11.
#[test]
fn an_authority_whose_own_certificate_nobody_vouches_for_is_not_spoken_to() {
    let authority = Authority::start(|path, authority| orderly(path, authority, "t"));
    let (other, key) = (ca(), KeyPair::generate().unwrap());
    let stranger = Authority { root: other.self_signed(&key).unwrap().pem(), ..authority.clone() };
    let words = Courier::start(&stranger).failure();
    assert!(words.contains("TLS handshake failed"), "{words}");
    assert_eq!(authority.asked.load(Ordering::Relaxed), 0);
}
