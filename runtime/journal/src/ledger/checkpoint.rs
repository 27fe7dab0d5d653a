//! A checkpoint: the ledger's size and root under the host's signature, as a C2SP signed note.
//!
//! Writes and reads this one kind of note only. The general note with its trust store belongs to `theriac-authority`, which
//! this crate can't import; the format is the same, so any C2SP tool verifies these.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};
use theriac_model::id::{Digest, KeyName};

use super::tree::{Hash, TreeHead};

/// A longer note is not one of ours: origin and key name have at most 128 bytes each, the rest is fixed.
const LONGEST_NOTE: usize = 1024;
/// Ed25519, in the numbering of C2SP signed notes.
const ED25519: u8 = 1;

/// Signs checkpoints with the host's key. The key itself stays with its owner.
pub trait Signer: Send {
    /// The key's name.
    fn name(&self) -> &KeyName;
    /// The public half.
    fn public_key(&self) -> [u8; 32];
    /// The Ed25519 signature over `message`.
    fn sign(&self, message: &[u8]) -> [u8; 64];
}

/// The ledger's head at some moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose ledger: a name that is unique for this host's ledger.
    pub origin: String,
    /// How many entries.
    pub size: u64,
    /// Their root.
    pub root: Hash,
}

/// Why a text is not a checkpoint under this key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// It does not have the form.
    #[error("not a checkpoint: {what}")]
    Form {
        /// What is missing or wrong.
        what: &'static str,
    },
    /// Nobody signed it with this key.
    #[error("the checkpoint has no signature by `{key}`")]
    Unsigned {
        /// The key.
        key: KeyName,
    },
    /// The signature is not over this text.
    #[error("the signature by `{key}` is not over this checkpoint")]
    Forged {
        /// The key.
        key: KeyName,
    },
}

impl Checkpoint {
    /// As a tree head.
    pub const fn head(&self) -> TreeHead {
        TreeHead { size: self.size, root: self.root }
    }

    /// The signed text.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    /// The whole note.
    pub fn sign(&self, signer: &dyn Signer) -> String {
        let text = self.text();
        let mut signature = key_hash(signer.name(), &signer.public_key()).to_vec();
        signature.extend_from_slice(&signer.sign(text.as_bytes()));
        format!("{text}\n— {} {}\n", signer.name(), STANDARD.encode(signature))
    }

    /// Reads a note and checks its signature; other keys' signatures (witnesses) are passed over.
    pub fn open(note: &[u8], key: &VerifierKey) -> Result<Self, CheckpointError> {
        let form = |what| CheckpointError::Form { what };
        if note.len() > LONGEST_NOTE {
            return Err(form("it is too long"));
        }
        let note = std::str::from_utf8(note).map_err(|_utf8| form("it is not text"))?;
        let (text, signatures) = note.split_once("\n\n").ok_or_else(|| form("it has no signature block"))?;
        let text = format!("{text}\n");
        let prefix = format!("— {} ", key.name);
        let hash = key_hash(&key.name, key.key.as_bytes());
        let ours = signatures.lines().filter_map(|line| STANDARD.decode(line.strip_prefix(&prefix)?).ok());
        let ours = ours.filter_map(|bytes| {
            let (hint, signature) = bytes.split_first_chunk::<4>()?;
            (*hint == hash).then(|| <[u8; 64]>::try_from(signature).ok())?
        });
        let Some(signature) = ours.take(1).next() else {
            return Err(CheckpointError::Unsigned { key: key.name.clone() });
        };
        key.key
            .verify_strict(text.as_bytes(), &Signature::from_bytes(&signature))
            .map_err(|_signature| CheckpointError::Forged { key: key.name.clone() })?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, CheckpointError> {
        let form = |what| CheckpointError::Form { what };
        let mut lines = text.lines();
        let origin = lines.next().filter(|origin| !origin.is_empty()).ok_or_else(|| form("it has no origin"))?;
        let size: u64 = lines.next().and_then(|line| line.parse().ok()).ok_or_else(|| form("it has no size"))?;
        let root = lines.next().and_then(|line| STANDARD.decode(line).ok()?.try_into().ok());
        let root = root.ok_or_else(|| form("it has no root"))?;
        let checkpoint = Self { origin: origin.to_owned(), size, root };
        // One text for one checkpoint: no sign, leading zero, or line of its own that a reader would take for something else.
        if checkpoint.text() == text { Ok(checkpoint) } else { Err(form("it is not in canonical form")) }
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records, root {}", self.size, Digest::from_bytes(self.root).short())
    }
}

/// Checks the host's checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: KeyName,
    key: VerifyingKey,
}

/// Why a key can't verify anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifierKeyError {
    /// Not in the form `name+hash+base64`.
    #[error("`{}` is not a verifier key: use the form name+hash+base64", text.escape_debug())]
    Form {
        /// Its beginning.
        text: String,
    },
    /// A point of small order, under which one signature fits many texts, or no point at all.
    #[error("the key `{name}` is weak or no Ed25519 key")]
    Weak {
        /// Whose.
        name: KeyName,
    },
}

impl VerifierKey {
    /// From a name and the 32 bytes of an Ed25519 key.
    pub fn new(name: KeyName, public_key: &[u8; 32]) -> Result<Self, VerifierKeyError> {
        match VerifyingKey::from_bytes(public_key) {
            Ok(key) if !key.is_weak() => Ok(Self { name, key }),
            Ok(_) | Err(_) => Err(VerifierKeyError::Weak { name }),
        }
    }

    /// The key that checks what this signer signs.
    pub fn of(signer: &dyn Signer) -> Result<Self, VerifierKeyError> {
        Self::new(signer.name().clone(), &signer.public_key())
    }

    /// Reads the C2SP form `name+hash+base64`, as [`fmt::Display`] writes it.
    pub fn parse(text: &str) -> Result<Self, VerifierKeyError> {
        let wrong = || VerifierKeyError::Form { text: text.chars().take(80).collect() };
        let (name, rest) = text.trim_end().split_once('+').ok_or_else(wrong)?;
        let (_, key) = rest.split_once('+').ok_or_else(wrong)?;
        let name = KeyName::parse(name).map_err(|_reason| wrong())?;
        let bytes = STANDARD.decode(key).ok().filter(|bytes| bytes.len() == 33).ok_or_else(wrong)?;
        let (&kind, key) = bytes.split_first().ok_or_else(wrong)?;
        let key: [u8; 32] = key.try_into().ok().filter(|_| kind == ED25519).ok_or_else(wrong)?;
        let key = Self::new(name, &key)?;
        if key.to_string() == text.trim_end() { Ok(key) } else { Err(wrong()) }
    }

    /// Its name.
    pub const fn name(&self) -> &KeyName {
        &self.name
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = u32::from_be_bytes(key_hash(&self.name, self.key.as_bytes()));
        let bytes: Vec<u8> = std::iter::once(ED25519).chain(*self.key.as_bytes()).collect();
        write!(f, "{}+{hash:08x}+{}", self.name, STANDARD.encode(bytes))
    }
}

fn key_hash(name: &KeyName, public_key: &[u8; 32]) -> [u8; 4] {
    let hash: Hash =
        Sha256::new().chain_update(name.as_str()).chain_update(b"\n\x01").chain_update(public_key).finalize().into();
    let [a, b, c, d, ..] = hash;
    [a, b, c, d]
}

#[cfg(test)]
pub(crate) mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;

    pub(crate) struct TestKey(KeyName, SigningKey);

    impl TestKey {
        pub(crate) fn new(seed: u8) -> Self {
            Self(KeyName::parse("host.example/ledger").unwrap(), SigningKey::from_bytes(&[seed; 32]))
        }

        pub(crate) fn verifier(&self) -> VerifierKey {
            VerifierKey::of(self).unwrap()
        }
    }

    impl Signer for TestKey {
        fn name(&self) -> &KeyName {
            &self.0
        }
        fn public_key(&self) -> [u8; 32] {
            self.1.verifying_key().to_bytes()
        }
        fn sign(&self, message: &[u8]) -> [u8; 64] {
            self.1.sign(message).to_bytes()
        }
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: "host.example/theriac".into(), size: 42, root: [5; 32] }
    }

    #[test]
    fn a_note_reads_back_under_its_key_and_under_no_other() {
        let note = checkpoint().sign(&TestKey::new(1));
        assert_eq!(Checkpoint::open(note.as_bytes(), &TestKey::new(1).verifier()), Ok(checkpoint()));
        let other = Checkpoint::open(note.as_bytes(), &TestKey::new(2).verifier());
        assert!(matches!(other, Err(CheckpointError::Unsigned { .. })));
    }

    #[test]
    fn no_byte_of_a_note_can_be_changed() {
        let note = checkpoint().sign(&TestKey::new(1)).into_bytes();
        // The newline that ends the note carries nothing.
        for at in 0..note.len() - 1 {
            let mut changed = note.clone();
            changed[at] ^= 1;
            assert!(Checkpoint::open(&changed, &TestKey::new(1).verifier()).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_second_signature_does_not_disturb() {
        let note = checkpoint().sign(&TestKey::new(1)) + "— witness.example AAAAAAAAAAAA\n";
        assert_eq!(Checkpoint::open(note.as_bytes(), &TestKey::new(1).verifier()), Ok(checkpoint()));
    }

    #[test]
    fn a_size_has_one_spelling() {
        for text in ["o\n042\nAAAA\n", "o\n+4\nAAAA\n", "\n4\nAAAA\n", "o\n4\n", "", "o\n4\nAAAA\nextra\n"] {
            assert!(Checkpoint::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_verifier_key_reads_back_and_weak_ones_are_refused() {
        let key = TestKey::new(1).verifier();
        assert_eq!(VerifierKey::parse(&key.to_string()), Ok(key.clone()));
        assert!(VerifierKey::parse(&key.to_string().replace("host", "h0st")).is_err());
        let mut identity = [0; 32];
        identity[0] = 1;
        assert!(matches!(VerifierKey::new(key.name().clone(), &identity), Err(VerifierKeyError::Weak { .. })));
    }
}
