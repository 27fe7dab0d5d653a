//! Certificates: what an authority, a server or an operator's file holds, in PEM or DER.

use theriac_probe::certificate::Certificate;

use crate::{Answer, refused};

/// What is described is bounded and printable, and a chain is written in one way, in which it is read again.
pub(crate) fn check(bytes: &[u8]) -> Answer {
    let read = match std::str::from_utf8(bytes) {
        Ok(text) => Certificate::chain(text),
        Err(_) => Certificate::parse(bytes).map(|one| vec![one]),
    };
    let chain = match read {
        Ok(chain) => chain,
        Err(error) => return refused(&error),
    };
    for certificate in &chain {
        let facts = &certificate.facts;
        assert!(facts.names.len() <= 100, "{} names", facts.names.len());
        for text in facts.names.iter().chain([&facts.issuer]) {
            assert!(text.chars().all(|c| !c.is_control()) && text.len() < 4_096, "{text:?}");
        }
    }
    let written: String = chain.iter().map(Certificate::pem).collect();
    assert_eq!(Certificate::chain(&written).as_ref(), Ok(&chain), "a chain is read as it is written");
    Answer::Taken
}
