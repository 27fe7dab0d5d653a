//! Telling people: a JSON body by POST to each configured URL. A slow or dead receiver holds up nobody but itself.

use std::time::Duration;

use serde::Serialize;
use theriac_model::incident::Incident;
use theriac_model::time::{Timestamp, millis};
use tokio::sync::mpsc;

use crate::clock::{chain, wall};
use crate::config::Notify;
use crate::incidents::{News, What};

/// Notifications a receiver may be behind; what is more is dropped, and the next one says how many.
const BACKLOG: usize = 64;
/// Tries of one notification, and the pause before the second; it doubles.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_secs(2);
/// One try.
const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Characters of a text from outside.
const MAX_TEXT: usize = 500;

/// Why no HTTP client can be made.
#[derive(Debug, thiserror::Error)]
#[error("no HTTP client can be made for notifications")]
pub struct ClientError(#[source] reqwest::Error);

/// A client that follows no redirect and no proxy of the environment, and waits for nobody long.
pub(crate) fn client() -> Result<reqwest::Client, ClientError> {
    // A second call finds the provider installed already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
    builder.timeout(TIMEOUT).connect_timeout(CONNECT_TIMEOUT).build().map_err(ClientError)
}

/// What is posted.
#[derive(Debug, Clone, Serialize)]
struct Message {
    event: &'static str,
    host: String,
    at_ms: u64,
    incident: String,
    kind: &'static str,
    target: String,
    severity: &'static str,
    state: &'static str,
    onset_ms: u64,
    healed_ms: Option<u64>,
    run: Option<String>,
    summary: String,
    /// Only in the first one after a start: how long nobody watched, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    outage: Option<Outage>,
    /// Notifications that were lost before this one because the receiver was too slow.
    #[serde(skip_serializing_if = "is_zero")]
    lost_before: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How long nobody watched before this start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Outage {
    pub(crate) seconds: u64,
    pub(crate) sentence: String,
}

/// Gaps shorter than this are restarts, not outages.
const SHORTEST: Duration = Duration::from_secs(120);

impl Outage {
    /// From the last sign of life, the boot it was in, and now.
    pub(crate) fn between(last: Option<(Timestamp, Option<String>)>, now: Timestamp, boot: &str) -> Option<Self> {
        let (at, last_boot) = last?;
        let gap = now.since(at);
        if gap < SHORTEST {
            return None;
        }
        let (minutes, seconds) = (gap.as_secs() / 60, gap.as_secs() % 60);
        let who = match last_boot {
            Some(last_boot) if last_boot != boot => "the machine was down or restarting",
            Some(_) | None => "Theriac's agent did not run",
        };
        let sentence = format!("{who}: nobody watched for {minutes} min {seconds} s before this");
        Some(Self { seconds: gap.as_secs(), sentence })
    }
}

/// Everybody who is told.
#[derive(Debug)]
pub(crate) struct Notifier {
    receivers: Vec<Receiver>,
    host: String,
    outage: Option<Outage>,
}

#[derive(Debug)]
struct Receiver {
    only_escalations: bool,
    queue: mpsc::Sender<Message>,
    lost: u64,
}

impl Notifier {
    /// Starts a sender per URL.
    pub(crate) fn start(
        urls: &[Notify],
        client: Option<&reqwest::Client>,
        host: String,
        outage: Option<Outage>,
    ) -> Self {
        let receivers = urls.iter().zip(std::iter::repeat(client)).filter_map(|(notify, client)| {
            let (queue, messages) = mpsc::channel(BACKLOG);
            tokio::spawn(send_all(client?.clone(), notify.url.clone(), messages));
            Some(Receiver { only_escalations: notify.only_escalations, queue, lost: 0 })
        });
        Self { receivers: receivers.collect(), host, outage }
    }

    /// Tells everybody whom it concerns.
    pub(crate) fn tell(&mut self, news: &News) {
        let needs_person = match news.what {
            What::ConsentAsked | What::Escalated => true,
            What::Over | What::Runs => false,
        };
        let mut message = message(news, &self.host);
        message.outage = self.outage.take();
        for receiver in self.receivers.iter_mut().filter(|receiver| needs_person || !receiver.only_escalations) {
            let message = Message { lost_before: receiver.lost, ..message.clone() };
            match receiver.queue.try_send(message) {
                Ok(()) => receiver.lost = 0,
                Err(_) => receiver.lost = receiver.lost.saturating_add(1),
            }
        }
    }
}

fn message(news: &News, host: &str) -> Message {
    let incident: &Incident = &news.incident;
    Message {
        event: match news.what {
            What::Runs => "run",
            What::ConsentAsked => "consent-asked",
            What::Escalated => "escalated",
            What::Over => "closed",
        },
        host: host.to_owned(),
        at_ms: wall().0,
        incident: incident.id.to_string(),
        kind: incident.kind.as_str(),
        target: incident.target.to_string(),
        severity: incident.severity.as_str(),
        state: incident.state.as_str(),
        onset_ms: incident.onset.0,
        healed_ms: incident.healed.map(|at| millis(at.since(incident.onset))),
        run: news.run.as_ref().map(ToString::to_string),
        summary: news.summary.chars().take(MAX_TEXT).collect(),
        outage: None,
        lost_before: 0,
    }
}

async fn send_all(client: reqwest::Client, url: String, mut messages: mpsc::Receiver<Message>) {
    while let Some(message) = messages.recv().await {
        let Ok(body) = serde_json::to_string(&message) else { continue };
        let mut pause = PAUSE;
        for tried in 1..=TRIES {
            let sent = client.post(&url).header("content-type", "application/json").body(body.clone()).send().await;
            // The URL may hold a secret: it is never logged.
            let reason = match sent.and_then(reqwest::Response::error_for_status) {
                Ok(response) if response.status().is_redirection() => "the receiver redirects".to_owned(),
                Ok(_) => break,
                Err(error) => chain(&error.without_url()),
            };
            tracing::warn!(reason, tried, incident = message.incident, "a notification was not delivered");
            if tried < TRIES {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outage(gap_s: u64, last_boot: &str) -> Option<Outage> {
        let last = Some((Timestamp(1_000_000), Some(last_boot.to_owned())));
        Outage::between(last, Timestamp(1_000_000 + gap_s * 1_000), "b")
    }

    #[test]
    fn an_outage_tells_a_boot_from_a_stop_and_a_restart_is_none() {
        assert_eq!(outage(119, "a"), None);
        assert!(
            outage(125, "a")
                .unwrap()
                .sentence
                .starts_with("the machine was down or restarting: nobody watched for 2 min 5 s")
        );
        assert!(outage(125, "b").unwrap().sentence.starts_with("Theriac's agent did not run"));
        assert_eq!(Outage::between(None, Timestamp(9), "b"), None);
    }

    #[tokio::test]
    async fn the_first_message_alone_tells_of_the_outage_and_a_full_queue_is_counted() {
        let (queue, mut messages) = mpsc::channel(1);
        let receiver = Receiver { only_escalations: true, queue, lost: 0 };
        let mut notifier = Notifier { receivers: vec![receiver], host: "vps".into(), outage: outage(125, "a") };
        let news =
            |what| News { what, incident: crate::incidents::tests::incident("i-1"), run: None, summary: "odd".into() };
        notifier.tell(&news(What::Escalated));
        notifier.tell(&news(What::ConsentAsked));
        notifier.tell(&news(What::Runs));
        assert!(messages.recv().await.unwrap().outage.is_some());
        notifier.tell(&news(What::Escalated));
        let next = messages.recv().await.unwrap();
        assert_eq!((next.outage, next.lost_before, next.event), (None, 1, "escalated"));
    }
}
