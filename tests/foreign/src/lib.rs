//! Every parser that reads what somebody else wrote, as one function of bytes each that panics when a promise is broken.
//!
//! The fuzzer calls these functions (`tests/fuzz`, by `cargo xtask fuzz`), and ordinary tests call them with the seeds that lie
//! in the tree. A function here never only parses: it checks what the rest of Theriac relies on once something was parsed,
//! such as that it is written out the same way, that two parsers of ours agree, or that a message is one line that moves no
//! terminal's cursor. Nothing of this is linked into a program that is shipped.

#![expect(clippy::panic, clippy::expect_used, reason = "a broken promise is found by its panic")]

mod address;
mod alert;
mod certificate;
mod checkpoint;
mod component;
mod consent;
mod document;
mod frame;
mod globs;
mod journal;
mod names;
mod note;
mod record;
mod seeds;

pub use seeds::{Seed, seeds};

/// One fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: that of its binary in `tests/fuzz`, and of its directory of seeds.
    pub name: &'static str,
    /// Panics when the bytes break a promise.
    pub check: fn(&[u8]) -> Answer,
    /// Files of this repository that are seeds too, so that none of them is there twice.
    pub shipped: &'static [&'static str],
}

/// What became of an input. Both are right; among the seeds of a target there has to be one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It was read.
    Taken,
    /// It was refused.
    Refused,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "address", check: address::check, shipped: &[] },
    Target { name: "alert", check: alert::check, shipped: &[] },
    Target { name: "certificate", check: certificate::check, shipped: &[] },
    Target { name: "checkpoint", check: checkpoint::check, shipped: &[] },
    Target { name: "component", check: component::check, shipped: &[] },
    Target { name: "consent", check: consent::check, shipped: &[] },
    Target { name: "frame", check: frame::check, shipped: &[] },
    Target { name: "globs", check: globs::check, shipped: &[] },
    Target { name: "host", check: document::host, shipped: &["runtime/authority/src/runner.default.toml"] },
    Target { name: "journal", check: journal::check, shipped: &[] },
    Target { name: "manifest", check: document::manifest, shipped: MANIFESTS },
    Target { name: "names", check: names::check, shipped: &[] },
    Target { name: "note", check: note::check, shipped: &[] },
    Target { name: "playbook", check: document::playbook, shipped: PLAYBOOKS },
    Target { name: "record", check: record::check, shipped: &[] },
    Target { name: "trust", check: document::trust, shipped: &[] },
];

const MANIFESTS: &[&str] = &[
    "plugins/certificate-renew/remedy.toml",
    "plugins/disk-reclaim/remedy.toml",
    "plugins/service-recover/remedy.toml",
    "plugins/cpu-calm/remedy.toml",
    "plugins/memory-relief/remedy.toml",
    "plugins/release-return/remedy.toml",
    "plugins/db-relieve/remedy.toml",
    "tests/guests/hostile/remedy.toml",
];

const PLAYBOOKS: &[&str] = &[
    "policies/playbooks/disk-full.yaml",
    "policies/playbooks/service-crash.yaml",
    "policies/playbooks/memory-leak.yaml",
];

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Calls the target of that name: what a binary of the fuzzer does with each input.
pub fn run(name: &str, bytes: &[u8]) {
    let target = target(name).expect("each binary has its target");
    (target.check)(bytes);
}

/// Writes the seeds of the target of that name into the fuzzer's corpus: what a binary of the fuzzer does first.
pub fn sow(name: &str) {
    let target = target(name).expect("each binary has its target");
    seeds::sow(target).expect("the corpus can be written");
}

/// A refusal is one plain line.
fn refused(error: &impl std::fmt::Display) -> Answer {
    assert_one_line(&error.to_string());
    Answer::Refused
}

/// What a parser says is shown on terminals and in logs: one line, of bounded length, that moves no cursor and turns no text
/// around, whatever was in the input.
fn assert_one_line(message: &str) {
    assert!(message.len() < 8 << 10, "a message of {} bytes", message.len());
    let moves = |c: char| {
        c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
    };
    assert!(!message.contains(moves), "a message that is not one plain line: {message:?}");
}
