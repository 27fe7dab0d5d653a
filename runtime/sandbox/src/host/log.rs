//! `log`: lines for the run's record, within a budget.

use theriac_model::call::{Call, Reply};
use theriac_model::fault::Severity;

use super::{State, ask, cut};
use crate::bindings::log;
use crate::ending::Stop;
use crate::limits::PANIC_CHARS;

impl State {
    pub(super) fn line(&mut self, severity: Severity, mut text: String) -> wasmtime::Result<()> {
        let allowed = self.limits.log_bytes;
        let left = usize::try_from(allowed.saturating_sub(self.log_bytes)).unwrap_or(usize::MAX);
        let over = text.len() > left;
        if over {
            let end = (0..=left).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            text.truncate(end);
            text.push_str("… (cut: the log is full)");
        }
        self.log_bytes = self.log_bytes.saturating_add(u32::try_from(text.len()).unwrap_or(u32::MAX));
        // A refused line is no fault of the remedy's; it has no way to be told.
        let _denied = ask!(self, Call::Log { severity, text }, Reply::Done => ())?;
        if over { Err(Stop::Log { allowed }.into()) } else { Ok(()) }
    }
}

impl log::Host for State {
    fn info(&mut self, text: String) -> wasmtime::Result<()> {
        self.line(Severity::Info, text)
    }

    fn warn(&mut self, text: String) -> wasmtime::Result<()> {
        self.line(Severity::Warning, text)
    }

    fn panicked(&mut self, message: String, file: String, line: u32) -> wasmtime::Result<()> {
        let (message, file) = (cut(message, PANIC_CHARS), cut(file, 200));
        self.panic = Some(format!("panicked: {} at {}:{line}", message.escape_debug(), file.escape_debug()));
        let _denied = ask!(self, Call::Panicked { message, file, line }, Reply::Done => ())?;
        Ok(())
    }
}
