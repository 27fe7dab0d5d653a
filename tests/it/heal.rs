//! Faults made for real, healed by the runner with the shipped remedies, from proposal to commit.

use rustix::process::Signal;
use theriac_model::effect::Outcome;
use theriac_model::record::Record;
use theriac_model::run::RunState;
use theriac_model::verdict::{Phase, Verdict};
use theriac_protocol::runner::RunnerAnswer;

use crate::host::{Host, Service, Setup, playbook, proposal};

fn web() -> Service {
    Service::new("web")
}

fn quick(step: &str) -> String {
    format!(
        "  - remedy: service-recover\n    params: {{ step: {step} }}\n    level: 1\n    healed_within: 10s\n    stable_for: 500ms\n"
    )
}

#[test]
fn a_killed_service_is_started_again_and_the_run_is_committed() {
    let web = web();
    let host = Host::start(&Setup {
        services: vec![web.clone()],
        remedies: vec!["service-recover"],
        playbooks: vec![("crash.yaml", playbook("test-crash", "service-crash", "unit:web", &quick("start")))],
        ..Setup::default()
    });
    Host::wait_for_status(&web, "200");
    let before = host.main_pid("web");
    host.signal("web", Signal::KILL);

    let run = host.heal(&proposal("i-1", "service-crash", "unit:web", "test-crash", "service-recover"));

    assert_eq!(run.state, RunState::Committed, "{run:?}\n{}", host.log("theriac-runner"));
    assert!(run.healed.is_some() && run.stable.is_some());
    Host::wait_for_status(&web, "200");
    assert_ne!(host.main_pid("web"), before);
    let applied =
        host.records().iter().filter(|r| matches!(r, Record::Done { outcome: Outcome::Applied { .. }, .. })).count();
    assert_eq!(applied, 1, "one effect: it was started");
}

#[test]
fn a_hung_service_is_restarted() {
    let web = web();
    let host = Host::start(&Setup {
        services: vec![web.clone()],
        remedies: vec!["service-recover"],
        playbooks: vec![("hang.yaml", playbook("test-hang", "service-unhealthy", "unit:web", &quick("restart")))],
        ..Setup::default()
    });
    Host::wait_for_status(&web, "200");
    host.signal("web", Signal::STOP);

    let run = host.heal(&proposal("i-1", "service-unhealthy", "unit:web", "test-hang", "service-recover"));

    assert_eq!(run.state, RunState::Committed, "{run:?}");
    assert!(
        host.records()
            .iter()
            .any(|r| matches!(r, Record::Verified { phase: Phase::Fast, verdict: Verdict::Improved, .. }))
    );
}

#[test]
fn a_fault_that_is_not_there_is_not_treated_whatever_the_agent_says() {
    let web = web();
    let host = Host::start(&Setup {
        services: vec![web.clone()],
        remedies: vec!["service-recover"],
        playbooks: vec![("crash.yaml", playbook("test-crash", "service-crash", "unit:web", &quick("start")))],
        ..Setup::default()
    });
    Host::wait_for_status(&web, "200");

    let run = host.heal(&proposal("i-1", "service-crash", "unit:web", "test-crash", "service-recover"));

    assert_eq!(run.state, RunState::Superseded, "{run:?}");
    assert!(!host.records().iter().any(|r| matches!(r, Record::Intent { .. })));
}

#[test]
fn what_the_catalog_does_not_offer_is_refused_with_its_rule() {
    let web = web();
    let host = Host::start(&Setup {
        services: vec![web],
        remedies: vec!["service-recover"],
        playbooks: vec![("crash.yaml", playbook("test-crash", "service-crash", "unit:web", &quick("start")))],
        ..Setup::default()
    });
    let good = proposal("i-1", "service-crash", "unit:web", "test-crash", "service-recover");
    let rule = |change: &dyn Fn(&mut theriac_model::record::Proposal)| {
        let mut proposal = good.clone();
        change(&mut proposal);
        match host.propose(&proposal) {
            RunnerAnswer::NotAccepted { rule, .. } => rule,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(rule(&|p| p.target = "unit:db".parse().unwrap()), "target");
    assert_eq!(rule(&|p| p.playbook = "other".parse().unwrap()), "playbook");
    assert_eq!(rule(&|p| p.rung = 7), "rung");
    assert_eq!(rule(&|p| p.remedy = "disk-reclaim".parse().unwrap()), "remedy");
}
