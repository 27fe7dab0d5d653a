//! What the runner asks the `docker` courier on `run/courier-docker.sock`. Frames go back with the request's id; a courier may
//! answer out of order.
//!
//! The engine's protocol can make containers, run programs in them and mount the host's root. None of that has a request here: a
//! runner that was taken over can ask this courier for these verbs, and for nothing else.

use serde::{Deserialize, Serialize};
use theriac_model::container::{ContainerId, ContainerRef, ContainerSelector, ContainerState, ContainerVerb};
use theriac_model::release::{ImageId, ImageTag};
use theriac_model::time::Span;

/// The most lines of one container's output that are asked for.
pub const MAX_LINES: u32 = 200;
/// The most that one answer keeps of them, in bytes.
pub const MAX_LOG: usize = 64 << 10;
/// The longest that a change may be waited for.
pub const MAX_JOB: Span = Span::from_secs(600);

/// A request to the `docker` courier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum DockerRequest {
    /// First message of a connection, which brings the epoch in: see [`crate::fence`].
    Hello { version: String },
    /// The one container that answers to this.
    Find { selector: ContainerSelector },
    /// Changes this very container, if it is still the one that is meant, and waits until the engine says that it is done.
    Change { container: ContainerRef, verb: ContainerVerb, timeout: Span },
    /// The last lines of its output, at most [`MAX_LINES`].
    LogTail { id: ContainerId, lines: u32 },
    /// The id of the image that a tag names.
    Image { tag: ImageTag },
    /// Whether the engine has this image.
    HasImage { id: ImageId },
    /// Points a tag that names `from` at `to`, which the engine has already. Engines can't do both in one step: a tag that somebody
    /// moves in between is lost to them.
    PointTag { tag: ImageTag, from: ImageId, to: ImageId },
}

/// The `docker` courier's answer. Sentences may hold text of the engine's: bounded, and data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum DockerAnswer {
    /// To `Hello`.
    Hello { version: String },
    /// To `Find`, and to `Change` afterwards: how it is now.
    Container(ContainerState),
    /// To `Image`, `HasImage` and `PointTag`: the image's id.
    Image(ImageId),
    /// To `LogTail`: oldest first.
    Lines(Vec<String>),
    /// No container or image answers to that, or another one does by now. Nothing was changed.
    Stale(String),
    /// More than one container answers to that. Nothing was changed.
    Ambiguous(String),
    /// The engine can't be reached. Nothing was changed.
    Unreachable(String),
    /// The engine said no, or what it said can't be understood. Nothing was changed.
    Failed(String),
    /// The engine was asked for a change and did not say what came of it.
    Lost(String),
    /// The request was refused, in one sentence.
    Refused(String),
}
