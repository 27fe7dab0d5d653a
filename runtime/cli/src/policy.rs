//! `theriac policy`: are the policies sound, what do they change, and why was a plan decided as it was.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;
use theriac_authority::guardrail::Situation;
use theriac_authority::policy::{self, CheckReport, Facts, Setting};
use theriac_model::id::IncidentId;
use theriac_model::plan::Plan;
use theriac_model::playbook::Level;
use theriac_model::record::Decision;
use theriac_model::remedy::Wasi;
use theriac_model::time::GuardTime;
use theriac_runner::rules::Rules;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, OrFail as _};
use crate::{incident, plan, remedy};

/// A plan has at most a few hundred effects.
const MAX_PLAN: u64 = 4 << 20;

/// What can be done with policies.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read the policies as the runner would, and show which of the shipped cases they decide differently.
    Check {
        /// The directory with `*.cedar` files; the configuration's unless given.
        dir: Option<PathBuf>,
    },
    /// Show how a plan is decided, policy by policy.
    Explain {
        /// The incident whose newest plan is looked at.
        #[arg(required_unless_present = "plan")]
        incident: Option<IncidentId>,
        /// A plan as `theriac dry-run --json` prints it.
        #[arg(long, value_name = "FILE", conflicts_with = "incident")]
        plan: Option<PathBuf>,
    },
}

impl Command {
    /// Runs it.
    pub fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Check { dir } => check(context, dir),
            Self::Explain { incident, plan } => {
                let (plan, decided) = match (incident, plan) {
                    (Some(incident), _) => incident::newest_plan(context, &incident)?,
                    (None, Some(path)) => (read_plan(&path)?, None),
                    (None, None) => return Err(Failure::usage("name an incident, or a file with --plan")),
                };
                explain(context, &plan, decided.as_ref())
            }
        }
    }
}

/// What `theriac policy check --json` prints.
#[derive(Serialize)]
struct Checked<'a> {
    ok: bool,
    files: &'a [String],
    cases: Vec<CheckedCase<'a>>,
}

#[derive(Serialize)]
struct CheckedCase<'a> {
    name: &'a str,
    built_in: &'a str,
    in_force: &'a str,
    summary: &'a str,
}

fn check(context: &Context, dir: Option<PathBuf>) -> Result<Exit, Failure> {
    let dir = dir.unwrap_or_else(|| context.layout.config.join("policies"));
    let report = policy::check(&dir).map_err(|error| Failure::not_verified(crate::failure::chain(&error)))?;
    let case = |case: &'_ policy::CaseAnswer| (case.name.clone(), case.built_in, case.in_force, case.summary.clone());
    let cases: Vec<_> = report.cases.iter().map(case).collect();
    let cases = cases
        .iter()
        .map(|(name, built_in, in_force, summary)| CheckedCase { name, built_in, in_force, summary })
        .collect();
    context.show(&Checked { ok: true, files: &report.files, cases }, |_| describe(&report, &dir))
}

fn describe(report: &CheckReport, dir: &std::path::Path) -> String {
    let mut text = match report.files.as_slice() {
        [] => format!("no policies in `{}`: the built-in ones hold\n", dir.display()),
        files => format!("read {} from `{}`, on top of the built-in ones\n", files.join(", "), dir.display()),
    };
    let changed: Vec<_> = report.changed().collect();
    let _infallible =
        writeln!(text, "{} cases, {} decided differently than without them", report.cases.len(), changed.len());
    for case in changed {
        let _infallible =
            writeln!(text, "  {}: {} instead of {} ({})", case.name, case.in_force, case.built_in, case.summary);
    }
    text
}

fn read_plan(path: &std::path::Path) -> Result<Plan, Failure> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path).or_fail_at(format!("opening `{}`", path.display()))?;
    file.take(MAX_PLAN).read_to_string(&mut text).or_fail_at(format!("reading `{}`", path.display()))?;
    let value: serde_json::Value = serde_json::from_str(&text).or_fail_at(format!("reading `{}`", path.display()))?;
    // `dry-run --json` wraps the plan in its decision.
    let plan = value.get("plan").cloned().unwrap_or(value);
    serde_json::from_value(plan).or_fail_at(format!("`{}` holds no plan", path.display()))
}

/// What `theriac policy explain --json` prints.
#[derive(Serialize)]
struct Explained<'a> {
    plan: &'a Plan,
    /// What the runner decided, where it did.
    decided: Option<&'a Decision>,
    /// What the policies decide now.
    now: Decision,
    explanation: String,
}

fn explain(context: &Context, plan: &Plan, decided: Option<&Decision>) -> Result<Exit, Failure> {
    let rules = Rules::read(&context.layout).or_fail()?;
    let level = plan.rung.as_ref().and_then(|(name, rung)| {
        let playbook = rules.playbooks.iter().find(|playbook| playbook.name == *name)?;
        playbook.rungs.get(usize::try_from(*rung).ok()?).map(|rung| rung.level)
    });
    let situation = Situation::at(&rules.host, GuardTime(0), theriac_runner::clock::wall(), None);
    let wasi = wasi_of(context, plan);
    let setting = Setting {
        mode: rules.host.mode,
        rung: level.unwrap_or(Level::ONE),
        in_window: situation.window.is_some(),
        wasi: wasi.unwrap_or_default(),
        host: &rules.host,
    };
    let facts = Facts::of(plan, &setting);
    let explanation = rules.policies.explain(&facts);
    let explained = Explained { plan, decided, now: rules.policies.decide(&facts), explanation };
    context.show(&explained, |explained| {
        let mut text = format!("{}\n", plan::describe(explained.plan));
        if let Some(decided) = explained.decided {
            let _infallible = write!(text, "the runner decided\n{}\n", plan::decision(decided));
        }
        let _infallible =
            write!(text, "the policies in `{}` say now\n{}", context.layout.config.display(), explained.explanation);
        if wasi.is_none() {
            text.push_str("its remedy is not among this host's: it was taken as one without WASI\n");
        }
        text
    })
}

/// Whether the plan's remedy is linked with a WASI, which its manifest says and a plan does not; `None` where that very file
/// is not here.
fn wasi_of(context: &Context, plan: &Plan) -> Option<Wasi> {
    let files = std::fs::read_dir(context.layout.config.join("remedies")).ok()?;
    let remedies = files.filter_map(Result::ok).map(|entry| entry.path());
    remedies.filter(|path| path.extension().is_some_and(|extension| extension == "wasm")).find_map(|path| {
        let package = remedy::package(&path).ok()?;
        (package.digest == plan.remedy.component).then_some(package.manifest.wasi)
    })
}
