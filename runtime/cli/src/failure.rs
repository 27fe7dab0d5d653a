//! Why a command ended without success: one sentence, what to do next, and the exit code.

use std::error::Error;
use std::fmt;

use crate::exit::Exit;

/// One sentence (a lower-case fragment that holds the whole chain of causes), a hint, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    exit: Exit,
    sentence: String,
    hint: Option<String>,
}

impl Failure {
    /// The system, a file or a process failed.
    pub fn failed(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Failed, sentence)
    }

    /// The command line is wrong.
    pub fn usage(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Usage, sentence)
    }

    /// A rule or a person said no.
    pub fn refused(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Refused, sentence)
    }

    /// Nobody answers.
    pub fn not_running(sentence: impl Into<String>) -> Self {
        Self::new(Exit::NotRunning, sentence)
    }

    /// Verified and found wrong.
    pub fn not_verified(sentence: impl Into<String>) -> Self {
        Self::new(Exit::NotVerified, sentence)
    }

    fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Self { exit, sentence: sentence.into(), hint: None }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The exit code.
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// The hint.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl Error for Failure {}

/// An error with all its causes, in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Turns an operation's error into the sentence of a [`Failure`].
pub trait OrFail<T> {
    /// It failed.
    fn or_fail(self) -> Result<T, Failure>;
    /// It failed while doing this.
    fn or_fail_at(self, doing: impl fmt::Display) -> Result<T, Failure>;
    /// It was refused.
    fn or_refuse(self) -> Result<T, Failure>;
    /// The arguments are wrong.
    fn or_usage(self) -> Result<T, Failure>;
}

impl<T, E: Error> OrFail<T> for Result<T, E> {
    fn or_fail(self) -> Result<T, Failure> {
        self.map_err(|error| Failure::failed(chain(&error)))
    }

    fn or_fail_at(self, doing: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::failed(format!("{doing}: {}", chain(&error))))
    }

    fn or_refuse(self) -> Result<T, Failure> {
        self.map_err(|error| Failure::refused(chain(&error)))
    }

    fn or_usage(self) -> Result<T, Failure> {
        self.map_err(|error| Failure::usage(chain(&error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_holds_every_cause_once() {
        let inner = std::io::Error::other("no space left");
        let outer: Result<(), _> = Err(std::io::Error::other(inner));
        let failure = outer.or_fail_at("writing `x`").unwrap_err().hint("make room");
        assert!(failure.to_string().starts_with("writing `x`: no space left"));
        assert_eq!((failure.exit(), failure.advice()), (Exit::Failed, Some("make room")));
    }
}
