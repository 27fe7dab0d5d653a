//! `theriac`, the command: what a person does with Theriac. It decides nothing: rules are kept by the runner, whoever asks.

pub mod args;
pub mod context;
pub mod exit;
pub mod failure;
pub mod key;
pub mod remedy;
