//! A real link among real directories, and the tag of an engine that is a map.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use theriac_model::call::{Call, Interface, Reply};
use theriac_model::denial::DenialCause;
use theriac_model::effect::{Observed, UndoClass, UndoOutcome};
use theriac_model::record::Record;
use theriac_model::release::{ImageId, ImageTag, LinkPlace, ReleaseCall, ReleaseName, ReleasePlace};
use theriac_model::target::MountPath;
use theriac_model::time::Timestamp;

use super::world::*;
use crate::hands::{HandError, Images};
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
        ReleasePlace::Link(LinkPlace { link: path("current"), releases: path("releases") })
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

/// The image that the one tag names, and those that are there.
struct Engine {
    named: Mutex<ImageId>,
    there: Mutex<Vec<ImageId>>,
}

impl Images for Engine {
    fn image(&self, _tag: &ImageTag) -> Result<ImageId, HandError> {
        Ok(self.named.lock().unwrap().clone())
    }

    fn has_image(&self, id: &ImageId) -> Result<(), HandError> {
        let there = self.there.lock().unwrap().contains(id);
        if there { Ok(()) } else { Err(HandError::Stale { reason: format!("no image has the id {id}") }) }
    }

    fn point_tag(&self, tag: &ImageTag, from: &ImageId, to: &ImageId) -> Result<(), HandError> {
        self.has_image(to)?;
        let mut named = self.named.lock().unwrap();
        if *named != *from {
            return Err(HandError::Stale { reason: format!("{tag} is {named} by now") });
        }
        *named = to.clone();
        Ok(())
    }
}

struct Shop {
    place: Place,
    engine: Arc<Engine>,
}

/// `web` is started from `shop:current`, which was image 1 and is image 2.
fn shop() -> Shop {
    let host = "[[release]]\nunit = \"web\"\nimage = \"shop:current\"\nverbs = [\"switch-back\"]\n";
    let mut place = place_granting(GRANTS, host);
    let engine =
        Arc::new(Engine { named: Mutex::new(image(2)), there: Mutex::new(vec![image(1), image(2), image(3)]) });
    place.world.hands.images = Some(Arc::clone(&engine) as Arc<dyn Images>);
    let at = ReleasePlace::Image(ImageTag::parse("shop:current").unwrap());
    for (seen, digit) in [(1000, 1), (2000, 2)] {
        place.world.releases.note(&at, &image(digit).into(), Timestamp(seen));
    }
    Shop { place, engine }
}

fn image(digit: u8) -> ImageId {
    ImageId::parse(&format!("sha256:{}", digit.to_string().repeat(64))).unwrap()
}

impl Shop {
    fn named(&self) -> ImageId {
        self.engine.named.lock().unwrap().clone()
    }

    fn deploy(&self, digit: u8) {
        *self.engine.named.lock().unwrap() = image(digit);
    }
}

#[test]
fn a_tag_goes_back_to_its_recorded_image_and_forward_again_by_the_undo() {
    let shop = shop();
    let plan = shop.place.plan(|ask| assert_eq!(ask_for(ask, ReleaseCall::SwitchBack), Reply::Done));
    assert_eq!(shop.named(), image(2), "a dry run");
    assert_eq!(plan.effects[0].undo, UndoClass::Exact);
    let words = plan.effects[0].effect.to_string();
    assert_eq!(words, format!("switch the image shop:current of web from {} back to {}", image(2), image(1)));

    shop.place.both(|ask| {
        assert_eq!(ask_for(ask, ReleaseCall::SwitchBack), Reply::Done);
        assert_eq!(name_of(ask_for(ask, ReleaseCall::Current)), image(1).to_string());
    });
    assert_eq!(shop.named(), image(1));
    assert_eq!(shop.place.undo(), [UndoOutcome::Restored]);
    assert_eq!(shop.named(), image(2));
}

#[test]
fn a_tag_that_somebody_moved_and_an_image_that_is_gone_are_left_as_they_are() {
    let moved = shop();
    moved.place.both(|ask| assert_eq!(ask_for(ask, ReleaseCall::SwitchBack), Reply::Done));
    moved.deploy(3);
    assert!(matches!(moved.place.undo()[..], [UndoOutcome::ChangedSince { .. }]));
    assert_eq!(moved.named(), image(3));

    let gone = shop();
    gone.engine.there.lock().unwrap().retain(|id| *id != image(1));
    gone.place.plan(|ask| {
        let denial = denied(ask_for(ask, ReleaseCall::SwitchBack));
        assert_eq!((denial.cause, denial.rule.as_str()), (DenialCause::StaleTarget, "image"));
    });

    let mut without = shop();
    without.place.world.hands.images = None;
    without.place.plan(|ask| assert_eq!(denied(ask_for(ask, ReleaseCall::Current)).cause, DenialCause::Unavailable));
}
