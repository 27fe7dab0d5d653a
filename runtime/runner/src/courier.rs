//! The runner's side of the `net` courier: health checks over TCP and HTTP, which the runner can't make itself (it has no inet
//! socket). The answer is the courier's word; a courier that is gone is an answer, too: *not measured*, never *healthy*.

use std::path::Path;
use std::time::Duration;

use theriac_model::health::{HealthAnswer, HealthCheck};
use theriac_protocol::courier::{CourierAnswer, CourierRequest};

use crate::exchange::{ExchangeError, Neighbour, chain};

/// What the courier may take on top of the check's own timeout, before it counts as gone.
const GRACE: Duration = Duration::from_secs(1);

/// Why a check was not made. It says nothing about the service.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The courier can't be reached, or did not answer.
    #[error("the net courier did not answer: {}", chain(.0))]
    Courier(#[from] ExchangeError),
    /// It said no.
    #[error("the net courier refused the check: {reason}")]
    Refused { reason: String },
}

/// Health checks through the courier.
#[derive(Debug, Clone)]
pub struct NetCourier {
    neighbour: Neighbour,
}

impl NetCourier {
    /// The courier at this socket.
    pub fn new(socket: &Path, epoch: u64) -> Self {
        Self { neighbour: Neighbour::new(socket, epoch) }
    }

    /// The courier runs as this user.
    #[must_use]
    pub fn run_by(self, uid: u32) -> Self {
        Self { neighbour: self.neighbour.run_by(uid) }
    }

    /// Makes the check once; ends within the check's timeout and a second.
    pub fn check(&self, check: &HealthCheck) -> Result<HealthAnswer, CheckError> {
        let hello = CourierRequest::Hello { version: env!("CARGO_PKG_VERSION").to_owned() };
        let (mut line, greeting) = self.neighbour.connect::<_, CourierAnswer>(hello)?;
        if let CourierAnswer::Refused(reason) = greeting {
            return Err(CheckError::Refused { reason });
        }
        let timeout = check.timeout().duration() + GRACE;
        match line.ask(2, CourierRequest::Check(check.clone()), timeout)? {
            CourierAnswer::Checked(answer) => Ok(answer),
            CourierAnswer::Refused(reason) => Err(CheckError::Refused { reason }),
            CourierAnswer::Hello { .. } => Err(ExchangeError::Unexpected.into()),
        }
    }
}
