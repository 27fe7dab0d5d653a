//! What is measured of the incident's target, and nothing else's.

use std::sync::{Arc, Mutex};

use theriac_authority::effective::BoundProbe;
use theriac_model::call::{Call, Handle, Interface, ProbeCall, ProbeInfo, Reading, Reply, SeriesCall};
use theriac_model::denial::DenialCause;
use theriac_model::health::{HealthAnswer, HealthCheck};
use theriac_model::id::Label;
use theriac_model::observation::{Metric, SeriesId};
use theriac_model::target::Target;
use theriac_model::time::{Span, Timestamp};

use super::world::*;
use crate::world::{CheckError, Senses};

const GRANTS: &str = r#"
[grants.series.load]
metric = "unit_cpu"
why = "tests"

[grants.series.machine]
metric = "host_cpu"
why = "tests"
"#;
const NOW: Timestamp = Timestamp(1_000_000);

/// Senses that remember what they were asked.
#[derive(Debug, Default)]
struct Asked {
    readings: Vec<(Timestamp, f64)>,
    series: Mutex<Vec<(SeriesId, u32)>>,
    checks: Mutex<Vec<HealthCheck>>,
    /// The port whose check fails; the courier is gone at port 1.
    fails: u16,
}

impl Senses for Asked {
    fn now(&self) -> Timestamp {
        NOW
    }

    fn readings(&self, series: &SeriesId, seconds: u32) -> Vec<(Timestamp, f64)> {
        self.series.lock().unwrap().push((series.clone(), seconds));
        self.readings.clone()
    }

    fn check(&self, check: &HealthCheck) -> Result<HealthAnswer, CheckError> {
        self.checks.lock().unwrap().push(check.clone());
        let HealthCheck::Tcp { address, .. } = check else { panic!("{check}") };
        if address.port() == 1 {
            return Err(CheckError { reason: "no courier".into() });
        }
        let ok = address.port() != self.fails;
        Ok(HealthAnswer { ok, latency_ms: 3, detail: if ok { "connected" } else { "connection refused" }.into() })
    }
}

fn tcp(port: u16) -> HealthCheck {
    HealthCheck::Tcp { address: ([127, 0, 0, 1], port).into(), timeout: Span::from_secs(1) }
}

/// A place whose unit has those checks.
fn place_with(senses: Asked, ports: &[u16]) -> (Place, Arc<Asked>) {
    let mut place = place_granting(GRANTS, "");
    let senses = Arc::new(senses);
    place.world.senses = Arc::clone(&senses) as _;
    let label = Label::parse("health").unwrap();
    let checks = ports.iter().map(|port| tcp(*port)).collect();
    place.grants.probes.insert(label.clone(), BoundProbe { label, target: "unit:web".parse().unwrap(), checks });
    (place, senses)
}

fn series(place: &Place, label: &str, verb: SeriesCall) -> Reply {
    let mut reply = None;
    place.plan(|ask| {
        let handle = open(ask, Interface::Series, label);
        reply = Some(ask(Call::Series { handle, verb }));
    });
    reply.unwrap()
}

fn probe(place: &Place) -> Reply {
    let mut reply = None;
    place.plan(|ask| {
        let handle = open(ask, Interface::Probes, "health");
        reply = Some(ask(Call::Probe { handle, verb: ProbeCall::Check }));
    });
    reply.unwrap()
}

#[test]
fn a_series_is_of_the_incidents_target_or_of_the_machine() {
    let (place, senses) = place_with(Asked { readings: vec![(NOW, 1.0)], ..Asked::default() }, &[]);
    series(&place, "load", SeriesCall::Now);
    series(&place, "machine", SeriesCall::Now);
    let asked: Vec<_> = senses.series.lock().unwrap().iter().map(|(series, _)| series.clone()).collect();
    let of = |target: Target, metric| SeriesId { target, metric };
    assert_eq!(asked, [of("unit:web".parse().unwrap(), Metric::UnitCpu), of(Target::Host, Metric::HostCpu)]);
}

#[test]
fn a_label_that_is_not_granted_is_denied_and_asks_nobody() {
    let (place, senses) = place_with(Asked::default(), &[80]);
    place.plan(|ask| {
        for (interface, label) in [
            (Interface::Series, "db"),
            (Interface::Series, "unit:db"),
            (Interface::Series, "health"),
            (Interface::Probes, "load"),
            (Interface::Probes, "http://127.0.0.1:22/"),
        ] {
            let denial = denied(ask(Call::Open { interface, label: label.into() }));
            assert_eq!(denial.cause, DenialCause::NotGranted, "{label}");
        }
        let handle = open(ask, Interface::Series, "load");
        assert_eq!(denied(ask(Call::Probe { handle, verb: ProbeCall::Check })).rule, "handle");
        assert_eq!(denied(ask(Call::Series { handle: Handle(99), verb: SeriesCall::Now })).rule, "handle");
    });
    assert!(senses.series.lock().unwrap().is_empty() && senses.checks.lock().unwrap().is_empty());
}

#[test]
fn now_is_the_newest_reading_and_a_range_is_all_of_them_oldest_first() {
    let readings = vec![(Timestamp(990_000), 1.0), (Timestamp(997_000), f64::NAN), (Timestamp(998_000), 2.5)];
    let (place, senses) = place_with(Asked { readings, ..Asked::default() }, &[]);
    let newest = Reading { age_s: 2, value: 2.5 };
    assert_eq!(series(&place, "load", SeriesCall::Now), Reply::Readings(vec![newest]));
    let all = Reply::Readings(vec![Reading { age_s: 10, value: 1.0 }, newest]);
    assert_eq!(series(&place, "load", SeriesCall::Range { seconds: 60 }), all);
    assert_eq!(series(&place, "load", SeriesCall::Range { seconds: u32::MAX }), all);
    let seconds: Vec<u32> = senses.series.lock().unwrap().iter().map(|(_, seconds)| *seconds).collect();
    assert_eq!(seconds, [30, 60, 600], "no further back than the sampler remembers");
}

#[test]
fn what_was_not_measured_lately_is_unavailable_and_never_zero() {
    let (place, _) = place_with(Asked::default(), &[]);
    assert_eq!(denied(series(&place, "load", SeriesCall::Now)).cause, DenialCause::Unavailable);
    assert_eq!(series(&place, "load", SeriesCall::Range { seconds: 60 }), Reply::Readings(Vec::new()));
}

#[test]
fn a_probe_asks_what_the_operator_listed_in_his_order_until_one_fails() {
    let (place, senses) = place_with(Asked::default(), &[80, 81]);
    assert_eq!(probe(&place), Reply::Probe(ProbeInfo { ok: true, latency_ms: 6, detail: "connected".into() }));
    assert_eq!(*senses.checks.lock().unwrap(), [tcp(80), tcp(81)]);
    let (place, senses) = place_with(Asked { fails: 80, ..Asked::default() }, &[80, 81]);
    assert_eq!(
        probe(&place),
        Reply::Probe(ProbeInfo { ok: false, latency_ms: 3, detail: "connection refused".into() })
    );
    assert_eq!(*senses.checks.lock().unwrap(), [tcp(80)]);
}

#[test]
fn a_check_that_could_not_be_asked_is_no_answer() {
    let (place, _) = place_with(Asked::default(), &[80, 1]);
    assert_eq!(denied(probe(&place)).cause, DenialCause::Unavailable);
}
