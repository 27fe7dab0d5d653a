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
mod containers;
mod crash;
mod deny;
mod heal;
mod host;
mod init;
mod logs;
mod neighbours;
mod packaged;
mod person;
mod programs;
mod releases;
mod sealed;
mod supply;
mod systemd_backend;
mod terminal;
mod tidy;
