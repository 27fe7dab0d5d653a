//! The runner: privileged, small, Unix sockets only. It authorises, performs, verifies, undoes and remembers.
//!
//! It runs no wasm, speaks no TLS or HTTP, parses no model text, and executes nothing but workers.

pub mod acme;
pub mod additions;
pub mod backend;
pub mod book;
pub mod clock;
pub mod courier;
pub mod crash;
pub mod daemon;
pub mod databases;
pub mod docker;
pub mod events;
pub mod exchange;
pub mod hands;
pub mod observer;
pub mod parts;
pub mod put_back;
pub mod recover;
pub mod releases;
pub mod remedies;
pub mod renewals;
pub mod rules;
pub mod undo;
pub mod walls;
pub mod worker;
pub mod world;
pub mod writer;

mod agent_socket;
mod capability;
mod gate;
mod netfilter;
mod numbers;
mod operator_socket;
mod run;
mod seal;
mod server;
pub mod session;
mod summary;
