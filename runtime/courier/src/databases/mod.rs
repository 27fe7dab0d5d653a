//! The `databases` courier: asks database servers for the runner, over one connection to each that is made at the start and kept.
//!
//! It is warm on purpose: when a pool is exhausted, nobody gets in any more who is not in already. It knows a handful of statements
//! by heart; what is filled in are numbers, names of a closed list, and one name of an application, as hexadecimal digits. A server
//! is taken for hostile all the same: an answer has so many bytes, rows and seconds, and then the connection is dropped.

mod config;
mod link;
mod mysql;
mod postgres;
mod rows;
mod stream;

use std::collections::BTreeMap;
use std::rc::Rc;

use theriac_model::id::Label;
use theriac_protocol::database::{DatabaseAnswer, DatabaseNo, DatabaseRequest};
use theriac_protocol::layout::{Layout, Socket};
use theriac_protocol::process::Identity;

use crate::desk::{self, Errands, StartError};
use crate::seal::Reaches;
use config::Server;
pub use config::{ConfigError, DEFAULT, DatabasesConfig, Listed, Place};
use link::Link;

struct Databases {
    links: BTreeMap<Label, Rc<Link>>,
    reaches: Vec<Reaches>,
}

/// Runs the `databases` courier until it is killed. Must be called while the process has one thread.
pub fn run(config: DatabasesConfig, layout: &Layout, identity: Option<Identity>) -> Result<(), StartError> {
    let servers = config.servers;
    let reaches = reaches(&servers);
    let links = servers.into_iter().map(|server| (server.listed.name.clone(), Rc::new(Link::new(server)))).collect();
    desk::open(Databases { links, reaches }, layout, identity)
}

/// What the listed servers need, and no more.
fn reaches(servers: &[Server]) -> Vec<Reaches> {
    let on_socket = |server: &Server| matches!(server.listed.place, Place::Socket(_));
    let unix = servers.iter().any(on_socket).then_some(Reaches::UnixSockets);
    let tcp = servers.iter().any(|server| !on_socket(server)).then_some(Reaches::Tcp);
    unix.into_iter().chain(tcp).collect()
}

impl Errands for Databases {
    type Request = DatabaseRequest;
    type Answer = DatabaseAnswer;
    type Visit = ();
    const SOCKET: Socket = Socket::CourierDatabases;
    /// The longest names a dozen settings.
    const MAX_REQUEST: u32 = 8 << 10;

    fn reaches(&self) -> Vec<Reaches> {
        self.reaches.clone()
    }

    fn is_hello(request: &DatabaseRequest) -> bool {
        matches!(request, DatabaseRequest::Hello { .. })
    }

    fn hello(&self, version: String) -> DatabaseAnswer {
        DatabaseAnswer::Hello { version }
    }

    fn refused(reason: String) -> DatabaseAnswer {
        DatabaseAnswer::No(DatabaseNo::Refused(reason))
    }

    fn begin(&self) {
        for link in self.links.values() {
            tokio::task::spawn_local(Rc::clone(link).stay_warm());
        }
    }

    async fn run(&self, (): &(), request: DatabaseRequest) -> DatabaseAnswer {
        let database = match &request {
            DatabaseRequest::Hello { version } => return self.hello(version.clone()),
            DatabaseRequest::Sessions { database }
            | DatabaseRequest::Pool { database }
            | DatabaseRequest::Settings { database, .. }
            | DatabaseRequest::Terminate { database, .. }
            | DatabaseRequest::Set { database, .. } => database,
        };
        match self.links.get(database) {
            Some(link) => link.ask(&request).await,
            None => {
                let reason = format!("courier-databases.toml has no [[server]] `{database}`");
                DatabaseAnswer::No(DatabaseNo::Unavailable(reason))
            }
        }
    }
}
