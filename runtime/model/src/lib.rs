//! The words of Theriac as types: ids, targets, signals, incidents, plans, effects, runs, journal records.
//!
//! This crate decides nothing and touches nothing: no clock, no file, no socket, no async. Everything that crosses a
//! process boundary or goes to disk is defined here (or, for frames, in `theriac-protocol`), so that two zones can't
//! disagree about what a word means.

pub mod call;
pub mod catalog;
pub mod certificate;
pub mod container;
pub mod database;
pub mod denial;
pub mod diagnosis;
pub mod effect;
pub mod fault;
pub mod firewall;
pub mod health;
pub mod http;
pub mod id;
pub mod incident;
pub mod kernel;
pub mod observation;
pub mod plan;
pub mod playbook;
pub mod program;
pub mod record;
pub mod release;
pub mod remedy;
pub mod run;
pub mod signal;
pub mod target;
pub mod time;
pub mod trend;
pub mod unit;
pub mod units;
pub mod verdict;
