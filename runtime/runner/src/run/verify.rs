//! Verification: did it help, by the runner's own measurements?
//!
//! Two checks, because "came back once" is not success: the fast one looks for the first moment at which the fault is gone and
//! the target serves (*healed*), the stability one watches that it stays so (*stable*).

use std::time::{Duration, Instant};

use theriac_model::fault::FaultKind;
use theriac_model::target::Target;
use theriac_model::verdict::{Measurement, Verdict};

use crate::observer::Observer;

/// Between two measurements of the fast check. A probe costs less than a millisecond, a minute of outage costs more.
const FAST_POLL: Duration = Duration::from_millis(100);
/// Measurements in a row that must be bad before a healed target counts as fallen back: one lost probe is not a relapse.
const RELAPSE: u32 = 3;
/// More than this share above the badness before is *worse*, not *as before*.
const WORSE: f64 = 1.25;

/// What is verified, and against what.
pub(super) struct Verification<'a> {
    pub(super) observer: &'a Observer,
    pub(super) kind: FaultKind,
    pub(super) target: &'a Target,
    /// What was measured before the run.
    pub(super) before: &'a Measurement,
    /// The process has to stop.
    pub(super) cancelled: &'a dyn Fn() -> bool,
}

/// A verdict with the sentence it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    pub(super) summary: String,
}

impl std::fmt::Debug for Verification<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verification").field("kind", &self.kind).field("target", self.target).finish_non_exhaustive()
    }
}

impl Verification<'_> {
    /// Measures until the target is healed, at most `within`. The last verdict counts at the deadline.
    pub(super) fn fast(&self, within: Duration) -> Finding {
        let deadline = Instant::now() + within;
        loop {
            let finding = self.look();
            if finding.verdict == Verdict::Improved || Instant::now() >= deadline || (self.cancelled)() {
                return finding;
            }
            std::thread::sleep(FAST_POLL.min(within));
        }
    }

    /// Watches a healed target.
    pub(super) fn stable(&self, lasting: Duration, every: Duration) -> Finding {
        let deadline = Instant::now() + lasting;
        let mut bad = 0;
        loop {
            let finding = self.look();
            bad = if finding.verdict == Verdict::Improved { 0 } else { bad + 1 };
            let over = Instant::now() >= deadline && bad == 0;
            if over || bad >= RELAPSE || (self.cancelled)() {
                return finding;
            }
            std::thread::sleep(every.min(deadline.saturating_duration_since(Instant::now()).max(FAST_POLL)));
        }
    }

    fn look(&self) -> Finding {
        match self.observer.measure(self.kind, self.target) {
            Some(now) => Finding { verdict: compare(self.before, &now), summary: now.summary },
            None => Finding { verdict: Verdict::Unknown, summary: "it can't be measured any more".into() },
        }
    }
}

/// The verdict of one measurement against the one before the run.
fn compare(before: &Measurement, now: &Measurement) -> Verdict {
    match (now.present, now.healthy) {
        (None, _) => Verdict::Unknown,
        (Some(false), None | Some(true)) => Verdict::Improved,
        // It served before the run and does not any more: whatever the fault was, this is worse.
        (Some(_), Some(false)) if before.healthy == Some(true) => Verdict::Worse,
        (Some(true), _) if now.badness > before.badness * WORSE => Verdict::Worse,
        (Some(true), _) | (Some(false), Some(false)) => Verdict::NotImproved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use theriac_model::time::Timestamp;

    fn measured(present: Option<bool>, healthy: Option<bool>, badness: f64) -> Measurement {
        Measurement { at: Timestamp(0), present, summary: String::new(), badness, numbers: vec![], healthy }
    }

    #[test]
    fn gone_and_serving_is_improved_and_gone_but_not_serving_is_not() {
        let before = measured(Some(true), Some(false), 1.0);
        assert_eq!(compare(&before, &measured(Some(false), Some(true), 0.0)), Verdict::Improved);
        assert_eq!(compare(&before, &measured(Some(false), None, 0.0)), Verdict::Improved);
        assert_eq!(compare(&before, &measured(Some(false), Some(false), 0.0)), Verdict::NotImproved);
    }

    #[test]
    fn what_served_before_and_does_not_now_is_worse() {
        let before = measured(Some(true), Some(true), 1.0);
        assert_eq!(compare(&before, &measured(Some(true), Some(false), 1.0)), Verdict::Worse);
        assert_eq!(compare(&before, &measured(Some(true), Some(true), 1.1)), Verdict::NotImproved);
        assert_eq!(compare(&before, &measured(Some(true), Some(true), 1.3)), Verdict::Worse);
    }

    #[test]
    fn what_cannot_be_measured_is_unknown() {
        let before = measured(Some(true), None, 1.0);
        assert_eq!(compare(&before, &measured(None, None, 0.0)), Verdict::Unknown);
    }
}
