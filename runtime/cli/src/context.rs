//! What every command is given: the two directories, the form of the output, and the person at the terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use serde::Serialize;
use theriac_protocol::layout::Layout;

use crate::exit::Exit;
use crate::failure::{Failure, OrFail as _};

/// The longest passphrase file: one line.
const MAX_PASSPHRASE: u64 = 4096;

/// What every command is given.
#[derive(Debug, Clone)]
pub struct Context {
    /// Where configuration and state are.
    pub layout: Layout,
    /// The output is read by a program.
    pub json: bool,
}

impl Context {
    /// Writes text for people (or a document that was asked for) to stdout. Text from outside must have been escaped.
    pub fn print(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // `theriac incidents | head` is not an error.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.or_fail_at("writing to stdout"),
        }
    }

    /// Prints the value as JSON, or what `human` makes of it.
    pub fn show<T: Serialize>(&self, value: &T, human: impl FnOnce(&T) -> String) -> Result<Exit, Failure> {
        let text = if self.json { to_json(value)? } else { human(value) };
        self.print(&text)?;
        Ok(Exit::Ok)
    }

    /// Asks a question that is answered by `yes`; `assumed` is `--yes`. Without a terminal nobody can be asked.
    pub fn confirm(&self, question: &str, assumed: bool) -> Result<(), Failure> {
        if assumed {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::usage(format!("`{question}` can't be asked without a terminal")).hint("add --yes"));
        }
        let mut err = io::stderr().lock();
        write!(err, "{question} Type `yes`: ").and_then(|()| err.flush()).or_fail_at("asking")?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).or_fail_at("reading the answer")?;
        if answer.trim() == "yes" { Ok(()) } else { Err(Failure::refused("not confirmed, so nothing was done")) }
    }

    /// A passphrase from the file, or from the terminal; `twice` where a typing error would lock the key for good.
    pub fn passphrase(&self, file: Option<&Path>, prompt: &str, twice: bool) -> Result<String, Failure> {
        if let Some(path) = file {
            let text = theriac_trusted::read(path, MAX_PASSPHRASE).or_fail()?;
            return not_empty(text.trim_end_matches(['\r', '\n']).to_owned());
        }
        if !io::stdin().is_terminal() {
            return Err(
                Failure::usage("a passphrase can't be asked for without a terminal").hint("use --passphrase-file")
            );
        }
        let ask = |prompt: &str| rpassword::prompt_password(format!("{prompt}: ")).or_fail_at("reading the passphrase");
        let first = ask(prompt)?;
        if twice && ask("The same again")? != first {
            return Err(Failure::usage("the two passphrases differ"));
        }
        not_empty(first)
    }
}

fn not_empty(passphrase: String) -> Result<String, Failure> {
    if passphrase.is_empty() { Err(Failure::usage("the passphrase is empty")) } else { Ok(passphrase) }
}

/// Indented JSON with a newline at the end.
pub fn to_json<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").or_fail_at("writing JSON")
}
