//! What a certificate says: files in PEM and what a server sent in DER, read and described. Nothing is trusted and nothing is
//! verified here: an expired, self-signed or foreign certificate has facts like any other.

use theriac_model::certificate::CertificateFacts;
use theriac_model::id::Digest;
use x509_cert::der::asn1::Ia5String;
use x509_cert::der::{Decode as _, Encode as _, pem};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

/// A file with a chain of real certificates has some 6 KiB.
pub const MAX_FILE: u64 = 256 << 10;
/// Certificates of one chain: leaf, two or three intermediates, a root that needs not be there.
const MAX_CHAIN: usize = 8;
/// One certificate in DER; those with a hundred names have 8 KiB.
const MAX_DER: usize = 64 << 10;
/// Names that are told of one certificate.
const MAX_NAMES: usize = 100;
/// Characters of a text that somebody else chose.
const MAX_TEXT: usize = 253;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Why something is no certificate, or none that can be described.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Nothing between the lines that begin and end one.
    #[error("there is no certificate in it")]
    None,
    /// More than any chain has.
    #[error("there are more than {MAX_CHAIN} certificates in it")]
    TooMany,
    /// Longer than any real one.
    #[error("a certificate of {bytes} bytes is longer than any real one")]
    TooLong { bytes: usize },
    /// Not PEM.
    #[error("it is not PEM: {reason}")]
    Pem { reason: String },
    /// Not X.509.
    #[error("it is not an X.509 certificate: {reason}")]
    Der { reason: String },
}

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// What it says.
    pub facts: CertificateFacts,
    /// Whether the names are those of an extension (what every client asks for) and nothing else is named there.
    pub only_dns_names: bool,
    /// Its DER form.
    pub der: Vec<u8>,
    /// The key's bytes, as in the bit string of its information.
    pub public_key: Vec<u8>,
    /// The key's algorithm with its parameters, in DER.
    pub algorithm: Vec<u8>,
    /// SHA-256 of the key's information.
    pub key: Digest,
    /// Whom it is for, in DER.
    pub subject: Vec<u8>,
    /// Who signed it, in DER.
    pub issuer: Vec<u8>,
}

impl Certificate {
    /// Reads one in DER.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        if der.len() > MAX_DER {
            return Err(CertificateError::TooLong { bytes: der.len() });
        }
        let wrong = |error: x509_cert::der::Error| CertificateError::Der { reason: error.to_string() };
        let parsed = x509_cert::Certificate::from_der(der).map_err(wrong)?;
        let tbs = parsed.tbs_certificate();
        let alternative = tbs.get_extension::<SubjectAltName>().map_err(wrong)?.map(|(_critical, names)| names.0);
        let named = alternative.as_deref().unwrap_or_default();
        let dns: Vec<&Ia5String> = named.iter().filter_map(dns_name).collect();
        let names = match alternative {
            Some(_) => dns.iter().take(MAX_NAMES).map(|name| shown(name.as_str())).collect(),
            // Old and home-made ones name their host in the subject alone.
            None => common_name(tbs.subject()).into_iter().collect(),
        };
        let key = tbs.subject_public_key_info();
        let encoded = |name: &Name| name.to_der().map_err(wrong);
        let (subject, issuer) = (encoded(tbs.subject())?, encoded(tbs.issuer())?);
        Ok(Self {
            facts: CertificateFacts {
                names,
                issuer: shown(&tbs.issuer().to_string()),
                self_signed: subject == issuer,
                not_before: tbs.validity().not_before.to_unix_duration().as_secs(),
                not_after: tbs.validity().not_after.to_unix_duration().as_secs(),
                fingerprint: Digest::of(der),
            },
            only_dns_names: !dns.is_empty() && dns.len() == named.len() && dns.len() <= MAX_NAMES,
            der: der.to_vec(),
            public_key: key.subject_public_key.raw_bytes().to_vec(),
            algorithm: key.algorithm.to_der().map_err(wrong)?,
            key: Digest::of(&key.to_der().map_err(wrong)?),
            subject,
            issuer,
        })
    }

    /// Reads every one of a text in PEM, the first of which is the server's own. What stands between them is left aside.
    pub fn chain(text: &str) -> Result<Vec<Self>, CertificateError> {
        let mut chain = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(BEGIN) {
            if chain.len() == MAX_CHAIN {
                return Err(CertificateError::TooMany);
            }
            let from = rest.get(at..).unwrap_or_default();
            let unended = || CertificateError::Pem { reason: "a certificate has no end".to_owned() };
            let end = from.find(END).ok_or_else(unended)? + END.len();
            let (block, after) = from.split_at_checked(end).ok_or_else(unended)?;
            if block.len() > 2 * MAX_DER {
                return Err(CertificateError::TooLong { bytes: block.len() });
            }
            let wrong = |error: pem::Error| CertificateError::Pem { reason: error.to_string() };
            let (_label, der) = pem::decode_vec(block.as_bytes()).map_err(wrong)?;
            chain.push(Self::parse(&der)?);
            rest = after;
        }
        if chain.is_empty() { Err(CertificateError::None) } else { Ok(chain) }
    }

    /// The same in PEM, in one spelling.
    pub fn pem(&self) -> String {
        pem::encode_string("CERTIFICATE", pem::LineEnding::LF, &self.der).unwrap_or_default()
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "an enum of somebody else's: the other kinds are no names of hosts")]
const fn dns_name(name: &GeneralName) -> Option<&Ia5String> {
    match name {
        GeneralName::DnsName(name) => Some(name),
        _other => None,
    }
}

fn common_name(subject: &Name) -> Option<String> {
    let name = subject.common_name().ok()??;
    Some(shown(&name.value()))
}

/// A text that whoever made the certificate chose: printable and cut.
fn shown(text: &str) -> String {
    text.chars().take(MAX_TEXT).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn made(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> rcgen::Certificate {
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap()
    }

    #[test]
    fn an_expired_self_signed_certificate_is_described_like_any_other() {
        let certificate = made(&["a.test", "b.test"], |params| {
            params.not_before = rcgen::date_time_ymd(2025, 1, 1);
            params.not_after = rcgen::date_time_ymd(2025, 2, 1);
        });
        let read = Certificate::parse(certificate.der()).unwrap();
        assert_eq!(read.facts.names, ["a.test", "b.test"]);
        assert!(read.facts.self_signed && read.only_dns_names);
        assert_eq!((read.facts.not_before, read.facts.not_after), (1_735_689_600, 1_738_368_000));
        assert_eq!(read.facts.fingerprint, Digest::of(certificate.der()));
    }

    #[test]
    fn a_chain_is_read_from_among_other_text_and_written_in_one_spelling() {
        let (leaf, root) = (made(&["a.test"], |_| {}), made(&["root.test"], |_| {}));
        let text = format!("Certificate:\n  Data: x\n{}\n# the root\n{}", leaf.pem(), root.pem());
        let chain = Certificate::chain(&text).unwrap();
        assert_eq!(chain.len(), 2);
        assert_eq!(Certificate::chain(&chain[0].pem()).unwrap()[0], chain[0]);
    }

    #[test]
    fn without_alternative_names_the_subject_names_it_and_an_address_is_no_name_of_a_host() {
        let bare = made(&[], |params| params.distinguished_name.push(DnType::CommonName, "old.test"));
        let read = Certificate::parse(bare.der()).unwrap();
        assert_eq!(read.facts.names, ["old.test"]);
        assert!(!read.only_dns_names);
        let mixed =
            made(&["a.test"], |params| params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into())));
        assert!(!Certificate::parse(mixed.der()).unwrap().only_dns_names);
    }

    #[test]
    fn what_is_no_certificate_is_refused_and_bounded() {
        let one = made(&["a.test"], |_| {}).pem();
        for (text, wanted) in [
            (String::new(), CertificateError::None),
            ("nothing here".into(), CertificateError::None),
            (one.repeat(MAX_CHAIN + 1), CertificateError::TooMany),
        ] {
            assert_eq!(Certificate::chain(&text), Err(wanted));
        }
        let cut = one.replace(END, "");
        assert!(matches!(Certificate::chain(&cut), Err(CertificateError::Pem { .. })));
        let garbage = format!("{BEGIN}\nAAAA\n{END}\n");
        assert!(matches!(
            Certificate::chain(&garbage),
            Err(CertificateError::Der { .. } | CertificateError::Pem { .. })
        ));
        let long = format!("{BEGIN}\n{}\n{END}\n", "A".repeat(3 * MAX_DER));
        assert!(matches!(Certificate::chain(&long), Err(CertificateError::TooLong { .. })));
        assert!(matches!(Certificate::parse(&vec![0x30; MAX_DER + 1]), Err(CertificateError::TooLong { .. })));
    }

    #[test]
    fn a_name_that_would_trick_a_terminal_is_shown_escaped() {
        let evil = made(&[], |params| params.distinguished_name.push(DnType::CommonName, "a\u{1b}[2J"));
        assert_eq!(Certificate::parse(evil.der()).unwrap().facts.names, ["a\\u{1b}[2J"]);
    }
}
