//! Guard time: the clock of cooldowns, budgets, breakers and holds. It never runs backwards, whatever the wall clock does.
//!
//! Within one boot it runs with `CLOCK_BOOTTIME` (which counts suspended time too and can't be set). Across a boot it goes on
//! from the last value in the journal, plus the time since that boot: how long the machine was off is not known for
//! certain, so it does not count, and a cooldown gets longer rather than shorter.

use std::io;

use rustix::time::{ClockId, clock_gettime};
use theriac_model::record::{Entry, Record};
use theriac_model::time::GuardTime;

/// One reading of the boot clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Which boot.
    pub boot_id: String,
    /// Milliseconds since then.
    pub boottime_ms: u64,
}

impl Reading {
    /// Reads the kernel's clock.
    pub fn now() -> io::Result<Self> {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        Ok(Self { boot_id, boottime_ms: boottime_ms() })
    }
}

/// Milliseconds since boot.
pub fn boottime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanoseconds) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    seconds.saturating_mul(1000).saturating_add(nanoseconds / 1_000_000)
}

/// What the journal says about guard time, folded from its entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The last start: boot, boottime and guard time at the same moment.
    started: Option<(String, u64, GuardTime)>,
    last: GuardTime,
}

impl Remembered {
    /// Takes one more entry into account.
    pub fn see(&mut self, entry: &Entry) {
        if let Record::Started { boot_id, boottime_ms, .. } = &entry.record {
            self.started = Some((boot_id.clone(), *boottime_ms, entry.guard));
        }
        self.last = self.last.max(entry.guard);
    }
}

/// Runs guard time on from what is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardClock {
    /// Guard time was `base` at boottime `origin`.
    base: u64,
    origin: u64,
    last: GuardTime,
}

impl GuardClock {
    /// Goes on from the journal.
    pub fn resume(remembered: &Remembered, now: &Reading) -> Self {
        let last = remembered.last;
        let (base, origin) = match &remembered.started {
            Some((boot_id, boottime_ms, guard)) if *boot_id == now.boot_id => (guard.0, *boottime_ms),
            Some(_) | None => (last.0, 0),
        };
        Self { base, origin, last }
    }

    /// Guard time at that boottime; never less than any value given or remembered before.
    pub fn at(&mut self, boottime_ms: u64) -> GuardTime {
        let now = GuardTime(self.base.saturating_add(boottime_ms.saturating_sub(self.origin)));
        self.last = self.last.max(now);
        self.last
    }

    /// Guard time now.
    pub fn now(&mut self) -> GuardTime {
        self.at(boottime_ms())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use theriac_model::id::Digest;
    use theriac_model::time::Timestamp;

    use super::*;

    fn entry(guard: GuardTime, record: Record) -> Entry {
        Entry { seq: 0, at: Timestamp(0), guard, epoch: 1, record }
    }

    fn started(boot_id: &str, boottime_ms: u64) -> Record {
        let configuration = Digest::of(b"");
        Record::Started { version: "0".into(), boot_id: boot_id.into(), boottime_ms, configuration, outage: None }
    }

    fn reading(boot_id: &str, boottime_ms: u64) -> Reading {
        Reading { boot_id: boot_id.into(), boottime_ms }
    }

    #[test]
    fn within_one_boot_it_runs_with_the_boot_clock() {
        let mut remembered = Remembered::default();
        remembered.see(&entry(GuardTime(1_000), started("a", 50_000)));
        remembered.see(&entry(GuardTime(3_000), Record::Stopped));
        let mut clock = GuardClock::resume(&remembered, &reading("a", 60_000));
        assert_eq!(clock.at(60_000), GuardTime(11_000));
    }

    #[test]
    fn after_a_boot_it_goes_on_from_the_last_value() {
        let mut remembered = Remembered::default();
        remembered.see(&entry(GuardTime(1_000), started("a", 50_000)));
        remembered.see(&entry(GuardTime(9_000), Record::Stopped));
        let mut clock = GuardClock::resume(&remembered, &reading("b", 700));
        assert_eq!(clock.at(700), GuardTime(9_700));
    }

    #[test]
    fn the_first_start_ever_counts_from_boot() {
        assert_eq!(GuardClock::resume(&Remembered::default(), &reading("a", 5)).at(5), GuardTime(5));
    }

    #[test]
    fn the_real_clock_runs_forward() {
        let now = Reading::now().unwrap();
        assert!(boottime_ms() >= now.boottime_ms);
        assert_eq!(now.boot_id.len(), 36);
    }

    proptest! {
        /// Boots, restarts and readings in any order, with a boot clock that lies at will.
        #[test]
        fn it_never_runs_backwards(steps: Vec<(u8, u32, bool)>) {
            let (mut remembered, mut last) = (Remembered::default(), GuardTime(0));
            let mut clock = GuardClock::resume(&remembered, &reading("0", 0));
            for (boot, boottime, restart) in steps {
                if restart {
                    let now = reading(&boot.to_string(), u64::from(boottime));
                    clock = GuardClock::resume(&remembered, &now);
                    let guard = clock.at(now.boottime_ms);
                    prop_assert!(guard >= last);
                    remembered.see(&entry(guard, started(&now.boot_id, now.boottime_ms)));
                    last = guard;
                }
                let guard = clock.at(u64::from(boottime));
                prop_assert!(guard >= last);
                remembered.see(&entry(guard, Record::Stopped));
                last = guard;
            }
        }
    }
}
