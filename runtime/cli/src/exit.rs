//! Exit codes: a script that calls `theriac` decides by these, so they are documented and never change their meaning.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// Done; what was asked for is so.
    Ok,
    /// It failed: a file, a process, the system.
    Failed,
    /// The command line is wrong, or a question could not be asked because there is no terminal.
    Usage,
    /// A rule, a signature or a person said no; or a new version of a remedy asks for more.
    Refused,
    /// The process that would answer is not running, or does not let this user in.
    NotRunning,
    /// What was to be verified is not as it should be.
    NotVerified,
}

impl Exit {
    /// Every code, in order.
    pub const ALL: [Self; 6] =
        [Self::Ok, Self::Failed, Self::Usage, Self::Refused, Self::NotRunning, Self::NotVerified];

    /// The number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::NotRunning => 4,
            Self::NotVerified => 5,
        }
    }

    /// What it means, for `theriac help exit-codes`.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "done",
            Self::Failed => "failed: a file, a process or the system; the sentence on stderr says which",
            Self::Usage => "wrong arguments, or a question that needs a terminal or --yes",
            Self::Refused => {
                "refused by a rule, a signature, the trust store or a person; of `remedy diff`: its rights grew"
            }
            Self::NotRunning => "the runner or the agent is not running, or does not let this user in",
            Self::NotVerified => "verified and found wrong: the ledger, a remedy, a scenario, the machine",
        }
    }

    /// The table of all codes.
    pub fn table() -> String {
        let line = |exit: &Self| format!("  {}  {}\n", exit.code(), exit.meaning());
        std::iter::once("Exit codes:\n".to_owned()).chain(Self::ALL.iter().map(line)).collect()
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_those_of_the_shell_are_left_alone() {
        let mut codes = Exit::ALL.map(Exit::code).to_vec();
        codes.dedup();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5]);
    }
}
