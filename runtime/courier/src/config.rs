//! `courier-net.toml` and the certificates it names, all read before the courier seals itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, DnsName};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use theriac_trusted::{self as trusted, TrustedError};

/// The commented reference that `theriac init` writes.
pub const DEFAULT: &str = include_str!("courier-net.toml");

const MAX_FILE: u64 = 64 << 10;
/// The bundle of a whole distribution is 220 KiB.
const MAX_CERTIFICATES: u64 = 1 << 20;
/// Each check holds a socket and up to 64 KiB of headers.
const MAX_CHECKS: u16 = 256;

/// What the courier needs to know.
#[derive(Debug, Clone)]
pub struct CourierConfig {
    /// Checks at once.
    pub max_checks: u16,
    /// Names that certificates must have, by address.
    pub names: BTreeMap<SocketAddr, String>,
    /// Roots and versions, ready to be used.
    pub tls: Arc<ClientConfig>,
}

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It can't be read, or somebody else could have written it.
    #[error(transparent)]
    File(#[from] TrustedError),
    /// Not TOML, a wrong type, or an unknown key.
    #[error("line {line}: {message}")]
    Toml { line: usize, message: String },
    /// Out of range.
    #[error("`max_checks` must be 1 to {MAX_CHECKS}")]
    MaxChecks,
    /// A name no certificate can have.
    #[error("`{}` is no host name", name.escape_debug())]
    Name { name: String },
    /// A CA file holds no certificate that can be a root.
    #[error("`{}` holds no usable certificate", path.display())]
    NoCertificate { path: PathBuf },
    /// The TLS library refuses its own defaults.
    #[error("TLS can't be set up")]
    Tls(#[source] rustls::Error),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    #[serde(default = "thirty_two")]
    max_checks: u16,
    #[serde(default = "yes")]
    public_roots: bool,
    #[serde(default)]
    ca_files: Vec<PathBuf>,
    #[serde(default)]
    tls: Vec<RawTls>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTls {
    address: SocketAddr,
    name: String,
}

const fn thirty_two() -> u16 {
    32
}

const fn yes() -> bool {
    true
}

impl CourierConfig {
    /// Reads the file if it is there; without it the defaults hold.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&trusted::read_if_there(path, MAX_FILE)?.unwrap_or_default())
    }

    /// Parses the text and reads the certificates.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let raw: RawConfig = toml::from_str(text).map_err(|error| toml_error(text, &error))?;
        if !(1..=MAX_CHECKS).contains(&raw.max_checks) {
            return Err(ConfigError::MaxChecks);
        }
        let mut names = BTreeMap::new();
        for RawTls { address, name } in raw.tls {
            if DnsName::try_from(name.as_str()).is_err() {
                return Err(ConfigError::Name { name });
            }
            names.insert(address, name);
        }
        Ok(Self { max_checks: raw.max_checks, names, tls: Arc::new(tls(&raw.ca_files, raw.public_roots)?) })
    }
}

pub(crate) fn toml_error(text: &str, error: &toml::de::Error) -> ConfigError {
    let start = error.span().map_or(0, |span| span.start);
    let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
    ConfigError::Toml { line, message: error.message().replace('\n', "; ") }
}

/// What TLS is spoken with: these roots, and the public ones or not.
pub(crate) fn tls(ca_files: &[PathBuf], public: bool) -> Result<ClientConfig, ConfigError> {
    let mut roots = RootCertStore::empty();
    if public {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for path in ca_files {
        let text = trusted::read(path, MAX_CERTIFICATES)?;
        let certificates = CertificateDer::pem_slice_iter(text.as_bytes()).filter_map(Result::ok);
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added == 0 {
            return Err(ConfigError::NoCertificate { path: path.clone() });
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(builder.map_err(ConfigError::Tls)?.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_default_says_what_a_missing_file_means() {
        let default = CourierConfig::parse(DEFAULT).unwrap();
        assert_eq!((default.max_checks, default.names.len()), (32, 0));
        let uncommented: String = DEFAULT
            .lines()
            .filter(|line| line.starts_with("# max_") || line.starts_with("# public_"))
            .map(|line| format!("{}\n", line.trim_start_matches("# ")))
            .collect();
        assert_eq!(CourierConfig::parse(&uncommented).unwrap().max_checks, default.max_checks);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_valid_keys() {
        let error = CourierConfig::parse("max_checks = 2\nproxy = \"http://x\"").unwrap_err().to_string();
        assert!(error.starts_with("line 2: unknown field `proxy`, expected one of `max_checks`"), "{error}");
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        assert!(matches!(CourierConfig::parse("max_checks = 0"), Err(ConfigError::MaxChecks)));
        let name = "[[tls]]\naddress = \"127.0.0.1:443\"\nname = \"a b\"";
        assert!(matches!(CourierConfig::parse(name), Err(ConfigError::Name { .. })));
        let missing = CourierConfig::parse("ca_files = [\"/nonexistent/ca.pem\"]");
        assert!(matches!(missing, Err(ConfigError::File(TrustedError::Absent { .. }))));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, "no certificate").unwrap();
        let empty = CourierConfig::parse(&format!("ca_files = [{path:?}]"));
        assert!(matches!(empty, Err(ConfigError::NoCertificate { .. })));
    }
}
