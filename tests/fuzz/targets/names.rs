#![no_main]

libfuzzer_sys::fuzz_target!(init: theriac_foreign::sow("names"), |bytes: &[u8]| theriac_foreign::run("names", bytes));
