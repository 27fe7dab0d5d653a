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
        match ask(&asker, Question::SelfTest).await {
            Some(Ok(())) => {
                let called = client.get(&heartbeat.url).send().await.and_then(reqwest::Response::error_for_status);
                if let Err(error) = called {
                    // The URL may hold a secret: it is never logged.
                    tracing::warn!(error = chain(&error.without_url()), "the heartbeat was not taken");
                }
            }
            Some(Err(reason)) => tracing::warn!(reason, "no heartbeat: the self-test failed"),
            None => tracing::warn!("no heartbeat: the agent is too busy for its self-test"),
        }
    }
}

/// Tells systemd, where it asked to be told. Not being heard is systemd's to notice.
pub(crate) fn tell_systemd(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "sd_notify failed");
    }
}
