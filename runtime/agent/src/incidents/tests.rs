//! The life of an incident, as a specification.

use theriac_analysis::detect::RuleSet;
use theriac_model::catalog::{Mode, TargetSpec, Thresholds};
use theriac_model::fault::{FaultKind, Severity};
use theriac_model::id::{Digest, RemedyName};
use theriac_model::playbook::{Level, Playbook, Rung};
use theriac_model::remedy::{Params, RemedyOffer, RemedyRef};
use theriac_model::run::RunState;
use theriac_model::time::Span;
use theriac_protocol::runner::RunSummary;

use super::*;

/// An incident that was just opened.
pub(crate) fn incident(id: &str) -> Incident {
    Incident {
        id: IncidentId::parse(id).unwrap(),
        state: IncidentState::Opened,
        kind: FaultKind::ServiceCrash,
        target: "unit:web".parse().unwrap(),
        severity: Severity::Critical,
        onset: Timestamp(1_000),
        detected: Timestamp(1_100),
        healed: None,
        stable: None,
        closed: None,
        signals: Vec::new(),
        evidence: Vec::new(),
        diagnosis: None,
        playbook: None,
        runs: Vec::new(),
        timeline: Vec::new(),
    }
}

/// A catalog with one target and a ladder of these remedies, all approved, for crashes and full disks.
pub(crate) fn catalog(target: &str, remedies: &[&str]) -> Catalog {
    let handles = vec![FaultKind::ServiceCrash, FaultKind::DiskFull, FaultKind::ServiceUnhealthy];
    let name = |text: &&str| RemedyName::parse(text).unwrap();
    let rung = |remedy: &&str| Rung {
        remedy: name(remedy),
        params: Params::new(),
        level: Level::ONE,
        healed_within: None,
        stable_for: None,
    };
    let offer = |remedy: &&str| RemedyOffer {
        remedy: RemedyRef { name: name(remedy), version: "1.0.0".into(), serial: 1, component: Digest::of(b"x") },
        summary: String::new(),
        handles: handles.clone(),
        params: std::collections::BTreeMap::new(),
    };
    Catalog {
        targets: vec![TargetSpec {
            target: target.parse().unwrap(),
            traffic_share: None,
            health: Vec::new(),
            thresholds: Thresholds::default(),
            backend: None,
        }],
        playbooks: vec![Playbook {
            name: PlaybookName::parse("ladder").unwrap(),
            summary: String::new(),
            handles: handles.clone(),
            targets: Vec::new(),
            rungs: remedies.iter().map(rung).collect(),
        }],
        remedies: remedies.iter().map(offer).collect(),
        mode: Mode::Relaxed,
        sample_every: Span::from_secs(1),
    }
}

struct Stage {
    incidents: Incidents,
    senses: Senses,
    now: u64,
    acts: Vec<Act>,
}

const MINUTE: u64 = 60_000;

impl Stage {
    fn new(catalog: Catalog) -> Self {
        Self::resume(Vec::new(), catalog)
    }

    fn resume(open: Vec<Incident>, catalog: Catalog) -> Self {
        let now = 1_795_000_000_000;
        let incidents = Incidents::resume(Causes::defaults().unwrap(), open, 1, Timestamp(now));
        let mut stage = Self { incidents, senses: Senses::new(RuleSet::default()), now, acts: Vec::new() };
        stage.step(|incidents, at| incidents.set_catalog(at, catalog));
        stage
    }

    fn step(&mut self, step: impl FnOnce(&mut Incidents, Moment<'_>)) {
        step(&mut self.incidents, Moment { now: Timestamp(self.now), senses: &self.senses });
        self.acts.extend(self.incidents.take().1);
    }

    fn crash(&mut self, resolved: bool) {
        let signal = signal("service-crash", FaultKind::ServiceCrash, resolved, self.now);
        self.step(|incidents, at| incidents.signal(at, signal));
    }

    fn proposals(&self) -> Vec<u32> {
        self.acts
            .iter()
            .filter_map(|act| if let Act::Propose(proposal) = act { Some(proposal.rung) } else { None })
            .collect()
    }

    fn last_proposal(&self) -> Proposal {
        let proposals = self.acts.iter().rev();
        proposals
            .filter_map(|act| if let Act::Propose(proposal) = act { Some((**proposal).clone()) } else { None })
            .next()
            .unwrap()
    }

    fn answer(&mut self, answer: Answer) {
        let proposal = self.last_proposal();
        self.step(|incidents, at| incidents.answered(at, &proposal, answer));
    }

    fn refuse(&mut self, rule: &str) {
        self.answer(Answer::NotAccepted { rule: rule.into(), reason: "so it is".into() });
    }

    fn run(&mut self, state: RunState, change: impl FnOnce(&mut RunSummary)) {
        let proposal = self.last_proposal();
        let mut run = RunSummary {
            run: RunId::parse(&format!("r-{}", proposal.rung)).unwrap(),
            incident: proposal.incident,
            target: proposal.target,
            rung: proposal.rung,
            state,
            reason: "so it is".into(),
            at: Timestamp(self.now),
            first_effect: None,
            healed: None,
            stable: None,
            verdict: None,
            effects: 0,
            tell: false,
            declined: false,
        };
        change(&mut run);
        self.step(|incidents, at| incidents.run(at, &run));
    }

    /// Time passes in steps of a second.
    fn wait(&mut self, millis: u64) {
        for _ in 0..millis / 1_000 {
            self.now += 1_000;
            self.step(|incidents, at| incidents.tick(at));
        }
    }

    fn state(&self) -> Option<IncidentState> {
        self.incidents.open().next().map(|incident| incident.state)
    }

    fn ended(&self) -> Vec<&IncidentSummary> {
        self.acts.iter().filter_map(|act| if let Act::Ended(_, summary) = act { Some(summary) } else { None }).collect()
    }

    fn told(&self) -> Vec<What> {
        self.acts.iter().filter_map(|act| if let Act::Tell(news) = act { Some(news.what) } else { None }).collect()
    }

    fn not_acting(&self) -> Vec<InactionReason> {
        let inaction = |act: &Act| if let Act::NotActing(_, inaction) = act { Some(inaction.reason) } else { None };
        self.acts.iter().filter_map(inaction).collect()
    }
}

fn signal(source: &str, kind: FaultKind, resolved: bool, now: u64) -> Signal {
    Signal {
        source: source.into(),
        kind,
        target: "unit:web".parse().unwrap(),
        severity: Severity::Critical,
        summary: "down".into(),
        numbers: Vec::new(),
        onset: Timestamp(now),
        at: Timestamp(now),
        resolved,
        origin: Origin::Local,
    }
}

fn web(remedies: &[&str]) -> Stage {
    Stage::new(catalog("unit:web", remedies))
}

#[test]
fn a_crash_is_proposed_at_once_and_followed_to_its_stable_end() {
    let mut stage = web(&["a", "b"]);
    stage.crash(false);
    assert_eq!((stage.proposals(), stage.state()), (vec![0], Some(IncidentState::Planned)));
    stage.answer(Answer::Accepted(RunId::parse("r-0").unwrap()));
    stage.run(RunState::Running, |_| {});
    assert_eq!(stage.state(), Some(IncidentState::Healing));
    let healed = Some(Timestamp(stage.now + 400));
    stage.run(RunState::Verifying, |run| (run.healed, run.first_effect) = (healed, healed));
    assert_eq!(stage.state(), Some(IncidentState::Healed));
    stage.crash(true);
    stage.wait(MINUTE);
    assert_eq!(stage.state(), Some(IncidentState::Healed), "only the runner says when it is stable");
    let stable = Some(Timestamp(stage.now));
    stage.run(RunState::Committed, |run| (run.healed, run.stable) = (healed, stable));
    let [summary] = stage.ended()[..] else { panic!("{:?}", stage.acts) };
    assert_eq!((summary.healed_ms, summary.stable_ms), (Some(400), Some(MINUTE)));
    assert!(!summary.escalated && !summary.false_alarm && stage.state().is_none());
    assert_eq!((stage.proposals(), stage.told()), (vec![0], vec![]));
}

#[test]
fn a_run_that_is_undone_leads_to_the_next_rung_and_the_last_to_a_person() {
    let mut stage = web(&["a", "b"]);
    stage.crash(false);
    stage.run(RunState::Running, |run| run.first_effect = Some(Timestamp(1)));
    stage.run(RunState::Undone, |_| {});
    assert_eq!(stage.proposals(), [0, 1]);
    stage.run(RunState::Undone, |_| {});
    assert_eq!((stage.proposals(), stage.state()), (vec![0, 1], Some(IncidentState::Escalated)));
    assert_eq!(stage.told(), [What::Escalated]);
    stage.wait(MINUTE);
    assert_eq!(stage.state(), Some(IncidentState::Escalated), "it stays a person's while it lasts");
    stage.crash(true);
    stage.wait(MINUTE);
    assert!(stage.ended()[0].escalated && !stage.ended()[0].false_alarm);
    assert_eq!(stage.told(), [What::Escalated, What::Over]);
}

#[test]
fn the_runners_word_may_come_twice_late_or_all_at_once() {
    let mut stage = web(&["a"]);
    stage.crash(false);
    stage.run(RunState::Verifying, |run| run.healed = Some(Timestamp(2)));
    assert_eq!(stage.state(), Some(IncidentState::Healed));
    stage.run(RunState::Running, |_| {});
    stage.run(RunState::Running, |_| {});
    assert_eq!(stage.state(), Some(IncidentState::Healed));
    stage.answer(Answer::Accepted(RunId::parse("r-0").unwrap()));
    stage.refuse("cooldown");
    assert_eq!(stage.state(), Some(IncidentState::Healed), "an answer that an event overtook changes nothing");
}

#[test]
fn a_cooldown_is_waited_for_with_growing_pauses_while_the_fault_lasts() {
    let mut stage = web(&["a"]);
    stage.crash(false);
    for _ in 0..300 {
        stage.wait(1_000);
        if stage.incidents.open().next().unwrap().state == IncidentState::Planned {
            stage.refuse("cooldown");
        }
    }
    let tries = stage.proposals().len();
    assert!((6..=14).contains(&tries), "{tries} tries in five minutes");
    let lines =
        stage.incidents.open().next().unwrap().timeline.iter().filter(|(_, line)| line.contains("waiting")).count();
    assert_eq!(lines, 1, "waiting is said once");
    assert_eq!(stage.told(), []);
    stage.crash(true);
    stage.wait(MINUTE);
    assert!(stage.state().is_none() && stage.ended()[0].false_alarm);
}

#[test]
fn waiting_ends_with_a_person() {
    let mut stage = web(&["a"]);
    stage.crash(false);
    for _ in 0..70 * 60 {
        if stage.state() == Some(IncidentState::Planned) {
            stage.refuse("target-locked");
        }
        stage.wait(1_000);
    }
    assert_eq!((stage.state(), stage.told()), (Some(IncidentState::Escalated), vec![What::Escalated]));
}

#[test]
fn a_breaker_or_an_unknown_rule_needs_a_person_and_a_used_up_rung_the_next_one() {
    for rule in ["breaker", "target", "a-rule-of-a-later-version"] {
        let mut stage = web(&["a", "b"]);
        stage.crash(false);
        stage.refuse(rule);
        assert_eq!((stage.proposals(), stage.state()), (vec![0], Some(IncidentState::Escalated)), "{rule}");
    }
    for rule in ["ladder", "remedy-unavailable"] {
        let mut stage = web(&["a", "b"]);
        stage.crash(false);
        stage.refuse(rule);
        assert_eq!((stage.proposals(), stage.state()), (vec![0, 1], Some(IncidentState::Planned)), "{rule}");
    }
}

#[test]
fn a_persons_no_or_silence_ends_the_ladder() {
    let mut declined = web(&["a", "b"]);
    declined.crash(false);
    declined.run(RunState::AwaitingConsent, |_| {});
    assert_eq!((declined.state(), declined.told()), (Some(IncidentState::AwaitingConsent), vec![What::ConsentAsked]));
    declined.run(RunState::Refused, |run| run.declined = true);
    assert_eq!((declined.proposals(), declined.state()), (vec![0], Some(IncidentState::Escalated)));
    let mut silent = web(&["a", "b"]);
    silent.crash(false);
    silent.run(RunState::AwaitingConsent, |_| {});
    silent.run(RunState::Refused, |_| {});
    assert_eq!((silent.proposals(), silent.state()), (vec![0], Some(IncidentState::Escalated)));
}

#[test]
fn a_deferred_run_is_proposed_again_later_and_a_superseded_one_is_not() {
    let mut stage = web(&["a", "b"]);
    stage.crash(false);
    stage.run(RunState::Deferred, |_| {});
    assert_eq!((stage.proposals(), stage.state()), (vec![0], Some(IncidentState::Diagnosed)));
    stage.wait(2_000);
    assert_eq!(stage.proposals(), [0, 0]);
    stage.run(RunState::Superseded, |run| run.run = RunId::parse("r-9").unwrap());
    assert!(stage.state().is_none() && stage.ended()[0].false_alarm);
}

#[test]
fn in_mode_observe_the_plan_is_shown_once_and_nothing_is_asked_again() {
    let mut stage = Stage::new(Catalog { mode: Mode::Observe, ..catalog("unit:web", &["a", "b"]) });
    stage.crash(false);
    stage.run(RunState::Planned, |_| {});
    stage.run(RunState::Refused, |_| {});
    stage.wait(10 * MINUTE);
    assert_eq!((stage.proposals(), stage.told()), (vec![0], vec![What::Escalated]));
    assert_eq!(stage.not_acting(), [InactionReason::Observing]);
}

#[test]
fn what_ends_by_itself_before_anything_was_done_is_a_false_alarm_and_flapping_is_one_incident() {
    let mut stage = Stage::new(catalog("unit:other", &[]));
    stage.crash(false);
    assert_eq!(stage.not_acting(), [InactionReason::NotListed]);
    let mut stage = Stage::new(Catalog { playbooks: Vec::new(), ..catalog("unit:web", &["a"]) });
    stage.crash(false);
    assert_eq!((stage.state(), stage.not_acting()), (Some(IncidentState::Escalated), vec![InactionReason::NoPlaybook]));
    let mut stage = web(&["a"]);
    stage.crash(false);
    stage.refuse("hold");
    for _ in 0..3 {
        stage.crash(true);
        stage.wait(5_000);
        stage.crash(false);
        stage.refuse("hold");
    }
    assert_eq!(stage.ended().len(), 0);
    stage.crash(true);
    stage.wait(15_000);
    assert!(stage.ended()[0].false_alarm && stage.state().is_none());
}

#[test]
fn a_rung_whose_remedy_is_not_approved_is_passed_over_in_the_runners_ladder_too() {
    let mut catalog = catalog("unit:web", &["a", "b"]);
    catalog.remedies.remove(0);
    let mut stage = Stage::new(catalog);
    stage.crash(false);
    let rung = |act: &Act| {
        if let Act::PassOver(proposal) | Act::Propose(proposal) = act { Some(proposal.rung) } else { None }
    };
    let rungs: Vec<u32> = stage.acts.iter().filter_map(rung).collect();
    assert_eq!((rungs, stage.proposals()), (vec![0, 1], vec![1]));
}

#[test]
fn after_a_restart_nothing_acts_on_an_old_signal() {
    let mut old = incident("20261123-7");
    old.state = IncidentState::Diagnosed;
    old.signals = vec![signal("service-crash", FaultKind::ServiceCrash, false, 1_000)];
    let mut stage = Stage::resume(vec![old.clone()], catalog("unit:web", &["a"]));
    stage.wait(MINUTE);
    assert_eq!(stage.proposals(), [0; 0], "the fault was not measured again");
    stage.wait(MINUTE);
    assert!(stage.state().is_none(), "it is gone");
    let mut stage = Stage::resume(vec![old], catalog("unit:web", &["a"]));
    stage.wait(10_000);
    stage.crash(false);
    assert_eq!((stage.proposals(), stage.last_proposal().incident.as_str()), (vec![0], "20261123-7"));
}

#[test]
fn after_a_restart_the_runner_is_asked_how_far_it_got() {
    let mut old = incident("20261123-7");
    (old.state, old.playbook) = (IncidentState::Healing, Some((PlaybookName::parse("ladder").unwrap(), 0)));
    old.runs = vec![RunId::parse("r-0").unwrap()];
    let id = old.id.clone();
    let mut stage = Stage::resume(vec![old], catalog("unit:web", &["a", "b"]));
    assert_eq!(stage.acts, [Act::AskRuns(id.clone())]);
    stage.crash(false);
    stage.step(|incidents, at| incidents.runs(at, &id, Vec::new()));
    assert_eq!(stage.proposals(), [0], "the runner knows no run of it, and the fault is there");
}

#[test]
fn trouble_of_another_kind_outlives_its_incident() {
    let mut stage = web(&["a"]);
    stage.crash(false);
    stage.run(RunState::Running, |_| {});
    let unhealthy = signal("service-unhealthy", FaultKind::ServiceUnhealthy, false, stage.now);
    stage.step(|incidents, at| incidents.signal(at, unhealthy));
    stage.run(RunState::Committed, |run| run.healed = Some(Timestamp(2)));
    assert_eq!(stage.ended().len(), 1);
    stage.wait(1_000);
    assert_eq!(stage.incidents.open().next().unwrap().kind, FaultKind::ServiceUnhealthy);
}

#[test]
fn an_alert_alone_is_measured_by_the_runner_before_anything_happens_and_an_unknown_one_is_a_persons() {
    let mut stage = web(&["a"]);
    let alert =
        Signal { origin: Origin::Alert, ..signal("alert:TargetDown:1", FaultKind::ServiceCrash, false, stage.now) };
    stage.step(|incidents, at| incidents.signal(at, alert));
    assert_eq!(stage.proposals(), [0]);
    stage.run(RunState::Superseded, |_| {});
    assert!(stage.ended()[0].false_alarm);
    let unknown =
        Signal { target: "host".parse().unwrap(), ..signal("alert:Odd:2", FaultKind::Unknown, false, stage.now) };
    stage.step(|incidents, at| incidents.signal(at, unknown));
    assert_eq!(stage.proposals(), [0]);
}

/// One thing that can happen, as a number.
fn happen(stage: &mut Stage, what: u8) {
    let proposed = stage.acts.iter().any(|act| matches!(act, Act::Propose(_)));
    match what {
        0 | 1 => stage.crash(what == 1),
        2 => stage.wait(1_000),
        3 => stage.wait(MINUTE),
        _ if !proposed => {}
        4 => stage.refuse("cooldown"),
        5 => stage.refuse("ladder"),
        6 => stage.refuse("breaker"),
        7 => stage.answer(Answer::Unheard("gone".into())),
        8 => stage.answer(Answer::Accepted(RunId::parse("r-0").unwrap())),
        9 => stage.step(|incidents, at| incidents.set_catalog(at, catalog("unit:web", &["a", "b"]))),
        _ => {
            let state = RunState::ALL[usize::from(what) % RunState::ALL.len()];
            stage.run(state, |run| run.healed = (what >= 128).then_some(Timestamp(9)));
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_happens_no_step_is_illegal_and_every_incident_ends(events in proptest::collection::vec(0_u8..=255, 1..24)) {
        let mut stage = web(&["a", "b"]);
        stage.crash(false);
        for event in events {
            happen(&mut stage, event);
        }
        stage.crash(true);
        for id in stage.incidents.ids() {
            stage.step(|incidents, at| incidents.answered(at, &proposal_for(id.clone()), Answer::Unheard("gone".into())));
            stage.step(|incidents, at| incidents.runs(at, &id, Vec::new()));
        }
        stage.wait(MINUTE);
        proptest::prop_assert_eq!(stage.incidents.missteps(), 0);
        proptest::prop_assert_eq!(stage.state(), None);
    }
}

fn proposal_for(incident: IncidentId) -> Proposal {
    Proposal {
        incident,
        kind: FaultKind::ServiceCrash,
        target: "unit:web".parse().unwrap(),
        playbook: PlaybookName::parse("ladder").unwrap(),
        rung: 0,
        remedy: RemedyName::parse("a").unwrap(),
        params: Params::new(),
        onset: Timestamp(1),
        detected: Timestamp(1),
        evidence: Vec::new(),
    }
}
