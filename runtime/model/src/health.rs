//! Health checks: what to ask a service to learn whether it serves.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::id::NameError;
use crate::time::Span;

/// One check, as the configuration has it. Hosts are IP addresses or `localhost`: a name would make healing depend on DNS,
/// which may be the thing that is broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum HealthCheck {
    /// A TCP connection is accepted.
    Tcp { address: SocketAddr, timeout: Span },
    /// An HTTP GET answers with the status.
    Http { url: HealthUrl, status: u16, timeout: Span },
}

impl HealthCheck {
    /// How long it may take.
    pub const fn timeout(&self) -> Span {
        match self {
            Self::Tcp { timeout, .. } | Self::Http { timeout, .. } => *timeout,
        }
    }
}

impl fmt::Display for HealthCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { address, .. } => write!(f, "TCP connect to {address}"),
            Self::Http { url, status, .. } => write!(f, "GET {url} answers {status}"),
        }
    }
}

/// `http://` or `https://`, an IP address or `localhost`, a port, a path. No user, no query, no fragment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HealthUrl {
    /// TLS or not.
    https: bool,
    /// Where; `localhost` is 127.0.0.1.
    address: SocketAddr,
    /// As it was written, for the Host header.
    authority: String,
    /// Starts with `/`.
    path: String,
}

const URL_RULE: &str = "write `http://127.0.0.1:8080/health`: an IP address or `localhost`, no user, query or fragment";

impl HealthUrl {
    /// Parses the URL; nothing is normalised.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError::new("health-check URL", text, URL_RULE);
        let (https, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return Err(wrong()),
        };
        let slash = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(slash);
        let path = if path.is_empty() { "/" } else { path };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~".contains(&b);
        // Whoever reads the URL after us folds `a/../b`.
        let folds = path.split('/').any(|part| matches!(part, "." | ".."));
        if folds || !path.bytes().all(plain) || path.len() > 512 {
            return Err(wrong());
        }
        let address = parse_authority(authority, if https { 443 } else { 80 }).ok_or_else(wrong)?;
        Ok(Self { https, address, authority: authority.to_owned(), path: path.to_owned() })
    }

    /// TLS or not.
    pub const fn is_https(&self) -> bool {
        self.https
    }

    /// Where to connect to.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Host and port as written.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Starts with `/`.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// An address has to mean the same to whoever reads the URL after us: IPv6 in brackets only (`::1:80` is an address without a
/// port to one reader and one with a port to another), no zone, and a port of digits.
fn parse_authority(authority: &str, default_port: u16) -> Option<SocketAddr> {
    let (ip, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (ip, port) = rest.split_once(']')?;
        (IpAddr::V6(ip.parse().ok()?), port)
    } else {
        let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
        let ip = if host == "localhost" { Ipv4Addr::LOCALHOST } else { host.parse().ok()? };
        (IpAddr::V4(ip), port)
    };
    let port = match port.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
        None if port.is_empty() => default_port,
        Some(_) | None => return None,
    };
    (port != 0).then(|| SocketAddr::new(ip, port))
}

impl fmt::Display for HealthUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

impl TryFrom<String> for HealthUrl {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<HealthUrl> for String {
    fn from(url: HealthUrl) -> String {
        url.to_string()
    }
}

/// What a check said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthAnswer {
    /// It passed.
    pub ok: bool,
    /// How long it took.
    pub latency_ms: u32,
    /// What came back, in a few words of ours (`answered 503`, `connection refused`, `no answer within 2s`).
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_and_a_name_is_refused() {
        for right in
            ["http://127.0.0.1:8080/health", "https://[::1]:8443/", "http://localhost:80/x", "http://10.0.0.7/health"]
        {
            assert_eq!(HealthUrl::parse(right).unwrap().to_string(), right);
        }
        for wrong in [
            "http://example.com/",
            "ftp://127.0.0.1/",
            "http://a@127.0.0.1/",
            "http://127.0.0.1:0/",
            "http://127.0.0.1/?x=1",
            "http://127.0.0.1/#f",
            "http://127.1/",
            "http://0x7f.1/",
            "http://localhostx/",
            "http://127.0.0.1/a b",
            "http://127.0.0.1\\@e/",
            "http://::1:80/",
            "http://::1/",
            "http://[127.0.0.1]/",
            "http://[fe80::1%2]:80/",
            "http://[::1]80/",
            "http://localhost:+80/",
            "http://127.0.0.1:/",
            "http://127.0.0.1/a/../b",
            "http://127.0.0.1/.",
        ] {
            assert!(HealthUrl::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
