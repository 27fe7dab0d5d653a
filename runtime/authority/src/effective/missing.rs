//! The refusal of a call: one shape for every grant.

use std::collections::BTreeSet;
use std::fmt::Display;

use theriac_model::denial::{Denial, DenialCause};
use theriac_model::id::Label;

/// The verbs of a grant: what it comes to here, and the two that have to agree on it.
pub(super) struct Verbs<'a, V> {
    pub(super) granted: &'a BTreeSet<V>,
    pub(super) asked: &'a BTreeSet<V>,
    pub(super) left: &'a BTreeSet<V>,
}

impl<V: Ord> Verbs<'_, V> {
    /// The manifest does not ask for the verb.
    pub(super) fn not_asked(&self, verb: &V) -> bool {
        !self.granted.contains(verb) && !self.asked.contains(verb)
    }

    /// The operator does not leave the verb. A verb that is asked for and not granted can lack nothing else.
    pub(super) fn not_left(&self, verb: &V, changes: bool) -> bool {
        !self.granted.contains(verb) && (self.asked.contains(verb) || (changes && !self.left.contains(verb)))
    }
}

/// What a call lacks. The first rule that fails is why it is refused; the lines of all of them together would allow it.
#[derive(Default)]
pub(super) struct Missing {
    first: Option<(DenialCause, &'static str)>,
    lines: Vec<String>,
    /// No line could allow it.
    hopeless: bool,
}

impl Missing {
    /// A rule that does not grant the call, and the line that would; `None` where none could.
    pub(super) fn add(&mut self, rule: &'static str, line: impl Into<Option<String>>) {
        self.add_as(DenialCause::NotGranted, rule, line);
    }

    /// The same for a rule whose failure is of another class.
    pub(super) fn add_as(&mut self, cause: DenialCause, rule: &'static str, line: impl Into<Option<String>>) {
        self.first.get_or_insert((cause, rule));
        match line.into() {
            Some(line) => self.lines.push(line),
            None => self.hopeless = true,
        }
    }

    /// The call is admitted if nothing is missing.
    pub(super) fn answer(self, label: &Label, attempted: impl Display) -> Result<(), Denial> {
        let Some((cause, rule)) = self.first else { return Ok(()) };
        let denial = Denial::new(cause, label, rule, attempted);
        Err(if self.hopeless { denial } else { denial.suggest(self.lines.join("\n")) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(missing: Missing) -> Result<(), Denial> {
        missing.answer(&Label::parse("logs").unwrap(), "remove a.log")
    }

    #[test]
    fn nothing_missing_is_a_yes() {
        assert_eq!(answer(Missing::default()), Ok(()));
    }

    #[test]
    fn the_first_rule_is_the_reason_and_all_lines_are_the_suggestion() {
        let mut missing = Missing::default();
        missing.add_as(DenialCause::OverBudget, "max_files", "one".to_owned());
        missing.add("verbs", "two".to_owned());
        let denial = answer(missing).unwrap_err();
        assert_eq!((denial.cause, denial.rule.as_str()), (DenialCause::OverBudget, "max_files"));
        assert_eq!(denial.suggestion.as_deref(), Some("one\ntwo"));
    }

    #[test]
    fn where_one_rule_has_no_line_the_others_are_not_offered() {
        let mut missing = Missing::default();
        missing.add("verbs", "one".to_owned());
        missing.add("match", None);
        let denial = answer(missing).unwrap_err();
        assert_eq!((denial.rule.as_str(), denial.suggestion), ("verbs", None));
    }
}
