#![no_main]

libfuzzer_sys::fuzz_target!(init: theriac_foreign::sow("certificate"), |bytes: &[u8]| theriac_foreign::run("certificate", bytes));
