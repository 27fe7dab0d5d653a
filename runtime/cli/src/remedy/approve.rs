//! `theriac remedy approve`: a person reads what a remedy may do, and signs exactly that.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use theriac_authority::approval::{Approval, Validity};
use theriac_authority::explain;
use theriac_authority::note::Note;
use theriac_authority::package::Package;
use theriac_model::time::Timestamp;
use theriac_runner::clock;

use super::{read, verify};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, OrFail as _, chain};
use crate::key::KeyFile;

const DAY_MS: u64 = 86_400_000;

/// What to sign, and with which key.
#[derive(Debug, Args)]
pub struct Approve {
    /// The remedy, as `theriac remedy build` made it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    key: KeyFile,
    /// How long a new approval holds; a signature that is added to one holds as long as that
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=3650))]
    days: u64,
    /// Sign without asking
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Serialize)]
struct Signed {
    remedy: String,
    component: String,
    approval: PathBuf,
    signer: String,
    signatures: usize,
    until: String,
}

impl Approve {
    pub(super) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let package = read::package(&self.file)?;
        let now = clock::wall();
        let (approval, mut note) = match existing(&self.file, &package, now)? {
            Some(found) => found,
            None => {
                fresh(&package, Validity { from: now, until: Timestamp(now.0.saturating_add(self.days * DAY_MS)) })?
            }
        };
        if !self.yes {
            let rights =
                explain::inspect(&package.manifest, package.digest, read::imports(&package)?, Vec::new(), None);
            context.print(&format!("{rights}\nThis is what you sign:\n\n{approval}\n"))?;
        }
        context.confirm(&format!("Approve {} {}?", approval.remedy, approval.version), self.yes)?;
        let signer = self.key.open(context)?;
        note.sign(&signer).or_refuse()?;
        let path = verify::approval_of(&self.file);
        write(&path, &note.to_string()).or_fail_at(format!("writing `{}`", path.display()))?;
        let signed = Signed {
            remedy: approval.remedy.to_string(),
            component: approval.component.to_string(),
            approval: path,
            signer: signer.public().name().to_string(),
            signatures: note.claimed_names().count(),
            until: approval
                .to_string()
                .lines()
                .find_map(|line| line.strip_prefix("valid "))
                .and_then(|valid| valid.split(' ').nth(1))
                .unwrap_or_default()
                .to_owned(),
        };
        context.show(&signed, |it| {
            format!("{} is approved by {} until {}: {}\n", it.remedy, it.signer, it.until, it.approval.display())
        })
    }
}

/// The approval beside the file, if it is for exactly this component and still holds: then the signature is added to it.
/// One for another build says nothing about this one and is replaced.
fn existing(file: &Path, package: &Package, now: Timestamp) -> Result<Option<(Approval, Note)>, Failure> {
    let Some(bytes) = verify::note(file)? else { return Ok(None) };
    let wrong = |why: String| {
        let path = verify::approval_of(file);
        Failure::not_verified(format!("`{}`: {why}", path.display())).hint("move it away to write a new one")
    };
    let note = Note::parse(&bytes).map_err(|error| wrong(chain(&error)))?;
    let approval = Approval::parse(note.text()).map_err(|error| wrong(chain(&error)))?;
    let is_this_one = approval.covers(&package.manifest, package.digest).is_ok() && now < approval.valid.until;
    Ok(is_this_one.then_some((approval, note)))
}

fn fresh(package: &Package, valid: Validity) -> Result<(Approval, Note), Failure> {
    let approval = Approval::of(&package.manifest, package.digest, valid).or_fail()?;
    let note = Note::unsigned(&approval.to_string()).or_fail()?;
    Ok((approval, note))
}

/// The runner may read it at any moment, so it is there whole or not at all.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let half = path.with_extension("approval.new");
    let mut file = fs::File::create(&half)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&half, path)
}
