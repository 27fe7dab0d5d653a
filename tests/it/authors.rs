//! `theriac remedy learn`, `record`, `replay`, `bench`, `run --dry` and `diff`, as an author and an approver use them: the real
//! command, the real worker, shipped remedies.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use theriac_authority::manifest::Manifest;
use theriac_authority::package;
use theriac_harness::{Programs, Recording, replays, test};

use crate::host::{binary, guest, root};

fn theriac(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    let mut command = Command::new(binary("theriac"));
    command.arg("remedy");
    for argument in arguments {
        command.arg(argument);
    }
    command.output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn done(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> String {
    let output = theriac(arguments);
    assert_eq!(code(&output), 0, "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn disk_reclaim() -> PathBuf {
    root().join("plugins/disk-reclaim")
}

/// The component of a shipped remedy, as the compiler made it.
fn component(name: &str) -> PathBuf {
    let _built = guest(name);
    root().join("plugins/target/wasm32-wasip2/release").join(format!("{}.wasm", name.replace('-', "_")))
}

/// `remedy.toml` with other grants.
fn with_grants(manifest: &str, grants: &str) -> String {
    let at = manifest.find("[grants.").unwrap();
    let end = manifest.find("[limits]").unwrap_or(manifest.len());
    format!("{}{grants}\n{}", &manifest[..at], &manifest[end..])
}

const SCENARIO: &str = "archives-the-oldest";

#[test]
fn the_learned_grants_are_enough_and_one_verb_less_is_not() {
    let scenario = disk_reclaim().join(format!("scenarios/{SCENARIO}.toml"));
    let component = component("disk-reclaim");
    let output = theriac(&[&"learn", &disk_reclaim(), &"--component", &component, &"--scenario", &scenario, &"--json"]);
    assert_eq!(code(&output), 0, "{}", said(&output));
    let learned: Value = serde_json::from_slice(&output.stdout).unwrap();
    let grants = learned["grants"].as_str().unwrap();

    let shipped = fs::read_to_string(disk_reclaim().join("remedy.toml")).unwrap();
    let smallest = with_grants(&shipped, grants);
    let manifest = Manifest::parse(&smallest).unwrap_or_else(|error| panic!("{error}\n{smallest}"));
    let (asked, needed) = (Manifest::parse(&shipped).unwrap().grants, manifest.grants);
    for (label, grant) in &needed.files {
        assert!(grant.verbs.is_subset(&asked.files[label].verbs), "{grants}");
        assert!(grant.max_files < asked.files[label].max_files, "{grants}");
        assert!(grant.matching.iter().all(|glob| !glob.contains('*')), "files by their names: {grants}");
    }

    let scratch = scratch();
    let plays = |name: &str, manifest: &str| {
        let file = scratch.path().join(name);
        fs::write(&file, package::embed(&fs::read(&component).unwrap(), manifest).unwrap()).unwrap();
        let scenarios = disk_reclaim().join("scenarios");
        test(&Programs::beside_this_one().unwrap(), &file, &scenarios, SCENARIO).unwrap()
    };
    let enough = plays("enough.wasm", &smallest);
    assert!(enough.passed(), "{grants}\n{enough}");
    let less = smallest.replacen("\"stat\", ", "", 1);
    assert_ne!(less, smallest, "{grants}");
    assert!(!plays("less.wasm", &less).passed(), "a verb that was learned is needed:\n{less}");
}

/// A recording of that scenario.
fn recorded(scratch: &Path, remedy: &Path, scenario: &Path) -> PathBuf {
    let out = scratch.join("one.json");
    done(&[&"record", &remedy, &"--scenario", &scenario, &"--out", &out]);
    out
}

fn written(scratch: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let file = scratch.join(name);
    fs::write(&file, bytes).unwrap();
    file
}

#[test]
fn a_recorded_run_repeats_itself_and_a_changed_answer_is_noticed() {
    let scratch = scratch();
    let remedy = written(scratch.path(), "disk-reclaim.wasm", &guest("disk-reclaim"));
    let scenario = disk_reclaim().join(format!("scenarios/{SCENARIO}.toml"));
    let recording = recorded(scratch.path(), &remedy, &scenario);
    assert!(done(&[&"replay", &remedy, &recording, &"--assert"]).starts_with("as recorded: "));

    // The file is read by people: each host call is on a line of its own.
    let text = fs::read_to_string(&recording).unwrap();
    let calls = Recording::read(&recording).unwrap().exchanges.len();
    assert_eq!(text.lines().filter(|line| line.trim_start().starts_with("{\"call\":")).count(), calls);
    assert!(text.contains("\"archive\""), "its effects are in it: {text}");

    // Each look at the filesystem says that everything is free: no file need go.
    let mut altered: Value = serde_json::from_str(&text).unwrap();
    let exchanges = altered["exchanges"].as_array_mut().unwrap();
    for space in exchanges.iter_mut().filter_map(|exchange| exchange["reply"].get_mut("space")) {
        space["available"] = space["total"].clone();
    }
    let altered = written(scratch.path(), "altered.json", altered.to_string().as_bytes());
    let other = theriac(&[&"replay", &remedy, &altered, &"--assert"]);
    let unasserted = theriac(&[&"replay", &remedy, &altered]);
    assert_eq!((code(&other), code(&unasserted)), (5, 0), "{}", said(&other));
    assert!(said(&other).contains("NOT as recorded"), "{}", said(&other));
    let twice = theriac(&[&"record", &remedy, &"--scenario", &scenario, &"--out", &recording]);
    assert_eq!(code(&twice), 1, "a recording is not overwritten: {}", said(&twice));
}

#[test]
fn a_recording_becomes_a_test_of_the_remedy() {
    let scratch = scratch();
    let remedy = written(scratch.path(), "disk-reclaim.wasm", &guest("disk-reclaim"));
    let recording = recorded(scratch.path(), &remedy, &disk_reclaim().join(format!("scenarios/{SCENARIO}.toml")));
    let dir = scratch.path().join("remedy");
    done(&[&"replay", &remedy, &recording, &"--emit-test", &dir]);
    let replayed = |name: &str| {
        let package = package::open(guest(name)).unwrap();
        replays(&Programs::beside_this_one().unwrap(), &package, &dir.join("recordings"), "").unwrap()
    };
    let [same] = replayed("disk-reclaim").try_into().unwrap();
    assert!(matches!(same.verdict, theriac_harness::Verdict::Passed { .. }), "{same:?}");
    let [other] = replayed("service-recover").try_into().unwrap();
    assert!(matches!(other.verdict, theriac_harness::Verdict::Failed { .. }), "{other:?}");
}

#[test]
fn a_bench_says_what_each_step_costs() {
    let scratch = scratch();
    let remedy = written(scratch.path(), "disk-reclaim.wasm", &guest("disk-reclaim"));
    let recording = recorded(scratch.path(), &remedy, &disk_reclaim().join(format!("scenarios/{SCENARIO}.toml")));
    let figures = done(&[&"bench", &remedy, &"--recording", &recording, &"--runs", &"10", &"--json"]);
    let figures: Value = serde_json::from_str(&figures).unwrap();
    let times = figures["times"].as_array().unwrap();
    let what: Vec<&str> = times.iter().map(|time| time["what"].as_str().unwrap()).collect();
    assert_eq!(what.len(), 6, "{what:?}");
    assert!(times.iter().all(|time| time["least_us"].as_u64() <= time["median_us"].as_u64()), "{figures}");
    let calls = Recording::read(&recording).unwrap().exchanges.len();
    assert_eq!(figures["host_calls"].as_u64(), Some(calls as u64));
    assert!(figures["peak_memory_bytes"].as_u64() > Some(1 << 20), "{figures}");
    let denied = done(&[&"bench", &remedy, &"--runs", &"2"]);
    assert!(denied.contains("to the first host call") && denied.contains("of memory at most"), "{denied}");
}

#[test]
fn an_unsigned_remedy_plans_in_a_directory_of_ones_own_and_changes_nothing() {
    let scratch = scratch();
    let remedy = written(scratch.path(), "two-faced.wasm", &guest("two-faced"));
    let logs = scratch.path().join("root/logs");
    fs::create_dir_all(&logs).unwrap();
    fs::write(logs.join("old.log.1"), "a line\n").unwrap();
    let world = scratch.path().join("root");
    let dry = done(&[&"run", &remedy, &"--dry", &"--root", &world, &"--fault", &"disk-full"]);
    assert!(dry.contains("old.log.1") && dry.contains("nothing was changed"), "{dry}");
    assert_eq!(fs::read_to_string(logs.join("old.log.1")).unwrap(), "a line\n");
    let wet = theriac(&[&"run", &remedy, &"--root", &world, &"--fault", &"disk-full"]);
    assert_eq!(code(&wet), 2, "there is no live run here: {}", said(&wet));
}

#[test]
fn a_diff_exits_with_3_exactly_where_rights_grew() {
    let scratch = scratch();
    let shipped = fs::read_to_string(disk_reclaim().join("remedy.toml")).unwrap();
    let component = fs::read(component("disk-reclaim")).unwrap();
    let version =
        |name: &str, manifest: &str| written(scratch.path(), name, &package::embed(&component, manifest).unwrap());
    let files = Manifest::parse(&shipped).unwrap().grants.files;
    let most = files.values().map(|grant| grant.max_files).max().unwrap();
    let line = shipped.lines().find(|line| line.starts_with("max_files") && line.contains(&most.to_string())).unwrap();
    let old = version("old.wasm", &shipped);
    let less = version("less.wasm", &shipped.replace(line, &format!("max_files = {}", most - 1)));
    let more = version("more.wasm", &shipped.replace(line, &format!("max_files = {}", most + 1)));
    assert_eq!(code(&theriac(&[&"diff", &old, &less])), 0);
    let grew = theriac(&[&"diff", &old, &more]);
    assert_eq!(code(&grew), 3, "{}", said(&grew));
    assert!(said(&grew).contains("its rights grew"), "{}", said(&grew));
}
