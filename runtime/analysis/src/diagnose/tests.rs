use theriac_model::fault::Severity;
use theriac_model::id::{IncidentId, UnitName};
use theriac_model::incident::IncidentState;
use theriac_model::time::Timestamp;

use super::*;
use crate::evidence::Collected;

fn incident(kind: FaultKind) -> Incident {
    Incident {
        id: IncidentId::parse("20261123-1").unwrap(),
        state: IncidentState::Opened,
        kind,
        target: "unit:web.service".parse().unwrap(),
        severity: Severity::Critical,
        onset: Timestamp(1),
        detected: Timestamp(1),
        healed: None,
        stable: None,
        closed: None,
        signals: Vec::new(),
        evidence: Vec::new(),
        diagnosis: None,
        playbook: None,
        runs: Vec::new(),
        timeline: Vec::new(),
    }
}

fn unit(active: ActiveState, result: &str) -> UnitState {
    UnitState { active, result: result.into(), ..UnitState::running(UnitName::parse("web.service").unwrap()) }
}

fn diagnose(kind: FaultKind, unit: UnitState, logs: &[&str], change: impl Fn(&mut Context)) -> Diagnosis {
    let mut collected = Collected::default();
    collected.unit(&unit, Timestamp(1));
    collected.log(&logs.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>(), Timestamp(1));
    let mut context = Context { unit: Some(unit), ..Context::default() };
    change(&mut context);
    Causes::defaults().unwrap().diagnose(&incident(kind), collected.pieces(), &context)
}

fn rules(diagnosis: &Diagnosis) -> Vec<&str> {
    diagnosis.causes.iter().map(|cause| cause.rule.as_str()).collect()
}

#[test]
fn the_surest_cause_leads_and_cites_its_evidence() {
    let diagnosis = diagnose(FaultKind::ServiceCrash, unit(ActiveState::Failed, "exit-code"), &[], |_| {});
    assert_eq!(rules(&diagnosis), ["exited"]);
    assert_eq!(diagnosis.causes[0].evidence[0].as_str(), "e1");
    assert_eq!(diagnosis.inaction, None);
    let limited = diagnose(FaultKind::StartLimitHit, unit(ActiveState::Failed, "start-limit-hit"), &[], |_| {});
    assert_eq!(limited.causes[0].kind, FaultKind::StartLimitHit);
}

#[test]
fn a_log_line_alone_names_no_cause_and_beside_a_measured_fact_it_does() {
    let line = ["write: No space left on device"];
    let failed = || unit(ActiveState::Failed, "exit-code");
    let alone =
        diagnose(FaultKind::ServiceCrash, failed(), &line, |context| context.lowest_disk_available = Some(400.0));
    assert!(!rules(&alone).contains(&"full-disk-beneath"), "the disk is not full, whatever the log says");
    let unmeasured = diagnose(FaultKind::ServiceCrash, failed(), &line, |_| {});
    assert!(!rules(&unmeasured).contains(&"full-disk-beneath"));
    // The fact is true, and there is a piece of evidence for it.
    let mut collected = Collected::default();
    collected.log(&line.map(str::to_owned), Timestamp(1));
    let context = Context { unit: Some(failed()), lowest_disk_available: Some(3.0), ..Context::default() };
    let causes = Causes::defaults().unwrap();
    assert_eq!(causes.diagnose(&incident(FaultKind::ServiceCrash), collected.pieces(), &context).causes, []);
    let series =
        theriac_model::observation::SeriesId { target: "mount:/var".parse().unwrap(), metric: Metric::DiskAvailable };
    collected.series(&series, &[(Timestamp(1), 3.0)], Timestamp(1));
    let both = causes.diagnose(&incident(FaultKind::ServiceCrash), collected.pieces(), &context);
    assert_eq!(both.causes[0].kind, FaultKind::DiskFull);
    assert_eq!(both.causes[0].evidence.iter().map(EvidenceId::as_str).collect::<Vec<_>>(), ["e1", "e2"]);
}

#[test]
fn saturation_is_the_cause_and_silence_the_symptom() {
    let mut collected = Collected::default();
    let answer = theriac_model::health::HealthAnswer { ok: false, latency_ms: 2_000, detail: "no answer".into() };
    collected.health(&answer, 3, Timestamp(1));
    let at = |share| Context {
        unit: Some(unit(ActiveState::Active, "success")),
        metrics: vec![(Metric::UnitCpuShare, share)],
        ..Context::default()
    };
    let causes = Causes::defaults().unwrap();
    let of = |share| causes.diagnose(&incident(FaultKind::ServiceUnhealthy), collected.pieces(), &at(share));
    assert_eq!(of(990.0).causes[0].kind, FaultKind::CpuSaturation);
    assert_eq!(of(5.0).causes[0].rule, "hung");
}

#[test]
fn doing_nothing_has_its_reason() {
    let reason =
        |kind, unit, change: fn(&mut Context)| diagnose(kind, unit, &[], change).inaction.map(|none| none.reason);
    let mut stopped = unit(ActiveState::Inactive, "success");
    stopped.stopped_on_purpose = true;
    assert_eq!(reason(FaultKind::ServiceUnhealthy, stopped, |_| {}), Some(InactionReason::StoppedOnPurpose));
    let mut restarting = unit(ActiveState::Activating, "exit-code");
    restarting.will_restart = true;
    assert_eq!(reason(FaultKind::ServiceCrash, restarting, |_| {}), Some(InactionReason::RestartsItself));
    let up = || unit(ActiveState::Active, "success");
    let deploy = |context: &mut Context| context.deploy = Some("dpkg".into());
    assert_eq!(reason(FaultKind::ServiceUnhealthy, up(), deploy), Some(InactionReason::DeployRunning));
    assert_eq!(reason(FaultKind::DiskFull, up(), deploy), None, "a full disk does not wait for dpkg");
    let backup = |context: &mut Context| context.backup = Some("restic".into());
    assert_eq!(reason(FaultKind::CpuSaturation, up(), backup), Some(InactionReason::BackupRunning));
    let steal = |context: &mut Context| context.metrics.push((Metric::HostSteal, 400.0));
    assert_eq!(reason(FaultKind::CpuSaturation, up(), steal), Some(InactionReason::HostSteals));
    assert_eq!(reason(FaultKind::CpuSaturation, up(), |_| {}), None);
}

#[test]
fn a_rule_that_would_believe_a_log_is_refused() {
    let rule = |cites: &str| {
        let text = format!(
            "causes:\n  - id: told\n    for: [service-crash]\n    cause: disk-full\n    log: [no space left]\n    when: failed\n    confidence: 900\n    cites: [{cites}]\n    summary: x\n"
        );
        Causes::parse(&text, "inaction: []").map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(rule("log, unit-state"), Ok(()));
    let refused = rule("log").unwrap_err();
    assert_eq!(refused, "line 6: rule `told`: `cites` needs a measured source: a log alone names no cause");
}
