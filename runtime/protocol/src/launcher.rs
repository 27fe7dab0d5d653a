//! What the runner asks the launcher on `run/launcher.sock`. Services are named as in the launcher's own configuration, and no
//! message says how one is started.
//!
//! One message carries a command: [`LauncherRequest::Run`]. Its program must be listed in the launcher's own configuration, and it
//! is run in the jail that the message describes, or not at all.

use serde::{Deserialize, Serialize};

use theriac_model::id::UnitName;
use theriac_model::program::{ProgramOutput, ProgramSpec};
use theriac_model::unit::{KillWhom, Signal, UnitState};

/// A request to the launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum LauncherRequest {
    /// First message of a connection, which brings the epoch in: see [`crate::fence`].
    Hello { version: String },
    /// Every service.
    Units,
    /// One service.
    Unit { name: UnitName },
    /// Start it. Does nothing when it is up.
    Start { name: UnitName },
    /// Stop it: TERM, then KILL after its `stop_timeout`.
    Stop { name: UnitName },
    /// Stop and start.
    Restart { name: UnitName },
    /// Its `reload_signal`.
    Reload { name: UnitName },
    /// A signal.
    Kill { name: UnitName, whom: KillWhom, signal: Signal },
    /// Forget its failures.
    ResetFailed { name: UnitName },
    /// The last lines of its output, at most 200.
    LogTail { name: UnitName, lines: u32 },
    /// From now on, `UnitChanged` events arrive with id 0.
    Subscribe,
    /// Run a listed program to its end or its deadline. A peer that goes away, or a higher epoch, ends it.
    Run(ProgramSpec),
}

/// The launcher's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum LauncherAnswer {
    /// To `Hello`.
    Hello { version: String },
    /// To `Units`.
    Units(Vec<UnitState>),
    /// To everything that names one service, after it was done: its state.
    Unit(UnitState),
    /// To `LogTail`.
    Lines(Vec<String>),
    /// To `Subscribe`.
    Subscribed,
    /// Event: a service changed its state.
    UnitChanged(UnitState),
    /// To `Run`: how it ended, after the last process of its jail is gone. `Refused` means that it was never started.
    Ran(ProgramOutput),
    /// There is no service of that name.
    NoSuchUnit,
    /// No, or it failed, in one sentence.
    Refused(String),
}
