//! What the agent may see of logs: the end of a listed unit's, as text, and nothing else.

use theriac_model::id::UnitName;
use theriac_protocol::runner::{RunnerAnswer, RunnerRequest};

use crate::host::{Host, Service, Setup};

fn tail(host: &Host, unit: &str) -> RunnerAnswer {
    host.ask(&RunnerRequest::LogTail { unit: UnitName::parse(unit).unwrap(), lines: u32::MAX })
}

#[test]
fn the_agent_is_told_the_end_of_a_listed_services_log_and_of_no_other() {
    // It says why it does not start, as services do.
    let web = Service { args: vec!["--config".to_owned(), "/nonexistent/web.conf".to_owned()], ..Service::new("web") };
    let host = Host::start(&Setup { services: vec![web], ..Setup::default() });
    host.wait_for_unit("web", |unit| !unit.is_up() && unit.result != "success");
    match tail(&host, "web") {
        RunnerAnswer::Lines(lines) => assert!(lines.iter().any(|line| line.contains("No such file")), "{lines:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        tail(&host, "sshd.service"),
        RunnerAnswer::Refused("`sshd.service` is not listed in runner.toml".to_owned())
    );
}

// RN01.
#[test]
fn a_compromised_agent_can_not_keep_the_runner_busy_with_logs() {
    let host = Host::start(&Setup { services: vec![Service::new("web")], ..Setup::default() });
    let refused = (0..70).filter(|_| matches!(tail(&host, "web"), RunnerAnswer::Refused(_))).count();
    assert!((1..=10).contains(&refused), "{refused} of 70");
}
