//! The ledger's checkpoints: notes under the host's key, read by a crate that can't use the general reader of notes.

use theriac_authority::key;
use theriac_journal::ledger::checkpoint::{Checkpoint, VerifierKey};

use crate::{Answer, note, refused};

/// The one checkpoint that the key ever signed; see [`note::KEY`].
const SIGNED: &str = include_str!("../../fuzz/seeds/checkpoint/signed");

/// No bytes are a checkpoint but those that were signed, whatever strangers sign beside; both crates read one key.
pub(crate) fn check(bytes: &[u8]) -> Answer {
    if let Ok(text) = std::str::from_utf8(bytes) {
        same_key(text);
    }
    match Checkpoint::open(bytes, &VerifierKey::parse(note::KEY).expect("a key")) {
        Ok(checkpoint) => {
            assert!(SIGNED.starts_with(&checkpoint.text()), "a signature fits a text that nobody signed");
            Answer::Taken
        }
        Err(error) => refused(&error),
    }
}

fn same_key(text: &str) {
    match (VerifierKey::parse(text), key::VerifierKey::parse(text.trim_end())) {
        (Ok(ours), Ok(theirs)) => assert_eq!(ours.to_string(), theirs.to_string()),
        (Err(ours), Err(theirs)) => drop((refused(&ours), refused(&theirs))),
        (ours, theirs) => panic!("the journal says {ours:?} and authority says {theirs:?}"),
    }
}
