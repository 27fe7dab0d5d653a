//! The sealed WASI, import by import: what is linked, what it answers, and that the runner's list decides whether it is there.

use theriac_model::call::{Call, Export, Report};
use theriac_protocol::worker::{EndReason, FromWorker};

use crate::guest::{self, Parts};
use crate::runner::{End, LIMITS, Runner, no_calls, remediate};

/// A guest that calls one function of one interface, which takes nothing and returns what the body leaves.
fn calling(imports: &'static str, fields: &'static str, remediate: &'static str) -> Vec<u8> {
    let with = r#"(with "wasi" (instance (export "f" (func $f))))"#;
    guest::component(&Parts { imports, with, fields, remediate, ..Parts::default() })
}

const COUNT: &str = r#"
  (import "wasi:filesystem/invented@0.2.6" (instance $wasi (export "count" (func (result u64)))))
  (core func $f (canon lower (func $wasi "count")))"#;
const CALL_COUNT: [&str; 2] = [r#"(import "wasi" "f" (func $f (result i64)))"#, "(drop (call $f)) (i32.const 1024)"];

#[test]
fn a_function_whose_type_can_not_say_no_ends_the_guest_by_its_name() {
    let end = remediate(&calling(COUNT, CALL_COUNT[0], CALL_COUNT[1]), no_calls);
    assert_eq!(
        end.sentence(EndReason::Trap),
        "it called `wasi:filesystem/invented.count`, and its WASI is sealed: there is nothing that could be answered"
    );
}

#[test]
fn the_runners_list_decides_whether_a_wasi_is_linked() {
    let component = calling(COUNT, CALL_COUNT[0], "(i32.const 1024)");
    let (artefact, imports) = Runner::start(&[]).unwrap().compile(&component).unwrap();
    let mut granted = Runner::start(&[]).unwrap();
    granted.load(&artefact, LIMITS, &imports).unwrap();
    assert!(matches!(granted.call(Export::Remediate, no_calls), End::Said(FromWorker::Remediated(_))));

    let without: Vec<String> = imports.into_iter().filter(|import| !import.starts_with("wasi:")).collect();
    let refused = Runner::start(&[]).unwrap().load(&artefact, LIMITS, &without).unwrap_err();
    let sentence = refused.sentence(EndReason::Import);
    assert!(
        sentence.starts_with("it imports `wasi:filesystem/invented@0.2.6`, and no grant covers WASI"),
        "{sentence}"
    );
    assert!(sentence.contains("`wasi = \"sealed\"`"), "{sentence}");
}

#[test]
fn what_can_say_nothing_or_no_says_it() {
    // Each stores a discriminant or a length at 512, which has to be the one of nothing.
    let cases: [(&str, &str, &str, &str); 3] = [
        ("initial-cwd", "", "(option string)", "(i32.load8_u (i32.const 512))"),
        ("get-arguments", "", "(list string)", "(i32.load (i32.const 516))"),
        ("refused", ERROR, "(result (error $error))", NOT_REFUSED),
    ];
    for (name, types, result, must_be_zero) in cases {
        let imports = format!(
            r#"(import "wasi:cli/environment@0.2.6" (instance $wasi {types} (export "{name}" (func (result {result})))))
               (core func $f (canon lower (func $wasi "{name}") (memory $store "memory") (realloc (func $store "realloc"))))"#
        );
        let fields = r#"(import "wasi" "f" (func $f (param i32)))"#;
        let body = format!("(call $f (i32.const 512)) (if {must_be_zero} (then unreachable)) (i32.const 1024)");
        let component = calling(imports.leak(), fields, body.leak());
        let end = remediate(&component, no_calls);
        assert!(matches!(&end, End::Said(FromWorker::Remediated(Report::Treated(_)))), "{name}: {end:?}");
    }
}

const ERROR: &str = r#"(type $e (enum "in-progress" "access-denied")) (export "error-code" (type $error (eq $e)))"#;
/// Error, and of the error's cases the second: 1 and 1.
const NOT_REFUSED: &str = "(i32.ne (i32.load16_u (i32.const 512)) (i32.const 0x0101))";

#[test]
fn exit_ends_the_guest_and_not_the_worker() {
    let imports = r#"
      (import "wasi:cli/exit@0.2.6" (instance $wasi (export "exit" (func (param "status" (result))))))
      (core func $f (canon lower (func $wasi "exit")))"#;
    let fields = r#"(import "wasi" "f" (func $f (param i32)))"#;
    let end = remediate(&calling(imports, fields, "(call $f (i32.const 1)) (i32.const 1024)"), no_calls);
    assert_eq!(end.sentence(EndReason::Trap), "it ended itself with `exit`, and said that it failed");
}

/// `flush` without the result that it has.
const FLUSH: &str = r#"
  (import "wasi:io/streams@0.2.6" (instance $streams
    (export "output-stream" (type $out (sub resource)))
    (export "[method]output-stream.flush" (func (param "self" (borrow $out))))))"#;

#[test]
fn an_import_of_wasi_with_types_of_its_own_is_refused_when_it_is_loaded() {
    let component = guest::component(&Parts { imports: FLUSH, ..Parts::default() });
    let (artefact, imports) = Runner::start(&[]).unwrap().compile(&component).unwrap();
    let refused = Runner::start(&[]).unwrap().load(&artefact, LIMITS, &imports).unwrap_err();
    let sentence = refused.sentence(EndReason::Import);
    assert!(sentence.starts_with("its imports are not those of the contract: "), "{sentence}");
}

const STDOUT: &str = r#"
  (import "wasi:io/error@0.2.6" (instance $errors (export "error" (type (sub resource)))))
  (alias export $errors "error" (type $error))
  (import "wasi:io/streams@0.2.6" (instance $streams
    (alias outer 1 $error (type $e0)) (export "error" (type $e (eq $e0)))
    (type $f (variant (case "last-operation-failed" (own $e)) (case "closed")))
    (export "stream-error" (type $failure (eq $f)))
    (export "output-stream" (type $out (sub resource)))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $out)) (param "contents" (list u8)) (result (result (error $failure)))))))
  (alias export $streams "output-stream" (type $out))
  (import "wasi:cli/stdout@0.2.6" (instance $stdout
    (alias outer 1 $out (type $o0)) (export "output-stream" (type $o (eq $o0)))
    (export "get-stdout" (func (result (own $o))))))
  (core func $get (canon lower (func $stdout "get-stdout")))
  (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory $store "memory") (realloc (func $store "realloc"))))"#;

#[test]
fn what_is_printed_goes_to_the_log_by_lines_and_within_its_budget() {
    let with = r#"(with "wasi" (instance (export "get" (func $get)) (export "write" (func $write))))"#;
    let fields = r#"
      (import "wasi" "get" (func $get (result i32)))
      (import "wasi" "write" (func $write (param i32 i32 i32 i32)))
      (data (i32.const 2048) "one\0atwo\0athree")"#;
    let printing =
        |remediate| guest::component(&Parts { imports: STDOUT, with, fields, remediate, ..Parts::default() });
    let mut lines = Vec::new();
    let once = printing("(call $write (call $get) (i32.const 2048) (i32.const 13) (i32.const 512)) (i32.const 1024)");
    let end = remediate(&once, |call| {
        let Call::Log { text, .. } = call else { panic!("{call:?}") };
        lines.push(text);
        theriac_model::call::Reply::Done
    });
    assert!(matches!(end, End::Said(FromWorker::Remediated(_))), "{end:?}");
    assert_eq!(lines, ["stdout: one", "stdout: two", "stdout: three"]);

    let forever = printing(
        "(local.set $i (call $get))
         (loop (call $write (local.get $i) (i32.const 2048) (i32.const 13) (i32.const 512)) (br 0)) (i32.const 1024)",
    );
    let end = remediate(&forever, |_| theriac_model::call::Reply::Done);
    assert_eq!(end.sentence(EndReason::Budget), "more than 4 KiB of log");
}
