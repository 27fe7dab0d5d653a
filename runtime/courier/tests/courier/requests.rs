//! HTTP requests of remedies: what leaves this host, which addresses are reached, and how little a hostile answer costs.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;

use theriac_model::http::{HttpAnswer, HttpMethod, HttpRequest, Origin, Reach};
use theriac_model::units::{Blob, Bytes};

use super::name_server::NameServer;
use super::*;

const LOOPBACK: Reach = Reach { loopback: true, private: false, metadata: false };
const PUBLIC: Reach = Reach { loopback: false, private: false, metadata: false };

fn get(origin: &str, reach: Reach) -> HttpRequest {
    HttpRequest {
        origin: Origin::parse(origin).unwrap(),
        method: HttpMethod::Get,
        target: "/health?deep=1".to_owned(),
        body: Blob::default(),
        content_type: None,
        reach,
        key: None,
        timeout: LONG,
        max_answer: Bytes(1 << 10),
    }
}

fn to(address: SocketAddr) -> HttpRequest {
    get(&format!("http://{address}"), LOOPBACK)
}

impl Courier {
    fn send(&self, request: HttpRequest) -> CourierAnswer {
        self.peer().ask(CourierRequest::Send(request))
    }

    fn sent(&self, request: HttpRequest) -> HttpAnswer {
        match self.send(request) {
            CourierAnswer::Sent(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    fn not_sent(&self, request: HttpRequest) -> String {
        match self.send(request) {
            CourierAnswer::NotSent(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    fn lost(&self, request: HttpRequest) -> String {
        match self.send(request) {
            CourierAnswer::Lost(reason) => reason,
            other => panic!("{other:?}"),
        }
    }
}

/// Keeps what it was told, head and body, and answers.
fn listening(answer: &'static [u8]) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&heard);
    let address = server(move |mut stream| {
        let head = read_head(&mut stream);
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        keep.lock().unwrap().push(head + &String::from_utf8(body).unwrap());
        stream.write_all(answer).ok();
    });
    (address, heard)
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

// NW06, NW07, NW10: the courier starts with `http_proxy` set to a port where nobody listens.
#[test]
fn one_request_leaves_with_a_head_that_the_courier_wrote() {
    let courier = Courier::start("", &[]);
    let (address, heard) = listening(OK);
    let request = HttpRequest {
        method: HttpMethod::Put,
        target: "/admin/level".to_owned(),
        body: Blob(b"\"info\"".to_vec()),
        content_type: Some("application/json".to_owned()),
        key: Some("run-3".to_owned()),
        ..to(address)
    };
    let answer = courier.sent(request);
    assert_eq!((answer.status, answer.body.0.as_slice(), answer.cut), (200, &b"ok"[..], false));
    let heard = heard.lock().unwrap().clone();
    let expected = format!(
        "PUT /admin/level HTTP/1.1\r\nhost: {address}\r\nuser-agent: theriac/{}\r\naccept: */*\r\nconnection: close\r\n\
         content-type: application/json\r\nidempotency-key: run-3\r\ncontent-length: 6\r\n\r\n\"info\"",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(heard, [expected]);
}

// NW01.
#[test]
fn a_redirect_comes_back_as_the_answer_that_it_is() {
    let courier = Courier::start("", &[]);
    let (elsewhere, followed) = listening(OK);
    for status in [301, 302, 307, 308] {
        let away = format!("HTTP/1.1 {status} Away\r\nlocation: http://{elsewhere}/\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(courier.sent(to(answering(away))).status, status);
    }
    assert_eq!(courier.sent(to(elsewhere)).status, 200);
    assert_eq!(followed.lock().unwrap().len(), 1, "our own request and no other");
}

// NW08.
#[test]
fn an_answer_without_end_is_cut_where_the_grant_says() {
    let courier = Courier::start("", &[]);
    let heads = ["content-length: 10737418240", "transfer-encoding: chunked"];
    for (head, piece) in heads.into_iter().zip([&[b'x'; 4096][..], b"4\r\nxxxx\r\n"]) {
        let endless = server(move |mut stream| {
            read_head(&mut stream);
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").as_bytes()).unwrap();
            for_ever(stream, piece, Duration::ZERO);
        });
        let answer = courier.sent(to(endless));
        assert_eq!((answer.status, answer.body.0.len(), answer.cut), (200, 1 << 10, true), "{head}");
    }
    // Nothing is inflated, so that there is nothing to blow up.
    let zipped = answering(*b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8b\x08\x00");
    assert_eq!(courier.sent(to(zipped)).body.0, b"\x1f\x8b\x08\x00");
}

// NW08.
#[test]
fn a_slow_or_broken_answer_is_lost_within_the_timeout_and_may_have_arrived() {
    let courier = Courier::start("", &[]);
    let patient = |address| HttpRequest { timeout: SHORT, ..to(address) };
    let drip = server(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n").unwrap();
        for_ever(stream, b"x", Duration::from_millis(50));
    });
    let silent = server(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let interim =
        server(|stream| for_ever_after_head(stream, b"HTTP/1.1 100 Continue\r\n\r\n", Duration::from_millis(1)));
    for address in [drip, silent, interim] {
        assert_eq!(courier.lost(patient(address)), "no whole answer within 300ms");
    }
    let headers = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(100_000));
    for broken in [server(|mut stream| drop(read_head(&mut stream))), answering(headers), answering("SSH-2.0-x\r\n")] {
        courier.lost(to(broken));
    }
    let half = answering("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab");
    courier.lost(to(half));
    assert_eq!(courier.sent(to(listening(OK).0)).status, 200, "it goes on");
}

#[test]
fn where_nobody_listens_nothing_was_sent() {
    let courier = Courier::start("", &[]);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(courier.not_sent(to(closed)), format!("{closed}: connection refused"));
    let endless = HttpRequest { timeout: Span::from_secs(3600), ..to(closed) };
    assert_eq!(courier.not_sent(endless), "it may take at most 60 s");
}

// NW03, NW04.
#[test]
fn an_address_of_this_host_or_its_network_is_reached_only_by_its_own_switch() {
    let courier = Courier::start("", &[]);
    let (address, heard) = listening(OK);
    let port = address.port();
    for origin in [
        format!("http://127.0.0.1:{port}"),
        format!("http://[::1]:{port}"),
        format!("http://[::ffff:7f00:1]:{port}"),
        format!("http://0.0.0.0:{port}"),
        "http://169.254.169.254:80".to_owned(),
        "http://100.100.100.200:80".to_owned(),
        "http://[fd00:ec2::254]:80".to_owned(),
        "http://192.168.1.1:80".to_owned(),
    ] {
        let Ok(parsed) = Origin::parse(&origin) else { continue };
        let reason = courier.not_sent(HttpRequest { origin: parsed, ..get("http://127.0.0.1:80", PUBLIC) });
        assert!(reason.contains(", and is not reached: "), "{reason}");
    }
    assert_eq!(heard.lock().unwrap().len(), 0);
    assert_eq!(courier.sent(to(address)).status, 200);
}

// NW11.
#[test]
fn tls_is_verified_before_anything_is_sent() {
    let tls = Tls::new();
    let address = tls.server(&["127.0.0.1"]);
    let request = || HttpRequest { target: "/health".to_owned(), ..get(&format!("https://{address}"), LOOPBACK) };
    assert_eq!(tls.courier("").sent(request()).status, 200);
    assert_eq!(Courier::start("", &[]).not_sent(request()), "the certificate's issuer is not trusted");
    let other = tls.server(&["www.example.com"]);
    let wrong = HttpRequest { origin: Origin::parse(&format!("https://{other}")).unwrap(), ..request() };
    assert_eq!(tls.courier("").not_sent(wrong), "the certificate is for another name");
}

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

// NW02, NW03.
#[test]
fn a_name_is_resolved_once_and_every_address_is_looked_at() {
    let home = Ipv4Addr::LOCALHOST;
    let answers = |label: &str, before: usize| match label {
        "good" => vec![Ipv4Addr::LOCALHOST],
        // Another answer each time it is asked.
        "rebinding" if before == 0 => vec![Ipv4Addr::LOCALHOST],
        "rebinding" => vec![Ipv4Addr::new(169, 254, 169, 254)],
        "mixed" => vec![Ipv4Addr::LOCALHOST, Ipv4Addr::new(169, 254, 169, 254)],
        "metadata" => vec![Ipv4Addr::new(169, 254, 169, 254)],
        "crowd" => vec![Ipv4Addr::LOCALHOST; 17],
        _ => Vec::new(),
    };
    let Some(names) = root().then(|| NameServer::start(Ipv4Addr::new(127, 77, 0, 1), answers)).flatten() else {
        println!("not possible here: a name server of our own needs root");
        return;
    };
    let courier = names.courier("127.0.0.1 listed.example\n");
    let (address, _) = listening(OK);
    let by_name = |name: &str| get(&format!("http://{name}.example:{}", address.port()), LOOPBACK);
    assert_eq!(IpAddr::V4(home), address.ip());
    assert_eq!(courier.sent(by_name("good")).status, 200);
    assert_eq!(courier.sent(by_name("listed")).status, 200, "of /etc/hosts");
    assert_eq!(courier.sent(by_name("rebinding")).status, 200);
    let asked = names.asked.lock().unwrap().iter().filter(|name| *name == "rebinding").count();
    assert_eq!(asked, 1, "what was looked at is what is connected to");
    for name in ["rebinding", "mixed", "metadata"] {
        let reason = courier.not_sent(by_name(name));
        assert!(reason.contains("169.254.169.254, and is not reached: it is a link-local address"), "{reason}");
    }
    assert!(courier.not_sent(by_name("crowd")).ends_with("the name has too many addresses"));
    assert!(courier.not_sent(by_name("nobody")).ends_with("the name has no address"));
}
