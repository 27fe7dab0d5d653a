//! Scenario tests for remedies: the real worker, the real gate, real files and a real process, in a world of their own.
//!
//! [`test`] runs each scenario in a process of its own (`theriac-scenario`), because a filesystem of its own needs a mount
//! namespace, and only a process with one thread can enter one as an ordinary user. Nothing is faked but the fault's
//! input and the clock that ages are counted from. `plugins/SCENARIOS.md` says what a scenario is.

mod bench;
mod certificates;
mod compare;
mod database;
mod error;
mod learn;
mod licence;
mod load;
mod namespace;
mod notes;
mod perform;
mod programs;
mod recording;
mod releases;
mod replay;
mod scenario;
mod service;
mod snapshot;
mod stage;
mod summary;

pub mod stand_in;

pub use bench::{Figures, Time, bench};
pub use error::ScenarioError;
pub use learn::{Learned, Lesson, learn};
pub use perform::{play, record};
pub use programs::{Programs, learn_in_scenario, record_in_scenario, test, workers};
pub use recording::{Ended, Exchange, Recording};
pub use replay::{Difference, Replay, replays};
pub use scenario::Scenario;
pub use summary::{Outcome, Summary, Verdict};
