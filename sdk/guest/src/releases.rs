//! The granted releases of a service (`[grants.releases.LABEL]`).

pub use crate::bindings::theriac::remedy::releases::{Release, Version};
