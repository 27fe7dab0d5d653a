//! Every limit of the sandbox, with its reason. The manifest's own limits come in [`WorkerLimits`] and are smaller.
//!
//! [`WorkerLimits`]: theriac_protocol::worker::WorkerLimits

use std::time::Duration;

/// Stack of the guest. Rust remedies use a few KiB of it (their own stack is in linear memory); a recursion has to end.
pub const GUEST_STACK: usize = 512 << 10;

/// How often the clock thread lets the guest look at its deadline.
pub const TICK: Duration = Duration::from_millis(5);

/// After the deadline the guest is interrupted at its next loop head. Host code and bulk instructions don't look; this long
/// after the deadline the clock thread ends the process instead.
pub const GRACE: Duration = Duration::from_millis(60);

/// Bytes that a guest may hand to the host in one call: `files.entry.append` takes at most 256 KiB.
pub const HOSTCALL_BYTES: usize = 1 << 20;

/// Core instances in one store. A Rust remedy has three (itself, and two that wire up its imports).
pub const INSTANCES: usize = 16;

/// Tables and memories in one store: one of each per instance is more than any toolchain makes.
pub const TABLES_AND_MEMORIES: usize = 16;

/// What a table element costs in the host.
pub const TABLE_ELEMENT_BYTES: u64 = 8;

/// Characters of a panic's message that are kept.
pub const PANIC_CHARS: usize = 2_000;

/// Wall-clock time of one compilation; an ordinary remedy takes 0.1 s.
pub const COMPILE_TIME: Duration = Duration::from_secs(10);

/// Heap of a compilation; an ordinary remedy takes 30 MiB.
pub const COMPILE_MEMORY: u64 = 512 << 20;

/// Heap of a worker before it knows its task, and beside the guest's own memory: wasmtime's and ours.
pub const BASE_MEMORY: u64 = 64 << 20;

/// Stack of the worker's main thread, on which host code and the guest run.
pub const MAIN_STACK: u64 = 8 << 20;
