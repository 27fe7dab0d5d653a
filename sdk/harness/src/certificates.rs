//! The certificate of a scenario: a real pair of files, a server that shows one, and an authority that signs what it is asked to. No
//! real authority can be had in a test of a remedy: what it does on the wire is the courier's to be tested with.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData, SignatureAlgorithm};
use theriac_model::certificate::DnsName;
use theriac_model::id::Digest;
use theriac_model::units::Blob;
use theriac_protocol::acme::Challenge;
use theriac_protocol::courier::{Look, Looked};
use theriac_runner::clock;
use theriac_runner::hands::{Acme, HandError, Hands, Tls};
use x509_cert::der::Decode as _;

use crate::error::ScenarioError;
use crate::scenario;

/// What the certificate is called, and whom it is for.
pub(crate) const NAME: &str = "target";
pub(crate) const HOST: &str = "scenario.test";
const DAY: i64 = 86_400;
/// A new one is good for as long as those of the common authorities.
const LIFE: i64 = 90 * DAY;
/// Of an account that nobody has.
const ACCOUNT: &str = "scenario-scenario-scenario-scenario-scenari";
const TOKEN: &str = "scenario-scenario-scenario";

pub(crate) struct Certificates {
    pub(crate) dir: PathBuf,
    served: Option<Vec<u8>>,
}

fn failed(error: rcgen::Error) -> ScenarioError {
    ScenarioError::part("making a certificate")(error)
}

/// Good from a year before the end on, or from now, whichever is earlier.
fn params(until: i64) -> Result<CertificateParams, rcgen::Error> {
    let at = |seconds: i64| {
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
    };
    let mut params = CertificateParams::new([HOST.to_owned()])?;
    params.not_before = at((until - 365 * DAY).min(now()));
    params.not_after = at(until);
    Ok(params)
}

fn now() -> i64 {
    i64::try_from(clock::wall().0 / 1000).unwrap_or(i64::MAX)
}

impl Certificates {
    pub(crate) fn make(dir: &Path, asked: &scenario::Certificate) -> Result<Self, ScenarioError> {
        let doing = || ScenarioError::io(format!("making a certificate in `{}`", dir.display()));
        fs::create_dir_all(dir.join("www")).map_err(doing())?;
        let made = |days: i64| -> Result<(KeyPair, rcgen::Certificate), rcgen::Error> {
            let key = KeyPair::generate()?;
            let certificate = params(now() + days * DAY)?.self_signed(&key)?;
            Ok((key, certificate))
        };
        let (key, own) = made(asked.left_days).map_err(failed)?;
        fs::write(dir.join("cert.pem"), own.pem()).map_err(doing())?;
        fs::write(dir.join("key.pem"), key.serialize_pem()).map_err(doing())?;
        let served = asked.served_days.map(made).transpose().map_err(failed)?;
        Ok(Self { dir: dir.to_owned(), served: served.map(|(_, certificate)| certificate.der().to_vec()) })
    }

    /// What the runner's hands can do with it.
    pub(crate) fn lend(&self, hands: &mut Hands) -> Result<(), ScenarioError> {
        hands.acme = Some(Arc::new(Authority::new().map_err(failed)?));
        hands.tls = self.served.clone().map(|der| Arc::new(Server(der)) as Arc<dyn Tls>);
        Ok(())
    }

    /// It is served somewhere.
    pub(crate) const fn is_served(&self) -> bool {
        self.served.is_some()
    }

    /// What is in the two files, as one number.
    pub(crate) fn state(&self) -> Option<Digest> {
        let both = [fs::read(self.dir.join("cert.pem")).ok()?, fs::read(self.dir.join("key.pem")).ok()?];
        Some(Digest::of(&both.concat()))
    }
}

/// A server that shows the same certificate until it is started anew, which no remedy of a certificate does.
struct Server(Vec<u8>);

impl Tls for Server {
    fn look(&self, _look: &Look) -> Result<Looked, HandError> {
        Ok(Looked { certificate: Blob(self.0.clone()), key_shown: true })
    }
}

struct Authority {
    root: CertificateParams,
    key: KeyPair,
}

/// The key of a request, as far as a signer needs it.
struct Asked(Vec<u8>);

impl PublicKeyData for Asked {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl Authority {
    fn new() -> Result<Self, rcgen::Error> {
        let mut root = CertificateParams::new(Vec::new())?;
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self { root, key: KeyPair::generate()? })
    }

    fn issue(&self, point: Vec<u8>) -> Result<String, rcgen::Error> {
        let issuer = Issuer::from_params(&self.root, &self.key);
        Ok(params(now() + LIFE)?.signed_by(&Asked(point), &issuer)?.pem())
    }
}

impl Acme for Authority {
    fn account(&self) -> Result<String, HandError> {
        Ok(ACCOUNT.to_owned())
    }

    fn order(
        &self,
        _names: &[DnsName],
        request: &[u8],
        answer: &mut dyn FnMut(&[Challenge]) -> Result<(), HandError>,
    ) -> Result<String, HandError> {
        answer(&[Challenge { token: TOKEN.to_owned(), answer: format!("{TOKEN}.{ACCOUNT}") }])?;
        let failed = |reason: String| HandError::Failed { reason };
        let request = x509_cert::request::CertReq::from_der(request).map_err(|error| failed(error.to_string()))?;
        let point = request.info.public_key.subject_public_key.raw_bytes().to_vec();
        self.issue(point).map_err(|error| failed(error.to_string()))
    }
}
