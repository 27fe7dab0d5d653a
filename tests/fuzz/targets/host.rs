#![no_main]

libfuzzer_sys::fuzz_target!(init: theriac_foreign::sow("host"), |bytes: &[u8]| theriac_foreign::run("host", bytes));
