//! HTTP requests to granted origins, sent by the `net` courier for the runner.

use std::fmt;
use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use crate::id::{Digest, Label, NameError};
use crate::time::Span;
use crate::units::{Blob, Bytes};

/// A request's method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// Reads.
    Get,
    /// Reads, without the body.
    Head,
    /// Changes.
    Post,
    /// Changes; twice is the same as once.
    Put,
    /// Changes.
    Patch,
    /// Changes; twice is the same as once.
    Delete,
}

impl HttpMethod {
    /// Every method of the contract.
    pub const ALL: [Self; 6] = [Self::Get, Self::Head, Self::Post, Self::Put, Self::Patch, Self::Delete];

    /// As in a request line, and in manifests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// RFC 9110, 9.2.1: a request that is not *safe* is an effect.
    pub const fn changes(self) -> bool {
        !matches!(self, Self::Get | Self::Head)
    }

    /// RFC 9110, 9.2.2.
    pub const fn is_idempotent(self) -> bool {
        !matches!(self, Self::Post | Self::Patch)
    }
}

/// `http://host:port` or `https://host:port`, in one spelling only: lower case, the port always written, no user, no path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin {
    tls: bool,
    host: String,
    port: u16,
}

impl Origin {
    /// Parses the one spelling; another spelling of the same origin is refused, never repaired.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let rule = "write `http://` or `https://`, a lower-case name or an address, and the port, such as `https://health.example:8443`";
        let wrong = || NameError::new("origin", text, rule);
        let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(wrong()),
        };
        let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
        let port = port.parse::<u16>().ok().filter(|_| digits).ok_or_else(wrong)?;
        if is_host(host) { Ok(Self { tls, host: host.to_owned(), port }) } else { Err(wrong()) }
    }

    /// Over TLS.
    pub const fn tls(&self) -> bool {
        self.tls
    }

    /// A DNS name, an IPv4 address, or an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }
}

/// A name of DNS with letters, digits and hyphens, an IPv4 address in four decimal parts, or `[IPv6]`. A name whose last label
/// is a number is neither (`0x7f.1`, `2130706433`): the resolver would read it as an address.
fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().is_ok_and(|address| address.to_string() == inner);
    }
    if host.parse::<std::net::Ipv4Addr>().is_ok() {
        return true;
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let last_is_name = host.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_lowercase()));
    host.len() <= 253 && host.split('.').all(label) && last_is_name
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http{}://{}:{}", if self.tls { "s" } else { "" }, self.host, self.port)
    }
}

impl TryFrom<String> for Origin {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> String {
        origin.to_string()
    }
}

/// Verbs of a granted endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum HttpCall {
    /// One request: a path below the grant's prefix, query parameters by name and value.
    Send { method: HttpMethod, path: String, query: Vec<(String, String)>, body: Blob },
}

/// Which addresses a name may stand for, beside public ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Reach {
    /// Loopback.
    pub loopback: bool,
    /// Private and shared networks (RFC 1918, 4193, 6598).
    pub private: bool,
    /// Link-local ones, and with them the metadata services of clouds.
    pub metadata: bool,
}

/// One request as the courier sends it; complete, so that an undo after a crash needs no manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpRequest {
    /// Where to.
    pub origin: Origin,
    /// How.
    pub method: HttpMethod,
    /// Path and query, percent-encoded by the runner.
    pub target: String,
    /// The body.
    pub body: Blob,
    /// The body's type; none without a body.
    pub content_type: Option<String>,
    /// Which addresses.
    pub reach: Reach,
    /// `Idempotency-Key` of an effect: the run and the effect's number.
    pub key: Option<String>,
    /// From the look-up of the name to the last byte.
    pub timeout: Span,
    /// How much of the answer is kept.
    pub max_answer: Bytes,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpAnswer {
    /// The status.
    pub status: u16,
    /// The first bytes of the body.
    pub body: Blob,
    /// There were more.
    pub cut: bool,
    /// It was not sent: a dry run assumes status 200.
    pub assumed: bool,
}

/// One request that changes something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpEffect {
    /// The grant's label.
    pub label: Label,
    /// Where to.
    pub origin: Origin,
    /// How.
    pub method: HttpMethod,
    /// Path and query.
    pub target: String,
    /// The body, by its digest.
    pub body: Digest,
    /// Bytes of the body.
    pub bytes: u64,
}

impl HttpEffect {
    /// The verb in the manifest's word.
    pub const fn verb(&self) -> &'static str {
        self.method.as_str()
    }

    /// The same request.
    pub fn is_within(&self, planned: &Self) -> bool {
        self == planned
    }
}

impl fmt::Display for HttpEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}, {}", self.method.as_str(), self.origin, self.target, Bytes(self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_one_spelling() {
        for text in ["https://health.local:8443", "http://127.0.0.1:80", "http://[::1]:8080", "http://a-b.c1:65535"] {
            assert_eq!(Origin::parse(text).unwrap().to_string(), text);
        }
    }

    // NW04, NW05, NW09.
    #[test]
    fn other_spellings_of_an_address_are_no_origin() {
        for text in [
            "http://2130706433:80",
            "http://0x7f.1:80",
            "http://017700000001:80",
            "http://127.1:80",
            "http://[0:0:0:0:0:0:0:1]:80",
            "http://[fe80::1%eth0]:80",
            "http://Health.local:80",
            "http://health.local.:80",
            "http://user@health.local:80",
            "http://health.local@evil:80",
            "http://health.local\\evil:80",
            "http://heаlth.local:80",
            "http://health.local",
            "http://health.local:",
            "http://health.local:0",
            "http://health.local:65536",
            "http://health.local:080",
            "http://health.local:80/",
            "HTTP://health.local:80",
            "ftp://health.local:80",
            "unix:///run/x:80",
            "http://:80",
            "",
        ] {
            assert!(Origin::parse(text).is_err(), "{text}");
        }
    }
}
