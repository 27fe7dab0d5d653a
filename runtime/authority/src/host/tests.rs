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
    assert!(config.needs_systemd() && config.needs_launcher() && config.needs_courier_net());
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
fn an_empty_configuration_watches_the_machine_and_heals_nothing() {
    let config = HostConfig::default();
    assert_eq!(config.mode, Mode::Observe);
    let targets: Vec<Target> = config.catalog_targets().into_iter().map(|spec| spec.target).collect();
    assert_eq!(targets, [Target::Host]);
}

#[test]
fn unknown_keys_are_refused_with_the_valid_ones() {
    check("modes = 'observe'", &expect![""]);
    check("[timing]\ncool_down = '5m'", &expect![""]);
    check("[[unit]]\nname = 'a.service'\nverb = []", &expect![""]);
}

#[test]
fn a_mode_without_guardrails_is_refused_with_a_sentence() {
    check("mode = 'disabled'", &expect![""]);
    check("mode = 'yolo'", &expect![""]);
    check("mode = 'relaxed'", &expect!["accepted"]);
}

#[test]
fn a_unit_is_one_full_name_that_is_not_critical() {
    let unit = |name: &str| format!("[[unit]]\nname = '{name}'");
    check(&unit("nginx.service"), &expect!["accepted"]);
    check(&unit("nginx"), &expect![""]);
    check(&unit("nginx*"), &expect![""]);
    check(&unit("theriac-agent.service"), &expect![""]);
    check(&format!("{}\n{}", unit("a.service"), unit("a.service")), &expect![""]);
    check("[[service]]\nname = 'web'", &expect!["accepted"]);
    check("[[service]]\nname = 'web.service'", &expect![""]);
}

#[test]
fn health_checks_are_of_one_sort_and_name_no_host() {
    let health = |check: &str| format!("[[service]]\nname = 'web'\nhealth = [{check}]");
    check(&health("{ http = 'http://127.0.0.1:80/x' }"), &expect!["accepted"]);
    check(&health("{ http = 'http://example.com/' }"), &expect![""]);
    check(&health("{ tcp = 'localhost:80' }"), &expect![""]);
    check(&health("{ tcp = '127.0.0.1:80', status = 200 }"), &expect![""]);
    check(&health("{ timeout = '1s' }"), &expect![""]);
    check(&health("{ tcp = '127.0.0.1:80', timeout = '5m' }"), &expect![""]);
}

#[test]
fn numbers_have_bounds() {
    check("[timing]\nsample_every = '1ms'", &expect![""]);
    check("[limits]\nconcurrent_runs = 0", &expect![""]);
    check("[[mount]]\npath = '/'\ndisk_full = 5", &expect![""]);
    check("[[mount]]\npath = '/'\ndisk_full = 1.5", &expect![""]);
    check("[[unit]]\nname = 'a.service'\ntraffic_share = 0.5", &expect!["accepted"]);
}

#[test]
fn directories_do_not_lie_in_one_another_and_are_not_critical() {
    let dir = |path: &str, label: &str| format!("[[directory]]\npath = '{path}'\nlabel = '{label}'\n");
    check(&dir("/var/log", "logs"), &expect!["accepted"]);
    check(&dir("/etc", "logs"), &expect![""]);
    check(&format!("{}{}", dir("/var/log", "logs"), dir("/var/log/app", "app")), &expect![""]);
    check(&format!("{}{}", dir("/var/log", "logs"), dir("/data/log", "logs")), &expect![""]);
    let mounts = "[[mount]]\npath = '/var'\n[[mount]]\npath = '/data'\n";
    check(&format!("{mounts}{}{}", dir("/var/log", "logs"), dir("/data/log", "logs")), &expect!["accepted"]);
    check(&format!("{}archive_to = '/var/log/old'", dir("/var/log", "logs")), &expect![""]);
    check(&format!("{}reproducible = ['/x']", dir("/var/log", "logs")), &expect![""]);
}

#[test]
fn each_process_has_a_user_of_its_own() {
    check("[uids]\nagent = 1\ncourier_net = 2\nworker = [3, 4]", &expect!["accepted"]);
    check("[uids]\nagent = 1\ncourier_net = 2\nworker = [2]", &expect![""]);
    check("[uids]\nagent = 0\ncourier_net = 2\nworker = [3]", &expect![""]);
    check("[uids]\nagent = 65534\ncourier_net = 2\nworker = [3]", &expect![""]);
    check("[uids]\nagent = 1\ncourier_net = 2\nworker = []", &expect![""]);
}

#[test]
fn systemd_is_reached_through_a_unix_socket_only() {
    check("[systemd]\naddress = 'unix:path=/tmp/bus'", &expect!["accepted"]);
    check("[systemd]\naddress = 'tcp:host=10.0.0.1,port=1'", &expect![""]);
}
