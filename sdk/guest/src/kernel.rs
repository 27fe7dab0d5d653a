//! A granted number of the kernel's configuration (`[grants.kernel.LABEL]`).

pub use crate::bindings::theriac::remedy::kernel::{Knob, Reading};
