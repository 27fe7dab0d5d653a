#![no_main]

libfuzzer_sys::fuzz_target!(init: theriac_foreign::sow("manifest"), |bytes: &[u8]| theriac_foreign::run("manifest", bytes));
