//! The runner's two listening sockets: who may connect, how many, how fast, and frames in and out.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use theriac_protocol::frame::{self, Frame, FrameError};
use theriac_protocol::peer::{self, Peer};

/// Connections at once on one socket: an agent has two, a person's CLI one.
const MAX_CONNECTIONS: usize = 16;
/// Requests of one connection per second, on average; the burst is twice that.
const REQUESTS_PER_SECOND: u32 = 200;
/// A peer that stops reading is cut off, so that it can't hold a thread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a socket does with its requests.
pub(crate) trait Service: Send + Sync + 'static {
    /// What peers say.
    type Request: DeserializeOwned;
    /// What they hear.
    type Answer: Serialize;

    /// Whether this peer may speak at all.
    fn admits(&self, peer: Peer) -> bool;
    /// The answer, and whether the connection is to be handed to [`Service::follow`] afterwards.
    fn answer(&self, peer: Peer, request: Self::Request) -> (Self::Answer, bool);
    /// Sends events until the peer goes away.
    fn follow(&self, stream: &mut UnixStream);
    /// The fencing epoch that goes into every frame.
    fn epoch(&self) -> u64;
}

/// Accepts for as long as the process lives.
pub(crate) fn serve<S: Service>(listener: UnixListener, service: Arc<S>, name: &'static str) -> io::Result<()> {
    let open = Arc::new(AtomicUsize::new(0));
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            if open.fetch_add(1, Ordering::SeqCst) >= MAX_CONNECTIONS {
                open.fetch_sub(1, Ordering::SeqCst);
                tracing::warn!(socket = name, "too many connections: one was closed");
                continue;
            }
            let (service, open) = (Arc::clone(&service), Arc::clone(&open));
            let taken = Arc::clone(&open);
            let spawned = std::thread::Builder::new().name(format!("{name}-conn")).spawn(move || {
                if let Err(error) = converse(stream, &*service) {
                    tracing::debug!(socket = name, %error, "connection ended");
                }
                open.fetch_sub(1, Ordering::SeqCst);
            });
            if spawned.is_err() {
                taken.fetch_sub(1, Ordering::SeqCst);
            }
        }
    })?;
    Ok(())
}

fn converse<S: Service>(mut stream: UnixStream, service: &S) -> Result<(), FrameError> {
    let peer = peer::of(&stream).map_err(FrameError::Io)?;
    if !service.admits(peer) {
        tracing::warn!(uid = peer.uid, "a connection of another user was refused");
        return Ok(());
    }
    stream.set_write_timeout(Some(WRITE_TIMEOUT)).map_err(FrameError::Io)?;
    let mut pace = Pace::new(Instant::now());
    loop {
        let Frame { id, message, .. } = match frame::read::<S::Request>(&mut stream) {
            Ok(frame) => frame,
            Err(FrameError::Closed) => return Ok(()),
            Err(error) => return Err(error),
        };
        if let Some(wait) = pace.take(Instant::now()) {
            // Back-pressure instead of loss: the peer's own socket buffer fills up.
            std::thread::sleep(wait);
        }
        let (answer, follow) = service.answer(peer, message);
        frame::write(&mut stream, &Frame { epoch: service.epoch(), id, message: &answer })?;
        if follow {
            service.follow(&mut stream);
            return Ok(());
        }
    }
}

/// A token bucket.
#[derive(Debug)]
struct Pace {
    tokens: f64,
    at: Instant,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { tokens: f64::from(REQUESTS_PER_SECOND) * 2.0, at: now }
    }

    /// Takes one token; how long to wait where there is none.
    fn take(&mut self, now: Instant) -> Option<Duration> {
        let rate = f64::from(REQUESTS_PER_SECOND);
        self.tokens = (self.tokens + now.duration_since(self.at).as_secs_f64() * rate).min(rate * 2.0) - 1.0;
        self.at = now;
        (self.tokens < 0.0).then(|| Duration::from_secs_f64(-self.tokens / rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RN01.
    #[test]
    fn a_burst_passes_and_a_flood_waits() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert!((0..REQUESTS_PER_SECOND * 2).all(|_| pace.take(start).is_none()));
        assert!(pace.take(start).is_some());
        assert!(pace.take(start + Duration::from_secs(1)).is_none());
    }

    struct Echo {
        uid: u32,
    }

    impl Service for Echo {
        type Request = String;
        type Answer = String;
        fn admits(&self, peer: Peer) -> bool {
            peer.uid == self.uid
        }
        fn answer(&self, _: Peer, request: String) -> (String, bool) {
            (request, false)
        }
        fn follow(&self, _: &mut UnixStream) {}
        fn epoch(&self) -> u64 {
            7
        }
    }

    fn connect(uid: u32) -> (tempfile::TempDir, UnixStream) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        serve(UnixListener::bind(&path).unwrap(), Arc::new(Echo { uid }), "echo").unwrap();
        (dir, UnixStream::connect(path).unwrap())
    }

    // RN09.
    #[test]
    fn our_user_is_answered_with_the_epoch_and_another_is_not() {
        let me = rustix::process::geteuid().as_raw();
        let (_dir, mut stream) = connect(me);
        frame::write(&mut stream, &Frame { epoch: 0, id: 3, message: "hello" }).unwrap();
        let answer = frame::read::<String>(&mut stream).unwrap();
        assert_eq!((answer.epoch, answer.id, answer.message.as_str()), (7, 3, "hello"));

        let (_dir, mut stream) = connect(me + 1);
        drop(frame::write(&mut stream, &Frame { epoch: 0, id: 3, message: "hello" }));
        assert!(frame::read::<String>(&mut stream).is_err());
    }

    // RN01.
    #[test]
    fn a_frame_that_is_no_request_ends_the_connection_and_not_the_service() {
        let me = rustix::process::geteuid().as_raw();
        let (dir, mut stream) = connect(me);
        io::Write::write_all(&mut stream, &[0xff; 64]).unwrap();
        assert!(frame::read::<String>(&mut stream).is_err());
        let mut again = UnixStream::connect(dir.path().join("s")).unwrap();
        frame::write(&mut again, &Frame { epoch: 0, id: 1, message: "still here" }).unwrap();
        assert_eq!(frame::read::<String>(&mut again).unwrap().message, "still here");
    }
}
