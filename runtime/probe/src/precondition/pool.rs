//! The condition of a database server's connections: clients will soon get no more of them, or get none now.

use theriac_model::catalog::Thresholds;
use theriac_model::database::PoolState;
use theriac_model::verdict::Measurement;

use super::{measurement, number, unknown};

/// The used share against the target's. What is kept for administrators is no client's.
pub(super) fn exhausted(thresholds: &Thresholds, state: Option<PoolState>) -> Measurement {
    let Some(state) = state else { return unknown("how many are connected is not known") };
    let (share, limit) = (state.used_share(), f64::from(thresholds.connections_used.get()));
    let mut numbers = vec![number("pool_used", share, "permille")];
    let told = match state {
        PoolState::Refusing => "it lets nobody in".to_owned(),
        PoolState::Counted { used, max, reserved } => {
            let counts = [("used", used), ("max", max), ("reserved", reserved)];
            numbers.extend(counts.map(|(name, count)| number(name, f64::from(count), "count")));
            let slots = max.saturating_sub(reserved);
            format!(
                "{:.1} % of its connections are used ({used} of {slots}, and {reserved} are reserved)",
                share / 10.0
            )
        }
    };
    // A threshold of everything is still one that a refusal reaches.
    measurement(Some(share >= limit), share, format!("{told}, threshold {:.1} %", limit / 10.0), numbers)
}

#[cfg(test)]
mod tests {
    use theriac_model::units::Permille;

    use super::*;

    fn with(threshold: u64, state: PoolState) -> Measurement {
        let thresholds = Thresholds { connections_used: Permille::clamped(threshold), ..Thresholds::default() };
        exhausted(&thresholds, Some(state))
    }

    const fn counted(used: u32) -> PoolState {
        PoolState::Counted { used, max: 103, reserved: 3 }
    }

    #[test]
    fn a_pool_is_exhausted_from_its_threshold_on_and_reserved_connections_are_no_room() {
        let default = Thresholds::default();
        assert_eq!(exhausted(&default, Some(counted(89))).present, Some(false));
        let exact = exhausted(&default, Some(counted(90)));
        assert_eq!(exact.present, Some(true));
        assert_eq!(
            exact.summary,
            "90.0 % of its connections are used (90 of 100, and 3 are reserved), threshold 90.0 %"
        );
        assert_eq!(with(500, counted(50)).present, Some(true));
        assert_eq!(with(500, counted(49)).present, Some(false));
    }

    #[test]
    fn fewer_connections_are_better_and_administrators_can_make_it_worse_than_full() {
        let badness = |used| with(900, counted(used)).badness;
        assert!(badness(80) < badness(100) && badness(100) < badness(102));
    }

    #[test]
    fn who_lets_nobody_in_is_exhausted_and_who_is_not_known_is_not_known() {
        assert_eq!(with(1000, PoolState::Refusing).present, Some(true));
        assert_eq!(exhausted(&Thresholds::default(), None).present, None);
        let none = PoolState::Counted { used: 0, max: 3, reserved: 3 };
        assert_eq!(with(900, none).present, Some(true), "there is nothing to be had");
    }
}
