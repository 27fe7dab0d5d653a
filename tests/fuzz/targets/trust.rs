#![no_main]

libfuzzer_sys::fuzz_target!(init: theriac_foreign::sow("trust"), |bytes: &[u8]| theriac_foreign::run("trust", bytes));
