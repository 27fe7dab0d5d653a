//! The only user of wasmtime: checks a component's structure, compiles it, and runs one remedy behind the walls of a process
//! of its own.

mod bindings;
