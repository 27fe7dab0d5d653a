#![no_main]

libfuzzer_sys::fuzz_target!(init: theriac_foreign::sow("record"), |bytes: &[u8]| theriac_foreign::run("record", bytes));
