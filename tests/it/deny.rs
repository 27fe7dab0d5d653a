//! Hostile guests, signed and let in: each ends as a typed denial or an ended worker with a translated sentence, and the
//! daemon goes on. Every case has its positive twin in `heal`.

use std::fs;

use theriac_model::denial::DenialCause;
use theriac_model::id::Label;
use theriac_model::record::{Proposal, Record};
use theriac_model::remedy::ParamValue;
use theriac_model::run::RunState;
use theriac_protocol::operator::{OperatorAnswer, OperatorRequest};
use theriac_protocol::runner::RunSummary;

use crate::host::{Host, Service, Setup, playbook, proposal};

/// A service that answers 503, and a canary tree beside what is granted.
pub(crate) struct Ward {
    pub(crate) host: Host,
    canary: std::path::PathBuf,
}

const CANARY: &str = "nobody was granted this";

impl Ward {
    pub(crate) fn with(remedies: Vec<&'static str>, rung: &str) -> Self {
        let dir = Host::scratch();
        let granted = dir.path().join("granted");
        fs::create_dir(&granted).unwrap();
        for name in ["app.conf", "app.log", "old.log.1", "older.log.2"] {
            fs::write(granted.join(name), format!("{name}\n")).unwrap();
        }
        let canary = dir.path().join("canary");
        fs::write(&canary, CANARY).unwrap();
        std::os::unix::fs::symlink(&canary, granted.join("escape.log")).unwrap();
        let mut sick = Service::new("sick");
        sick.args = vec!["--needs".into(), dir.path().join("missing").display().to_string()];
        let directory = |label: &str, verbs: &str| {
            format!(
                "\n[[directory]]\npath = \"{}\"\nlabel = \"{label}\"\nverbs = [{verbs}]\nreproducible = [\"*.log.[0-9]\"]\n",
                granted.display()
            )
        };
        let rules = match remedies.first() {
            Some(&"misguided") => directory("config", "\"replace\""),
            Some(_) | None => directory(
                "logs",
                "\"remove\", \"truncate\", \"archive\", \"replace\", \"append\", \"set-aside\", \"copy-truncate\"",
            ),
        };
        let setup = Setup {
            services: vec![sick.clone()],
            rules,
            playbooks: vec![("test.yaml", playbook("test", "service-unhealthy", "unit:sick", rung))],
            remedies,
            ..Setup::default()
        };
        let host = Host::start_in(dir, &setup);
        Host::wait_for_status(&sick, "503");
        Self { host, canary }
    }

    pub(crate) fn try_it(&self, remedy: &str, param: Option<(&str, &str)>) -> RunSummary {
        let run = self.host.heal(&Self::proposal(remedy, param));
        self.nothing_else_changed();
        run
    }

    fn proposal(remedy: &str, param: Option<(&str, &str)>) -> Proposal {
        let incident = format!("i-{}", param.map_or("0", |(_, value)| value));
        let mut proposal = proposal(&incident, "service-unhealthy", "unit:sick", "test", remedy);
        if let Some((name, value)) = param {
            proposal.params.insert(Label::parse(name).unwrap(), ParamValue::Choice(value.into()));
        }
        proposal
    }

    /// The daemon answers, and what nobody was granted is as it was.
    fn nothing_else_changed(&self) {
        assert!(matches!(self.host.operator(&OperatorRequest::Status), OperatorAnswer::Status(_)));
        assert_eq!(fs::read_to_string(&self.canary).unwrap(), CANARY);
    }

    fn denials(&self) -> Vec<(DenialCause, String)> {
        let denied = |record| match record {
            Record::Denied { denial, .. } => Some((denial.cause, denial.to_string())),
            _ => None,
        };
        self.host.records().into_iter().filter_map(denied).collect()
    }
}

pub(crate) fn rung(remedy: &str) -> String {
    format!("  - remedy: {remedy}\n    level: 1\n    healed_within: 2s\n    stable_for: 500ms\n")
}

// FS26, SV12.
#[test]
fn a_remedy_that_tries_everything_it_was_not_granted_gets_nothing() {
    let ward = Ward::with(vec!["hostile"], &rung("hostile"));

    let run = ward.try_it("hostile", None);

    assert_eq!(run.state, RunState::Refused, "{run:?}");
    assert!(run.reason.contains("all denied"), "{}", run.reason);
    let denials = ward.denials();
    assert!(denials.len() >= 10, "{denials:#?}");
    assert!(denials.iter().any(|(cause, _)| *cause == DenialCause::NotGranted));
    assert!(!ward.host.records().iter().any(|record| matches!(record, Record::Intent { .. })));
}

// AB14, PR01.
#[test]
fn a_forged_handle_ends_the_guest_and_not_the_runner() {
    let ward = Ward::with(vec!["hostile"], &rung("hostile"));
    let run = ward.try_it("hostile", Some(("attempt", "forged-handle")));
    assert_eq!(run.state, RunState::Refused, "{run:?}");
}

// RS01, RS02, RS05, RS10, RS11.
#[test]
fn what_can_be_used_up_ends_the_guest_with_a_sentence() {
    let ward = Ward::with(vec!["bombs"], &rung("bombs"));
    let sentences = [
        ("loop", "time limit"),
        ("memory", "memory"),
        ("log", "log"),
        ("panic", "panicked"),
        ("handles", "handles"),
        ("calls", "host call"),
    ];
    for (bomb, wanted) in sentences {
        let run = ward.try_it("bombs", Some(("bomb", bomb)));
        assert_eq!(run.state, RunState::Refused, "{bomb}: {run:?}");
        assert!(run.reason.contains(wanted), "{bomb} says: {}", run.reason);
    }
}

// AB12, AB13.
#[test]
fn a_remedy_that_does_something_else_in_the_live_run_is_stopped_and_undone() {
    let ward = Ward::with(vec!["two-faced"], &rung("two-faced"));
    let before = tree(&ward.host.path().join("granted"));

    let run = ward.try_it("two-faced", None);

    assert_eq!(run.state, RunState::Undone, "{run:?}");
    assert!(ward.denials().iter().any(|(cause, _)| *cause == DenialCause::OffPlan), "{:#?}", ward.denials());
    assert_eq!(tree(&ward.host.path().join("granted")), before);
}

// EX12.
#[test]
fn a_remedy_that_does_not_help_is_undone_byte_for_byte() {
    let ward = Ward::with(vec!["misguided"], &rung("misguided"));
    let before = tree(&ward.host.path().join("granted"));

    let run = ward.try_it("misguided", None);

    assert_eq!(run.state, RunState::Undone, "{run:?}");
    assert!(run.effects >= 1, "it did change something first: {run:?}");
    assert_eq!(tree(&ward.host.path().join("granted")), before);
}

// AB03.
#[test]
fn what_imports_more_than_its_grants_is_refused_at_load_and_named() {
    let ward = Ward::with(vec!["bombs", "ungranted", "wasi"], &rung("bombs"));
    let OperatorAnswer::Status(status) = ward.host.operator(&OperatorRequest::Status) else { panic!("no status") };
    let why = |file: &str| {
        status.refused.iter().find(|(name, _)| name == file).map(|(_, why)| why.as_str()).unwrap_or_default()
    };
    assert!(why("ungranted.wasm").contains("[grants.units.LABEL]"), "{:?}", status.refused);
    assert!(why("wasi.wasm").contains("wasi:"), "{:?}", status.refused);
    assert_eq!(status.remedies.len(), 1, "the one with its grants is loaded: {status:?}");
}

type Leaf = (std::path::PathBuf, Vec<u8>, u32, (i64, i64));

/// Paths, contents, modes and times of every file below.
fn tree(dir: &std::path::Path) -> Vec<Leaf> {
    use std::os::unix::fs::MetadataExt as _;
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            (path, content, meta.mode(), (meta.mtime(), meta.mtime_nsec()))
        })
        .collect();
    files.sort();
    files
}
