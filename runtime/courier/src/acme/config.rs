//! `courier-acme.toml`, the account's key and the certificates it names, all read before the courier seals itself.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::Uri;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::ClientConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use theriac_trusted::{self as trusted, TrustedError};

use crate::config::{self, ConfigError, toml_error};

/// The commented reference.
pub const DEFAULT: &str = include_str!("../courier-acme.toml");

const MAX_FILE: u64 = 64 << 10;
/// A P-256 key in PEM has 241 bytes.
const MAX_KEY: u64 = 8 << 10;
/// An uncompressed point: a mark and two numbers.
const POINT: usize = 65;

/// What the courier needs to know.
pub struct AcmeConfig {
    /// The authority's directory.
    pub(crate) directory: Uri,
    /// The account's key in PKCS#8.
    pub(crate) key: PrivatePkcs8KeyDer<'static>,
    /// Its thumbprint (RFC 7638).
    pub(crate) account: String,
    /// Roots and versions, ready to be used.
    pub(crate) tls: Arc<ClientConfig>,
}

impl std::fmt::Debug for AcmeConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AcmeConfig").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AcmeConfigError {
    /// A file, the TOML or a certificate authority's certificate.
    #[error(transparent)]
    Common(#[from] ConfigError),
    /// A key of the file is needed.
    #[error("`{key}` is needed: see the reference")]
    Missing { key: &'static str },
    /// Nobody has agreed.
    #[error(
        "`terms_agreed` is not true: an order makes an account, and an account needs somebody who agrees to the terms"
    )]
    Terms,
    /// Not the address of an authority.
    #[error("`{}` is not the address of a directory: write `https://`, a host and a path", directory.escape_debug())]
    Directory { directory: String },
    /// Others may read the key.
    #[error("`{}` (mode {mode:o}) can be read by others: run `chmod 600 {}`", path.display(), path.display())]
    Readable { path: PathBuf, mode: u32 },
    /// Not a key, or of another kind.
    #[error("`{}` holds no P-256 key in PKCS#8 (PEM)", path.display())]
    Key { path: PathBuf },
}

impl From<TrustedError> for AcmeConfigError {
    fn from(error: TrustedError) -> Self {
        Self::Common(error.into())
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    directory: Option<String>,
    #[serde(default)]
    terms_agreed: bool,
    account_key: Option<PathBuf>,
    #[serde(default = "yes")]
    public_roots: bool,
    #[serde(default)]
    ca_files: Vec<PathBuf>,
}

const fn yes() -> bool {
    true
}

impl AcmeConfig {
    /// Reads the file and those that it names.
    pub fn load(path: &Path) -> Result<Self, AcmeConfigError> {
        Self::parse(&trusted::read(path, MAX_FILE)?)
    }

    /// Parses the text and reads the files it names.
    pub fn parse(text: &str) -> Result<Self, AcmeConfigError> {
        let raw: RawConfig = toml::from_str(text).map_err(|error| toml_error(text, &error))?;
        let directory = directory(raw.directory.ok_or(AcmeConfigError::Missing { key: "directory" })?)?;
        if !raw.terms_agreed {
            return Err(AcmeConfigError::Terms);
        }
        let path = raw.account_key.ok_or(AcmeConfigError::Missing { key: "account_key" })?;
        let (key, account) = account(&path)?;
        Ok(Self { directory, key, account, tls: Arc::new(config::tls(&raw.ca_files, raw.public_roots)?) })
    }
}

fn directory(text: String) -> Result<Uri, AcmeConfigError> {
    let parsed = text.parse::<Uri>().ok();
    let right = |uri: &Uri| uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| !host.is_empty());
    parsed.filter(right).ok_or(AcmeConfigError::Directory { directory: text })
}

/// The key with its thumbprint.
fn account(path: &Path) -> Result<(PrivatePkcs8KeyDer<'static>, String), AcmeConfigError> {
    let text = trusted::read(path, MAX_KEY)?;
    // Asked of the path once more: whoever could put another file there could have written this one.
    let mode = std::fs::metadata(path).map(|meta| meta.permissions()).map_or(0, |mode: Permissions| mode.mode());
    if mode & 0o077 != 0 {
        return Err(AcmeConfigError::Readable { path: path.to_owned(), mode: mode & 0o7777 });
    }
    let wrong = || AcmeConfigError::Key { path: path.to_owned() };
    let key = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|_not_pem| wrong())?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_pkcs8_der(), &SystemRandom::new());
    let pair = pair.map_err(|_another_kind| wrong())?;
    let thumbprint = thumbprint(pair.public_key().as_ref()).ok_or_else(wrong)?;
    Ok((key, thumbprint))
}

/// RFC 7638, 3: the members that are needed, in the order of the alphabet, without a space.
fn thumbprint(point: &[u8]) -> Option<String> {
    let point: &[u8; POINT] = point.try_into().ok()?;
    let (x, y) = point.get(1..)?.split_at_checked(32)?;
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    let jwk = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    Some(URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, jwk.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(dir: &tempfile::TempDir, mode: u32) -> PathBuf {
        let path = dir.path().join("account.key");
        let made = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        std::fs::write(&path, made.serialize_pem()).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    fn parse(key: &Path, more: &str) -> Result<AcmeConfig, AcmeConfigError> {
        AcmeConfig::parse(&format!("account_key = {key:?}\nterms_agreed = true\n{more}"))
    }

    const DIRECTORY: &str = "directory = \"https://acme.test:14000/dir\"\n";

    #[test]
    fn an_account_is_its_key_and_the_authority_it_belongs_to() {
        let dir = tempfile::tempdir().unwrap();
        let config = parse(&key(&dir, 0o600), DIRECTORY).unwrap();
        assert_eq!(config.account.len(), 43);
        assert!(!format!("{config:?}").contains(&config.account), "nothing of the key is shown");
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let good = key(&dir, 0o600);
        assert!(matches!(AcmeConfig::parse(DEFAULT), Err(AcmeConfigError::Missing { key: "directory" })));
        assert!(matches!(AcmeConfig::parse(DIRECTORY), Err(AcmeConfigError::Terms)));
        for wrong in ["http://acme.test/dir", "acme.test", "ftp://a/b", ""] {
            let answer = parse(&good, &format!("directory = \"{wrong}\"\n"));
            assert!(matches!(answer, Err(AcmeConfigError::Directory { .. })), "{wrong}");
        }
        assert!(matches!(parse(&good, "proxy = 1\n"), Err(AcmeConfigError::Common(ConfigError::Toml { line: 3, .. }))));
    }

    #[test]
    fn a_key_that_others_can_read_or_of_another_kind_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(parse(&key(&dir, 0o640), DIRECTORY), Err(AcmeConfigError::Readable { mode: 0o640, .. })));
        let other = dir.path().join("other.key");
        let made = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        std::fs::write(&other, made.serialize_pem()).unwrap();
        std::fs::set_permissions(&other, Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(parse(&other, DIRECTORY), Err(AcmeConfigError::Key { .. })));
    }

    // The example of RFC 7638 is an RSA key; this one is of RFC 7515, A.3, with the thumbprint that other tools give it.
    #[test]
    fn the_thumbprint_is_the_one_of_the_standard() {
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
        let mut point = vec![4];
        point.extend(decode("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"));
        point.extend(decode("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"));
        assert_eq!(thumbprint(&point).unwrap(), "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U");
        assert_eq!(thumbprint(&point[1..]), None);
    }
}
