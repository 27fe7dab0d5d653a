//! How much room is wanted, and how much has to be freed for it: arithmetic only.

use theriac_sdk::Input;
use theriac_sdk::files::{Space, Stat};

/// What the filesystem has run out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    /// Blocks, counted in bytes.
    Bytes,
    /// Inodes: one for each file.
    Inodes,
}

impl Resource {
    /// What the fault is about.
    pub(crate) fn of(kind: &str) -> Self {
        if kind == "inode-exhaustion" { Self::Inodes } else { Self::Bytes }
    }

    pub(crate) const fn available(self, space: &Space) -> u64 {
        match self {
            Self::Bytes => space.available,
            Self::Inodes => space.inodes_available,
        }
    }

    const fn total(self, space: &Space) -> u64 {
        match self {
            Self::Bytes => space.total,
            Self::Inodes => space.inodes,
        }
    }

    /// What taking this file away gives back.
    pub(crate) const fn held_by(self, stat: &Stat) -> u64 {
        match self {
            Self::Bytes => stat.allocated,
            Self::Inodes => 1,
        }
    }

    /// The runner's number for what was available when the fault was measured.
    const fn number(self) -> &'static str {
        match self {
            Self::Bytes => "available",
            Self::Inodes => "inodes_available",
        }
    }

    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Inodes => "inodes",
        }
    }
}

/// When to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Goal {
    pub(crate) resource: Resource,
    /// Enough is available at this.
    wanted: u64,
    /// Most that is freed.
    budget: u64,
    /// What was available when the fault was measured.
    before: Option<u64>,
}

impl Goal {
    /// What `target_available` thousandths of the filesystem come to.
    ///
    /// The budget rests on the runner's measurement, which is the same in the dry run and in the live run: a writer that
    /// goes on meanwhile must not make the live run want one file more than its plan has. A quarter is added for it.
    pub(crate) fn new(resource: Resource, permille: u64, input: &Input, space: &Space) -> Self {
        let wanted = share(resource.total(space), permille);
        let measured = input.number(resource.number()).and_then(whole);
        let missing = wanted.saturating_sub(measured.unwrap_or(resource.available(space)));
        Self { resource, wanted, budget: missing.saturating_add(missing.div_ceil(4)), before: measured }
    }

    /// Less is available than when the fault was measured.
    pub(crate) fn has_shrunk(&self, space: &Space) -> bool {
        self.before.is_some_and(|before| self.resource.available(space) < before)
    }

    /// Enough is available. What a dry run only assumes does not count: the plan has to reach as far as its budget.
    pub(crate) const fn is_met(&self, space: &Space) -> bool {
        !space.assumed && self.resource.available(space) >= self.wanted
    }

    /// Nothing more may be taken away.
    pub(crate) const fn is_spent(&self, freed: u64) -> bool {
        freed >= self.budget
    }
}

/// In u128, because a filesystem of 19 PB would overflow; the parameter keeps `permille` at or below 1000.
fn share(total: u64, permille: u64) -> u64 {
    u64::try_from(u128::from(total) * u128::from(permille) / 1000).unwrap_or(u64::MAX)
}

/// A measured count: finite and not negative; what is beyond 2^53 has lost a few bytes, which is no matter here.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, and negatives are gone")]
fn whole(value: f64) -> Option<u64> {
    (value.is_finite() && value >= 0.0).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use theriac_sdk::prelude::*;
    use theriac_sdk::{Number, Severity};

    fn input(available: Option<f64>) -> Input {
        let number = |value| Number { name: "available".to_string(), value, unit: "bytes".to_string() };
        Input {
            kind: "disk-full".to_string(),
            severity: Severity::Critical,
            target: "mount:/var".to_string(),
            summary: String::new(),
            numbers: available.map(number).into_iter().collect(),
            evidence: vec![],
            params: vec![],
        }
    }

    fn space(available: u64, assumed: bool) -> Space {
        Space { total: 1000, available, inodes: 100, inodes_available: 1, assumed }
    }

    #[test]
    fn the_live_run_never_wants_more_than_the_plan_even_when_a_writer_went_on() {
        let measured = input(Some(20.0));
        let planned = Goal::new(Resource::Bytes, 100, &measured, &space(20, false));
        let live = Goal::new(Resource::Bytes, 100, &measured, &space(3, false));
        assert_eq!(planned, live);
        assert!(planned.is_spent(100) && !planned.is_spent(99), "80 are missing, and a quarter more");
    }

    #[test]
    fn without_a_measurement_the_budget_rests_on_the_filesystem_itself() {
        let goal = Goal::new(Resource::Bytes, 100, &input(None), &space(60, false));
        assert!(goal.is_spent(50) && !goal.is_spent(49));
    }

    #[test]
    fn enough_is_enough_but_only_when_it_is_measured() {
        let goal = Goal::new(Resource::Bytes, 100, &input(Some(20.0)), &space(20, false));
        assert!(goal.is_met(&space(100, false)));
        assert!(!goal.is_met(&space(99, false)));
        assert!(!goal.is_met(&space(100, true)));
    }

    #[test]
    fn inodes_are_counted_by_the_file() {
        let goal = Goal::new(Resource::of("inode-exhaustion"), 100, &input(None), &space(500, false));
        assert_eq!(goal.resource, Resource::Inodes);
        assert!(goal.is_spent(12) && !goal.is_spent(11), "9 are missing, and a quarter more");
    }

    #[test]
    fn nothing_is_freed_where_nothing_is_missing() {
        assert!(Goal::new(Resource::Bytes, 100, &input(Some(500.0)), &space(500, false)).is_spent(0));
    }
}
