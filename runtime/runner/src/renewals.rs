//! When each certificate was last asked for. Authorities count attempts, failed ones above all, so between two of them lies at least
//! what root's configuration says; it holds across restarts, because the journal knows.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use theriac_model::effect::Effect;
use theriac_model::id::Label;
use theriac_model::record::{Entry, Record};
use theriac_model::time::Timestamp;

/// The last attempt of each.
#[derive(Debug, Default)]
pub struct Renewals {
    last: Mutex<BTreeMap<Label, Timestamp>>,
}

impl Renewals {
    /// What the journal says: an intent is an attempt, whatever came of it.
    pub fn of(entries: &[Entry]) -> Self {
        let renewals = Self::default();
        for entry in entries {
            if let Record::Intent { effect: Effect::Certificate(effect), .. } = &entry.record {
                renewals.note(&effect.certificate, entry.at);
            }
        }
        renewals
    }

    /// Takes note of an attempt.
    pub(crate) fn note(&self, certificate: &Label, at: Timestamp) {
        self.lock().insert(certificate.clone(), at);
    }

    /// How much longer to wait; `None`: it may be asked for.
    pub(crate) fn wait(&self, certificate: &Label, between: Duration, now: Timestamp) -> Option<Duration> {
        let last = *self.lock().get(certificate)?;
        // A clock that was set back makes no attempt older.
        let waited = if now < last { Duration::ZERO } else { now.since(last) };
        between.checked_sub(waited).filter(|left| !left.is_zero())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Label, Timestamp>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_attempts_lies_at_least_that_much_also_when_the_clock_is_set_back() {
        let (renewals, web) = (Renewals::default(), Label::parse("web").unwrap());
        let hour = Duration::from_secs(3_600);
        let wait = |at: u64| renewals.wait(&web, hour, Timestamp(at * 1_000)).map(|left| left.as_secs());
        assert_eq!(wait(0), None);
        renewals.note(&web, Timestamp(10_000_000));
        assert_eq!(
            [wait(10_000), wait(10_060), wait(13_599), wait(13_600), wait(13_601)],
            [Some(3_600), Some(3_540), Some(1), None, None]
        );
        assert_eq!(wait(5_000), Some(3_600));
        assert_eq!(renewals.wait(&Label::parse("other").unwrap(), hour, Timestamp(0)), None);
    }
}
