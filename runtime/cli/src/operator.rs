//! What a person tells the runner: consent, refuse, hold, resume, breaker reset, reload. Works with the agent dead.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use theriac_authority::consent::{self, Question};
use theriac_authority::key::{Passphrase, Signer};
use theriac_model::id::{IncidentId, RemedyName};
use theriac_model::target::Target;
use theriac_model::time::Span;
use theriac_protocol::operator::{OperatorAnswer, OperatorRequest, WaitingPlan};

use crate::client;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, OrFail as _};
use crate::plan;

/// A signed yes has to reach the runner within this time.
const NOTE_VALID: Span = Span::from_secs(600);

/// `theriac consent`.
#[derive(Debug, Args)]
pub struct Consent {
    /// The incident whose plan waits.
    incident: IncidentId,
    /// The operator's key, where the yes has to be signed.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Read the key's passphrase from this file.
    #[arg(long, value_name = "FILE", requires = "key")]
    passphrase_file: Option<PathBuf>,
    /// Don't ask again.
    #[arg(long)]
    yes: bool,
}

impl Consent {
    /// Shows the plan, asks, and sends a yes to exactly its hash.
    pub fn run(self, context: &Context) -> Result<Exit, Failure> {
        let Some(waiting) = waiting(context, &self.incident)? else {
            return Err(Failure::refused(format!("no plan of incident `{}` waits for a yes", self.incident))
                .hint("`theriac incidents` shows which do"));
        };
        if !context.json {
            context.print(&plan::describe(&waiting.plan))?;
            context.print(&format!("\n  {}", plan::decision(&waiting.decision)))?;
        }
        // What was shown is what is agreed to: the hash is computed here, from the plan on the screen.
        let hash = waiting.plan.hash();
        if hash != waiting.hash {
            return Err(Failure::failed("the runner's hash is not that of the plan it shows")
                .hint("install all binaries from one package, and restart"));
        }
        context.confirm("Let this run?", self.yes)?;
        let note = if waiting.needs_note { Some(self.sign(context, &waiting)?) } else { None };
        let incident = self.incident.clone();
        done(context, &OperatorRequest::Consent { incident, plan: hash, note }, &format!("consented to plan {hash}"))
    }

    fn sign(&self, context: &Context, waiting: &WaitingPlan) -> Result<String, Failure> {
        let Some(key) = &self.key else {
            return Err(Failure::usage("all processes share one user here, so the yes has to be signed")
                .hint("use --key with a key that trust.toml lists under [operators]"));
        };
        let passphrase = match &self.passphrase_file {
            Some(path) => Passphrase::read(path).or_fail()?,
            None => Passphrase::new(context.passphrase(None, &format!("Passphrase of `{}`", key.display()), false)?)
                .or_fail()?,
        };
        let signer = Signer::read_sealed(key, &passphrase).or_fail()?;
        let question =
            Question { incident: self.incident.clone(), run: waiting.run.clone(), plan: waiting.plan.hash() };
        let expires = theriac_runner::clock::wall().after(NOTE_VALID.duration());
        consent::sign(&question, expires, &signer).map(|note| note.to_string()).or_fail()
    }
}

/// The plan that waits for a person.
fn waiting(context: &Context, incident: &IncidentId) -> Result<Option<WaitingPlan>, Failure> {
    let request = OperatorRequest::Waiting { incident: incident.clone() };
    let OperatorAnswer::Waiting(waiting) = client::operator(&context.layout, &request)? else {
        return Err(client::unexpected("runner"));
    };
    Ok(waiting.map(|waiting| *waiting))
}

/// Says no to the plan that waits.
pub fn refuse(context: &Context, incident: IncidentId) -> Result<Exit, Failure> {
    let said = format!("refused the plan of incident {incident}");
    done(context, &OperatorRequest::Decline { incident }, &said)
}

/// Stops healing.
pub fn hold(context: &Context, target: Option<Target>, span: Option<Span>) -> Result<Exit, Failure> {
    let what = target.as_ref().map_or_else(|| "everything".to_owned(), ToString::to_string);
    let until = span.map_or_else(|| "until `theriac resume`".to_owned(), |span| format!("for {span}"));
    done(context, &OperatorRequest::Hold { target, span }, &format!("holding {what} {until}"))
}

/// Goes on.
pub fn resume(context: &Context, target: Option<Target>) -> Result<Exit, Failure> {
    let what = target.as_ref().map_or_else(|| "everything that was held as a whole".to_owned(), ToString::to_string);
    done(context, &OperatorRequest::Resume { target }, &format!("resumed {what}"))
}

/// Reads configuration, remedies and policies again.
pub fn reload(context: &Context) -> Result<Exit, Failure> {
    done(context, &OperatorRequest::Reload, "configuration, policies, playbooks and remedies were read again")
}

/// What can be done with breakers.
#[derive(Debug, Subcommand)]
pub enum Breaker {
    /// Arm a remedy again that was disarmed for a target.
    Reset {
        /// The remedy.
        remedy: RemedyName,
        /// The target, such as `unit:nginx.service`.
        target: Target,
    },
}

impl Breaker {
    /// Runs it.
    pub fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Reset { remedy, target } => {
                let said = format!("{remedy} may run at {target} again");
                done(context, &OperatorRequest::ResetBreaker { remedy, target }, &said)
            }
        }
    }
}

/// Sends a request that is answered by "done".
fn done(context: &Context, request: &OperatorRequest, said: &str) -> Result<Exit, Failure> {
    let OperatorAnswer::Done = client::operator(&context.layout, request)? else {
        return Err(client::unexpected("runner"));
    };
    context.show(&serde_json::json!({ "done": said }), |_| format!("{said}\n"))
}
