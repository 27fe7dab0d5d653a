//! A real nginx that is killed, hung, and given up by systemd.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::{Duration, Instant};

use super::configuration::Playbook;
use super::machine::Machine;
use super::{Fault, Healed, heal};

pub(super) const LISTED: &str = r#"
[[unit]]
name            = "nginx.service"
verbs           = ["start", "restart", "reset-failed", "kill"]
traffic_share   = 0.1
health          = [{ http = "http://127.0.0.1:80/", status = 200, timeout = "500ms" }]
health_failures = 3
"#;

pub(super) fn playbooks() -> Vec<Playbook> {
    let playbook =
        |kind, rung| Playbook { name: kind, kind, target: None, rungs: vec![("service-recover", rung, 1, "30s")] };
    vec![
        playbook("service-crash", "step: start"),
        playbook("service-unhealthy", "step: restart"),
        playbook("start-limit-hit", "step: reset-and-start"),
    ]
}

pub(super) fn install(machine: &Machine) {
    drop_in(machine, "[Service]\nRestart=no\n");
    machine.run(&["systemctl", "start", "nginx"]);
}

pub(super) fn is_killed_and_started_again(machine: &Machine) -> Healed {
    break_it(machine, "killed (SIGKILL)", "service-crash", || {
        let began = Instant::now();
        signal(machine, "KILL");
        began
    })
}

/// Ten seconds of it are nginx' own unit: its ExecStop waits five for a process that can't answer, and its TimeoutStopSec five more.
pub(super) fn hangs_and_is_restarted(machine: &Machine) -> Healed {
    break_it(machine, "hung (SIGSTOP)", "service-unhealthy", || {
        let began = Instant::now();
        signal(machine, "STOP");
        assert!(!answers(machine), "it hangs");
        began
    })
}

/// systemd restarts it by itself, again and again, until it has had enough: until then Theriac lets systemd work.
pub(super) fn is_given_up_and_then_reset_and_started(machine: &Machine) -> Healed {
    drop_in(
        machine,
        "[Unit]\nStartLimitBurst=2\nStartLimitIntervalSec=1h\n[Service]\nRestart=always\nRestartSec=50ms\n",
    );
    let healed = break_it(machine, "start-limit-hit", "start-limit-hit", || {
        loop {
            let began = Instant::now();
            signal(machine, "KILL");
            machine.until("systemd to have acted", || {
                matches!(&*machine.property("nginx", "ActiveState"), "active" | "failed")
            });
            if was_given_up(machine) {
                return began;
            }
        }
    });
    assert_eq!(machine.property("nginx", "ActiveState"), "active");
    healed
}

fn break_it(machine: &Machine, name: &'static str, kind: &'static str, broken: impl FnOnce() -> Instant) -> Healed {
    let fault = Fault { name, kind, target: "unit:nginx.service", mission: Duration::from_secs(3) };
    heal(machine, fault, broken, || answers(machine))
}

/// A signal to all of nginx, as a kernel or a bug would: not through Theriac.
fn signal(machine: &Machine, signal: &str) {
    machine.run(&["systemctl", "kill", &format!("--signal={signal}"), "--kill-who=all", "nginx"]);
}

/// More of nginx' unit, in force at once.
fn drop_in(machine: &Machine, text: &str) {
    machine.write("/etc/systemd/system/nginx.service.d/test.conf", text);
    machine.run(&["systemctl", "daemon-reload"]);
}

/// systemd starts it no more, unless it has been reset since.
fn was_given_up(machine: &Machine) -> bool {
    machine
        .run(&["journalctl", "--no-pager", "--unit=nginx.service", "--output=cat"])
        .contains("Start request repeated too quickly")
}

/// A GET in the machine's own network is answered with 200.
fn answers(machine: &Machine) -> bool {
    let network = File::open(format!("/proc/{}/ns/net", machine.place().leader())).unwrap();
    // A thread of its own: a thread that entered a network does not come back.
    let asked = thread::spawn(move || {
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(network.as_fd(), kind).unwrap();
        get().unwrap_or(false)
    });
    asked.join().unwrap()
}

fn get() -> std::io::Result<bool> {
    let mut stream = TcpStream::connect("127.0.0.1:80")?;
    stream.set_read_timeout(Some(Duration::from_millis(300)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    Ok(start.ends_with(b" 200"))
}
