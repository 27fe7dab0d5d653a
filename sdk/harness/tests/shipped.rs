//! The shipped remedies, built and played: every scenario with the real worker and the real gate, and what their files ask for.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails where something is missing")]

use std::path::{Path, PathBuf};
use std::process::Command;

use theriac_authority::package;
use theriac_authority::{manifest::Manifest, playbook};
use theriac_harness::{Programs, Verdict, test};
use theriac_model::remedy::resolve_params;
use theriac_runner::remedies::linkable;

const REMEDIES: [&str; 7] = [
    "certificate-renew",
    "cpu-calm",
    "db-relieve",
    "disk-reclaim",
    "memory-relief",
    "release-return",
    "service-recover",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn manifest_text(name: &str) -> String {
    std::fs::read_to_string(root().join("plugins").join(name).join("remedy.toml")).unwrap()
}

fn manifest(name: &str) -> Manifest {
    Manifest::parse(&manifest_text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Builds and packs them all; cargo does nothing where nothing changed.
fn components() -> Vec<(&'static str, Vec<u8>)> {
    let plugins = root().join("plugins");
    let built = Command::new("cargo")
        .current_dir(&plugins)
        .args(["build", "--release", "--quiet", "--target", "wasm32-wasip2", "--target-dir", "target"])
        .status()
        .unwrap();
    assert!(built.success(), "the shipped remedies build");
    let read = |name: &str| {
        let file = plugins.join("target/wasm32-wasip2/release").join(format!("{}.wasm", name.replace('-', "_")));
        package::embed(&std::fs::read(file).unwrap(), &manifest_text(name)).unwrap()
    };
    REMEDIES.into_iter().map(|name| (name, read(name))).collect()
}

#[test]
fn every_scenario_shows_what_it_says() {
    let programs = Programs::beside_this_one().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let mut passed = 0;
    for (name, bytes) in components() {
        let file = scratch.path().join(format!("{name}.wasm"));
        std::fs::write(&file, bytes).unwrap();
        let summary = test(&programs, &file, &root().join("plugins").join(name).join("scenarios"), "").unwrap();
        assert!(summary.passed(), "{summary}");
        passed += summary.outcomes.iter().filter(|outcome| matches!(outcome.verdict, Verdict::Passed { .. })).count();
    }
    assert!(passed > 0, "none was possible here");
}

#[test]
fn a_remedy_imports_only_what_its_grants_cover_and_never_wasi() {
    for (name, bytes) in components() {
        let imports: Vec<String> = package::imports(&bytes).unwrap();
        // Besides interfaces it imports the types of its own exports, by their bare names.
        let (interfaces, types): (Vec<String>, Vec<String>) =
            imports.into_iter().partition(|import| import.contains(':'));
        linkable(&manifest(name), &interfaces).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(interfaces.iter().all(|import| import.starts_with("theriac:remedy/")), "{name}: {interfaces:?}");
        assert!(
            types.iter().all(|name| ["input", "report", "opinion", "denial"].contains(&name.as_str())),
            "{name}: {types:?}"
        );
    }
}

#[test]
fn no_grant_is_left_over() {
    for (name, bytes) in components() {
        let imports = package::imports(&bytes).unwrap();
        for grant in manifest(name).grants.iter() {
            let interface = format!("theriac:remedy/{}@0.1.0", grant.grant.interface().grant_table());
            assert!(imports.contains(&interface), "{name} asks for `{}` and does not import it", grant.label);
        }
    }
}

#[test]
fn every_rung_of_every_playbook_is_treated_by_its_remedy_with_parameters_that_fit() {
    let mut rungs = 0;
    for file in std::fs::read_dir(root().join("policies/playbooks")).unwrap().map(|entry| entry.unwrap().path()) {
        let playbook = playbook::parse(&std::fs::read_to_string(&file).unwrap()).unwrap();
        for rung in &playbook.rungs {
            let manifest = manifest(rung.remedy.as_str());
            let treats = playbook.handles.iter().all(|kind| manifest.handles.contains(kind));
            assert!(treats, "{}: {} does not treat it", file.display(), rung.remedy);
            resolve_params(&manifest.params, &rung.params)
                .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            rungs += 1;
        }
    }
    assert!(rungs >= 8, "{rungs} rungs");
}

#[test]
fn a_scenario_that_is_wrong_is_told_and_does_not_pass() {
    let programs = Programs::beside_this_one().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let (_, bytes) = components().into_iter().find(|(name, _)| *name == "service-recover").unwrap();
    let file = scratch.path().join("service-recover.wasm");
    std::fs::write(&file, bytes).unwrap();
    let scenarios = scratch.path().join("scenarios");
    std::fs::create_dir(&scenarios).unwrap();
    let text = "summary = 'says something that is not so'\nfault = 'service-crash'\n[unit]\nstate = 'crashed'\n\
                [expect]\nreport = 'gave-up'\neffects = ['restart']\nunit = 'stopped'\n";
    std::fs::write(scenarios.join("wrong.toml"), text).unwrap();
    let summary = test(&programs, &file, &scenarios, "").unwrap();
    let Verdict::Failed { problems } = &summary.outcomes[0].verdict else { panic!("{summary}") };
    assert!(!summary.passed());
    let told = problems.join("\n");
    for part in
        ["report: expected GaveUp", "effects: expected [[\"restart\"]], planned [\"start\"]", "the unit is not Stopped"]
    {
        assert!(told.contains(part), "{told}");
    }
}
