//! The runner's side of the `docker` courier: containers of the machine's engine, whose socket the runner does not hold.

use std::path::Path;
use std::time::Duration;

use theriac_model::container::{ContainerId, ContainerRef, ContainerSelector, ContainerState, ContainerVerb};
use theriac_model::release::{ImageId, ImageTag};
use theriac_model::time::{Span, millis};
use theriac_protocol::docker::{DockerAnswer, DockerRequest, MAX_JOB};

use crate::exchange::{ExchangeError, Neighbour, chain};
use crate::hands::{Containers, HandError, Images};

/// A look takes the engine milliseconds; one that is busy with images takes longer, and the courier gives up before this.
const LOOK: Duration = Duration::from_secs(8);
/// What the courier may take on top of the job's own timeout, before it counts as gone: it looks before and afterwards.
const GRACE: Duration = Duration::from_secs(12);

/// Containers through the courier. Each question has a connection of its own: a stop may take minutes.
#[derive(Debug)]
pub struct DockerCourier {
    neighbour: Neighbour,
}

impl DockerCourier {
    /// The courier at this socket.
    pub fn new(socket: &Path, epoch: u64) -> Self {
        Self { neighbour: Neighbour::new(socket, epoch) }
    }

    /// The courier runs as this user.
    #[must_use]
    pub fn run_by(self, uid: u32) -> Self {
        Self { neighbour: self.neighbour.run_by(uid) }
    }

    /// `changes`: what was asked may have happened when no answer comes.
    fn ask(&self, request: DockerRequest, timeout: Duration, changes: bool) -> Result<DockerAnswer, HandError> {
        let unavailable =
            |error: ExchangeError| HandError::Unavailable { reason: format!("the docker courier: {}", chain(&error)) };
        let hello = DockerRequest::Hello { version: env!("CARGO_PKG_VERSION").to_owned() };
        let (mut line, greeting) = self.neighbour.connect::<_, DockerAnswer>(hello).map_err(unavailable)?;
        if !matches!(greeting, DockerAnswer::Hello { .. }) {
            return Err(settled(greeting).err().unwrap_or_else(|| unavailable(ExchangeError::Unexpected)));
        }
        let answer = line.ask(2, request, timeout).map_err(|error| {
            if changes {
                HandError::Unknown { reason: format!("the docker courier: {}", chain(&error)) }
            } else {
                unavailable(error)
            }
        })?;
        settled(answer)
    }

    fn image_of(&self, request: DockerRequest, changes: bool) -> Result<ImageId, HandError> {
        let patience = if changes { LOOK + GRACE } else { LOOK };
        let DockerAnswer::Image(id) = self.ask(request, patience, changes)? else { return Err(unexpected(changes)) };
        Ok(id)
    }

    fn state(&self, request: DockerRequest, timeout: Duration, changes: bool) -> Result<ContainerState, HandError> {
        let DockerAnswer::Container(state) = self.ask(request, timeout, changes)? else {
            return Err(unexpected(changes));
        };
        Ok(state)
    }
}

/// The answers that say no, as the runner's own.
fn settled(answer: DockerAnswer) -> Result<DockerAnswer, HandError> {
    match answer {
        DockerAnswer::Stale(reason) => Err(HandError::Stale { reason }),
        DockerAnswer::Unreachable(reason) => Err(HandError::Unavailable { reason }),
        DockerAnswer::Failed(reason) => Err(HandError::Failed { reason }),
        DockerAnswer::Lost(reason) => Err(HandError::Unknown { reason }),
        DockerAnswer::Ambiguous(reason) | DockerAnswer::Refused(reason) => Err(HandError::Refused { reason }),
        answer @ (DockerAnswer::Hello { .. }
        | DockerAnswer::Container(_)
        | DockerAnswer::Image(_)
        | DockerAnswer::Lines(_)) => Ok(answer),
    }
}

fn unexpected(changes: bool) -> HandError {
    let reason = "the docker courier answered something else than was asked".to_owned();
    if changes { HandError::Unknown { reason } } else { HandError::Failed { reason } }
}

impl Containers for DockerCourier {
    fn find(&self, selector: &ContainerSelector) -> Result<ContainerState, HandError> {
        self.state(DockerRequest::Find { selector: selector.clone() }, LOOK, false)
    }

    fn change(
        &self,
        container: &ContainerRef,
        verb: ContainerVerb,
        timeout: Duration,
    ) -> Result<ContainerState, HandError> {
        let timeout = timeout.min(MAX_JOB.duration());
        let span = Span::from_millis(millis(timeout));
        let request = DockerRequest::Change { container: container.clone(), verb, timeout: span };
        self.state(request, timeout + GRACE, true)
    }

    fn log_tail(&self, id: &ContainerId, lines: u32) -> Result<Vec<String>, HandError> {
        let DockerAnswer::Lines(lines) = self.ask(DockerRequest::LogTail { id: id.clone(), lines }, LOOK, false)?
        else {
            return Err(unexpected(false));
        };
        Ok(lines)
    }
}

impl Images for DockerCourier {
    fn image(&self, tag: &ImageTag) -> Result<ImageId, HandError> {
        self.image_of(DockerRequest::Image { tag: tag.clone() }, false)
    }

    fn has_image(&self, id: &ImageId) -> Result<(), HandError> {
        self.image_of(DockerRequest::HasImage { id: id.clone() }, false).map(drop)
    }

    fn point_tag(&self, tag: &ImageTag, from: &ImageId, to: &ImageId) -> Result<(), HandError> {
        let request = DockerRequest::PointTag { tag: tag.clone(), from: from.clone(), to: to.clone() };
        self.image_of(request, true).map(drop)
    }
}
