//! A service that its new release made sick goes back to the one it had: the shipped remedy, real directories, a real link.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use theriac_model::record::{Proposal, Record};
use theriac_model::release::ReleaseName;
use theriac_model::run::RunState;

use crate::host::{Host, Service, Setup, playbook, proposal};

/// Where the releases of one service are: v2.3.1 is in use, v2.3.2 is there too.
#[derive(Debug, Clone)]
pub(crate) struct Releases {
    link: PathBuf,
    dir: PathBuf,
}

impl Releases {
    pub(crate) fn make(below: &Path) -> Self {
        let (link, dir) = (below.join("app/current"), below.join("app/releases"));
        for name in ["v2.3.1", "v2.3.2"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        symlink("releases/v2.3.1", &link).unwrap();
        Self { link, dir }
    }

    /// A file of the release that is in use.
    pub(crate) fn file(&self, name: &str) -> String {
        self.link.join(name).display().to_string()
    }

    pub(crate) fn put(&self, release: &str, name: &str) {
        fs::write(self.dir.join(release).join(name), "").unwrap();
    }

    /// Its table in runner.toml.
    pub(crate) fn listed(&self, unit: &str, verbs: &str) -> String {
        let Self { link, dir } = self;
        format!("\n[[release]]\nunit = \"{unit}\"\nlink = {link:?}\nreleases = {dir:?}\nverbs = [{verbs}]\n")
    }

    /// As a deploy tool does it: a new link takes the old one's place. The runner has seen both.
    pub(crate) fn deploy(&self, host: &Host, release: &str) {
        Self::wait_until_seen(host, &self.in_use());
        let new = self.link.with_file_name("next");
        symlink(Path::new("releases").join(release), &new).unwrap();
        fs::rename(new, &self.link).unwrap();
        Self::wait_until_seen(host, release);
    }

    fn wait_until_seen(host: &Host, release: &str) {
        let wanted = ReleaseName::parse(release).unwrap();
        let seen = |record: &Record| matches!(record, Record::ReleaseSeen { release, .. } if *release == wanted);
        host.wait_for_records("the release to be seen", 1, seen);
    }

    pub(crate) fn in_use(&self) -> String {
        fs::read_link(&self.link).unwrap().file_name().unwrap().to_str().unwrap().to_owned()
    }
}

/// `app` answers 200 as long as its release holds the file `works`: v2.3.1 does, v2.3.2 does not.
struct App {
    host: Host,
    service: Service,
    releases: Releases,
}

const WORKS: &str = "works";

impl App {
    fn at_v2_3_1(verbs: &str) -> Self {
        let dir = Host::scratch();
        let releases = Releases::make(dir.path());
        releases.put("v2.3.1", WORKS);
        let mut service = Service::new("app");
        service.args = vec!["--needs".into(), releases.file(WORKS)];
        service.rules = releases.listed("app", verbs);
        let rung = "  - remedy: release-return\n    level: 3\n    healed_within: 3s\n    stable_for: 300ms\n";
        let setup = Setup {
            services: vec![service.clone()],
            remedies: vec!["release-return"],
            playbooks: vec![("test.yaml", playbook("test", "service-unhealthy", "unit:app", rung))],
            ..Setup::default()
        };
        let host = Host::start_in(dir, &setup);
        Host::wait_for_status(&service, "200");
        Self { host, service, releases }
    }

    fn deploy_v2_3_2(&self) {
        self.releases.deploy(&self.host, "v2.3.2");
        Host::wait_for_status(&self.service, "503");
    }

    fn proposal() -> Proposal {
        proposal("i-1", "service-unhealthy", "unit:app", "test", "release-return")
    }
}

#[test]
fn a_bad_release_is_left_for_the_one_before_once_a_person_agrees() {
    let app = App::at_v2_3_1("\"switch-back\"");
    app.deploy_v2_3_2();
    let sick = app.host.main_pid("app");

    let plan = app.host.consent(&App::proposal());
    let run = app.host.wait_for(&App::proposal(), RunState::is_terminal);

    assert_eq!(run.state, RunState::Committed, "{run:?}\n{:#?}", app.host.records());
    assert!(plan[0].ends_with("from v2.3.2 back to v2.3.1"), "{plan:?}");
    assert_eq!(app.releases.in_use(), "v2.3.1");
    Host::wait_for_status(&app.service, "200");
    assert_ne!(app.host.main_pid("app"), sick, "it was started again, on that release");
}

#[test]
fn where_the_release_before_does_not_help_the_service_goes_forward_again() {
    let app = App::at_v2_3_1("\"switch-back\"");
    app.deploy_v2_3_2();
    // Its data was migrated, say: the old release does not work any more.
    fs::remove_file(app.releases.dir.join("v2.3.1").join(WORKS)).unwrap();
    let before = app.host.main_pid("app");

    app.host.consent(&App::proposal());
    let run = app.host.wait_for(&App::proposal(), RunState::is_terminal);

    assert_eq!(run.state, RunState::Undone, "{run:?}\n{:#?}", app.host.records());
    assert_eq!(app.releases.in_use(), "v2.3.2");
    app.host.wait_for_unit("app", theriac_model::unit::UnitState::is_up);
    assert_ne!(app.host.main_pid("app"), before);
    let entries = app.host.entries();
    let undone = entries.iter().filter(|entry| matches!(entry.record, Record::UndoDone { .. })).count();
    assert_eq!(undone, 2, "the restart and the switch");
}

#[test]
fn without_the_operators_leave_a_release_is_not_touched() {
    let app = App::at_v2_3_1("");
    app.deploy_v2_3_2();

    let run = app.host.heal(&App::proposal());

    assert_eq!(run.state, RunState::Refused, "{run:?}");
    assert_eq!(app.releases.in_use(), "v2.3.2");
    let denied = |record: &Record| match record {
        Record::Denied { denial, .. } => denial.suggestion.clone(),
        _ => None,
    };
    let denials: Vec<String> = app.host.records().iter().filter_map(denied).collect();
    assert!(denials.iter().any(|denial| denial.contains("verbs = [\"switch-back\"]")), "{denials:?}");
}
