//! The `net` courier: makes health checks over TCP and HTTP for the runner, which has no inet socket.
//!
//! Everything it talks to is taken for hostile: it reads no more than a status line and headers, follows nothing, keeps nothing,
//! and answers within the check's own timeout. After it has started it can open no file and start no program, so that whoever
//! takes it over holds a process that can connect, and nothing else.

pub mod check;
pub mod config;
mod notify;
mod seal;
mod server;

pub use server::{StartError, run};
