//! The thread that keeps time: it moves the engine's epoch, so that guest code looks at its deadline, and it ends the process
//! when the deadline passed and nothing looked (host code, a bulk instruction, a compilation, a silent runner).
//!
//! The runner's own deadline, a kill through the pidfd, is independent of all this.

use std::process;
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use theriac_protocol::worker::EndReason;
use wasmtime::Engine;

use crate::limits::{GRACE, TICK};
use crate::port::Port;

/// How the process ends when the clock ends it.
pub const EXIT_DEADLINE: i32 = 75;

/// The running clock. Start it before the walls: behind them no thread can be made.
#[derive(Debug, Clone)]
pub struct Clock {
    alarm: Arc<Mutex<Option<Alarm>>>,
}

#[derive(Debug, Clone)]
struct Alarm {
    at: Instant,
    sentence: String,
}

impl Clock {
    /// Starts the thread, and returns when it runs: a thread on its way makes system calls that the walls don't let through.
    pub fn start(engine: Engine, port: Port) -> std::io::Result<Self> {
        let clock = Self { alarm: Arc::new(Mutex::new(None)) };
        let alarm = Arc::clone(&clock.alarm);
        let running = Arc::new(Barrier::new(2));
        let here = Arc::clone(&running);
        thread::Builder::new().name("clock".to_owned()).stack_size(256 << 10).spawn(move || {
            here.wait();
            loop {
                thread::sleep(TICK);
                engine.increment_epoch();
                let due = alarm.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if let Some(alarm) = due.filter(|alarm| Instant::now() >= alarm.at + GRACE) {
                    port.last_words(EndReason::Time, &alarm.sentence);
                    process::exit(EXIT_DEADLINE);
                }
            }
        })?;
        running.wait();
        Ok(clock)
    }

    /// Ends the process with this sentence some time after the deadline, unless disarmed.
    pub fn arm(&self, at: Instant, sentence: String) {
        *self.alarm.lock().unwrap_or_else(PoisonError::into_inner) = Some(Alarm { at, sentence });
    }

    /// Takes the deadline back.
    pub fn disarm(&self) {
        *self.alarm.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
