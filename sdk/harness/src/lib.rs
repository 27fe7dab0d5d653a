//! Scenario tests for remedies: the real worker, the real gate, real files and a real process, in a world of their own.
//!
//! [`test`] runs each scenario in a process of its own (`theriac-scenario`), because a filesystem of its own needs a mount
//! namespace, and only a process with one thread can enter one as an ordinary user. Nothing is faked but the fault's
//! input and the clock that ages are counted from. `plugins/SCENARIOS.md` says what a scenario is.

mod compare;
mod error;
mod licence;
mod namespace;
mod notes;
mod perform;
mod programs;
mod releases;
mod scenario;
mod service;
mod snapshot;
mod stage;
mod summary;

pub mod stand_in;

pub use error::ScenarioError;
pub use perform::play;
pub use programs::{Programs, test};
pub use scenario::Scenario;
pub use summary::{Outcome, Summary, Verdict};
