//! The runner's side of the `net` courier: health checks and HTTP requests, which the runner can't make itself (it has no inet
//! socket). The answer is the courier's word; a courier that is gone is an answer, too: *not measured*, never *healthy*, and of
//! a request that was under way it is not known whether it arrived.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use theriac_model::health::{HealthAnswer, HealthCheck};
use theriac_model::http::{HttpAnswer, HttpRequest};
use theriac_protocol::courier::{CourierAnswer, CourierRequest, Look, Looked};

use crate::exchange::{ExchangeError, Line, Neighbour, chain};
use crate::hands::{HandError, Http, Tls};

/// What the courier may take on top of the check's own timeout, before it counts as gone.
const GRACE: Duration = Duration::from_secs(1);
/// Connections that wait for the next check: one for each of the observer's threads.
const MAX_IDLE: usize = 4;

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

/// Health checks through the courier. Asked each second for as long as the host runs, they keep their connections.
#[derive(Debug)]
pub struct NetCourier {
    neighbour: Neighbour,
    idle: Mutex<Vec<Line>>,
}

impl NetCourier {
    /// The courier at this socket.
    pub fn new(socket: &Path, epoch: u64) -> Self {
        Self { neighbour: Neighbour::new(socket, epoch), idle: Mutex::default() }
    }

    /// The courier runs as this user.
    #[must_use]
    pub fn run_by(self, uid: u32) -> Self {
        Self { neighbour: self.neighbour.run_by(uid), ..self }
    }

    /// Makes the check once; ends within the check's timeout and a second.
    pub fn check(&self, check: &HealthCheck) -> Result<HealthAnswer, CheckError> {
        let used = self.idle().pop();
        if let Some(line) = used {
            match self.ask(line, check) {
                // The courier was restarted since, or has closed it. A check changes nothing, so it may be asked again.
                Err(CheckError::Courier(ExchangeError::Frame(_))) => {}
                asked @ (Ok(_) | Err(CheckError::Courier(_) | CheckError::Refused { .. })) => return asked,
            }
        }
        self.ask(self.greeted()?, check)
    }

    fn greeted(&self) -> Result<Line, CheckError> {
        let hello = CourierRequest::Hello { version: env!("CARGO_PKG_VERSION").to_owned() };
        let (line, greeting) = self.neighbour.connect::<_, CourierAnswer>(hello)?;
        match greeting {
            CourierAnswer::Hello { .. } => Ok(line),
            CourierAnswer::Refused(reason) => Err(CheckError::Refused { reason }),
            CourierAnswer::Checked(_)
            | CourierAnswer::Looked(_)
            | CourierAnswer::NotSeen(_)
            | CourierAnswer::Sent(_)
            | CourierAnswer::NotSent(_)
            | CourierAnswer::Lost(_) => Err(ExchangeError::Unexpected.into()),
        }
    }

    /// A connection that answered is kept. One that did not in time is not: its answer may still come, and be taken for another's.
    fn ask(&self, mut line: Line, check: &HealthCheck) -> Result<HealthAnswer, CheckError> {
        let timeout = check.timeout().duration() + GRACE;
        let answer = line.ask(2, CourierRequest::Check(check.clone()), timeout)?;
        let mut idle = self.idle();
        if idle.len() < MAX_IDLE {
            idle.push(line);
        }
        drop(idle);
        match answer {
            CourierAnswer::Checked(answer) => Ok(answer),
            CourierAnswer::Refused(reason) => Err(CheckError::Refused { reason }),
            CourierAnswer::Hello { .. }
            | CourierAnswer::Looked(_)
            | CourierAnswer::NotSeen(_)
            | CourierAnswer::Sent(_)
            | CourierAnswer::NotSent(_)
            | CourierAnswer::Lost(_) => Err(ExchangeError::Unexpected.into()),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Line>> {
        // Nothing under the lock can panic half-way.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Http for NetCourier {
    /// On a connection of its own, and once: a request may change something, so an answer that is missing is not asked for again.
    fn send(&self, request: &HttpRequest) -> Result<HttpAnswer, HandError> {
        let nothing_sent = |error: CheckError| HandError::Unavailable { reason: error.to_string() };
        let mut line = self.greeted().map_err(nothing_sent)?;
        let timeout = request.timeout.duration() + GRACE;
        let silent = |error: ExchangeError| HandError::Unknown {
            reason: format!("the net courier did not answer: {}", chain(&error)),
        };
        match line.ask(2, CourierRequest::Send(request.clone()), timeout).map_err(silent)? {
            CourierAnswer::Sent(answer) => Ok(answer),
            CourierAnswer::NotSent(reason) => Err(HandError::Failed { reason }),
            CourierAnswer::Lost(reason) => Err(HandError::Unknown { reason }),
            CourierAnswer::Refused(reason) => Err(HandError::Refused { reason }),
            CourierAnswer::Hello { .. }
            | CourierAnswer::Checked(_)
            | CourierAnswer::Looked(_)
            | CourierAnswer::NotSeen(_) => {
                Err(HandError::Unknown { reason: "the net courier answered something else".to_owned() })
            }
        }
    }
}

impl Tls for NetCourier {
    /// On a connection of its own: it is asked some times a minute.
    fn look(&self, look: &Look) -> Result<Looked, HandError> {
        let gone = |error: CheckError| HandError::Unavailable { reason: error.to_string() };
        let mut line = self.greeted().map_err(gone)?;
        let timeout = look.timeout.duration() + GRACE;
        let answer =
            line.ask(2, CourierRequest::Look(look.clone()), timeout).map_err(CheckError::from).map_err(gone)?;
        match answer {
            CourierAnswer::Looked(looked) => Ok(looked),
            CourierAnswer::NotSeen(reason) => Err(HandError::Failed { reason }),
            CourierAnswer::Refused(reason) => Err(HandError::Refused { reason }),
            CourierAnswer::Hello { .. }
            | CourierAnswer::Checked(_)
            | CourierAnswer::Sent(_)
            | CourierAnswer::NotSent(_)
            | CourierAnswer::Lost(_) => {
                Err(HandError::Failed { reason: "the net courier answered something else".to_owned() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::sync::mpsc;

    use theriac_model::time::Span;
    use theriac_protocol::frame::{self, Frame};

    use super::*;

    /// Greets, answers that many checks, and hangs up. Says which connection each check came by.
    fn courier(listener: UnixListener, checks: usize, seen: mpsc::Sender<usize>) {
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                converse(&mut stream.unwrap(), checks, number, &seen);
            }
        });
    }

    fn converse(stream: &mut UnixStream, checks: usize, number: usize, seen: &mpsc::Sender<usize>) {
        for turn in 0..=checks {
            let Ok(Frame { id, message, .. }) = frame::read::<CourierRequest>(stream) else { return };
            let message = match message {
                CourierRequest::Hello { version } => CourierAnswer::Hello { version },
                CourierRequest::Check(_) => {
                    seen.send(number).unwrap();
                    let detail = format!("turn {turn}");
                    CourierAnswer::Checked(HealthAnswer { ok: true, latency_ms: 1, detail })
                }
                CourierRequest::Send(_) => CourierAnswer::NotSent("not this courier".to_owned()),
                CourierRequest::Look(_) => CourierAnswer::NotSeen("not this courier".to_owned()),
            };
            frame::write(stream, &Frame { epoch: 1, id, message }).unwrap();
        }
    }

    #[test]
    fn checks_share_a_connection_and_one_that_was_closed_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.sock");
        let (tell, seen) = mpsc::channel();
        courier(UnixListener::bind(&path).unwrap(), 2, tell);
        let net = NetCourier::new(&path, 1);
        let check = HealthCheck::Tcp { address: "127.0.0.1:1".parse().unwrap(), timeout: Span::from_millis(500) };
        for _ in 0..5 {
            assert!(net.check(&check).unwrap().ok);
        }
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [0, 0, 1, 1, 2]);
    }
}
