//! What one run may use up: host calls, log text, files and bytes of each grant, lines about denials.

use std::collections::BTreeMap;

use theriac_authority::effective::Spent;
use theriac_model::id::Label;
use theriac_model::units::Bytes;

/// Longest line a remedy may log at once.
const MAX_LINE: usize = 2048;
/// Denials of one run that get a record of their own; the rest is counted. A guest can be denied 100,000 times in a second.
const MAX_DENIALS: u32 = 64;

/// What is left of one run's budget.
#[derive(Debug)]
pub(crate) struct Budget {
    calls: u32,
    log_bytes: u64,
    spent: BTreeMap<Label, Spent>,
    ended: BTreeMap<Label, u32>,
    denials: u32,
    unrecorded: u32,
}

impl Budget {
    pub(crate) fn new(calls: u32, log_bytes: Bytes) -> Self {
        Self {
            calls,
            log_bytes: log_bytes.0,
            spent: BTreeMap::new(),
            ended: BTreeMap::new(),
            denials: 0,
            unrecorded: 0,
        }
    }

    /// Takes one host call; `false` when none is left.
    pub(crate) fn call(&mut self) -> bool {
        let left = self.calls > 0;
        self.calls = self.calls.saturating_sub(1);
        left
    }

    /// As much of the text as may still be logged; `None` when nothing may.
    pub(crate) fn line<'t>(&mut self, text: &'t str) -> Option<&'t str> {
        let most = usize::try_from(self.log_bytes).unwrap_or(usize::MAX).min(MAX_LINE).min(text.len());
        let cut = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let line = text.get(..cut).filter(|line| !line.is_empty())?;
        self.log_bytes = self.log_bytes.saturating_sub(line.len() as u64);
        Some(line)
    }

    pub(crate) fn spent(&self, label: &Label) -> Spent {
        self.spent.get(label).copied().unwrap_or_default()
    }

    pub(crate) fn spend(&mut self, label: &Label, bytes: u64) {
        let spent = self.spent.entry(label.clone()).or_default();
        *spent = Spent { files: spent.files.saturating_add(1), bytes: spent.bytes.saturating_add(bytes) };
    }

    /// Sessions of a database that were ended under the label.
    pub(crate) fn ended(&self, label: &Label) -> u32 {
        self.ended.get(label).copied().unwrap_or_default()
    }

    pub(crate) fn end_session(&mut self, label: &Label) {
        let ended = self.ended.entry(label.clone()).or_default();
        *ended = ended.saturating_add(1);
    }

    /// Whether this denial gets a record of its own.
    pub(crate) fn denial(&mut self) -> bool {
        if self.denials < MAX_DENIALS {
            self.denials += 1;
            true
        } else {
            self.unrecorded = self.unrecorded.saturating_add(1);
            false
        }
    }

    /// Denials that got none.
    pub(crate) const fn unrecorded(&self) -> u32 {
        self.unrecorded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RS10.
    #[test]
    fn a_flood_of_log_text_ends_at_the_limit_and_never_inside_a_character() {
        let mut budget = Budget::new(1, Bytes(5));
        assert_eq!(budget.line("añb"), Some("añb"));
        assert_eq!(budget.line("ñ"), None);
        assert_eq!(budget.line("xyz"), Some("x"));
        assert_eq!(budget.line("x"), None);
    }

    // RS02.
    #[test]
    fn the_last_call_is_served_and_the_next_is_not() {
        let mut budget = Budget::new(1, Bytes(0));
        assert!(budget.call() && !budget.call());
    }

    #[test]
    fn denials_beyond_the_cap_are_counted() {
        let mut budget = Budget::new(1, Bytes(0));
        assert_eq!((0..100).filter(|_| budget.denial()).count(), 64);
        assert_eq!(budget.unrecorded(), 36);
    }
}
