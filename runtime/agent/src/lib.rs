//! The agent: faces the network, holds no privileges, decides nothing that the runner would have to believe.
//!
//! It samples, detects, correlates, diagnoses and proposes; it takes alerts in and tells people. Everything hostile is parsed
//! here, and a proposal is a choice out of what the runner itself offered.

mod agent_socket;
mod clock;
pub mod config;
pub mod daemon;
mod engine;
#[cfg(test)]
mod fake_runner;
mod heartbeat;
mod http;
mod inbox;
mod incidents;
mod notify;
mod question;
mod runner_link;
mod senses;
mod units;

pub use daemon::{DaemonError, Settings, prepare, run};
