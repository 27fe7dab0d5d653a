//! Consents: a note that an operator signed over one question.

use theriac_authority::consent::{Consent, Question};
use theriac_authority::key::VerifierKey;
use theriac_model::id::{Digest, IncidentId, RunId};
use theriac_model::plan::PlanHash;
use theriac_model::time::Timestamp;

use crate::{Answer, note, refused};

/// The one consent that the operator's key ever signed; see [`note::SIGNED`].
const SIGNED: &str = include_str!("../../fuzz/seeds/consent/signed");

fn question(run: &str) -> Question {
    Question {
        incident: IncidentId::parse("i-1").expect("an id"),
        run: RunId::parse(run).expect("an id"),
        plan: PlanHash(Digest::of(b"plan")),
    }
}

/// No bytes are a consent but those of a note with the operator's signature, and then for that question, until it expires.
pub(crate) fn check(bytes: &[u8]) -> Answer {
    let operators = [VerifierKey::parse(note::KEY.trim_end()).expect("a key")];
    let (before, after) = (Timestamp(1_800_000_000_000), Timestamp(1_800_000_060_000));
    for (asked, now) in [(question("r-2"), before), (question("r-1"), after)] {
        refused(&Consent::verify(bytes, &operators, &asked, now).expect_err("for another run, or too late"));
    }
    match Consent::verify(bytes, &operators, &question("r-1"), before) {
        Ok(consent) => {
            note::assert_same_text(bytes, SIGNED);
            assert!(consent.holds_at(before) && !consent.holds_at(after), "it holds until it expires");
            Answer::Taken
        }
        Err(error) => refused(&error),
    }
}
