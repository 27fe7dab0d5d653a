//! The children's lines, each with its process' name in front, on stderr; and the last few of each, for when it dies.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::failure::{Failure, OrFail as _};
use crate::text::outside;

/// A longer line is cut into pieces.
const MAX_LINE: u64 = 8 << 10;
/// Lines kept of each process.
const KEPT: usize = 10;
/// Readers see the end of a dead process' output at once, unless a child of its own holds the pipe.
const SETTLE: Duration = Duration::from_millis(500);

/// Where all lines go.
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    // One writer at a time, so that lines stay whole.
    out: Arc<Mutex<()>>,
}

impl Log {
    /// A line of our own.
    pub(super) fn say(&self, text: &str) {
        self.write("up", text);
    }

    fn write(&self, name: &str, text: &str) {
        let _whole = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody reads any more: the processes go on.
        writeln!(std::io::stderr(), "{name:<8} | {text}").ok();
    }

    /// Relays one stream on a thread of its own, until it ends.
    pub(super) fn relay(
        &self,
        name: &'static str,
        from: impl Read + Send + 'static,
        last: LastLines,
    ) -> Result<(), Failure> {
        let log = self.clone();
        last.opened();
        let relay = move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while matches!(from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line), Ok(count) if count > 0) {
                let text = outside_long(String::from_utf8_lossy(&line).trim_end());
                log.write(name, &text);
                last.keep(text);
                line.clear();
            }
            last.closed();
        };
        std::thread::Builder::new().name(format!("{name}-log")).spawn(relay).or_fail_at("starting a thread")?;
        Ok(())
    }
}

/// Escaped like all foreign text, and not shortened: a log line may be long.
fn outside_long(text: &str) -> String {
    let pieces: Vec<char> = text.chars().collect();
    pieces.chunks(256).map(|piece| outside(&piece.iter().collect::<String>())).collect()
}

/// The last lines of one process.
#[derive(Debug, Clone, Default)]
pub(super) struct LastLines {
    inner: Arc<(Mutex<Kept>, Condvar)>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<String>,
    open: usize,
}

impl LastLines {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.inner.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self) {
        self.lock().open += 1;
    }

    fn closed(&self) {
        self.lock().open -= 1;
        self.inner.1.notify_all();
    }

    fn keep(&self, line: String) {
        let mut kept = self.lock();
        if kept.lines.len() >= KEPT {
            kept.lines.pop_front();
        }
        kept.lines.push_back(line);
    }

    /// The lines, once the readers have seen the end.
    pub(super) fn settled(&self) -> Vec<String> {
        let kept = self.lock();
        let waited = self.inner.1.wait_timeout_while(kept, SETTLE, |kept| kept.open > 0);
        let (kept, _timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        kept.lines.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_there_whole_and_harmless_when_the_stream_has_ended() {
        let (log, last) = (Log::default(), LastLines::default());
        let lines: String = (0..20).map(|n| format!("line {n}\u{1b}[1m\n")).collect();
        log.relay("runner", std::io::Cursor::new(lines), last.clone()).unwrap();
        let settled = last.settled();
        assert_eq!(settled.len(), KEPT);
        assert_eq!(settled.last().unwrap(), "line 19\\u{1b}[1m");
    }
}
