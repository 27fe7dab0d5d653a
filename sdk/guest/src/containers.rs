//! One container of the machine's engine (`[grants.containers.LABEL]`).

pub use crate::bindings::theriac::remedy::containers::{Container, Health, Info, State};
