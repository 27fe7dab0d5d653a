use theriac_model::effect::{Effect, FileVerb, UndoClass, UnitVerb};
use theriac_model::id::{IncidentId, Label, UnitName};
use theriac_model::plan::PlannedEffect;
use theriac_model::record::Record;
use theriac_model::remedy::ParamValue;
use theriac_model::run::RunEvent;
use theriac_model::time::{GuardTime, Timestamp};
use theriac_model::unit::{KillWhom, Signal};

use super::*;
use crate::consent::Question;
use crate::effective::bind;
use crate::guardrail::tests::{Story, proposal, run_id};
use crate::policy::tests::{compensated, file, plan, planned, unit};
use crate::trust::tests::{ALL_CLASSES, BEGIN, NOON, approve, component, disk_manifest, entry, signer, year};
use crate::trust::{Candidate, TrustStore};

/// A host, an approved remedy and a run whose plan is being decided about.
struct Scene {
    host: HostConfig,
    approved: Approved,
    policies: Policies,
    story: Story,
    plan: Plan,
    now: Moment,
    window: Option<String>,
}

const HOST: &str = r#"
    mode = "relaxed"
    [[service]]
    name = "web"
    verbs = ["restart", "start"]
    traffic_share = 0.2
    [[directory]]
    path = "/var/log"
    label = "logs"
    verbs = ["remove"]
    reproducible = ["1.gz"]
"#;

fn restart() -> PlannedEffect {
    planned(unit(UnitVerb::Restart), compensated())
}

fn remove(ino: u64, bytes: u64, reproducible: bool) -> PlannedEffect {
    let lost = UndoClass::Irreversible { reason: "unlinked".into() };
    PlannedEffect { reproducible, ..planned(file(ino, FileVerb::Remove { bytes }), lost) }
}

impl Scene {
    fn new(effects: Vec<PlannedEffect>) -> Self {
        let (alice, manifest) = (signer("alice"), disk_manifest());
        let store = TrustStore::parse(&entry(&alice, r#"["*"]"#, ALL_CLASSES)).unwrap();
        let note = approve(&manifest, year(), &[&alice]);
        let candidate = Candidate { manifest: &manifest, component: component(), note: Some(&note) };
        let now = Moment::new(NOON, BEGIN);
        let approved = store.judge(&candidate, now, |_| None).unwrap();
        let mut plan = plan(effects);
        plan.params.insert(Label::parse("keep_days").unwrap(), ParamValue::Integer(7));
        let mut story = Story::default();
        story.reserve("r-1", &proposal("i-1", "unit:web", 0));
        story.write(Record::Planned { run: run_id("r-1"), plan: Box::new(plan.clone()), hash: plan.hash() });
        story.go("r-1", &[RunEvent::Planned]);
        let host = HostConfig::parse(HOST).unwrap();
        Self { host, approved, policies: Policies::new(&[]).unwrap(), story, plan, now, window: None }
    }

    fn host(mut self, from: &str, to: &str) -> Self {
        assert!(HOST.contains(from));
        self.host = HostConfig::parse(&HOST.replace(from, to)).unwrap();
        self
    }

    fn decide(&self) -> Decided {
        self.decide_with(None)
    }

    fn decide_with(&self, consent: Option<&Consent>) -> Decided {
        let situation = Situation { window: self.window.clone(), ..self.story.situation() };
        authorise(&Request {
            run: &run_id("r-1"),
            plan: &self.plan,
            rung: Level::ONE,
            approved: &self.approved,
            host: &self.host,
            policies: &self.policies,
            standing: &self.story.standing,
            situation: &situation,
            now: self.now,
            consent,
        })
    }

    fn question(&self) -> Question {
        Question { incident: self.plan.incident.clone(), run: run_id("r-1"), plan: self.plan.hash() }
    }

    /// The rule and no warrant.
    fn refused(&self) -> String {
        let decided = self.decide();
        assert!(decided.warrant.is_none(), "{}", decided.decision.summary);
        decided.decision.rules.join(", ")
    }
}

#[test]
fn a_plan_within_its_grants_gets_a_warrant_for_exactly_itself() {
    let scene = Scene::new(vec![restart()]);
    let decided = scene.decide();
    assert_eq!(decided.decision.action, Action::Run, "{}", decided.decision.summary);
    let warrant = decided.warrant.unwrap();
    assert_eq!((warrant.plan(), warrant.hash()), (&scene.plan, scene.plan.hash()));
    assert_eq!(warrant.run(), &run_id("r-1"));
    assert_eq!(warrant.deadline(), GuardTime(60_000), "30 s for the remedy, 30 s for the job");
    assert!(!warrant.tells());
    assert_eq!(Permit::grants(&warrant).units.len(), 1);
}

#[test]
fn an_effect_outside_the_grants_gets_none_and_its_neighbour_inside_does() {
    let kill = UnitVerb::Kill { whom: KillWhom::All, signal: Signal::Kill };
    let Effect::Unit { label, invocation, verb, .. } = unit(UnitVerb::Restart) else { unreachable!() };
    let elsewhere = Effect::Unit { label, unit: UnitName::parse("api").unwrap(), invocation, verb };
    let Effect::File { file: id, verb, .. } = file(1, FileVerb::Remove { bytes: 1 }) else { unreachable!() };
    let no_such_label = Effect::File { label: Label::parse("other").unwrap(), file: id, verb };
    let Effect::File { label, mut file, verb } = file(1, FileVerb::Remove { bytes: 1 }) else { unreachable!() };
    file.path = "../../etc/passwd.gz".into();
    let climbing = Effect::File { label, file, verb };
    for outside in [
        unit(kill),
        unit(UnitVerb::Start),
        elsewhere,
        no_such_label,
        climbing,
        crate::policy::tests::file(1, FileVerb::Truncate { bytes: 1 }),
    ] {
        assert_eq!(Scene::new(vec![planned(outside.clone(), compensated())]).refused(), "grants", "{outside}");
    }
    assert!(Scene::new(vec![remove(1, 1, true)]).decide().warrant.is_some());
}

#[test]
fn the_sums_of_a_plan_are_held_to_the_grant() {
    let mib = 1 << 20;
    assert!(Scene::new(vec![remove(1, mib, true)]).decide().warrant.is_some());
    assert_eq!(Scene::new(vec![remove(1, mib + 1, true)]).refused(), "grants");
    assert_eq!(Scene::new(vec![remove(1, mib, true), remove(1, 1, true)]).refused(), "grants");
    assert_eq!(Scene::new(vec![remove(1, 1, true), remove(1, 1, true), remove(1, 1, true)]).refused(), "grants");
}

#[test]
fn a_plan_cant_call_data_reproducible_that_root_does_not() {
    assert_eq!(Scene::new(vec![remove(2, 1, true)]).refused(), "grants");
    let honest = Scene::new(vec![remove(2, 1, false)]).decide();
    assert_eq!(honest.decision.action, Action::RunWithConsent);
    assert!(honest.warrant.is_none());
}

#[test]
fn what_the_operator_does_not_leave_is_not_granted() {
    let scene = Scene::new(vec![restart()]);
    assert!(scene.decide().warrant.is_some());
    assert_eq!(scene.host(r#"verbs = ["restart", "start"]"#, r#"verbs = ["start"]"#).refused(), "grants");
}

// CF40.
#[test]
fn modes_decide_who_is_asked() {
    let with = |mode: &str| Scene::new(vec![restart()]).host("\"relaxed\"", mode).decide();
    let told = with("\"strict\"");
    assert_eq!(told.decision.action, Action::RunAndTell);
    assert!(told.warrant.unwrap().tells());
    let observed = with("\"observe\"");
    assert_eq!((observed.decision.action, observed.warrant.is_none()), (Action::Refuse, true));
    assert!(HostConfig::parse("mode = \"disabled\"").is_err());
}

#[test]
fn a_person_is_asked_and_a_yes_to_this_plan_makes_the_warrant() {
    let scene = Scene::new(vec![restart()]).host("traffic_share = 0.2", "traffic_share = 0.6");
    let asked = scene.decide();
    assert_eq!((asked.decision.action, asked.warrant.is_none()), (Action::RunWithConsent, true));
    let yes = Consent::from_peer(scene.question(), 0);
    let granted = scene.decide_with(Some(&yes));
    assert_eq!(granted.decision.rules.last().map(String::as_str), Some("consent"));
    assert!(granted.warrant.is_some());
    for other in [
        Question { run: run_id("r-2"), ..scene.question() },
        Question { incident: IncidentId::parse("i-2").unwrap(), ..scene.question() },
        Question { plan: Scene::new(Vec::new()).plan.hash(), ..scene.question() },
    ] {
        assert!(scene.decide_with(Some(&Consent::from_peer(other, 0))).warrant.is_none());
    }
}

// RN06.
#[test]
fn a_consent_covers_a_later_plan_that_is_part_of_it_and_no_larger_one() {
    let share = |scene: Scene| scene.host("traffic_share = 0.2", "traffic_share = 0.6");
    let mut scene = share(Scene::new(vec![remove(1, 10, true), restart()]));
    let yes = Consent::from_peer(scene.question(), 0);
    scene.story.go("r-1", &[RunEvent::ConsentAsked]);
    scene.story.write(Record::Consented { run: run_id("r-1"), plan: scene.plan.hash(), by: "uid 0".into() });
    let mut smaller = scene.plan.clone();
    smaller.effects.remove(0);
    let mut larger = scene.plan.clone();
    larger.effects.push(restart());
    scene.plan = smaller;
    assert!(scene.decide_with(Some(&yes)).warrant.is_some());
    scene.plan = larger;
    let again = scene.decide_with(Some(&yes));
    assert!(again.warrant.is_none());
    assert!(again.decision.summary.starts_with("the plan is no longer the one that was consented to"));
}

// RN06.
#[test]
fn no_consent_lifts_a_guardrail_or_the_mode() {
    let mut scene = Scene::new(vec![restart()]);
    let yes = Consent::from_peer(scene.question(), 0);
    scene.window = Some("backups run".into());
    let deferred = scene.decide_with(Some(&yes));
    assert_eq!((deferred.decision.action, deferred.warrant.is_none()), (Action::Defer, true));
    scene.window = None;
    assert!(scene.decide_with(Some(&yes)).warrant.is_some());
    scene.story.write(Record::Held { target: None, until: None, by: "uid 0".into() });
    let held = scene.decide_with(Some(&yes));
    assert_eq!((held.decision.rules.as_slice(), held.warrant.is_none()), (["hold".to_owned()].as_slice(), true));
    let observed = Scene::new(vec![restart()]).host("\"relaxed\"", "\"observe\"");
    assert!(observed.decide_with(Some(&yes)).warrant.is_none());
}

// RN06.
#[test]
fn a_plan_that_is_not_this_runs_gets_none() {
    let change = |change: fn(&mut Plan)| {
        let mut scene = Scene::new(vec![restart()]);
        change(&mut scene.plan);
        scene.refused()
    };
    assert_eq!(change(|plan| plan.incident = IncidentId::parse("i-2").unwrap()), "plan");
    assert_eq!(change(|plan| plan.kind = FaultKind::DiskFull), "plan");
    assert_eq!(change(|plan| plan.target = Target::Host), "plan");
    assert_eq!(change(|plan| plan.remedy.serial += 1), "plan");
    assert_eq!(change(|plan| plan.remedy.component = theriac_model::id::Digest::of(b"other")), "plan");
    assert_eq!(change(|plan| plan.params.clear()), "params");
    assert_eq!(
        change(|plan| {
            plan.params.insert(Label::parse("keep_days").unwrap(), ParamValue::Integer(366));
        }),
        "params"
    );
}

#[test]
fn a_run_gets_one_warrant_and_only_while_it_waits_for_one() {
    let mut scene = Scene::new(vec![restart()]);
    assert!(scene.decide().warrant.is_some());
    scene.story.go("r-1", &[RunEvent::Authorised]);
    assert_eq!(scene.refused(), "run");
}

// SG07, SG08.
#[test]
fn an_approval_that_ran_out_while_the_run_waited_counts_no_more() {
    let mut scene = Scene::new(vec![restart()]);
    assert!(scene.decide().warrant.is_some());
    scene.now = Moment::new(year().until, BEGIN);
    assert_eq!(scene.refused(), "approval");
}

#[test]
fn a_dry_run_takes_an_approval_and_a_kind_that_is_treated() {
    let scene = Scene::new(Vec::new());
    let dry = |kind, now| authorise_dry_run(&scene.approved, &scene.host, kind, &scene.plan.target, now);
    assert_eq!(dry(FaultKind::DiskFull, scene.now).unwrap().grants().files.len(), 1);
    assert!(matches!(dry(FaultKind::MemoryLeak, scene.now), Err(DryRunError::Kind { .. })));
    let over = Moment::new(year().until, Timestamp(0));
    assert!(matches!(dry(FaultKind::DiskFull, over), Err(DryRunError::Approval(_))));
}

#[test]
fn an_unsigned_component_can_be_recorded_and_nothing_more() {
    // There is no function from a permit to a warrant: `authorise` takes an `Approved`, and only a judgement makes one.
    let permit = DryRunPermit::unsigned(bind(&disk_manifest(), &HostConfig::default(), &Target::Host));
    assert!(Permit::grants(&permit).files.is_empty(), "an empty configuration leaves nothing to change");
}
