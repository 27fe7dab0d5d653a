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

// CF01.
#[test]
fn an_unknown_key_is_refused_with_the_valid_ones() {
    check(
        "version =",
        "versoin =",
        &expect![
            "line 3: `remedy.versoin`: there is no such key in `remedy`; valid keys: name, version, serial, summary, handles, on_ambiguous, wasi"
        ],
    );
    check(
        "why    =",
        "because =",
        &expect![
            "line 23: `grants.files.logs.because`: there is no such key in `grants.files.logs`; valid keys: dir, match, match_deleted, except, verbs, archive_to, set_aside, min_age, max_bytes, max_files, keep_newest, in_use, why"
        ],
    );
    check(
        "[limits]",
        "[limit]",
        &expect!["line 31: `limit`: there is no such key at the top; valid keys: remedy, params, grants, limits"],
    );
    check(
        "[grants.units.target]",
        "[grants.unit.target]",
        &expect![
            "line 25: `grants.unit`: there is no such key in `grants`; valid keys: files, units, processes, series, probes, certificates, programs, http, kernel, releases, containers, firewall, databases"
        ],
    );
}

#[test]
fn what_is_missing_is_named() {
    check(
        "serial  = 7\n",
        "",
        &expect!["line 1: `remedy.serial`: it is missing; write a whole number that grows with each release"],
    );
    check(
        "archive_to = { from = \"operator\" }\n",
        "",
        &expect![[
            r#"line 15: `grants.files.logs.archive_to`: it is missing; write `archive_to = { from = "operator" }`: `archive` and `copy-truncate` need it"#
        ]],
    );
    check(
        "max_bytes = \"5GiB\"\n",
        "",
        &expect![[
            r#"line 15: `grants.files.logs.max_bytes`: it is missing; write `max_bytes = "1GiB"`: verbs that change files need it"#
        ]],
    );
    check(
        "why   = \"a log daemon may have to open its files again\"\n",
        "",
        &expect![[
            r#"line 25: `grants.units.target.why`: it is missing; write `why = "…"`: one line for the people who approve it"#
        ]],
    );
}

// SG06, SG19.
#[test]
fn a_wrong_value_says_what_to_write() {
    check(
        "\"disk-reclaim\"",
        "\"Disk Reclaim\"",
        &expect![
            "line 2: `remedy.name`: `Disk Reclaim` is not a remedy name: use 1 to 64 of a-z, 0-9 and `-`, not starting with `-`"
        ],
    );
    check(
        "\"1.2.0\"",
        "\"latest\"",
        &expect!["line 3: `remedy.version`: `latest` is not a version: write three numbers such as `1.2.0`"],
    );
    check(
        "serial  = 7",
        "serial  = 0",
        &expect!["line 4: `remedy.serial`: 0 is out of bounds; write a whole number from 1 to 1000000000"],
    );
    check(
        "\"disk-filling\"]",
        "\"disk-fulling\"]",
        &expect![
            "line 6: `remedy.handles[1]`: `disk-fulling` is not a fault kind; valid: disk-full, disk-filling, inode-exhaustion, cpu-saturation, memory-leak, oom-kill, swap-thrash, service-crash, service-unhealthy, start-limit-hit, certificate-expiry, db-connections-exhausted, container-unhealthy, log-explosion, traffic-flood, bad-release, unknown"
        ],
    );
    check(
        "\"observe\"",
        "\"retry\"",
        &expect![
            "line 7: `remedy.on_ambiguous`: `retry` is not a way to treat an unknown result; valid: observe, undo, ask"
        ],
    );
    check(
        "default = 7",
        "default = 400",
        &expect!["line 13: `params.keep_days.default`: 400 is out of bounds; write a whole number from 1 to 365"],
    );
    check(
        "\"integer\"",
        "\"text\"",
        &expect![[r#"line 10: `params.keep_days.type`: there is no such type; write "integer", "choice" or "flag""#]],
    );
}

#[test]
fn a_wrong_value_of_a_grant_or_limit_says_what_to_write() {
    check(
        "\"remove\"]",
        "\"delete\"]",
        &expect![
            "line 18: `grants.files.logs.verbs[3]`: `delete` is not a verb of `files`; valid: list, list-deleted, space, stat, read, tail, replace, append, truncate, copy-truncate, remove, archive, set-aside"
        ],
    );
    check(
        "\"7d\"",
        "\"7 days\"",
        &expect![
            "line 20: `grants.files.logs.min_age`: `7 days` is not a span of time: write a whole number and `ms`, `s`, `m`, `h` or `d`, such as `30s`"
        ],
    );
    check(
        "\"5GiB\"",
        "5",
        &expect!["line 21: `grants.files.logs.max_bytes`: a whole number is written here; write a text in quotes"],
    );
    check(
        "\"32MiB\"",
        "\"4GiB\"",
        &expect!["line 32: `limits.memory`: `4 GiB` is out of bounds; write 128 KiB to 256 MiB"],
    );
    check("\"10s\"", "\"2h\"", &expect!["line 33: `limits.time`: `2h` is out of bounds; write 100ms to 10m"]);
    check(
        "\"operator\"",
        "\"incident\"",
        &expect![[r#"line 19: `grants.files.logs.archive_to.from`: there is no such source; write "operator""#]],
    );
    check(
        "\"**/*.gz\"",
        "\"../**\"",
        &expect![
            "line 17: `grants.files.logs.match[0]`: `../**` is not a glob: write a path below the directory, such as `**/*.gz`, without `.`, `..` or an empty part"
        ],
    );
}

// CF01.
#[test]
fn a_key_that_would_change_nothing_is_refused() {
    check(
        "\"archive\", ",
        "",
        &expect![
            "line 19: `grants.files.logs.archive_to`: it changes nothing without the verb `archive` or `copy-truncate`; leave it out"
        ],
    );
    check(
        "\"archive\", \"remove\"]\narchive_to = { from = \"operator\" }",
        "\"tail\"]",
        &expect![
            "line 19: `grants.files.logs.min_age`: it changes nothing without a verb that changes files; leave it out"
        ],
    );
    check(
        "\"restart\"]",
        "\"log-tail\"]",
        &expect![
            "line 28: `grants.units.target.job_timeout`: it changes nothing without the verb `start`, `stop`, `restart` or `reload`; leave it out"
        ],
    );
    check(
        "job_timeout",
        "signals = [\"KILL\"]\njob_timeout",
        &expect!["line 28: `grants.units.target.signals`: it changes nothing without the verb `kill`; leave it out"],
    );
    check(
        "min_age",
        "in_use = \"truncate\"\nmin_age",
        &expect![
            "line 20: `grants.files.logs.in_use`: it changes nothing without the verb `truncate` or `copy-truncate`; leave it out"
        ],
    );
    check("\"remove\"]", "\"remove\", \"truncate\"]\nin_use = \"truncate\"", &expect!["accepted"]);
}

#[test]
fn a_wasi_is_sealed_or_not_there() {
    check("serial", "wasi = \"sealed\"\nserial", &expect!["accepted"]);
    check(
        "serial",
        "wasi = \"full\"\nserial",
        &expect![[
            r#"line 4: `remedy.wasi`: the only word here is "sealed"; write that for a component of another language's tools; without the line a remedy gets no WASI"#
        ]],
    );
    check(
        "serial",
        "wasi = true\nserial",
        &expect![[
            r#"line 4: `remedy.wasi`: the only word here is "sealed"; write that for a component of another language's tools; without the line a remedy gets no WASI"#
        ]],
    );
}

// SV01, SV07, SV08.
#[test]
fn what_can_never_be_granted_is_refused() {
    check(
        "\"/var/log\"",
        "\"/\"",
        &expect![
            "line 16: `grants.files.logs.dir`: `/` can never be granted: it is too much: name a directory below it"
        ],
    );
    check(
        "\"/var/log\"",
        "\"/etc/nginx\"",
        &expect![
            "line 16: `grants.files.logs.dir`: `/etc/nginx` can never be granted: configuration, security configuration among it, is always a person's"
        ],
    );
    check(
        "\"/var/log\"",
        "\"/var/log/../lib\"",
        &expect![
            "line 16: `grants.files.logs.dir`: `/var/log/../lib` is not an absolute path: start with `/`, without `.`, `..`, `//`, control characters or a slash at the end"
        ],
    );
    check(
        "{ from = \"incident\" }",
        "\"dbus.service\"",
        &expect![
            "line 26: `grants.units.target.unit`: `dbus.service` can never be granted: everything that could undo the mistake talks through it"
        ],
    );
    check(
        "{ from = \"incident\" }",
        "\"theriac-runner.service\"",
        &expect![
            "line 26: `grants.units.target.unit`: `theriac-runner.service` can never be granted: it is a part of Theriac: a healer that can stop itself hides its own traces"
        ],
    );
    check(
        "{ from = \"incident\" }",
        "\"poweroff.target\"",
        &expect![
            "line 26: `grants.units.target.unit`: `poweroff.target` can never be granted: a unit of this type takes other things along"
        ],
    );
    check(
        "{ from = \"incident\" }",
        "\"nginx.service ssh.service\"",
        &expect![
            "line 26: `grants.units.target.unit`: `nginx.service ssh.service` is not a unit name: use a full unit name such as `nginx.service`, without globs, spaces or a bare template"
        ],
    );
    check("{ from = \"incident\" }", "\"nginx.service\"", &expect!["accepted"]);
}

fn with_grant(grant: &str, expected: &Expect) {
    let answer = Manifest::parse(&format!("{EXAMPLE}\n{grant}\n"));
    expected.assert_eq(&answer.map_or_else(|error| error.to_string(), |_| "accepted".to_owned()));
}

// PR04.
#[test]
fn set_property_and_kill_need_their_bounds() {
    let unit = "[grants.units.other]\nunit = { from = \"incident\" }\nwhy = \"x\"\n";
    with_grant(
        &format!("{unit}verbs = [\"set-property\"]"),
        &expect![[
            r#"line 35: `grants.units.other`: `set-property` needs the bounds of a property; write at least one of cpu_quota, cpu_weight, memory_high, tasks_max, such as `cpu_quota = { min = "5%", max = "100%" }`"#
        ]],
    );
    with_grant(
        &format!("{unit}verbs = [\"set-property\"]\ncpu_quota = {{ min = \"5%\", max = \"100%\" }}"),
        &expect!["accepted"],
    );
    with_grant(
        &format!("{unit}verbs = [\"set-property\"]\ncpu_quota = {{ min = \"90%\", max = \"10%\" }}"),
        &expect!["line 39: `grants.units.other.cpu_quota.max`: it is below `min`"],
    );
    with_grant(
        &format!("{unit}verbs = [\"set-property\"]\ncpu_quota = {{ min = \"0%\", max = \"10%\" }}"),
        &expect![[
            r#"line 39: `grants.units.other.cpu_quota.min`: it is not a share of one core; write a whole number and `%`, from "1%" to "102400%""#
        ]],
    );
    with_grant(
        &format!("{unit}verbs = [\"status\"]\ntasks_max = {{ min = 1, max = 2 }}"),
        &expect![
            "line 39: `grants.units.other.tasks_max`: it changes nothing without the verb `set-property`; leave it out"
        ],
    );
    with_grant(
        &format!("{unit}verbs = [\"kill\"]"),
        &expect![
            "line 35: `grants.units.other.signals`: it is missing; write a list of TERM, KILL, HUP, USR1: `kill` needs it"
        ],
    );
    with_grant(
        &format!("{unit}verbs = [\"kill\"]\nsignals = [\"STOP\"]"),
        &expect!["line 39: `grants.units.other.signals[0]`: `STOP` is not a signal; valid: TERM, KILL, HUP, USR1"],
    );
    with_grant(&format!("{unit}verbs = [\"kill\"]\nsignals = [\"TERM\"]"), &expect!["accepted"]);
}

// PR01, PR06.
#[test]
fn a_group_names_exactly_one_source() {
    let group = "[grants.processes.p]\nverbs = [\"usage\"]\nwhy = \"x\"\n";
    with_grant(&format!("{group}of = {{ from = \"incident\" }}"), &expect!["accepted"]);
    with_grant(&format!("{group}of = {{ user = 1000 }}"), &expect!["accepted"]);
    with_grant(&format!("{group}of = {{ cgroup = \"/system.slice/app.service\" }}"), &expect!["accepted"]);
    with_grant(
        &format!("{group}of = {{ user = 0 }}"),
        &expect![
            "line 38: `grants.processes.p.of.user`: 0 is out of bounds; write a whole number from 1 to 4294967294"
        ],
    );
    with_grant(
        &format!("{group}of = {{ user = 1, unit = \"a.service\" }}"),
        &expect![
            "line 38: `grants.processes.p.of`: it names no group, or more than one; write one of from, unit, user, cgroup"
        ],
    );
    with_grant(
        &format!("{group}of = {{ cgroup = \"/\" }}"),
        &expect![
            "line 38: `grants.processes.p.of.cgroup`: `/` can never be granted: too much lives there; name a cgroup below it"
        ],
    );
}

#[test]
fn series_and_probes_are_of_the_incident() {
    with_grant("[grants.series.s]\nmetric = \"disk_available\"\nwhy = \"x\"", &expect!["accepted"]);
    with_grant(
        "[grants.series.s]\nmetric = \"disk\"\nwhy = \"x\"",
        &expect![
            "line 36: `grants.series.s.metric`: `disk` is not a metric; valid: disk_available, disk_available_bytes, inodes_available, unit_cpu, unit_cpu_share, unit_memory, unit_processes, unit_oom_kills, unit_up, unit_failed, unit_start_limit, unit_will_restart, unit_healthy, certificate_left, container_up, container_failed, container_healthy, container_restarts, container_recent_restarts, pool_used, host_cpu, host_steal, host_load1, host_memory_available, host_memory_available_share, host_swap_pages, host_cpu_pressure, host_memory_pressure, host_io_pressure"
        ],
    );
    with_grant("[grants.probes.p]\ncheck = { from = \"incident\" }\nwhy = \"x\"", &expect!["accepted"]);
}

// EX01, RN05.
#[test]
fn parameters_are_bounded_or_enumerated() {
    let choice =
        |choices: &str| format!("[params.mode]\ntype = \"choice\"\nchoices = {choices}\ndefault = \"archive\"");
    with_grant(&choice("[\"archive\", \"reclaim\"]"), &expect!["accepted"]);
    with_grant(
        &choice("[\"reclaim\"]"),
        &expect!["line 38: `params.mode.default`: `archive` is not a choice; write one of reclaim"],
    );
    with_grant(
        &choice("[\"archive\", \"--force\"]"),
        &expect![
            "line 37: `params.mode.choices[1]`: `--force` is not a label: use 1 to 64 of a-z, 0-9, `-` and `_`, starting with a letter"
        ],
    );
    with_grant(
        "[params.f]\ntype = \"flag\"\nmin = 1\ndefault = true",
        &expect!["line 37: `params.f.min`: there is no such key in `params.f`; valid keys: type, default"],
    );
}

#[test]
fn the_grant_lines_are_what_a_signer_reads() {
    let lines = grant::lines(&Manifest::parse(EXAMPLE).unwrap()).join("\n");
    expect![[r#"
        grant faults: disk-full, disk-filling; on an unknown result observe
        grant files logs: list, stat, remove, archive in /var/log matching **/*.gz, **/*.[0-9]; at most 2000 files, 5 GiB, older than 7 days; no open files; archive at the operator's place
        grant units target: status, restart of the incident's unit; jobs at most 30s
        grant limits: 32 MiB memory, 10s time, 10000 host calls, 64 handles, 16 KiB of log"#]].assert_eq(&lines);
}

// SG13.
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
        ("why    =", "match_deleted = [\"**/*.log\"]\nwhy    ="),
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
    let open = |rule: &str| {
        lines(&EXAMPLE.replacen("\"remove\"]", &format!("\"remove\", \"truncate\"]\nin_use = \"{rule}\""), 1))
    };
    assert_ne!(open("refuse"), open("truncate"));
    assert_eq!(base, lines(&EXAMPLE.replacen("usual cause", "only cause", 1)), "`why` permits nothing");
}
