//! A real link among real directories.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use theriac_model::call::{Call, Interface, Reply};
use theriac_model::effect::{Observed, UndoClass, UndoOutcome};
use theriac_model::record::Record;
use theriac_model::release::{ReleaseCall, ReleaseName, ReleasePlace};
use theriac_model::target::MountPath;
use theriac_model::time::Timestamp;

use super::world::*;
use crate::recover::{Happened, observe};
use crate::undo::Intent;

const GRANTS: &str = r#"
[grants.releases.app]
unit = { from = "incident" }
verbs = ["current", "previous", "switch-back"]
why = "tests"
"#;

struct App {
    dir: tempfile::TempDir,
    place: Place,
}

/// `web` was at v1 and is at v2.
fn app() -> App {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    let host = format!(
        "[[release]]\nunit = \"web\"\nlink = \"{at}/current\"\nreleases = \"{at}/releases\"\nverbs = [\"switch-back\"]\n"
    );
    let place = place_granting(GRANTS, &host);
    for release in ["v1", "v2", "v3"] {
        std::fs::create_dir_all(dir.path().join("releases").join(release)).unwrap();
    }
    symlink("releases/v2", dir.path().join("current")).unwrap();
    let app = App { dir, place };
    for (at, release) in [(1000, "v1"), (2000, "v2")] {
        app.place.world.releases.note(&app.at(), &ReleaseName::parse(release).unwrap(), Timestamp(at));
    }
    app
}

impl App {
    fn at(&self) -> ReleasePlace {
        let path = |name: &str| MountPath::parse(self.dir.path().join(name).to_str().unwrap()).unwrap();
        ReleasePlace { link: path("current"), releases: path("releases") }
    }

    fn link(&self) -> PathBuf {
        std::fs::read_link(self.dir.path().join("current")).unwrap()
    }

    /// A deploy by somebody.
    fn deploy(&self, to: &str) {
        std::fs::remove_file(self.dir.path().join("current")).unwrap();
        symlink(to, self.dir.path().join("current")).unwrap();
    }
}

fn ask_for(ask: Ask<'_>, verb: ReleaseCall) -> Reply {
    let handle = open(ask, Interface::Releases, "app");
    ask(Call::Release { handle, verb })
}

fn name_of(reply: Reply) -> String {
    let Reply::Release(info) = reply else { panic!("{reply:?}") };
    info.name
}

#[test]
fn a_service_goes_back_to_its_recorded_release_and_forward_again_by_the_undo() {
    let app = app();
    let done = app.place.both(|ask| {
        assert_eq!(name_of(ask_for(ask, ReleaseCall::Previous)), "v1");
        assert_eq!(ask_for(ask, ReleaseCall::SwitchBack), Reply::Done);
        assert_eq!(name_of(ask_for(ask, ReleaseCall::Current)), "v1");
    });
    assert!(!done.must_undo(), "{done:?}");
    assert_eq!(app.link(), Path::new("releases/v1"));
    assert_eq!(app.place.undo(), [UndoOutcome::Restored]);
    assert_eq!(app.link(), Path::new("releases/v2"));
    assert_eq!(app.place.undo(), [UndoOutcome::Restored], "twice is harmless");
}

#[test]
fn a_dry_run_switches_nothing_and_plans_an_exact_undo() {
    let app = app();
    let plan = app.place.plan(|ask| assert_eq!(ask_for(ask, ReleaseCall::SwitchBack), Reply::Done));
    assert_eq!(app.link(), Path::new("releases/v2"));
    assert_eq!(plan.effects[0].undo, UndoClass::Exact);
    assert!(plan.effects[0].effect.to_string().ends_with("of web from v2 back to v1"), "{}", plan.effects[0].effect);
}

#[test]
fn without_a_record_there_is_no_previous_release() {
    let app = app();
    app.deploy("releases/v3");
    app.place.plan(|ask| {
        assert_eq!(name_of(ask_for(ask, ReleaseCall::Current)), "v3");
        assert_eq!(denied(ask_for(ask, ReleaseCall::Previous)).rule, "previous");
        assert_eq!(denied(ask_for(ask, ReleaseCall::SwitchBack)).rule, "previous");
    });
}

#[test]
fn a_deploy_in_the_meantime_wins_before_and_after() {
    let app = app();
    let plan = app.place.plan(|ask| assert_eq!(ask_for(ask, ReleaseCall::SwitchBack), Reply::Done));
    app.deploy("releases/v3");
    app.place.world.releases.note(&app.at(), &ReleaseName::parse("v3").unwrap(), Timestamp(3000));
    let mut session = app.place.live(&plan);
    let reply = ask_for(&mut |call| crate::session::Host::answer(&mut session, call), ReleaseCall::SwitchBack);
    assert_eq!(denied(reply).rule, "plan.effects", "back from v3 was never planned");
    drop(session);
    assert_eq!(app.link(), Path::new("releases/v3"));

    let app = self::app();
    app.place.both(|ask| assert_eq!(ask_for(ask, ReleaseCall::SwitchBack), Reply::Done));
    app.deploy("releases/v3");
    assert!(matches!(app.place.undo()[..], [UndoOutcome::ChangedSince { .. }]));
    assert_eq!(app.link(), Path::new("releases/v3"));
}

#[test]
fn a_link_that_leads_out_of_the_releases_is_never_followed() {
    let app = app();
    app.deploy("/etc");
    app.place.plan(|ask| {
        assert_eq!(denied(ask_for(ask, ReleaseCall::Current)).rule, "link");
        assert_eq!(denied(ask_for(ask, ReleaseCall::SwitchBack)).rule, "link");
    });
}

#[test]
fn after_a_crash_the_link_itself_says_whether_it_was_switched() {
    let app = app();
    app.place.both(|ask| assert_eq!(ask_for(ask, ReleaseCall::SwitchBack), Reply::Done));
    let entries = app.place.without_outcomes();
    let intent = entries.iter().find(|entry| matches!(entry.record, Record::Intent { .. })).unwrap();
    let happened = || observe(&app.place.world, &Intent::of(&intent.record).unwrap());
    let v1 = ReleaseName::parse("v1").unwrap();
    assert_eq!(happened(), Happened::Yes(Observed::Release(v1)));
    app.deploy("releases/v2");
    assert_eq!(happened(), Happened::No);
    app.deploy("releases/v3");
    assert!(matches!(happened(), Happened::Unknown { .. }));
}
