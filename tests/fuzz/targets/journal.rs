#![no_main]

libfuzzer_sys::fuzz_target!(init: theriac_foreign::sow("journal"), |bytes: &[u8]| theriac_foreign::run("journal", bytes));
