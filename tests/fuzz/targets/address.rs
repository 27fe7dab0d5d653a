#![no_main]

libfuzzer_sys::fuzz_target!(init: theriac_foreign::sow("address"), |bytes: &[u8]| theriac_foreign::run("address", bytes));
