//! `docs/remedies/manifest.md` against the parser and the sources: it has exactly the keys that the parser takes, and each of them
//! with a test that exists, in which something other than the parser refuses what lies beyond the key.
//!
//! The keys are the parser's own answer to a wrong one. So each manifest here has every key of its table, on a line each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use theriac_authority::manifest::Manifest;

use crate::host::root;

const PAGE: &str = "docs/remedies/manifest.md";
/// A key that no table has.
const WRONG: &str = "nobody";
const REMEDY: &str = r#"[remedy]
name = "x"
version = "1.0.0"
serial = 1
summary = "s"
handles = ["disk-full"]
on_ambiguous = "ask"
wasi = "sealed"
"#;

/// The headings of the page, each with its table.
const TABLES: &[(&str, &str)] = &[
    ("[remedy]", ""),
    ("[params.NAME], integer", "[params.p]\ntype = \"integer\"\nmin = 1\nmax = 9\ndefault = 1\n"),
    ("[params.NAME], choice", "[params.p]\ntype = \"choice\"\nchoices = [\"a\"]\ndefault = \"a\"\n"),
    ("[params.NAME], flag", "[params.p]\ntype = \"flag\"\ndefault = true\n"),
    ("[limits]", "[limits]\nmemory = \"1MiB\"\ntime = \"1s\"\nhost_calls = 1\nhandles = 1\nlog_bytes = \"1KiB\"\n"),
    (
        "[grants.files.LABEL]",
        r#"[grants.files.x]
dir = { from = "operator" }
match = ["*"]
match_deleted = ["*"]
except = ["a"]
verbs = ["archive", "set-aside", "truncate"]
archive_to = { from = "operator" }
set_aside = { from = "operator" }
min_age = "1d"
max_bytes = "1MiB"
max_files = 1
keep_newest = 1
in_use = "truncate"
why = "w"
"#,
    ),
    (
        "[grants.units.LABEL]",
        r#"[grants.units.x]
unit = { from = "incident" }
verbs = ["restart", "kill", "set-property"]
job_timeout = "9s"
cpu_quota = { min = "1%", max = "9%" }
cpu_weight = { min = 1, max = 9 }
memory_high = { min = "1MiB", max = "9MiB" }
tasks_max = { min = 1, max = 9 }
signals = ["TERM"]
why = "w"
"#,
    ),
    (
        "[grants.processes.LABEL]",
        "[grants.processes.x]\nof = { from = \"incident\" }\nverbs = [\"signal\"]\nsignals = [\"TERM\"]\nwhy = \"w\"\n",
    ),
    (
        "[grants.series.LABEL]",
        "[grants.series.x]\nmetric = \"disk_available\"\nof = { from = \"incident\" }\nwhy = \"w\"\n",
    ),
    ("[grants.probes.LABEL]", "[grants.probes.x]\ncheck = { from = \"incident\" }\nwhy = \"w\"\n"),
    (
        "[grants.certificates.LABEL]",
        "[grants.certificates.x]\ncertificate = { from = \"incident\" }\nverbs = [\"renew\"]\nwhy = \"w\"\n",
    ),
    (
        "[grants.programs.LABEL]",
        r#"[grants.programs.x]
run = ["/bin/true", "{slot}"]
slots.slot = { min = 1, max = 9 }
changes = true
idempotent = true
undo = ["/bin/true"]
read = ["/etc/x"]
write = ["/srv/x"]
network = "host"
timeout = "9s"
output = "1KiB"
why = "w"
"#,
    ),
    (
        "[grants.http.LABEL]",
        r#"[grants.http.x]
origin = "http://127.0.0.1:9000"
prefix = "/"
methods = ["PUT"]
query.level = ["info"]
max_body = "1KiB"
max_answer = "1KiB"
timeout = "9s"
undo = { method = "PUT", path = "x", body = "y" }
why = "w"
"#,
    ),
    (
        "[grants.kernel.LABEL]",
        "[grants.kernel.x]\nknob = \"net.core.somaxconn\"\nverbs = [\"set\"]\nrange = { min = 1, max = 9 }\nwhy = \"w\"\n",
    ),
    (
        "[grants.releases.LABEL]",
        "[grants.releases.x]\nunit = { from = \"incident\" }\nverbs = [\"switch-back\"]\nwhy = \"w\"\n",
    ),
    (
        "[grants.containers.LABEL]",
        "[grants.containers.x]\ncontainer = { from = \"incident\" }\nverbs = [\"restart\"]\njob_timeout = \"9s\"\nwhy = \"w\"\n",
    ),
    (
        "[grants.firewall.LABEL]",
        r#"[grants.firewall.x]
set = { from = "operator" }
verbs = ["add"]
prefix4 = 32
prefix6 = 128
max_timeout = "1h"
max_elements = 1
why = "w"
"#,
    ),
    (
        "[grants.databases.LABEL]",
        r#"[grants.databases.x]
server = { from = "incident" }
verbs = ["terminate-idle", "set"]
applications = { from = "operator" }
idle_for = "5m"
at_most = 1
settings.wait_timeout = { min = 1, max = 9 }
why = "w"
"#,
    ),
];

/// What the parser says to a wrong key: in which table it stands, and which keys that table has.
fn told(text: &str) -> Option<(String, BTreeSet<String>)> {
    let problem = Manifest::parse(text).unwrap_err().to_string();
    let (before, keys) = problem.split_once("; valid keys: ")?;
    let place = before.rsplit_once("there is no such key ")?.1;
    Some((place.trim_start_matches("in ").trim_matches('`').to_owned(), keys.split(", ").map(str::to_owned).collect()))
}

/// The key of a line, if it is one.
fn key_of(line: &str) -> Option<&str> {
    line.split_once(" = ").map(|(key, _)| key)
}

/// `slots.slot` on the page is `slots.NAME`: the writer chooses the name, or takes it from a list.
fn on_the_page(key: &str) -> String {
    key.split_once('.').map_or_else(|| key.to_owned(), |(table, _)| format!("{table}.NAME"))
}

/// Every key of a table and of the tables in it.
fn taken(table: &str) -> BTreeSet<String> {
    let whole = if table.is_empty() { REMEDY.to_owned() } else { format!("{REMEDY}{table}") };
    assert!(Manifest::parse(&whole).is_ok(), "{:?}\n{whole}", Manifest::parse(&whole).err());
    let table = if table.is_empty() { REMEDY } else { table };
    let before = whole.strip_suffix(table).unwrap();
    let lines: Vec<&str> = table.lines().filter_map(key_of).collect();
    // A parameter's keys depend on its type, and the answer to a key that no type has names those of all.
    let wrong = match table.starts_with("[params.") {
        true if lines.contains(&"choices") => "min",
        true => "choices",
        false => WRONG,
    };
    let (place, valid) = told(&format!("{whole}{wrong} = 1\n")).expect("a table has its keys");
    let written = |key: &String| lines.iter().any(|line| line.split('.').next() == Some(key));
    assert!(valid.iter().all(written), "{place}: each of {valid:?} needs a line in this test");
    let mut keys = BTreeSet::new();
    for key in lines {
        keys.insert(on_the_page(key));
        let inner = |line: &str| {
            if key_of(line) == Some(key) { format!("{key} = {{ {WRONG} = 1 }}\n") } else { format!("{line}\n") }
        };
        let text: String = table.lines().map(inner).collect();
        let Some((found, inner)) = told(&format!("{before}{text}")) else { continue };
        assert_eq!(found, format!("{place}.{key}"), "the only mistake is the one made here");
        keys.extend(inner.iter().map(|inner| format!("{}.{inner}", on_the_page(key))));
    }
    keys
}

fn page() -> String {
    fs::read_to_string(root().join(PAGE)).unwrap()
}

/// The keys of the page by heading, each with the tests of its row.
fn rows(page: &str) -> BTreeMap<String, BTreeMap<String, Vec<String>>> {
    let mut tables: BTreeMap<String, BTreeMap<String, Vec<String>>> = BTreeMap::new();
    let mut heading = String::new();
    for line in page.lines() {
        if let Some(text) = line.strip_prefix("## `[") {
            heading = format!("[{}", text.replace('`', ""));
            tables.entry(heading.clone()).or_default();
        }
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [keys, _shape, _default, _bounds, tests] = cells.as_slice() else { continue };
        if !line.starts_with("| `") {
            continue;
        }
        let bare = |text: &str| text.trim().trim_matches('`').to_owned();
        let tests: Vec<String> = tests.split("<br>").map(bare).collect();
        for key in keys.split(", ").map(bare) {
            let twice = tables.get_mut(&heading).unwrap().insert(key.clone(), tests.clone());
            assert!(twice.is_none(), "{heading} has `{key}` twice");
        }
    }
    tables
}

#[test]
fn the_page_has_exactly_the_keys_that_the_parser_takes() {
    let page = page();
    let mut count = 0;
    let rows = rows(&page);
    for (heading, table) in TABLES {
        let found = rows.get(*heading).unwrap_or_else(|| panic!("{PAGE} has no `{heading}`"));
        let found: BTreeSet<String> = found.keys().cloned().collect();
        assert_eq!(found, taken(table), "{heading}: left: the page, right: the parser");
        count += found.len();
    }
    let wanted = format!("**{count}** keys");
    assert!(page.contains(&wanted), "{PAGE} should say: {wanted}");
}

#[test]
fn the_page_has_exactly_the_tables_that_the_parser_takes() {
    let rows = rows(&page());
    let headings: BTreeSet<&str> = rows.keys().map(String::as_str).collect();
    assert_eq!(headings, TABLES.iter().map(|(heading, _)| *heading).collect(), "left: the page, right: this test");
    let begin = |prefix: &str| -> BTreeSet<String> {
        let rest = headings.iter().filter_map(|heading| heading.strip_prefix(prefix));
        rest.map(|rest| rest.split(['.', ']']).next().unwrap().to_owned()).collect()
    };
    let (place, top) = told(&format!("{WRONG} = 1\n{REMEDY}")).unwrap();
    assert_eq!((place.as_str(), top), ("at the top", begin("[")));
    let (_, kinds) = told(&format!("{REMEDY}[grants.{WRONG}.x]\n")).unwrap();
    assert_eq!(kinds, begin("[grants."));
    let problem = Manifest::parse(&format!("{REMEDY}[params.p]\ntype = \"{WRONG}\"\n")).unwrap_err().to_string();
    let types: BTreeSet<&str> = problem.split('"').skip(1).step_by(2).collect();
    assert_eq!(types, headings.iter().filter_map(|heading| heading.strip_prefix("[params.NAME], ")).collect());
}

#[test]
fn every_key_has_a_test_that_exists_and_is_not_the_parsers() {
    for (heading, keys) in rows(&page()) {
        for (key, tests) in keys {
            for test in tests {
                let (path, name) =
                    test.split_once("::").unwrap_or_else(|| panic!("{heading} {key}: `{test}` is no test"));
                assert!(!path.contains("/manifest"), "{heading} {key}: {test} only reads");
                assert!(is_test(path, name), "{heading} {key}: there is no test {test}");
            }
        }
    }
}

fn is_test(path: &str, name: &str) -> bool {
    let text = fs::read_to_string(root().join(path)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let Some(at) = lines.iter().position(|line| line.starts_with(&format!("fn {name}("))) else { return false };
    lines
        .iter()
        .take(at)
        .rev()
        .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
        .any(|line| *line == "#[test]")
}
