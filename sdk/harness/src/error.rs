//! Why a scenario could not be played at all. A remedy that does something else than expected is no error but a result.

use std::error::Error;
use std::io;

/// Why a scenario could not be played.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// This machine can't make what it asks for.
    #[error("not possible here: {reason}")]
    NotPossible { reason: String },
    /// The scenario's file is wrong.
    #[error("{problem}")]
    Scenario { problem: String },
    /// The filesystem or the kernel said no.
    #[error("{doing}")]
    Io {
        doing: String,
        #[source]
        source: io::Error,
    },
    /// A part of Theriac said no: its whole sentence.
    #[error("{doing}: {why}")]
    Part { doing: &'static str, why: String },
}

impl ScenarioError {
    /// For `map_err` of an I/O error.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing: doing.into(), source }
    }

    /// For `map_err` of any part's error.
    pub(crate) fn part<E: Error>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Part { doing, why: chain(&error) }
    }
}

/// An error with all its causes, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        sentence = format!("{sentence}: {error}");
        cause = error.source();
    }
    sentence
}
