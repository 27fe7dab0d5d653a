use theriac_model::catalog::TargetSpec;
use theriac_model::health::HealthAnswer;
use theriac_model::time::Span;
use theriac_model::units::Permille;

use super::*;
use crate::facts::tests::unit;

const NOW: Timestamp = Timestamp(1_000_000_000);

struct Case {
    sampler: Sampler,
    facts: Facts,
    target: Target,
}

impl Case {
    fn new(target: &str, thresholds: Thresholds) -> Self {
        let target: Target = target.parse().unwrap();
        let spec =
            TargetSpec { target: target.clone(), traffic_share: None, health: Vec::new(), thresholds, backend: None };
        Self { sampler: Sampler::new(vec![spec]), facts: Facts::default(), target }
    }

    fn web() -> Self {
        let mut case =
            Self::new("unit:web.service", Thresholds { memory: Some(Bytes(1_000)), ..Thresholds::default() });
        let state = unit("web.service");
        case.facts.units.insert(state.name.clone(), state);
        case
    }

    fn state(mut self, change: impl Fn(&mut UnitState)) -> Self {
        self.facts.units.values_mut().for_each(change);
        self
    }

    fn health(mut self, failures: u32) -> Self {
        let last = HealthAnswer { ok: failures == 0, latency_ms: 3, detail: "answered 503".into() };
        self.facts.health.insert(self.target.clone(), HealthStreak { ok: failures == 0, failures, last, at: NOW });
        self
    }

    /// One reading a second, the last one now.
    fn series(mut self, metric: Metric, values: &[f64]) -> Self {
        for (back, value) in values.iter().rev().enumerate() {
            let at = Timestamp(NOW.0 - 1_000 * back as u64);
            let mut ordered = self.sampler.range(&SeriesId { target: self.target.clone(), metric }, u32::MAX);
            ordered.insert(0, (at, *value));
            // The history takes readings in order only: put them back, oldest first.
            for (at, value) in ordered {
                self.sampler.insert(&self.target, metric, at, value);
            }
        }
        self
    }

    fn measure(&self, kind: FaultKind) -> Measurement {
        precondition(kind, &self.target, &self.sampler, &self.facts, NOW).unwrap()
    }

    fn present(&self, kind: FaultKind) -> Option<bool> {
        self.measure(kind).present
    }
}

fn failed(state: &mut UnitState) {
    state.active = ActiveState::Failed;
    state.sub = "failed".into();
    state.result = "exit-code".into();
}

#[test]
fn a_kind_or_a_target_outside_the_table_has_no_measurement() {
    let case = Case::web();
    let ask = |kind, target: &str| precondition(kind, &target.parse().unwrap(), &case.sampler, &case.facts, NOW);
    for kind in [FaultKind::Unknown, FaultKind::BadRelease, FaultKind::TrafficFlood, FaultKind::DiskFull] {
        assert_eq!(ask(kind, "unit:web.service"), None, "{kind}");
    }
    assert_eq!(ask(FaultKind::ServiceCrash, "unit:other.service"), None, "not listed");
    assert!(ask(FaultKind::ServiceCrash, "unit:web.service").is_some());
}

#[test]
fn the_root_filesystem_is_full_exactly_when_the_threshold_is_above_what_is_available() {
    let full = |permille| {
        Case::new("mount:/", Thresholds { disk_full: Permille::clamped(permille), ..Thresholds::default() })
            .measure(FaultKind::DiskFull)
    };
    assert_eq!(full(0).present, Some(false));
    assert_eq!(full(1000).present, Some(true));
    assert_eq!(full(1000).numbers.len(), 3);
    assert!((0.0..=1000.0).contains(&full(0).badness));
}

#[test]
fn inodes_are_measured_too() {
    let case = Case::new("mount:/", Thresholds { inodes: Permille::ZERO, ..Thresholds::default() });
    assert_eq!(case.present(FaultKind::InodeExhaustion), Some(false));
}

#[test]
fn a_disk_is_filling_only_when_it_shrinks_towards_its_end() {
    let everything = Thresholds { disk_filling: Permille::FULL, ..Thresholds::default() };
    let now = fs::space_of_mount(std::path::Path::new("/")).unwrap().available as f64;
    let falling: Vec<f64> = (0..30).map(|back| now + f64::from(30 - back) * now / 60.0).collect();
    let case = Case::new("mount:/", everything);
    assert_eq!(case.present(FaultKind::DiskFilling), None, "no history yet");
    assert_eq!(case.series(Metric::DiskAvailableBytes, &falling).present(FaultKind::DiskFilling), Some(true));
    let rising: Vec<f64> = falling.iter().map(|value| 2.0 * now - value).collect();
    let case = Case::new("mount:/", everything).series(Metric::DiskAvailableBytes, &rising);
    assert_eq!(case.present(FaultKind::DiskFilling), Some(false));
    let plenty = Thresholds { disk_filling: Permille::ZERO, ..Thresholds::default() };
    let case = Case::new("mount:/", plenty).series(Metric::DiskAvailableBytes, &falling);
    assert_eq!(case.present(FaultKind::DiskFilling), Some(false));
}

#[test]
fn a_mount_that_is_gone_can_not_be_measured() {
    let dir = tempfile::tempdir().unwrap();
    let case = Case::new(&format!("mount:{}", dir.path().display()), Thresholds::default());
    assert_eq!(case.present(FaultKind::DiskFull), None);
}

#[test]
fn cpu_saturation_needs_the_whole_window_above_the_share() {
    let busy = [900.0; 16];
    assert_eq!(Case::web().series(Metric::UnitCpuShare, &busy).present(FaultKind::CpuSaturation), Some(true));
    let mut short = busy.to_vec();
    short.truncate(8);
    assert_eq!(Case::web().series(Metric::UnitCpuShare, &short).present(FaultKind::CpuSaturation), None);
    let mut calm = busy.to_vec();
    calm.push(300.0);
    assert_eq!(Case::web().series(Metric::UnitCpuShare, &calm).present(FaultKind::CpuSaturation), Some(false));
    let mut dips = busy;
    dips[3..10].fill(100.0);
    assert_eq!(Case::web().series(Metric::UnitCpuShare, &dips).present(FaultKind::CpuSaturation), Some(false));
    assert_eq!(Case::web().present(FaultKind::CpuSaturation), None, "never sampled");
}

#[test]
fn a_hole_in_the_history_is_no_proof_of_saturation() {
    let mut case = Case::new("unit:web.service", Thresholds { cpu_for: Span::from_secs(30), ..Thresholds::default() });
    for back in [30_u64, 29, 28, 2, 1, 0] {
        case.sampler.insert(&case.target, Metric::UnitCpuShare, Timestamp(NOW.0 - back * 1000), 990.0);
    }
    assert_eq!(case.present(FaultKind::CpuSaturation), None);
}

#[test]
fn memory_is_over_its_limit_or_not_and_unwatched_without_one() {
    assert_eq!(Case::web().series(Metric::UnitMemory, &[1_001.0]).present(FaultKind::MemoryLeak), Some(true));
    assert_eq!(Case::web().series(Metric::UnitMemory, &[1_000.0]).present(FaultKind::MemoryLeak), Some(false));
    let case = Case::new("unit:web.service", Thresholds::default()).series(Metric::UnitMemory, &[1e12]);
    assert_eq!(case.present(FaultKind::MemoryLeak), None);
}

#[test]
fn memory_that_grows_towards_its_limit_is_a_leak_before_it_is_there() {
    let climb = |from: f64, step: f64| {
        let values: Vec<f64> = (0..15).map(|second| from + step * f64::from(second)).collect();
        Case::web().series(Metric::UnitMemory, &values)
    };
    let leaking = climb(930.0, 2.0).measure(FaultKind::MemoryLeak);
    assert_eq!(leaking.present, Some(true), "{}", leaking.summary);
    assert!(leaking.summary.ends_with("which it will pass in 21 s at this pace"), "{}", leaking.summary);
    assert_eq!(climb(930.0, 0.01).present(FaultKind::MemoryLeak), Some(false), "it would take hours");
    assert_eq!(climb(500.0, 5.0).present(FaultKind::MemoryLeak), Some(false), "far from its limit");
    assert_eq!(climb(990.0, -2.0).present(FaultKind::MemoryLeak), Some(false), "it shrinks");
    let short = Case::web().series(Metric::UnitMemory, &[930.0, 940.0, 950.0, 960.0, 970.0]);
    assert_eq!(short.present(FaultKind::MemoryLeak), Some(false), "too little history for a trend");
}

#[test]
fn a_crash_is_present_unless_the_unit_was_stopped_or_will_restart() {
    assert_eq!(Case::web().present(FaultKind::ServiceCrash), Some(false));
    assert_eq!(Case::web().state(failed).present(FaultKind::ServiceCrash), Some(true));
    let stopped = Case::web().state(|state| {
        state.active = ActiveState::Inactive;
        state.stopped_on_purpose = true;
    });
    assert_eq!(stopped.present(FaultKind::ServiceCrash), Some(false));
    let restarting = Case::web().state(|state| {
        state.active = ActiveState::Activating;
        state.will_restart = true;
    });
    assert_eq!(restarting.present(FaultKind::ServiceCrash), None);
}

#[test]
fn health_failures_in_a_row_make_a_unit_unhealthy_while_it_is_up() {
    assert_eq!(Case::web().health(2).present(FaultKind::ServiceUnhealthy), Some(false));
    let case = Case::web().health(3);
    assert_eq!(case.present(FaultKind::ServiceUnhealthy), Some(true));
    assert_eq!(case.measure(FaultKind::ServiceUnhealthy).healthy, Some(false));
    assert_eq!(Case::web().present(FaultKind::ServiceUnhealthy), None, "no check has answered");
    let stopped = Case::web().health(9).state(|state| {
        state.active = ActiveState::Inactive;
        state.stopped_on_purpose = true;
    });
    assert_eq!(stopped.present(FaultKind::ServiceUnhealthy), Some(false));
}

#[test]
fn a_unit_that_died_of_the_cure_is_worse_not_healed() {
    let before = Case::web().health(3).measure(FaultKind::ServiceUnhealthy);
    let after = Case::web().health(3).state(failed).measure(FaultKind::ServiceUnhealthy);
    assert_eq!(after.present, Some(true));
    assert!(after.badness > before.badness);
}

#[test]
fn a_start_limit_is_told_from_a_plain_failure_and_both_are_down() {
    let limited = |state: &mut UnitState| {
        failed(state);
        state.result = "start-limit-hit".into();
    };
    let case = Case::web().state(limited);
    assert_eq!(case.present(FaultKind::StartLimitHit), Some(true));
    assert_eq!(case.present(FaultKind::ServiceCrash), Some(true));
    assert_eq!(Case::web().present(FaultKind::StartLimitHit), Some(false));
}

#[test]
fn an_oom_kill_is_a_fault_while_its_victim_is_down() {
    let killed = |case: Case| case.series(Metric::UnitOomKills, &[0.0, 0.0, 1.0]);
    assert_eq!(killed(Case::web().state(failed)).present(FaultKind::OomKill), Some(true));
    assert_eq!(killed(Case::web()).present(FaultKind::OomKill), Some(false), "it is up again");
    let quiet = Case::web().state(failed).series(Metric::UnitOomKills, &[2.0, 2.0]);
    assert_eq!(quiet.present(FaultKind::OomKill), Some(false), "old kills are no news");
}

#[test]
fn a_certificate_is_measured_by_its_file_and_by_what_is_served() {
    let day = 86_400;
    let now = NOW.0 / 1000;
    let measure = |file: Option<u64>, served: ServedReading| {
        let mut case = Case::new("certificate:web", Thresholds::default());
        let name = theriac_model::id::Label::parse("web").unwrap();
        case.facts.certificates.insert(name, CertificateReading { at: NOW, file_until: file, served });
        case.measure(FaultKind::CertificateExpiry)
    };
    let of_file = |not_after| ServedReading::Until { not_after, of_file: true };
    let other = |not_after| ServedReading::Until { not_after, of_file: false };
    for (file, served, present) in [
        (Some(now + 13 * day), ServedReading::NotAsked, Some(true)),
        (Some(now + 15 * day), ServedReading::NotAsked, Some(false)),
        (Some(now - day), of_file(now - day), Some(true)),
        (Some(now + 60 * day), of_file(now + 60 * day), Some(false)),
        (Some(now + 60 * day), other(now - day), Some(true)),
        // What can't be seen is not well, and not at fault either.
        (Some(now + 60 * day), ServedReading::NotSeen, None),
        (Some(now - day), ServedReading::NotSeen, Some(true)),
        (None, ServedReading::NotAsked, None),
        (None, of_file(now + 60 * day), None),
    ] {
        assert_eq!(measure(file, served).present, present, "{file:?} {served:?}");
    }
    let stale = measure(Some(now - day), other(now - 2 * day));
    assert!(stale.badness > measure(Some(now - day), ServedReading::NotAsked).badness);
    assert!(stale.summary.contains("another one is served, which expired 48 h ago"), "{}", stale.summary);
}
