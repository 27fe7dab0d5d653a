//! The runner's hands: what other processes do for it, because it starts no program, has no inet socket and speaks no foreign
//! protocol. One trait per kind of peer; the daemon's hands speak to couriers, the launcher or systemd, a test's to what it likes.

use std::sync::Arc;
use std::time::Duration;

use theriac_model::certificate::DnsName;
use theriac_model::container::{ContainerId, ContainerRef, ContainerSelector, ContainerState, ContainerVerb};
use theriac_model::database::{PoolState, Sessions, Setting, SettingChange, SettingState, Termination};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::http::{HttpAnswer, HttpRequest};
use theriac_model::id::Label;
use theriac_model::program::{ProgramOutput, ProgramSpec};
use theriac_model::release::{ImageId, ImageTag};
use theriac_protocol::acme::Challenge;
use theriac_protocol::courier::{Look, Looked};

/// The hands that are there; what is not configured is not started.
#[derive(Clone, Default)]
pub struct Hands {
    /// Certificates from an authority.
    pub acme: Option<Arc<dyn Acme>>,
    /// What servers show of themselves.
    pub tls: Option<Arc<dyn Tls>>,
    /// Programs in a jail.
    pub programs: Option<Arc<dyn Programs>>,
    /// HTTP requests.
    pub http: Option<Arc<dyn Http>>,
    /// Containers.
    pub containers: Option<Arc<dyn Containers>>,
    /// Images of the same engine.
    pub images: Option<Arc<dyn Images>>,
    /// Database servers.
    pub databases: Option<Arc<dyn Databases>>,
}

impl std::fmt::Debug for Hands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hands")
            .field("acme", &self.acme.is_some())
            .field("tls", &self.tls.is_some())
            .field("programs", &self.programs.is_some())
            .field("http", &self.http.is_some())
            .field("containers", &self.containers.is_some())
            .field("images", &self.images.is_some())
            .field("databases", &self.databases.is_some())
            .finish()
    }
}

/// Orders certificates.
pub trait Acme: Send + Sync {
    /// The thumbprint of the account; nobody but the courier is asked.
    fn account(&self) -> Result<String, HandError>;

    /// Orders one for the names over the request (PKCS#10 in DER). `answer` puts the answers to the authority's challenges into
    /// their places. Gives the chain in PEM: somebody else's words, not yet looked at.
    fn order(
        &self,
        names: &[DnsName],
        request: &[u8],
        answer: &mut dyn FnMut(&[Challenge]) -> Result<(), HandError>,
    ) -> Result<String, HandError>;
}

/// Looks at servers.
pub trait Tls: Send + Sync {
    /// Which certificate a server shows to whoever asks for the name.
    fn look(&self, look: &Look) -> Result<Looked, HandError>;
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

/// Looks at images and points tags at them.
pub trait Images: Send + Sync {
    /// The image that a tag names; `Stale` where there is none.
    fn image(&self, tag: &ImageTag) -> Result<ImageId, HandError>;
    /// The image is there; `Stale` where it is not.
    fn has_image(&self, id: &ImageId) -> Result<(), HandError>;
    /// Points a tag that names the first image at the second; `Stale` where it names another one, or the second is not there.
    fn point_tag(&self, tag: &ImageTag, from: &ImageId, to: &ImageId) -> Result<(), HandError>;
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
