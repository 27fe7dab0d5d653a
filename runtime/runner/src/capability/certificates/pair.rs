//! The two files of a certificate: found without being led astray, read, and recognised.
//!
//! A private key is in memory only while it is compared or written, and what held it is wiped.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RsaKeyPair,
};
use theriac_model::certificate::CertificatePlace;
use theriac_model::effect::FileState;
use theriac_model::id::Digest;
use theriac_model::target::MountPath;
use theriac_probe::certificate::{Certificate, CertificateError, MAX_FILE};
use x509_cert::der::asn1::{Any, OctetString};
use x509_cert::der::{Encode as _, Tag, pem};
use zeroize::Zeroizing;

use super::request::information_of;
use crate::capability::files::{Found, PlaceError, Root, state};

/// What is kept of either file, and read back.
pub(super) const MAX_KEPT: u64 = MAX_FILE;

/// Why one of the files can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PairError {
    /// It can't be found, or not without being led astray.
    #[error("`{path}` can't be used")]
    Place {
        path: MountPath,
        #[source]
        source: PlaceError,
    },
    /// It has another name, which would keep the old content.
    #[error("`{path}` has {links} names")]
    Links { path: MountPath, links: u64 },
    /// It can't be read.
    #[error("`{path}` can't be read")]
    Read {
        path: MountPath,
        #[source]
        source: io::Error,
    },
    /// It is no certificate.
    #[error("`{path}` can't be used")]
    Certificate {
        path: MountPath,
        #[source]
        source: CertificateError,
    },
    /// It is no key, or of a kind that is not known here.
    #[error("`{path}` holds no private key that can be read here: P-256, P-384, RSA from 2048 bits or Ed25519 in PEM")]
    Key { path: MountPath },
}

/// One of the files, held by the directory it lies in.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) path: MountPath,
    pub(crate) root: Root,
    pub(crate) name: PathBuf,
    pub(crate) found: Found,
}

/// Directory and name of a file.
pub(crate) fn split(path: &MountPath) -> Option<(MountPath, PathBuf)> {
    let (parent, name) = path.as_str().rsplit_once('/')?;
    let parent = if parent.is_empty() { "/" } else { parent };
    Some((MountPath::parse(parent).ok()?, Path::new(name).to_owned())).filter(|_| !name.is_empty())
}

impl Held {
    /// Finds the file; no part of its path is a symbolic link.
    pub(crate) fn find(path: &MountPath) -> Result<Self, PairError> {
        let failed = |source| PairError::Place { path: path.clone(), source };
        let (parent, name) = split(path).ok_or_else(|| failed(PlaceError::Escapes))?;
        let root = Root::open(&parent).map_err(failed)?;
        let found = root.find(&name).map_err(failed)?;
        match found.meta.nlink() {
            1 => Ok(Self { path: path.clone(), root, name, found }),
            links => Err(PairError::Links { path: path.clone(), links }),
        }
    }

    pub(crate) fn file(&self) -> Result<File, PairError> {
        self.found.read().map_err(|source| PairError::Read { path: self.path.clone(), source })
    }

    /// Content and metadata.
    pub(crate) fn state(&self) -> Result<FileState, PairError> {
        let failed = |source| PairError::Read { path: self.path.clone(), source };
        state::with_content(&self.file()?).map_err(failed)
    }

    fn text(&self) -> Result<Zeroizing<String>, PairError> {
        let failed = |source| PairError::Read { path: self.path.clone(), source };
        // Never moved while it grows: what a reallocation leaves behind is not wiped.
        let mut text = Zeroizing::new(String::with_capacity(usize::try_from(MAX_FILE).unwrap_or(0) + 1));
        self.file()?.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > MAX_FILE { Err(failed(io::ErrorKind::FileTooLarge.into())) } else { Ok(text) }
    }

    /// The server's own certificate: the first of the chain.
    pub(crate) fn certificate(&self) -> Result<Certificate, PairError> {
        let failed = |source| PairError::Certificate { path: self.path.clone(), source };
        let chain = Certificate::chain(&self.text()?).map_err(failed)?;
        chain.into_iter().next().ok_or_else(|| failed(CertificateError::None))
    }

    /// The public half of the private key, as in a certificate's bit string.
    fn public_key(&self, algorithm: &[u8]) -> Result<Vec<u8>, PairError> {
        let unknown = || PairError::Key { path: self.path.clone() };
        public_half(&self.text()?, algorithm).ok_or_else(unknown)
    }

    /// The private key is the one of the certificate.
    pub(crate) fn is_key_of(&self, certificate: &Certificate) -> Result<bool, PairError> {
        Ok(self.public_key(&certificate.algorithm)? == certificate.public_key)
    }

    /// The private key is the one that was made for a renewal.
    pub(crate) fn is_made(&self, made: &Digest) -> bool {
        let point = self.public_key(&[]).ok();
        point.and_then(|point| information_of(&point).ok()).is_some_and(|information| information.digest() == *made)
    }
}

fn public_half(text: &str, algorithm: &[u8]) -> Option<Vec<u8>> {
    let from = text.find("-----BEGIN ").filter(|_| text.contains("PRIVATE KEY-----"))?;
    // A file with its curve's parameters before the key, as some tools write it.
    let block = text.get(from..)?;
    let block = match block.strip_prefix("-----BEGIN EC PARAMETERS-----") {
        Some(rest) => rest.get(rest.find("-----BEGIN EC PRIVATE KEY-----")?..)?,
        None => block,
    };
    let (label, der) = pem::decode_vec(block.as_bytes()).ok()?;
    let der = Zeroizing::new(der);
    match label {
        "PRIVATE KEY" => of_pkcs8(&der),
        "EC PRIVATE KEY" => of_pkcs8(&as_pkcs8(&der, algorithm)?),
        "RSA PRIVATE KEY" => Some(RsaKeyPair::from_der(&der).ok()?.public_key().as_ref().to_vec()),
        _ => None,
    }
}

fn of_pkcs8(der: &[u8]) -> Option<Vec<u8>> {
    let random = SystemRandom::new();
    let curves = [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING];
    let on_curve = curves.into_iter().find_map(|curve| EcdsaKeyPair::from_pkcs8(curve, der, &random).ok());
    if let Some(pair) = on_curve {
        return Some(pair.public_key().as_ref().to_vec());
    }
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
        return Some(pair.public_key().as_ref().to_vec());
    }
    Some(RsaKeyPair::from_pkcs8(der).ok()?.public_key().as_ref().to_vec())
}

/// SEC 1's structure in PKCS#8's: which curve it is on, the certificate says.
fn as_pkcs8(sec1: &[u8], algorithm: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    const VERSION: [u8; 3] = [0x02, 0x01, 0x00];
    let inner = OctetString::new(sec1).ok()?.to_der().ok()?;
    let body = [&VERSION[..], algorithm, &inner].concat();
    Some(Zeroizing::new(Any::new(Tag::Sequence, body).ok()?.to_der().ok()?))
}

/// Both files.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) certificate: Held,
    pub(crate) key: Held,
}

impl Pair {
    pub(crate) fn find(place: &CertificatePlace) -> Result<Self, PairError> {
        Ok(Self { certificate: Held::find(&place.certificate)?, key: Held::find(&place.key)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(dir: &Path, name: &str, text: &str) -> MountPath {
        std::fs::write(dir.join(name), text).unwrap();
        MountPath::parse(dir.join(name).to_str().unwrap()).unwrap()
    }

    fn openssl(dir: &Path, arguments: &[&str]) -> bool {
        std::process::Command::new("openssl").current_dir(dir).args(arguments).output().unwrap().status.success()
    }

    #[test]
    fn a_key_is_told_from_another_whatever_tool_wrote_it() {
        let dir = tempfile::tempdir().unwrap();
        let made: [(&str, &[&str]); 5] = [
            ("p256", &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "p256.key"]),
            ("p384", &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", "p384.key"]),
            ("sec1", &["ecparam", "-name", "prime256v1", "-genkey", "-out", "sec1.key"]),
            ("rsa", &["genrsa", "-traditional", "-out", "rsa.key", "2048"]),
            ("ed", &["genpkey", "-algorithm", "ED25519", "-out", "ed.key"]),
        ];
        for (name, arguments) in made {
            assert!(openssl(dir.path(), arguments), "{name}");
            let (key, out) = (format!("{name}.key"), format!("{name}.pem"));
            assert!(openssl(
                dir.path(),
                &["req", "-x509", "-new", "-key", &key, "-subj", "/CN=a.test", "-days", "1", "-out", &out]
            ));
        }
        let held =
            |name: &str| Held::find(&MountPath::parse(dir.path().join(name).to_str().unwrap()).unwrap()).unwrap();
        for (name, _) in made {
            let certificate = held(&format!("{name}.pem")).certificate().unwrap();
            for (other, _) in made {
                let matches = held(&format!("{other}.key")).is_key_of(&certificate);
                if other == name {
                    assert!(matches.unwrap(), "{name}");
                } else {
                    assert!(!matches.unwrap_or(false), "{name} {other}");
                }
            }
        }
    }

    #[test]
    fn a_link_a_second_name_and_what_is_no_certificate_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let text = place(dir.path(), "text", "no certificate");
        assert!(matches!(Held::find(&text).unwrap().certificate(), Err(PairError::Certificate { .. })));
        assert!(matches!(Held::find(&text).unwrap().public_key(&[]), Err(PairError::Key { .. })));
        std::os::unix::fs::symlink("text", dir.path().join("link")).unwrap();
        let link = MountPath::parse(dir.path().join("link").to_str().unwrap()).unwrap();
        assert!(matches!(Held::find(&link), Err(PairError::Place { source: PlaceError::Escapes, .. })));
        std::fs::hard_link(dir.path().join("text"), dir.path().join("second")).unwrap();
        assert!(matches!(Held::find(&text), Err(PairError::Links { links: 2, .. })));
        let huge = place(dir.path(), "huge", &"x".repeat(usize::try_from(MAX_FILE).unwrap() + 1));
        assert!(matches!(Held::find(&huge).unwrap().certificate(), Err(PairError::Read { .. })));
    }
}
