//! The real binary, sealed, against an engine that does what it should not: each answer is typed, and comes in time and in bounds.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and so do its helpers")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use theriac_model::container::{
    ContainerId, ContainerName, ContainerRef, ContainerSelector, ContainerVerb, Incarnation, RunState,
};
use theriac_model::time::Span;
use theriac_protocol::docker::{DockerAnswer, DockerRequest};
use theriac_protocol::frame::{self, Frame};

/// Far above what anything here takes, so that a slow machine fails no test.
const PATIENCE: Duration = Duration::from_secs(30);
const STARTED: &str = "2026-11-22T10:00:00.5Z";

fn id() -> String {
    "a".repeat(64)
}

/// An inspection as engines send it.
fn inspection(id: &str, started: &str) -> String {
    let state = format!(r#"{{"Status":"running","ExitCode":0,"StartedAt":"{started}"}}"#);
    json(&format!(r#"{{"Id":"{id}","Name":"/api","State":{state},"Config":{{"Tty":false,"Labels":{{}}}}}}"#))
}

fn json(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

const PONG: &str = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\ncontent-length: 2\r\n\r\nOK";

/// What an engine does with a connection, once the request's first line is known.
type Behaviour = dyn Fn(&str, &mut UnixStream) + Send + Sync;

/// A courier and its engine, which notes what it is asked.
struct Courier {
    child: Child,
    dir: tempfile::TempDir,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Courier {
    /// The engine answers a ping as it should; everything else is the behaviour's.
    fn with(behaviour: impl Fn(&str, &mut UnixStream) + Send + Sync + 'static) -> Self {
        Self::with_all(move |line, stream| {
            if line.contains("/_ping") { drop(stream.write_all(PONG.as_bytes())) } else { behaviour(line, stream) }
        })
    }

    fn with_all(behaviour: impl Fn(&str, &mut UnixStream) + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        engine(&dir.path().join("engine.sock"), Arc::clone(&asked), Arc::new(behaviour));
        Self::start(dir, asked, "")
    }

    fn start(dir: tempfile::TempDir, asked: Arc<Mutex<Vec<String>>>, more: &str) -> Self {
        let config = format!("socket = {:?}\n{more}", dir.path().join("engine.sock"));
        fs::write(dir.path().join("courier-docker.toml"), config).unwrap();
        let told = dir.path().join("notify");
        let ready = UnixDatagram::bind(&told).unwrap();
        ready.set_read_timeout(Some(PATIENCE)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_theriac-courier"))
            .args(["docker".as_ref(), "--config".as_ref(), dir.path(), "--state".as_ref(), dir.path()])
            // Would be obeyed by a client that reads its environment.
            .env("DOCKER_HOST", "tcp://127.0.0.1:1")
            .env("NOTIFY_SOCKET", &told)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = [0; 64];
        ready.recv(&mut said).unwrap();
        assert!(said.starts_with(b"READY=1"));
        Self { child, dir, asked }
    }

    fn peer(&self) -> Peer {
        let stream = UnixStream::connect(self.dir.path().join("run/courier-docker.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut peer = Peer { stream, id: 0 };
        let hello = DockerRequest::Hello { version: "t".to_owned() };
        assert!(matches!(peer.ask(hello), DockerAnswer::Hello { .. }));
        peer
    }

    fn ask(&self, request: DockerRequest) -> DockerAnswer {
        self.peer().ask(request)
    }

    /// The paths that the engine was asked for, without pings.
    fn asked(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked
            .iter()
            .filter(|line| !line.contains("_ping"))
            .map(|line| line.split(" HTTP").next().unwrap().to_owned())
            .collect()
    }

    fn peak_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak.unwrap().parse().unwrap()
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
    fn send(&mut self, message: DockerRequest) -> u64 {
        self.id += 1;
        frame::write(&mut self.stream, &Frame { epoch: 1, id: self.id, message }).unwrap();
        self.id
    }

    fn next(&mut self) -> Frame<DockerAnswer> {
        frame::read(&mut self.stream).unwrap()
    }

    fn ask(&mut self, message: DockerRequest) -> DockerAnswer {
        let id = self.send(message);
        let answer = self.next();
        assert_eq!(answer.id, id);
        answer.message
    }
}

/// Serves every connection with the same behaviour, each on a thread of its own.
fn engine(path: &Path, asked: Arc<Mutex<Vec<String>>>, behaviour: Arc<Behaviour>) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (asked, behaviour) = (Arc::clone(&asked), Arc::clone(&behaviour));
            std::thread::spawn(move || {
                let line = read_head(&mut stream).lines().next().unwrap_or_default().to_owned();
                asked.lock().unwrap().push(line.clone());
                behaviour(&line, &mut stream);
            });
        }
    });
}

fn read_head(stream: &mut impl Read) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn answering(answer: String) -> impl Fn(&str, &mut UnixStream) + Send + Sync {
    move |_, stream| drop(stream.write_all(answer.as_bytes()))
}

/// Writes the piece until the peer has had enough.
fn for_ever(stream: &mut UnixStream, piece: &[u8], pause: Duration) {
    while stream.write_all(piece).is_ok() {
        std::thread::sleep(pause);
    }
}

fn find() -> DockerRequest {
    DockerRequest::Find { selector: ContainerSelector::Name(ContainerName::parse("api").unwrap()) }
}

fn reference(started: &str) -> ContainerRef {
    ContainerRef { id: ContainerId::parse(&id()).unwrap(), incarnation: Incarnation::Started(started.into()) }
}

fn stop(timeout: Span) -> DockerRequest {
    DockerRequest::Change { container: reference(STARTED), verb: ContainerVerb::Stop, timeout }
}

#[test]
fn an_engine_as_it_should_be_is_understood_and_asked_for_nothing_else() {
    let courier = Courier::with(|line, stream| {
        let answer = if line.starts_with("POST") {
            "HTTP/1.1 204 No Content\r\n\r\n".to_owned()
        } else if line.contains("/logs") {
            json("\u{1}\0\0\0\0\0\0\u{6}hello\n")
        } else {
            inspection(&id(), STARTED)
        };
        drop(stream.write_all(answer.as_bytes()));
    });
    let DockerAnswer::Container(state) = courier.ask(find()) else { panic!("not found") };
    assert_eq!((state.id.as_str(), state.run), (id().as_str(), RunState::Running));
    assert!(matches!(courier.ask(stop(Span::from_secs(5))), DockerAnswer::Container(_)));
    let tail = DockerRequest::LogTail { id: state.id, lines: 9_999 };
    assert_eq!(courier.ask(tail), DockerAnswer::Lines(vec!["hello".to_owned()]));
    let whole = format!("/v1.41/containers/{}", id());
    // It looks again until the container has stopped, which this one never has.
    let mut asked = courier.asked();
    asked.dedup();
    assert_eq!(
        asked,
        [
            "GET /v1.41/containers/api/json".to_owned(),
            format!("GET {whole}/json"),
            format!("POST {whole}/stop"),
            format!("GET {whole}/json"),
            format!("GET {whole}/logs?stdout=1&stderr=1&tail=200"),
        ],
        "changes go by the full id, and are preceded by a look"
    );
}

#[test]
fn garbage_is_an_answer_of_its_own_and_changes_nothing() {
    let garbage: [Box<Behaviour>; 7] = [
        Box::new(answering("SSH-2.0-OpenSSH_9.2\r\n".to_owned())),
        Box::new(|_, stream| drop(stream.write_all(&[0xff; 4096]))),
        Box::new(answering(json("{"))),
        Box::new(answering(json("[]"))),
        Box::new(answering(json(&"[".repeat(100_000)))),
        Box::new(answering(inspection("../../etc", STARTED))),
        Box::new(|_, _| {}),
    ];
    for behaviour in garbage {
        let courier = Courier::with(behaviour);
        assert!(matches!(courier.ask(find()), DockerAnswer::Failed(_)));
        let answer = courier.ask(stop(Span::from_secs(5)));
        assert!(matches!(answer, DockerAnswer::Failed(_)), "{answer:?}");
        assert!(courier.asked().iter().all(|line| line.starts_with("GET")), "nothing was asked to change");
    }
    // What does not even answer a ping is no engine.
    let courier = Courier::with_all(answering(json("hello")));
    assert!(matches!(courier.ask(find()), DockerAnswer::Failed(reason) if reason.contains("no container engine")));
}

#[test]
fn an_answer_without_end_costs_no_memory_and_no_time() {
    let endless: [Box<Behaviour>; 3] = [
        Box::new(|_, stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n").unwrap();
            for_ever(stream, &[b' '; 65536], Duration::ZERO);
        }),
        Box::new(|_, stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
            for_ever(stream, format!("10000\r\n{}\r\n", "[".repeat(0x10000)).as_bytes(), Duration::ZERO);
        }),
        Box::new(|_, stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
            for_ever(stream, format!("a: {}\r\n", "b".repeat(60_000)).as_bytes(), Duration::ZERO);
        }),
    ];
    for behaviour in endless {
        let courier = Courier::with(behaviour);
        let began = Instant::now();
        for request in [find(), DockerRequest::LogTail { id: ContainerId::parse(&id()).unwrap(), lines: 10 }] {
            assert!(matches!(courier.ask(request), DockerAnswer::Failed(_)));
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert!(courier.peak_kib() < 64 << 10, "{} KiB", courier.peak_kib());
    }
    let log = Courier::with(|line, stream| {
        if line.contains("/logs") {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            for_ever(stream, &[b'x'; 65536], Duration::ZERO);
        } else {
            drop(stream.write_all(inspection(&id(), STARTED).as_bytes()));
        }
    });
    let tail = DockerRequest::LogTail { id: ContainerId::parse(&id()).unwrap(), lines: 10 };
    assert!(matches!(log.ask(tail), DockerAnswer::Failed(reason) if reason.contains("longer than")));
    assert!(log.peak_kib() < 64 << 10, "{} KiB", log.peak_kib());
}

#[test]
fn an_engine_that_drips_or_says_nothing_ends_with_the_time_and_holds_up_nobody() {
    let slow: [Box<Behaviour>; 2] = [
        Box::new(|_, stream| drop(stream.read_to_end(&mut Vec::new()))),
        Box::new(|_, stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 999999\r\n\r\n").unwrap();
            for_ever(stream, b" ", Duration::from_millis(20));
        }),
    ];
    for behaviour in slow {
        let courier = Courier::with(behaviour);
        let began = Instant::now();
        assert!(matches!(courier.ask(find()), DockerAnswer::Failed(reason) if reason.contains("no whole answer")));
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
    // A stop that takes its time, and a look in the middle of it.
    let courier = Courier::with(|line, stream| {
        if line.starts_with("POST") {
            drop(stream.read_to_end(&mut Vec::new()));
        } else {
            drop(stream.write_all(inspection(&id(), STARTED).as_bytes()));
        }
    });
    let mut peer = courier.peer();
    let slow = peer.send(stop(Span::from_secs(2)));
    let fast = peer.send(find());
    assert_eq!(peer.next().id, fast);
    let last = peer.next();
    assert_eq!(last.id, slow);
    assert!(matches!(last.message, DockerAnswer::Lost(_)), "it was asked, and may have happened: {last:?}");
}

#[test]
fn what_a_change_came_to_is_told_apart() {
    let answered = |answer: &'static str| {
        let courier = Courier::with(move |line, stream| {
            let answer = if line.starts_with("POST") { answer.to_owned() } else { inspection(&id(), STARTED) };
            drop(stream.write_all(answer.as_bytes()));
        });
        courier.ask(stop(Span::from_secs(5)))
    };
    let no = |status: &str, body: &str| -> &'static str {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).leak()
    };
    assert!(matches!(answered(no("304 Not Modified", "")), DockerAnswer::Container(_)));
    assert!(matches!(answered(no("404 Not Found", r#"{"message":"gone"}"#)), DockerAnswer::Stale(_)));
    let refused = answered(no("409 Conflict", r#"{"message":"it is\nbeing removed"}"#));
    assert_eq!(refused, DockerAnswer::Failed("the engine answered with 409: it is being removed".to_owned()));
    assert!(matches!(answered(no("500 Oops", &"x".repeat(9_000))), DockerAnswer::Lost(reason) if reason.len() < 400));
    assert!(matches!(answered(""), DockerAnswer::Lost(_)), "hung up in the middle");
}

#[test]
fn a_life_that_is_over_and_a_name_that_moved_are_stale_before_anything_is_asked() {
    let courier = Courier::with(answering(inspection(&id(), "2026-11-22T11:00:00Z")));
    assert!(matches!(courier.ask(stop(Span::from_secs(5))), DockerAnswer::Stale(_)));
    // A container that is called like another one's id.
    let courier = Courier::with(answering(inspection(&"b".repeat(64), STARTED)));
    assert!(matches!(courier.ask(stop(Span::from_secs(5))), DockerAnswer::Stale(_)));
    assert!(courier.asked().iter().all(|line| line.starts_with("GET")));
}

#[test]
fn limits_are_kept_and_an_engine_that_is_not_there_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let courier = Courier::start(dir, Arc::clone(&asked), "max_requests = 1\n");
    assert!(matches!(courier.ask(find()), DockerAnswer::Unreachable(_)));
    engine(
        &courier.dir.path().join("engine.sock"),
        asked,
        Arc::new(|line: &str, stream: &mut UnixStream| {
            if line.contains("_ping") {
                drop(stream.write_all(PONG.as_bytes()));
            } else if line.starts_with("POST") {
                drop(stream.read_to_end(&mut Vec::new()));
            } else {
                drop(stream.write_all(inspection(&id(), STARTED).as_bytes()));
            }
        }),
    );
    assert!(matches!(courier.ask(find()), DockerAnswer::Container(_)), "it came later");
    let endless = stop(Span::from_secs(3_600));
    assert!(matches!(courier.ask(endless), DockerAnswer::Refused(reason) if reason.contains("at most")));
    let mut peer = courier.peer();
    let slow = peer.send(stop(Span::from_secs(2)));
    // One after the other on one connection: the first is at work before the second is read.
    let second = peer.send(find());
    let answer = peer.next();
    assert_eq!(
        (answer.id, answer.message),
        (second, DockerAnswer::Refused("1 requests to the engine run already".to_owned()))
    );
    assert_eq!(peer.next().id, slow);
}
