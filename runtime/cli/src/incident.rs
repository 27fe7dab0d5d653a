//! `theriac incidents` and `theriac incident show`: what happened, as a story that can be read.

mod story;

use clap::Subcommand;
use serde::Serialize;
use theriac_model::id::IncidentId;
use theriac_model::incident::Incident;
use theriac_model::record::Entry;
use theriac_protocol::agent::{AgentAnswer, AgentRequest};
use theriac_protocol::operator::{OperatorAnswer, OperatorRequest};
use theriac_protocol::runner::RunSummary;

use crate::client;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::text::{columns, when};

/// More runs than any ladder has.
const MAX_RUNS: u32 = 64;

/// What can be done with one incident.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// From the signal to the verdict.
    Show {
        /// As `theriac incidents` prints it.
        incident: IncidentId,
    },
}

impl Command {
    /// Runs it.
    pub fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Show { incident } => show(context, &incident),
        }
    }
}

/// One incident with its runs and their records.
#[derive(Debug, Serialize)]
pub struct Story {
    /// `None`: the agent does not answer, or has forgotten it.
    pub incident: Option<Incident>,
    /// Oldest first.
    pub runs: Vec<RunSummary>,
    /// Of all its runs, oldest first.
    pub records: Vec<Entry>,
}

/// Lists incidents, newest first.
pub fn list(context: &Context, limit: u32) -> Result<Exit, Failure> {
    let AgentAnswer::Incidents(incidents) = client::agent(&context.layout, &AgentRequest::Incidents { limit })? else {
        return Err(client::unexpected("agent"));
    };
    context.show(&incidents, |incidents| table(incidents))
}

fn table(incidents: &[Incident]) -> String {
    if incidents.is_empty() {
        return "no incidents\n".to_owned();
    }
    let row = |incident: &Incident| {
        let healed =
            incident.healed.map(|healed| format!("healed after {}", crate::text::span(healed.since(incident.onset))));
        [
            incident.id.to_string(),
            when(incident.detected),
            incident.state.to_string(),
            incident.kind.to_string(),
            incident.target.to_string(),
            healed.unwrap_or_default(),
        ]
    };
    columns(&incidents.iter().map(row).collect::<Vec<_>>())
}

fn show(context: &Context, id: &IncidentId) -> Result<Exit, Failure> {
    let incident = incident(context, id);
    let records = runs(context, id);
    // Either half alone is worth showing; neither is a failure.
    let story = match (incident, records) {
        (Err(failure), Err(_)) => return Err(failure),
        (incident, records) => {
            let (runs, records) = records.unwrap_or_default();
            Story { incident: incident.ok().flatten(), runs, records }
        }
    };
    if story.incident.is_none() && story.runs.is_empty() {
        return Err(Failure::failed(format!("there is no incident `{id}`")).hint("`theriac incidents` lists them"));
    }
    context.show(&story, story::tell)
}

fn incident(context: &Context, id: &IncidentId) -> Result<Option<Incident>, Failure> {
    let request = AgentRequest::Incident { id: id.clone() };
    let AgentAnswer::Incident(incident) = client::agent(&context.layout, &request)? else {
        return Err(client::unexpected("agent"));
    };
    Ok(incident.map(|incident| *incident))
}

fn runs(context: &Context, id: &IncidentId) -> Result<(Vec<RunSummary>, Vec<Entry>), Failure> {
    let request = OperatorRequest::Runs { incident: Some(id.clone()), limit: MAX_RUNS };
    let OperatorAnswer::Runs(mut runs) = client::operator(&context.layout, &request)? else {
        return Err(client::unexpected("runner"));
    };
    runs.reverse();
    let mut records = Vec::new();
    for run in &runs {
        records.extend(self::records(context, run)?);
    }
    records.sort_by_key(|entry| entry.seq);
    Ok((runs, records))
}

/// Every record of one run.
pub fn records(context: &Context, run: &RunSummary) -> Result<Vec<Entry>, Failure> {
    let request = OperatorRequest::Run { run: run.run.clone() };
    let OperatorAnswer::Entries { entries, .. } = client::operator(&context.layout, &request)? else {
        return Err(client::unexpected("runner"));
    };
    Ok(entries)
}

/// The newest plan of an incident, with what was decided about it.
pub fn newest_plan(
    context: &Context,
    id: &IncidentId,
) -> Result<(theriac_model::plan::Plan, Option<theriac_model::record::Decision>), Failure> {
    use theriac_model::record::Record;
    let (_, records) = runs(context, id)?;
    let mut found = None;
    for entry in records {
        if let Record::Planned { plan, .. } = entry.record {
            found = Some((*plan, None));
        } else if let Record::Decided { decision, .. } = entry.record
            && let Some((_, decided)) = &mut found
        {
            *decided = Some(decision);
        }
    }
    found.ok_or_else(|| {
        Failure::failed(format!("incident `{id}` has no plan")).hint("`theriac incidents` lists the incidents")
    })
}
