//! The heartbeat: a URL elsewhere is called while all is well, so that somebody notices when it is not. And systemd's watchdog.

use std::time::Duration;

use crate::clock::chain;
use crate::config::Heartbeat;
use crate::question::{Asker, Question, ask};

/// The shortest pause between two beats.
const SHORTEST: Duration = Duration::from_secs(5);

/// Beats for as long as the process lives. A self-test that fails makes no call: silence is the message.
pub(crate) async fn beat(client: reqwest::Client, heartbeat: Heartbeat, asker: Asker) {
    let mut ticks = tokio::time::interval(heartbeat.every.duration().max(SHORTEST));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        beat_once(&client, &heartbeat.url, &asker).await;
    }
}

async fn beat_once(client: &reqwest::Client, url: &str, asker: &Asker) {
    match ask(asker, Question::SelfTest).await {
        Some(Ok(())) => {
            let called = client.get(url).send().await.and_then(reqwest::Response::error_for_status);
            if let Err(error) = called {
                // The URL may hold a secret: it is never logged.
                tracing::warn!(error = chain(&error.without_url()), "the heartbeat was not taken");
            }
        }
        Some(Err(reason)) => tracing::warn!(reason, "no heartbeat: the self-test failed"),
        None => tracing::warn!("no heartbeat: the agent is too busy for its self-test"),
    }
}

/// Tells systemd, where it asked to be told. Not being heard is systemd's to notice.
pub(crate) fn tell_systemd(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "sd_notify failed");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn it_beats_while_the_self_test_passes_and_is_silent_otherwise() {
        let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/beat", elsewhere.local_addr().unwrap());
        let (asker, mut questions) = mpsc::channel(2);
        tokio::spawn(async move {
            let mut well = false;
            while let Some(Question::SelfTest(reply)) = questions.recv().await {
                reply.send(if well { Ok(()) } else { Err("the samples are old".to_owned()) }).unwrap();
                well = true;
            }
        });
        let client = crate::notify::client().unwrap();
        beat_once(&client, &url, &asker).await;
        let silent =
            std::future::poll_fn(|context| std::task::Poll::Ready(elsewhere.poll_accept(context).is_pending())).await;
        assert!(silent, "the first self-test failed");
        let called = async {
            let (mut stream, _) = elsewhere.accept().await.unwrap();
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            head
        };
        let (head, ()) = tokio::join!(called, beat_once(&client, &url, &asker));
        assert_eq!(&head, b"GET /beat");
    }
}
