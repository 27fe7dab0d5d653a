//! Pure functions from samples to proposals: detect, correlate, diagnose, propose. And alerts, which become signals.
//!
//! Nothing here reads a clock, a file or a socket: time and facts are given in, so that a recorded day replays to the same
//! incidents. Nothing here decides what may be done either: a proposal is a wish that the runner checks from scratch.
//!
//! What is abnormal and what causes it is data (`policies/rules`, `policies/causes`), written in CEL over named metrics.

pub mod alert;
pub mod correlate;
pub mod detect;
pub mod diagnose;
pub mod evidence;
mod expression;
pub mod propose;
mod text;
