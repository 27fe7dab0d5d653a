//! Consents: an operator's yes to one plan hash.
//!
//! A yes reaches the runner on its own socket, or, where the socket can't tell a person from the agent because all share
//! one uid, as a signed note that is made here. It names the run, so it can't be used for a later one with the same plan.

use std::fmt;

use theriac_model::id::{IncidentId, RunId};
use theriac_model::plan::PlanHash;
use theriac_model::time::Timestamp;

use crate::approval::{from_rfc3339, rfc3339};
use crate::key::{Signer, VerifierKey};
use crate::note::{Note, NoteError};

/// The first line.
pub const DOMAIN: &str = "theriac.consent/v1";

/// What a consent is given to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The incident.
    pub incident: IncidentId,
    /// The run that waits.
    pub run: RunId,
    /// Its plan.
    pub plan: PlanHash,
}

/// An operator's yes: that somebody entitled gave it has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consent {
    question: Question,
    by: String,
    expires: Option<Timestamp>,
}

/// Why a note is no consent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsentError {
    /// Not a signed note, or altered.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Signed, and about something else.
    #[error("the signed text is no `{DOMAIN}` of four lines: incident, run, plan, expires")]
    Form,
    /// No operator's key signed it.
    #[error("no operator of the trust store signed this consent; it names: {claimed}")]
    NoOperator { claimed: String },
    /// For another question.
    #[error("the consent is for the {what} `{found}`, not for `{asked}`")]
    Other { what: &'static str, found: String, asked: String },
    /// Too late.
    #[error("the consent expired at {}", rfc3339(*at))]
    Expired { at: Timestamp },
}

impl Consent {
    /// Checks a signed consent against the question that is open. `now` is never earlier than what was last seen.
    pub fn verify(
        note: &[u8],
        operators: &[VerifierKey],
        asked: &Question,
        now: Timestamp,
    ) -> Result<Self, ConsentError> {
        let note = Note::parse(note)?;
        let signers = note.verify(operators)?;
        let Some(by) = signers.first() else {
            let claimed = note.claimed_names().collect::<Vec<_>>().join(", ");
            return Err(ConsentError::NoOperator { claimed: claimed.escape_debug().to_string() });
        };
        let (question, expires) = parse(note.text()).ok_or(ConsentError::Form)?;
        let other = |what, found: &dyn fmt::Display, asked: &dyn fmt::Display| {
            Err(ConsentError::Other { what, found: found.to_string(), asked: asked.to_string() })
        };
        if question.incident != asked.incident {
            return other("incident", &question.incident, &asked.incident);
        }
        if question.run != asked.run {
            return other("run", &question.run, &asked.run);
        }
        if question.plan != asked.plan {
            return other("plan", &question.plan, &asked.plan);
        }
        if now >= expires {
            return Err(ConsentError::Expired { at: expires });
        }
        Ok(Self { question, by: by.name().to_string(), expires: Some(expires) })
    }

    /// A consent over the operator's socket, where the kernel said which uid spoke. Only for peers that can't be the agent.
    pub fn from_peer(question: Question, uid: u32) -> Self {
        Self { question, by: format!("uid {uid}"), expires: None }
    }

    /// What it is given to.
    pub const fn question(&self) -> &Question {
        &self.question
    }

    /// Who gave it.
    pub fn by(&self) -> &str {
        &self.by
    }

    /// It still counts at this time.
    pub fn holds_at(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// Writes and signs a consent, for the CLI.
pub fn sign(question: &Question, expires: Timestamp, signer: &Signer) -> Result<Note, NoteError> {
    let mut note = Note::unsigned(&text(question, expires))?;
    note.sign(signer)?;
    Ok(note)
}

fn text(question: &Question, expires: Timestamp) -> String {
    let Question { incident, run, plan } = question;
    format!("{DOMAIN}\nincident {incident}\nrun {run}\nplan {plan}\nexpires {}\n", rfc3339(expires))
}

fn parse(text: &str) -> Option<(Question, Timestamp)> {
    let mut lines = text.strip_suffix('\n')?.split('\n');
    let domain = lines.next()?;
    let incident = lines.next()?.strip_prefix("incident ")?;
    let run = lines.next()?.strip_prefix("run ")?;
    let plan = lines.next()?.strip_prefix("plan ")?;
    let expires = lines.next()?.strip_prefix("expires ")?;
    if domain != DOMAIN || lines.next().is_some() {
        return None;
    }
    let question = Question {
        incident: IncidentId::parse(incident).ok()?,
        run: RunId::parse(run).ok()?,
        plan: PlanHash(plan.parse().ok()?),
    };
    Some((question, from_rfc3339(expires)?))
}

#[cfg(test)]
mod tests {
    use theriac_model::id::{Digest, KeyName};

    use super::*;

    fn question() -> Question {
        Question {
            incident: IncidentId::parse("i-1").unwrap(),
            run: RunId::parse("r-1").unwrap(),
            plan: PlanHash(Digest::of(b"plan")),
        }
    }

    fn signer(name: &str) -> Signer {
        Signer::generate(KeyName::parse(name).unwrap()).unwrap()
    }

    const NOON: Timestamp = Timestamp(1_800_000_000_000);
    const LATER: Timestamp = Timestamp(1_800_000_060_000);

    fn verify(note: &Note, operators: &[VerifierKey], now: Timestamp) -> Result<Consent, ConsentError> {
        Consent::verify(note.to_string().as_bytes(), operators, &question(), now)
    }

    // RN06.
    #[test]
    fn an_operators_yes_to_this_question_counts_until_it_expires() {
        let alice = signer("alice");
        let operators = [alice.public().clone()];
        let note = sign(&question(), LATER, &alice).unwrap();
        let consent = verify(&note, &operators, NOON).unwrap();
        assert_eq!((consent.by(), consent.question()), ("alice", &question()));
        assert!(consent.holds_at(NOON) && !consent.holds_at(LATER));
        assert_eq!(verify(&note, &operators, LATER), Err(ConsentError::Expired { at: LATER }));
    }

    // RN06.
    #[test]
    fn a_stranger_is_no_operator() {
        let (alice, eve) = (signer("alice"), signer("eve"));
        let note = sign(&question(), LATER, &eve).unwrap();
        let refused = verify(&note, &[alice.public().clone()], NOON).unwrap_err();
        assert_eq!(refused.to_string(), "no operator of the trust store signed this consent; it names: eve");
    }

    // RN06.
    #[test]
    fn a_yes_to_another_question_is_none_to_this_one() {
        let alice = signer("alice");
        let operators = [alice.public().clone()];
        let others = [
            Question { incident: IncidentId::parse("i-2").unwrap(), ..question() },
            Question { run: RunId::parse("r-2").unwrap(), ..question() },
            Question { plan: PlanHash(Digest::of(b"other")), ..question() },
        ];
        for other in others {
            let note = sign(&other, LATER, &alice).unwrap();
            assert!(matches!(verify(&note, &operators, NOON), Err(ConsentError::Other { .. })));
        }
    }

    // RN06, SG15.
    #[test]
    fn a_signature_over_another_domain_is_no_consent() {
        let alice = signer("alice");
        let body = text(&question(), LATER);
        for wrong in [
            body.replace(DOMAIN, "theriac.approval/v1"),
            format!("{body}x\n"),
            body.replace("run r-1\n", ""),
            body.replace("incident", "Incident"),
        ] {
            let mut note = Note::unsigned(&wrong).unwrap();
            note.sign(&alice).unwrap();
            assert_eq!(verify(&note, &[alice.public().clone()], NOON), Err(ConsentError::Form));
        }
    }
}
