//! `theriac remedy run --dry`: what would this remedy do to the directories below ROOT? Nothing is signed, nothing is changed.
//!
//! There is no other `run` here, signed or not: a live run needs a warrant, and only the runner gives itself one.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use theriac_model::fault::FaultKind;
use theriac_model::id::Label;
use theriac_model::remedy::ParamValue;
use theriac_model::target::{MountPath, Target};
use theriac_protocol::layout::Layout;
use theriac_runner::rules::Rules;

use super::read;
use crate::context::Context;
use crate::dry_run::offline::{self, Question};
use crate::dry_run::{param, show_plan};
use crate::exit::Exit;
use crate::failure::{Failure, OrFail as _};

/// The fault that a remedy is told of.
#[derive(Debug, Args)]
pub(super) struct Fault {
    /// The fault kind; `theriac help faults` lists them
    #[arg(long, value_name = "KIND")]
    fault: Option<FaultKind>,
    /// The target, such as `unit:nginx.service` or `mount:/var`
    #[arg(long)]
    target: Option<Target>,
    /// A parameter's value; may be given several times
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = param)]
    params: Vec<(Label, ParamValue)>,
}

impl Fault {
    pub(super) fn question(self, target: Option<Target>) -> Result<Question, Failure> {
        let missing = |what: &str| Failure::usage(format!("name the {what} with --{what}"));
        let kind = self.fault.ok_or_else(|| missing("fault"))?;
        let target = self.target.or(target).ok_or_else(|| missing("target"))?;
        Ok(Question { kind, target, params: self.params.into_iter().collect() })
    }
}

/// What to run.
#[derive(Debug, Args)]
pub struct Run {
    /// The built remedy; nobody has to have signed it
    #[arg(value_name = "FILE")]
    remedy: PathBuf,
    /// Only plan. There is nothing else that this command can do
    #[arg(long)]
    dry: bool,
    /// Each `[grants.files.LABEL]` with `dir = { from = "operator" }` is ROOT/LABEL; nothing else is bound
    #[arg(long, value_name = "ROOT")]
    root: PathBuf,
    #[command(flatten)]
    fault: Fault,
}

impl Run {
    pub(super) fn run(self, context: &Context) -> Result<Exit, Failure> {
        if !self.dry {
            return Err(Failure::usage(
                "there is no live run here: it needs a warrant, and only the runner gives itself one",
            )
            .hint("add --dry"));
        }
        let package = read::package(&self.remedy)?;
        let root = fs::canonicalize(&self.root).or_fail_at(format!("opening `{}`", self.root.display()))?;
        let scratch = tempfile::tempdir().or_fail_at("making a scratch directory")?;
        let labels = package.manifest.grants.files.keys();
        let dirs: Vec<(&Label, PathBuf)> =
            labels.map(|label| (label, root.join(label.as_str()))).filter(|(_, dir)| dir.is_dir()).collect();
        let layout = Layout { config: scratch.path().join("config"), state: scratch.path().join("state") };
        fs::create_dir_all(&layout.config).or_fail_at("making a scratch directory")?;
        let grants = &package.manifest.grants.files;
        let mut text = String::from("mode = \"relaxed\"\n");
        for (label, dir) in &dirs {
            let verbs = grants.get(*label).into_iter().flat_map(|grant| &grant.verbs);
            let verbs: Vec<String> = verbs.filter(|verb| verb.changes()).map(ToString::to_string).collect();
            // Rust's and TOML's strings are written alike, for what stands here; writing to a String can't fail.
            let _infallible = writeln!(
                text,
                "[[mount]]\npath = {dir:?}\n[[directory]]\npath = {dir:?}\nlabel = {:?}\nverbs = {verbs:?}",
                label.as_str()
            );
        }
        fs::write(layout.config.join("runner.toml"), text).or_fail_at("writing the rules of this run")?;
        let question = self.fault.question(first(&dirs))?;
        let rules = Rules::read(&layout).or_fail()?;
        show_plan(context, offline::plan(&layout, &rules, &self.remedy, question)?)
    }
}

/// The mount of the first directory, where no target is named.
fn first(dirs: &[(&Label, PathBuf)]) -> Option<Target> {
    let path = |dir: &Path| MountPath::parse(&dir.to_string_lossy()).ok().map(Target::Mount);
    dirs.first().and_then(|(_, dir)| path(dir))
}
