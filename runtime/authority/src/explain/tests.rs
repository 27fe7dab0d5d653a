//! What a reviewer reads.

use expect_test::expect;

use super::*;

const MANIFEST: &str = r#"
[remedy]
name = "service-recover"
version = "1.0.0"
serial = 1
summary = "Brings a unit back"
handles = ["service-crash"]

[params.step]
type = "choice"
choices = ["start", "restart"]
default = "start"

[grants.units.target]
unit = { from = "incident" }
verbs = ["status", "start", "restart"]
job_timeout = "90s"
why = "only the unit at fault is brought back"

[grants.files.logs]
dir = { from = "operator" }
match = ["*.log"]
verbs = ["tail"]
why = "its last lines say why it stopped"
"#;

const HOST: &str = r#"
[[unit]]
name = "nginx.service"
verbs = ["start", "restart"]

[[service]]
name = "web"
verbs = ["start"]
"#;

#[test]
fn inspect_says_what_it_may_do_why_and_what_that_comes_to_here() {
    let manifest = Manifest::parse(MANIFEST).unwrap();
    let host = HostConfig::parse(HOST).unwrap();
    let imports = vec!["theriac:remedy/units@0.1.0".to_owned()];
    let approvals = vec!["Approved by ops.example.com/alice until 2027-11-22.".to_owned()];
    let text = inspect(&manifest, Digest::of(b"x"), imports, approvals, Some(&host));
    expect![""].assert_eq(&text);
}

#[test]
fn without_approvals_it_says_so() {
    let manifest = Manifest::parse(MANIFEST).unwrap();
    let text = inspect(&manifest, Digest::of(b"x"), Vec::new(), Vec::new(), None);
    assert!(text.contains("Nobody has approved it"));
    assert!(!text.contains("here:"));
}

#[test]
fn the_json_has_what_the_page_has() {
    let manifest = Manifest::parse(MANIFEST).unwrap();
    let host = HostConfig::parse(HOST).unwrap();
    let json = serde_json::to_value(inspection(&manifest, Digest::of(b"x"), Vec::new(), Vec::new(), Some(&host))).unwrap();
    assert_eq!(json["grants"][0]["label"], "logs");
    assert_eq!(json["grants"][1]["here"][0]["targets"][0], "unit:nginx.service");
}

#[test]
fn diff_says_what_is_asked_for_in_addition() {
    let old = Manifest::parse(MANIFEST).unwrap();
    let new = MANIFEST
        .replace("serial = 1", "serial = 2")
        .replace("\"start\", \"restart\"]\njob_timeout", "\"start\", \"stop\"]\njob_timeout")
        .replace("[grants.files.logs]", "[grants.files.spool]");
    let new = Manifest::parse(&new).unwrap();
    expect![""].assert_eq(&diff(&old, &new).to_string());
    expect![""].assert_eq(&diff(&old, &old).to_string());
}
