//! A certificate that the operator lists (`[grants.certificates.LABEL]`).

pub use crate::bindings::theriac::remedy::certificates::{Certificate, Facts};
