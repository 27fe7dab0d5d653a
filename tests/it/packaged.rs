//! What `cargo xtask package` lays out, in a machine with a real systemd: the units come up with users of their own and behind
//! their walls, and a real nginx that is killed, hung and given up by systemd is healed by signed remedies.
//!
//! The times it prints are from the fault to the first good answer over HTTP.

mod machine;

use std::time::{Duration, Instant};

use theriac_authority::host::Uids;
use theriac_model::record::Record;
use theriac_model::verdict::{Phase, Verdict};

use machine::Machine;

#[test]
fn the_packaged_units_heal_a_real_nginx() {
    let machine = match Machine::up() {
        Ok(machine) => machine,
        Err(why) => return println!("not possible here: {why}"),
    };
    each_daemon_is_active_with_a_user_of_its_own(&machine);
    the_runner_has_no_inet_socket_and_the_agent_no_rights(&machine);
    let times = [
        ("killed (SIGKILL)", a_killed_nginx_is_started_again(&machine)),
        ("hung (SIGSTOP)", a_hung_nginx_is_restarted(&machine)),
        ("start-limit-hit", a_unit_that_systemd_gave_up_is_reset_and_started(&machine)),
    ];
    every_effect_was_of_a_signed_remedy(&machine);
    a_killed_runner_comes_back_and_knows_what_was(&machine);
    println!("{:<20}{:>14}", "nginx", "fault→healed");
    times.iter().for_each(|(fault, took)| println!("{fault:<20}{:>12.2} s", took.as_secs_f64()));
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

/// Breaks nginx, and waits for the first good answer and for the incident to be over.
fn heal(machine: &Machine, kind: &str, broken: impl FnOnce() -> Instant) -> Duration {
    machine.until("nginx to answer before it is broken", || machine.nginx_answers());
    let known = machine.incidents().len();
    let began = broken();
    machine.until(&format!("nginx to answer after {kind}"), || machine.nginx_answers());
    let took = began.elapsed();
    machine.until(&format!("the incident of {kind} to be closed"), || {
        let incidents = machine.incidents();
        incidents.len() > known && incidents.iter().all(|incident| incident.closed)
    });
    let healed = machine.records().into_iter().any(|record| {
        matches!(record, Record::IncidentEnded { summary }
            if summary.kind.as_str() == kind && summary.healed_ms.is_some() && !summary.escalated)
    });
    assert!(healed, "no incident of kind {kind} ended healed");
    took
}

fn a_killed_nginx_is_started_again(machine: &Machine) -> Duration {
    heal(machine, "service-crash", || {
        let began = Instant::now();
        machine.kill_nginx("KILL");
        began
    })
}

fn a_hung_nginx_is_restarted(machine: &Machine) -> Duration {
    heal(machine, "service-unhealthy", || {
        let began = Instant::now();
        machine.kill_nginx("STOP");
        assert!(!machine.nginx_answers(), "it hangs");
        began
    })
}

/// systemd restarts it by itself, again and again, until it has had enough: until then Theriac lets systemd work.
fn a_unit_that_systemd_gave_up_is_reset_and_started(machine: &Machine) -> Duration {
    machine.nginx_drop_in(
        "[Unit]\nStartLimitBurst=2\nStartLimitIntervalSec=1h\n[Service]\nRestart=always\nRestartSec=50ms\n",
    );
    let took = heal(machine, "start-limit-hit", || {
        loop {
            let began = Instant::now();
            machine.kill_nginx("KILL");
            machine.until("systemd to have acted", || {
                matches!(&*machine.property("nginx", "ActiveState"), "active" | "failed")
            });
            if machine.was_given_up() {
                return began;
            }
        }
    });
    assert_eq!(machine.property("nginx", "ActiveState"), "active");
    took
}

fn every_effect_was_of_a_signed_remedy(machine: &Machine) {
    let records = machine.records();
    let signed =
        records.iter().filter(|record| matches!(record, Record::RemedyLoaded { signers, .. } if signers.len() == 1));
    assert_eq!(signed.count(), 4, "the four that ship");
    assert!(!records.iter().any(|record| matches!(record, Record::RemedyRefused { .. })));
    let improved = records
        .iter()
        .filter(|record| matches!(record, Record::Verified { phase: Phase::Fast, verdict: Verdict::Improved, .. }));
    assert!(improved.count() >= 3, "one run for each fault");
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
