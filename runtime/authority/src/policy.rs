//! Policy: what runs by itself, what a person is told of, what a person has to allow. Decided by Cedar.
//!
//! Owns the levels, the built-in policies with their schema, and the reading of an answer. It decides about one plan at a
//! time and knows nothing of what ran before: that is [`crate::guardrail`]. It never makes a warrant.

mod cases;
mod engine;
mod facts;
mod risk;

use std::fmt::Write as _;

use theriac_model::playbook::Level;
use theriac_model::record::{Action, Decision};
use theriac_model::units::Permille;

pub use cases::{CaseAnswer, CheckReport, check};
pub use engine::{Policies, PolicyError, PolicyFile};
pub use facts::{Facts, Setting};
pub use risk::{Scope, risk_of};

use engine::Answer;

/// Risk up to this runs.
const RUNS: Permille = Permille::clamped(300);
/// Risk up to this runs and tells; above, it asks.
const TELLS: Permille = Permille::clamped(700);

/// The rung's level, or a higher one that the risk demands.
pub fn level(rung: Level, risk: Permille) -> Level {
    let by_risk = if risk <= RUNS {
        Level::ONE
    } else if risk <= TELLS {
        Level::TWO
    } else {
        Level::THREE
    };
    rung.max(by_risk)
}

/// What may happen, in the order in which Cedar is asked; the first that is permitted is taken.
const LADDER: [Action; 3] = [Action::Run, Action::RunAndTell, Action::RunWithConsent];

pub(crate) const fn word(action: Action) -> &'static str {
    match action {
        Action::Run => "run",
        Action::RunAndTell => "run-and-tell",
        Action::RunWithConsent => "run-with-consent",
        Action::Defer => "defer",
        Action::Refuse => "refuse",
    }
}

impl Policies {
    /// Decides about a plan by its facts. What can't be evaluated is refused: Cedar skips a policy that fails, and a
    /// skipped `forbid` would be a permission.
    pub fn decide(&self, facts: &Facts) -> Decision {
        let answers = self.ask(facts);
        let failed = answers.iter().find_map(|answer| answer.failure.as_deref());
        let (action, rules, summary) = match failed {
            Some(failure) => (Action::Refuse, vec!["policy-error".to_owned()], format!("a policy failed: {failure}")),
            None => self.first_permitted(&answers),
        };
        Decision { action, risk: facts.risk, level: facts.level, rules, summary }
    }

    fn ask(&self, facts: &Facts) -> Vec<Answer> {
        let unnamed = self.unnamed(facts);
        LADDER.into_iter().map(|action| self.answer(action, facts, &unnamed)).collect()
    }

    /// The action, the policies that decided, and the sentence. Forbids of the actions passed over belong to the reason.
    fn first_permitted(&self, answers: &[Answer]) -> (Action, Vec<String>, String) {
        let mut passed_over: Vec<String> = Vec::new();
        for answer in answers {
            if answer.permitted {
                let mut rules = answer.policies.clone();
                rules.extend(passed_over.iter().cloned());
                let reasons = if passed_over.is_empty() { &answer.policies } else { &passed_over };
                let said = match answer.action {
                    Action::Run => "runs by itself",
                    Action::RunAndTell => "runs, and a person is told",
                    Action::RunWithConsent | Action::Defer | Action::Refuse => "waits for a person's yes",
                };
                return (answer.action, rules, format!("{said}: {}", self.sentence(reasons)));
            }
            for policy in &answer.policies {
                if !passed_over.contains(policy) {
                    passed_over.push(policy.clone());
                }
            }
        }
        if passed_over.is_empty() {
            let summary = "refused: no policy permits it".to_owned();
            return (Action::Refuse, vec!["no-permit".to_owned()], summary);
        }
        let summary = format!("refused: {}", self.sentence(&passed_over));
        (Action::Refuse, passed_over, summary)
    }

    fn sentence(&self, policies: &[String]) -> String {
        policies.iter().map(|id| self.why(id).unwrap_or(id)).collect::<Vec<_>>().join("; ")
    }

    /// The decision and how it came about, for `theriac policy explain`.
    pub fn explain(&self, facts: &Facts) -> String {
        let decision = self.decide(facts);
        let mut text = format!("{}\n\n{facts}\n\n", decision.summary);
        for answer in self.ask(facts) {
            let verdict = match (answer.permitted, answer.policies.is_empty()) {
                (true, _) => "permitted",
                (false, true) => "not permitted: no policy permits it",
                (false, false) => "forbidden",
            };
            // Writing to a `String` can't fail.
            let _infallible = writeln!(text, "{}: {verdict}", word(answer.action));
            for id in &answer.policies {
                let why = self.why(id).map_or_else(String::new, |why| format!(": {why}"));
                let file = self.origin(id).unwrap_or("built in");
                let _infallible = writeln!(text, "  {id} ({file}){why}");
            }
        }
        text
    }
}

#[cfg(test)]
pub(crate) mod tests;
