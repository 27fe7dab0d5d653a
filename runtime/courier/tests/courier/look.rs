//! Certificates that nobody may trust are described, and nothing is ever sent over such a connection.

use std::sync::mpsc;

use rcgen::{CertificateParams, KeyPair};
use theriac_model::certificate::DnsName;
use theriac_protocol::courier::Look;

use super::*;

/// Serves that pair, with that version of TLS; tells what it was sent over a handshake that ended well.
fn server(
    pair: &rcgen::Certificate,
    key: &KeyPair,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> (SocketAddr, mpsc::Receiver<Vec<u8>>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let secret = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let config = config.with_no_client_auth().with_single_cert(vec![pair.der().clone()], secret).unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, hear) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map(Result::unwrap) {
            let mut tls = rustls::StreamOwned::new(rustls::ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
            let mut sent = Vec::new();
            tls.read_to_end(&mut sent).ok();
            if tell.send(sent).is_err() {
                return;
            }
        }
    });
    (address, hear)
}

fn looked(courier: &Courier, address: SocketAddr, timeout: Span) -> CourierAnswer {
    let name = DnsName::parse("www.a.test").unwrap();
    courier.peer().ask(CourierRequest::Look(Look { address, name, timeout }))
}

// NW11.
#[test]
fn an_expired_self_signed_certificate_for_another_name_is_described_and_never_used() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["other.test".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let pair = params.self_signed(&key).unwrap();
    let courier = Courier::start("", &[]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (address, sent) = server(&pair, &key, &[version]);
        let CourierAnswer::Looked(seen) = looked(&courier, address, LONG) else { panic!("{version:?}") };
        assert_eq!(seen.certificate.0, pair.der().to_vec());
        assert!(seen.key_shown, "{version:?}");
        assert_eq!(sent.recv_timeout(PATIENCE).unwrap(), Vec::<u8>::new(), "{version:?}");
    }
}

#[test]
fn who_shows_nothing_is_not_seen_and_is_waited_for_no_longer_than_asked() {
    let courier = Courier::start("", &[]);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let began = Instant::now();
    let CourierAnswer::NotSeen(why) = looked(&courier, silent.local_addr().unwrap(), SHORT) else { panic!("seen") };
    assert_eq!(why, "no certificate within 300ms");
    assert!(began.elapsed() < PATIENCE);
    let closed = { TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    let CourierAnswer::NotSeen(why) = looked(&courier, closed, LONG) else { panic!("seen") };
    assert_eq!(why, "connection refused");
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = plain.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in plain.incoming().map(Result::unwrap) {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").ok();
        }
    });
    assert!(matches!(looked(&courier, address, LONG), CourierAnswer::NotSeen(_)));
    assert!(matches!(looked(&courier, address, Span::from_secs(3_600)), CourierAnswer::Refused(_)));
}
