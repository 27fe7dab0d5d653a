//! The condition of a container: it ended without being asked to, its engine starts it again and again, or its own health check
//! fails.

use theriac_model::catalog::Thresholds;
use theriac_model::container::{ContainerHealth, ContainerState};
use theriac_model::observation::Metric;
use theriac_model::verdict::Measurement;

use super::{At, measurement, number, unknown};
use crate::facts::has_ended_badly;

/// Starts by the engine within the target's time, against the target's number of them.
pub(super) fn unhealthy(at: At<'_>, thresholds: &Thresholds, state: Option<&ContainerState>) -> Measurement {
    let Some(state) = state else { return unknown("its state is not known") };
    let restarts = at.fresh(Metric::ContainerRecentRestarts);
    let looping = restarts.is_some_and(|restarts| restarts >= f64::from(thresholds.loop_restarts.max(1)));
    let (present, badness) = judge(state, looping);
    let summary = format!(
        "{}, {}; started again {} times within {} by its engine, threshold {}",
        state.run.as_str(),
        health(state),
        restarts.unwrap_or(0.0),
        thresholds.loop_within,
        thresholds.loop_restarts
    );
    let mut numbers = vec![
        number("restarts", f64::from(state.restarts), "count"),
        number("failing_streak", f64::from(state.failing_streak), "count"),
        number("exit_code", f64::from(state.exit_code), "code"),
    ];
    numbers.extend(restarts.map(|restarts| number("recent_restarts", restarts, "count")));
    let healthy = match state.health {
        ContainerHealth::Healthy => Some(true),
        ContainerHealth::Unhealthy => Some(false),
        ContainerHealth::None | ContainerHealth::Starting => None,
    };
    Measurement { healthy, ..measurement(present, badness, summary, numbers) }
}

/// On one scale: 0 serves, 1 does not pass its check, 2 is between, 3 is down, 4 is started again and again.
fn judge(state: &ContainerState, looping: bool) -> (Option<bool>, f64) {
    if state.stopped_on_purpose() {
        return (Some(false), 2.0);
    }
    if looping {
        return (Some(true), 4.0);
    }
    if has_ended_badly(state) {
        return (Some(true), 3.0);
    }
    if !state.is_up() {
        // Made and never started, or about to be started: what will come of it is not known yet.
        return (None, 2.0);
    }
    match state.health {
        ContainerHealth::Unhealthy => (Some(true), 1.0),
        ContainerHealth::Starting => (None, 1.0),
        ContainerHealth::Healthy | ContainerHealth::None => (Some(false), 0.0),
    }
}

fn health(state: &ContainerState) -> String {
    match state.health {
        ContainerHealth::None if state.oom_killed => "killed for memory".to_owned(),
        ContainerHealth::None => format!("last exit code {}", state.exit_code),
        ContainerHealth::Starting => "not yet checked".to_owned(),
        ContainerHealth::Healthy => "healthy".to_owned(),
        ContainerHealth::Unhealthy => format!("unhealthy, {} failed checks in a row", state.failing_streak),
    }
}

#[cfg(test)]
mod tests {
    use theriac_model::catalog::TargetSpec;
    use theriac_model::container::{RestartPolicy, RunState};
    use theriac_model::fault::FaultKind;
    use theriac_model::id::Label;
    use theriac_model::target::Target;
    use theriac_model::time::Timestamp;

    use super::*;
    use crate::facts::Facts;
    use crate::facts::tests::container;
    use crate::precondition;
    use crate::sampler::Sampler;

    /// The container in these states, one a second; what is measured at the last of them.
    fn measured(states: &[ContainerState]) -> Measurement {
        let label = Label::parse("api").unwrap();
        let target = Target::Container(label.clone());
        let spec = TargetSpec {
            target: target.clone(),
            traffic_share: None,
            health: Vec::new(),
            thresholds: Thresholds::default(),
            backend: None,
        };
        let mut sampler = Sampler::new(vec![spec]);
        let mut facts = Facts::default();
        let mut now = Timestamp(1_000_000_000);
        for state in states {
            now.0 += 1_000;
            facts.containers.insert(label.clone(), state.clone());
            sampler.sample(now, &facts);
        }
        precondition(FaultKind::ContainerUnhealthy, &target, &sampler, &facts, now).unwrap()
    }

    fn restarted(times: u32) -> ContainerState {
        ContainerState { restarts: times, policy: RestartPolicy::Always, ..container("api") }
    }

    #[test]
    fn a_container_that_runs_and_passes_its_check_is_well_and_one_that_fails_it_is_not() {
        let with = |health| measured(&[ContainerState { health, ..container("api") }]);
        assert_eq!(with(ContainerHealth::None).present, Some(false));
        let healthy = with(ContainerHealth::Healthy);
        assert_eq!((healthy.present, healthy.healthy), (Some(false), Some(true)));
        let unhealthy = with(ContainerHealth::Unhealthy);
        assert_eq!((unhealthy.present, unhealthy.healthy), (Some(true), Some(false)));
        assert_eq!(with(ContainerHealth::Starting).present, None, "neither well nor ill within its start period");
        assert!(unhealthy.badness > healthy.badness);
    }

    #[test]
    fn a_loop_is_counted_over_time_and_old_restarts_are_none() {
        let states: Vec<_> = [500, 501, 502, 503].map(restarted).to_vec();
        let looping = measured(&states);
        assert_eq!(looping.present, Some(true));
        assert!(looping.summary.contains("started again 3 times within 5m"), "{}", looping.summary);
        assert_eq!(measured(&states[..3]).present, Some(false), "two are not three");
        assert_eq!(measured(&[restarted(500), restarted(500)]).present, Some(false), "weeks ago");
        // A start by hand sets the engine's count back; what comes after is counted on.
        let again = [500, 501, 0, 1, 2].map(restarted);
        assert_eq!(measured(&again).present, Some(true));
    }

    #[test]
    fn down_is_a_fault_unless_somebody_stopped_it_or_the_engine_starts_it() {
        let down = |policy, exit_code| {
            measured(&[ContainerState { run: RunState::Exited, exit_code, policy, ..container("api") }]).present
        };
        assert_eq!(down(RestartPolicy::No, 1), Some(true));
        assert_eq!(down(RestartPolicy::No, 0), Some(false));
        assert_eq!(down(RestartPolicy::Always, 137), Some(false));
        let between = ContainerState { run: RunState::Restarting, ..restarted(1) };
        assert_eq!(measured(&[between]).present, None);
        let dead = ContainerState { run: RunState::Dead, ..container("api") };
        assert_eq!(measured(&[dead]).present, Some(true));
    }
}
