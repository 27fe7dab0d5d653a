#![no_main]

libfuzzer_sys::fuzz_target!(init: theriac_foreign::sow("note"), |bytes: &[u8]| theriac_foreign::run("note", bytes));
