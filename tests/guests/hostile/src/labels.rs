//! Labels that were not granted, and texts that pretend to be a granted one.

use theriac_sdk::prelude::*;

use crate::Attempts;

/// Other grants' labels, paths, spellings of a granted label that a lax comparison would take for it.
const FORGED: [&str; 22] = [
    "",
    " ",
    "secrets",
    "config",
    "root",
    "/",
    "/etc",
    "..",
    "../logs",
    "logs/..",
    "./logs",
    "logs/",
    "logs ",
    " logs",
    "Logs",
    "LOGS",
    "logs\0",
    "log\u{455}",
    "target.service",
    "target\n",
    "*",
    "theriac-runner.service",
];

pub(crate) fn attack(attempts: &mut Attempts) {
    for label in FORGED {
        attempts.note(&format!("files label {label:?}"), Dir::open(label));
        attempts.note(&format!("units label {label:?}"), Unit::open(label));
        attempts.note(&format!("processes label {label:?}"), Group::open(label));
        attempts.note(&format!("series label {label:?}"), Series::open(label));
        attempts.note(&format!("probes label {label:?}"), Probe::open(label));
    }
    // Granted, each in another table.
    attempts.note("files label of a unit", Dir::open("target"));
    attempts.note("units label of files", Unit::open("logs"));
    attempts.note("processes label of files", Group::open("logs"));
    let long = "logs".repeat(10_000);
    attempts.note("a label of 40,000 letters", Dir::open(&long));
}
