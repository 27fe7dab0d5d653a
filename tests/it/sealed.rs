//! `wasi = "sealed"`: components of other languages' tools run, their manifests bind them, and through WASI they reach nothing.
//! Real runner, real workers; an ordinary `std` guest that tries all of WASI, and a remedy in C.

use std::fs;
use std::process::{Command, Stdio};

use theriac_model::denial::DenialCause;
use theriac_model::record::Record;
use theriac_model::run::RunState;
use theriac_protocol::operator::{OperatorAnswer, OperatorRequest};

use crate::deny::{Ward, rung};
use crate::host::{Host, Setup, binary, from_c, guest_with_line, proposal, root};

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

/// Whether C can be made into WebAssembly here, which CI has to be able to. An empty program takes every part of it.
fn c_is_here() -> bool {
    let scratch = tempfile::tempdir().unwrap();
    let made = Command::new("clang")
        .args(["--target=wasm32-wasi", "-mexec-model=reactor", "-x", "c", "-", "-o"])
        .arg(scratch.path().join("empty.wasm"))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let is_here = made.is_ok_and(|status| status.success());
    if !is_here {
        let sentence = "not tested: the remedy in C needs clang, lld, wasi-libc and libclang-rt-14-dev-wasm32, as Debian calls them";
        assert!(std::env::var_os("CI").is_none(), "{sentence}");
        println!("{sentence}");
    }
    is_here
}

fn granted(ward: &Ward) -> Vec<String> {
    let names = fs::read_dir(ward.host.path().join("granted")).unwrap();
    let mut names: Vec<String> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_remedy_in_c_passes_its_scenarios() {
    if !c_is_here() {
        return;
    }
    let tested = Command::new(binary("theriac"))
        .args(["remedy", "test"])
        .arg(root().join("tests/guests/in-c"))
        .arg("--component")
        .arg(from_c("in-c"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&tested.stdout);
    assert!(tested.status.success() && said.contains("2 passed"), "{said}{}", String::from_utf8_lossy(&tested.stderr));
}

#[test]
fn a_remedy_in_c_removes_what_its_manifest_grants_and_prints_to_the_log() {
    if !c_is_here() {
        return;
    }
    let ward = Ward::with(vec!["in-c"], &rung("in-c"));

    let run = ward.try_it("in-c", None);

    assert_eq!(granted(&ward), ["app.conf", "app.log", "escape.log"], "{run:?}");
    let lines = logged(&ward.host);
    for name in ["old.log.1", "older.log.2"] {
        assert!(lines.iter().any(|line| line.contains(&format!("stdout: removed {name}: "))), "{lines:#?}");
    }
}

#[test]
fn a_remedy_in_c_is_told_of_each_denial_by_its_case_and_changes_nothing() {
    if !c_is_here() {
        return;
    }
    let ward = Ward::with(vec!["in-c"], &rung("in-c"));
    let before = granted(&ward);

    let run = ward.try_it("in-c", Some(("attempt", "others")));

    assert_eq!(run.state, RunState::Refused, "{run:?}");
    assert!(run.reason.contains("3 calls, none of them granted"), "{}", run.reason);
    let lines = logged(&ward.host);
    for what in ["another label", "another verb", "a verb with content"] {
        assert!(lines.iter().any(|line| line.ends_with(&format!("stdout: {what}: not-granted"))), "{lines:#?}");
    }
    let denied =
        |record: &Record| matches!(record, Record::Denied { denial, .. } if denial.cause == DenialCause::NotGranted);
    assert_eq!(
        ward.host.records().iter().filter(|record| denied(record)).count(),
        3,
        "what C saw, the runner recorded"
    );
    assert_eq!(granted(&ward), before);
}

#[test]
fn a_remedy_in_c_without_the_line_is_refused_at_load() {
    if !c_is_here() {
        return;
    }
    let bare = guest_with_line("in-c", "wasi         = \"sealed\"\n", "");
    let host = Host::start(&Setup { packages: vec![("in-c", bare)], ..Setup::default() });
    let OperatorAnswer::Status(status) = host.operator(&OperatorRequest::Status) else { panic!("no status") };
    let [(file, why)] = status.refused.as_slice() else { panic!("{:?}", status.refused) };
    assert_eq!(file, "in-c.wasm");
    assert!(why.contains("it imports `wasi:") && why.contains("`wasi = \"sealed\"`"), "{why}");
}
