//! The runner's hands: what other processes do for it, because it starts no program, has no inet socket and speaks no foreign
//! protocol. One trait per kind of peer; the daemon's hands speak to couriers, the launcher or systemd, a test's to what it likes.

use std::sync::Arc;
use std::time::Duration;

use theriac_model::container::{ContainerId, ContainerRef, ContainerSelector, ContainerState, ContainerVerb};
use theriac_model::database::{PoolState, Sessions, Setting, SettingChange, SettingState, Termination};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::http::{HttpAnswer, HttpRequest};
use theriac_model::id::Label;
use theriac_model::program::{ProgramOutput, ProgramSpec};

/// The hands that are there; what is not configured is not started.
#[derive(Clone, Default)]
pub struct Hands {
    /// Programs in a jail.
    pub programs: Option<Arc<dyn Programs>>,
    /// HTTP requests.
    pub http: Option<Arc<dyn Http>>,
    /// Containers.
    pub containers: Option<Arc<dyn Containers>>,
    /// Database servers.
    pub databases: Option<Arc<dyn Databases>>,
}

impl std::fmt::Debug for Hands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hands")
            .field("programs", &self.programs.is_some())
            .field("http", &self.http.is_some())
            .field("containers", &self.containers.is_some())
            .field("databases", &self.databases.is_some())
            .finish()
    }
}

/// Runs programs.
pub trait Programs: Send + Sync {
    /// Runs one to its end or its deadline.
    fn run(&self, program: &ProgramSpec) -> Result<ProgramOutput, HandError>;
}

/// Sends HTTP requests.
pub trait Http: Send + Sync {
    /// Sends one, within its own timeout.
    fn send(&self, request: &HttpRequest) -> Result<HttpAnswer, HandError>;
}

/// Looks at containers and starts and stops them.
pub trait Containers: Send + Sync {
    /// The one container that answers to this; `Stale` where there is none, `Refused` where there are several.
    fn find(&self, selector: &ContainerSelector) -> Result<ContainerState, HandError>;
    /// Changes this very container, and waits at most that long; `Stale` where it is another one, or in another life, by now.
    fn change(
        &self,
        container: &ContainerRef,
        verb: ContainerVerb,
        timeout: Duration,
    ) -> Result<ContainerState, HandError>;
    /// The last lines of its output, bounded.
    fn log_tail(&self, id: &ContainerId, lines: u32) -> Result<Vec<String>, HandError>;
}

/// Asks database servers, which it knows by the operator's names.
pub trait Databases: Send + Sync {
    /// Who is connected.
    fn sessions(&self, database: &Label) -> Result<Sessions, HandError>;
    /// How full it is.
    fn pool(&self, database: &Label) -> Result<PoolState, HandError> {
        self.sessions(database).map(|sessions| sessions.pool())
    }
    /// How some settings are.
    fn settings(&self, database: &Label, settings: &[Setting]) -> Result<Vec<(Setting, SettingState)>, HandError>;
    /// Ends one session, if it is still the one and still waits: else it is [`HandError::Stale`].
    fn terminate(&self, database: &Label, termination: &Termination) -> Result<(), HandError>;
    /// Changes one setting, if it is still as expected: else it is [`HandError::Stale`]. Answers how it is afterwards.
    fn set(&self, database: &Label, change: &SettingChange) -> Result<SettingState, HandError>;
}

/// Why a hand did not do what it was told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandError {
    /// It is not there, or this machine can't do it.
    #[error("not available here: {reason}")]
    Unavailable { reason: String },
    /// The thing is another one by now.
    #[error("it is another one by now: {reason}")]
    Stale { reason: String },
    /// It said no, before anything was done.
    #[error("refused: {reason}")]
    Refused { reason: String },
    /// It was tried, and nothing was changed.
    #[error("it failed: {reason}")]
    Failed { reason: String },
    /// It may have happened.
    #[error("it is not known whether it happened: {reason}")]
    Unknown { reason: String },
}

impl HandError {
    /// It is unknown whether it happened: observe before doing anything else.
    pub const fn may_have_happened(&self) -> bool {
        match self {
            Self::Unknown { .. } => true,
            Self::Unavailable { .. } | Self::Stale { .. } | Self::Refused { .. } | Self::Failed { .. } => false,
        }
    }

    /// As a remedy is told.
    pub(crate) fn denial(&self, label: &Label, rule: &str, attempted: &str) -> Denial {
        let cause = match self {
            Self::Unavailable { .. } => DenialCause::Unavailable,
            Self::Stale { .. } => DenialCause::StaleTarget,
            Self::Refused { .. } | Self::Failed { .. } | Self::Unknown { .. } => DenialCause::Failed,
        };
        Denial::new(cause, label, rule, format!("{attempted}: {self}"))
    }
}
