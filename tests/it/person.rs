//! Where a person comes in: consents, refusals, holds. The runner keeps them, and the agent has no part in it.

use rustix::process::Signal;
use theriac_model::record::Record;
use theriac_model::run::RunState;
use theriac_protocol::operator::{OperatorAnswer, OperatorRequest};
use theriac_protocol::runner::RunnerAnswer;

use crate::host::{Host, Service, Setup, is_root, playbook, proposal};

fn crashed(mode: Option<&'static str>, level: u8) -> (Host, theriac_model::record::Proposal) {
    let web = Service::new("web");
    let rung = format!(
        "  - remedy: service-recover\n    params: {{ step: start }}\n    level: {level}\n    healed_within: 10s\n    stable_for: 500ms\n"
    );
    let host = Host::start(&Setup {
        services: vec![web.clone()],
        remedies: vec!["service-recover"],
        playbooks: vec![("crash.yaml", playbook("test", "service-crash", "unit:web", &rung))],
        mode,
        ..Setup::default()
    });
    Host::wait_for_status(&web, "200");
    host.signal("web", Signal::KILL);
    (host, proposal("i-1", "service-crash", "unit:web", "test", "service-recover"))
}

fn waiting(host: &Host, proposal: &theriac_model::record::Proposal) -> theriac_protocol::operator::WaitingPlan {
    host.wait_for(proposal, |state| state == RunState::AwaitingConsent);
    match host.operator(&OperatorRequest::Waiting { incident: proposal.incident.clone() }) {
        OperatorAnswer::Waiting(Some(plan)) => *plan,
        other => panic!("{other:?}"),
    }
}

// RN06.
#[test]
fn a_level_three_rung_waits_for_exactly_the_plan_that_is_shown() {
    if !is_root() {
        println!("not possible here: as one user a consent needs a signed note (tested in the authority crate)");
        return;
    }
    let (host, proposal) = crashed(None, 3);
    assert!(matches!(host.propose(&proposal), RunnerAnswer::Accepted { .. }));
    let shown = waiting(&host, &proposal);
    assert!(!shown.needs_note);

    let other = theriac_model::plan::PlanHash(theriac_model::id::Digest::of(b"another plan"));
    let wrong = OperatorRequest::Consent { incident: proposal.incident.clone(), plan: other, note: None };
    assert!(matches!(host.operator(&wrong), OperatorAnswer::Refused(_)));
    assert!(
        !host.records().iter().any(|record| matches!(record, Record::Intent { .. })),
        "nothing was done while it waited"
    );

    let right = OperatorRequest::Consent { incident: proposal.incident.clone(), plan: shown.hash, note: None };
    assert_eq!(host.operator(&right), OperatorAnswer::Done);
    assert_eq!(host.wait_for(&proposal, RunState::is_terminal).state, RunState::Committed);
}

#[test]
fn a_no_ends_the_run_and_is_told_to_the_agent() {
    let (host, proposal) = crashed(None, 3);
    assert!(matches!(host.propose(&proposal), RunnerAnswer::Accepted { .. }));
    waiting(&host, &proposal);
    assert_eq!(host.operator(&OperatorRequest::Decline { incident: proposal.incident.clone() }), OperatorAnswer::Done);
    let run = host.wait_for(&proposal, RunState::is_terminal);
    assert_eq!(run.state, RunState::Refused);
    assert!(run.declined);
}

#[test]
fn in_mode_observe_a_plan_is_made_and_nothing_is_changed() {
    let (host, proposal) = crashed(Some("observe"), 1);
    let run = host.heal(&proposal);
    assert_eq!(run.state, RunState::Refused, "{run:?}");
    let records = host.records();
    assert!(records.iter().any(|record| matches!(record, Record::Planned { .. })), "the plan is shown");
    assert!(!records.iter().any(|record| matches!(record, Record::Intent { .. })));
}

#[test]
fn a_hold_outlives_a_kill_of_the_runner_and_ends_when_it_is_lifted() {
    let (mut host, proposal) = crashed(None, 1);
    let hold = OperatorRequest::Hold { target: None, span: None };
    assert_eq!(host.operator(&hold), OperatorAnswer::Done);
    host.kill_runner();
    host.start_runner(&[]);
    match host.propose(&proposal) {
        RunnerAnswer::NotAccepted { rule, .. } => assert_eq!(rule, "hold"),
        other => panic!("{other:?}"),
    }
    assert_eq!(host.operator(&OperatorRequest::Resume { target: None }), OperatorAnswer::Done);
    assert_eq!(host.heal(&proposal).state, RunState::Committed);
}

// RN02, RN03.
#[test]
fn one_proposal_sent_twice_is_one_run() {
    let (host, proposal) = crashed(None, 3);
    let first = host.propose(&proposal);
    let second = host.propose(&proposal);
    assert_eq!(first, second);
    let reserved = host.records().iter().filter(|record| matches!(record, Record::Reserved { .. })).count();
    assert_eq!(reserved, 1);
}
