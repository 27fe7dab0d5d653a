//! `theriac key`: signers' and operators' keys.
//!
//! A passphrase comes from a file or a terminal, never from the command line, where every process of the machine can see it.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use theriac_authority::key::{Passphrase, Signer, VerifierKey};
use theriac_model::id::KeyName;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, OrFail as _};

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a key and seal it with a passphrase
    New(New),
    /// Print the public half of a key
    Show(KeyFile),
}

/// Where a key lies and how it is opened.
#[derive(Debug, Args)]
pub struct KeyFile {
    /// The key's file
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The file with its passphrase; without it, the terminal is asked
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// A new key.
#[derive(Debug, Args)]
pub struct New {
    #[command(flatten)]
    file: KeyFile,
    /// Its name, such as `ops.example.com/alice`
    #[arg(long, value_name = "NAME", value_parser = KeyName::parse)]
    name: KeyName,
}

/// A key as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    public: String,
    file: PathBuf,
}

impl Command {
    /// Runs it.
    pub fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::New(new) => new.run(context),
            Self::Show(file) => {
                let signer = file.open(context)?;
                context.show(&Shown::of(signer.public(), &file.key), |shown| format!("{}\n", shown.public))
            }
        }
    }
}

impl New {
    fn run(self, context: &Context) -> Result<Exit, Failure> {
        // Before a passphrase is asked for: nobody should type one in vain.
        if self.file.key.exists() {
            let sentence = format!("`{}` is there already", self.file.key.display());
            return Err(Failure::failed(sentence).hint("name a new file: a key is never overwritten"));
        }
        let passphrase = self.file.passphrase(context, "Passphrase for the new key", true)?;
        let signer = Signer::generate(self.name).or_fail()?;
        signer.write_sealed(&self.file.key, &passphrase).or_fail()?;
        context.show(&Shown::of(signer.public(), &self.file.key), Shown::with_trust)
    }
}

impl KeyFile {
    /// Opens the key, asking for its passphrase where no file has it.
    pub(crate) fn open(&self, context: &Context) -> Result<Signer, Failure> {
        if !self.key.exists() {
            let sentence = format!("there is no key `{}`", self.key.display());
            return Err(Failure::failed(sentence).hint("make one with `theriac key new`"));
        }
        let passphrase = self.passphrase(context, &format!("Passphrase of {}", self.key.display()), false)?;
        Signer::read_sealed(&self.key, &passphrase).or_fail()
    }

    fn passphrase(&self, context: &Context, prompt: &str, twice: bool) -> Result<Passphrase, Failure> {
        let text = context.passphrase(self.passphrase_file.as_deref(), prompt, twice)?;
        Passphrase::new(text).or_usage()
    }
}

impl Shown {
    fn of(key: &VerifierKey, file: &Path) -> Self {
        Self { name: key.name().to_string(), public: key.to_string(), file: file.to_owned() }
    }

    /// The public key, and what makes it count.
    fn with_trust(&self) -> String {
        format!(
            "{public}\n\nThe private key is in {file}, sealed with the passphrase.\n\
             To let it approve remedies, add this to trust.toml, with the classes it may approve:\n\n\
             [[signer]]\nname     = \"{name}\"\nkey      = \"{public}\"\nremedies = [\"*\"]\n\
             classes  = [\"observe\", \"files-read\", \"units-observe\", \"processes-observe\"]\n\n\
             To let it consent to plans, add it to the operators:\n\n[operators]\nkeys = [\"{public}\"]\n",
            public = self.public,
            name = self.name,
            file = self.file.display(),
        )
    }
}

#[cfg(test)]
mod tests {
    use theriac_authority::trust::TrustStore;

    use super::*;

    #[test]
    fn what_is_printed_for_the_trust_store_is_taken_by_it() {
        let signer = Signer::generate(KeyName::parse("ops.example.com/alice").unwrap()).unwrap();
        let text = Shown::of(signer.public(), Path::new("alice.key")).with_trust();
        let toml: String = text.split_once("[[signer]]").map(|(_, rest)| format!("[[signer]]{rest}")).unwrap();
        let toml: String =
            toml.lines().filter(|line| !line.starts_with("To let")).map(|line| format!("{line}\n")).collect();
        let store = TrustStore::parse(&toml).unwrap();
        assert_eq!(store.operators().map(ToString::to_string).collect::<Vec<_>>(), [signer.public().to_string()]);
    }
}
