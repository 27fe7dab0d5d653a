//! The capabilities: one module per interface of the contract. Each reads by itself, and hands every change to the gate.

pub(crate) mod certificates;
pub(crate) mod containers;
pub(crate) mod databases;
pub(crate) mod files;
pub(crate) mod firewall;
pub(crate) mod http;
pub(crate) mod kernel;
pub(crate) mod observe;
pub(crate) mod processes;
pub(crate) mod programs;
pub(crate) mod releases;
pub(crate) mod units;
