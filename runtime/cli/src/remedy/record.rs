//! `theriac remedy record` and `theriac remedy replay`: a dry run as a file, and the same run again without its world.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use theriac_harness::{Programs, Recording, Replay};
use theriac_runner::rules::Rules;

use super::dry::Fault;
use super::read;
use crate::context::Context;
use crate::dry_run::offline;
use crate::exit::Exit;
use crate::failure::{Failure, OrFail as _};

/// What to record.
#[derive(Debug, Args)]
pub struct Record {
    /// The built remedy; nobody has to have signed it
    #[arg(value_name = "FILE")]
    remedy: PathBuf,
    /// Where the recording goes; a file that is there is not replaced
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// In a scenario's world; without it, on this machine and under your own uid
    #[arg(long, value_name = "FILE", conflicts_with_all = ["fault", "target", "params"])]
    scenario: Option<PathBuf>,
    #[command(flatten)]
    fault: Fault,
}

impl Record {
    pub(super) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let (recording, notes) = match &self.scenario {
            Some(scenario) => {
                let programs = Programs::beside_this_one().or_fail()?;
                let recording = theriac_harness::record_in_scenario(&programs, &self.remedy, scenario).or_fail()?;
                (recording, Vec::new())
            }
            None => {
                let question = self.fault.question(None)?;
                let rules = Rules::read(&context.layout).or_fail()?;
                let rehearsal = offline::rehearse(&context.layout, &rules, &self.remedy, question)?;
                (rehearsal.recording, rehearsal.notes)
            }
        };
        write(&self.out, &recording)?;
        let mut text = format!(
            "{}: {} host calls, {} effects; {}\n",
            self.out.display(),
            recording.exchanges.len(),
            recording.effects.len(),
            crate::text::outside(&format!("{:?}", recording.ending)),
        );
        text.extend(notes.iter().map(|note| format!("  {note}\n")));
        context.show(&recording, |_| text)
    }
}

/// A new file: a recording is evidence of one run, and is not overwritten by another.
fn write(path: &Path, recording: &Recording) -> Result<(), Failure> {
    use std::io::Write as _;
    let text = recording.text().or_fail()?;
    let doing = || format!("writing `{}`", path.display());
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).or_fail_at(doing())?;
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(path).or_fail_at(doing())?;
    file.write_all(text.as_bytes()).or_fail_at(doing())
}

/// What to replay.
#[derive(Debug, Args)]
pub struct ReplayRecording {
    /// The built remedy
    #[arg(value_name = "FILE")]
    remedy: PathBuf,
    /// The recording
    #[arg(value_name = "RECORDING")]
    recording: PathBuf,
    /// Exit with 5 where the remedy does something else than was recorded
    #[arg(long)]
    assert: bool,
    /// Keep the recording as a test of the remedy in this directory: `theriac remedy test` replays it from then on
    #[arg(long, value_name = "DIR")]
    emit_test: Option<PathBuf>,
}

impl ReplayRecording {
    pub(super) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let package = read::package(&self.remedy)?;
        let recording = Recording::read(&self.recording).or_fail()?;
        let programs = Programs::beside_this_one().or_fail()?;
        let replay = recording.replay(&programs, &package).or_fail()?;
        context.show(&replay, Replay::to_string)?;
        match (&replay.difference, &self.emit_test) {
            // What does not repeat itself is no test.
            (Some(_), Some(_)) => return Ok(Exit::NotVerified),
            (None, Some(dir)) => {
                let name = self.recording.file_stem().map_or_else(|| "recording".into(), |stem| stem.to_owned());
                write(&dir.join("recordings").join(name).with_extension("json"), &recording)?;
            }
            (_, None) => {}
        }
        Ok(if self.assert && replay.difference.is_some() { Exit::NotVerified } else { Exit::Ok })
    }
}
