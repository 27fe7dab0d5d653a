//! `docs/attack-history.md` against the source: the ids above the tests and the rows of the table are the same, both ways, so that
//! neither can rot.
//!
//! An id stands in a comment line directly above `#[test]`: `// FS07, FS08.`, with words after it where they help.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::host::root;

const PAGE: &str = "docs/attack-history.md";
/// What a row says in place of a test, before the reason.
const UNTESTED: [&str; 3] = ["not yet:", "does not exist:", "not promised:"];

/// One row.
#[derive(Debug)]
struct Row {
    id: String,
    priority: u32,
    tests: BTreeSet<String>,
    result: String,
}

/// Two capitals and two digits.
fn is_id(word: &str) -> bool {
    matches!(word.as_bytes(), [a, b, c, d] if a.is_ascii_uppercase() && b.is_ascii_uppercase() && c.is_ascii_digit() && d.is_ascii_digit())
}

/// The ids of a comment line, if it is one of ours.
fn ids(line: &str) -> Vec<&str> {
    let Some(text) = line.trim().strip_prefix("// ") else { return Vec::new() };
    let end = text.find(['.', ':']).unwrap_or(0);
    let ids: Vec<&str> = text.get(..end).unwrap_or_default().split(", ").collect();
    if ids.iter().all(|id| is_id(id)) { ids } else { Vec::new() }
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every test that shows a case, as `path::name`, with its ids. A line of ids that stands above no test is a mistake.
fn in_the_source() -> BTreeMap<String, BTreeSet<String>> {
    let mut files = Vec::new();
    ["runtime", "sdk", "tests", "plugins", "xtask"].iter().for_each(|dir| sources(&root().join(dir), &mut files));
    let mut shown = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let path = file.strip_prefix(root()).unwrap().display().to_string();
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let ids = ids(line);
            if ids.is_empty() {
                continue;
            }
            let after = lines.iter().skip(at + 1);
            let is_test = after.clone().next().is_some_and(|next| matches!(next.trim(), "#[test]" | "#[tokio::test]"));
            // A part of a test that plays many says what it shows as well; the list is above the test.
            if !is_test {
                continue;
            }
            let name = after.filter_map(|line| line.trim().split_once("fn ")).map(|(_, rest)| rest).next().unwrap();
            let name = name.split('(').next().unwrap();
            shown.insert(format!("{path}::{name}"), ids.into_iter().map(str::to_owned).collect());
        }
    }
    shown
}

fn page() -> String {
    fs::read_to_string(root().join(PAGE)).unwrap()
}

fn rows(page: &str) -> Vec<Row> {
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let row = |cells: Vec<String>| match cells.as_slice() {
        [id, priority, _tried, tests, result] if is_id(id) => Some(Row {
            id: id.clone(),
            priority: priority.parse().unwrap(),
            tests: tests
                .split("<br>")
                .map(|test| test.trim().trim_matches('`').to_owned())
                .filter(|test| !test.is_empty())
                .collect(),
            result: result.clone(),
        }),
        _ => None,
    };
    page.lines().filter(|line| line.starts_with('|')).map(cells).filter_map(row).collect()
}

/// The ids of a paragraph that begins with this.
fn listed(page: &str, beginning: &str) -> BTreeSet<String> {
    let paragraph = page.split("\n\n").find(|paragraph| paragraph.starts_with(beginning));
    let paragraph = paragraph.unwrap_or_else(|| panic!("{PAGE} has no paragraph `{beginning}`"));
    paragraph.split([' ', ',', '.', '\n']).filter(|word| is_id(word)).map(str::to_owned).collect()
}

#[test]
fn the_page_names_exactly_the_tests_that_name_a_case() {
    let page = page();
    let mut on_the_page: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows(&page) {
        for test in row.tests {
            on_the_page.entry(test).or_default().insert(row.id.clone());
        }
    }
    let in_the_source = in_the_source();
    let only = |a: &BTreeMap<String, BTreeSet<String>>, b: &BTreeMap<String, BTreeSet<String>>| {
        let missing = |(test, ids): (&String, &BTreeSet<String>)| {
            let rest: Vec<String> =
                ids.iter().filter(|id| !b.get(test).is_some_and(|ids| ids.contains(*id))).cloned().collect();
            (!rest.is_empty()).then(|| format!("{} {test}", rest.join(", ")))
        };
        a.iter().filter_map(missing).collect::<Vec<_>>().join("\n")
    };
    let (unlisted, gone) = (only(&in_the_source, &on_the_page), only(&on_the_page, &in_the_source));
    assert!(unlisted.is_empty() && gone.is_empty(), "not in {PAGE}:\n{unlisted}\n\nonly in {PAGE}:\n{gone}");
}

#[test]
fn every_case_of_priority_0_is_on_the_page_with_a_test_or_a_reason() {
    let page = page();
    let rows = rows(&page);
    let on_the_page: BTreeSet<String> = rows.iter().map(|row| row.id.clone()).collect();
    assert_eq!(on_the_page.len(), rows.len(), "one row for each id");
    let first = listed(&page, "Priority 0:");
    let missing: Vec<&String> = first.difference(&on_the_page).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for row in &rows {
        assert_eq!(row.priority == 0, first.contains(&row.id), "{}", row.id);
        let excused = UNTESTED.iter().any(|reason| row.result.starts_with(reason));
        assert_eq!(row.tests.is_empty(), excused, "{}: a test or a reason, and not both: {}", row.id, row.result);
    }
}

#[test]
fn the_counts_at_the_top_are_those_of_the_table() {
    let page = page();
    let rows = rows(&page);
    let tried = rows.iter().filter(|row| !row.tests.is_empty()).count();
    let tests: BTreeSet<&String> = rows.iter().flat_map(|row| &row.tests).collect();
    let first = rows.iter().filter(|row| row.priority == 0);
    let shown = first.clone().filter(|row| !row.tests.is_empty()).count();
    let wanted = format!(
        "Cases tried: **{tried}** of {}, by **{}** tests; of priority 0: **{shown}** of {}. Escapes: **0**. Deaths of the daemon: **0**.",
        rows.len(),
        tests.len(),
        first.count()
    );
    assert!(page.contains(&wanted), "{PAGE} should say:\n{wanted}");
}
