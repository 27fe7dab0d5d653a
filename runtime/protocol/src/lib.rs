//! The frames that the processes exchange: versioned, bounded, one JSON message each, over Unix sockets whose peer is known.
//!
//! Parsing a frame never depends on the message: length and version are checked before a byte of the payload is read. What a
//! message *means* is its receiver's business; here is only its shape.

pub mod acme;
pub mod agent;
pub mod courier;
pub mod database;
pub mod docker;
pub mod fence;
pub mod frame;
pub mod launcher;
pub mod layout;
pub mod operator;
pub mod peer;
pub mod process;
pub mod program;
pub mod runner;
pub mod worker;
