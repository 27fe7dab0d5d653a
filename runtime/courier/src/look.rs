//! Which certificate a server shows. It is described, never trusted: the handshake is broken off as soon as the server has shown its
//! certificate and that it holds the key, so that no byte is ever sent or taken over such a connection.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use theriac_model::units::Blob;
use theriac_protocol::courier::{CourierAnswer, Look, Looked};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::check::{broken, io_words};

/// The same bound as whoever describes it has.
const MAX_CERTIFICATE: usize = 64 << 10;

/// Takes what the server shows, and lets no handshake end well.
#[derive(Debug)]
struct Onlooker {
    provider: Arc<CryptoProvider>,
    seen: Mutex<Option<Looked>>,
}

impl Onlooker {
    fn with<T>(&self, work: impl FnOnce(&mut Option<Looked>) -> T) -> T {
        work(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn shown(&self, signature: Result<HandshakeSignatureValid, Error>) -> Result<HandshakeSignatureValid, Error> {
        self.with(|seen| {
            if let Some(seen) = seen {
                seen.key_shown = signature.is_ok();
            }
        });
        Err(Error::General("looked at, and not used".to_owned()))
    }
}

impl ServerCertVerifier for Onlooker {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if end_entity.len() <= MAX_CERTIFICATE {
            let certificate = Blob(end_entity.to_vec());
            self.with(|seen| *seen = Some(Looked { certificate, key_shown: false }));
        }
        // Only so far that the server goes on to sign: both ways to verify a signature below end the handshake.
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        self.shown(verify_tls12_signature(message, certificate, signed, algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        self.shown(verify_tls13_signature(message, certificate, signed, algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Looks once, within the question's own timeout.
pub(crate) async fn look(look: &Look) -> CourierAnswer {
    let looked = tokio::time::timeout(look.timeout.duration(), seen(look)).await;
    match looked.unwrap_or_else(|_elapsed| Err(format!("no certificate within {}", look.timeout))) {
        Ok(seen) => CourierAnswer::Looked(seen),
        Err(reason) => CourierAnswer::NotSeen(reason),
    }
}

async fn seen(look: &Look) -> Result<Looked, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let onlooker = Arc::new(Onlooker { provider: Arc::clone(&provider), seen: Mutex::new(None) });
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?.dangerous();
    let config = builder.with_custom_certificate_verifier(Arc::clone(&onlooker) as _).with_no_client_auth();
    let name = ServerName::try_from(look.name.to_string()).map_err(|_wrong| "no server has that name".to_owned())?;
    let stream = TcpStream::connect(look.address).await.map_err(|error| io_words(&error).to_owned())?;
    let ended = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let why = ended.err().and_then(|error| broken(&error)).unwrap_or("the TLS handshake failed");
    onlooker.with(Option::take).ok_or_else(|| why.to_owned())
}
