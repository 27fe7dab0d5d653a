//! The systemd backend against a real systemd and a real nginx.

mod journal;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use theriac_model::id::UnitName;
use theriac_model::unit::{ActiveState, KillWhom, Property, Signal};
use theriac_runner::backend::systemd::Systemd;
use theriac_runner::backend::{ServiceManager, UnitError};
use theriac_tests::systemd_box::{SystemdBox, Up};

const TIMEOUT: Duration = Duration::from_secs(60);

struct World {
    machine: SystemdBox,
    systemd: Systemd,
}

/// One boot for all of them: each leaves nginx as it found it, running.
// SV10, PR05.
#[test]
fn the_systemd_backend_drives_a_real_nginx() {
    let machine = match SystemdBox::up("backend").unwrap() {
        Up::Ready(machine) => machine,
        Up::NotPossible(why) => return println!("not possible here: {why}"),
    };
    if !machine.root().join("lib/systemd/system/nginx.service").exists() {
        return println!("not possible here: nginx is not installed");
    }
    units_of_our_own(&machine);
    let systemd = Systemd::at(Some(&machine.bus_address()), &machine.cgroups()).unwrap();
    let systemd = systemd.with_logs_below(&machine.root());
    let world = World { machine, systemd };
    starts_and_serves(&world);
    a_restart_is_another_invocation_and_a_reload_is_not(&world);
    a_kill_is_a_failure_and_a_stop_is_on_purpose(&world);
    a_start_right_after_a_kill_starts_it_again(&world);
    a_kill_leaves_nobody_of_those_who_fork_faster_than_they_can_be_listed(&world);
    a_limit_is_in_the_kernel_or_it_is_unavailable(&world);
    an_alias_is_refused_with_its_own_name(&world);
    a_masked_and_a_missing_unit_are_told_apart(&world);
    a_start_limit_refuses_until_it_is_reset(&world);
    a_slow_job_may_have_happened(&world);
    journal::the_log_is_what_the_unit_wrote_and_systemd_said_of_it_and_no_clients_claim(&world);
    journal::every_form_that_journald_writes_is_read(&world);
    journal::a_unit_with_a_user_or_a_journald_of_its_own_is_read_too(&world);
    journal::real_files_that_were_damaged_are_survived(&world);
    the_bus_may_go_away_and_come_back(&world);
}

fn units_of_our_own(machine: &SystemdBox) {
    let units = "/etc/systemd/system";
    let flaky = "[Unit]\nStartLimitBurst=3\nStartLimitIntervalSec=1h\n[Service]\nExecStart=/bin/false\nRestart=on-failure\nRestartSec=0\n";
    machine.write(&format!("{units}/flaky.service"), flaky).unwrap();
    let slow = "[Service]\nExecStart=/bin/sleep infinity\nExecStop=/bin/sleep 30\n";
    machine.write(&format!("{units}/slow.service"), slow).unwrap();
    // Four shells, each of which forks as fast as it can, and waits for each child: never more than nine processes. Orphans
    // would keep systemd itself so busy with reaping that it answers nobody.
    let forks = "[Service]\nExecStart=/bin/sh -c 'for i in 1 2 3 4; do (while :; do /bin/true; done) & done; wait'\n";
    machine.write(&format!("{units}/forks.service"), forks).unwrap();
    machine.write(&format!("{units}/hidden.service"), "[Service]\nExecStart=/bin/sleep infinity\n").unwrap();
    machine.run(&["rm", &format!("{units}/hidden.service")]).unwrap();
    machine.run(&["ln", "-s", "/dev/null", &format!("{units}/hidden.service")]).unwrap();
    machine.run(&["ln", "-s", "/lib/systemd/system/nginx.service", &format!("{units}/web.service")]).unwrap();
    machine.run(&["systemctl", "daemon-reload"]).unwrap();
}

fn unit(name: &str) -> UnitName {
    UnitName::parse(name).unwrap()
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Something in the box' network listens on port 80.
fn serves(world: &World) -> bool {
    let sockets = std::fs::read_to_string(format!("/proc/{}/net/tcp", world.machine.leader())).unwrap();
    sockets.lines().any(|line| line.split_ascii_whitespace().nth(1).is_some_and(|local| local.ends_with(":0050")))
}

fn starts_and_serves(world: &World) {
    let nginx = unit("nginx.service");
    assert_eq!(world.systemd.state(&nginx).unwrap().active, ActiveState::Inactive);
    assert!(!serves(world));
    let state = world.systemd.start(&nginx, TIMEOUT).unwrap();
    assert_eq!((state.active, state.sub.as_str(), state.invocation.len()), (ActiveState::Active, "running", 32));
    assert_eq!(state.cgroup, "/system.slice/nginx.service");
    assert!(serves(world));
    assert_eq!(world.systemd.start(&nginx, TIMEOUT).unwrap().invocation, state.invocation, "it was up");
}

fn a_restart_is_another_invocation_and_a_reload_is_not(world: &World) {
    let nginx = unit("nginx.service");
    let before = world.systemd.state(&nginx).unwrap();
    let reloaded = world.systemd.reload(&nginx, TIMEOUT).unwrap();
    assert_eq!(reloaded.invocation, before.invocation);
    let restarted = world.systemd.restart(&nginx, TIMEOUT).unwrap();
    assert!(restarted.is_up() && restarted.invocation != before.invocation);
    assert!(serves(world));
}

fn a_kill_is_a_failure_and_a_stop_is_on_purpose(world: &World) {
    let nginx = unit("nginx.service");
    world.systemd.kill(&nginx, KillWhom::All, Signal::Kill).unwrap();
    let failed = until("the failure", || Some(world.systemd.state(&nginx).unwrap()).filter(|state| !state.is_up()));
    assert_eq!((failed.active, failed.result.as_str()), (ActiveState::Failed, "signal"));
    assert!(!failed.stopped_on_purpose && !serves(world));
    let reset = world.systemd.reset_failed(&nginx).unwrap();
    assert_eq!((reset.active, reset.result.as_str()), (ActiveState::Inactive, "success"));
    world.systemd.start(&nginx, TIMEOUT).unwrap();
    let stopped = world.systemd.stop(&nginx, TIMEOUT).unwrap();
    assert_eq!((stopped.active, stopped.stopped_on_purpose), (ActiveState::Inactive, true));
    let error = world.systemd.kill(&nginx, KillWhom::Main, Signal::Hup).unwrap_err();
    assert!(matches!(error, UnitError::Refused { .. }), "there is nobody to kill: {error}");
    assert!(world.systemd.start(&nginx, TIMEOUT).unwrap().is_up());
}

fn a_start_right_after_a_kill_starts_it_again(world: &World) {
    let nginx = unit("nginx.service");
    let before = world.systemd.state(&nginx).unwrap();
    world.systemd.kill(&nginx, KillWhom::All, Signal::Kill).unwrap();
    let after = world.systemd.start(&nginx, TIMEOUT).unwrap();
    assert!(after.is_up() && after.invocation != before.invocation && serves(world), "{after:?}");
}

fn a_kill_leaves_nobody_of_those_who_fork_faster_than_they_can_be_listed(world: &World) {
    let forks = unit("forks.service");
    let state = world.systemd.start(&forks, TIMEOUT).unwrap();
    let inside = || -> BTreeSet<String> {
        // Where systemd keeps its groups on v1, and on v2.
        let trees =
            ["systemd", "."].map(|tree| world.machine.cgroups().join(tree).join(state.cgroup.trim_start_matches('/')));
        let lists = trees.into_iter().filter_map(|group| std::fs::read_to_string(group.join("cgroup.procs")).ok());
        lists.flat_map(|list| list.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    let before = until("the forks", || Some(inside()).filter(|pids| pids.len() > 4));
    until("others in their place", || Some(inside()).filter(|now| now.difference(&before).count() > 1));
    let ended = world.systemd.kill(&forks, KillWhom::All, Signal::Kill).unwrap();
    assert_eq!((ended.active, ended.result.as_str()), (ActiveState::Failed, "signal"));
    assert_eq!(inside(), BTreeSet::new());
}

fn a_limit_is_in_the_kernel_or_it_is_unavailable(world: &World) {
    let nginx = unit("nginx.service");
    for (wanted, file) in [
        (Property::CpuQuota(Some(250)), "cpu.cfs_quota_us"),
        (Property::CpuWeight(Some(20)), "cpu.shares"),
        (Property::TasksMax(Some(50)), "pids.max"),
        (Property::MemoryHigh(Some(64 << 20)), "memory.high"),
    ] {
        let before = world.systemd.property(&nginx, wanted).unwrap();
        assert_ne!(before, wanted);
        match world.systemd.set_property(&nginx, wanted) {
            Ok(set) => {
                assert_eq!((set, world.systemd.property(&nginx, wanted).unwrap()), (wanted, wanted));
                println!("{wanted:?} is in force");
                assert_eq!(world.systemd.set_property(&nginx, before).unwrap(), before, "and is put back");
            }
            Err(UnitError::Unavailable { what, why }) => {
                println!("not possible here: {what}: {why} (looked for {file} or its like on v2)");
                assert_eq!(world.systemd.property(&nginx, wanted).unwrap(), before, "a refused limit is taken back");
            }
            Err(other) => panic!("{other}"),
        }
    }
    // Where the box has the v1 controllers that this test knows, the first must have worked.
    if world.machine.cgroups().join("cpu/cpu.cfs_quota_us").exists()
        || world.machine.cgroups().join("cpu/cpu.shares").exists()
    {
        assert!(world.systemd.set_property(&nginx, Property::CpuQuota(Some(250))).is_ok());
        let quota = world.machine.cgroups().join("cpu/system.slice/nginx.service/cpu.cfs_quota_us");
        assert_eq!(std::fs::read_to_string(quota).unwrap().trim(), "25000");
        world.systemd.set_property(&nginx, Property::CpuQuota(None)).unwrap();
    }
    let down = world.systemd.set_property(&unit("flaky.service"), Property::CpuQuota(Some(250)));
    assert!(matches!(down, Err(UnitError::Unavailable { .. })), "{down:?}");
}

fn an_alias_is_refused_with_its_own_name(world: &World) {
    let error = world.systemd.restart(&unit("web.service"), TIMEOUT).unwrap_err();
    assert_eq!(error.to_string(), "`web.service` is an alias of `nginx.service`: name that one");
    assert_eq!(world.systemd.state(&unit("web.service")).unwrap().name, unit("nginx.service"));
    let error = world.systemd.log_tail(&unit("web.service"), 10).unwrap_err();
    assert!(matches!(error, UnitError::Alias { .. }), "{error}");
}

fn a_masked_and_a_missing_unit_are_told_apart(world: &World) {
    let masked = world.systemd.start(&unit("hidden.service"), TIMEOUT).unwrap_err();
    assert!(matches!(&masked, UnitError::Refused { reason, .. } if reason.contains("masked")), "{masked}");
    let missing = world.systemd.start(&unit("nobody.service"), TIMEOUT).unwrap_err();
    assert!(matches!(missing, UnitError::NoSuchUnit { .. }), "{missing}");
    let error = world.systemd.log_tail(&unit("nobody.service"), 10).unwrap_err();
    assert!(matches!(error, UnitError::NoSuchUnit { .. }), "{error}");
}

fn a_start_limit_refuses_until_it_is_reset(world: &World) {
    let flaky = unit("flaky.service");
    // Type=simple: the first start is done before the program fails.
    world.systemd.start(&flaky, TIMEOUT).ok();
    until("the start limit", || {
        let state = world.systemd.state(&flaky).unwrap();
        (state.active == ActiveState::Failed && !state.will_restart).then_some(())
    });
    let error = world.systemd.start(&flaky, TIMEOUT).unwrap_err();
    assert!(matches!(error, UnitError::Job { .. }) && !error.may_have_happened(), "{error}");
    // systemd 252 keeps the first failure's word: after a crash loop Result is `exit-code`, and only the restart counter tells.
    let state = world.systemd.state(&flaky).unwrap();
    assert!(["start-limit-hit", "exit-code"].contains(&state.result.as_str()) && state.restarts >= 3, "{state:?}");
    let reset = world.systemd.reset_failed(&flaky).unwrap();
    assert_eq!((reset.active, reset.result.as_str()), (ActiveState::Inactive, "success"));
    assert!(world.systemd.start(&flaky, TIMEOUT).is_ok(), "it has another chance");
}

fn a_slow_job_may_have_happened(world: &World) {
    let slow = unit("slow.service");
    world.systemd.start(&slow, TIMEOUT).unwrap();
    let started = Instant::now();
    let error = world.systemd.stop(&slow, Duration::from_millis(300)).unwrap_err();
    assert!(matches!(error, UnitError::Timeout { .. }) && error.may_have_happened(), "{error}");
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(world.systemd.state(&slow).unwrap().active, ActiveState::Deactivating);
    // Another unit's verb is not held up by it.
    assert!(world.systemd.restart(&unit("nginx.service"), TIMEOUT).unwrap().is_up());
    world.systemd.kill(&slow, KillWhom::All, Signal::Kill).unwrap();
}

fn the_bus_may_go_away_and_come_back(world: &World) {
    world.machine.run(&["systemctl", "kill", "--signal=KILL", "dbus.service"]).unwrap();
    let state = until("the bus", || world.systemd.state(&unit("nginx.service")).ok());
    assert!(state.is_up());
}
