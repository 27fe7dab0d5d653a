//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use theriac_model::id::IncidentId;
use theriac_model::target::Target;
use theriac_model::time::Span;
use theriac_protocol::layout::Layout;

use crate::context::Context;
use crate::dry_run::DryRun;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::init::Init;
use crate::{audit, doctor, help, incident, key, operator, policy, remedy, status, up};

/// Theriac heals faults on Linux servers while nobody watches.
#[derive(Debug, Parser)]
#[command(
    name = "theriac",
    version,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    after_help = "`theriac help exit-codes` and `theriac help faults` have more."
)]
pub struct Arguments {
    /// Configuration directory.
    #[arg(long, global = true, value_name = "DIR", default_value = "/etc/theriac")]
    config: PathBuf,
    /// State directory.
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/theriac")]
    state: PathBuf,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
enum Command {
    /// Look at this machine, write a configuration that only observes, make a key, approve the shipped remedies.
    Init(Init),
    /// Run everything in the foreground, as any user.
    Up,
    /// How everything is.
    Status,
    /// What went wrong, newest first.
    Incidents {
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// One incident.
    #[command(subcommand)]
    Incident(incident::Command),
    /// Say yes to the plan that waits.
    Consent(operator::Consent),
    /// Say no to the plan that waits.
    Refuse {
        /// The incident whose plan waits.
        incident: IncidentId,
    },
    /// Stop healing, of one target or of everything.
    Hold {
        /// Such as `unit:nginx.service`; everything unless given.
        target: Option<Target>,
        /// For so long, such as `2h`; until `theriac resume` unless given.
        #[arg(long = "for", value_name = "TIME", value_parser = Span::parse)]
        span: Option<Span>,
    },
    /// Go on healing.
    Resume {
        /// The target of the hold; the hold of everything unless given.
        target: Option<Target>,
    },
    /// Remedies that were disarmed because they did not help.
    #[command(subcommand)]
    Breaker(operator::Breaker),
    /// Let the runner read configuration, policies, playbooks and remedies again.
    Reload,
    /// Show what a remedy would do, and do nothing.
    DryRun(DryRun),
    /// Policies: what runs by itself, with notice, or only with consent.
    #[command(subcommand)]
    Policy(policy::Command),
    /// The ledger.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Counters since the ledger began.
    Numbers,
    /// Look at kernel, configuration, permissions, rivals and sockets.
    Doctor,
    /// Keys of signers and operators.
    #[command(subcommand)]
    Key(key::Command),
    /// Write, build, test, read and approve remedies.
    #[command(subcommand)]
    Remedy(remedy::Command),
    /// Print a completion script.
    Completions {
        /// For this shell.
        shell: clap_complete::Shell,
    },
    /// Help with a command, or with `exit-codes` or `faults`.
    Help {
        /// The command's words, or the topic.
        topic: Vec<String>,
    },
}

impl Arguments {
    /// Runs the command.
    pub fn run(self) -> Result<Exit, Failure> {
        let context = Context { layout: Layout { config: self.config, state: self.state }, json: self.json };
        let context = &context;
        match self.command {
            Command::Init(init) => init.run(context),
            Command::Up => up::run(context),
            Command::Status => status::run(context),
            Command::Incidents { limit } => incident::list(context, limit),
            Command::Incident(command) => command.run(context),
            Command::Consent(consent) => consent.run(context),
            Command::Refuse { incident } => operator::refuse(context, incident),
            Command::Hold { target, span } => operator::hold(context, target, span),
            Command::Resume { target } => operator::resume(context, target),
            Command::Breaker(command) => command.run(context),
            Command::Reload => operator::reload(context),
            Command::DryRun(dry_run) => dry_run.run(context),
            Command::Policy(command) => command.run(context),
            Command::Audit(command) => command.run(context),
            Command::Numbers => status::numbers(context),
            Command::Doctor => doctor::run(context),
            Command::Key(command) => command.run(context),
            Command::Remedy(command) => command.run(context),
            Command::Completions { shell } => help::completions(context, shell),
            Command::Help { topic } => help::run(context, &topic),
        }
    }
}
