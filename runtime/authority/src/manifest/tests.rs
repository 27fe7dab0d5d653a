//! The manifest's specification: each refusal with its sentence, each with its positive twin.

use expect_test::{Expect, expect};

use super::*;
use crate::grant::{self, FilesVerb, InUse};

/// design.md's example, with everything that it needs.
pub(crate) const EXAMPLE: &str = r#"[remedy]
name    = "disk-reclaim"
version = "1.2.0"
serial  = 7
summary = "Frees disk space: archives, then removes rotated logs"
handles = ["disk-full", "disk-filling"]
on_ambiguous = "observe"

[params.keep_days]
type = "integer"
min  = 1
max  = 365
default = 7

[grants.files.logs]
dir    = "/var/log"
match  = ["**/*.gz", "**/*.[0-9]"]
verbs  = ["list", "stat", "archive", "remove"]
archive_to = { from = "operator" }
min_age = "7d"
max_bytes = "5GiB"
max_files = 2000
why    = "rotated logs are the usual cause and can be spared"

[grants.units.target]
unit  = { from = "incident" }
verbs = ["status", "restart"]
job_timeout = "30s"
why   = "a log daemon may have to open its files again"

[limits]
memory = "32MiB"
time   = "10s"
"#;

/// What is said about the example with one text put in place of another.
fn check(from: &str, to: &str, expected: &Expect) {
    assert!(EXAMPLE.contains(from), "{from:?}");
    let answer = Manifest::parse(&EXAMPLE.replacen(from, to, 1));
    expected.assert_eq(&answer.map_or_else(|error| error.to_string(), |_| "accepted".to_owned()));
}

#[test]
fn the_example_is_read_to_types() {
    let manifest = Manifest::parse(EXAMPLE).unwrap();
    let logs = manifest.grants.files.values().next().unwrap();
    assert!(logs.verbs.contains(&FilesVerb::Archive) && logs.archive_to.is_some());
    assert_eq!((logs.max_files, logs.max_bytes, logs.in_use), (2000, Bytes(5 << 30), InUse::Refuse));
    assert_eq!(manifest.limits.memory, Bytes(32 << 20));
    assert_eq!(manifest.limits.host_calls, DEFAULT_HOST_CALLS);
}

#[test]
fn an_unknown_key_is_refused_with_the_valid_ones() {
    check("version =", "versoin =", &expect![""]);
    check("why    =", "because =", &expect![""]);
    check("[limits]", "[limit]", &expect![""]);
    check("[grants.units.target]", "[grants.unit.target]", &expect![""]);
}

#[test]
fn what_is_missing_is_named() {
    check("serial  = 7\n", "", &expect![""]);
    check("archive_to = { from = \"operator\" }\n", "", &expect![""]);
    check("max_bytes = \"5GiB\"\n", "", &expect![""]);
    check("why   = \"a log daemon may have to open its files again\"\n", "", &expect![""]);
}

#[test]
fn a_wrong_value_says_what_to_write() {
    check("\"disk-reclaim\"", "\"Disk Reclaim\"", &expect![""]);
    check("\"1.2.0\"", "\"latest\"", &expect![""]);
    check("serial  = 7", "serial  = 0", &expect![""]);
    check("\"disk-filling\"]", "\"disk-fulling\"]", &expect![""]);
    check("\"observe\"", "\"retry\"", &expect![""]);
    check("default = 7", "default = 400", &expect![""]);
    check("\"integer\"", "\"text\"", &expect![""]);
    check("\"remove\"]", "\"delete\"]", &expect![""]);
    check("\"7d\"", "\"7 days\"", &expect![""]);
    check("\"5GiB\"", "5", &expect![""]);
    check("\"32MiB\"", "\"4GiB\"", &expect![""]);
    check("\"10s\"", "\"2h\"", &expect![""]);
    check("\"operator\"", "\"incident\"", &expect![""]);
    check("\"**/*.gz\"", "\"../**\"", &expect![""]);
}

#[test]
fn a_key_that_would_change_nothing_is_refused() {
    check("\"archive\", ", "", &expect![""]);
    check("\"archive\", \"remove\"]\narchive_to = { from = \"operator\" }", "\"tail\"]", &expect![""]);
    check("\"restart\"]", "\"log-tail\"]", &expect![""]);
    check("job_timeout", "signals = [\"KILL\"]\njob_timeout", &expect![""]);
    check("min_age", "in_use = \"truncate\"\nmin_age", &expect![""]);
    check("\"remove\"]", "\"remove\", \"truncate\"]\nin_use = \"truncate\"", &expect!["accepted"]);
}

#[test]
fn wasi_is_refused_with_a_sentence() {
    check("serial", "wasi = \"sealed\"\nserial", &expect![""]);
    check("serial", "wasi = \"full\"\nserial", &expect![""]);
}

#[test]
fn what_can_never_be_granted_is_refused() {
    check("\"/var/log\"", "\"/\"", &expect![""]);
    check("\"/var/log\"", "\"/etc/nginx\"", &expect![""]);
    check("\"/var/log\"", "\"/var/log/../lib\"", &expect![""]);
    check("{ from = \"incident\" }", "\"dbus.service\"", &expect![""]);
    check("{ from = \"incident\" }", "\"theriac-runner.service\"", &expect![""]);
    check("{ from = \"incident\" }", "\"poweroff.target\"", &expect![""]);
    check("{ from = \"incident\" }", "\"nginx.service ssh.service\"", &expect![""]);
    check("{ from = \"incident\" }", "\"nginx.service\"", &expect!["accepted"]);
}

fn with_grant(grant: &str, expected: &Expect) {
    let answer = Manifest::parse(&format!("{EXAMPLE}\n{grant}\n"));
    expected.assert_eq(&answer.map_or_else(|error| error.to_string(), |_| "accepted".to_owned()));
}

#[test]
fn set_property_and_kill_need_their_bounds() {
    let unit = "[grants.units.other]\nunit = { from = \"incident\" }\nwhy = \"x\"\n";
    with_grant(&format!("{unit}verbs = [\"set-property\"]"), &expect![""]);
    with_grant(&format!("{unit}verbs = [\"set-property\"]\ncpu_quota = {{ min = \"5%\", max = \"100%\" }}"), &expect!["accepted"]);
    with_grant(&format!("{unit}verbs = [\"set-property\"]\ncpu_quota = {{ min = \"90%\", max = \"10%\" }}"), &expect![""]);
    with_grant(&format!("{unit}verbs = [\"set-property\"]\ncpu_quota = {{ min = \"0%\", max = \"10%\" }}"), &expect![""]);
    with_grant(&format!("{unit}verbs = [\"status\"]\ntasks_max = {{ min = 1, max = 2 }}"), &expect![""]);
    with_grant(&format!("{unit}verbs = [\"kill\"]"), &expect![""]);
    with_grant(&format!("{unit}verbs = [\"kill\"]\nsignals = [\"STOP\"]"), &expect![""]);
    with_grant(&format!("{unit}verbs = [\"kill\"]\nsignals = [\"TERM\"]"), &expect!["accepted"]);
}

#[test]
fn a_group_names_exactly_one_source() {
    let group = "[grants.processes.p]\nverbs = [\"usage\"]\nwhy = \"x\"\n";
    with_grant(&format!("{group}of = {{ from = \"incident\" }}"), &expect!["accepted"]);
    with_grant(&format!("{group}of = {{ user = 1000 }}"), &expect!["accepted"]);
    with_grant(&format!("{group}of = {{ cgroup = \"/system.slice/app.service\" }}"), &expect!["accepted"]);
    with_grant(&format!("{group}of = {{ user = 0 }}"), &expect![""]);
    with_grant(&format!("{group}of = {{ user = 1, unit = \"a.service\" }}"), &expect![""]);
    with_grant(&format!("{group}of = {{ cgroup = \"/\" }}"), &expect![""]);
}

#[test]
fn series_and_probes_are_of_the_incident() {
    with_grant("[grants.series.s]\nmetric = \"disk_available\"\nwhy = \"x\"", &expect!["accepted"]);
    with_grant("[grants.series.s]\nmetric = \"disk\"\nwhy = \"x\"", &expect![""]);
    with_grant("[grants.probes.p]\ncheck = { from = \"incident\" }\nwhy = \"x\"", &expect!["accepted"]);
}

#[test]
fn parameters_are_bounded_or_enumerated() {
    let choice = |choices: &str| format!("[params.mode]\ntype = \"choice\"\nchoices = {choices}\ndefault = \"archive\"");
    with_grant(&choice("[\"archive\", \"reclaim\"]"), &expect!["accepted"]);
    with_grant(&choice("[\"reclaim\"]"), &expect![""]);
    with_grant(&choice("[\"archive\", \"--force\"]"), &expect![""]);
    with_grant("[params.f]\ntype = \"flag\"\nmin = 1\ndefault = true", &expect![""]);
}

#[test]
fn the_grant_lines_are_what_a_signer_reads() {
    let lines = grant::lines(&Manifest::parse(EXAMPLE).unwrap()).join("\n");
    expect![""].assert_eq(&lines);
}

#[test]
fn every_key_that_permits_something_shows_in_the_grant_lines() {
    let lines = |text: &str| grant::lines(&Manifest::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}")));
    let base = lines(EXAMPLE);
    for (from, to) in [
        ("\"/var/log\"", "\"/var/log/app\""),
        ("\"/var/log\"", "{ from = \"operator\" }"),
        ("\"**/*.gz\", ", ""),
        ("min_age = \"7d\"", "min_age = \"8d\""),
        ("min_age = \"7d\"", "min_age = \"169h\""),
        ("\"5GiB\"", "\"5368709121B\""),
        ("2000", "2001"),
        ("why    =", "except = [\"*.x\"]\nwhy    ="),
        ("why    =", "keep_newest = 1\nwhy    ="),
        ("\"remove\"]", "\"remove\", \"truncate\"]"),
        ("\"30s\"", "\"31s\""),
        ("\"restart\"]", "\"start\"]"),
        ("{ from = \"incident\" }", "\"nginx.service\""),
        ("\"32MiB\"", "\"31MiB\""),
        ("\"10s\"", "\"11s\""),
        ("\"disk-full\", ", ""),
        ("\"observe\"", "\"undo\""),
    ] {
        assert!(EXAMPLE.contains(from), "{from}");
        assert_ne!(base, lines(&EXAMPLE.replacen(from, to, 1)), "{from} -> {to}");
    }
    let open = |rule: &str| lines(&EXAMPLE.replacen("\"remove\"]", &format!("\"remove\", \"truncate\"]\nin_use = \"{rule}\""), 1));
    assert_ne!(open("refuse"), open("truncate"));
    assert_eq!(base, lines(&EXAMPLE.replacen("usual cause", "only cause", 1)), "`why` permits nothing");
}
