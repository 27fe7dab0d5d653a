//! A granted database server: who is connected, ending idle sessions, settings (`[grants.databases.LABEL]`).

pub use crate::bindings::theriac::remedy::databases::{ApplicationCount, Server, Setting, State, StateCount, Usage};
