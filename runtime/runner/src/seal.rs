//! The host's key as the journal's signer of checkpoints.

use theriac_authority::key::HostKey;
use theriac_journal::ledger::Signer;
use theriac_model::id::KeyName;

/// Signs checkpoints, and only those: the journal writes the text.
#[derive(Debug)]
pub(crate) struct HostSigner(HostKey);

impl HostSigner {
    pub(crate) const fn new(key: HostKey) -> Self {
        Self(key)
    }

    /// The ledger's name: the key's name, which holds the host's.
    pub(crate) fn origin(&self) -> String {
        self.name().to_string()
    }
}

impl Signer for HostSigner {
    fn name(&self) -> &KeyName {
        self.0.signer().public().name()
    }

    fn public_key(&self) -> [u8; 32] {
        *self.0.signer().public().point()
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.signer().sign(message)
    }
}

/// Where the host's name has no character that a key name may have.
pub(crate) fn fallback_name() -> KeyName {
    #[expect(clippy::expect_used, reason = "a constant that a test parses")]
    KeyName::parse("localhost/theriac-ledger").expect("a constant name")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_fallback_is_a_name() {
        assert_eq!(super::fallback_name().as_str(), "localhost/theriac-ledger");
    }
}
