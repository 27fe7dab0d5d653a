//! `theriac init` on a machine with a real systemd: what it lists is what runs there to stay.

use std::collections::BTreeSet;
use std::path::Path;

use theriac_authority::host::HostConfig;
use theriac_model::catalog::Mode;
use theriac_tests::systemd_box::{SystemdBox, Up};

use crate::host::binary;

#[test]
fn init_lists_the_services_that_last_and_none_that_nobody_may_touch() {
    let machine = match SystemdBox::up("init").unwrap() {
        Up::Ready(machine) => machine,
        Up::NotPossible(why) => return println!("not possible here: {why}"),
    };
    if !machine.root().join("lib/systemd/system/nginx.service").exists() {
        return println!("not possible here: nginx is not installed");
    }
    let unit = |name: &str, text: &str| machine.write(&format!("/etc/systemd/system/{name}"), text).unwrap();
    unit("worker.service", "[Service]\nSlice=apps.slice\nExecStart=/bin/sleep infinity\n");
    unit("once.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n");
    unit("down.service", "[Service]\nExecStart=/bin/sleep infinity\n");
    machine.run(&["systemctl", "daemon-reload"]).unwrap();
    machine.run(&["systemctl", "start", "nginx", "worker", "once"]).unwrap();
    machine.run(&["systemd-run", "--unit=passing", "/bin/sleep", "infinity"]).unwrap();
    machine.install(&binary("theriac"), "/usr/bin/theriac").unwrap();
    machine.write("/root/passphrase", "only a test").unwrap();

    let asked = init(&machine, "/etc/theriac", None);
    let listed: BTreeSet<&str> = asked.units.keys().map(|name| name.as_str()).collect();
    println!("by systemd's word: {listed:?}");
    assert!(listed.is_superset(&BTreeSet::from(["nginx.service", "worker.service"])), "{listed:?}");
    let not = ["once.service", "down.service", "passing.service", "dbus.service"];
    assert!(!listed.iter().any(|name| not.contains(name) || name.starts_with("systemd-") || name.contains("getty")));
    assert_eq!(asked.mode, Mode::Observe);
    assert!(asked.units.values().all(|unit| unit.verbs.is_empty()), "nothing may be changed yet");
    let nginx = asked.units.iter().find(|(name, _)| name.as_str() == "nginx.service").unwrap().1;
    assert!(format!("{:?}", nginx.health).contains("127.0.0.1:80"), "{:?}", nginx.health);

    let unasked = init(&machine, "/etc/theriac-without", Some("DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nowhere"));
    let listed: BTreeSet<&str> = unasked.units.keys().map(|name| name.as_str()).collect();
    println!("by their processes: {listed:?}");
    // Without systemd nobody knows which of them last: only what listens is listed, the rest is there to be looked at.
    assert!(listed.contains("nginx.service") && !listed.contains("worker.service"), "{listed:?}");
}

/// Runs it in the box, and reads what it wrote as the runner would.
fn init(machine: &SystemdBox, config: &str, variable: Option<&str>) -> HostConfig {
    let mut words = vec!["env"];
    words.extend(variable);
    words.extend(["/usr/bin/theriac", "init", "--config", config, "--state", "/var/lib/theriac", "--yes"]);
    words.extend(["--passphrase-file", "/root/passphrase"]);
    let said = machine.run(&words).unwrap();
    assert_eq!(said.contains("systemd could not be asked"), variable.is_some(), "{said}");
    let path = machine.root().join(Path::new(config).strip_prefix("/").unwrap()).join("runner.toml");
    HostConfig::parse(&std::fs::read_to_string(path).unwrap()).unwrap()
}
