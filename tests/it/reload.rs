//! `reload`: all of root's files are read and taken, or none.

use std::fs;

use rustix::process::Signal;
use theriac_model::run::RunState;
use theriac_protocol::operator::{OperatorAnswer, OperatorRequest};

use crate::host::{Host, Service, Setup, playbook, proposal};

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
