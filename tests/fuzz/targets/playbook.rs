#![no_main]

libfuzzer_sys::fuzz_target!(init: theriac_foreign::sow("playbook"), |bytes: &[u8]| theriac_foreign::run("playbook", bytes));
