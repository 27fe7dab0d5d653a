#![no_main]

libfuzzer_sys::fuzz_target!(init: theriac_foreign::sow("globs"), |bytes: &[u8]| theriac_foreign::run("globs", bytes));
