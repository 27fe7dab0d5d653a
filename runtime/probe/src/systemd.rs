//! systemd over D-Bus: a unit's state, and a stream of its changes. Reading only; the verbs are the runner's.
//!
//! The state is always read in full after a change, never pieced together from the signal: two properties of one change can
//! arrive in two signals. Aliases are resolved by systemd (`Id`), so that one unit has one state whatever it is called.

mod changes;
mod client;
mod services;
mod state;

pub use changes::{Change, Changes};
pub use client::{ConnectError, Systemd, UnitError};
