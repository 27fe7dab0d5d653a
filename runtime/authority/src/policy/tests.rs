use proptest::prelude::*;
use theriac_model::catalog::Mode;
use theriac_model::database::{DatabaseEffect, DatabaseVerb};
use theriac_model::effect::{Effect, FileId, FileVerb, Observed, UndoClass, UnitVerb};
use theriac_model::fault::FaultKind;
use theriac_model::id::{Digest, IncidentId, Label, RemedyName, UnitName};
use theriac_model::plan::{Plan, PlannedEffect};
use theriac_model::remedy::{Params, RemedyRef, Wasi};
use theriac_model::target::MountPath;
use theriac_model::unit::{ActiveState, KillWhom, Signal};

use super::facts::Traits;
use super::*;
use crate::host::HostConfig;

pub(crate) fn file(ino: u64, verb: FileVerb) -> Effect {
    let dir = MountPath::parse("/var/log").unwrap();
    let file = FileId { dev: 1, ino, dir, path: format!("{ino}.gz"), deleted: false };
    Effect::File { label: Label::parse("logs").unwrap(), file, verb }
}

pub(crate) fn unit(verb: UnitVerb) -> Effect {
    let (label, unit) = (Label::parse("target").unwrap(), UnitName::parse("web").unwrap());
    Effect::Unit { label, unit, invocation: "a1".into(), verb }
}

pub(crate) fn planned(effect: Effect, undo: UndoClass) -> PlannedEffect {
    let before = Observed::Unit { active: ActiveState::Active, invocation: "a1".into(), sub: "running".into() };
    PlannedEffect { effect, undo, guards: Vec::new(), before, reproducible: false, risk: Permille::ZERO }
}

pub(crate) fn plan(effects: Vec<PlannedEffect>) -> Plan {
    Plan {
        incident: IncidentId::parse("i-1").unwrap(),
        kind: FaultKind::ServiceUnhealthy,
        target: "unit:web".parse().unwrap(),
        remedy: RemedyRef {
            name: RemedyName::parse("disk-reclaim").unwrap(),
            version: "1.2.0".into(),
            serial: 7,
            component: Digest::of(b"component"),
        },
        params: Params::new(),
        rung: None,
        effects,
        report: String::new(),
    }
}

pub(crate) fn compensated() -> UndoClass {
    UndoClass::Compensated { inverse: "start".into() }
}

fn built_in() -> Policies {
    Policies::new(&[]).unwrap()
}

fn with(text: &str) -> Result<Policies, PolicyError> {
    Policies::new(&[PolicyFile { name: "site.cedar".into(), text: text.into() }])
}

fn facts() -> Facts {
    Facts {
        remedy: RemedyName::parse("service-recover").unwrap(),
        mode: Mode::Relaxed,
        kind: FaultKind::ServiceCrash,
        target: "unit:web".parse().unwrap(),
        level: Level::ONE,
        risk: Permille::ZERO,
        traffic_share: None,
        traits: Traits::default(),
        verbs: ["units.start".to_owned()].into(),
        non_idempotent: std::collections::BTreeSet::new(),
        to_be_named: std::collections::BTreeSet::new(),
    }
}

fn host(share: &str) -> HostConfig {
    HostConfig::parse(&format!("[[service]]\nname = \"web\"\nverbs = [\"restart\"]\n{share}")).unwrap()
}

fn facts_of(effects: Vec<PlannedEffect>, host: &HostConfig) -> Facts {
    Facts::of(
        &plan(effects),
        &Setting { mode: Mode::Relaxed, rung: Level::ONE, in_window: false, wasi: Wasi::None, host },
    )
}

#[test]
fn the_shipped_cases_are_decided_as_they_say() {
    let policies = built_in();
    for case in cases::shipped().unwrap() {
        let decision = policies.decide(&case.facts);
        assert_eq!(word(decision.action), case.expect, "{}: {}", case.name, decision.summary);
    }
}

#[test]
fn an_operator_can_forbid_remedies_with_a_sealed_wasi_and_only_those() {
    let text = r#"@id("no-wasi") @why("no interpreters here") forbid (
        principal,
        action in [Theriac::Action::"run", Theriac::Action::"run-and-tell", Theriac::Action::"run-with-consent"],
        resource
    ) when { context.sealed_wasi };"#;
    let policies = with(text).unwrap();
    let of = |wasi| {
        let setting = Setting { mode: Mode::Relaxed, rung: Level::ONE, in_window: false, wasi, host: &host("") };
        let start = UnitVerb::Start;
        policies.decide(&Facts::of(&plan(vec![planned(unit(start), compensated())]), &setting))
    };
    let refused = of(Wasi::Sealed);
    assert_eq!((refused.action, refused.rules.as_slice()), (Action::Refuse, ["no-wasi".to_owned()].as_slice()));
    assert!(refused.summary.contains("no interpreters here"), "{}", refused.summary);
    assert_eq!(of(Wasi::None).action, Action::Run);
}

// CF40, CF41.
#[test]
fn levels_have_exact_bounds() {
    let by_risk = |risk| level(Level::ONE, Permille::new(risk).unwrap()).get();
    assert_eq!([0, 300, 301, 700, 701, 1000].map(by_risk), [1, 1, 2, 2, 3, 3]);
    assert_eq!(level(Level::THREE, Permille::ZERO), Level::THREE);
    assert_eq!(level(Level::TWO, Permille::new(701).unwrap()), Level::THREE);
}

#[test]
fn a_decision_names_its_policies_and_says_why() {
    let mut facts = facts();
    facts.traits.irreversible = true;
    let decision = built_in().decide(&facts);
    assert_eq!(decision.action, Action::RunWithConsent);
    assert_eq!(decision.rules, ["a-person-may-consent", "person-irreversible"]);
    assert_eq!(
        decision.summary,
        "waits for a person's yes: it can't be taken back, and the data is not classed as reproducible"
    );
    facts.traits.irreversible = false;
    assert_eq!(built_in().decide(&facts).rules, ["relaxed-1-runs"]);
}

// CF38.
#[test]
fn an_operators_forbid_wins_and_a_permit_can_name_a_verb() {
    let nightly = with(r#"@id("no-restarts") @why("restarts are done by hand here")
        forbid (principal, action in [Theriac::Action::"run", Theriac::Action::"run-and-tell"], resource == Theriac::Target::"unit:web")
        when { context.verbs.contains("units.start") };"#).unwrap();
    assert_eq!(nightly.decide(&facts()).action, Action::RunWithConsent);
    let mut elsewhere = facts();
    elsewhere.target = "unit:api".parse().unwrap();
    assert_eq!(nightly.decide(&elsewhere).action, Action::Run);

    let mut signal = facts();
    signal.verbs = ["processes.signal".to_owned()].into();
    signal.non_idempotent = signal.verbs.clone();
    signal.to_be_named = signal.verbs.clone();
    assert_eq!(built_in().decide(&signal).action, Action::RunWithConsent);
    let named = with(
        r#"@id("name-signal") permit (principal, action == Theriac::Action::"use-verb",
        resource == Theriac::Verb::"processes.signal");"#,
    )
    .unwrap();
    assert_eq!(named.decide(&signal).action, Action::Run);
}

// CF40.
#[test]
fn no_permit_of_an_operator_lifts_what_always_needs_a_person() {
    let open = with(r#"@id("everything") permit (principal, action, resource);"#).unwrap();
    assert_eq!(open.decide(&facts()).action, Action::Run);
    let mut observe = facts();
    observe.mode = Mode::Observe;
    assert_eq!(open.decide(&observe).action, Action::Refuse);
    let mut unknown = facts();
    unknown.kind = FaultKind::Unknown;
    assert_eq!(open.decide(&unknown).action, Action::RunWithConsent);
}

// CF01.
#[test]
fn policies_with_a_mistake_are_refused_with_file_and_place() {
    let refused = |text: &str| with(text).unwrap_err().to_string();
    assert!(refused("\n\npermit (").starts_with("`site.cedar`, line 3:"), "{}", refused("\n\npermit ("));
    assert!(refused("permit (principal, action, resource);").contains("has no `@id"));
    assert!(
        refused(r#"@id("relaxed-1-runs") permit (principal, action, resource);"#)
            .contains("another policy with the id")
    );
    assert!(refused(r#"@id("t") permit (principal == ?principal, action, resource);"#).contains("template"));
    let misspelt =
        r#"@id("m") forbid (principal, action == Theriac::Action::"run", resource) when { context.riks > 5 };"#;
    assert!(refused(misspelt).contains("`site.cedar`, policy `m`:"), "{}", refused(misspelt));
}

#[test]
fn a_policy_that_fails_refuses_instead_of_being_skipped() {
    let overflow = with(
        r#"@id("sum") forbid (principal, action == Theriac::Action::"run", resource)
        when { context.risk + 9223372036854775807 > 0 };"#,
    )
    .unwrap();
    let mut facts = facts();
    facts.risk = Permille::new(1).unwrap();
    let decision = overflow.decide(&facts);
    assert_eq!((decision.action, decision.rules), (Action::Refuse, vec!["policy-error".to_owned()]));
}

#[test]
fn a_database_counts_with_its_own_share_of_the_traffic() {
    let label = || Label::parse("main").unwrap();
    let verb = DatabaseVerb::Set { setting: theriac_model::database::Setting::LockTimeout, value: 1 };
    let set = || {
        planned(
            Effect::Database(DatabaseEffect { label: label(), database: label(), verb: verb.clone() }),
            UndoClass::Exact,
        )
    };
    let listed = |more: &str| {
        HostConfig::parse(&format!("[[database]]\nname = \"main\"\nkind = \"postgres\"\n{more}\n")).unwrap()
    };
    let facts = facts_of(vec![set(), set()], &listed("traffic_share = 0.4"));
    assert_eq!(facts.traffic_share, Permille::new(400).ok(), "one server counts once");
    assert!(facts.traits.affects_service && !facts.traits.database_schema);
    assert_eq!(facts_of(vec![set()], &listed("")).traffic_share, None);
}

#[test]
fn traffic_that_could_be_affected_is_added_up_and_unknown_stays_unknown() {
    let restart = || planned(unit(UnitVerb::Restart), compensated());
    let share = |host: &HostConfig| facts_of(vec![restart(), restart()], host).traffic_share;
    assert_eq!(share(&host("traffic_share = 0.4")), Permille::new(400).ok(), "one unit counts once");
    assert_eq!(share(&host("")), None);
    let start = facts_of(vec![planned(unit(UnitVerb::Start), compensated())], &host(""));
    assert!(!start.traits.affects_service);
}

#[test]
fn a_plan_cant_talk_its_risk_down() {
    let restart = planned(unit(UnitVerb::Restart), compensated());
    assert_eq!(restart.risk, Permille::ZERO, "what the plan claims");
    assert_eq!(facts_of(vec![restart], &host("traffic_share = 0.1")).risk.get(), 180);
}

#[test]
fn the_facts_tell_a_kill_from_a_start_and_security_from_the_rest() {
    let kill = UnitVerb::Kill { whom: KillWhom::All, signal: Signal::Kill };
    let facts = facts_of(vec![planned(unit(kill), compensated())], &host(""));
    assert!(facts.non_idempotent.contains("units.kill") && !facts.traits.security_configuration);
    let Effect::Unit { label, invocation, verb, .. } = unit(UnitVerb::Restart) else { unreachable!() };
    let ssh = Effect::Unit { label, unit: UnitName::parse("ssh.service").unwrap(), invocation, verb };
    assert!(facts_of(vec![planned(ssh, compensated())], &host("")).traits.security_configuration);
    let Effect::File { label, mut file, verb } = file(1, FileVerb::Truncate { bytes: 1 }) else { unreachable!() };
    file.dir = MountPath::parse("/var/lib/mysql").unwrap();
    let ibd = Effect::File { label, file, verb };
    assert!(facts_of(vec![planned(ibd, UndoClass::Exact)], &host("")).traits.database_schema);
}

#[test]
fn two_thousand_rotated_logs_are_one_decision() {
    let lost = || UndoClass::Irreversible { reason: "unlinked".into() };
    let effects = (0..2000)
        .map(|ino| PlannedEffect { reproducible: true, ..planned(file(ino, FileVerb::Remove { bytes: 1 }), lost()) });
    let facts = facts_of(effects.collect(), &host(""));
    assert_eq!((facts.risk.get(), facts.level), (60, Level::ONE));
}

#[test]
fn the_explanation_names_each_action_and_who_decided() {
    let mut facts = facts();
    facts.traits.database_schema = true;
    let text = built_in().explain(&facts);
    for part in ["run: forbidden", "person-database (built in): it changes the files", "run-with-consent: permitted"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_check_shows_where_an_operators_file_changes_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(check(dir.path()).unwrap().changed().count(), 0);
    std::fs::write(
        dir.path().join("site.cedar"),
        r#"@id("ask") forbid (principal, action == Theriac::Action::"run", resource);"#,
    )
    .unwrap();
    let report = check(dir.path()).unwrap();
    assert_eq!(report.files, ["site.cedar"]);
    assert!(report.changed().all(|case| case.built_in == "run") && report.changed().count() > 0);
    std::fs::write(dir.path().join("other.cedar"), "permit").unwrap();
    assert!(check(dir.path()).is_err(), "one bad file refuses all");
}

/// The decision in forty lines of Rust, written from design.md and not from the Cedar file.
fn reference(facts: &Facts) -> Action {
    let traits = facts.traits;
    if facts.mode == Mode::Observe || traits.in_window {
        return Action::Refuse;
    }
    let heavy = traits.affects_service && facts.traffic_share.is_none_or(|share| share.get() > 500);
    let named = |verb: &String| match verb.as_str() {
        "units.restart" => facts.kind != FaultKind::Unknown,
        "units.kill" => matches!(
            facts.kind,
            FaultKind::ServiceUnhealthy
                | FaultKind::ServiceCrash
                | FaultKind::StartLimitHit
                | FaultKind::CpuSaturation
                | FaultKind::MemoryLeak
                | FaultKind::OomKill
        ),
        _ => false,
    };
    let person = facts.kind == FaultKind::Unknown
        || heavy
        || traits.irreversible
        || traits.database_schema
        || traits.security_configuration
        || !facts.to_be_named.iter().all(named);
    match (facts.mode, facts.level.get()) {
        _ if person => Action::RunWithConsent,
        (Mode::Relaxed, 1) => Action::Run,
        (Mode::Relaxed, 2) | (Mode::Strict, 1) => Action::RunAndTell,
        _ => Action::RunWithConsent,
    }
}

prop_compose! {
    fn any_facts()(
        mode in prop::sample::select(vec![Mode::Observe, Mode::Strict, Mode::Relaxed, Mode::Relaxed]),
        kind in prop::sample::select(FaultKind::ALL.to_vec()),
        target in prop::sample::select(vec!["unit:web", "mount:/var", "host", "container:api"]),
        rung in 1_u8..=3,
        risk in prop_oneof![0_u16..=1000, prop::sample::select(vec![300, 301, 700, 701])],
        share in prop::option::of(prop_oneof![0_u16..=1000, prop::sample::select(vec![500, 501])]),
        flags in prop::array::uniform7(prop::bool::weighted(0.2)),
        verbs in prop::collection::btree_set(
            prop::sample::select(vec!["units.restart", "units.kill", "processes.signal", "files.append", "firewall.add"]), 0..3),
    ) -> Facts {
        let risk = Permille::new(risk).unwrap();
        let [affects_service, irreversible, reproducible, in_window, database_schema, security_configuration, sealed_wasi] =
            flags;
        let verbs: std::collections::BTreeSet<String> = verbs.into_iter().map(str::to_owned).collect();
        Facts {
            mode, kind, risk,
            target: target.parse().unwrap(),
            level: level(Level::new(rung).unwrap(), risk),
            traffic_share: share.map(|share| Permille::new(share).unwrap()),
            traits: Traits {
                affects_service, irreversible, reproducible, in_window, database_schema, security_configuration, sealed_wasi,
            },
            non_idempotent: verbs.iter().filter(|verb| *verb != "firewall.add").cloned().collect(),
            to_be_named: verbs.clone(),
            verbs,
            ..facts()
        }
    }
}

#[test]
fn the_firewall_asks_a_person_until_a_policy_names_its_verb() {
    let mut block = facts();
    (block.kind, block.level) = (FaultKind::TrafficFlood, Level::TWO);
    block.verbs = ["firewall.add".to_owned()].into();
    block.to_be_named = block.verbs.clone();
    let asked = built_in().decide(&block);
    assert_eq!(asked.action, Action::RunWithConsent);
    assert!(asked.summary.contains("no policy names `firewall.add`"), "{}", asked.summary);
    let named = with(
        r#"@id("name-firewall") permit (principal, action == Theriac::Action::"use-verb",
        resource == Theriac::Verb::"firewall.add") when { context.kind == "traffic-flood" };"#,
    )
    .unwrap();
    assert_eq!(named.decide(&block).action, Action::RunAndTell);
    block.kind = FaultKind::ServiceCrash;
    assert_eq!(named.decide(&block).action, Action::RunWithConsent, "for another fault it is not named");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    // CF38.
    #[test]
    fn cedar_and_a_small_reference_agree(facts in any_facts()) {
        thread_local!(static POLICIES: Policies = built_in());
        let decision = POLICIES.with(|policies| policies.decide(&facts));
        prop_assert_eq!(decision.action, reference(&facts), "{}", decision.summary);
    }

    // CF38.
    #[test]
    fn the_order_of_policies_changes_nothing(facts in any_facts(), seed in any::<u64>()) {
        let files = [
            r#"@id("a") permit (principal, action == Theriac::Action::"run", resource) when { context.level == 2 };"#,
            r#"@id("b") forbid (principal, action == Theriac::Action::"run", resource) when { context.risk > 100 };"#,
            r#"@id("c") forbid (principal, action, resource) when { principal == Theriac::Remedy::"other" };"#,
        ];
        let mut order = [0, 1, 2];
        order.rotate_left((seed % 3) as usize);
        if seed % 2 == 0 { order.swap(0, 1); }
        let read = |order: [usize; 3]| {
            let file = |index: usize| PolicyFile { name: format!("{index}.cedar"), text: files[index].into() };
            Policies::new(&order.map(file)).unwrap()
        };
        thread_local!(static STRAIGHT: std::cell::OnceCell<Policies> = const { std::cell::OnceCell::new() });
        let straight = STRAIGHT.with(|cell| cell.get_or_init(|| read([0, 1, 2])).decide(&facts));
        if seed % 16 == 0 {
            prop_assert_eq!(read(order).decide(&facts), straight);
        }
    }
}
