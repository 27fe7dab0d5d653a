//! `theriac dry-run`: what would a remedy do? By name, the running runner plans it; by file, signed or not, it is planned in
//! this process, under the caller's own uid and with the caller's own rights.

pub(crate) mod offline;
mod seen;

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use theriac_model::fault::FaultKind;
use theriac_model::id::{Label, RemedyName};
use theriac_model::plan::Plan;
use theriac_model::record::Decision;
use theriac_model::remedy::{ParamValue, Params};
use theriac_model::target::Target;
use theriac_protocol::operator::{OperatorAnswer, OperatorRequest};

use crate::client;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, OrFail as _};
use crate::plan;
use crate::text::outside;

/// `theriac dry-run`.
#[derive(Debug, Args)]
pub struct DryRun {
    /// The name of an approved remedy, or a `.wasm` file (then also an unsigned one).
    remedy: String,
    /// The fault kind; `theriac help faults` lists them.
    #[arg(long, value_name = "KIND")]
    fault: FaultKind,
    /// The target, such as `unit:nginx.service` or `mount:/var`.
    #[arg(long)]
    target: Target,
    /// A parameter's value; may be given several times.
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = param)]
    params: Vec<(Label, ParamValue)>,
}

/// What `theriac dry-run --json` prints.
#[derive(Debug, Serialize)]
struct Outcome {
    plan: Plan,
    hash: String,
    /// What policy says; the policies of `--config` for a file.
    decision: Decision,
    /// What the remedy tried and may not, and what it logged, in sentences (a file only: of an approved remedy, the ledger
    /// has them).
    notes: Vec<String>,
}

impl DryRun {
    /// Runs it.
    pub fn run(self, context: &Context) -> Result<Exit, Failure> {
        let params: Params = self.params.iter().cloned().collect();
        let outcome = match file(&self.remedy) {
            Some(path) => {
                let question = offline::Question { kind: self.fault, target: self.target, params };
                let (plan, decision, notes) = offline::dry_run(&context.layout, &path, question)?;
                Outcome { hash: plan.hash().to_string(), plan, decision, notes }
            }
            None => {
                let remedy = RemedyName::parse(&self.remedy).or_usage()?;
                ask(context, OperatorRequest::DryRun { kind: self.fault, target: self.target, remedy, params })?
            }
        };
        outcome.show(context)
    }
}

impl Outcome {
    fn show(&self, context: &Context) -> Result<Exit, Failure> {
        context.show(self, |outcome| {
            let mut text = format!("{}\n  {}", plan::describe(&outcome.plan), plan::decision(&outcome.decision));
            if !outcome.notes.is_empty() {
                text.push_str("\n  during the dry run\n");
                text.extend(outcome.notes.iter().map(|note| format!("    {note}\n")));
            }
            text.push_str("\nnothing was changed\n");
            text
        })
    }
}

/// Shows a plan that was made by rules which are not the configuration's.
pub(crate) fn show_plan(
    context: &Context,
    (plan, decision, notes): (Plan, Decision, Vec<String>),
) -> Result<Exit, Failure> {
    Outcome { hash: plan.hash().to_string(), plan, decision, notes }.show(context)
}

fn ask(context: &Context, request: OperatorRequest) -> Result<Outcome, Failure> {
    let OperatorAnswer::DryRun { plan, hash, decision } = client::operator(&context.layout, &request)? else {
        return Err(client::unexpected("runner"));
    };
    Ok(Outcome { plan: *plan, hash: hash.to_string(), decision, notes: Vec::new() })
}

/// A name has neither slash nor dot, a file has one of them.
fn file(remedy: &str) -> Option<PathBuf> {
    remedy.contains(['/', '.']).then(|| Path::new(remedy).to_owned())
}

/// `keep_days=7`, `thorough=true`, `how=fast`: the manifest then says whether it fits.
pub(crate) fn param(text: &str) -> Result<(Label, ParamValue), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{}` is not NAME=VALUE", outside(text)))?;
    let name = Label::parse(name).map_err(|error| error.to_string())?;
    let value = match (value.parse::<i64>(), value) {
        (Ok(number), _) => ParamValue::Integer(number),
        (Err(_), "true") => ParamValue::Flag(true),
        (Err(_), "false") => ParamValue::Flag(false),
        (Err(_), word) => ParamValue::Choice(word.to_owned()),
    };
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_from_a_name_by_how_it_is_written() {
        assert_eq!(file("disk-reclaim"), None);
        assert!(file("disk-reclaim.wasm").is_some() && file("./disk-reclaim").is_some());
    }

    #[test]
    fn parameters_have_the_type_of_how_they_are_written() {
        let value = |text| param(text).map(|(_, value)| value);
        assert_eq!(value("keep_days=7"), Ok(ParamValue::Integer(7)));
        assert_eq!(value("thorough=true"), Ok(ParamValue::Flag(true)));
        assert_eq!(value("how=fast"), Ok(ParamValue::Choice("fast".into())));
        assert!(value("how").is_err() && value("=x").is_err());
    }
}
