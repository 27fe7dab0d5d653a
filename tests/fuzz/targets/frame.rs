#![no_main]

libfuzzer_sys::fuzz_target!(init: theriac_foreign::sow("frame"), |bytes: &[u8]| theriac_foreign::run("frame", bytes));
