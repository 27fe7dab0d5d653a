//! What binds, what does not, what each call is told; and two properties: a suggestion allows exactly the call it was made
//! for, and less configuration never allows more.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use theriac_model::call::{GroupCall, ProcessCall, UnitCall};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::time::Span;
use theriac_model::unit::{KillWhom, Property, Signal};

use super::*;
use crate::grant::{FilesVerb, ProcessesVerb, UnitsVerb};

const MANIFEST: &str = r#"
[remedy]
name = "x"
version = "1.0.0"
serial = 1
summary = "s"
handles = ["disk-full", "service-crash"]

[grants.files.logs]
dir = { from = "operator" }
match = ["**/*.gz", "*.log"]
except = ["keep/**"]
verbs = ["list", "remove", "archive", "truncate"]
archive_to = { from = "operator" }
min_age = "1d"
max_bytes = "1MiB"
max_files = 2
keep_newest = 1
in_use = "truncate"
why = "w"

[grants.units.target]
unit = { from = "incident" }
verbs = ["status", "restart", "set-property", "kill"]
cpu_quota = { min = "10%", max = "50%" }
signals = ["TERM"]
why = "w"

[grants.processes.target]
of = { from = "incident" }
verbs = ["usage", "renice", "signal"]
signals = ["TERM"]
why = "w"

[grants.series.room]
metric = "disk_available"
why = "w"

[grants.probes.health]
check = { from = "incident" }
why = "w"
"#;

const HOST: &str = r#"
[[unit]]
name = "web.service"
verbs = ["restart", "set-property", "kill"]
processes = ["renice", "signal"]
health = [{ tcp = "127.0.0.1:80" }]

[[mount]]
path = "/var"

[[mount]]
path = "/data"

[[directory]]
path = "/var/log"
label = "logs"
verbs = ["remove", "archive", "truncate"]
archive_to = "/data/archive"
reproducible = ["old/*.gz"]
"#;

#[test]
fn a_deleted_file_has_globs_of_its_own_where_the_manifest_says_so() {
    let dir = |manifest: &str| bound(manifest, HOST, "mount:/var").dir("logs").unwrap().clone();
    let same = dir(MANIFEST);
    assert!(same.for_deleted().shows(Path::new("app.log")) && same.shows(Path::new("app.log")));
    let own = dir(&MANIFEST.replace("except = ", "match_deleted = [\"**/*.live\"]\nexcept = "));
    let live = Path::new("app.live");
    assert!(own.for_deleted().admits(live, FilesVerb::Truncate).is_ok());
    assert_eq!(own.admits(live, FilesVerb::Truncate).unwrap_err().rule, "match");
    let denial = own.for_deleted().admits(Path::new("app.log"), FilesVerb::Truncate).unwrap_err();
    assert_eq!(denial.rule, "match_deleted");
    assert!(denial.suggestion.is_some_and(|line| line.contains("match_deleted = ")));
    assert!(!own.for_deleted().shows(Path::new("keep/app.live")), "`except` holds for both");
}

pub(crate) fn bound(manifest: &str, host: &str, target: &str) -> Effective {
    let manifest = Manifest::parse(manifest).unwrap_or_else(|error| panic!("{error}\n{manifest}"));
    let host = HostConfig::parse(host).unwrap_or_else(|error| panic!("{error}\n{host}"));
    bind(&manifest, &host, &target.parse().unwrap())
}

fn on_mount() -> Effective {
    bound(MANIFEST, HOST, "mount:/var")
}

fn on_unit() -> Effective {
    bound(MANIFEST, HOST, "unit:web.service")
}

pub(super) fn rule<T: std::fmt::Debug>(answer: Result<T, Denial>) -> String {
    answer.expect_err("it is denied").rule
}

#[test]
fn a_label_binds_to_what_the_incident_and_the_operator_say() {
    let effective = on_mount();
    assert_eq!(effective.dir("logs").unwrap().dir.as_str(), "/var/log");
    assert_eq!(effective.series("room").unwrap().series.target.to_string(), "mount:/var");
    assert_eq!(rule(effective.unit("target")), "incident.unit");
    let effective = on_unit();
    assert_eq!(effective.unit("target").unwrap().unit.as_str(), "web.service");
    assert_eq!(effective.probe("health").unwrap().checks.len(), 1);
    assert_eq!(rule(effective.series("room")), "incident.metric");
    assert!(effective.dir("logs").is_ok(), "the only directory of that label");
}

#[test]
fn a_directory_on_another_mount_is_not_bound() {
    assert_eq!(rule(bound(MANIFEST, HOST, "mount:/data").dir("logs")), "runner.directory");
    let named = MANIFEST.replace("dir = { from = \"operator\" }", "dir = \"/var/log/app\"");
    assert_eq!(bound(&named, HOST, "mount:/var").dir("logs").unwrap().dir.as_str(), "/var/log/app");
    assert_eq!(rule(bound(&named, HOST, "mount:/data").dir("logs")), "incident.mount");
}

#[test]
fn two_directories_of_one_label_need_a_mount_to_tell_them_apart() {
    let host = format!("{HOST}\n[[directory]]\npath = \"/data/log\"\nlabel = \"logs\"\n");
    assert_eq!(bound(MANIFEST, &host, "mount:/data").dir("logs").unwrap().dir.as_str(), "/data/log");
    assert_eq!(rule(bound(MANIFEST, &host, "unit:web.service").dir("logs")), "runner.directory.ambiguous");
}

#[test]
fn an_unlisted_unit_is_denied_with_the_line_to_add() {
    let denial = bound(MANIFEST, HOST, "unit:db.service").unit("target").unwrap_err().clone();
    assert_eq!(denial.rule, "runner.unit");
    assert_eq!(
        denial.suggestion.unwrap(),
        "runner.toml: in [[unit]] name = \"db.service\": verbs = [\"restart\", \"kill\", \"set-property\"]"
    );
}

// SV07.
#[test]
fn a_critical_unit_stays_out_even_as_the_target() {
    assert_eq!(rule(bound(MANIFEST, HOST, "unit:dbus.service").unit("target")), "never");
}

#[test]
fn a_label_that_nobody_granted_is_denied_and_never_not_found() {
    let denial = on_mount().dir("secrets").unwrap_err();
    assert_eq!((denial.cause, denial.rule.as_str()), (DenialCause::NotGranted, "grants"));
    assert!(denial.suggestion.unwrap().starts_with("remedy.toml: grants.files.secrets = {"));
    assert!(on_mount().dir("../etc\u{1b}[2J").unwrap_err().suggestion.is_none());
}

// SV08.
#[test]
fn theriacs_own_directories_are_out_of_reach_wherever_they_are() {
    let manifest = Manifest::parse(MANIFEST).unwrap();
    let own = |path: &str| {
        let host = HostConfig::parse(HOST).unwrap().protecting([MountPath::parse(path).unwrap()]);
        bind(&manifest, &host, &"mount:/var".parse().unwrap())
    };
    for path in ["/var/log/theriac", "/var/log", "/var", "/data/archive/x"] {
        assert_eq!(rule(own(path).dir("logs")), "runner.own-state", "{path}");
    }
    assert!(own("/var/lib/scratch").dir("logs").is_ok());
}

// SG13.
#[test]
fn a_grant_outside_the_signers_scopes_is_not_bound() {
    let manifest = Manifest::parse(MANIFEST).unwrap();
    let host = HostConfig::parse(HOST).unwrap();
    let reads = |grant: &crate::grant::GrantRef<'_>| !grant.grant.changes();
    let effective = bind_within(&manifest, &host, &"mount:/var".parse().unwrap(), &reads);
    assert_eq!(rule(effective.dir("logs")), "signers' scope");
    assert!(effective.series("room").is_ok());
}

// FS01.
#[test]
fn a_file_is_admitted_by_glob_and_verb() {
    let effective = on_mount();
    let dir = effective.dir("logs").unwrap();
    for path in ["a.gz", "app/b.gz", "c.log"] {
        assert!(dir.admits(Path::new(path), FilesVerb::Remove).is_ok(), "{path}");
    }
    for (path, verb, wanted) in [
        ("c.txt", FilesVerb::Remove, "match"),
        ("app/c.log", FilesVerb::Remove, "match"),
        ("keep/a.gz", FilesVerb::Remove, "except"),
        ("a.gz", FilesVerb::Replace, "verbs"),
        ("a.gz", FilesVerb::Stat, "verbs"),
        ("../a.gz", FilesVerb::Remove, "path"),
        ("/a.gz", FilesVerb::Remove, "path"),
        ("./a.gz", FilesVerb::Remove, "path"),
        ("x//a.gz", FilesVerb::Remove, "path"),
        ("", FilesVerb::Remove, "path"),
    ] {
        assert_eq!(rule(dir.admits(Path::new(path), verb)), wanted, "{path} {verb}");
    }
}

#[test]
fn database_files_are_out_of_reach_whatever_the_globs_say() {
    let wide = MANIFEST.replace("match = [\"**/*.gz\", \"*.log\"]", "match = [\"**\"]");
    let effective = bound(&wide, HOST, "mount:/var");
    let dir = effective.dir("logs").unwrap();
    assert!(dir.admits(Path::new("any/thing"), FilesVerb::Remove).is_ok());
    for path in [
        "pg_wal/000000010000000000000001.gz",
        "x/t1.ibd",
        "binlog.000001",
        "IBDATA1",
        "mysql-bin.000003",
        "home/.ssh/x.log",
    ] {
        let denial = dir.admits(Path::new(path), FilesVerb::Remove).unwrap_err();
        assert_eq!((denial.rule.as_str(), denial.suggestion), ("never", None), "{path}");
        assert!(!dir.shows(Path::new(path)));
    }
}

#[test]
fn a_verb_whose_place_is_missing_is_unavailable() {
    let host = HOST.replace("archive_to = \"/data/archive\"\n", "");
    let denial =
        bound(MANIFEST, &host, "mount:/var").dir("logs").unwrap().admits(Path::new("a.gz"), FilesVerb::Archive);
    let denial = denial.unwrap_err();
    assert_eq!((denial.cause, denial.rule.as_str()), (DenialCause::Unavailable, "runner.directory.archive_to"));
}

#[test]
fn files_are_set_aside_only_where_the_operator_names_a_place() {
    let verbs = "verbs = [\"list\", \"set-aside\"]\nset_aside = { from = \"operator\" }";
    let manifest = MANIFEST
        .replace("verbs = [\"list\", \"remove\", \"archive\", \"truncate\"]", verbs)
        .replace("archive_to = { from = \"operator\" }\n", "")
        .replace("in_use = \"truncate\"\n", "");
    let set_aside = |place: &str| {
        let left = format!("verbs = [\"set-aside\"]\n{place}");
        let host = HOST.replace("verbs = [\"remove\", \"archive\", \"truncate\"]\n", &left);
        let effective = bound(&manifest, &host, "mount:/var");
        let dir = effective.dir("logs").unwrap();
        dir.admits(Path::new("a.gz"), FilesVerb::SetAside).map(|()| dir.set_aside.clone().unwrap().to_string())
    };
    assert_eq!(set_aside("set_aside = \"/var/aside\"\n").unwrap(), "/var/aside");
    let denial = set_aside("").unwrap_err();
    assert_eq!((denial.cause, denial.rule.as_str()), (DenialCause::Unavailable, "runner.directory.set_aside"));
}

#[test]
fn the_operators_empty_list_means_observe() {
    let host = HOST
        .replace("verbs = [\"remove\", \"archive\", \"truncate\"]\n", "")
        .replace("verbs = [\"restart\", \"set-property\", \"kill\"]\n", "");
    let effective = bound(MANIFEST, &host, "unit:web.service");
    let dir = effective.dir("logs").unwrap();
    assert!(dir.admits_verb(FilesVerb::List).is_ok());
    assert_eq!(rule(dir.admits(Path::new("a.gz"), FilesVerb::Remove)), "runner.directory.verbs");
    let unit = effective.unit("target").unwrap();
    assert!(unit.admits(&UnitCall::Status).is_ok());
    assert_eq!(rule(unit.admits(&UnitCall::Restart)), "runner.unit.verbs");
}

// FS20.
#[test]
fn age_amount_rank_and_use_have_their_limits() {
    let effective = on_mount();
    let dir = effective.dir("logs").unwrap();
    let (path, remove) = (Path::new("a.gz"), FilesVerb::Remove);
    let day = Duration::from_secs(86_400);
    assert!(dir.admits_age(path, remove, day).is_ok());
    assert_eq!(rule(dir.admits_age(path, remove, day - Duration::from_secs(1))), "min_age");
    let mib = 1 << 20;
    assert!(dir.admits_amount(path, remove, Spent { files: 1, bytes: 0 }, mib).is_ok());
    assert_eq!(rule(dir.admits_amount(path, remove, Spent { files: 2, bytes: 0 }, 1)), "max_files");
    assert_eq!(rule(dir.admits_amount(path, remove, Spent { files: 1, bytes: 1 }, mib)), "max_bytes");
    assert_eq!(rule(dir.admits_amount(path, remove, Spent { files: 1, bytes: u64::MAX }, u64::MAX)), "max_bytes");
    assert!(dir.admits_rank(path, remove, 1).is_ok());
    assert_eq!(rule(dir.admits_rank(path, remove, 0)), "keep_newest");
    assert!(dir.admits_rank(path, FilesVerb::Truncate, 0).is_ok());
    assert!(dir.admits_use(path, remove, Use::Closed).is_ok());
    assert!(dir.admits_use(path, FilesVerb::Truncate, Use::AppendedOnly).is_ok());
    assert_eq!(rule(dir.admits_use(path, FilesVerb::Truncate, Use::Open)), "in_use");
    assert_eq!(rule(dir.admits_use(path, remove, Use::AppendedOnly)), "in_use");
}

#[test]
fn reproducible_globs_are_the_operators_and_count_from_his_directory() {
    let named = MANIFEST.replace("dir = { from = \"operator\" }", "dir = \"/var/log/old\"");
    let effective = bound(&named, HOST, "mount:/var");
    assert!(effective.dir("logs").unwrap().is_reproducible(Path::new("a.gz")));
    assert!(!on_mount().dir("logs").unwrap().is_reproducible(Path::new("a.gz")));
    assert!(on_mount().dir("logs").unwrap().is_reproducible(Path::new("old/a.gz")));
}

// SV12.
#[test]
fn a_unit_call_is_held_to_verbs_signals_and_bounds() {
    let effective = on_unit();
    let unit = effective.unit("target").unwrap();
    let quota = |value| UnitCall::SetProperty { property: Property::CpuQuota(value) };
    let kill = |signal| UnitCall::Kill { whom: KillWhom::All, signal };
    for call in
        [UnitCall::Name, UnitCall::Status, UnitCall::Restart, quota(Some(100)), quota(Some(500)), kill(Signal::Term)]
    {
        assert!(unit.admits(&call).is_ok(), "{call:?}");
    }
    for (call, wanted) in [
        (UnitCall::Stop, "verbs"),
        (UnitCall::LogTail { lines: 1 }, "verbs"),
        (quota(Some(99)), "bounds"),
        (quota(Some(501)), "bounds"),
        (quota(None), "bounds"),
        (UnitCall::SetProperty { property: Property::TasksMax(Some(1)) }, "bounds"),
        (kill(Signal::Kill), "signals"),
    ] {
        assert_eq!(rule(unit.admits(&call)), wanted, "{call:?}");
    }
}

#[test]
fn each_property_is_held_to_its_own_bounds() {
    let bounds = "cpu_quota = { min = \"10%\", max = \"50%\" }\ncpu_weight = { min = 20, max = 90 }\n\
                  memory_high = { min = \"64MiB\", max = \"1GiB\" }\ntasks_max = { min = 8, max = 64 }";
    let manifest = MANIFEST.replace("cpu_quota = { min = \"10%\", max = \"50%\" }", bounds);
    let effective = bound(&manifest, HOST, "unit:web.service");
    let unit = effective.unit("target").unwrap();
    let admits = |property| unit.admits(&UnitCall::SetProperty { property });
    let small = |value: Option<u64>| value.map(|value| u32::try_from(value).unwrap());
    let properties: [(&dyn Fn(Option<u64>) -> Property, _, _); 4] = [
        (&|value| Property::CpuQuota(small(value)), 100, 500),
        (&|value| Property::CpuWeight(small(value)), 20, 90),
        (&Property::MemoryHigh, 64 << 20, 1 << 30),
        (&Property::TasksMax, 8, 64),
    ];
    for (property, min, max) in properties {
        for inside in [min, max] {
            assert_eq!(admits(property(Some(inside))), Ok(()), "{}", property(Some(inside)));
        }
        for outside in [None, Some(min - 1), Some(max + 1)] {
            assert_eq!(rule(admits(property(outside))), "bounds", "{}", property(outside));
        }
    }
}

#[test]
fn a_unit_that_is_named_is_that_one_whatever_the_incident_is_about() {
    let named = |name: &str| MANIFEST.replace("unit = { from = \"incident\" }", &format!("unit = \"{name}\""));
    let unit = |name: &str, target| bound(&named(name), HOST, target).unit("target").map(|unit| unit.unit.to_string());
    for target in ["unit:db.service", "mount:/var", "host"] {
        assert_eq!(unit("web.service", target).unwrap(), "web.service");
        assert_eq!(rule(unit("db.service", target)), "runner.unit");
    }
}

// PR04.
#[test]
fn a_group_call_is_held_to_verbs_and_signals() {
    let effective = on_unit();
    let group = effective.group("target").unwrap();
    assert!(group.admits_group(&GroupCall::Renice { nice: 5 }).is_ok());
    assert!(group.admits_process(&ProcessCall::Signal { signal: Signal::Term }).is_ok());
    assert_eq!(rule(group.admits_group(&GroupCall::SetAffinity { cpus: 1 })), "verbs");
    assert_eq!(rule(group.admits_process(&ProcessCall::Info)), "verbs");
    assert_eq!(rule(group.admits_process(&ProcessCall::Signal { signal: Signal::Kill })), "signals");
}

/// Writes the lines of a suggestion into the two files.
pub(super) fn applied(suggestion: &str, manifest: &str, host: &str) -> (String, String) {
    let mut manifest: toml::Table = manifest.parse().unwrap();
    let mut host: toml::Table = host.parse().unwrap();
    for line in suggestion.lines() {
        if let Some(line) = line.strip_prefix("remedy.toml: ") {
            merge(&mut manifest, line.parse().unwrap_or_else(|error| panic!("{line}: {error}")));
        } else {
            let line = line.strip_prefix("runner.toml: in [[").unwrap_or_else(|| panic!("{line}"));
            let (table, rest) = line.split_once("]] ").unwrap();
            let (id, pair) = rest.split_once(": ").unwrap();
            let (id, pair): (toml::Table, toml::Table) = (id.parse().unwrap(), pair.parse().unwrap());
            let list = host.entry(table).or_insert_with(|| toml::Value::Array(Vec::new())).as_array_mut().unwrap();
            let (key, value) = id.iter().next().unwrap();
            if !list.iter().any(|entry| entry.get(key) == Some(value)) {
                list.push(toml::Value::Table(id.clone()));
            }
            let entry = list.iter_mut().find(|entry| entry.get(key) == Some(value)).unwrap();
            merge(entry.as_table_mut().unwrap(), pair);
        }
    }
    (manifest.to_string(), host.to_string())
}

fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            // `grants.files.logs.verbs` goes down through tables; the value at the end takes the old one's place.
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) if !new.contains_key("min") => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// Every files call that a remedy could try on a handful of paths.
fn file_calls() -> Vec<(&'static str, FilesVerb)> {
    let paths = [
        "a.gz",
        "app/b.gz",
        "c.log",
        "c.txt",
        "keep/a.gz",
        "keep/x",
        "we[i]rd?.txt",
        "sp ace.txt",
        "q\"uote'.txt",
        "tab\\.txt",
    ];
    paths.into_iter().flat_map(|path| FilesVerb::ALL.iter().map(move |verb| (path, *verb))).collect()
}

fn unit_calls() -> Vec<UnitCall> {
    let property = |property| UnitCall::SetProperty { property };
    let kill = |signal| UnitCall::Kill { whom: KillWhom::Main, signal };
    vec![
        UnitCall::Status,
        UnitCall::Start,
        UnitCall::Stop,
        UnitCall::Restart,
        UnitCall::Reload,
        UnitCall::ResetFailed,
        UnitCall::LogTail { lines: 5 },
        kill(Signal::Term),
        kill(Signal::Usr1),
        property(Property::CpuQuota(Some(55))),
        property(Property::CpuQuota(Some(2000))),
        property(Property::CpuWeight(Some(7))),
        property(Property::MemoryHigh(Some(12_345_678))),
        property(Property::TasksMax(Some(9))),
    ]
}

#[test]
fn a_files_suggestion_allows_exactly_the_call_it_was_made_for() {
    let calls = file_calls();
    let admits = |effective: &Effective, (path, verb): &(&str, FilesVerb)| {
        effective.dir("logs").and_then(|dir| dir.admits(Path::new(path), *verb))
    };
    let before = on_mount();
    for call in &calls {
        let Err(denial) = admits(&before, call) else { continue };
        let suggestion = denial.suggestion.unwrap_or_else(|| panic!("{call:?}: no suggestion"));
        let (manifest, host) = applied(&suggestion, MANIFEST, HOST);
        let after = bound(&manifest, &host, "mount:/var");
        admits(&after, call).unwrap_or_else(|denial| panic!("{call:?} after {suggestion}: {denial}"));
        // A new verb holds for the paths that were let through before, and a new path for the verbs: nothing else is new.
        // (Leaving out an exception lets through what else it held back; no smaller line exists.)
        for other in calls.iter().filter(|other| other.0 != call.0 && other.1 != call.1) {
            let newly = admits(&before, other).is_err() && admits(&after, other).is_ok();
            let through_except = call.0.starts_with("keep/") && other.0.starts_with("keep/");
            assert!(!newly || through_except, "{call:?} also allowed {other:?}: {suggestion}");
        }
    }
}

#[test]
fn a_units_suggestion_allows_exactly_the_call_it_was_made_for() {
    let calls = unit_calls();
    let admits = |effective: &Effective, call: &UnitCall| effective.unit("target").and_then(|unit| unit.admits(call));
    let before = on_unit();
    for call in &calls {
        let Err(denial) = admits(&before, call) else { continue };
        let suggestion = denial.suggestion.unwrap_or_else(|| panic!("{call:?}: no suggestion"));
        let (manifest, host) = applied(&suggestion, MANIFEST, HOST);
        let after = bound(&manifest, &host, "unit:web.service");
        admits(&after, call).unwrap_or_else(|denial| panic!("{call:?} after {suggestion}: {denial}"));
        for other in calls.iter().filter(|other| *other != call) {
            assert!(
                admits(&before, other).is_ok() || admits(&after, other).is_err(),
                "{call:?} also allowed {other:?}: {suggestion}"
            );
        }
    }
}

#[test]
fn a_limits_suggestion_allows_exactly_that_much() {
    let effective = on_mount();
    let dir = effective.dir("logs").unwrap();
    let (path, remove, truncate) = (Path::new("a.gz"), FilesVerb::Remove, FilesVerb::Truncate);
    let hour = Duration::from_secs(3600);
    let spent = Spent { files: 7, bytes: 1 << 21 };
    let refuse = bound(&MANIFEST.replace("in_use = \"truncate\"\n", ""), HOST, "mount:/var");
    let denials = [
        dir.admits_age(path, remove, hour),
        dir.admits_amount(path, remove, spent, 9),
        dir.admits_rank(path, remove, 0),
        refuse.dir("logs").unwrap().admits_use(path, truncate, Use::AppendedOnly),
    ];
    let mut manifest = MANIFEST.to_owned();
    for denial in denials {
        manifest = applied(&denial.unwrap_err().suggestion.unwrap(), &manifest, HOST).0;
    }
    let effective = bound(&manifest, HOST, "mount:/var");
    let dir = effective.dir("logs").unwrap();
    assert!(
        dir.admits_age(path, remove, hour).is_ok()
            && dir.admits_age(path, remove, hour - Duration::from_secs(1)).is_err()
    );
    assert!(dir.admits_amount(path, remove, spent, 9).is_ok() && dir.admits_amount(path, remove, spent, 10).is_err());
    assert!(dir.admits_rank(path, remove, 0).is_ok());
    assert!(dir.admits_use(path, truncate, Use::AppendedOnly).is_ok());
}

#[test]
fn a_binding_suggestion_binds_the_label() {
    for (host, target) in [
        ("", "unit:db.service"),
        ("", "unit:db"),
        (HOST, "unit:db.service"),
        ("[[mount]]\npath = \"/srv\"\n", "mount:/srv"),
    ] {
        let before = bound(MANIFEST, host, target);
        for ((interface, label), denial) in &before.unbound {
            let Some(suggestion) = &denial.suggestion else { continue };
            let (manifest, host) = applied(suggestion, MANIFEST, host);
            let after = bound(&manifest, &host, target);
            assert!(
                !after.unbound.contains_key(&(*interface, label.clone())),
                "{interface:?} {label} after {suggestion}"
            );
        }
    }
}

/// Some of the items, in their order.
fn some<T: Clone + std::fmt::Debug + 'static>(items: &'static [T]) -> impl Strategy<Value = Vec<T>> {
    proptest::sample::subsequence(items, 0..=items.len())
}

/// Everything that is allowed here, as words.
fn allowed(effective: &Effective) -> std::collections::BTreeSet<String> {
    let mut set = std::collections::BTreeSet::new();
    for (path, verb) in file_calls() {
        if effective.dir("logs").is_ok_and(|dir| dir.admits(Path::new(path), verb).is_ok()) {
            set.insert(format!("{verb} {path}"));
        }
    }
    for call in unit_calls() {
        if effective.unit("target").is_ok_and(|unit| unit.admits(&call).is_ok()) {
            set.insert(format!("{call:?}"));
        }
    }
    for call in [GroupCall::List, GroupCall::Usage, GroupCall::SetAffinity { cpus: 1 }, GroupCall::Renice { nice: 1 }] {
        if effective.group("target").is_ok_and(|group| group.admits_group(&call).is_ok()) {
            set.insert(format!("{call:?}"));
        }
    }
    set
}

fn host_with(files: &[FilesVerb], units: &[UnitsVerb], processes: &[ProcessesVerb], archive: bool) -> String {
    let words = |words: Vec<String>| suggest::list(words);
    let archive = if archive { "archive_to = \"/data/archive\"" } else { "" };
    format!(
        "[[unit]]\nname = \"web.service\"\nverbs = {}\nprocesses = {}\n[[directory]]\npath = \"/var/log\"\nlabel = \"logs\"\nverbs = {}\n{archive}\n",
        words(units.iter().map(ToString::to_string).collect()),
        words(processes.iter().map(ToString::to_string).collect()),
        words(files.iter().map(ToString::to_string).collect()),
    )
}

proptest! {
    // SG13.
    #[test]
    fn less_configuration_never_allows_more(
        files in some(FilesVerb::ALL),
        units in some(UnitsVerb::ALL),
        processes in some(ProcessesVerb::ALL),
        archive: bool,
        mask: u32,
    ) {
        let fewer = |index: usize| mask >> (index % 32) & 1 == 1;
        fn thin<T: Copy>(items: &[T], keep: impl Fn(usize) -> bool) -> Vec<T> {
            items.iter().enumerate().filter(|(index, _)| keep(*index)).map(|(_, item)| *item).collect()
        }
        let more = bound(MANIFEST, &host_with(&files, &units, &processes, archive), "unit:web.service");
        let less_text = host_with(&thin(&files, fewer), &thin(&units, fewer), &thin(&processes, fewer), archive && fewer(31));
        let less = bound(MANIFEST, &less_text, "unit:web.service");
        prop_assert!(allowed(&less).is_subset(&allowed(&more)));
        // And the manifest is the other factor: nothing beyond it is allowed, however much the operator leaves.
        let all = bound(MANIFEST, &host_with(FilesVerb::ALL, UnitsVerb::ALL, ProcessesVerb::ALL, true), "unit:web.service");
        prop_assert!(allowed(&more).is_subset(&allowed(&all)));
    }

    // FS01.
    #[test]
    fn no_path_escapes(path in "(/|\\.|\\.\\.|a|b\\.gz|\u{0}| ){0,12}") {
        let effective = on_mount();
        let dir = effective.dir("logs").unwrap();
        if dir.admits(Path::new(&path), FilesVerb::Remove).is_ok() {
            let plain = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
            prop_assert!(plain, "{path:?}");
        }
    }

    #[test]
    fn parsing_never_panics(text in "\\PC{0,200}") {
        let _ignored = (Manifest::parse(&text).is_ok(), HostConfig::parse(&text).is_ok(), crate::playbook::parse(&text).is_ok());
    }

    #[test]
    fn a_manifest_with_one_byte_changed_is_read_or_refused(index in 0..MANIFEST.len(), byte in 0x20_u8..0x7f) {
        let mut bytes = MANIFEST.as_bytes().to_vec();
        bytes[index] = byte;
        let _ignored = Manifest::parse(std::str::from_utf8(&bytes).unwrap()).is_ok();
    }
}

#[test]
fn zero_min_age_is_any_age() {
    let manifest = MANIFEST.replace("min_age = \"1d\"", "min_age = \"0s\"");
    let effective = bound(&manifest, HOST, "mount:/var");
    assert_eq!(effective.dir("logs").unwrap().min_age, Span::from_millis(0));
    assert!(effective.dir("logs").unwrap().admits_age(Path::new("a.gz"), FilesVerb::Remove, Duration::ZERO).is_ok());
}
