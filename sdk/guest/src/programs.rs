//! Programs of the host that a grant names (`[grants.programs.LABEL]`).

pub use crate::bindings::theriac::remedy::programs::{Ending, Output, Program, Slot, Value};
