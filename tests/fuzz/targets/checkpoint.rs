#![no_main]

libfuzzer_sys::fuzz_target!(init: theriac_foreign::sow("checkpoint"), |bytes: &[u8]| theriac_foreign::run("checkpoint", bytes));
