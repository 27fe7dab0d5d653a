//! `theriac init`: looks at the machine, writes a commented configuration that only observes, makes a local key, and approves
//! the shipped remedies after showing their rights. Nothing that is there already is overwritten.

mod certificates;
mod machine;
mod remedies;
mod write;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use theriac_authority::key::{Passphrase, Signer};
use theriac_model::id::KeyName;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, OrFail as _};
use machine::Machine;
use write::Writer;

/// `theriac init`.
#[derive(Debug, Args)]
pub struct Init {
    /// The directory of the shipped remedies; ../lib/theriac/remedies beside this program unless given.
    #[arg(long, value_name = "DIR")]
    remedies: Option<PathBuf>,
    /// Where the local key is, or is put; CONFIG/keys/local.key unless given.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Read the key's passphrase from this file.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Approve the shipped remedies without asking.
    #[arg(long)]
    yes: bool,
}

/// What `theriac init --json` prints.
#[derive(Debug, Default, Serialize)]
struct Done {
    /// Files that were written.
    wrote: Vec<PathBuf>,
    /// Files that were there and stay as they are.
    kept: Vec<PathBuf>,
    /// The local key's public half.
    key: String,
    /// Remedies that the local key approved now.
    approved: Vec<String>,
    /// What is left to a person.
    notes: Vec<String>,
}

impl Init {
    /// Does it.
    pub fn run(self, context: &Context) -> Result<Exit, Failure> {
        let config = &context.layout.config;
        let machine = Machine::look();
        let mut writer = Writer::new(config)?;
        writer.put("runner.toml", &machine.runner_toml())?;
        writer.put("agent.toml", include_str!("../../agent/src/agent.default.toml"))?;
        writer.put("launcher.toml", include_str!("../../launcher/src/launcher.toml"))?;
        if let Some(text) = machine.courier_databases_toml() {
            writer.put("courier-databases.toml", &text)?;
        }
        let signer = self.local_key(context)?;
        let own_store = writer.put("trust.toml", &write::trust_toml(signer.public()))?;
        let mut done = Done { key: signer.public().to_string(), notes: machine.notes(), ..Done::default() };
        if !own_store && !knows(&writer, &done.key) {
            done.notes.push("trust.toml was there: the local key counts only if it is listed in it".to_owned());
        }
        match remedies::shipped(self.remedies.as_deref())? {
            Some(shipped) if shipped.is_empty() => {
                done.notes.push("the directory of the shipped remedies is empty".to_owned())
            }
            Some(shipped) => done.approved = remedies::approve(context, &shipped, &signer, self.yes, &mut writer)?,
            None => done.notes.push("no shipped remedies were found: name their directory with --remedies".to_owned()),
        }
        (done.wrote, done.kept) = writer.into_files();
        context.show(&done, describe)
    }

    /// Opens the local key, or makes it.
    fn local_key(&self, context: &Context) -> Result<Signer, Failure> {
        let path = self.key.clone().unwrap_or_else(|| context.layout.config.join("keys/local.key"));
        let there = path.exists();
        let prompt = if there { "Passphrase of the local key" } else { "Passphrase for the new local key" };
        let text = context.passphrase(self.passphrase_file.as_deref(), prompt, !there)?;
        let passphrase = Passphrase::new(text).or_usage()?;
        if there {
            return Signer::read_sealed(&path, &passphrase).or_fail();
        }
        let signer = Signer::generate(local_name()?).or_fail()?;
        signer.write_sealed(&path, &passphrase).or_fail()?;
        Ok(signer)
    }
}

/// Whether the trust store that was there names the key.
fn knows(writer: &Writer, key: &str) -> bool {
    std::fs::read_to_string(writer.path("trust.toml")).is_ok_and(|text| text.contains(key))
}

/// The host's name, as far as a key name can hold it, and that it is the local key.
fn local_name() -> Result<KeyName, Failure> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || ".-_".contains(*c)).take(100).collect();
    let host = if host.is_empty() { "localhost".to_owned() } else { host };
    KeyName::parse(&format!("{host}/local")).or_fail()
}

fn describe(done: &Done) -> String {
    let mut text = String::new();
    text.extend(done.wrote.iter().map(|path| format!("wrote     {}\n", path.display())));
    text.extend(done.kept.iter().map(|path| format!("kept      {} (it was there)\n", path.display())));
    text.extend(done.approved.iter().map(|name| format!("approved  {name}\n")));
    text.extend(done.notes.iter().map(|note| format!("note      {note}\n")));
    text.push_str(&format!("key       {}\n", done.key));
    text.push_str(
        "\nThe mode is `observe`: plans are made and shown, nothing is changed. Read runner.toml, then `theriac up`.\n",
    );
    text
}
