//! Services that crash, hang, or are given up by their service manager.

use std::fs;

use rustix::process::{Pid, Signal, test_kill_process};
use theriac_model::run::RunState;

use super::stage::{Stage, Whole, starts_of};
use crate::host::{Host, Service, Setup};

/// A stage with one service on it.
pub(super) fn stage(
    kind: &'static str,
    service: &Service,
    fault: impl FnOnce(&Host, Service) -> Whole + 'static,
) -> Stage {
    stage_in(Host::scratch(), kind, service, fault)
}

pub(super) fn stage_in(
    dir: tempfile::TempDir,
    kind: &'static str,
    service: &Service,
    fault: impl FnOnce(&Host, Service) -> Whole + 'static,
) -> Stage {
    let mine = service.clone();
    Stage {
        dir,
        setup: Setup { services: vec![service.clone()], ..Setup::default() },
        kind,
        target: format!("unit:{}", service.name),
        fault: Box::new(move |host| fault(host, mine)),
        keep: Vec::new(),
    }
}

/// For one fault it comes up at most once more, and it serves when the run says so.
pub(super) fn started_once_at_most(host: &Host, service: Service) -> Whole {
    let before = starts_of(host, service.name);
    Box::new(move |host, state| {
        if state == RunState::Committed {
            Host::wait_for_status(&service, "200");
        }
        let starts = starts_of(host, service.name) - before;
        assert!(starts <= 1, "{state}: it was started {starts} times for one fault");
        assert!(state != RunState::Committed || starts == 1, "{state}: nobody started it");
    })
}

pub(super) fn crashed() -> Stage {
    stage("service-crash", &Service::new("web"), |host, web| {
        Host::wait_for_status(&web, "200");
        host.signal("web", Signal::KILL);
        host.wait_for_unit("web", |unit| !unit.is_up());
        started_once_at_most(host, web)
    })
}

/// Stopped by a signal: it runs and does not answer, and a polite request to end does not reach it.
pub(super) fn hung() -> Stage {
    stage("service-unhealthy", &Service::new("web"), |host, web| {
        Host::wait_for_status(&web, "200");
        let old = host.main_pid("web");
        host.signal("web", Signal::STOP);
        let once = started_once_at_most(host, web.clone());
        Box::new(move |host, state| {
            once(host, state);
            // Killed and not started again would be half a repair.
            if !is_there(old) {
                Host::wait_for_status(&web, "200");
            }
        })
    })
}

fn is_there(pid: Pid) -> bool {
    test_kill_process(pid).is_ok()
}

/// Its configuration was missing until the launcher gave it up; now it is there.
pub(super) fn given_up() -> Stage {
    let dir = Host::scratch();
    let config = dir.path().join("web.conf");
    let mut web = Service::new("web");
    web.args = vec!["--config".into(), config.display().to_string()];
    web.restart =
        "restart = \"on-failure\"\nrestart_delay = \"20ms\"\nstart_limit_burst = 2\nstart_limit_interval = \"1h\"";
    stage_in(dir, "start-limit-hit", &web, move |host, web| {
        host.wait_for_unit("web", |unit| unit.result == "start-limit-hit");
        fs::write(config, "workers = 4\n").unwrap();
        started_once_at_most(host, web)
    })
}
