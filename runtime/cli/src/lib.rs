//! `theriac`, the command: what a person does with Theriac. It decides nothing: rules are kept by the runner, whoever asks.

pub mod args;
pub mod audit;
pub mod client;
pub mod context;
pub mod doctor;
pub mod dry_run;
pub mod exit;
pub mod failure;
pub mod help;
pub mod incident;
pub mod init;
pub mod key;
pub mod operator;
pub mod plan;
pub mod policy;
pub mod record;
pub mod remedy;
pub mod status;
pub mod text;
pub mod up;
