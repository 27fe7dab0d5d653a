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
    expect![[r#"
        service-recover 1.0.0 (serial 1)
        sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881
        Brings a unit back

        Treats service-crash. On an unknown result: ask.
        Approved by ops.example.com/alice until 2027-11-22.

        Parameters
          step: one of start, restart (default start)

        It may
          read files `logs`: tail in the operator's directory of this label matching *.log
            why: its last lines say why it stopped
            here: nothing (runner.directory)
              to allow it, runner.toml: in [[directory]] path = "/srv/logs": label = "logs"
          change units `target`: status, start, restart of the incident's unit; jobs at most 90s
            why: only the unit at fault is brought back
            here, for unit:nginx.service: status, start, restart of nginx.service
            here, for unit:web: status, start of web
          use at most 16 MiB of memory, 30s of time, 10000 host calls, 64 handles, 16 KiB of log lines

        It imports theriac:remedy/units@0.1.0

        Whatever its manifest says
          it makes no system call: no files, sockets, environment, clock or random numbers of its own
          it names nothing: it opens the labels below and holds handles to what the runner bound before it started
          what it changes goes through the runner, which journals, and undoes what does not help
          its live run may do only what its dry run planned, in that order and not more
          it starts no program and speaks to no network: what a grant below names, other processes start in a jail or ask for it
          files with several names, links, devices, database files and Theriac's own state are out of reach
    "#]]
    .assert_eq(&text);
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
    let json =
        serde_json::to_value(inspection(&manifest, Digest::of(b"x"), Vec::new(), Vec::new(), Some(&host))).unwrap();
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
    expect![[r#"
        from service-recover 1.0.0 (serial 1)
        to   service-recover 1.0.0 (serial 2)
        + files `spool`: tail in the operator's directory of this label matching *.log
        ~ units `target`: status, start, stop of the incident's unit; jobs at most 90s
          before: status, start, restart of the incident's unit; jobs at most 90s
        - files `logs`: tail in the operator's directory of this label matching *.log
        its rights grew
    "#]]
    .assert_eq(&diff(&old, &new).to_string());
    expect![[r#"
        from service-recover 1.0.0 (serial 1)
        to   service-recover 1.0.0 (serial 1)
        its serial is not higher: where the other was loaded, it is refused
        it asks for nothing else
    "#]]
    .assert_eq(&diff(&old, &old).to_string());
}

#[test]
fn rights_grow_by_what_is_more_and_not_by_what_is_less() {
    let old = Manifest::parse(MANIFEST).unwrap();
    let grew = |change: &dyn Fn(&mut Manifest)| {
        let mut new = old.clone();
        change(&mut new);
        assert_ne!(new, old, "something changed");
        diff(&old, &new).grew
    };
    use crate::manifest::OnAmbiguous;
    use theriac_model::remedy::Wasi;

    assert!(grew(&|new| new.wasi = Wasi::Sealed));
    assert!(grew(&|new| new.limits.host_calls += 1));
    assert!(!grew(&|new| new.limits.host_calls -= 1));
    assert!(!grew(&|new| new.version = "9.9.9".into()));
    assert!(!grew(&|new| drop(new.grants.files.pop_first())));
    assert!(!grew(&|new| new.params.clear()));
    let units =
        |change: &dyn Fn(&mut crate::grant::UnitsGrant)| grew(&|new| new.grants.units.values_mut().for_each(change));
    assert!(units(&|grant| grant.verbs.extend([crate::grant::UnitsVerb::Stop])));
    assert!(!units(&|grant| grant.verbs.retain(|verb| !verb.changes())));
    let bounded = |least, most| {
        let mut manifest = old.clone();
        for grant in manifest.grants.units.values_mut() {
            grant.verbs.extend([crate::grant::UnitsVerb::SetProperty]);
            grant.bounds.tasks_max = Some((least, most));
        }
        manifest
    };
    assert!(diff(&bounded(5, 10), &bounded(5, 11)).grew && diff(&bounded(5, 10), &bounded(4, 10)).grew);
    assert!(!diff(&bounded(5, 10), &bounded(6, 9)).grew);
    let files =
        |change: &dyn Fn(&mut crate::grant::FilesGrant)| grew(&|new| new.grants.files.values_mut().for_each(change));
    assert!(files(&|grant| grant.matching.push("*.txt".into())));
    assert!(!files(&|grant| grant.except.push("secret.log".into())));
    assert!(files(&|grant| grant.verbs.extend([crate::grant::FilesVerb::Remove])));

    let asking = Manifest { on_ambiguous: OnAmbiguous::Ask, ..old.clone() };
    let looking = Manifest { on_ambiguous: OnAmbiguous::Observe, ..old.clone() };
    assert!(diff(&asking, &looking).grew && !diff(&looking, &asking).grew);
}
