use theriac_model::fault::FaultKind;
use theriac_model::observation::SeriesId;
use theriac_model::time::Span;
use theriac_model::units::Bytes;

use super::*;

const T0: u64 = 1_000_000_000;

fn detector() -> Detector {
    let web: Target = "unit:web.service".parse().unwrap();
    let spec = |target: Target| TargetSpec {
        target,
        traffic_share: None,
        health: Vec::new(),
        thresholds: Thresholds { cpu_for: Span::from_secs(5), ..Thresholds::default() },
        backend: None,
    };
    Detector::new(RuleSet::defaults().unwrap(), &[spec(web), spec("mount:/var".parse().unwrap())])
}

/// Plays `(second, metric, value)` readings, each alone, and writes down what was said.
fn play(detector: &mut Detector, target: &str, readings: &[(u64, Metric, f64)]) -> Vec<String> {
    let mut said = Vec::new();
    for (second, metric, value) in readings {
        let at = Timestamp(T0 + second * 1_000);
        let series = SeriesId { target: target.parse().unwrap(), metric: *metric };
        for signal in detector.observe(at, &[Sample { series, at, value: *value }]) {
            let word = if signal.resolved { "ends" } else { "begins" };
            said.push(format!("{second} {} {word}", signal.source));
        }
    }
    said
}

fn disk(values: &[(u64, f64)]) -> Vec<(u64, Metric, f64)> {
    values.iter().map(|(second, value)| (*second, Metric::DiskAvailable, *value)).collect()
}

#[test]
fn a_full_disk_is_told_once_and_its_end_only_beyond_the_hysteresis() {
    let readings = disk(&[(0, 300.0), (1, 49.0), (2, 48.0), (3, 55.0), (4, 69.0), (5, 71.0), (6, 72.0)]);
    assert_eq!(play(&mut detector(), "mount:/var", &readings), ["1 disk-full begins", "5 disk-full ends"]);
}

#[test]
fn the_signal_says_what_was_measured() {
    let mut detector = detector();
    let target: Target = "mount:/var".parse().unwrap();
    let at = Timestamp(T0);
    let sample = |metric, value| Sample { series: SeriesId { target: target.clone(), metric }, at, value };
    let samples = [sample(Metric::DiskAvailable, 21.0), sample(Metric::DiskAvailableBytes, 1_048_576.0)];
    let signal = detector.observe(at, &samples).remove(0);
    assert_eq!((signal.kind, signal.onset, signal.origin), (FaultKind::DiskFull, at, Origin::Local));
    assert!(signal.summary.starts_with("2.1 % of mount:/var is available"), "{}", signal.summary);
    assert!(signal.summary.ends_with("below 5.0 %"), "{}", signal.summary);
    let names: Vec<&str> = signal.numbers.iter().map(|number| number.name.as_str()).collect();
    assert_eq!(names, ["disk_available", "disk_full"]);
}

#[test]
fn for_waits_and_a_dip_starts_it_anew() {
    let cpu = |values: &[(u64, f64)]| -> Vec<_> {
        values.iter().map(|(second, value)| (*second, Metric::UnitCpuShare, *value)).collect()
    };
    let steady: Vec<_> = (0..7).map(|second| (second, 900.0 + second as f64)).collect();
    assert_eq!(play(&mut detector(), "unit:web.service", &cpu(&steady)), ["5 cpu-saturation begins"]);
    let dip = cpu(&[(0, 900.0), (1, 901.0), (2, 100.0), (3, 902.0), (4, 903.0), (5, 904.0), (6, 905.0), (7, 906.0)]);
    assert_eq!(play(&mut detector(), "unit:web.service", &dip), [] as [String; 0]);
}

#[test]
fn a_hole_in_the_samples_is_not_time_spent_above_the_threshold() {
    let readings = [(0, Metric::UnitCpuShare, 900.0), (30, Metric::UnitCpuShare, 910.0)];
    assert_eq!(play(&mut detector(), "unit:web.service", &readings), [] as [String; 0]);
}

#[test]
fn one_event_makes_a_signal_at_once() {
    let events = [(0, Metric::UnitStartLimit, 0.0), (0, Metric::UnitFailed, 1.0)];
    assert_eq!(play(&mut detector(), "unit:web.service", &events), ["0 service-crash begins"]);
}

#[test]
fn failed_checks_are_counted_not_ticks() {
    let mut detector = detector();
    let up = (0, Metric::UnitUp, 1.0);
    let checks = [up, (1, Metric::UnitHealthy, 0.0), (3, Metric::UnitHealthy, 0.0), (5, Metric::UnitHealthy, 0.0)];
    assert_eq!(play(&mut detector, "unit:web.service", &checks), ["5 service-unhealthy begins"]);
    // The same answer told again by the tick is no further check.
    let told_again = [up, (1, Metric::UnitHealthy, 0.0), (1, Metric::UnitHealthy, 0.0), (1, Metric::UnitHealthy, 0.0)];
    assert_eq!(play(&mut self::detector(), "unit:web.service", &told_again), [] as [String; 0]);
}

#[test]
fn what_is_not_a_number_old_or_from_the_future_is_no_reading() {
    let mut detector = detector();
    let mut look = |at: u64, now: u64, value: f64| {
        let series = SeriesId { target: "mount:/var".parse().unwrap(), metric: Metric::DiskAvailable };
        detector.observe(Timestamp(T0 + now), &[Sample { series, at: Timestamp(T0 + at), value }]).len()
    };
    assert_eq!(look(0, 0, f64::NAN), 0);
    assert_eq!(look(0, 0, f64::NEG_INFINITY), 0);
    assert_eq!(look(0, 100_000, 1.0), 0, "old");
    assert_eq!(look(200_000, 100_000, 1.0), 0, "from the future");
    assert_eq!(look(100_000, 100_000, 1.0), 1);
}

#[test]
fn a_clock_set_back_starts_pending_rules_anew_and_detection_goes_on() {
    let mut detector = detector();
    let before: Vec<_> = (1_000..1_004).map(|second| (second, Metric::UnitCpuShare, 900.0 + second as f64)).collect();
    assert_eq!(play(&mut detector, "unit:web.service", &before), [] as [String; 0]);
    let after: Vec<_> = (0..7).map(|second| (second, Metric::UnitCpuShare, 950.0 + second as f64)).collect();
    assert_eq!(play(&mut detector, "unit:web.service", &after), ["5 cpu-saturation begins"]);
}

#[test]
fn a_unit_without_a_memory_limit_is_not_watched_for_leaks() {
    let readings: Vec<_> = (0..10).map(|second| (second, Metric::UnitMemory, 1e12 + second as f64)).collect();
    assert_eq!(play(&mut detector(), "unit:web.service", &readings), [] as [String; 0]);
}

#[test]
fn a_leak_is_found_before_the_limit_by_its_pace() {
    let limited = Thresholds { memory: Some(Bytes(1_000)), ..Thresholds::default() };
    let said = |from: f64, step: f64| {
        let target: Target = "unit:web.service".parse().unwrap();
        let spec = TargetSpec { target, traffic_share: None, health: Vec::new(), thresholds: limited, backend: None };
        let mut detector = Detector::new(RuleSet::defaults().unwrap(), &[spec]);
        let readings: Vec<_> =
            (0..30).map(|second| (second, Metric::UnitMemory, from + step * second as f64)).collect();
        play(&mut detector, "unit:web.service", &readings)
    };
    assert_eq!(said(905.0, 3.0), ["15 memory-growing begins"], "it is at 950 of 1000");
    assert_eq!(said(905.0, 0.01), [] as [String; 0]);
    assert_eq!(said(500.0, 3.0), [] as [String; 0]);
}

#[test]
fn a_target_that_is_no_longer_listed_is_forgotten() {
    let mut detector = detector();
    play(&mut detector, "mount:/var", &disk(&[(0, 10.0)]));
    detector.set_specs(&[]);
    assert_eq!(detector.targets.len(), 0);
}

proptest::proptest! {
    // Each case runs the self-test of every rule first.
    #![proptest_config(proptest::test_runner::Config::with_cases(24))]
    #[test]
    fn signals_of_one_rule_begin_and_end_in_turn(values in proptest::collection::vec(0.0..200.0_f64, 1..200)) {
        let readings: Vec<_> = values.iter().enumerate().map(|(second, value)| (second as u64, *value)).collect();
        let said = play(&mut detector(), "mount:/var", &disk(&readings));
        for (turn, line) in said.iter().enumerate() {
            let word = if turn % 2 == 0 { "begins" } else { "ends" };
            proptest::prop_assert!(line.ends_with(word));
        }
    }
}
