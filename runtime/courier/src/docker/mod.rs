//! The `docker` courier: containers of the machine's engine, for the runner, which holds no foreign socket.
//!
//! The engine's socket equals root, so that this is trusted code, and small: it reads one configuration, seals itself, and from then
//! on can open no file, start no program and make no socket but a Unix one. What it can be asked is
//! [`theriac_protocol::docker`]; the engine's other verbs are not written here. The engine itself is taken for hostile all the
//! same: what it says is bounded in bytes and time, and a reading of it is typed or it is an error.

pub mod config;
mod engine;
mod images;
mod output;
mod reading;
mod transport;

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use theriac_protocol::docker::{DockerAnswer, DockerRequest, MAX_JOB};
use theriac_protocol::layout::{Layout, Socket};
use theriac_protocol::process::Identity;
use tokio::sync::Semaphore;

use crate::desk::{self, Errands, StartError};
use crate::seal::Reaches;
use config::DockerConfig;
use engine::Engine;

struct Docker {
    engine: Engine,
    slots: Semaphore,
    most: u16,
}

/// Runs the `docker` courier until it is killed. Must be called while the process has one thread.
pub fn run(config: &DockerConfig, layout: &Layout, identity: Option<Identity>) -> Result<(), StartError> {
    let group = group_of(config);
    if group.is_none() {
        tracing::warn!(socket = %config.socket, "the engine's socket is not there yet");
    }
    // The socket's group is who may speak to the engine; a group of our own would be nobody there.
    let identity = identity.map(|own| Identity { gid: group.unwrap_or(own.gid), ..own });
    let errands = Docker {
        engine: Engine::new(config.socket.clone(), group.is_some()),
        slots: Semaphore::new(usize::from(config.max_requests)),
        most: config.max_requests,
    };
    desk::open(errands, layout, identity)
}

fn group_of(config: &DockerConfig) -> Option<u32> {
    fs::metadata(config.socket.as_path()).ok().map(|socket| socket.gid())
}

impl Errands for Docker {
    type Request = DockerRequest;
    type Answer = DockerAnswer;
    type Visit = ();
    const SOCKET: Socket = Socket::CourierDocker;
    /// The longest request holds a label of 257 bytes, or an image's name of 383 and two ids.
    const MAX_REQUEST: u32 = 2 << 10;

    fn reaches(&self) -> Vec<Reaches> {
        vec![Reaches::UnixSockets]
    }

    fn is_hello(request: &DockerRequest) -> bool {
        matches!(request, DockerRequest::Hello { .. })
    }

    fn hello(&self, version: String) -> DockerAnswer {
        DockerAnswer::Hello { version }
    }

    fn refused(reason: String) -> DockerAnswer {
        DockerAnswer::Refused(reason)
    }

    async fn run(&self, (): &(), request: DockerRequest) -> DockerAnswer {
        let Ok(_slot) = self.slots.try_acquire() else {
            return DockerAnswer::Refused(format!("{} requests to the engine run already", self.most));
        };
        match request {
            DockerRequest::Hello { version } => self.hello(version),
            DockerRequest::Find { selector } => self.engine.find(&selector).await,
            DockerRequest::Change { timeout, .. } if timeout > MAX_JOB => {
                DockerAnswer::Refused(format!("a change may take at most {MAX_JOB}"))
            }
            DockerRequest::Change { container, verb, timeout } => {
                self.engine.change(&container, verb, timeout.duration()).await
            }
            DockerRequest::LogTail { id, lines } => self.engine.log_tail(&id, lines).await,
            DockerRequest::Image { tag } => self.engine.image(&tag).await,
            DockerRequest::HasImage { id } => self.engine.has_image(&id).await,
            DockerRequest::PointTag { tag, from, to } => self.engine.point(&tag, &from, &to).await,
        }
    }
}
