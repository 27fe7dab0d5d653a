//! Who is told when something happens. A listener that does not keep up is dropped: it asks again and loses nothing, because
//! the journal, not this, is the truth.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use theriac_protocol::runner::RunnerEvent;

/// Events a listener may be behind: a minute of the busiest run.
const BACKLOG: usize = 256;

/// The listeners.
#[derive(Debug, Default)]
pub struct Events {
    listeners: Mutex<Vec<SyncSender<RunnerEvent>>>,
}

impl Events {
    /// From now on, every event also arrives here.
    pub fn subscribe(&self) -> Receiver<RunnerEvent> {
        let (sender, receiver) = sync_channel(BACKLOG);
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }

    /// Tells everybody who keeps up.
    pub fn publish(&self, event: &RunnerEvent) {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| listener.try_send(event.clone()).is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_does_not_read_is_dropped_and_the_others_go_on() {
        let events = Events::default();
        let (lazy, keen) = (events.subscribe(), events.subscribe());
        for _ in 0..=BACKLOG {
            events.publish(&RunnerEvent::CatalogChanged);
            assert_eq!(keen.try_recv(), Ok(RunnerEvent::CatalogChanged));
        }
        assert_eq!(lazy.iter().count(), BACKLOG, "the backlog, then the end");
    }
}
