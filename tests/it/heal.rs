//! Faults made for real, healed by the runner with the shipped remedies, from proposal to commit.

use rustix::process::Signal;
use theriac_model::effect::Outcome;
use theriac_model::record::{Proposal, Record};
use theriac_model::run::RunState;
use theriac_model::verdict::{Phase, Verdict};
use theriac_protocol::runner::RunnerAnswer;

use crate::host::{Host, Service, Setup, playbook, proposal};

/// A host with one service that is up, and a playbook of one rung for it: `service-recover` with that step.
struct Served {
    host: Host,
    web: Service,
    proposal: Proposal,
}

fn served(kind: &str, step: &str) -> Served {
    let rung = format!(
        "  - remedy: service-recover\n    params: {{ step: {step} }}\n    level: 1\n    healed_within: 10s\n    stable_for: 500ms\n"
    );
    let web = Service::new("web");
    let host = Host::start(&Setup {
        services: vec![web.clone()],
        remedies: vec!["service-recover"],
        playbooks: vec![("test.yaml", playbook("test", kind, "unit:web", &rung))],
        ..Setup::default()
    });
    Host::wait_for_status(&web, "200");
    Served { host, web, proposal: proposal("i-1", kind, "unit:web", "test", "service-recover") }
}

// RN12, RN13.
#[test]
fn a_killed_service_is_started_again_and_the_run_is_committed() {
    let Served { host, web, proposal } = served("service-crash", "start");
    let before = host.main_pid("web");
    host.signal("web", Signal::KILL);

    let run = host.heal(&proposal);

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
    let Served { host, proposal, .. } = served("service-unhealthy", "restart");
    host.signal("web", Signal::STOP);

    let run = host.heal(&proposal);

    assert_eq!(run.state, RunState::Committed, "{run:?}");
    assert!(
        host.records()
            .iter()
            .any(|r| matches!(r, Record::Verified { phase: Phase::Fast, verdict: Verdict::Improved, .. }))
    );
}

// RN10.
#[test]
fn a_fault_that_is_not_there_is_not_treated_whatever_the_agent_says() {
    let Served { host, proposal, .. } = served("service-crash", "start");

    let run = host.heal(&proposal);

    assert_eq!(run.state, RunState::Superseded, "{run:?}");
    assert!(!host.records().iter().any(|r| matches!(r, Record::Intent { .. })));
}

// RN04.
#[test]
fn what_the_catalog_does_not_offer_is_refused_with_its_rule() {
    let Served { host, proposal: good, .. } = served("service-crash", "start");
    let rule = |change: &dyn Fn(&mut Proposal)| {
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
