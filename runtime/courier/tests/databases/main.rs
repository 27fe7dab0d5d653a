//! The real binary, sealed, against real servers whose pools are exhausted, and against servers that do what they should not.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, and so do its helpers"
)]

mod courier;
mod hostile;
mod mariadb;
mod place;
mod postgres;
