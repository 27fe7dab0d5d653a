//! `reload`: all of root's files are read and taken, or none.

use std::fs;

use rustix::process::Signal;
use theriac_model::record::{Action, Record};
use theriac_model::run::RunState;
use theriac_protocol::operator::{OperatorAnswer, OperatorRequest};
use theriac_protocol::runner::RunnerAnswer;

use crate::host::{Host, Service, Setup, is_root, playbook, proposal};

// CF35.
#[test]
fn a_file_with_a_mistake_is_refused_and_the_old_rules_stay() {
    let web = Service::new("web");
    let rung = "  - remedy: service-recover\n    params: { step: start }\n    level: 1\n    healed_within: 10s\n    stable_for: 300ms\n";
    let host = Host::start(&Setup {
        services: vec![web.clone()],
        remedies: vec!["service-recover"],
        playbooks: vec![("test.yaml", playbook("test", "service-crash", "unit:web", rung))],
        ..Setup::default()
    });
    Host::wait_for_status(&web, "200");
    fs::create_dir(host.layout.config.join("policies")).unwrap();
    for (name, mistake, said) in [
        ("runner.toml", "\nnonsense = 1\n", "nonsense"),
        ("trust.toml", "\n[[threshold]]\nclass = \"observe\"\nk = 0\n", "out of bounds"),
        ("playbooks/broken.yaml", "name: broken\nrungs: 7\n", "broken.yaml"),
        ("policies/broken.cedar", "permit (principal, action, resource", "broken.cedar"),
    ] {
        let path = host.layout.config.join(name);
        let before = fs::read_to_string(&path).ok();
        fs::write(&path, before.clone().unwrap_or_default() + mistake).unwrap();
        match host.operator(&OperatorRequest::Reload) {
            OperatorAnswer::Refused(why) => assert!(why.contains(said), "{name}: {why}"),
            other => panic!("{name}: {other:?}"),
        }
        match before {
            Some(text) => fs::write(&path, text).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
    }
    host.signal("web", Signal::KILL);
    let heals =
        |incident: &str| host.heal(&proposal(incident, "service-crash", "unit:web", "test", "service-recover")).state;
    assert_eq!(heals("i-1"), RunState::Committed, "by the rules that were there before");
    // One without a mistake is taken: from now on nothing is changed.
    host.change_mode("relaxed", "observe");
    assert_eq!(host.operator(&OperatorRequest::Reload), OperatorAnswer::Done);
    host.signal("web", Signal::KILL);
    host.wait_for_unit("web", |unit| !unit.is_up());
    assert_eq!(heals("i-2"), RunState::Refused);
}

// CF36.
#[test]
fn a_run_keeps_the_rules_it_began_with_and_the_next_one_has_the_new_ones() {
    if !is_root() {
        println!("not possible here: as one user a consent needs a signed note");
        return;
    }
    let web = Service::new("web");
    let rung = "  - remedy: service-recover\n    params: { step: start }\n    level: 2\n    healed_within: 10s\n    stable_for: 300ms\n";
    let host = Host::start(&Setup {
        services: vec![web.clone()],
        remedies: vec!["service-recover"],
        playbooks: vec![("test.yaml", playbook("test", "service-crash", "unit:web", rung))],
        mode: Some("strict"),
        ..Setup::default()
    });
    Host::wait_for_status(&web, "200");
    let crashed = |incident: &str| {
        host.signal("web", Signal::KILL);
        host.wait_for_unit("web", |unit| !unit.is_up());
        proposal(incident, "service-crash", "unit:web", "test", "service-recover")
    };
    let first = crashed("i-1");
    assert!(matches!(host.propose(&first), RunnerAnswer::Accepted { .. }));
    host.wait_for(&first, |state| state == RunState::AwaitingConsent);
    // From now on nobody is asked for a rung of level 2.
    host.change_mode("strict", "relaxed");
    assert_eq!(host.operator(&OperatorRequest::Reload), OperatorAnswer::Done);
    let OperatorAnswer::Waiting(Some(plan)) =
        host.operator(&OperatorRequest::Waiting { incident: first.incident.clone() })
    else {
        panic!("it no longer waits: {:#?}", host.records())
    };
    let yes = OperatorRequest::Consent { incident: first.incident.clone(), plan: plan.hash, note: None };
    assert_eq!(host.operator(&yes), OperatorAnswer::Done);
    assert_eq!(host.wait_for(&first, RunState::is_terminal).state, RunState::Committed);
    let decided = || -> Vec<Action> {
        let action = |record| if let Record::Decided { decision, .. } = record { Some(decision.action) } else { None };
        host.records().into_iter().filter_map(action).collect()
    };
    assert_eq!(decided(), [Action::RunWithConsent; 2], "also the plan that was made again after the yes");
    assert_eq!(host.heal(&crashed("i-2")).state, RunState::Committed);
    assert!(!decided()[2..].contains(&Action::RunWithConsent), "{:?}", decided());
}
