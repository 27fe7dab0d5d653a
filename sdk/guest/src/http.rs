//! HTTP requests to a granted origin (`[grants.http.LABEL]`).

pub use crate::bindings::theriac::remedy::http::{Answer, Endpoint, Method, Parameter};
