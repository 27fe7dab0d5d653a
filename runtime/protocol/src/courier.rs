//! What the runner asks the `net` courier on `run/courier-net.sock`. Frames go back with the request's id; a courier may answer
//! out of order.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use theriac_model::certificate::DnsName;
use theriac_model::health::{HealthAnswer, HealthCheck};
use theriac_model::http::{HttpAnswer, HttpRequest};
use theriac_model::time::Span;
use theriac_model::units::Blob;

/// A request to a courier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum CourierRequest {
    /// First message of a connection, which brings the epoch in: see [`crate::fence`].
    Hello { version: String },
    /// Run the check once.
    Check(HealthCheck),
    /// Send the request once, within its own timeout; it is never sent again.
    Send(HttpRequest),
    /// See which certificate a server shows.
    Look(Look),
}

/// A courier's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum CourierAnswer {
    /// To `Hello`.
    Hello { version: String },
    /// To `Check`.
    Checked(HealthAnswer),
    /// To `Send`: what came back.
    Sent(HttpAnswer),
    /// To `Send`: nothing of it left this host, in one sentence.
    NotSent(String),
    /// To `Send`: it may have arrived, and there is no whole answer, in one sentence.
    Lost(String),
    /// To `Look`.
    Looked(Looked),
    /// To `Look`: there was nothing to see, in one sentence.
    NotSeen(String),
    /// The request was refused, in one sentence.
    Refused(String),
}

/// A look at the certificate that is served somewhere. The connection ends before anything is sent over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// Where.
    pub address: SocketAddr,
    /// The name it is asked for (SNI).
    pub name: DnsName,
    /// From the connection to the certificate.
    pub timeout: Span,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Looked {
    /// The server's own certificate in DER: its word, not looked at.
    pub certificate: Blob,
    /// It has signed the handshake with the certificate's key.
    pub key_shown: bool,
}
