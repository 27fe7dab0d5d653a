//! `theriac audit`: is the ledger what was signed, and what is in it.

use std::fmt::Write as _;

use clap::Subcommand;
use serde::Serialize;
use theriac_authority::key::HostKey;
use theriac_journal::ledger::VerifierKey;
use theriac_journal::ledger::audit::{self, LIMITS, Options, Report};
use theriac_model::record::Entry;
use theriac_protocol::operator::{OperatorAnswer, OperatorRequest};

use crate::client;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, OrFail as _, chain};
use crate::record;
use crate::text::outside;

/// What can be done with the ledger.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check every record against its checksum and the signed checkpoints. Works beside a running daemon and without one.
    Verify {
        /// The host's public key as kept elsewhere (`name+hash+base64`); the one in the state directory unless given.
        #[arg(long, value_name = "VKEY")]
        key: Option<VerifierKeyText>,
    },
    /// Print the host's public key, to be kept on another machine.
    Key,
    /// Print records in sentences. Works beside a running daemon and without one; who may not read the journal asks the runner.
    Show {
        /// The first record.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// At most so many.
        #[arg(long, default_value_t = 256)]
        limit: usize,
    },
}

/// A verifier key from the command line.
#[derive(Debug, Clone)]
pub struct VerifierKeyText(VerifierKey);

impl std::str::FromStr for VerifierKeyText {
    type Err = theriac_journal::ledger::checkpoint::VerifierKeyError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        VerifierKey::parse(text).map(Self)
    }
}

impl Command {
    /// Runs it.
    pub fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Verify { key } => {
                let key = key.map_or_else(|| host_key(context), |key| Ok(key.0))?;
                verify(context, &key)
            }
            Self::Key => context.show(&serde_json::json!({ "key": host_key(context)?.to_string() }), |value| {
                format!("{}\n", value.get("key").and_then(serde_json::Value::as_str).unwrap_or_default())
            }),
            Self::Show { from, limit } => show(context, from, limit),
        }
    }
}

/// The public half of the host's own key.
fn host_key(context: &Context) -> Result<VerifierKey, Failure> {
    let path = context.layout.runner().join("keys/ledger.key");
    let key = HostKey::open(&path).map_err(|error| {
        Failure::failed(format!("the host's key can't be read: {}", chain(&error)))
            .hint("ask as the runner's user, or give the public key with --key")
    })?;
    let public = key.signer().public();
    VerifierKey::new(public.name().clone(), public.point()).or_fail()
}

/// What `theriac audit verify --json` prints.
#[derive(Debug, Serialize)]
struct Verified {
    ok: bool,
    /// Records read, up to the first bad one.
    records: u64,
    /// Of these: covered by a signed checkpoint that agrees.
    checkpointed: u64,
    checkpoints: usize,
    root: String,
    first_bad: Option<String>,
    /// What no audit on this host alone can find.
    limits: [&'static str; 3],
}

fn verify(context: &Context, key: &VerifierKey) -> Result<Exit, Failure> {
    let (journal, ledger) = (context.layout.runner().join("journal"), context.layout.runner().join("ledger"));
    if !journal.is_dir() {
        return Err(Failure::failed(format!("there is no journal in `{}`", journal.display()))
            .hint("name its --state directory"));
    }
    let report: Report = audit::verify(&journal, &ledger, key, Options::default());
    let first_bad = report.finding.as_ref().map(|finding| chain(finding));
    let verified = Verified {
        ok: first_bad.is_none(),
        records: report.records,
        checkpointed: report.sealed,
        checkpoints: report.checkpoints,
        root: report.root.to_string(),
        first_bad,
        limits: LIMITS,
    };
    context.show(&verified, describe)?;
    Ok(if verified.ok { Exit::Ok } else { Exit::NotVerified })
}

fn describe(verified: &Verified) -> String {
    let mut text = match &verified.first_bad {
        None => format!(
            "verified: {} records, {} of them under {} signed checkpoints\n",
            verified.records, verified.checkpointed, verified.checkpoints
        ),
        Some(bad) => format!("NOT AS SIGNED after {} good records: {}\n", verified.records, outside(bad)),
    };
    let _infallible = write!(text, "root {}\nwhat this can't show:\n", verified.root);
    for limit in verified.limits {
        let _infallible = writeln!(text, "  {limit}");
    }
    text
}

fn show(context: &Context, from: u64, limit: usize) -> Result<Exit, Failure> {
    let journal = context.layout.runner().join("journal");
    let (entries, finding) =
        if journal.is_dir() { audit::entries(&journal, from, limit) } else { (ask(context, from, limit)?, None) };
    let exit = context.show(&entries, |entries| {
        entries.iter().map(|entry| format!("{:>6}  {}", entry.seq, record::line(entry))).collect()
    })?;
    match finding {
        None => Ok(exit),
        Some(bad) => Err(Failure::failed(format!("nothing after this can be read: {}", outside(&chain(&bad))))
            .hint("`theriac audit verify` says how far the ledger is what was signed")),
    }
}

/// The same from the running runner.
fn ask(context: &Context, from: u64, limit: usize) -> Result<Vec<Entry>, Failure> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut next = from;
    while entries.len() < limit {
        let OperatorAnswer::Entries { entries: page, more } =
            client::operator(&context.layout, &OperatorRequest::Entries { from: next })?
        else {
            return Err(client::unexpected("runner"));
        };
        let Some(last) = page.last() else { break };
        next = last.seq + 1;
        entries.extend(page);
        if !more {
            break;
        }
    }
    entries.truncate(limit);
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_ledger_is_said_in_the_first_words() {
        let mut verified = Verified {
            ok: true,
            records: 7,
            checkpointed: 6,
            checkpoints: 2,
            root: "sha256:00".into(),
            first_bad: None,
            limits: LIMITS,
        };
        assert!(describe(&verified).starts_with("verified: 7 records, 6 of them under 2 signed checkpoints\n"));
        (verified.ok, verified.first_bad) = (false, Some("record 7\u{1b}".into()));
        assert!(describe(&verified).starts_with("NOT AS SIGNED after 7 good records: record 7\\u{1b}\n"));
    }
}
