//! A remedy is compiled in one process, loaded in another, linked with what is granted, and called.

use theriac_model::call::{Call, Export, Handle, Interface, Opinion, Reply, Report};
use theriac_model::denial::{Denial, DenialCause};
use theriac_protocol::worker::{EndReason, FromWorker};

use crate::guest::{self, Parts};
use crate::runner::{End, LIMITS, Runner, no_calls, remediate};

/// Opens `logs`, gives it back, and returns what `open` answered where it is a denial.
const OPEN_AND_DROP: &str = "(call $open (i32.const 2048) (i32.const 4) (i32.const 1024))
    (if (i32.eqz (i32.load8_u (i32.const 1024)))
      (then (call $drop (i32.load (i32.const 1028))) (i64.store (i32.const 1024) (i64.const 0)))
      (else
        ;; denial at 1028 becomes the error of the answer: the layouts agree from there on
        (i32.store8 (i32.const 1024) (i32.const 1))))
    (i32.const 1024)";

#[test]
fn a_remedy_runs_from_its_component_to_its_report() {
    let end = remediate(&guest::running(guest::RETURN_ZEROS), no_calls);
    assert!(matches!(end, End::Said(FromWorker::Remediated(Report::Treated(text))) if text.is_empty()));
}

// AB12.
#[test]
fn check_is_called_in_a_store_of_its_own() {
    let component = guest::component(&Parts {
        fields: "(global $ran (mut i32) (i32.const 0))",
        remediate: "(global.set $ran (i32.const 1)) (i32.const 1024)",
        check: "(if (global.get $ran) (then unreachable)) (i32.const 1024)",
        ..Parts::default()
    });
    let (artefact, imports) = Runner::start(&[]).unwrap().compile(&component).unwrap();
    let mut runner = Runner::start(&[]).unwrap();
    runner.load(&artefact, LIMITS, &imports).unwrap();
    assert!(matches!(runner.call(Export::Remediate, no_calls), End::Said(FromWorker::Remediated(_))));
    assert!(matches!(runner.call(Export::Check, no_calls), End::Said(FromWorker::Checked(Opinion::Satisfied))));
}

#[test]
fn a_host_call_arrives_as_a_typed_call_and_the_handle_is_the_runners() {
    let mut calls = Vec::new();
    let end = remediate(&guest::opening(OPEN_AND_DROP), |call| {
        calls.push(call.clone());
        if matches!(call, Call::Open { .. }) { Reply::Opened(Handle(4711)) } else { Reply::Done }
    });
    assert!(matches!(end, End::Said(FromWorker::Remediated(Report::Treated(_)))), "{end:?}");
    assert_eq!(
        calls,
        [Call::Open { interface: Interface::Files, label: "logs".into() }, Call::Drop { handle: Handle(4711) }]
    );
}

#[test]
fn a_denial_reaches_the_remedy_and_comes_back_as_its_answer() {
    let denial = Denial::new(DenialCause::NotGranted, "logs", "label", "open logs").suggest("[grants.files.logs]");
    let sent = denial.clone();
    let end = remediate(&guest::opening(OPEN_AND_DROP), move |_| Reply::Denied(sent.clone()));
    assert!(matches!(&end, End::Said(FromWorker::Remediated(Report::Denied(answer))) if *answer == denial), "{end:?}");
}

// AB14.
#[test]
fn a_reply_of_the_wrong_kind_ends_the_run() {
    let end = remediate(&guest::opening(OPEN_AND_DROP), |_| Reply::Count(1));
    assert_eq!(end.sentence(EndReason::Trap), "the runner's reply does not fit the call");
}

// AB03.
#[test]
fn an_import_that_no_grant_covers_is_not_linked_and_is_named() {
    let (artefact, imports) = Runner::start(&[]).unwrap().compile(&guest::opening(OPEN_AND_DROP)).unwrap();
    assert!(imports.iter().any(|name| name == "theriac:remedy/files@0.1.0"));
    let mut granted = Runner::start(&[]).unwrap();
    granted.load(&artefact, LIMITS, &imports).unwrap();
    let mut bare = Runner::start(&[]).unwrap();
    let sentence = bare.load(&artefact, LIMITS, &[]).unwrap_err().sentence(EndReason::Import);
    assert_eq!(
        sentence,
        "it imports `theriac:remedy/files@0.1.0`, which no grant covers: add `[grants.files.LABEL]` to its manifest, or don't call it"
    );
}

#[test]
fn a_runner_that_goes_away_ends_the_worker() {
    let (artefact, imports) = Runner::start(&[]).unwrap().compile(&guest::opening(OPEN_AND_DROP)).unwrap();
    let mut runner = Runner::start(&[]).unwrap();
    runner.load(&artefact, LIMITS, &imports).unwrap();
    runner.hang_up();
    assert_eq!(runner.child.wait().unwrap().code(), Some(0));
}

// AC03.
#[test]
fn damaged_bytes_in_place_of_an_artefact_are_refused() {
    let mut runner = Runner::start(&[]).unwrap();
    let sentence = runner.load(b"not machine code", LIMITS, &[]).unwrap_err().sentence(EndReason::Malformed);
    assert!(sentence.starts_with("the cached artefact is not of this engine: "), "{sentence}");
}
