//! What a service writes: one pipe into two files of capped size. A full disk loses lines, never the service.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};

/// Read in one turn of the loop: a service that writes without end may not keep the launcher from its other work.
const TURN: usize = 64 << 10;
/// Looked at for a tail.
const TAIL_BYTES: u64 = 128 << 10;
/// The protocol's limit.
pub(crate) const MAX_LINES: usize = 200;
/// Of one line, in characters.
const MAX_LINE: usize = 2048;

/// The output of one service over all its starts.
#[derive(Debug)]
pub(crate) struct Output {
    path: PathBuf,
    cap: u64,
    pipe: Option<OwnedFd>,
    /// Opened with the first byte.
    file: Option<(File, u64)>,
}

impl Output {
    pub(crate) fn new(dir: &Path, name: &str, cap: u64) -> Self {
        Self { path: dir.join(format!("{name}.log")), cap, pipe: None, file: None }
    }

    /// A new pipe for a new start; the writing end is the child's.
    pub(crate) fn open_pipe(&mut self) -> io::Result<OwnedFd> {
        // What the last start wrote before it ended is the evidence; a pipe holds no more than a turn or two.
        for _ in 0..4 {
            self.drain();
        }
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        // Only our end: a service does not expect its standard output to be non-blocking.
        rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK)?;
        self.pipe = Some(reader);
        Ok(writer)
    }

    /// The end to poll.
    pub(crate) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Takes what is there, at most one turn's worth.
    pub(crate) fn drain(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        let mut buffer = vec![0; TURN];
        match rustix::io::read(pipe, buffer.as_mut_slice()) {
            Ok(0) => self.pipe = None,
            Ok(length) => {
                if let Err(error) = self.write(buffer.get(..length).unwrap_or_default()) {
                    // Not a reason to block the service; the next turn tries again.
                    tracing::debug!(path = %self.path.display(), %error, "output was lost");
                    self.file = None;
                }
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => self.pipe = None,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.file.as_ref().is_some_and(|(_, length)| *length >= self.cap) {
            self.file = None;
            fs::rename(&self.path, self.older())?;
        }
        let (file, length) = match &mut self.file {
            Some(open) => open,
            None => {
                let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
                let length = file.metadata()?.len();
                self.file.insert((file, length))
            }
        };
        *length += bytes.len() as u64;
        file.write_all(bytes)
    }

    fn older(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".1");
        PathBuf::from(path)
    }

    /// The last lines, oldest first. Bytes that are no UTF-8 are replaced; a line is cut at 2048 characters.
    pub(crate) fn tail(&mut self, lines: usize) -> io::Result<Vec<String>> {
        self.drain();
        let mut text = last_bytes(&self.path)?;
        if (text.len() as u64) < TAIL_BYTES {
            let mut older = last_bytes(&self.older())?;
            older.append(&mut text);
            text = older;
        }
        let text = String::from_utf8_lossy(&text);
        let mut tail: Vec<String> = text.lines().rev().take(lines.min(MAX_LINES)).map(cut).collect();
        tail.reverse();
        Ok(tail)
    }
}

fn cut(line: &str) -> String {
    line.chars().take(MAX_LINE).collect()
}

/// From the first whole line on, unless the file is that short.
fn last_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    if length > TAIL_BYTES
        && let Some(newline) = bytes.iter().position(|byte| *byte == b'\n')
    {
        bytes.drain(..=newline);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(output: &mut Output, bytes: &[u8]) {
        let writer = output.open_pipe().unwrap();
        for chunk in bytes.chunks(4096) {
            rustix::io::write(&writer, chunk).unwrap();
            output.drain();
        }
    }

    #[test]
    fn output_never_takes_more_than_twice_its_cap_and_a_turn() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = Output::new(dir.path(), "web", 8 << 10);
        written(&mut output, &b"0123456789abcde\n".repeat(10_000));
        let bytes: u64 = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes <= 2 * (8 << 10) + TURN as u64, "{bytes}");
        assert_eq!(output.tail(MAX_LINES).unwrap().len(), MAX_LINES);
    }

    #[test]
    fn a_tail_reaches_back_over_a_rotation_and_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = Output::new(dir.path(), "web", 4 << 10);
        let lines: String = (0..300).map(|n| format!("line {n} {}\n", "x".repeat(20))).collect();
        written(&mut output, lines.as_bytes());
        let tail = output.tail(100).unwrap();
        assert_eq!(tail.len(), 100);
        assert!(tail[0].starts_with("line 200 ") && tail[99].starts_with("line 299 "), "{tail:?}");
        written(&mut output, &[b"\xff\xfe".as_slice(), &b"y".repeat(5000), b"\n"].concat());
        assert_eq!(output.tail(1).unwrap()[0].chars().count(), MAX_LINE);
    }

    #[test]
    fn the_last_words_of_a_crash_are_kept_over_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = Output::new(dir.path(), "web", 4 << 10);
        let writer = output.open_pipe().unwrap();
        rustix::io::write(&writer, b"out of memory\n").unwrap();
        output.open_pipe().unwrap();
        assert_eq!(output.tail(1).unwrap(), ["out of memory"]);
    }

    #[test]
    fn a_service_without_output_has_an_empty_tail() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Output::new(dir.path(), "web", 4096).tail(10).unwrap(), Vec::<String>::new());
    }
}
