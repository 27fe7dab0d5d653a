//! How many addresses were put in each set of the firewall within the last hour.
//!
//! Counted by intents, in guard time: a runner that is started again counts what the journal says, and a clock that is set
//! forward makes nobody forget. An addition that was reserved and then not made counts too.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use theriac_model::effect::Effect;
use theriac_model::firewall::SetId;
use theriac_model::record::{Entry, Record};
use theriac_model::time::GuardTime;

const HOUR: Duration = Duration::from_secs(3600);

/// When something was put in which set.
#[derive(Debug, Default)]
pub struct Additions {
    made: Mutex<BTreeMap<SetId, VecDeque<GuardTime>>>,
}

impl Additions {
    /// What the journal says.
    pub fn of(entries: &[Entry]) -> Self {
        let additions = Self::default();
        for entry in entries {
            if let Record::Intent { effect: Effect::Firewall(effect), .. } = &entry.record {
                additions.lock().entry(effect.set.clone()).or_default().push_back(entry.guard);
            }
        }
        additions
    }

    /// How many in the hour before.
    pub(crate) fn in_this_hour(&self, set: &SetId, now: GuardTime) -> u32 {
        self.lock().get_mut(set).map_or(0, |times| count(times, now))
    }

    /// Takes one of the hour's; how many there were, where none is left.
    pub(crate) fn reserve(&self, set: &SetId, now: GuardTime, per_hour: u32) -> Result<(), u32> {
        // One lock for both steps: the count that was seen is the count that is added to.
        let mut made = self.lock();
        let times = made.entry(set.clone()).or_default();
        let added = count(times, now);
        if added >= per_hour {
            return Err(added);
        }
        times.push_back(now);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SetId, VecDeque<GuardTime>>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those of the hour before; older ones are forgotten.
fn count(times: &mut VecDeque<GuardTime>, now: GuardTime) -> u32 {
    while times.front().is_some_and(|first| now.since(*first) >= HOUR) {
        times.pop_front();
    }
    u32::try_from(times.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str) -> SetId {
        serde_json::from_str(&format!(r#"{{"family":"inet","table":"filter","set":"{name}"}}"#)).unwrap()
    }

    const fn minute(minutes: u64) -> GuardTime {
        GuardTime(minutes * 60_000)
    }

    #[test]
    fn an_hour_has_so_many_and_the_next_hour_has_as_many_again() {
        let additions = Additions::default();
        assert_eq!(additions.reserve(&set("a"), minute(0), 2), Ok(()));
        assert_eq!(additions.reserve(&set("a"), minute(30), 2), Ok(()));
        assert_eq!(additions.reserve(&set("a"), minute(59), 2), Err(2));
        assert_eq!(additions.reserve(&set("b"), minute(59), 2), Ok(()), "another set has its own");
        assert_eq!(additions.in_this_hour(&set("a"), minute(60)), 1);
        assert_eq!(additions.reserve(&set("a"), minute(60), 2), Ok(()));
        assert_eq!(additions.reserve(&set("a"), minute(61), 2), Err(2));
    }

    #[test]
    fn a_limit_that_was_lowered_holds_for_what_is_there() {
        let additions = Additions::default();
        for _ in 0..5 {
            assert_eq!(additions.reserve(&set("a"), minute(0), 5), Ok(()));
        }
        assert_eq!(additions.reserve(&set("a"), minute(1), 1), Err(5));
    }
}
