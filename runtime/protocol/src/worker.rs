//! What the runner and one worker say to each other on the socket the worker inherits.
//!
//! ```text
//! runner: Load{size} Chunk* (compiled or not)      worker: Loaded | Refused
//! runner: Call{export, fault}                      worker: Host{call} → runner: Reply   (any number)
//!                                                  worker: Returned | Ended
//! ```

use serde::{Deserialize, Serialize};

use theriac_model::call::{Call, Export, FaultInput, Opinion, Reply, Report};
use theriac_model::units::Blob;

/// Bytes of a component, or of an artefact, in one frame.
pub const CHUNK: usize = 256 << 10;
/// The largest component that is accepted.
pub const MAX_COMPONENT: u64 = 16 << 20;
/// The largest compiled artefact that is accepted.
pub const MAX_ARTEFACT: u64 = 128 << 20;

/// The limits a worker holds the guest to; the manifest's, within ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerLimits {
    /// Sum of linear memories and tables, in bytes.
    pub memory: u64,
    /// For instantiation and each call, in milliseconds. The time of host calls is the runner's to bound, and not in it: a
    /// verb that waits for a job may take as long as its grant says.
    pub time_ms: u64,
    /// Host calls.
    pub host_calls: u32,
    /// Open handles.
    pub handles: u32,
    /// Bytes of log text.
    pub log_bytes: u32,
}

/// To the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ToWorker {
    /// A component follows in chunks: check its structure, compile it, send the artefact back, exit.
    Compile { size: u64 },
    /// An artefact follows in chunks: it was compiled by a worker of this engine and its MAC was checked.
    Load { size: u64, limits: WorkerLimits, imports: Vec<String> },
    /// A piece.
    Chunk(Blob),
    /// Call an export once.
    Call { export: Export, fault: Box<FaultInput> },
    /// The answer to a host call.
    Reply(Box<Reply>),
}

/// From the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FromWorker {
    /// First message: what this worker is. The engine id keys the cache.
    Ready { version: String, engine: String, walls: Vec<String> },
    /// The compiled artefact follows in chunks; the component's imports, as `package:namespace/interface@version` names.
    Compiled { size: u64, imports: Vec<String> },
    /// A piece.
    Chunk(Blob),
    /// Ready for `Call`.
    Loaded,
    /// A host call.
    Host(Box<Call>),
    /// `remediate` returned.
    Remediated(Report),
    /// `check` returned.
    Checked(Opinion),
    /// The component was refused, or the guest was ended: a translated sentence.
    Ended { reason: EndReason, sentence: String },
}

/// Why a worker ended a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// The bytes are no component we accept.
    Malformed,
    /// It imports something that no grant covers.
    Import,
    /// It does not export what a remedy exports.
    World,
    /// Over the time limit.
    Time,
    /// Over the memory limit.
    Memory,
    /// Too many handles, host calls or log bytes.
    Budget,
    /// It trapped: a panic, an overflow of its stack, a canonical-ABI fault.
    Trap,
    /// No fault of the remedy's: the worker could not raise its walls (sent in place of `Ready`) or failed in its own code.
    Worker,
}
