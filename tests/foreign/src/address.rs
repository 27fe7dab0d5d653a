//! Addresses of health checks: they have to mean the same to us, to the service that is asked, and to whoever wrote them.

use std::net::{IpAddr, Ipv4Addr};

use theriac_model::health::HealthUrl;
use url::{Host, Url};

use crate::{Answer, refused};

/// A URL that is taken reads back as itself, and the parser that browsers and HTTP clients have finds the same host, port and path in it.
pub(crate) fn check(bytes: &[u8]) -> Answer {
    let Ok(text) = std::str::from_utf8(bytes) else { return Answer::Refused };
    let ours = match HealthUrl::parse(text) {
        Ok(ours) => ours,
        Err(error) => return refused(&error),
    };
    assert_eq!(HealthUrl::parse(&ours.to_string()).as_ref(), Ok(&ours), "an address is read as it is written");
    let theirs = match Url::parse(&ours.to_string()) {
        Ok(theirs) => theirs,
        Err(error) => panic!("`{ours}` is no address for anybody else: {error}"),
    };
    assert_eq!(theirs.scheme(), if ours.is_https() { "https" } else { "http" });
    let host = match theirs.host() {
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
        // The one name; the courier connects to the check's own address.
        Some(Host::Domain("localhost")) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        other => panic!("`{ours}` has the host {other:?}"),
    };
    assert_eq!((host, theirs.port_or_known_default()), (ours.address().ip(), Some(ours.address().port())), "`{ours}`");
    assert_eq!(theirs.path(), ours.path(), "`{ours}`");
    assert!(theirs.username().is_empty() && theirs.password().is_none(), "`{ours}`");
    assert!(theirs.query().is_none() && theirs.fragment().is_none(), "`{ours}`");
    Answer::Taken
}
