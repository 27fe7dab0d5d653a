//! The only user of wasmtime: checks a component's structure, compiles it, and runs one remedy behind the walls of a process
//! of its own (`theriac-worker`).
//!
//! It decides nothing about what a remedy may do: each import becomes a typed call that the runner judges. It holds no key,
//! opens no file and starts no process.

mod bindings;
pub mod clock;
pub mod compile;
pub mod ending;
pub mod engine;
pub mod guest;
mod host;
pub mod interfaces;
pub mod limits;
mod meter;
pub mod port;
pub mod structure;
pub mod trial;
pub mod walls;
pub mod worker;
