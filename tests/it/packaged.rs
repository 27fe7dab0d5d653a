//! What `cargo xtask package` lays out, in a machine with a real systemd: the units come up with users of their own and behind
//! their walls, and a real nginx that is killed, hung and given up by systemd is healed by signed remedies.
//!
//! The times it prints are from the fault to the first good answer over HTTP.

mod configuration;
mod cpu;
mod disk;
mod kernel;
mod machine;
mod memory;
mod nginx;

use std::time::{Duration, Instant};

use theriac_authority::host::Uids;
use theriac_model::effect::Effect;
use theriac_model::id::RunId;
use theriac_model::incident::IncidentState;
use theriac_model::record::Record;
use theriac_model::run::RunState;
use theriac_model::verdict::{Phase, Verdict};

use machine::Machine;

#[test]
fn the_packaged_units_heal_real_faults() {
    let machine = match Machine::up() {
        Ok(machine) => machine,
        Err(why) => return println!("not possible here: {why}"),
    };
    each_daemon_is_active_with_a_user_of_its_own(&machine);
    the_runner_has_no_inet_socket_and_the_agent_no_rights(&machine);
    let healed =
        if machine.is_virtual() { what_takes_a_kernel_of_its_own(&machine) } else { what_a_container_shows(&machine) };
    every_effect_was_of_a_signed_remedy(&machine, healed.len());
    if !machine.is_virtual() {
        systemds_own_word_on_the_killed_unit_is_evidence(&machine);
    }
    a_killed_runner_comes_back_and_knows_what_was(&machine);
    one_that_does_not_come_back_has_a_last_hand(&machine);
    println!("{:<34}{:>14}{:>10}", "fault", "fault→healed", "mission");
    for Healed { fault, took, .. } in &healed {
        println!("{:<34}{:>12.2} s{:>8} s", fault.name, took.as_secs_f64(), fault.mission.as_secs());
    }
}

/// Cgroup version 2 with every controller, and swap.
fn what_takes_a_kernel_of_its_own(machine: &Machine) -> Vec<Healed> {
    vec![memory::leaks_and_is_held(machine), cpu::is_throttled(machine)]
}

fn what_a_container_shows(machine: &Machine) -> Vec<Healed> {
    vec![
        nginx::is_killed_and_started_again(machine),
        nginx::hangs_and_is_restarted(machine),
        nginx::is_given_up_and_then_reset_and_started(machine),
        disk::is_full_and_its_rotated_logs_are_archived(machine),
        disk::is_full_and_its_rotated_logs_are_removed(machine),
        cpu::is_throttled(machine),
        cpu::is_restarted_where_a_throttle_does_not_help(machine),
        memory::leaks_and_is_relieved(machine),
    ]
}

/// Out of journald's files, through the runner behind its walls, to the agent that may not read them.
fn systemds_own_word_on_the_killed_unit_is_evidence(machine: &Machine) {
    let lines = machine.log_evidence("unit:nginx.service");
    let killed =
        lines.iter().find(|line| line.contains("nginx.service: Main process exited, code=killed, status=9/KILL"));
    println!("evidence out of the journal: {}", killed.unwrap_or_else(|| panic!("not among {lines:#?}")));
}

fn each_daemon_is_active_with_a_user_of_its_own(machine: &Machine) {
    // Units, users and the runner's own idea of them are written in three places.
    let users = Uids::built_in();
    for (unit, uid) in
        [("theriac-runner", 0), ("theriac-agent", users.agent), ("theriac-courier-net", users.courier_net)]
    {
        machine.until(&format!("{unit} to be active"), || machine.property(unit, "ActiveState") == "active");
        let status = machine.status_of(unit);
        let uids = [uid; 4].map(|uid| uid.to_string()).join("\t");
        assert_eq!(status.field("Uid"), uids, "{unit}");
        assert_eq!(status.field("NoNewPrivs"), "1", "{unit}");
        assert_eq!(status.field("Seccomp"), "2", "{unit} is behind no filter");
        println!("{unit}: uid {uid}, pid {}, rights {}", machine.property(unit, "MainPID"), status.field("CapEff"));
    }
    assert_eq!(machine.property("theriac.target", "ActiveState"), "active");
    assert_eq!(machine.property("theriac-launcher", "ActiveState"), "inactive", "services are units here");
}

fn the_runner_has_no_inet_socket_and_the_agent_no_rights(machine: &Machine) {
    assert_eq!(machine.inet_sockets("theriac-runner"), 0);
    for unit in ["theriac-agent", "theriac-courier-net"] {
        let status = machine.status_of(unit);
        for rights in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            assert_eq!(status.field(rights), "0000000000000000", "{unit} {rights}");
        }
        assert_eq!(status.field("Groups"), "", "{unit} kept root's groups");
    }
    let modules = 1_u64 << 16;
    let rights = u64::from_str_radix(&machine.status_of("theriac-runner").field("CapBnd"), 16).unwrap();
    assert_eq!(rights & modules, 0, "the runner can't load modules, whatever it becomes");
}

/// What is broken.
struct Fault {
    name: &'static str,
    kind: &'static str,
    target: &'static str,
    /// How soon it has to be healed.
    mission: Duration,
}

/// What came of it.
struct Healed {
    fault: Fault,
    /// From the fault to the first moment at which the target is well, seen from outside.
    took: Duration,
    /// What the runner wrote of its runs for the target, from the fault to the end of the incident.
    records: Vec<Record>,
}

/// Breaks the target, and waits until it is well and the incident is over. `broken` returns when the fault began.
fn heal(
    machine: &Machine,
    fault: Fault,
    broken: impl FnOnce() -> Instant,
    mut is_well: impl FnMut() -> bool,
) -> Healed {
    let Fault { name, target, .. } = fault;
    machine.until(&format!("{target} to be well before it is broken"), &mut is_well);
    let (known, written) = (machine.incidents(target).len(), machine.records().len());
    let began = broken();
    machine.until(&format!("{target} to be well after {name}"), is_well);
    let took = began.elapsed();
    let mut records = Vec::new();
    machine.until(&format!("the incident of {name} to be closed and told"), || {
        let incidents = machine.incidents(target);
        records = machine.records().split_off(written);
        let closed = incidents.len() > known && incidents.iter().all(|state| *state == IncidentState::Closed);
        closed && records.iter().any(|record| ended_healed(record, &fault))
    });
    let runs: Vec<RunId> = records.iter().filter_map(|record| run_for(record, target)).collect();
    records.retain(|record| record.run().is_some_and(|run| runs.contains(run)));
    Healed { fault, took, records }
}

fn ended_healed(record: &Record, fault: &Fault) -> bool {
    matches!(record, Record::IncidentEnded { summary } if summary.kind.as_str() == fault.kind
        && summary.target.to_string() == fault.target && summary.healed_ms.is_some() && !summary.escalated)
}

fn run_for(record: &Record, target: &str) -> Option<RunId> {
    match record {
        Record::Reserved { run, proposal } if proposal.target.to_string() == target => Some(run.clone()),
        _ => None,
    }
}

impl Healed {
    /// The effects that were done, in order.
    fn effects(&self) -> Vec<&Effect> {
        self.records
            .iter()
            .filter_map(|record| match record {
                Record::Intent { effect, .. } => Some(effect),
                _ => None,
            })
            .collect()
    }

    /// How each run ended, in order.
    fn runs(&self) -> Vec<RunState> {
        let end = |record: &Record| match record {
            Record::Moved { state, .. } if state.is_terminal() => Some(*state),
            _ => None,
        };
        self.records.iter().filter_map(end).collect()
    }
}

fn every_effect_was_of_a_signed_remedy(machine: &Machine, faults: usize) {
    let records = machine.records();
    let signed =
        records.iter().filter(|record| matches!(record, Record::RemedyLoaded { signers, .. } if signers.len() == 1));
    assert_eq!(signed.count(), configuration::REMEDIES.len(), "those that ship");
    assert!(!records.iter().any(|record| matches!(record, Record::RemedyRefused { .. })));
    let improved = records
        .iter()
        .filter(|record| matches!(record, Record::Verified { phase: Phase::Fast, verdict: Verdict::Improved, .. }));
    assert!(improved.count() >= faults, "one run for each fault");
}

fn a_killed_runner_comes_back_and_knows_what_was(machine: &Machine) {
    let before = machine.property("theriac-runner", "MainPID");
    let known = machine.records().len();
    machine.run(&["systemctl", "kill", "--signal=KILL", "--kill-who=main", "theriac-runner"]);
    machine.until("the runner to be another process", || {
        machine.property("theriac-runner", "ActiveState") == "active"
            && machine.property("theriac-runner", "MainPID") != before
    });
    assert!(machine.records().len() > known, "all of it, and its new start");
}

/// It can't read its configuration any more; systemd gives it up.
fn one_that_does_not_come_back_has_a_last_hand(machine: &Machine) {
    let configuration = machine.run(&["cat", "/etc/theriac/runner.toml"]);
    machine.write("/etc/theriac/runner.toml", "mode = \"nonsense\"\n");
    machine.run(&["systemctl", "kill", "--signal=KILL", "--kill-who=main", "theriac-runner"]);
    machine.until("the runner to be given up", || machine.property("theriac-runner", "ActiveState") == "failed");
    machine.until("the last hand to have ended", || {
        let last = |name| machine.property("theriac-put-back", name);
        last("ExecMainExitTimestampMonotonic") != "0" && last("ActiveState") != "activating"
    });
    assert_eq!(machine.property("theriac-put-back", "Result"), "success");
    machine.write("/etc/theriac/runner.toml", &configuration);
    machine.run(&["systemctl", "reset-failed", "theriac-runner"]);
    machine.run(&["systemctl", "start", "theriac-runner"]);
    machine.until("the runner to be back", || machine.property("theriac-runner", "ActiveState") == "active");
}
