//! Names and identifiers: each is parsed once, at the edge, and can't hold anything else afterwards.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a name of the wanted sort.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not {} {what}: {rule}", text.escape_debug(), article(what))]
pub struct NameError {
    what: &'static str,
    text: String,
    rule: &'static str,
}

impl NameError {
    pub(crate) fn new(what: &'static str, text: &str, rule: &'static str) -> Self {
        // A hostile name may be megabytes long; the sentence about it may not.
        Self { what, text: text.chars().take(80).collect(), rule }
    }
}

/// Of our own names for things; none of them begins with a vowel that is spoken as a consonant but `unit`.
fn article(what: &str) -> &'static str {
    if what.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" }
}

/// Defines a string newtype that only its rule lets through, in code and in serde alike.
macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $rule:literal, $accept:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Parses the text; nothing is trimmed, folded or repaired.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                let accept: fn(&str) -> bool = $accept;
                if accept(text) { Ok(Self(text.to_owned())) } else { Err(NameError::new($what, text, $rule)) }
            }

            /// The name as it was written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(&text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
    };
}

/// `[a-z0-9-]{1,64}`, no hyphen at the start: a leading hyphen reads as an option wherever a name is printed.
fn is_slug(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_label(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

/// What systemd allows in a unit name, less `@` instances without an instance and globs; or a supervised service's slug.
fn is_unit(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && !text.starts_with(['-', '.'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b))
        && !text.contains("@.")
}

name!(
    /// A remedy's name.
    RemedyName, "remedy name", "use 1 to 64 of a-z, 0-9 and `-`, not starting with `-`", is_slug
);
name!(
    /// A playbook's name.
    PlaybookName, "playbook name", "use 1 to 64 of a-z, 0-9 and `-`, not starting with `-`", is_slug
);
name!(
    /// The label of one grant, of a parameter, or of a thing the operator's configuration names.
    Label, "label", "use 1 to 64 of a-z, 0-9, `-` and `_`, starting with a letter", is_label
);
name!(
    /// A systemd unit's full name (`nginx.service`), or the name of a supervised service (`web`).
    UnitName, "unit name", "use a full unit name such as `nginx.service`, without globs, spaces or a bare template", is_unit
);
name!(
    /// Identifies one incident for good; made by the agent, opaque to the runner.
    IncidentId, "incident id", "use 1 to 64 of a-z, 0-9 and `-`, not starting with `-`", is_slug
);
name!(
    /// Identifies one run (its operation id); made by the runner when it reserves the run.
    RunId, "run id", "use 1 to 64 of a-z, 0-9 and `-`, not starting with `-`", is_slug
);
name!(
    /// Identifies one piece of evidence within its incident (`e1`, `e2`, …).
    EvidenceId, "evidence id", "use 1 to 64 of a-z, 0-9, `-` and `_`, starting with a letter", is_label
);
name!(
    /// The name of a signer's key, as in `ops.example.com/alice` (a C2SP key name: no spaces, no `+`).
    KeyName, "key name", "use 1 to 128 of letters, digits and `.`, `-`, `_`, `/`",
    |text| (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_/".contains(&b))
);

/// A SHA-256 digest, written `sha256:` and 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// Hashes the bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Takes a digest that was computed elsewhere (a streaming hash).
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hex digits without the prefix.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The first 12 hex digits, for people.
    pub fn short(&self) -> String {
        self.hex().chars().take(12).collect()
    }

    /// Parses `sha256:…`; upper-case digits are refused, so that equal digests are equal texts.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError::new("digest", text, "use `sha256:` and 64 lower-case hex digits");
        let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64).ok_or_else(wrong)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let [high, low] = pair else { return Err(wrong()) };
            *byte = nibble(*high).zip(nibble(*low)).map(|(high, low)| high << 4 | low).ok_or_else(wrong)?;
        }
        Ok(Self(bytes))
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

impl FromStr for Digest {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Digest {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // SG19.
    #[test]
    fn a_slug_is_taken_and_its_neighbours_are_refused() {
        assert_eq!(RemedyName::parse("disk-reclaim").unwrap().as_str(), "disk-reclaim");
        for wrong in ["", "Disk", "disk_reclaim", "-rf", "a b", "../x", "dіsk", "a\0", &"x".repeat(65)] {
            assert!(RemedyName::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    // SV01, SV02, SV03, SV04, SV06.
    #[test]
    fn a_unit_name_is_one_exact_name() {
        for right in ["nginx.service", "getty@tty1.service", "dev-disk\\x2d.mount", "web"] {
            assert!(UnitName::parse(right).is_ok(), "{right:?}");
        }
        for wrong in [
            "nginx.service ssh.service",
            "ngin*",
            "--now",
            "a\n",
            "getty@.service",
            "/home",
            "[n]ginx",
            ".x",
            "ngіnx.service",
        ] {
            assert!(UnitName::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn serde_refuses_what_parse_refuses() {
        assert!(serde_json::from_str::<Label>("\"logs\"").is_ok());
        assert!(serde_json::from_str::<Label>("\"Logs\"").is_err());
    }

    #[test]
    fn a_digest_round_trips_and_refuses_upper_case() {
        let digest = Digest::of(b"theriac");
        assert_eq!(Digest::parse(&digest.to_string()).unwrap(), digest);
        assert!(Digest::parse(&digest.to_string().to_uppercase().replace("SHA256", "sha256")).is_err());
    }
}
