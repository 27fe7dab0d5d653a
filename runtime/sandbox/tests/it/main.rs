//! The real worker binary, in a real process behind real walls, spoken to by a runner of a few lines.
//!
//! Guests are components in text form. What Rust guests do is tested where the SDK is, end to end.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "functions that tests share fail as tests do"
)]

mod calls;
mod guest;
mod limits;
mod malformed;
mod runner;
mod sealed;
mod walls;
