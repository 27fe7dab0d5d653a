//! `run/agent.sock`: reading, for the CLI of our own user and of root. Nothing here can make anything happen.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use theriac_model::incident::Incident;
use theriac_protocol::agent::{AgentAnswer, AgentRequest};
use theriac_protocol::frame::{self, Frame, FrameError};
use theriac_protocol::peer;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::question::{Asker, Question, ask};
use crate::runner_link::{read, write};

/// Connections at once.
const MAX_CONNECTIONS: usize = 16;
/// A CLI asks at once and goes away.
const IDLE: Duration = Duration::from_secs(60);
/// Incidents in one answer.
const MAX_INCIDENTS: u32 = 1_000;

/// Answers for as long as the process lives.
pub(crate) async fn serve(listener: StdListener, asker: Asker) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let own = rustix::process::geteuid().as_raw();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let stream = stream.into_std()?;
        let admitted = peer::of(&stream).is_ok_and(|peer| peer.uid == own || peer.uid == 0);
        let (true, Ok(place)) = (admitted, Arc::clone(&places).try_acquire_owned()) else { continue };
        let (stream, asker) = (UnixStream::from_std(stream)?, asker.clone());
        tokio::task::spawn(async move {
            if let Err(error) = converse(stream, &asker).await {
                tracing::debug!(%error, "a conversation on agent.sock ended");
            }
            drop(place);
        });
    }
}

async fn converse(mut stream: UnixStream, asker: &Asker) -> Result<(), FrameError> {
    loop {
        let request = match tokio::time::timeout(IDLE, read::<AgentRequest>(&mut stream)).await {
            Ok(Ok(request)) => request,
            Ok(Err(FrameError::Closed)) | Err(_) => return Ok(()),
            Ok(Err(error)) => return Err(error),
        };
        let answer = fitting(answer(asker, request.message).await);
        write(&mut stream, &Frame { epoch: 0, id: request.id, message: answer }).await?;
    }
}

async fn answer(asker: &Asker, request: AgentRequest) -> AgentAnswer {
    let answer = match request {
        AgentRequest::Status => ask(asker, Question::Status).await.map(AgentAnswer::Status),
        AgentRequest::Incidents { limit } => {
            let limit = usize::try_from(limit.min(MAX_INCIDENTS)).unwrap_or_default();
            ask(asker, |reply| Question::Incidents(limit, reply)).await.map(AgentAnswer::Incidents)
        }
        AgentRequest::Incident { id } => {
            ask(asker, |reply| Question::Incident(id, reply)).await.map(AgentAnswer::Incident)
        }
    };
    answer.unwrap_or_else(|| AgentAnswer::Refused("the agent is too busy to answer: try again".to_owned()))
}

/// Makes the answer fit a frame: the oldest incidents of a list go, then the longest parts of one.
fn fitting(mut answer: AgentAnswer) -> AgentAnswer {
    let fits = |answer: &AgentAnswer| frame::encode(&Frame { epoch: 0, id: 0, message: answer }).is_ok();
    while !fits(&answer) {
        match &mut answer {
            AgentAnswer::Incidents(incidents) if incidents.len() > 1 => incidents.truncate(incidents.len() / 2),
            AgentAnswer::Incidents(incidents) => match incidents.first_mut() {
                Some(incident) => shorten(incident),
                None => break,
            },
            AgentAnswer::Incident(Some(incident)) => shorten(incident),
            AgentAnswer::Status(_) | AgentAnswer::Incident(None) | AgentAnswer::Refused(_) => break,
        }
    }
    answer
}

fn shorten(incident: &mut Incident) {
    if !incident.evidence.is_empty() {
        incident.evidence.clear();
    } else if incident.signals.len() > 1 {
        incident.signals.truncate(1);
    } else {
        incident.timeline.truncate(incident.timeline.len() / 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incidents::tests::incident;

    #[test]
    fn a_list_too_long_for_a_frame_loses_its_oldest_and_a_short_one_nothing() {
        let mut long = incident("i-1");
        long.timeline = vec![(theriac_model::time::Timestamp(1), "x".repeat(1_000)); 100];
        let AgentAnswer::Incidents(kept) = fitting(AgentAnswer::Incidents(vec![long.clone(); 40])) else { panic!() };
        assert!(kept.len() >= 5 && kept.len() < 40, "{}", kept.len());
        let AgentAnswer::Incidents(kept) = fitting(AgentAnswer::Incidents(vec![long.clone(); 5])) else { panic!() };
        assert_eq!(kept.len(), 5);
        long.timeline = vec![(theriac_model::time::Timestamp(1), "x".repeat(10_000)); 256];
        let AgentAnswer::Incident(Some(kept)) = fitting(AgentAnswer::Incident(Some(Box::new(long)))) else { panic!() };
        assert!(!kept.timeline.is_empty());
    }
}
