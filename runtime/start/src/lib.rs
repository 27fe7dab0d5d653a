//! How each of our long-lived processes starts: where its files are, whom it becomes, when it ends, and where its log goes.
//!
//! A crate of its own because what it needs (a parser of arguments, a subscriber of logs) has no place in `theriac-protocol`,
//! which every process links. What a process does with its arguments is its own business.

use std::io;
use std::path::PathBuf;

use clap::Args;
use theriac_protocol::layout::Layout;
use theriac_protocol::process::{Identity, die_with_parent, keep_heap_small};

/// What every process is told.
#[derive(Debug, Args)]
pub struct Place {
    /// Directory of the configuration.
    #[arg(long, default_value = "/etc/theriac")]
    config: PathBuf,
    /// Directory of the sockets and of everything that is kept.
    #[arg(long, default_value = "/var/lib/theriac")]
    state: PathBuf,
    /// End with the process that started this one.
    #[arg(long)]
    die_with_parent: bool,
}

/// What a process is told that gives up the user it was started as.
#[derive(Debug, Args)]
pub struct User {
    /// Become this user once configuration and sockets are open.
    #[arg(long, requires = "gid")]
    uid: Option<u32>,
    /// See --uid.
    #[arg(long, requires = "uid")]
    gid: Option<u32>,
}

impl Place {
    /// Asks the kernel for the death signal, then sends the log to standard error. Call it first of all.
    pub fn begin(self) -> io::Result<Layout> {
        keep_heap_small();
        if self.die_with_parent {
            die_with_parent()?;
        }
        tracing_subscriber::fmt()
            .with_writer(io::stderr)
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .with_target(false)
            .init();
        Ok(Layout { config: self.config, state: self.state })
    }
}

impl User {
    /// Whom to become; `None` is to stay.
    pub fn identity(&self) -> Option<Identity> {
        self.uid.zip(self.gid).map(|(uid, gid)| Identity { uid, gid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Arguments {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        user: User,
    }

    fn parse(words: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(["theriac-x"].iter().chain(words))
    }

    #[test]
    fn without_words_it_is_the_packaged_installation_and_stays_who_it_is() {
        let Arguments { place, user } = parse(&[]).unwrap();
        assert_eq!(Layout { config: place.config, state: place.state }, Layout::system());
        assert!(!place.die_with_parent && user.identity().is_none());
    }

    #[test]
    fn a_user_is_a_number_with_its_group_and_neither_goes_alone() {
        let user = parse(&["--uid", "7", "--gid", "8"]).unwrap().user;
        assert_eq!(user.identity(), Some(Identity { uid: 7, gid: 8 }));
        assert!(parse(&["--uid", "7"]).is_err() && parse(&["--gid", "8"]).is_err());
        assert!(parse(&["--uid", "nobody", "--gid", "8"]).is_err());
    }
}
