//! What the runner asks the `acme` courier on `run/courier-acme.sock`.
//!
//! One order is one connection: `Order` is answered with the challenges, `Proceed` with the chain. Between the two the runner puts
//! the answers where the authority looks for them. The courier holds the account's key, the runner the certificate's: neither
//! message has either.

use serde::{Deserialize, Serialize};

use theriac_model::certificate::DnsName;
use theriac_model::units::Blob;

/// A request to the `acme` courier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum AcmeRequest {
    /// First message of a connection, which brings the epoch in: see [`crate::fence`].
    Hello { version: String },
    /// A certificate for these names.
    Order { names: Vec<DnsName> },
    /// The answers are in their places: have them looked at, and hand the signing request in (PKCS#10 in DER).
    Proceed { csr: Blob },
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum AcmeAnswer {
    /// To `Hello`: with the thumbprint of the account's key, which ends every answer to a challenge.
    Hello { version: String, account: String },
    /// To `Order`: what the authority wants to see. Its words, not yet looked at.
    Challenges(Vec<Challenge>),
    /// To `Proceed`: the chain in PEM. The authority's words, not yet looked at.
    Issued { chain: String },
    /// Nothing was asked of the authority, in one sentence.
    Refused(String),
    /// The authority said no, something else than it should, or nothing, in one sentence.
    Failed(String),
}

/// One HTTP challenge (RFC 8555, 8.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// The file's name below `/.well-known/acme-challenge/`.
    pub token: String,
    /// Its content.
    pub answer: String,
}

impl Challenge {
    /// The answer is the one to this token of this account, and both are of the alphabet of base64url: nothing in them leads
    /// out of a directory or into another line.
    pub fn is_sound(&self, account: &str) -> bool {
        let plain = |text: &str, length: std::ops::RangeInclusive<usize>| {
            length.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        // At least 128 bits; authorities use 32 to 43 characters.
        plain(&self.token, 22..=128) && plain(account, 43..=43) && self.answer == format!("{}.{account}", self.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: &str = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";

    fn sound(token: &str, answer: &str) -> bool {
        Challenge { token: token.to_owned(), answer: answer.to_owned() }.is_sound(ACCOUNT)
    }

    #[test]
    fn a_token_names_a_file_and_nothing_else() {
        let token = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
        assert!(sound(token, &format!("{token}.{ACCOUNT}")));
        for bad in [
            "",
            "short",
            "../../../../etc/cron.d/theriac",
            "..",
            ".hidden-file-of-somebody",
            "a/LoqXcYV8q5ONbJQxbmR7SCTNo3",
            "LoqXcYV8q5ONbJQxbmR7\n",
            "LoqXcYV8q5ONbJQxbmR7SCTNo3\0",
            "LoqXcYV8q5ONbJQxbmR7%2e%2e",
            "LoqXcYV8q5ONbJQxbmR7SCTNo3.php",
        ] {
            assert!(!sound(bad, &format!("{bad}.{ACCOUNT}")), "{bad:?}");
        }
        let long = "a".repeat(129);
        assert!(!sound(&long, &format!("{long}.{ACCOUNT}")));
    }

    #[test]
    fn an_answer_is_the_token_and_the_account_and_nothing_else() {
        let token = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
        for bad in ["", token, "<?php", &format!("{token}.{}", "x".repeat(43)), &format!("{token}.{ACCOUNT}\n")] {
            assert!(!sound(token, bad), "{bad:?}");
        }
    }
}
