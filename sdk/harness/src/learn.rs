//! Learning the smallest grants: a dry run in a scenario's world with everything granted that can be granted there, then
//! another with exactly what the first one called. What is printed has been run.
//!
//! What only a person can name (a metric, a program, an origin, a knob, a release) is taken over from the manifest where it is
//! opened and left out where it is not. Nothing is widened: a remedy that needs more on another machine is denied there, and the
//! denial names the line.

mod observed;
mod proposal;

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use theriac_authority::manifest::Manifest;
use theriac_authority::package;
use theriac_model::call::{Call, Interface, Reply};
use theriac_model::denial::DenialCause;
use theriac_model::time::Span;

use crate::compare::{said, words};
use crate::error::ScenarioError;
use crate::licence::Licence;
use crate::namespace;
use crate::perform::{Play, Rehearsal, run_id};
use crate::programs::Programs;
use crate::recording::Exchange;
use crate::scenario::Scenario;
use crate::stage::{Props, Stage};
use observed::Observed;
use proposal::{Base, Width};

/// A remedy that opens more labels than a manifest can have grants is refused anyway.
const ROUNDS: usize = 32;

/// The smallest grants that were found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learned {
    /// `[grants.…]` for `remedy.toml`.
    pub grants: String,
    /// What the remedy would do with them: the very same as with everything granted.
    pub effects: Vec<String>,
    /// What it said.
    pub report: String,
    /// Host calls it made.
    pub host_calls: usize,
    /// Handles it had open at once, at most.
    pub handles: usize,
    /// Bytes it logged.
    pub log_bytes: usize,
    /// What could not be granted here, in sentences.
    pub notes: Vec<String>,
}

/// What is to be learned from.
#[derive(Debug, Clone, Copy)]
pub struct Lesson<'a> {
    /// The component, without a manifest in it.
    pub component: &'a Path,
    /// Its `remedy.toml`, whose grants are replaced.
    pub manifest: &'a Path,
    /// The world.
    pub scenario: &'a Path,
}

/// Learns. This process must have one thread, and is in a mount namespace of its own afterwards.
pub fn learn(programs: &Programs, lesson: Lesson<'_>) -> Result<Learned, ScenarioError> {
    let read = |path: &Path| std::fs::read(path).map_err(ScenarioError::io(format!("reading `{}`", path.display())));
    let mut scenario = Scenario::read(lesson.scenario)?;
    let text = String::from_utf8_lossy(&read(lesson.manifest)?).into_owned();
    let base = Base::parse(&text)?;
    // Files are made as old as the manifest asks for, also where the first run's grants ask for nothing.
    let age = scenario.age.unwrap_or_else(|| base.age());
    scenario.age = Some(age);
    let component = read(lesson.component)?;
    let no_mounts = namespace::enter().err().map(|error| format!("a filesystem of its own: {error}"));
    Class { programs, scenario: &scenario, no_mounts: no_mounts.as_deref(), component: &component, base, age }.teach()
}

/// Everything that stays the same from one dry run to the next.
struct Class<'a> {
    programs: &'a Programs,
    scenario: &'a Scenario,
    no_mounts: Option<&'a str>,
    component: &'a [u8],
    base: Base,
    age: Span,
}

impl Class<'_> {
    fn teach(self) -> Result<Learned, ScenarioError> {
        let mut notes = Vec::new();
        let mut everything = self.base.everything(self.scenario, self.component)?;
        let mut wide = self.rehearse(&self.base.with(&everything)?)?;
        for _ in 0..ROUNDS {
            let unknown = unknown_labels(&wide);
            let mut more = false;
            for (interface, label) in unknown {
                match self.base.grant(&mut everything, interface, &label) {
                    Ok(added) => more |= added,
                    Err(note) if notes.contains(&note) => {}
                    Err(note) => notes.push(note),
                }
            }
            if !more {
                break;
            }
            wide = self.rehearse(&self.base.with(&everything)?)?;
        }
        let observed = Observed::of(&wide);
        let wanted = outcome(&wide);
        let mut last = wanted.clone();
        for width in Width::ALL {
            let grants = self.base.smallest(&observed, width, self.age);
            let narrow = self.rehearse(&self.base.with(&grants)?)?;
            last = outcome(&narrow);
            if last == wanted {
                return Ok(learned(&proposal::text(&grants), &narrow, notes));
            }
        }
        let why = format!("with everything granted: {}; with what it called: {}", wanted.join("; "), last.join("; "));
        Err(ScenarioError::Part { doing: "repeating the run with the smallest grants", why })
    }

    fn rehearse(&self, manifest: &str) -> Result<Rehearsal, ScenarioError> {
        let bytes = package::embed(self.component, manifest).map_err(ScenarioError::part("granting"))?;
        let package = package::open(bytes).map_err(ScenarioError::part("granting"))?;
        let licence = Licence::new(&package, self.programs.workers())?;
        let Self { programs, scenario, no_mounts, .. } = *self;
        let props = Props { programs, scenario, manifest: &package.manifest, no_mounts };
        let stage = Stage::set(props, None)?;
        let play = Play { props, licence: &licence };
        play.rehearse(&stage, &run_id(1)?, &play.params()?)
    }
}

/// Effects and end of a run, in words: inodes and scratch directories differ from run to run.
fn outcome(run: &Rehearsal) -> Vec<String> {
    let effects = run.effects.iter().map(|planned| format!("{} {}", planned.effect.label(), words(&planned.effect)));
    effects.chain([said(&run.ending)]).collect()
}

/// Labels that were asked for and that no grant has.
fn unknown_labels(run: &Rehearsal) -> Vec<(Interface, String)> {
    let unknown = run.exchanges.iter().filter_map(|exchange| match (&exchange.call, &exchange.reply) {
        (Call::Open { interface, label }, Reply::Denied(denial)) if denial.cause == DenialCause::NotGranted => {
            Some((*interface, label.clone()))
        }
        _ => None,
    });
    unknown.collect()
}

fn learned(grants: &str, run: &Rehearsal, notes: Vec<String>) -> Learned {
    let logged = |exchange: &Exchange| if let Call::Log { text, .. } = &exchange.call { text.len() } else { 0 };
    Learned {
        grants: grants.to_owned(),
        effects: run.effects.iter().map(|planned| words(&planned.effect)).collect(),
        report: said(&run.ending),
        host_calls: run.exchanges.len(),
        handles: observed::most_handles(&run.exchanges),
        log_bytes: run.exchanges.iter().map(logged).sum(),
        notes,
    }
}

/// The age that the manifest's grants ask for.
fn oldest(manifest: &Manifest) -> Span {
    let ages = manifest.grants.files.values().map(|grant| grant.min_age);
    ages.max_by_key(|age| age.duration()).unwrap_or(Span::from_millis(0))
}

impl fmt::Display for Learned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# The smallest grants with which it does the same as with everything granted ({}).", self.report)?;
        for effect in &self.effects {
            writeln!(f, "#   {effect}")?;
        }
        let Self { host_calls, handles, log_bytes, .. } = self;
        writeln!(f, "# It made {host_calls} host calls, had {handles} handles open, logged {log_bytes} bytes.")?;
        for note in &self.notes {
            writeln!(f, "# {note}")?;
        }
        write!(f, "\n{}", self.grants)
    }
}
