//! Answers as both kinds of server give them: rows of text. What does not read as it should is a fault of the server's.

use theriac_model::database::{Protected, Session, SessionId, SessionState, is_backup};

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection is of no use any more; what was under way may have happened.
    Lost(String),
    /// The server said no, and did nothing.
    Refused(String),
    /// It can't be done there.
    Unavailable(String),
    /// It lets nobody in who is not in already, or not the courier's user: PostgreSQL has one code for both.
    Full(String),
    /// It is another one by now.
    Stale(String),
    /// It was begun, and its end is not known.
    Unknown(String),
}

impl Fault {
    /// The server does not keep to its protocol, or to what was asked.
    pub(super) fn nonsense() -> Self {
        Self::Lost("the server's answer makes no sense".to_owned())
    }

    /// The same fault after something was changed.
    pub(super) fn after_a_change(self) -> Self {
        match self {
            Self::Lost(reason) => Self::Unknown(reason),
            other @ (Self::Refused(_) | Self::Unavailable(_) | Self::Full(_) | Self::Stale(_) | Self::Unknown(_)) => {
                other
            }
        }
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row(pub(super) Vec<Option<String>>);

impl Row {
    /// The text of a column; none where it is null.
    pub(super) fn text(&self, column: usize) -> Result<Option<&str>, Fault> {
        self.0.get(column).map(Option::as_deref).ok_or_else(Fault::nonsense)
    }

    /// A column that is a number.
    pub(super) fn number<T: std::str::FromStr>(&self, column: usize) -> Result<T, Fault> {
        self.text(column)?.and_then(|text| text.parse().ok()).ok_or_else(Fault::nonsense)
    }
}

/// The only row there may be.
pub(super) fn one(rows: Vec<Row>) -> Result<Row, Fault> {
    rows.into_iter().next().ok_or_else(Fault::nonsense)
}

/// Longest name of an application that is kept.
const MAX_NAME: usize = 80;

/// A session as it is told of: a name that can't break a line, and a backup is a backup.
pub(super) fn session(
    id: SessionId,
    state: SessionState,
    application: &str,
    for_s: u64,
    protected: Option<Protected>,
) -> Session {
    let shown = |c: char| if c.is_control() { '?' } else { c };
    let application: String = application.chars().take(MAX_NAME).map(shown).collect();
    let protected = protected.or_else(|| is_backup(&application).then_some(Protected::Backup));
    Session { id, state, application, for_s, protected }
}

/// Text as hexadecimal digits, which no quoting can go wrong with.
pub(super) fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
