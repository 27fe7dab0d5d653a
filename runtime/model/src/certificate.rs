//! Certificates that the operator's configuration lists: what they say, and their renewal.
//!
//! A private key is in none of these types: it is made, written and read by the runner alone.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::effect::{FileState, Preimage};
use crate::id::{Digest, Label, NameError, UnitName};
use crate::target::MountPath;
use crate::time::Timestamp;

/// A name of DNS as a certificate has it: lower case, at least two labels, no wildcard (which no HTTP challenge can prove).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsName(String);

impl DnsName {
    /// Parses the one spelling; nothing is folded or repaired.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        // A last label that is a number would be an address to whoever resolves it.
        let named = text.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_lowercase()));
        if text.len() <= 253 && text.contains('.') && named && text.split('.').all(label) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::new(
                "host name",
                text,
                "write a lower-case name with a dot, such as `www.example.com`, without `*`",
            ))
        }
    }

    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for DnsName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<DnsName> for String {
    fn from(name: DnsName) -> String {
        name.0
    }
}

/// Where a certificate and its key are, by root's configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificatePlace {
    /// The file with the certificate and its chain (PEM).
    pub certificate: MountPath,
    /// The file with its private key (PEM).
    pub key: MountPath,
    /// What the web server shows to the certificate authority.
    pub webroot: Option<MountPath>,
}

/// Verbs of a granted certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateCall {
    /// What its file says.
    Inspect,
    /// What the configured address serves.
    Served,
    /// A new key and a new certificate in the files.
    Renew,
}

/// What a certificate says. Nothing in it is trusted: an expired or self-signed one is described like any other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFacts {
    /// The names it is for, each printable and cut, at most 100.
    pub names: Vec<String>,
    /// Who it says has signed it.
    pub issuer: String,
    /// It says that it has signed itself.
    pub self_signed: bool,
    /// Seconds since 1970.
    pub not_before: u64,
    /// Seconds since 1970.
    pub not_after: u64,
    /// SHA-256 of its DER form.
    pub fingerprint: Digest,
}

/// A certificate as a remedy sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateInfo {
    /// What it says.
    pub facts: CertificateFacts,
    /// Seconds until it expires; negative: since it did.
    pub left_s: i64,
    /// Of a file: the private key beside it is its own. Of a served one: the server has shown that it holds its key.
    pub key_matches: bool,
    /// Includes effects that the dry run only recorded.
    pub assumed: bool,
}

/// What the runner measured of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateReading {
    /// When.
    pub at: Timestamp,
    /// Until when the file's is good, in seconds since 1970; `None`: the file can't be read.
    pub file_until: Option<u64>,
    /// What the address serves.
    pub served: ServedReading,
}

/// What the runner measured of a served certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServedReading {
    /// No address is configured.
    NotAsked,
    /// Nobody answered there, or not with a certificate.
    NotSeen,
    /// One that is good until then, in seconds since 1970; whether it is the one of the file.
    Until { not_after: u64, of_file: bool },
}

impl CertificateReading {
    /// Seconds until the first of them expires; negative: since it did. `None`: neither is known.
    pub fn left_s(&self, now: Timestamp) -> Option<i64> {
        let served = match self.served {
            ServedReading::Until { not_after, .. } => Some(not_after),
            ServedReading::NotAsked | ServedReading::NotSeen => None,
        };
        let until = self.file_until.into_iter().chain(served).min()?;
        Some(seconds_left(until, now))
    }
}

/// Seconds from now to a second since 1970; negative: since then.
pub fn seconds_left(until: u64, now: Timestamp) -> i64 {
    let signed = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    signed(until).saturating_sub(signed(now.0 / 1000))
}

/// One renewal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateEffect {
    /// The grant's label.
    pub label: Label,
    /// Which certificate, by the operator's name.
    pub certificate: Label,
    /// Where it is.
    pub place: CertificatePlace,
    /// Who serves it.
    pub unit: Option<UnitName>,
    /// The names the new one is for, exactly.
    pub names: Vec<DnsName>,
    /// The one that is replaced.
    pub from: Digest,
}

impl CertificateEffect {
    /// The verb in the manifest's word.
    pub const fn verb(&self) -> &'static str {
        "renew"
    }

    /// The same renewal of the same certificate.
    pub fn is_within(&self, planned: &Self) -> bool {
        self == planned
    }
}

impl fmt::Display for CertificateEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names.iter().map(DnsName::as_str).collect::<Vec<_>>().join(", ");
        write!(f, "renew certificate {} in {} for {names}", self.certificate, self.place.certificate)
    }
}

/// A file as it was before a renewal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptFile {
    /// Its state.
    pub state: FileState,
    /// Its content. That of a key is never in the record itself, because records are exported.
    pub preimage: Preimage,
}

/// What takes a renewal back, and what recognises it after a crash: written before anything is asked of anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateUndo {
    /// Where.
    pub place: CertificatePlace,
    /// The certificate's file.
    pub certificate: KeptFile,
    /// The key's file.
    pub key: KeptFile,
    /// SHA-256 of the public key that was made for this renewal. Only its own run knows the private one, so what holds it was
    /// put there by that run.
    pub made: Digest,
    /// The thumbprint of the account that asks for it: answers to challenges that end with it are Theriac's.
    pub account: String,
}

/// The day (UTC) of a second since 1970, for people.
pub fn date(seconds: u64) -> String {
    // The calendar repeats every 400 years, and counted from the first of March the leap day is the last day of a year.
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_spelling_and_is_no_address_or_wildcard() {
        for good in ["app.test", "www.example.com", "a-b.c1.d", "xn--bcher-kva.example"] {
            assert_eq!(DnsName::parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "",
            "localhost",
            "*.example.com",
            "App.test",
            "app.test.",
            ".test",
            "a..b",
            "-a.test",
            "a-.test",
            "127.0.0.1",
            "a.1",
            "a b.c",
            "a/b.c",
            "bücher.example",
            "a_b.test",
        ] {
            assert!(DnsName::parse(bad).is_err(), "{bad:?}");
        }
        assert!(DnsName::parse(&format!("{}.test", "a".repeat(64))).is_err());
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        let cases = [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_738_367_999, "2025-01-31"),
            (4_107_542_400, "2100-03-01"),
            (253_402_300_799, "9999-12-31"),
        ];
        for (seconds, day) in cases {
            assert_eq!(date(seconds), day);
        }
    }
}
