//! The runner's side of the `acme` courier: one order on one connection, in two steps.

use std::path::Path;
use std::time::Duration;

use theriac_model::certificate::DnsName;
use theriac_model::units::Blob;
use theriac_protocol::acme::{AcmeAnswer, AcmeRequest, Challenge};

use crate::exchange::{ExchangeError, Line, Neighbour, chain};
use crate::hands::{Acme, HandError};

/// The courier ends each step within two minutes, whatever the authority does.
const STEP: Duration = Duration::from_secs(125);

/// Certificates through the courier.
#[derive(Debug)]
pub struct AcmeCourier {
    neighbour: Neighbour,
}

impl AcmeCourier {
    /// The courier at this socket.
    pub fn new(socket: &Path, epoch: u64) -> Self {
        Self { neighbour: Neighbour::new(socket, epoch) }
    }

    /// The courier runs as this user.
    #[must_use]
    pub fn run_by(self, uid: u32) -> Self {
        Self { neighbour: self.neighbour.run_by(uid) }
    }

    fn greeted(&self) -> Result<(Line, String), HandError> {
        let hello = AcmeRequest::Hello { version: env!("CARGO_PKG_VERSION").to_owned() };
        match self.neighbour.connect::<_, AcmeAnswer>(hello).map_err(|error| gone(&error))? {
            (line, AcmeAnswer::Hello { version: _, account }) => Ok((line, account)),
            (_, AcmeAnswer::Refused(reason)) => Err(HandError::Refused { reason }),
            (_, AcmeAnswer::Challenges(_) | AcmeAnswer::Issued { .. } | AcmeAnswer::Failed(_)) => Err(unexpected()),
        }
    }
}

fn gone(error: &ExchangeError) -> HandError {
    HandError::Unavailable { reason: format!("the acme courier did not answer: {}", chain(error)) }
}

fn unexpected() -> HandError {
    HandError::Failed { reason: "the acme courier answered something else".to_owned() }
}

/// Nothing of this host was changed: an order without an end is one more certificate at most, which nobody uses.
fn lost(error: &ExchangeError) -> HandError {
    HandError::Failed { reason: format!("the acme courier did not answer: {}", chain(error)) }
}

impl Acme for AcmeCourier {
    fn account(&self) -> Result<String, HandError> {
        self.greeted().map(|(_, account)| account)
    }

    fn order(
        &self,
        names: &[DnsName],
        request: &[u8],
        answer: &mut dyn FnMut(&[Challenge]) -> Result<(), HandError>,
    ) -> Result<String, HandError> {
        let (mut line, _) = self.greeted()?;
        let order = AcmeRequest::Order { names: names.to_vec() };
        match line.ask(2, order, STEP).map_err(|error| lost(&error))? {
            AcmeAnswer::Challenges(challenges) => answer(&challenges)?,
            AcmeAnswer::Refused(reason) => return Err(HandError::Refused { reason }),
            AcmeAnswer::Failed(reason) => return Err(HandError::Failed { reason }),
            AcmeAnswer::Hello { .. } | AcmeAnswer::Issued { .. } => return Err(unexpected()),
        }
        let proceed = AcmeRequest::Proceed { csr: Blob(request.to_vec()) };
        match line.ask(3, proceed, STEP).map_err(|error| lost(&error))? {
            AcmeAnswer::Issued { chain } => Ok(chain),
            AcmeAnswer::Refused(reason) => Err(HandError::Refused { reason }),
            AcmeAnswer::Failed(reason) => Err(HandError::Failed { reason }),
            AcmeAnswer::Hello { .. } | AcmeAnswer::Challenges(_) => Err(unexpected()),
        }
    }
}
