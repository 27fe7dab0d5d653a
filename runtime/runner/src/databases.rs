//! The runner's side of the `databases` courier. Each question has a connection of its own: it is the courier that keeps the warm
//! ones to the servers.

use std::path::Path;
use std::time::Duration;

use theriac_model::database::{PoolState, Sessions, Setting, SettingChange, SettingState, Termination};
use theriac_model::id::Label;
use theriac_protocol::database::{DatabaseAnswer, DatabaseNo, DatabaseRequest};

use crate::exchange::{ExchangeError, Neighbour, chain};
use crate::hands::{Databases, HandError};

/// The courier ends each question sooner; when it does not, it is gone.
const ANSWER: Duration = Duration::from_secs(20);

/// Database servers through the courier.
#[derive(Debug)]
pub struct DatabaseCourier {
    neighbour: Neighbour,
}

impl DatabaseCourier {
    /// The courier at this socket.
    pub fn new(socket: &Path, epoch: u64) -> Self {
        Self { neighbour: Neighbour::new(socket, epoch) }
    }

    /// The courier runs as this user.
    #[must_use]
    pub fn run_by(self, uid: u32) -> Self {
        Self { neighbour: self.neighbour.run_by(uid) }
    }

    fn ask(&self, request: DatabaseRequest, changes: bool) -> Result<DatabaseAnswer, HandError> {
        let gone = |error: &ExchangeError| HandError::Unavailable { reason: chain(error) };
        let hello = DatabaseRequest::Hello { version: env!("CARGO_PKG_VERSION").to_owned() };
        let (mut line, greeting) = self.neighbour.connect(hello).map_err(|error| gone(&error))?;
        let DatabaseAnswer::Hello { .. } = greeting else { return Err(no(greeting)) };
        line.ask(2, request, ANSWER)
            .map_err(|error| if changes { HandError::Unknown { reason: chain(&error) } } else { gone(&error) })
    }
}

/// An answer that is not the one that was asked for.
fn no(answer: DatabaseAnswer) -> HandError {
    match answer {
        DatabaseAnswer::No(DatabaseNo::Unavailable(reason)) => HandError::Unavailable { reason },
        DatabaseAnswer::No(DatabaseNo::Stale(reason)) => HandError::Stale { reason },
        DatabaseAnswer::No(DatabaseNo::Refused(reason)) => HandError::Refused { reason },
        DatabaseAnswer::Unknown(reason) => HandError::Unknown { reason },
        DatabaseAnswer::Hello { .. }
        | DatabaseAnswer::Sessions(_)
        | DatabaseAnswer::Pool(_)
        | DatabaseAnswer::Settings(_)
        | DatabaseAnswer::Terminated
        | DatabaseAnswer::Set(_) => HandError::Unknown { reason: ExchangeError::Unexpected.to_string() },
    }
}

impl Databases for DatabaseCourier {
    fn sessions(&self, database: &Label) -> Result<Sessions, HandError> {
        let answer = self.ask(DatabaseRequest::Sessions { database: database.clone() }, false)?;
        if let DatabaseAnswer::Sessions(sessions) = answer { Ok(sessions) } else { Err(no(answer)) }
    }

    fn pool(&self, database: &Label) -> Result<PoolState, HandError> {
        let answer = self.ask(DatabaseRequest::Pool { database: database.clone() }, false)?;
        if let DatabaseAnswer::Pool(state) = answer { Ok(state) } else { Err(no(answer)) }
    }

    fn settings(&self, database: &Label, settings: &[Setting]) -> Result<Vec<(Setting, SettingState)>, HandError> {
        let request = DatabaseRequest::Settings { database: database.clone(), settings: settings.to_vec() };
        let answer = self.ask(request, false)?;
        if let DatabaseAnswer::Settings(settings) = answer { Ok(settings) } else { Err(no(answer)) }
    }

    fn terminate(&self, database: &Label, termination: &Termination) -> Result<(), HandError> {
        let request = DatabaseRequest::Terminate { database: database.clone(), termination: termination.clone() };
        let answer = self.ask(request, true)?;
        if let DatabaseAnswer::Terminated = answer { Ok(()) } else { Err(no(answer)) }
    }

    fn set(&self, database: &Label, change: &SettingChange) -> Result<SettingState, HandError> {
        let answer = self.ask(DatabaseRequest::Set { database: database.clone(), change: change.clone() }, true)?;
        if let DatabaseAnswer::Set(state) = answer { Ok(state) } else { Err(no(answer)) }
    }
}
