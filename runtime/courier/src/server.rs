//! What the `net` courier is asked: health checks and requests, and no more than so many at once.

use theriac_model::health::HealthCheck;
use theriac_model::http::HttpRequest;
use theriac_model::time::Span;
use theriac_protocol::courier::{CourierAnswer, CourierRequest, Look};
use theriac_protocol::layout::{Layout, Socket};
use theriac_protocol::process::Identity;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::check::{self, MAX_TIMEOUT};
use crate::config::CourierConfig;
use crate::desk::{self, Errands, StartError};
use crate::look;
use crate::names::Names;
use crate::request;
use crate::seal::Reaches;

struct Net {
    config: CourierConfig,
    names: Names,
    slots: Semaphore,
}

/// Runs the `net` courier until it is killed. Must be called while the process has one thread.
pub fn run(config: CourierConfig, layout: &Layout, identity: Option<Identity>) -> Result<(), StartError> {
    let slots = Semaphore::new(usize::from(config.max_checks));
    desk::open(Net { config, names: Names::of_this_machine(), slots }, layout, identity)
}

impl Errands for Net {
    type Request = CourierRequest;
    type Answer = CourierAnswer;
    type Visit = ();
    const SOCKET: Socket = Socket::CourierNet;
    /// The longest request holds a body of 256 KiB in base64.
    const MAX_REQUEST: u32 = 512 << 10;

    fn reaches(&self) -> Vec<Reaches> {
        vec![Reaches::Tcp, Reaches::Names]
    }

    fn is_hello(request: &CourierRequest) -> bool {
        matches!(request, CourierRequest::Hello { .. })
    }

    fn hello(&self, version: String) -> CourierAnswer {
        CourierAnswer::Hello { version }
    }

    fn refused(reason: String) -> CourierAnswer {
        CourierAnswer::Refused(reason)
    }

    async fn run(&self, (): &(), request: CourierRequest) -> CourierAnswer {
        match request {
            CourierRequest::Hello { version } => self.hello(version),
            CourierRequest::Check(check) => self.check(&check).await,
            CourierRequest::Send(request) => self.send(&request).await,
            CourierRequest::Look(look) => self.look(&look).await,
        }
    }
}

impl Net {
    async fn check(&self, check: &HealthCheck) -> CourierAnswer {
        match self.slot(check.timeout()) {
            Ok(_slot) => CourierAnswer::Checked(check::make(check, &self.config).await),
            Err(reason) => CourierAnswer::Refused(reason),
        }
    }

    async fn send(&self, request: &HttpRequest) -> CourierAnswer {
        match self.slot(request.timeout) {
            Ok(_slot) => request::send(request, &self.config, &self.names).await,
            Err(reason) => CourierAnswer::NotSent(reason),
        }
    }

    async fn look(&self, look: &Look) -> CourierAnswer {
        match self.slot(look.timeout) {
            Ok(_slot) => look::look(look).await,
            Err(reason) => CourierAnswer::Refused(reason),
        }
    }

    /// Waiting for one would be counted as the service's slowness.
    fn slot(&self, timeout: Span) -> Result<SemaphorePermit<'_>, String> {
        if timeout.duration() > MAX_TIMEOUT {
            return Err(format!("it may take at most {} s", MAX_TIMEOUT.as_secs()));
        }
        self.slots.try_acquire().map_err(|_full| format!("{} are under way already", self.config.max_checks))
    }
}
