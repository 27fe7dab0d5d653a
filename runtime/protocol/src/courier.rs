//! What the runner asks the `net` courier on `run/courier-net.sock`. Frames go back with the request's id; a courier may answer
//! out of order.

use serde::{Deserialize, Serialize};

use theriac_model::health::{HealthAnswer, HealthCheck};
use theriac_model::http::{HttpAnswer, HttpRequest};

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
    /// The request was refused, in one sentence.
    Refused(String),
}
