//! `wasi = "sealed"`: components of other languages' tools run, their manifests bind them, and through WASI they reach nothing.
//! Real runner, real workers; an ordinary `std` guest that tries all of WASI.

use theriac_model::record::Record;
use theriac_model::run::RunState;
use theriac_protocol::operator::{OperatorAnswer, OperatorRequest};

use crate::deny::{Ward, rung};
use crate::host::{Host, proposal};

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
