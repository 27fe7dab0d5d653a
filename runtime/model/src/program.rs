//! Programs of the host, run by a service manager or a jail for the runner: what is run, in which jail, and what came of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::Label;
use crate::target::MountPath;
use crate::time::Span;
use crate::units::{Blob, Bytes};

/// The longest timeout: a playbook takes as long; longer work is a service's.
pub const MAX_TIMEOUT: Span = Span::from_secs(600);
/// The most that is kept of one stream: output travels in frames, and is read by people.
pub const MAX_OUTPUT: Bytes = Bytes(256 << 10);

/// Verbs of a granted program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ProgramCall {
    /// Run it with these values in the template's slots.
    Run { slots: Vec<(String, SlotValue)> },
}

/// A value for one slot of an argument template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlotValue {
    /// A whole number, for a slot with a range.
    Integer(i64),
    /// One of an enumerated set.
    Choice(String),
}

impl fmt::Display for SlotValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Choice(value) => f.write_str(value),
        }
    }
}

/// What a program may reach of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// A network namespace of its own with nothing in it.
    None,
    /// The host's.
    Host,
}

impl Network {
    /// The word used in manifests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Host => "host",
        }
    }
}

/// The jail a program runs in. What is not listed is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jail {
    /// The user it runs as.
    pub uid: u32,
    /// The group it runs as.
    pub gid: u32,
    /// What it may read beside the system's programs and libraries.
    pub read: Vec<MountPath>,
    /// What it may write.
    pub write: Vec<MountPath>,
    /// The network.
    pub network: Network,
}

/// Everything needed to run a program once; complete, so that an undo after a crash needs no manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramSpec {
    /// The absolute path and every argument, slots filled.
    pub argv: Vec<String>,
    /// The jail.
    pub jail: Jail,
    /// Killed with everything it started after that.
    pub timeout: Span,
    /// How much of each of its streams is kept.
    pub output: Bytes,
}

impl fmt::Display for ProgramSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, argument) in self.argv.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            let plain =
                !argument.is_empty() && argument.bytes().all(|b| b.is_ascii_graphic() && !b"\"'\\".contains(&b));
            if plain { f.write_str(argument)? } else { write!(f, "\"{}\"", argument.escape_debug())? }
        }
        Ok(())
    }
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProgramEnding {
    /// With that status.
    Exited { code: i32 },
    /// By that signal.
    Signalled { signal: i32 },
    /// Killed at its deadline.
    TimedOut,
}

impl fmt::Display for ProgramEnding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { code } => write!(f, "exited with {code}"),
            Self::Signalled { signal } => write!(f, "ended by signal {signal}"),
            Self::TimedOut => f.write_str("killed at its deadline"),
        }
    }
}

/// What came of running a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramOutput {
    /// How it ended.
    pub ending: ProgramEnding,
    /// The first bytes of its standard output.
    pub stdout: Blob,
    /// The first bytes of its standard error.
    pub stderr: Blob,
    /// More was written than was kept.
    pub cut: bool,
    /// It did not run: a dry run assumes an exit with 0.
    pub assumed: bool,
}

/// One run of a program that changes something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramEffect {
    /// The grant's label.
    pub label: Label,
    /// What is run.
    pub program: ProgramSpec,
    /// The manifest says that running it twice does no more than running it once.
    pub idempotent: bool,
}

impl ProgramEffect {
    /// The verb in the manifest's word.
    pub const fn verb(&self) -> &'static str {
        "run"
    }

    /// The same program with the same arguments in the same jail.
    pub fn is_within(&self, planned: &Self) -> bool {
        self == planned
    }
}

impl fmt::Display for ProgramEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {}", self.program)
    }
}
