//! `wasi = "sealed"`: components of other languages' tools run, their manifests bind them, and through WASI they reach nothing.
//! Real runner, real workers; an ordinary `std` guest that tries all of WASI, and a remedy in JavaScript.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use theriac_authority::package;
use theriac_harness::{Programs, test};
use theriac_model::record::Record;
use theriac_model::run::RunState;
use theriac_protocol::operator::{OperatorAnswer, OperatorRequest};

use crate::deny::{Ward, rung};
use crate::host::{Host, proposal, root};

fn logged(host: &Host) -> Vec<String> {
    let text = |record| if let Record::RemedyLog { text, .. } = record { Some(text) } else { None };
    host.records().into_iter().filter_map(text).collect()
}

#[test]
fn an_ordinary_guest_with_a_sealed_wasi_reaches_nothing_and_prints_to_the_log() {
    let ward = Ward::with(vec!["sealed", "wasi"], &rung("sealed"));

    let run = ward.try_it("sealed", None);

    assert_eq!(run.state, RunState::Refused, "{run:?}");
    assert!(run.reason.contains("11 attempts, nothing was reached"), "{}", run.reason);
    assert!(!std::path::Path::new("/tmp/leak").exists() && !std::path::Path::new("/leak").exists());
    let lines = logged(&ward.host);
    assert!(lines.iter().any(|line| line.ends_with("stdout: it is 946684800")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.ends_with("stderr: this line has no end")), "{lines:#?}");

    ward.host.heal(&proposal("i-again", "service-unhealthy", "unit:sick", "test", "sealed"));
    let again = logged(&ward.host);
    assert_eq!(again[lines.len()..], lines, "the same clock and the same random numbers in each run");
}

#[test]
fn the_same_component_without_the_line_is_refused_at_load_and_the_line_is_named() {
    let ward = Ward::with(vec!["sealed", "wasi"], &rung("sealed"));
    let OperatorAnswer::Status(status) = ward.host.operator(&OperatorRequest::Status) else { panic!("no status") };
    let [(file, why)] = status.refused.as_slice() else { panic!("{:?}", status.refused) };
    assert_eq!(file, "wasi.wasm");
    assert!(why.contains("it imports `wasi:") && why.contains("`wasi = \"sealed\"`"), "{why}");
}

/// The component that JavaScript's tools make of the remedy in `tests/guests/javascript`, with its manifest. `None` where they
/// are not installed, which CI does not let pass.
pub(crate) fn javascript() -> Option<&'static [u8]> {
    static BUILT: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    BUILT.get_or_init(|| componentize(&root().join("tests/guests/javascript"))).as_deref()
}

fn componentize(dir: &Path) -> Option<Vec<u8>> {
    let tool = dir.join("node_modules/.bin/componentize-qjs");
    if !tool.exists() {
        let sentence =
            "not tested: `npm install` in tests/guests/javascript installs the compiler of the remedy in JavaScript";
        assert!(std::env::var_os("CI").is_none(), "{sentence}");
        println!("{sentence}");
        return None;
    }
    let scratch = tempfile::tempdir().unwrap();
    let wit = scratch.path().join("wit");
    copy(&root().join("wit"), &wit.join("deps/theriac"));
    fs::copy(dir.join("world.wit"), wit.join("world.wit")).unwrap();
    let component = scratch.path().join("component.wasm");
    let made = Command::new(tool)
        .arg("--wit")
        .arg(&wit)
        .arg("--js")
        .arg(dir.join("remedy.js"))
        .args(["--sync", "--opt-size", "--output"])
        .arg(&component)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let manifest = fs::read_to_string(dir.join("remedy.toml")).unwrap();
    Some(package::embed(&fs::read(component).unwrap(), &manifest).unwrap())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

fn written(component: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("javascript.wasm");
    fs::write(&file, component).unwrap();
    (scratch, file)
}

#[test]
fn a_remedy_in_javascript_does_what_its_manifest_grants_and_is_denied_the_rest() {
    let Some(component) = javascript() else { return };
    let (_scratch, file) = written(component);
    let scenarios = root().join("tests/guests/javascript/scenarios");
    let summary = test(&Programs::beside_this_one().unwrap(), &file, &scenarios, "").unwrap();
    assert!(summary.passed() && summary.outcomes.len() == 2, "{summary}");
}

#[test]
fn an_interpreter_is_held_to_its_limits() {
    let Some(component) = javascript() else { return };
    let ward = Ward::with_files(vec![("javascript", component.to_vec())], &rung("javascript"));
    let spun = ward.try_it("javascript", Some(("attempt", "spin")));
    assert!(spun.state == RunState::Refused && spun.reason.contains("time limit 2 s"), "{spun:?}");
    let hoarded = ward.try_it("javascript", Some(("attempt", "hoard")));
    assert!(hoarded.state == RunState::Refused && hoarded.reason.contains("allowed 32 MiB"), "{hoarded:?}");
}
