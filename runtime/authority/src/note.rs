//! C2SP signed notes: a text a person can read, and lines with signatures over exactly that text.
//!
//! Owns the form and the arithmetic of signatures. It does not know what a text says ([`crate::approval`],
//! [`crate::consent`]) nor whose signature counts ([`crate::trust`]).
//!
//! ```text
//! theriac.approval/v1
//! …
//!
//! — ops.example.com/alice Kx1…
//! ```

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::key::{Signer, VerifierKey};

/// The specification asks readers to take at least 16; nobody needs more, and each costs a verification.
pub const MAX_SIGNATURES: usize = 16;
/// An approval with every grant spelled out has a few KiB.
pub const MAX_NOTE: usize = 64 << 10;

const SIGNATURE_PREFIX: &str = "— ";

/// A text with signatures, none of which has been looked at yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<SignatureLine>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct SignatureLine {
    name: String,
    id: [u8; 4],
    /// 64 bytes for ed25519; other algorithms have their own length, and are kept as they came.
    signature: Vec<u8>,
}

/// Why bytes are not a signed note.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Over [`MAX_NOTE`].
    #[error("the note has {size} bytes, at most {MAX_NOTE} are read")]
    TooLong { size: usize },
    /// Over [`MAX_SIGNATURES`].
    #[error("the note has {count} signatures, at most {MAX_SIGNATURES} are read")]
    TooManySignatures { count: usize },
    /// Not UTF-8, or control characters (a carriage return is one).
    #[error("the note holds bytes that are no plain text with `\\n` line ends")]
    NotPlain,
    /// No blank line before the signatures, an empty text, or no line end at the end.
    #[error("the note has no text, blank line and signature lines in that order")]
    Shape,
    /// A line below the blank line that is no signature.
    #[error("line {line} of the signatures is not `— name base64`")]
    SignatureLine { line: usize },
    /// A signature that names a known key and isn't that key's over this text.
    #[error("the signature of `{name}` does not fit the text: one of them was altered")]
    BadSignature { name: String },
    /// The same key twice.
    #[error("`{name}` has signed this note already")]
    SignedAlready { name: String },
}

impl Note {
    /// A text that nobody has signed yet.
    pub fn unsigned(text: &str) -> Result<Self, NoteError> {
        check_plain(text)?;
        if text.len() < 2 || !text.ends_with('\n') {
            return Err(NoteError::Shape);
        }
        Ok(Self { text: text.to_owned(), signatures: Vec::new() })
    }

    /// Parses a note with at least one signature line.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE {
            return Err(NoteError::TooLong { size: bytes.len() });
        }
        let note = std::str::from_utf8(bytes).map_err(|_cause| NoteError::NotPlain)?;
        check_plain(note)?;
        // The last blank line separates: a text may hold blank lines, signature lines may not.
        let blank = note.rfind("\n\n").ok_or(NoteError::Shape)?;
        let (text, rest) = note.split_at_checked(blank + 1).ok_or(NoteError::Shape)?;
        let lines = rest.strip_prefix('\n').and_then(|rest| rest.strip_suffix('\n')).ok_or(NoteError::Shape)?;
        let count = lines.split('\n').count();
        if count > MAX_SIGNATURES {
            return Err(NoteError::TooManySignatures { count });
        }
        let read = |(index, line)| SignatureLine::parse(line).ok_or(NoteError::SignatureLine { line: index + 1 });
        let signatures = lines.split('\n').enumerate().map(read).collect::<Result<_, _>>()?;
        let unsigned = Self::unsigned(text)?;
        Ok(Self { signatures, ..unsigned })
    }

    /// The text, with its line end.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The names on the signature lines, as they claim to be: for telling a person, never for deciding.
    pub fn claimed_names(&self) -> impl Iterator<Item = &str> {
        self.signatures.iter().map(|line| line.name.as_str())
    }

    /// Adds a signature; the same key signs a note once.
    pub fn sign(&mut self, signer: &Signer) -> Result<(), NoteError> {
        if self.signatures.len() >= MAX_SIGNATURES {
            return Err(NoteError::TooManySignatures { count: self.signatures.len() + 1 });
        }
        let key = signer.public();
        if self.signatures.iter().any(|line| line.names(key)) {
            return Err(NoteError::SignedAlready { name: key.name().to_string() });
        }
        let signature = signer.sign(self.text.as_bytes()).to_vec();
        self.signatures.push(SignatureLine { name: key.name().to_string(), id: key.id(), signature });
        Ok(())
    }

    /// The keys, out of the known ones, that signed this text; each key once, whatever names it goes by. Signatures of
    /// others are ignored. A signature that names a known key and fails spoils the whole note: somebody altered it.
    pub fn verify<'k>(
        &self,
        known: impl IntoIterator<Item = &'k VerifierKey>,
    ) -> Result<Vec<&'k VerifierKey>, NoteError> {
        let known: Vec<&VerifierKey> = known.into_iter().collect();
        let mut verified: Vec<&VerifierKey> = Vec::new();
        for line in &self.signatures {
            // Key ids are four bytes and can collide by design of an attacker: every key the line could mean is tried.
            let meant: Vec<&VerifierKey> = known.iter().copied().filter(|key| line.names(key)).collect();
            let fits = |key: &&&VerifierKey| {
                line.signature
                    .as_slice()
                    .try_into()
                    .is_ok_and(|signature| key.verifies(self.text.as_bytes(), signature))
            };
            match meant.iter().find(fits) {
                Some(key) if verified.iter().any(|other| other.point() == key.point()) => {}
                Some(key) => verified.push(key),
                None if meant.is_empty() => {}
                None => return Err(NoteError::BadSignature { name: line.name.clone() }),
            }
        }
        Ok(verified)
    }
}

impl SignatureLine {
    fn parse(line: &str) -> Option<Self> {
        let (name, encoded) = line.strip_prefix(SIGNATURE_PREFIX)?.split_once(' ')?;
        let name_fits = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+');
        let bytes = STANDARD.decode(encoded).ok()?;
        let (id, signature) = bytes.split_first_chunk::<4>()?;
        (name_fits && !signature.is_empty()).then(|| Self {
            name: name.to_owned(),
            id: *id,
            signature: signature.to_vec(),
        })
    }

    fn names(&self, key: &VerifierKey) -> bool {
        self.name == key.name().as_str() && self.id == key.id()
    }
}

fn check_plain(text: &str) -> Result<(), NoteError> {
    if text.len() > MAX_NOTE {
        return Err(NoteError::TooLong { size: text.len() });
    }
    if text.chars().all(|c| c == '\n' || !c.is_control()) { Ok(()) } else { Err(NoteError::NotPlain) }
}

impl fmt::Display for Note {
    /// The note as it is kept in a file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for line in &self.signatures {
            let bytes = [line.id.as_slice(), &line.signature].concat();
            writeln!(f, "{SIGNATURE_PREFIX}{} {}", line.name, STANDARD.encode(bytes))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use theriac_model::id::KeyName;

    use super::*;

    fn signer(name: &str) -> Signer {
        Signer::generate(KeyName::parse(name).unwrap()).unwrap()
    }

    fn signed(text: &str, signers: &[&Signer]) -> Note {
        let mut note = Note::unsigned(text).unwrap();
        for signer in signers {
            note.sign(signer).unwrap();
        }
        note
    }

    #[test]
    fn a_note_reads_back_and_names_who_signed() {
        let (alice, bob, eve) = (signer("alice"), signer("bob"), signer("eve"));
        let note = signed("a\n\nb\n", &[&alice, &bob, &eve]);
        let read = Note::parse(note.to_string().as_bytes()).unwrap();
        assert_eq!(read, note);
        assert_eq!(read.text(), "a\n\nb\n");
        let known = [bob.public(), alice.public()];
        assert_eq!(read.verify(known).unwrap(), [alice.public(), bob.public()], "eve is unknown, and ignored");
    }

    #[test]
    fn the_published_example_verifies() {
        let key = VerifierKey::parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
        let note = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n\n\
                    — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        assert_eq!(Note::parse(note.as_bytes()).unwrap().verify([&key]).unwrap(), [&key]);
    }

    // SG01.
    #[test]
    fn no_flipped_bit_leaves_a_verified_note_with_the_same_signers() {
        let (alice, bob) = (signer("alice"), signer("bob"));
        let bytes = signed("theriac.test/v1\nx y\n", &[&alice, &bob]).to_string().into_bytes();
        let known = [alice.public(), bob.public()];
        for (index, bit) in (0..bytes.len()).flat_map(|index| (0..8).map(move |bit| (index, bit))) {
            let mut altered = bytes.clone();
            altered[index] ^= 1 << bit;
            let both = Note::parse(&altered).and_then(|note| note.verify(known).map(|signers| signers.len() == 2));
            assert!(!matches!(both, Ok(true)), "byte {index}, bit {bit}");
        }
    }

    // SG02.
    #[test]
    fn what_is_cut_appended_doubled_or_in_the_wrong_line_ends_is_refused() {
        let alice = signer("alice");
        let note = signed("one\ntwo\n", &[&alice]).to_string();
        let verified = |bytes: &[u8]| Note::parse(bytes).and_then(|n| n.verify([alice.public()]).map(|k| k.len()));
        assert_eq!(verified(note.as_bytes()), Ok(1));
        for cut in 0..note.len() {
            assert_ne!(verified(&note.as_bytes()[..cut]), Ok(1), "cut at {cut}");
        }
        for wrong in [
            format!("{note}\n"),
            format!("{note}x"),
            format!("{note}{note}"),
            format!("\u{feff}{note}"),
            note.replace('\n', "\r\n"),
            note.replace("one", "one\t"),
            note.replace("one", "one\0"),
            note.replace("— ", "- "),
            note.replace("— alice", "—  alice"),
        ] {
            assert_ne!(verified(wrong.as_bytes()), Ok(1), "{wrong:?}");
        }
    }

    // SG11.
    #[test]
    fn one_key_counts_once_under_any_number_of_lines() {
        let alice = signer("alice");
        let note = signed("x\n", &[&alice]);
        let line = note.to_string().lines().last().unwrap().to_owned();
        let doubled = format!("{note}{line}\n");
        assert_eq!(Note::parse(doubled.as_bytes()).unwrap().verify([alice.public()]).unwrap().len(), 1);
        let mut again = note;
        assert!(matches!(again.sign(&alice), Err(NoteError::SignedAlready { .. })));
    }

    // SG09.
    #[test]
    fn a_key_id_is_a_hint_and_no_proof() {
        let (alice, mallory) = (signer("alice"), signer("mallory"));
        let mut note = signed("x\n", &[&mallory]);
        note.signatures[0].name = "alice".into();
        note.signatures[0].id = alice.public().id();
        assert!(matches!(note.verify([alice.public()]), Err(NoteError::BadSignature { .. })));
        // Another algorithm under the id of a known key has no 64 bytes, and is as bad as a wrong signature.
        note.signatures[0].signature = vec![7; 32];
        assert!(matches!(note.verify([alice.public()]), Err(NoteError::BadSignature { .. })));
    }

    // SG14.
    #[test]
    fn sixteen_signatures_are_read_and_seventeen_are_not() {
        let alice = signer("alice");
        let note = signed("x\n", &[&alice]);
        let line = note.to_string().lines().last().unwrap().to_owned() + "\n";
        assert!(Note::parse(format!("x\n\n{}", line.repeat(16)).as_bytes()).is_ok());
        assert!(matches!(
            Note::parse(format!("x\n\n{}", line.repeat(17)).as_bytes()),
            Err(NoteError::TooManySignatures { count: 17 })
        ));
        assert!(matches!(Note::parse(&vec![b'x'; MAX_NOTE + 1]), Err(NoteError::TooLong { .. })));
    }

    // SG10.
    #[test]
    fn a_signature_with_the_identity_point_proves_nothing() {
        // R = identity, S = 0: what plain `verify` accepts under a small-order key.
        let alice = signer("alice");
        let mut forged = signed("x\n", &[&alice]);
        forged.signatures[0].signature = [[1].as_slice(), &[0; 63]].concat();
        assert!(forged.verify([alice.public()]).is_err());
    }

    proptest! {
        #[test]
        fn parsing_foreign_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _outcome = Note::parse(&bytes);
        }

        #[test]
        fn what_parses_prints_as_it_was(text in "[ -~\n]{0,60}", name in "[a-z+ ]{0,6}", tail in "[A-Za-z0-9+/=]{0,40}") {
            let note = format!("{text}\n\n— {name} {tail}\n");
            if let Ok(read) = Note::parse(note.as_bytes()) {
                prop_assert_eq!(read.to_string(), note);
            }
        }
    }
}
