//! The edges between the crates, checked against what cargo resolved: privilege is cut where the design says it is.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::host::root;

/// What a crate of ours may import of ours (normal dependencies only).
const OURS: &[(&str, &[&str])] = &[
    ("theriac-model", &[]),
    ("theriac-trusted", &[]),
    ("theriac-protocol", &["theriac-model"]),
    ("theriac-start", &["theriac-protocol"]),
    ("theriac-authority", &["theriac-model", "theriac-trusted"]),
    ("theriac-journal", &["theriac-model"]),
    ("theriac-probe", &["theriac-model"]),
    ("theriac-analysis", &["theriac-model"]),
    ("theriac-sandbox", &["theriac-model", "theriac-protocol"]),
    (
        "theriac-runner",
        &[
            "theriac-model",
            "theriac-authority",
            "theriac-journal",
            "theriac-protocol",
            "theriac-probe",
            "theriac-start",
            "theriac-trusted",
        ],
    ),
    ("theriac-courier", &["theriac-model", "theriac-protocol", "theriac-start", "theriac-trusted"]),
    ("theriac-launcher", &["theriac-model", "theriac-protocol", "theriac-start", "theriac-trusted"]),
    (
        "theriac-agent",
        &[
            "theriac-model",
            "theriac-analysis",
            "theriac-probe",
            "theriac-protocol",
            "theriac-journal",
            "theriac-start",
            "theriac-trusted",
        ],
    ),
];

/// What must never be reached, however far away.
const NEVER: &[(&str, &[&str])] = &[
    ("theriac-model", &["tokio", "rustix", "libc", "wasmtime", "reqwest"]),
    ("theriac-protocol", &["tokio", "wasmtime", "reqwest", "axum", "rustls", "clap"]),
    ("theriac-authority", &["tokio", "wasmtime", "reqwest", "axum", "rustls"]),
    ("theriac-journal", &["tokio", "wasmtime", "reqwest", "axum", "rustls"]),
    ("theriac-analysis", &["tokio", "reqwest", "wasmtime", "rustix"]),
    ("theriac-runner", &["wasmtime", "reqwest", "axum", "hyper", "rustls", "native-tls", "openssl"]),
    // It links the journal's checkpoint code for the segments' sake, and has no key; it signs nothing.
    ("theriac-agent", &["wasmtime", "cedar-policy", "theriac-authority"]),
    ("theriac-courier", &["wasmtime", "cedar-policy", "ed25519-dalek"]),
    ("theriac-launcher", &["wasmtime", "reqwest", "rustls", "tokio"]),
    ("theriac-cli", &["wasmtime"]),
    ("theriac-sandbox", &["reqwest", "rustls", "tokio", "ed25519-dalek"]),
];

/// Packages by name with the names of their normal dependencies, as resolved for this machine.
fn graph() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(root())
        .args(["metadata", "--format-version=1", "--offline", "--filter-platform", "x86_64-unknown-linux-gnu"])
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap().to_owned();
    let packages = metadata.get("packages").and_then(Value::as_array).unwrap();
    let names: BTreeMap<String, String> =
        packages.iter().map(|package| (text(package, "id"), text(package, "name"))).collect();
    let nodes = metadata.pointer("/resolve/nodes").and_then(Value::as_array).unwrap();
    let normal = |dep: &&Value| {
        dep.get("dep_kinds")
            .and_then(Value::as_array)
            .unwrap()
            .iter()
            .any(|kind| kind.get("kind").is_some_and(Value::is_null))
    };
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in nodes {
        let deps = node.get("deps").and_then(Value::as_array).unwrap().iter().filter(normal);
        let deps = deps.map(|dep| names.get(&text(dep, "pkg")).unwrap().clone());
        graph.entry(names.get(&text(node, "id")).unwrap().clone()).or_default().extend(deps);
    }
    graph
}

fn reached_by(graph: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut pending = vec![from.to_owned()];
    while let Some(name) = pending.pop() {
        for dep in graph.get(&name).into_iter().flatten() {
            if reached.insert(dep.clone()) {
                pending.push(dep.clone());
            }
        }
    }
    reached
}

#[test]
fn each_crate_imports_only_what_its_place_allows() {
    let graph = graph();
    for (name, allowed) in OURS {
        let direct = graph.get(*name).unwrap_or_else(|| panic!("there is no crate `{name}`"));
        let ours: Vec<&String> =
            direct.iter().filter(|dep| dep.starts_with("theriac-") && !allowed.contains(&dep.as_str())).collect();
        assert!(ours.is_empty(), "`{name}` imports {ours:?}");
    }
}

#[test]
fn no_crate_reaches_what_its_zone_must_not_hold() {
    let graph = graph();
    for (name, never) in NEVER {
        let reached = reached_by(&graph, name);
        let wrong: Vec<&&str> = never.iter().filter(|wrong| reached.contains(**wrong)).collect();
        assert!(wrong.is_empty(), "`{name}` reaches {wrong:?}");
    }
}

#[test]
fn only_the_sandbox_reaches_wasmtime() {
    let graph = graph();
    let direct: Vec<&String> =
        graph.iter().filter(|(_, deps)| deps.contains("wasmtime")).map(|(name, _)| name).collect();
    assert!(direct.iter().all(|name| *name == "theriac-sandbox" || name.starts_with("wasmtime")), "{direct:?}");
}

#[test]
fn the_runner_never_makes_a_permit_for_an_unsigned_component_except_offline() {
    let mut found = Vec::new();
    let mut pending = vec![root().join("runtime/runner/src")];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if std::fs::read_to_string(&path).unwrap().contains("DryRunPermit::unsigned") {
                found.push(path.file_name().unwrap().to_string_lossy().into_owned());
            }
        }
    }
    found.retain(|file| file != "offline.rs" && file != "tests.rs");
    assert!(found.is_empty(), "{found:?}");
}
