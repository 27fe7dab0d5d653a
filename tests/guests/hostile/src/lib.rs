//! Tries everything that it was not granted, and goes on after each denial. Whatever succeeds is reported as `treated("leak: …")`,
//! so that a test only has to read the report. Its grants are the smallest that link every interface: it may list and stat the
//! files of `logs`, read the status of `target`, list the processes of `target`, and read one series and the probes.
#![no_std]

mod files;
mod labels;
mod processes;
mod units;

use theriac_sdk::prelude::*;

theriac_sdk::remedy!(treat, check);

/// What was tried and what came through.
#[derive(Default)]
pub(crate) struct Attempts {
    tried: u32,
    leaks: Vec<String>,
}

impl Attempts {
    /// Notes one attempt; a success is a leak.
    pub(crate) fn note<T>(&mut self, what: &str, result: Result<T, Denial>) {
        self.tried += 1;
        if result.is_ok() {
            self.leaks.push(what.to_string());
        }
    }

    /// The same where a success may be right, as long as `is_harmless` says so of what came back.
    pub(crate) fn note_unless<T>(&mut self, what: &str, result: Result<T, Denial>, is_harmless: impl Fn(&T) -> bool) {
        self.tried += 1;
        if result.is_ok_and(|value| !is_harmless(&value)) {
            self.leaks.push(what.to_string());
        }
    }

    fn report(self) -> Report {
        if self.leaks.is_empty() {
            Report::GaveUp(format!("{} attempts, all denied", self.tried))
        } else {
            Report::Treated(format!("leak: {}", self.leaks.join(", ")))
        }
    }
}

fn treat(input: &Input) -> Result<Report, Denial> {
    Ok(attack(input.param_choice("attempt")).report())
}

fn attack(attempt: &str) -> Attempts {
    let mut attempts = Attempts::default();
    let wanted = |name: &str| attempt == "all" || attempt == name;
    if wanted("labels") {
        labels::attack(&mut attempts);
    }
    if wanted("files") {
        files::attack(&mut attempts);
    }
    if wanted("units") {
        units::attack(&mut attempts);
    }
    if wanted("processes") {
        processes::attack(&mut attempts);
    }
    if attempt == "forged-handle" {
        // Not part of `all`: a handle that was never given out traps the guest.
        files::forge(&mut attempts);
    }
    attempts
}

/// The same in the check, where nothing at all may change. An opinion can't carry a leak, so it is logged.
fn check(input: &Input) -> Result<Opinion, Denial> {
    let attempts = attack(input.param_choice("attempt"));
    for leak in &attempts.leaks {
        warn!("leak: {leak} in a check");
    }
    Ok(Opinion::Satisfied)
}
