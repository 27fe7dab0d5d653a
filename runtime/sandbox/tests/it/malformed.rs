//! Files that are no remedy, and components that are bombs for the compiler: refused in a sentence, or the worker ends at
//! its limits. Either way within seconds, and nobody else notices.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use theriac_protocol::worker::{EndReason, FromWorker};

use crate::guest::{self, Parts};
use crate::runner::{End, Runner};

fn compile(bytes: &[u8]) -> (Result<(), End>, Duration) {
    let begun = Instant::now();
    let outcome = Runner::start(&[]).unwrap().compile(bytes).map(drop);
    (outcome, begun.elapsed())
}

fn refused(bytes: &[u8], expected: EndReason) -> String {
    compile(bytes).0.unwrap_err().sentence(expected)
}

fn with(from: &str, to: &str) -> Vec<u8> {
    let text = guest::text(&Parts::default());
    assert!(text.contains(from));
    wat::parse_str(text.replacen(from, to, 1)).unwrap()
}

// AB01, AB02, AB06, AC04.
#[test]
fn what_is_no_component_is_named() {
    let good = guest::running(guest::RETURN_ZEROS);
    compile(&good).0.unwrap();
    let module = wat::parse_str("(module)").unwrap();
    for (bytes, sentence) in [
        (&b""[..], "it is an empty file, not a WebAssembly component"),
        (b"\x7fELF\x02\x01\x01", "it is an ELF file, not a WebAssembly component"),
        (b"\x1f\x8b\x08\0", "it is a gzip file, not a WebAssembly component"),
        (b"PK\x03\x04", "it is a zip file, not a WebAssembly component"),
        (b"(component)", "it is text, not a WebAssembly component"),
        (guest::text(&Parts::default()).as_bytes(), "it is text, not a WebAssembly component"),
        (&module, "it is a core module, not a component: build it with `theriac remedy build`"),
        (&good[..4], "it is malformed at byte 4: unexpected end-of-file"),
        (&good[..good.len() - 1], "it is malformed at byte"),
        (b"\0asm\x0d\0\x01\0\x07\xff\xff\xff\xff\x0f", "it is malformed at byte"),
        (b"\0asm\x0d\0\x01\0\x07\x80\x80\x80\x80\x80\x80\x80\0", "it is malformed at byte"),
        (b"\0asm\x0d\0\x01\0\x0a\x06\xff\xff\xff\xff\x0f\0", "it "),
        (b"\0asm\x63\0\x01\0", "it is malformed at byte"),
        (b"\0asm\x0d\0\x01\0", "it does not export `remediate`: a remedy exports `remediate` and `check`"),
    ] {
        let (outcome, took) = compile(bytes);
        match outcome.unwrap_err() {
            End::Said(FromWorker::Ended { sentence: said, .. }) => assert!(said.starts_with(sentence), "{said}"),
            other => panic!("{sentence}: {other:?}"),
        }
        assert!(took < Duration::from_secs(10), "{sentence}: {took:?}");
    }
}

// AB01.
#[test]
fn every_cut_and_every_flipped_byte_is_an_answer_never_a_crash() {
    let good = guest::logging(guest::RETURN_ZEROS);
    for at in 0..good.len() {
        let _refused = theriac_sandbox::structure::check(&good[..at]);
        let mut flipped = good.clone();
        flipped[at] ^= 0xff;
        let _answer = theriac_sandbox::structure::check(&flipped);
    }
}

// AB02, AB05.
#[test]
fn the_world_is_one() {
    let lacks = with(r#"(export "check" (func $check))"#, "");
    assert_eq!(
        refused(&lacks, EndReason::World),
        "it does not export `check`: a remedy exports `remediate` and `check`"
    );
    let extra =
        with(r#"(export "check" (func $check))"#, r#"(export "check" (func $check)) (export "run" (func $check))"#);
    assert_eq!(
        refused(&extra, EndReason::World),
        "it exports `run`: a remedy exports `remediate` and `check`, and nothing else"
    );
}

// AB02.
#[test]
fn an_export_of_another_type_is_refused_when_it_is_loaded() {
    let component = with(
        r#"(export "check" (func $check))"#,
        r#"(core module $o (func (export "f"))) (core instance $oi (instantiate $o))
           (func $other (canon lift (core func $oi "f"))) (export "check" (func $other))"#,
    );
    let (artefact, imports) = Runner::start(&[]).unwrap().compile(&component).unwrap();
    let mut runner = Runner::start(&[]).unwrap();
    let sentence = runner.load(&artefact, crate::runner::LIMITS, &imports).unwrap_err().sentence(EndReason::World);
    assert!(sentence.starts_with("its exports are not those of the world `remedy`: "), "{sentence}");
}

// AB03, AB04, RS12.
#[test]
fn imports_outside_the_contract_are_refused_by_name() {
    for (import, sentence) in [
        (r#"(import "wasi:nn/graph@0.2.0" (instance))"#, "it imports `wasi:nn/graph@0.2.0`, and no grant covers that"),
        (
            r#"(import "wasi:cli/environment@0.3.0" (instance))"#,
            "it imports `wasi:cli/environment@0.3.0`, and no grant covers that: a sealed WASI is of preview 2",
        ),
        (
            r#"(import "theriac:remedy/files@0.9.0" (instance))"#,
            "it imports `theriac:remedy/files@0.9.0`, and this Theriac speaks",
        ),
        (r#"(import "host:shell/exec" (instance))"#, "it imports `host:shell/exec`, and no grant covers that"),
        (r#"(import "exec" (func))"#, "it imports `exec` as a function"),
        (r#"(import "m" (core module))"#, "it imports `m` as a module"),
        (r#"(import "c" (component))"#, "it imports `c` as a component"),
        (r#"(import "r" (type (sub resource)))"#, "it imports `r` as a resource"),
    ] {
        let bytes = with("(component ", &format!("(component {import} "));
        let said = refused(&bytes, EndReason::Import);
        assert!(said.starts_with(sentence), "{said}");
    }
}

// AB03.
#[test]
fn an_import_of_the_right_name_with_other_types_is_refused_when_it_is_loaded() {
    let component = guest::component(&Parts {
        imports: r#"(import "theriac:remedy/log@0.1.0" (instance $log (export "info" (func (param "n" u64)))))"#,
        ..Parts::default()
    });
    let (artefact, imports) = Runner::start(&[]).unwrap().compile(&component).unwrap();
    let mut runner = Runner::start(&[]).unwrap();
    let sentence = runner.load(&artefact, crate::runner::LIMITS, &imports).unwrap_err().sentence(EndReason::Import);
    assert!(sentence.starts_with("its imports are not those of the contract: "), "{sentence}");
}

/// Refused or ended at its limits, soon.
fn is_survived(name: &str, component: &[u8]) {
    let (outcome, took) = compile(component);
    match outcome {
        Ok(()) => {}
        Err(End::Said(FromWorker::Ended { .. })) => {}
        Err(End::Died(status)) => {
            // The worker's own limits: the heap (71), the clock (75), the kernel's CPU limit.
            assert!(matches!(status.code(), Some(71 | 75) | None), "{name}: {status}");
        }
        Err(other) => panic!("{name}: {other:?}"),
    }
    assert!(took < Duration::from_secs(40), "{name}: {took:?}");
}

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        if number == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

// AB01.
#[test]
fn twenty_thousand_components_are_refused_at_once() {
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    for _ in 0..20_000 {
        component.extend(b"\x04\x08\0asm\x0d\0\x01\0");
    }
    let begun = Instant::now();
    assert_eq!(
        theriac_sandbox::structure::check(&component).unwrap_err().to_string(),
        "it has more than 64 nested components"
    );
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(refused(&component, EndReason::Malformed), "it has more than 64 nested components");
}

// AB01.
#[test]
fn components_in_components_and_types_in_types_are_refused_without_recursion() {
    let mut nested = b"\0asm\x0d\0\x01\0".to_vec();
    for _ in 0..5_000 {
        let mut outer = b"\0asm\x0d\0\x01\0\x04".to_vec();
        outer.extend(leb(nested.len()));
        outer.extend(&nested);
        nested = outer;
    }
    assert_eq!(refused(&nested, EndReason::Malformed), "it has more than 64 nested components");
    let mut types = vec![1];
    for _ in 0..100_000 {
        types.extend([0x42, 1, 1]);
    }
    let mut component = b"\0asm\x0d\0\x01\0\x07".to_vec();
    component.extend(leb(types.len()));
    component.extend(types);
    assert_eq!(refused(&component, EndReason::Malformed), "it has more than 2000 nested component types");
}

// AB07.
#[test]
fn types_that_double_are_survived() {
    let mut types = String::from("(component (type $t0 (tuple string string))");
    for level in 1..25 {
        write!(types, "(type $t{level} (tuple $t{0} $t{0}))", level - 1).unwrap();
    }
    is_survived("doubling", &with("(component ", &types));
}

// RS15.
#[test]
fn bombs_for_the_compiler_are_survived() {
    let table = format!("(block (br_table {} (local.get 0)))", "0 ".repeat(65_000));
    let bodies = [
        ("br_table", format!("(func (param i32) {table})")),
        ("blocks", format!("(func {} {})", "block ".repeat(100_000), "end ".repeat(100_000))),
        ("locals", format!("(func (local {}))", "i64 ".repeat(50_000))),
        ("functions", "(func)".repeat(60_000)),
        ("many functions", "(func (param i32) (result i32) local.get 0 i32.const 1 i32.add)".repeat(19_000)),
        (
            "additions",
            format!("(func (param i32) (result i32) local.get 0 {})", "local.get 0 i32.add ".repeat(120_000)),
        ),
        ("live values", format!("(func (param i32) {} {})", "local.get 0 ".repeat(50_000), "drop ".repeat(50_000))),
        ("loops", format!("(func {} {})", "loop ".repeat(20_000), "br 0 end ".repeat(20_000))),
    ];
    for (name, body) in bodies {
        let text = guest::text(&Parts::default()).replacen(
            "(core instance $store",
            &format!("(core module {body}) (core instance $store"),
            1,
        );
        is_survived(name, &wat::parse_str(text).unwrap());
    }
}

// RS16.
#[test]
fn sixteen_megabytes_of_custom_section_are_refused() {
    let mut component = guest::running(guest::RETURN_ZEROS);
    component.push(0);
    let payload = 9 << 20;
    component.extend(leb(payload + 2));
    component.extend(b"\x01x");
    component.resize(component.len() + payload, 0);
    assert_eq!(refused(&component, EndReason::Malformed), "it has more than 8388608 bytes in custom sections");
}
