//! What the contract has no words for: a remedy can't ask for what there is no verb for. Each verb of the interfaces that touch files,
//! services and processes is written down here, so that a new one is a line in a diff.

use std::collections::BTreeMap;
use std::fs;

use crate::host::root;

/// Interface and resource, with every function.
const VERBS: &[(&str, &[&str])] = &[
    ("files.dir", &["open", "list", "list-deleted", "space"]),
    (
        "files.entry",
        &[
            "name",
            "stat",
            "read",
            "tail",
            "replace",
            "append",
            "truncate",
            "copy-truncate",
            "remove",
            "archive",
            "set-aside",
        ],
    ),
    (
        "units.unit",
        &[
            "open",
            "name",
            "status",
            "start",
            "stop",
            "restart",
            "reload",
            "kill",
            "reset-failed",
            "set-property",
            "log-tail",
        ],
    ),
    ("processes.group", &["open", "list", "usage", "set-affinity", "renice"]),
    ("processes.process", &["info", "signal"]),
    ("log", &["info", "warn", "panicked"]),
];

/// The functions of each resource of `wit/`, and of each interface outside of its resources, with their parameters.
fn functions() -> BTreeMap<String, Vec<(String, String)>> {
    let mut all: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for file in fs::read_dir(root().join("wit")).unwrap().map(|entry| entry.unwrap().path()) {
        let (mut interface, mut place) = (String::new(), String::new());
        for line in fs::read_to_string(&file).unwrap().lines().map(str::trim) {
            let word = |keyword: &str| Some(line.strip_prefix(keyword)?.split([' ', '{', ';']).next()?.to_owned());
            if let Some(name) = word("interface ") {
                (interface, place) = (name.clone(), name);
            } else if let Some(name) = word("resource ") {
                place = format!("{interface}.{name}");
            } else if let Some((name, signature)) = line.split_once(": ") {
                let signature = signature.strip_prefix("static ").unwrap_or(signature);
                let parameters = signature.strip_prefix("func(").and_then(|rest| rest.split_once(')'));
                if let Some((parameters, _)) = parameters {
                    let name = name.trim_start_matches('%').to_owned();
                    all.entry(place.clone()).or_default().push((name, parameters.to_owned()));
                }
            }
        }
    }
    all
}

// FS22, FS23, FS26, SV12.
#[test]
fn there_is_no_verb_for_links_devices_modes_or_unit_files() {
    let found = functions();
    for (place, verbs) in VERBS {
        let names: Vec<&str> = found.get(*place).unwrap().iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, *verbs, "{place}");
    }
    let listed = |place: &&String| !["files", "units", "processes", "log"].iter().any(|known| place.starts_with(known));
    let known: Vec<&String> = found.keys().filter(|place| !listed(place)).collect();
    assert_eq!(known.len(), VERBS.len(), "{known:?}");
}

// PR01, SV01, SV02.
#[test]
fn no_name_number_or_path_stands_for_a_file_a_unit_or_a_process() {
    for (place, functions) in functions() {
        if !place.starts_with("files") && !place.starts_with("units") && !place.starts_with("processes") {
            continue;
        }
        for (name, parameters) in functions {
            let named = parameters.contains("string");
            assert_eq!(named, name == "open", "{place}.{name}({parameters}): a label is the only text that is taken");
        }
    }
}
