//! The `net` courier: makes health checks over TCP and HTTP for the runner, which has no inet socket, and sends the HTTP requests
//! that remedies are granted.
//!
//! Everything it talks to is taken for hostile: of a check it reads no more than a status line and headers, of an answer no more
//! than the grant keeps; it follows nothing, keeps nothing, and answers within the question's own timeout. After it has started it can open no file and start no program, so that whoever
//! takes it over holds a process that can connect, and nothing else.

pub mod check;
pub mod config;
mod names;
mod notify;
mod reach;
mod request;
mod seal;
mod server;

pub use server::{StartError, run};
