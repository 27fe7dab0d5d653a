//! `on_ambiguous`: the runner dies after an effect and before it has written what came of it. The next one looks, and then does what
//! the manifest says.

use std::time::Instant;

use rustix::process::Signal;
use theriac_model::record::Record;
use theriac_model::run::RunState;

use crate::deny::rung;
use crate::host::{Host, PATIENCE, Service, Setup, guest_with_line, pause, playbook, proposal};

fn killed_in_the_middle(on_ambiguous: &str) -> (RunState, Vec<Record>) {
    let web = Service::new("web");
    let line = format!("on_ambiguous = \"{on_ambiguous}\"");
    let remedy = guest_with_line("service-recover", "on_ambiguous = \"observe\"", &line);
    let setup = Setup {
        services: vec![web.clone()],
        packages: vec![("service-recover", remedy)],
        playbooks: vec![("test.yaml", playbook("test", "service-crash", "unit:web", &rung("service-recover")))],
        runner_args: vec!["--crash-at".to_owned(), "gate.after-apply".to_owned()],
        ..Setup::default()
    };
    let mut host = Host::start(&setup);
    Host::wait_for_status(&web, "200");
    host.signal("web", Signal::KILL);
    host.wait_for_unit("web", |unit| !unit.is_up());
    let proposal = proposal("i-1", "service-crash", "unit:web", "test", "service-recover");
    let _may_be_gone = host.try_propose(&proposal);
    let deadline = Instant::now() + PATIENCE;
    while !host.runner_is_gone() {
        assert!(Instant::now() < deadline, "the runner lives\n{}", host.log("theriac-runner"));
        pause();
    }
    host.start_runner(&[]);
    let state = host.wait_for(&proposal, RunState::is_terminal).state;
    Host::wait_for_status(&web, "200");
    (state, host.records())
}

#[test]
fn what_may_have_happened_goes_the_way_that_the_manifest_says() {
    for (word, wanted, taken_back) in [
        ("observe", RunState::Committed, false),
        ("undo", RunState::Undone, true),
        ("ask", RunState::FailedNeedsPerson, false),
    ] {
        let (state, records) = killed_in_the_middle(word);
        assert_eq!(state, wanted, "{word}: {records:#?}");
        let undone = records.iter().any(|record| matches!(record, Record::UndoDone { .. }));
        assert_eq!(undone, taken_back, "{word}: {records:#?}");
        let done = records.iter().filter(|record| matches!(record, Record::Done { .. })).count();
        assert_eq!(done, 1, "{word}: looked at and settled, and not done again: {records:#?}");
    }
}
