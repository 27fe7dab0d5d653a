//! The runner is killed with SIGKILL at each named step of each kind of run and started again: it finishes or takes back that
//! run, never twice and never half, and the ledger still verifies.

use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

use rustix::process::Signal;
use theriac_model::effect::UndoOutcome;
use theriac_model::record::{Proposal, Record};
use theriac_model::run::RunState;
use theriac_runner::crash::CRASH_POINTS;

use crate::host::{Host, PATIENCE, Service, Setup, pause, playbook, proposal};

/// A kind of run: how its host is set up, how its fault is made, and what must be true when it is over.
struct Scenario {
    name: &'static str,
    host: Host,
    proposal: Proposal,
    /// Checked after the end, however the run ended.
    whole: Box<dyn Fn(&Host, RunState)>,
}

const QUICK: &str = "    level: 1\n    healed_within: 3s\n    stable_for: 300ms\n";

fn start_again() -> Scenario {
    let web = Service::new("web");
    let rung = format!("  - remedy: service-recover\n    params: {{ step: start }}\n{QUICK}");
    let host = Host::start(&Setup {
        services: vec![web.clone()],
        remedies: vec!["service-recover"],
        playbooks: vec![("test.yaml", playbook("test", "service-crash", "unit:web", &rung))],
        ..Setup::default()
    });
    Host::wait_for_status(&web, "200");
    host.signal("web", Signal::KILL);
    let whole = move |host: &Host, state: RunState| {
        if state == RunState::Committed {
            Host::wait_for_status(&web, "200");
        }
        assert!(starts_of(host, "web") <= 1, "it was started twice for one crash");
    };
    Scenario {
        name: "service-recover start",
        host,
        proposal: proposal("i-1", "service-crash", "unit:web", "test", "service-recover"),
        whole: Box::new(whole),
    }
}

/// A repair that does not help, so that every step of the undo is reached too.
fn replace_and_take_back() -> Scenario {
    let dir = Host::scratch();
    let config = dir.path().join("granted/app.conf");
    fs::create_dir(dir.path().join("granted")).unwrap();
    fs::write(&config, "workers = 4\n").unwrap();
    let mut sick = Service::new("sick");
    sick.args = vec!["--needs".into(), dir.path().join("missing").display().to_string()];
    let rung = format!("  - remedy: misguided\n{QUICK}");
    let rules = format!("\n[[directory]]\npath = \"{}\"\nlabel = \"config\"\nverbs = [\"replace\"]\n", dir.path().join("granted").display());
    let host = Host::start_in(
        dir,
        &Setup {
            services: vec![sick.clone()],
            remedies: vec!["misguided"],
            rules,
            playbooks: vec![("test.yaml", playbook("test", "service-unhealthy", "unit:sick", &rung))],
            ..Setup::default()
        },
    );
    Host::wait_for_status(&sick, "503");
    let whole = move |_: &Host, state: RunState| {
        assert!(matches!(state, RunState::Undone | RunState::Superseded), "{state}");
        assert_eq!(fs::read_to_string(&config).unwrap(), "workers = 4\n");
        let left: Vec<_> = fs::read_dir(config.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["app.conf"], "nothing of ours is left behind");
    };
    Scenario {
        name: "misguided replace",
        host,
        proposal: proposal("i-1", "service-unhealthy", "unit:sick", "test", "misguided"),
        whole: Box::new(whole),
    }
}

fn starts_of(host: &Host, service: &str) -> usize {
    let log = host.log("theriac-launcher");
    // The first start is autostart's.
    let started = |line: &&str| line.contains(&format!("service={service}")) && line.contains("running");
    log.lines().filter(started).count().saturating_sub(1)
}

/// Runs the scenario with the runner dying at the point; `false` when the point was not reached.
fn dies_at(scenario: fn() -> Scenario, point: &str) -> bool {
    let Scenario { name, mut host, proposal, whole } = scenario();
    assert!(host.stop_runner().success());
    host.start_runner(&["--crash-at", point]);
    // The runner may die before it answers: that is the point.
    let _answered = host.try_propose(&proposal);
    let died = wait_for_death_or_end(&mut host, &proposal);
    if !died {
        return false;
    }
    host.start_runner(&[]);
    let state = host.try_state(&proposal).map_or(RunState::Superseded, |_| host.wait_for(&proposal, RunState::is_terminal).state);
    let told = format!("{name} killed at {point}: {state}");
    assert_ne!(state, RunState::FailedNeedsPerson, "{told}\n{:#?}", host.records());
    whole(&host, state);
    every_intent_is_settled(&host, &told);
    assert!(host.stop_runner().success());
    host.verify_ledger();
    println!("{told}");
    true
}

fn wait_for_death_or_end(host: &mut Host, proposal: &Proposal) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if host.runner_is_gone() {
            return true;
        }
        if host.try_state(proposal).is_some_and(RunState::is_terminal) {
            return host.runner_is_gone();
        }
        assert!(Instant::now() < deadline, "neither dead nor done");
        pause();
    }
}

/// I1 to I3 and I6 of the crash design: an outcome for every intent, and each effect taken back at most once.
fn every_intent_is_settled(host: &Host, told: &str) {
    let records = host.records();
    let done: BTreeSet<u32> = records.iter().filter_map(|r| if let Record::Done { index, .. } = r { Some(*index) } else { None }).collect();
    let restored: Vec<u32> = records
        .iter()
        .filter_map(|r| if let Record::UndoDone { index, outcome: UndoOutcome::Restored, .. } = r { Some(*index) } else { None })
        .collect();
    for record in &records {
        if let Record::Intent { index, .. } = record {
            assert!(done.contains(index), "{told}: effect {index} has no outcome\n{records:#?}");
        }
    }
    let distinct: BTreeSet<u32> = restored.iter().copied().collect();
    assert_eq!(distinct.len(), restored.len(), "{told}: an effect was taken back twice");
}

fn at_every_point(scenario: fn() -> Scenario, wanted: &[&str]) {
    let hit: Vec<&str> = CRASH_POINTS.iter().copied().filter(|point| dies_at(scenario, point)).collect();
    println!("{} of {} points were reached: {hit:?}", hit.len(), CRASH_POINTS.len());
    for point in wanted {
        assert!(hit.contains(point), "`{point}` was not reached");
    }
}

#[test]
fn a_run_that_starts_a_service_survives_a_kill_at_every_point() {
    let wanted = ["run.reserved", "run.planned", "run.running", "run.verifying", "run.healed", "gate.before-intent", "gate.after-intent", "gate.after-apply", "gate.after-done"];
    at_every_point(start_again, &wanted);
}

#[test]
fn a_run_that_is_taken_back_survives_a_kill_at_every_point() {
    let wanted = ["run.undoing", "gate.after-intent", "files.replace-before-rename", "undo.after-intent", "undo.after-apply", "undo.after-done"];
    at_every_point(replace_and_take_back, &wanted);
}
