#![no_main]

libfuzzer_sys::fuzz_target!(init: theriac_foreign::sow("component"), |bytes: &[u8]| theriac_foreign::run("component", bytes));
