//! Signed notes, and the approvals that are written in them.

use theriac_authority::approval::Approval;
use theriac_authority::key::VerifierKey;
use theriac_authority::note::{MAX_SIGNATURES, Note};

use crate::{Answer, refused};

/// The public half of a key whose private half signed the seeds `note/signed` and `consent/signed`, and was then thrown away.
pub(crate) const KEY: &str = include_str!("../../fuzz/seeds/signer.key");
/// The one approval that it signed.
const SIGNED: &str = include_str!("../../fuzz/seeds/note/signed");

/// What is a note reads back as itself; nothing but the text that was signed verifies; an approval has one way of being
/// written, so that no two texts mean the same.
pub(crate) fn check(bytes: &[u8]) -> Answer {
    let note = match Note::parse(bytes) {
        Ok(note) => note,
        Err(error) => return refused(&error),
    };
    let count = note.claimed_names().count();
    assert!((1..=MAX_SIGNATURES).contains(&count), "{count} signatures");
    let written = note.to_string();
    assert_eq!(Note::parse(written.as_bytes()).as_ref(), Ok(&note), "a note is read as it is written");
    match note.verify([&VerifierKey::parse(KEY.trim_end()).expect("a key")]) {
        Ok(signers) if signers.is_empty() => {}
        Ok(_) => assert_same_text(bytes, SIGNED),
        Err(error) => drop(refused(&error)),
    }
    match Approval::parse(note.text()) {
        Ok(approval) => {
            assert_eq!(approval.to_string(), note.text(), "one approval, one text");
            Answer::Taken
        }
        Err(error) => refused(&error),
    }
}

/// Both notes have the same text: whatever was added or left out was a stranger's signature.
pub(crate) fn assert_same_text(bytes: &[u8], signed: &str) {
    let text = |note: &[u8]| Note::parse(note).expect("a note").text().to_owned();
    assert_eq!(text(bytes), text(signed.as_bytes()), "a signature fits a text that nobody signed");
}
