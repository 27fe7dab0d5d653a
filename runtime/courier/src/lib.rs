//! The couriers: what speaks foreign protocols for the runner, one process for each kind of peer.
//!
//! `net` makes health checks over TCP and HTTP for the runner, which has no inet socket, and sends the HTTP requests that remedies are
//! granted; `docker` looks at containers and starts and stops them ([`docker`]); `databases` keeps a warm connection to each database
//! server ([`databases`]); `acme` orders certificates ([`acme`]).
//!
//! Everything they talk to is taken for hostile: of a check no more is read than a status line and headers, of an answer no more
//! than the grant keeps. They follow nothing, keep nothing, and answer within the question's own timeout. After one has started it can
//! open no file and start no program, so that whoever takes it over holds a process that can connect, and nothing else.

pub mod acme;
pub mod check;
pub mod config;
pub mod databases;
mod desk;
pub mod docker;
mod look;
mod names;
mod notify;
mod reach;
mod request;
mod seal;
mod server;

pub use desk::StartError;
pub use server::run;
