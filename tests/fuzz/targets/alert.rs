#![no_main]

libfuzzer_sys::fuzz_target!(init: theriac_foreign::sow("alert"), |bytes: &[u8]| theriac_foreign::run("alert", bytes));
