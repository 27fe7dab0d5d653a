//! The end-to-end tests: one binary, real parts.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and so do its helpers; what is not possible here is said on standard output"
)]

mod authors;
mod catalogue;
mod certificates;
mod containers;
mod contract;
mod crash;
mod databases;
mod deny;
mod evil_agent;
mod evil_worker;
mod heal;
mod host;
mod init;
mod logs;
mod manifest_keys;
mod neighbours;
mod packaged;
mod person;
mod programs;
mod releases;
mod reload;
mod sealed;
mod supply;
mod systemd_backend;
mod terminal;
mod tidy;
mod walls;
