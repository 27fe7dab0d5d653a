//! What the caller knows besides what can be read from /proc: unit states, told by a service manager, and health answers and the
//! states of containers and databases, told by couriers. They are given in, never fetched here, so that a sample costs the same whatever a service does.

use std::collections::BTreeMap;

use theriac_model::certificate::CertificateReading;
use theriac_model::container::{ContainerHealth, ContainerState, RunState};
use theriac_model::database::PoolState;
use theriac_model::health::HealthAnswer;
use theriac_model::id::{Label, UnitName};
use theriac_model::observation::{Metric, Sample, SeriesId};
use theriac_model::target::Target;
use theriac_model::time::Timestamp;
use theriac_model::unit::{ActiveState, UnitState};

/// The latest word on units and health checks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// By the name the configuration uses (which may be an alias of the state's own name).
    pub units: BTreeMap<UnitName, UnitState>,
    /// By the operator's name; absent where none has been read yet.
    pub certificates: BTreeMap<Label, CertificateReading>,
    /// By target; absent where no check is configured or none has answered yet.
    pub health: BTreeMap<Target, HealthStreak>,
    /// By the label that the configuration gives them.
    pub containers: BTreeMap<Label, ContainerState>,
    /// By the operator's name of the database server.
    pub pools: BTreeMap<Label, PoolState>,
}

/// The answers of a target's health checks, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthStreak {
    /// The last round passed (all checks of the target did).
    pub ok: bool,
    /// Failed rounds in a row; 0 after one that passed.
    pub failures: u32,
    /// The answer that decided the last round.
    pub last: HealthAnswer,
    /// When.
    pub at: Timestamp,
}

impl HealthStreak {
    /// The streak after one more answer.
    #[must_use]
    pub fn after(previous: Option<&Self>, answer: HealthAnswer, at: Timestamp) -> Self {
        let before = previous.map_or(0, |streak| streak.failures);
        let failures = if answer.ok { 0 } else { before.saturating_add(1) };
        Self { ok: answer.ok, failures, last: answer, at }
    }
}

/// Down without having been asked to: failed, or dead after something else than a success, with nobody about to restart it.
pub fn is_failed(state: &UnitState) -> bool {
    match state.active {
        ActiveState::Failed => !state.will_restart,
        ActiveState::Inactive => !state.stopped_on_purpose && !state.will_restart,
        ActiveState::Active
        | ActiveState::Activating
        | ActiveState::Deactivating
        | ActiveState::Reloading
        | ActiveState::Other => false,
    }
}

/// The service manager has given up on it.
pub fn is_start_limited(state: &UnitState) -> bool {
    is_failed(state) && state.result == "start-limit-hit"
}

/// Down, nobody stopped it, and its engine does not start it again.
pub const fn has_ended_badly(state: &ContainerState) -> bool {
    match state.run {
        RunState::Exited => !state.stopped_on_purpose(),
        RunState::Dead => true,
        RunState::Created | RunState::Running | RunState::Paused | RunState::Restarting | RunState::Other => false,
    }
}

/// What a container's state says, as samples.
pub fn container_samples(label: &Label, state: &ContainerState, at: Timestamp) -> impl Iterator<Item = Sample> + use<> {
    let target = Target::Container(label.clone());
    let flag = |set: bool| f64::from(u8::from(set));
    let healthy = match state.health {
        ContainerHealth::Healthy => Some(1.0),
        ContainerHealth::Unhealthy => Some(0.0),
        ContainerHealth::None | ContainerHealth::Starting => None,
    };
    let values = [
        (Metric::ContainerUp, Some(flag(state.is_up()))),
        (Metric::ContainerFailed, Some(flag(has_ended_badly(state)))),
        (Metric::ContainerHealthy, healthy),
        (Metric::ContainerRestarts, Some(f64::from(state.restarts))),
    ];
    let sample = move |(metric, value): (Metric, Option<f64>)| {
        Some(Sample { series: SeriesId { target: target.clone(), metric }, at, value: value? })
    };
    values.into_iter().filter_map(sample)
}

/// What a database server's counts say, as a sample.
pub fn pool_sample(database: &Label, state: PoolState, at: Timestamp) -> Sample {
    let series = SeriesId { target: Target::Pool(database.clone()), metric: Metric::PoolUsed };
    Sample { series, at, value: state.used_share() }
}

/// What a unit's state says, as samples: for a tick and, at once, for a state change.
pub fn unit_samples<'a>(
    name: &UnitName,
    state: &'a UnitState,
    at: Timestamp,
) -> impl Iterator<Item = Sample> + use<'a> {
    let target = Target::Unit(name.clone());
    let flags = [
        (Metric::UnitUp, state.is_up()),
        (Metric::UnitFailed, is_failed(state)),
        (Metric::UnitStartLimit, is_start_limited(state)),
        (Metric::UnitWillRestart, state.will_restart),
    ];
    flags.into_iter().map(move |(metric, set)| Sample {
        series: SeriesId { target: target.clone(), metric },
        at,
        value: f64::from(u8::from(set)),
    })
}

/// What a health answer says, as a sample at the time of the answer; `None` for targets that are no unit.
pub fn health_sample(target: &Target, streak: &HealthStreak) -> Option<Sample> {
    let Target::Unit(_) = target else { return None };
    let series = SeriesId { target: target.clone(), metric: Metric::UnitHealthy };
    Some(Sample { series, at: streak.at, value: f64::from(u8::from(streak.ok)) })
}

#[cfg(test)]
pub(crate) mod tests {
    use theriac_model::container::{ContainerId, ContainerName, RestartPolicy};

    use super::*;

    /// A unit that is up.
    pub(crate) fn unit(name: &str) -> UnitState {
        UnitState {
            invocation: "0123456789abcdef0123456789abcdef".into(),
            since_ms: 1_000,
            ..UnitState::running(UnitName::parse(name).unwrap())
        }
    }

    /// A container that runs and has no health check.
    pub(crate) fn container(name: &str) -> ContainerState {
        ContainerState {
            id: ContainerId::parse(&"a".repeat(64)).unwrap(),
            name: ContainerName::parse(name).unwrap(),
            run: RunState::Running,
            health: ContainerHealth::None,
            failing_streak: 0,
            restarts: 0,
            exit_code: 0,
            oom_killed: false,
            started: "2026-11-22T10:00:00Z".into(),
            since_ms: Some(1_000),
            policy: RestartPolicy::No,
        }
    }

    #[test]
    fn a_unit_that_ended_well_has_not_failed_and_one_that_did_not_has() {
        let mut state = unit("web.service");
        assert!(!is_failed(&state));
        state.active = ActiveState::Inactive;
        state.stopped_on_purpose = true;
        assert!(!is_failed(&state));
        state.stopped_on_purpose = false;
        assert!(is_failed(&state));
        state.will_restart = true;
        assert!(!is_failed(&state), "the manager restarts it itself");
    }

    #[test]
    fn failures_count_up_and_one_good_answer_ends_them() {
        let answer = |ok| HealthAnswer { ok, latency_ms: 1, detail: String::new() };
        let one = HealthStreak::after(None, answer(false), Timestamp(1));
        let two = HealthStreak::after(Some(&one), answer(false), Timestamp(2));
        assert_eq!((one.failures, two.failures), (1, 2));
        assert_eq!(HealthStreak::after(Some(&two), answer(true), Timestamp(3)).failures, 0);
    }
}
