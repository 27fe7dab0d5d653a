//! Who may do what: manifests, grants, signed notes, the trust store, policy and guardrails.
//!
//! This crate is the only maker of a `Warrant`. It decides and touches nothing: no socket, no clock, no process. The one
//! thing it reads itself is a configuration file, by the opening rule of `theriac-trusted`.

pub mod approval;
pub mod authorise;
pub mod consent;
pub mod document;
pub mod effective;
pub mod explain;
pub mod grant;
pub mod guardrail;
pub mod host;
pub mod key;
pub mod manifest;
pub mod note;
pub mod package;
pub mod playbook;
pub mod policy;
pub mod trust;
