//! A fresh key and the request that is signed with it. The key leaves this process only into its own file.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use theriac_model::certificate::DnsName;
use theriac_model::id::Digest;
use x509_cert::attr::Attribute;
use x509_cert::der::asn1::{Any, BitString, Ia5String, ObjectIdentifier, OctetString, SetOfVec};
use x509_cert::der::{self, Encode as _, pem};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;
use x509_cert::request::{CertReq, CertReqInfo, ExtensionReq, Version};
use x509_cert::{AlgorithmIdentifier, SubjectPublicKeyInfo};
use zeroize::Zeroizing;

/// RFC 5480: an elliptic curve's public key.
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// RFC 5480: P-256.
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// RFC 5758.
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
/// RFC 5280, 4.2.1.6.
const SUBJECT_ALTERNATIVE_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");

/// Why there is no key or no request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The kernel's random numbers, or the curve.
    #[error("no key can be made")]
    Key,
    /// The structure.
    #[error("no request can be made")]
    Structure(#[source] der::Error),
}

/// A key nobody has seen.
pub(crate) struct FreshKey {
    pair: EcdsaKeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
    information: Information,
}

impl std::fmt::Debug for FreshKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FreshKey")
    }
}

/// A public key as a certificate names it.
#[derive(Debug, Clone)]
pub(crate) struct Information {
    structure: SubjectPublicKeyInfo,
    encoded: Vec<u8>,
}

impl Information {
    /// SHA-256 of it: what tells one key from all others.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.encoded)
    }
}

/// Of a point on P-256.
pub(crate) fn information_of(point: &[u8]) -> Result<Information, RequestError> {
    let make = || {
        let structure = SubjectPublicKeyInfo {
            algorithm: AlgorithmIdentifier { oid: EC_PUBLIC_KEY, parameters: Some(Any::encode_from(&P256)?) },
            subject_public_key: BitString::from_bytes(point)?,
        };
        let encoded = structure.to_der()?;
        Ok(Information { structure, encoded })
    };
    make().map_err(RequestError::Structure)
}

impl FreshKey {
    /// Makes one, on P-256: every client of this century takes it.
    pub(crate) fn generate() -> Result<Self, RequestError> {
        let random = SystemRandom::new();
        let curve = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(curve, &random).map_err(|_unspecified| RequestError::Key)?;
        let pkcs8 = Zeroizing::new(document.as_ref().to_vec());
        let pair = EcdsaKeyPair::from_pkcs8(curve, &pkcs8, &random).map_err(|_rejected| RequestError::Key)?;
        let information = information_of(pair.public_key().as_ref())?;
        Ok(Self { pair, pkcs8, information })
    }

    /// What tells it from all others.
    pub(crate) fn digest(&self) -> Digest {
        self.information.digest()
    }

    /// As it is written to its file.
    pub(crate) fn pem(&self) -> Result<Zeroizing<String>, RequestError> {
        let text = pem::encode_string("PRIVATE KEY", pem::LineEnding::LF, &self.pkcs8);
        text.map(Zeroizing::new).map_err(|_too_long| RequestError::Key)
    }

    /// A request for these names (PKCS#10 in DER).
    pub(crate) fn request(&self, names: &[DnsName]) -> Result<Vec<u8>, RequestError> {
        let structure = RequestError::Structure;
        let info = self.info(names).map_err(structure)?;
        let signed = info.to_der().map_err(structure)?;
        let signature = self.pair.sign(&SystemRandom::new(), &signed).map_err(|_unspecified| RequestError::Key)?;
        let request = CertReq {
            info,
            algorithm: AlgorithmIdentifier { oid: ECDSA_WITH_SHA256, parameters: None },
            signature: BitString::from_bytes(signature.as_ref()).map_err(structure)?,
        };
        request.to_der().map_err(structure)
    }

    fn info(&self, names: &[DnsName]) -> der::Result<CertReqInfo> {
        let named = |name: &DnsName| Ia5String::new(name.as_str()).map(GeneralName::DnsName);
        let names = SubjectAltName(names.iter().map(named).collect::<der::Result<_>>()?);
        let extension = Extension {
            extn_id: SUBJECT_ALTERNATIVE_NAME,
            critical: false,
            extn_value: OctetString::new(names.to_der()?)?,
        };
        let asked = Attribute::try_from(ExtensionReq(vec![extension]))?;
        Ok(CertReqInfo {
            version: Version::V1,
            // Nobody reads it any more: the names are in the extension.
            subject: Name::default(),
            public_key: self.information.structure.clone(),
            attributes: SetOfVec::try_from(vec![asked])?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openssl_takes_the_request_and_finds_the_names_and_the_signature_right() {
        let dir = tempfile::tempdir().unwrap();
        let key = FreshKey::generate().unwrap();
        let names = ["a.test", "www.a.test"].map(|name| DnsName::parse(name).unwrap());
        std::fs::write(dir.path().join("csr"), key.request(&names).unwrap()).unwrap();
        std::fs::write(dir.path().join("key"), key.pem().unwrap().as_bytes()).unwrap();
        let run = |arguments: &[&str]| {
            let output =
                std::process::Command::new("openssl").current_dir(dir.path()).args(arguments).output().unwrap();
            let told =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{told}");
            told
        };
        let shown = run(&["req", "-inform", "DER", "-in", "csr", "-noout", "-verify", "-text"]);
        assert!(shown.contains("DNS:a.test, DNS:www.a.test"), "{shown}");
        assert!(shown.contains("verify OK") || shown.contains("verify ok"), "{shown}");
        let of_key = run(&["pkey", "-in", "key", "-pubout", "-outform", "PEM"]);
        let of_request = run(&["req", "-inform", "DER", "-in", "csr", "-noout", "-pubkey"]);
        assert!(of_request.contains(of_key.trim()), "{of_key}{of_request}");
    }

    #[test]
    fn two_keys_are_never_the_same_and_none_is_shown() {
        let (one, other) = (FreshKey::generate().unwrap(), FreshKey::generate().unwrap());
        assert_ne!(one.digest(), other.digest());
        assert_eq!(format!("{one:?}"), "FreshKey");
    }
}
