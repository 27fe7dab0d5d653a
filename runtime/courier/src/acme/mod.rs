//! The `acme` courier: orders certificates for the runner (RFC 8555) with an account key that it alone holds.
//!
//! Everything it talks to is taken for hostile: it follows the authority to no other origin, reads no more than so much of an
//! answer, makes no more than so many requests for an order, and ends in time. What the authority says is handed on as words; it is
//! the runner who looks at them. It never sees the key of a certificate, writes no file, and after it has started it can open
//! none.

mod client;
pub mod config;
mod order;

use std::time::Duration;

use theriac_model::certificate::DnsName;
use theriac_protocol::acme::{AcmeAnswer, AcmeRequest};
use theriac_protocol::layout::{Layout, Socket};
use theriac_protocol::process::Identity;
use tokio::sync::{Mutex, Semaphore};

use crate::desk::{self, Errands, StartError};
use crate::names::Names;
use crate::seal::Reaches;
use config::AcmeConfig;
use order::{Failure, Open};

/// Steps at once; the runner has one for each of its runs.
const MAX_STEPS: usize = 16;
/// One step of an order, whatever the authority does.
const STEP: Duration = Duration::from_secs(120);

struct Acme {
    config: AcmeConfig,
    names: Names,
    slots: Semaphore,
}

/// Runs the `acme` courier until it is killed. Must be called while the process has one thread.
pub fn run(config: AcmeConfig, layout: &Layout, identity: Option<Identity>) -> Result<(), StartError> {
    let errands = Acme { config, names: Names::of_this_machine(), slots: Semaphore::new(MAX_STEPS) };
    desk::open(errands, layout, identity)
}

impl Errands for Acme {
    type Request = AcmeRequest;
    type Answer = AcmeAnswer;
    /// The order of this connection, between its two steps. Held during each: there is one at a time.
    type Visit = Mutex<Option<Open>>;
    const SOCKET: Socket = Socket::CourierAcme;
    /// A request with twenty names of 253 characters.
    const MAX_REQUEST: u32 = 32 << 10;

    fn reaches(&self) -> Vec<Reaches> {
        vec![Reaches::Tcp, Reaches::Names]
    }

    fn is_hello(request: &AcmeRequest) -> bool {
        matches!(request, AcmeRequest::Hello { .. })
    }

    fn hello(&self, version: String) -> AcmeAnswer {
        AcmeAnswer::Hello { version, account: self.config.account.clone() }
    }

    fn refused(reason: String) -> AcmeAnswer {
        AcmeAnswer::Refused(reason)
    }

    async fn run(&self, visit: &Self::Visit, request: AcmeRequest) -> AcmeAnswer {
        let refused = |reason: &str| AcmeAnswer::Refused(reason.to_owned());
        let Ok(mut open) = visit.try_lock() else { return refused("this connection's order is under way") };
        let Ok(_slot) = self.slots.try_acquire() else { return refused("too many orders are under way") };
        match request {
            AcmeRequest::Hello { version } => self.hello(version),
            AcmeRequest::Order { .. } if open.is_some() => refused("this connection has an order"),
            AcmeRequest::Order { names } => self.open(&mut open, &names).await,
            AcmeRequest::Proceed { csr } => match open.take() {
                None => refused("there is no order"),
                Some(order) => {
                    in_time(order.finish(&csr.0)).await.map_or_else(words, |chain| AcmeAnswer::Issued { chain })
                }
            },
        }
    }
}

impl Acme {
    async fn open(&self, open: &mut Option<Open>, names: &[DnsName]) -> AcmeAnswer {
        let opened = in_time(order::open(&self.config, &self.names, names)).await;
        opened.map_or_else(words, |(order, challenges)| {
            *open = Some(order);
            AcmeAnswer::Challenges(challenges)
        })
    }
}

fn words(Failure(words): Failure) -> AcmeAnswer {
    AcmeAnswer::Failed(words)
}

async fn in_time<T>(step: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = || Failure(format!("the authority was not done within {} s", STEP.as_secs()));
    tokio::time::timeout(STEP, step).await.unwrap_or_else(|_elapsed| Err(late()))
}
