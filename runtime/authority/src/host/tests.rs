//! `runner.toml`'s specification: each refusal with its sentence.

use expect_test::{Expect, expect};

use super::*;

fn check(text: &str, expected: &Expect) {
    let answer = HostConfig::parse(text);
    expected.assert_eq(&answer.map_or_else(|error| error.to_string(), |_| "accepted".to_owned()));
}

/// The reference with its examples switched on.
fn with_examples() -> String {
    let example = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()) => rest.to_owned(),
        Some(_) | None => line.to_owned(),
    };
    DEFAULT.lines().map(|line| example(line) + "\n").collect()
}

#[test]
fn the_reference_is_the_default() {
    assert_eq!(HostConfig::parse(DEFAULT).unwrap(), HostConfig::default());
    assert_eq!(HostConfig::parse("").unwrap(), HostConfig::default());
}

#[test]
fn the_references_examples_are_read_too() {
    let config = HostConfig::parse(&with_examples()).unwrap_or_else(|error| panic!("{error}\n{}", with_examples()));
    assert_eq!((config.units.len(), config.mounts.len(), config.directories.len()), (2, 1, 1));
    assert_eq!((config.groups.len(), config.windows.len()), (1, 1));
    assert_eq!(config.uids.as_ref().unwrap().worker, [913, 914]);
    assert!(config.needs_systemd(false) && config.needs_launcher(false) && config.needs_courier_net());
    let nginx = config.target(&"unit:nginx.service".parse().unwrap()).unwrap();
    assert_eq!(nginx.traffic_share, Some(Permille::clamped(400)));
    assert_eq!(nginx.health.len(), 2);
}

#[test]
fn every_key_of_the_parser_is_in_the_reference() {
    let text = with_examples();
    for key in TOP_KEYS.iter().chain(["sample_every", "concurrent_runs", "cgroup", "set_aside", "worker"].iter()) {
        assert!(text.contains(key), "{key}");
    }
}

#[test]
fn listed_programs_are_run_by_systemd_where_it_is_and_by_the_launcher_elsewhere() {
    let program = "[[program]]\npath = \"/bin/true\"\nuser = 998\n";
    let by = |more: &str, runs| HostConfig::parse(&format!("{program}{more}")).unwrap().programs_by(runs);
    assert_eq!(by("", false), Some(Backend::Supervised));
    assert_eq!(by("", true), Some(Backend::Systemd));
    assert_eq!(by("[[unit]]\nname = \"nginx.service\"\n", false), Some(Backend::Systemd));
    assert_eq!(by("[[service]]\nname = \"web\"\n", false), Some(Backend::Supervised));
    assert_eq!(by("[systemd]\naddress = \"unix:path=/run/bus\"\n", false), Some(Backend::Systemd));
    let config = HostConfig::parse(program).unwrap();
    assert!(config.needs_launcher(false) && !config.needs_systemd(false));
    assert!(config.needs_systemd(true) && !config.needs_launcher(true));
    for runs in [false, true] {
        let config = HostConfig::default();
        assert!(config.programs_by(runs).is_none() && !config.needs_launcher(runs) && !config.needs_systemd(runs));
    }
}

#[test]
fn an_empty_configuration_watches_the_machine_and_heals_nothing() {
    let config = HostConfig::default();
    assert_eq!(config.mode, Mode::Observe);
    let targets: Vec<Target> = config.catalog_targets().into_iter().map(|spec| spec.target).collect();
    assert_eq!(targets, [Target::Host]);
}

// CF01.
#[test]
fn unknown_keys_are_refused_with_the_valid_ones() {
    check(
        "modes = 'observe'",
        &expect![
            "line 1: `modes`: there is no such key at the top; valid keys: mode, deploy_locks, timing, limits, window, unit, service, mount, directory, group, certificate, program, endpoint, knob, release, container, firewall, database, uids, systemd"
        ],
    );
    check(
        "[timing]\ncool_down = '5m'",
        &expect![
            "line 2: `timing.cool_down`: there is no such key in `timing`; valid keys: sample_every, healed_within, stable_for, cooldown, consent_valid"
        ],
    );
    check(
        "[[unit]]\nname = 'a.service'\nverb = []",
        &expect![
            "line 3: `unit[0].verb`: there is no such key in `unit[0]`; valid keys: name, verbs, processes, traffic_share, health, health_failures, cpu_share, cpu_for, memory_limit"
        ],
    );
}

// CF01.
#[test]
fn a_mode_without_guardrails_is_refused_with_a_sentence() {
    check(
        "mode = 'disabled'",
        &expect![[
            r#"line 1: `mode`: there is no mode without guardrails; write "observe" to change nothing, or `theriac hold` to stop healing for a while"#
        ]],
    );
    check("mode = 'yolo'", &expect!["line 1: `mode`: `yolo` is not a mode; valid: observe, strict, relaxed"]);
    check("mode = 'relaxed'", &expect!["accepted"]);
}

// SV03, SV04, SV08.
#[test]
fn a_unit_is_one_full_name_that_is_not_critical() {
    let unit = |name: &str| format!("[[unit]]\nname = '{name}'");
    check(&unit("nginx.service"), &expect!["accepted"]);
    check(
        &unit("nginx"),
        &expect![[r#"line 2: `unit[0].name`: `nginx` is not a full unit name; write "nginx.service""#]],
    );
    check(
        &unit("nginx*"),
        &expect![
            "line 2: `unit[0].name`: `nginx*` is not a unit name: use a full unit name such as `nginx.service`, without globs, spaces or a bare template"
        ],
    );
    check(
        &unit("theriac-agent.service"),
        &expect![
            "line 2: `unit[0].name`: `theriac-agent.service` can never be healed: it is a part of Theriac: a healer that can stop itself hides its own traces; leave it out"
        ],
    );
    check(
        &format!("{}\n{}", unit("a.service"), unit("a.service")),
        &expect!["line 4: `unit[1].name`: this unit is listed twice; leave one out"],
    );
    check("[[service]]\nname = 'web'", &expect!["accepted"]);
    check(
        "[[service]]\nname = 'web.service'",
        &expect![
            "line 2: `service[0].name`: the name of a supervised service has no dot; write its name as in launcher.toml"
        ],
    );
}

// NW05, NW09.
#[test]
fn health_checks_are_of_one_sort_and_name_no_host() {
    let health = |check: &str| format!("[[service]]\nname = 'web'\nhealth = [{check}]");
    check(&health("{ http = 'http://127.0.0.1:80/x' }"), &expect!["accepted"]);
    check(
        &health("{ http = 'http://example.com/' }"),
        &expect![
            "line 3: `service[0].health[0].http`: `http://example.com/` is not a health-check URL: write `http://127.0.0.1:8080/health`: an IP address or `localhost`, no user, query or fragment"
        ],
    );
    check(
        &health("{ tcp = 'localhost:80' }"),
        &expect![[
            r#"line 3: `service[0].health[0].tcp`: it is not an address with a port; write "127.0.0.1:80" or "[::1]:80""#
        ]],
    );
    check(
        &health("{ tcp = '127.0.0.1:80', status = 200 }"),
        &expect!["line 3: `service[0].health[0].status`: a TCP check has no status; leave it out"],
    );
    check(
        &health("{ timeout = '1s' }"),
        &expect![[
            r#"line 3: `service[0].health[0]`: it is neither an HTTP nor a TCP check; write { http = "http://127.0.0.1:80/" } or { tcp = "127.0.0.1:80" }"#
        ]],
    );
    check(
        &health("{ tcp = '127.0.0.1:80', timeout = '5m' }"),
        &expect!["line 3: `service[0].health[0].timeout`: `5m` is out of bounds; write 10ms to 30s"],
    );
}

// CF01.
#[test]
fn numbers_have_bounds() {
    check(
        "[timing]\nsample_every = '1ms'",
        &expect!["line 2: `timing.sample_every`: `1ms` is out of bounds; write 100ms to 1m"],
    );
    check(
        "[limits]\nconcurrent_runs = 0",
        &expect!["line 2: `limits.concurrent_runs`: 0 is out of bounds; write a whole number from 1 to 16"],
    );
    check(
        "[[mount]]\npath = '/'\ndisk_full = 5",
        &expect!["line 3: `mount[0].disk_full`: a whole number is written here; write a share from 0.0 to 1.0"],
    );
    check(
        "[[mount]]\npath = '/'\ndisk_full = 1.5",
        &expect!["line 3: `mount[0].disk_full`: 1.5 is out of bounds; write a share from 0.0 to 1.0"],
    );
    check("[[unit]]\nname = 'a.service'\ntraffic_share = 0.5", &expect!["accepted"]);
}

// CF01, CF37.
#[test]
fn directories_do_not_lie_in_one_another_and_are_not_critical() {
    let dir = |path: &str, label: &str| format!("[[directory]]\npath = '{path}'\nlabel = '{label}'\n");
    check(&dir("/var/log", "logs"), &expect!["accepted"]);
    check(
        &dir("/etc", "logs"),
        &expect![
            "line 2: `directory[0].path`: `/etc` can never be granted: configuration, security configuration among it, is always a person's"
        ],
    );
    check(
        &format!("{}{}", dir("/var/log", "logs"), dir("/var/log/app", "app")),
        &expect!["line 4: `directory[1]`: `/var/log/app` and `/var/log` lie in one another; list one of them"],
    );
    check(
        &format!("{}{}", dir("/var/log", "logs"), dir("/data/log", "logs")),
        &expect![
            "line 4: `directory[1]`: `/var/log` has the label `logs` on the same mount too; give each its own label, or list their mounts as [[mount]]"
        ],
    );
    let mounts = "[[mount]]\npath = '/var'\n[[mount]]\npath = '/data'\n";
    check(&format!("{mounts}{}{}", dir("/var/log", "logs"), dir("/data/log", "logs")), &expect!["accepted"]);
    check(
        &format!("{}archive_to = '/var/log/old'", dir("/var/log", "logs")),
        &expect![
            "line 4: `directory[0].archive_to`: `/var/log/old` and `/var/log` lie in one another; name a directory outside"
        ],
    );
    check(
        &format!("{}reproducible = ['/x']", dir("/var/log", "logs")),
        &expect![
            "line 4: `directory[0].reproducible[0]`: `/x` is not a glob: write a path below the directory, such as `**/*.gz`, without `.`, `..` or an empty part"
        ],
    );
}

// CF01.
#[test]
fn each_process_has_a_user_of_its_own() {
    check("[uids]\nagent = 1\ncourier_net = 2\nworker = [3, 4]", &expect!["accepted"]);
    check(
        "[uids]\nagent = 1\ncourier_net = 2\nworker = [2]",
        &expect![
            "line 1: `uids`: one uid is written twice; give each process a user of its own: shared ones have no wall"
        ],
    );
    check(
        "[uids]\nagent = 0\ncourier_net = 2\nworker = [3]",
        &expect!["line 2: `uids.agent`: 0 is out of bounds; write a whole number from 1 to 65533"],
    );
    check(
        "[uids]\nagent = 65534\ncourier_net = 2\nworker = [3]",
        &expect!["line 2: `uids.agent`: 65534 is out of bounds; write a whole number from 1 to 65533"],
    );
    check(
        "[uids]\nagent = 1\ncourier_net = 2\nworker = []",
        &expect!["line 1: `uids`: no worker could start; list one uid for each run at the same time"],
    );
}

#[test]
fn systemd_is_reached_through_a_unix_socket_only() {
    check("[systemd]\naddress = 'unix:path=/tmp/bus'", &expect!["accepted"]);
    check(
        "[systemd]\naddress = 'tcp:host=10.0.0.1,port=1'",
        &expect![[r#"line 2: `systemd.address`: it is not the address of a Unix socket; write "unix:path=/run/bus""#]],
    );
}
