//! What a decision costs: Cedar for one plan, the whole authorisation, the plan's hash, the judgement of an approval with two
//! signatures, and the manifest of the largest shipped remedy.

#![expect(clippy::unwrap_used, reason = "a bench that can't be set up has nothing to say")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use theriac_authority::manifest::Manifest;
use theriac_authority::policy::{Facts, Setting};
use theriac_benches::office::Office;
use theriac_benches::{baseline, place};
use theriac_model::effect::{Effect, FileId, FileVerb, Observed, UndoClass, UnitVerb};
use theriac_model::id::{Label, UnitName};
use theriac_model::plan::PlannedEffect;
use theriac_model::playbook::Level;
use theriac_model::remedy::Wasi;
use theriac_model::target::MountPath;
use theriac_model::units::Permille;

fn policy(criterion: &mut Criterion) {
    let logs = tempfile::tempdir().unwrap();
    let office = Office::open(logs.path()).unwrap();
    let plan = office.plan(effects(&logs.path().display().to_string())).unwrap();
    let standing = office.standing(&plan).unwrap();
    let decided = office.authorise(&plan, &standing);
    assert!(decided.warrant.is_some(), "what is measured must be a yes: {}", decided.decision.summary);
    let setting =
        Setting { mode: office.host.mode, rung: Level::ONE, in_window: false, wasi: Wasi::None, host: &office.host };
    let text = std::fs::read_to_string(place::root().join("plugins/disk-reclaim/remedy.toml")).unwrap();

    let mut group = criterion.benchmark_group("policy");
    baseline::add(&mut group);
    let facts = Facts::of(&plan, &setting);
    group.bench_function("cedar: one plan", |bench| bench.iter(|| office.policies.decide(black_box(&facts))));
    group.bench_function("authorise: identity, guardrails, grants, policy", |bench| {
        bench.iter(|| office.authorise(black_box(&plan), &standing));
    });
    group.bench_function("plan hash", |bench| bench.iter(|| black_box(&plan).hash()));
    group.bench_function("judge an approval, 2 signatures", |bench| bench.iter(|| office.judge().unwrap()));
    group.bench_function("parse a manifest", |bench| bench.iter(|| Manifest::parse(black_box(&text)).unwrap()));
    group.finish();
}

/// A truncated log and a restart.
fn effects(logs: &str) -> Vec<PlannedEffect> {
    let planned = |effect, undo| PlannedEffect {
        effect,
        undo,
        guards: Vec::new(),
        before: Observed::NoFile,
        reproducible: false,
        risk: Permille::clamped(20),
    };
    let dir = MountPath::parse(logs).unwrap();
    let file = FileId { dev: 1, ino: 1, dir, path: "app.log".into(), deleted: false };
    vec![
        planned(
            Effect::File { label: Label::parse("logs").unwrap(), file, verb: FileVerb::Truncate { bytes: 4096 } },
            UndoClass::Exact,
        ),
        planned(
            Effect::Unit {
                label: Label::parse("target").unwrap(),
                unit: UnitName::parse("web").unwrap(),
                invocation: "i1".into(),
                verb: UnitVerb::Restart,
            },
            UndoClass::Compensated { inverse: "start, if it does not run".into() },
        ),
    ]
}

criterion_group!(benches, policy);
criterion_main!(benches);
