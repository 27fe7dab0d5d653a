#![no_main]

libfuzzer_sys::fuzz_target!(init: theriac_foreign::sow("consent"), |bytes: &[u8]| theriac_foreign::run("consent", bytes));
