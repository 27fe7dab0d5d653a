//! Guests that take too much: each ends in a sentence, at the limit, and nothing of it is wasmtime's.

use std::time::Duration;

use theriac_model::call::{Call, Handle, Reply};
use theriac_protocol::worker::{EndReason, WorkerLimits};

use crate::guest::{self, FIELDS_FILES, FIELDS_LOG, FILES, LOG, Parts, WITH_LOG};
use crate::runner::{LIMITS, Runner, no_calls, remediate, remediate_within};

fn is_stopped_in_time(parts: &Parts) {
    let (end, took) = remediate_within(&guest::component(parts), LIMITS, no_calls);
    assert_eq!(end.sentence(EndReason::Time), "time limit 400 ms");
    assert!(took >= Duration::from_millis(400), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

// RS01.
#[test]
fn a_loop_ends_at_the_deadline_wherever_it_is() {
    is_stopped_in_time(&Parts { remediate: "(loop (br 0)) (i32.const 0)", ..Parts::default() });
    is_stopped_in_time(&Parts { fields: "(func $f (loop (br 0))) (start $f)", ..Parts::default() });
    is_stopped_in_time(&Parts { realloc: "(loop (br 0)) (i32.const 0)", ..Parts::default() });
    is_stopped_in_time(&Parts { post_return: "(loop (br 0))", ..Parts::default() });
}

// RS04.
#[test]
fn a_loop_of_bulk_instructions_ends_too() {
    is_stopped_in_time(&Parts {
        remediate: "(drop (memory.grow (i32.const 200)))
            (loop (memory.fill (i32.const 8192) (i32.const 1) (i32.const 13000000)) (br 0)) (i32.const 0)",
        ..Parts::default()
    });
}

// RS03.
#[test]
fn the_time_of_a_host_call_is_not_the_guests() {
    let component = guest::logging(
        "(call $info (i32.const 2048) (i32.const 4)) (call $info (i32.const 2048) (i32.const 4)) (i32.const 1024)",
    );
    let limits = WorkerLimits { time_ms: 300, ..LIMITS };
    let (end, took) = remediate_within(&component, limits, |_| {
        // The world takes its time; the runner has its own deadline for it.
        std::thread::park_timeout(Duration::from_millis(300));
        Reply::Done
    });
    assert!(matches!(end, crate::runner::End::Said(theriac_protocol::worker::FromWorker::Remediated(_))), "{end:?}");
    assert!(took >= Duration::from_millis(400), "{took:?}");
}

// RS05.
#[test]
fn memory_ends_at_the_limit_and_says_what_was_asked() {
    let grow = "(if (i32.eq (memory.grow (i32.const 400)) (i32.const -1)) (then unreachable)) (i32.const 1024)";
    let sentence = remediate(&guest::running(grow), no_calls).sentence(EndReason::Memory);
    assert_eq!(sentence, "memory: asked 25.0 MiB, allowed 16 MiB");
    let small = "(if (i32.eq (memory.grow (i32.const 100)) (i32.const -1)) (then unreachable)) (i32.const 1024)";
    assert!(matches!(remediate(&guest::running(small), no_calls), crate::runner::End::Said(_)));
}

// RS05, RS06.
#[test]
fn a_memory_that_begins_too_large_and_a_table_count_against_the_same_limit() {
    let table = Parts { fields: "(table 3000000 funcref)", ..Parts::default() };
    let sentence = remediate(&guest::component(&table), no_calls).sentence(EndReason::Memory);
    assert_eq!(sentence, "memory: asked 22.9 MiB, allowed 16 MiB");
    let mut text = guest::text(&Parts::default());
    text = text.replace(r#"(memory (export "memory") 1)"#, r#"(memory (export "memory") 65536)"#);
    let sentence = remediate(&wat::parse_str(text).unwrap(), no_calls).sentence(EndReason::Memory);
    assert_eq!(sentence, "memory: asked 4 GiB, allowed 16 MiB");
}

// RS07.
#[test]
fn recursion_ends_at_the_guests_stack() {
    let parts = Parts { fields: "(func $f (call $f))", remediate: "(call $f) (i32.const 0)", ..Parts::default() };
    let sentence = remediate(&guest::component(&parts), no_calls).sentence(EndReason::Trap);
    assert_eq!(sentence, "recursion too deep: the stack has 512 KiB");
}

// RS02.
#[test]
fn host_calls_end_at_the_budget() {
    let mut calls = 0;
    let component = guest::logging("(loop (call $info (i32.const 2048) (i32.const 1)) (br 0)) (i32.const 0)");
    let limits = WorkerLimits { host_calls: 50, time_ms: 5_000, ..LIMITS };
    let (end, _) = remediate_within(&component, limits, |_| {
        calls += 1;
        Reply::Done
    });
    assert_eq!(end.sentence(EndReason::Budget), "more than 50 host calls");
    assert_eq!(calls, 50);
}

// RS10.
#[test]
fn a_log_flood_is_cut_at_the_budget() {
    let mut bytes = 0;
    let component = guest::logging("(loop (call $info (i32.const 2048) (i32.const 1000)) (br 0)) (i32.const 0)");
    let end = remediate(&component, |call| {
        if let Call::Log { text, .. } = call {
            bytes += text.len();
        }
        Reply::Done
    });
    assert_eq!(end.sentence(EndReason::Budget), "more than 4 KiB of log");
    assert!(bytes < 4_200, "{bytes}");
}

// RS08, RS09.
#[test]
fn a_string_of_a_hundred_megabytes_is_not_taken_over() {
    let outside = guest::logging("(call $info (i32.const 0) (i32.const 104857600)) (i32.const 1024)");
    let sentence = remediate(&outside, no_calls).sentence(EndReason::Trap);
    assert_eq!(sentence, "it broke the calling convention: string pointer/length out of bounds of memory");
    let inside = guest::logging(
        "(drop (memory.grow (i32.const 200))) (call $info (i32.const 0) (i32.const 13000000)) (i32.const 1024)",
    );
    let sentence = remediate(&inside, no_calls).sentence(EndReason::Budget);
    assert_eq!(sentence, "more than 1 MiB handed over in one call");
}

// AB09, RS08.
#[test]
fn a_result_that_lies_about_its_length_is_a_trap() {
    let lie = "(i32.store (i32.const 1032) (i32.const 2048)) (i32.store (i32.const 1036) (i32.const 2147483647)) (i32.const 1024)";
    let sentence = remediate(&guest::running(lie), no_calls).sentence(EndReason::Trap);
    assert!(sentence.contains("out-of-bounds") || sentence.contains("out of bounds"), "{sentence}");
    let wrong_case = "(i32.store8 (i32.const 1028) (i32.const 99)) (i32.const 1024)";
    remediate(&guest::running(wrong_case), no_calls).sentence(EndReason::Trap);
    let misaligned = "(i32.const 1025)";
    remediate(&guest::running(misaligned), no_calls).sentence(EndReason::Trap);
    let bad_utf8 = "(i32.store8 (i32.const 2048) (i32.const 255)) (i32.store (i32.const 1032) (i32.const 2048))
        (i32.store (i32.const 1036) (i32.const 1)) (i32.const 1024)";
    remediate(&guest::running(bad_utf8), no_calls).sentence(EndReason::Trap);
}

// RS11.
#[test]
fn handles_end_at_the_limit() {
    let hoard = "(loop (call $open (i32.const 2048) (i32.const 4) (i32.const 1024)) (br 0)) (i32.const 0)";
    let mut next = 0;
    let end = remediate(&guest::opening(hoard), |_| {
        next += 1;
        Reply::Opened(Handle(next))
    });
    assert_eq!(end.sentence(EndReason::Budget), "more than 8 open handles");
}

// AB14.
#[test]
fn a_handle_that_was_never_given_is_a_trap() {
    let forged = guest::opening("(call $drop (i32.const 7)) (i32.const 1024)");
    let sentence = remediate(&forged, no_calls).sentence(EndReason::Trap);
    assert!(sentence.starts_with("it broke the calling convention: unknown handle index"), "{sentence}");
}

// RS11.
#[test]
fn handles_of_the_guests_own_making_end_at_the_limit() {
    let parts = Parts {
        imports: "(type $own (resource (rep i32))) (core func $new (canon resource.new $own))",
        with: r#"(with "own" (instance (export "new" (func $new))))"#,
        fields: r#"(import "own" "new" (func $new (param i32) (result i32)))"#,
        remediate: "(loop (drop (call $new (i32.const 1))) (br 0)) (i32.const 0)",
        ..Parts::default()
    };
    let sentence = remediate(&guest::component(&parts), no_calls).sentence(EndReason::Budget);
    assert_eq!(sentence, "too many open handles");
}

// RS10.
#[test]
fn a_panic_arrives_as_its_text_with_file_and_line() {
    let component = guest::logging(
        "(call $panicked (i32.const 2048) (i32.const 7) (i32.const 2055) (i32.const 10) (i32.const 9)) unreachable",
    );
    let mut told = Vec::new();
    let end = remediate(&component, |call| {
        told.push(call);
        Reply::Done
    });
    assert_eq!(end.sentence(EndReason::Trap), "panicked: boom 42 at src/lib.rs:9");
    assert_eq!(told, [Call::Panicked { message: "boom 42".into(), file: "src/lib.rs".into(), line: 9 }]);
}

// RS10.
#[test]
fn a_panic_of_a_hundred_thousand_letters_is_cut() {
    let component = guest::logging(
        "(drop (memory.grow (i32.const 4))) (memory.fill (i32.const 8192) (i32.const 65) (i32.const 100000))
         (call $panicked (i32.const 8192) (i32.const 100000) (i32.const 8192) (i32.const 100000) (i32.const 9)) unreachable",
    );
    let mut told = 0;
    let end = remediate(&component, |call| {
        if let Call::Panicked { message, file, .. } = call {
            told = message.chars().count() + file.chars().count();
        }
        Reply::Done
    });
    assert!((2_200..2_300).contains(&told), "{told}");
    assert!(end.sentence(EndReason::Trap).chars().count() < 2_400);
}

// AB14.
#[test]
fn a_handle_that_was_given_back_or_is_of_another_kind_is_a_trap() {
    let open = "(call $open (i32.const 2048) (i32.const 4) (i32.const 1024))";
    let once = format!(
        "{open} (call $drop (i32.load (i32.const 1028))) (i64.store (i32.const 1024) (i64.const 0)) (i32.const 1024)"
    );
    let end = remediate(&guest::opening(once.leak()), opened_or_done);
    assert!(matches!(end, crate::runner::End::Said(theriac_protocol::worker::FromWorker::Remediated(_))), "{end:?}");
    let twice = format!(
        "{open} (call $drop (i32.load (i32.const 1028))) (call $drop (i32.load (i32.const 1028))) (i32.const 1024)"
    );
    let sentence = remediate(&guest::opening(twice.leak()), opened_or_done).sentence(EndReason::Trap);
    assert!(sentence.starts_with("it broke the calling convention: unknown handle index"), "{sentence}");
    let other = Parts {
        imports: format!("{FILES} (type $own (resource (rep i32))) (core func $drop_own (canon resource.drop $own))")
            .leak(),
        with: r#"(with "files" (instance (export "open" (func $open)) (export "drop" (func $drop_own))))"#,
        fields: FIELDS_FILES,
        remediate: format!("{open} (call $drop (i32.load (i32.const 1028))) (i32.const 1024)").leak(),
        ..Parts::default()
    };
    let sentence = remediate(&guest::component(&other), opened_or_done).sentence(EndReason::Trap);
    assert!(sentence.starts_with("it broke the calling convention: "), "{sentence}");
}

fn opened_or_done(call: Call) -> Reply {
    if matches!(call, Call::Open { .. }) { Reply::Opened(Handle(4711)) } else { Reply::Done }
}

// AB11.
#[test]
fn an_abort_without_a_word_is_said_to_be_one() {
    let sentence = remediate(&guest::running("unreachable"), no_calls).sentence(EndReason::Trap);
    assert_eq!(sentence, "it aborted without saying why (no panic message was sent)");
}

// AB07, RS06.
#[test]
fn many_instances_are_refused() {
    let mut text = guest::text(&Parts { imports: LOG, with: WITH_LOG, fields: FIELDS_LOG, ..Parts::default() });
    let extra = "(core instance (instantiate $Store))".repeat(20);
    text = text.replace(
        "(core instance $store (instantiate $Store))",
        &format!("(core instance $store (instantiate $Store)) {extra}"),
    );
    let component = wat::parse_str(text).unwrap();
    let (artefact, imports) = Runner::start(&[]).unwrap().compile(&component).unwrap();
    let mut runner = Runner::start(&[]).unwrap();
    runner.load(&artefact, LIMITS, &imports).unwrap();
    let sentence = runner.call(theriac_model::call::Export::Remediate, no_calls).sentence(EndReason::Budget);
    assert_eq!(sentence, "more than 16 instances of core modules");
}
