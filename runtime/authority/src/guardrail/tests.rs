use proptest::prelude::*;
use theriac_model::fault::FaultKind;
use theriac_model::id::{IncidentId, PlaybookName, RemedyName};
use theriac_model::plan::PlanHash;
use theriac_model::record::{Entry, IncidentSummary};
use theriac_model::remedy::{Params, RemedyRef};
use theriac_model::run::{RunEvent, RunState};
use theriac_model::target::Target;

use super::*;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

/// A journal in the making, with the standing it amounts to.
#[derive(Default)]
pub(crate) struct Story {
    pub(crate) standing: Standing,
    pub(crate) entries: Vec<Entry>,
    pub(crate) now: u64,
}

pub(crate) fn run_id(name: &str) -> RunId {
    RunId::parse(name).unwrap()
}

pub(crate) fn proposal(incident: &str, target: &str, rung: u32) -> Proposal {
    Proposal {
        incident: IncidentId::parse(incident).unwrap(),
        kind: FaultKind::ServiceUnhealthy,
        target: target.parse().unwrap(),
        playbook: PlaybookName::parse("service").unwrap(),
        rung,
        remedy: RemedyName::parse("disk-reclaim").unwrap(),
        params: Params::new(),
        onset: Timestamp(0),
        detected: Timestamp(0),
        evidence: Vec::new(),
    }
}

impl Story {
    pub(crate) fn try_write(&mut self, record: Record) -> Result<(), FoldError> {
        let entry = Entry {
            seq: self.entries.len() as u64,
            at: Timestamp(self.now),
            guard: GuardTime(self.now),
            epoch: 1,
            record,
        };
        self.standing.apply(&entry)?;
        self.entries.push(entry);
        Ok(())
    }

    pub(crate) fn write(&mut self, record: Record) {
        self.try_write(record).unwrap();
    }

    fn at(&mut self, now: u64) -> &mut Self {
        self.now = now;
        self
    }

    pub(crate) fn reserve(&mut self, run: &str, proposal: &Proposal) {
        self.write(Record::Reserved { run: run_id(run), proposal: proposal.clone() });
    }

    pub(crate) fn go(&mut self, run: &str, events: &[RunEvent]) {
        for event in events {
            let state = self.standing.run(&run_id(run)).unwrap().state.on(*event).unwrap();
            self.write(Record::Moved { run: run_id(run), event: *event, state, reason: String::new() });
        }
    }

    /// A whole run.
    fn run(&mut self, run: &str, proposal: &Proposal, end: &[RunEvent]) {
        self.reserve(run, proposal);
        self.go(run, &[RunEvent::Planned, RunEvent::Authorised]);
        self.go(run, end);
    }

    fn ask(&self, proposal: &Proposal) -> Result<(), Objection> {
        check_proposal(&self.standing, &Guardrails::default(), proposal, &self.situation())
    }

    fn start(&self, run: &str) -> Result<(), Objection> {
        check_start(&self.standing, &Guardrails::default(), &run_id(run), &self.situation())
    }

    pub(crate) fn situation(&self) -> Situation {
        Situation { now: GuardTime(self.now), window: None, deploy: None }
    }
}

const COMMITTED: [RunEvent; 2] = [RunEvent::Ran, RunEvent::Improved];
const UNDONE: [RunEvent; 3] = [RunEvent::Ran, RunEvent::NotImproved, RunEvent::UndoFinished];

fn rule(asked: Result<(), Objection>) -> &'static str {
    asked.map_or_else(|objection| objection.rule(), |()| "ok")
}

// RN03.
#[test]
fn a_target_is_locked_from_the_reservation_until_the_run_is_over() {
    let mut story = Story::default();
    story.reserve("r-1", &proposal("i-1", "unit:web", 0));
    assert_eq!(rule(story.ask(&proposal("i-2", "unit:web", 0))), "target-locked");
    assert_eq!(rule(story.ask(&proposal("i-2", "unit:api", 0))), "ok");
    story.go("r-1", &[RunEvent::Planned, RunEvent::Authorised, RunEvent::Ran]);
    assert_eq!(rule(story.ask(&proposal("i-2", "unit:web", 0))), "target-locked", "verifying still locks");
    story.go("r-1", &[RunEvent::Improved]);
    assert_eq!(rule(story.at(HOUR).ask(&proposal("i-2", "unit:web", 0))), "ok");
}

// RS17.
#[test]
fn two_runs_are_at_work_at_once_and_only_while_running_or_undoing() {
    let mut story = Story::default();
    for (run, target) in [("r-1", "unit:a"), ("r-2", "unit:b"), ("r-3", "unit:c")] {
        story.reserve(run, &proposal(run, target, 0));
        story.go(run, &[RunEvent::Planned]);
    }
    assert_eq!(rule(story.start("r-3")), "ok");
    story.go("r-1", &[RunEvent::Authorised]);
    assert_eq!(rule(story.start("r-3")), "ok");
    story.go("r-2", &[RunEvent::Authorised]);
    assert!(matches!(story.start("r-3"), Err(Objection::Defer { rule: "slots", .. })));
    story.go("r-2", &[RunEvent::Ran]);
    assert_eq!(rule(story.start("r-3")), "ok", "verifying holds no slot");
    story.go("r-2", &[RunEvent::NotImproved]);
    assert_eq!(rule(story.start("r-3")), "slots", "undoing does");
}

// SV09.
#[test]
fn a_target_rests_after_its_ladder_ended_and_not_a_moment_longer() {
    let mut story = Story::default();
    story.at(MINUTE).run("r-1", &proposal("i-1", "unit:web", 0), &COMMITTED);
    let target: Target = "unit:web".parse().unwrap();
    story.write(Record::CooldownBegan { target, until: GuardTime(MINUTE + 5 * MINUTE) });
    let other = proposal("i-2", "unit:web", 0);
    assert_eq!(rule(story.at(6 * MINUTE - 1).ask(&other)), "cooldown");
    assert_eq!(story.ask(&other).unwrap_err().to_string(), "`unit:web` rests for another 1s");
    assert_eq!(rule(story.at(6 * MINUTE).ask(&other)), "ok");
}

// RN03, SV09.
#[test]
fn an_agent_that_never_ends_a_ladder_does_not_get_round_the_rest() {
    let mut story = Story::default();
    story.run("r-1", &proposal("i-1", "unit:web", 0), &COMMITTED);
    assert_eq!(rule(story.at(MINUTE).ask(&proposal("i-2", "unit:web", 0))), "cooldown");
    assert_eq!(rule(story.ask(&proposal("i-1", "unit:web", 1))), "ok", "the same incident may climb");
    assert_eq!(rule(story.at(5 * MINUTE).ask(&proposal("i-2", "unit:web", 0))), "ok");
}

// RN04.
#[test]
fn a_ladder_is_climbed_from_its_foot_and_no_rung_runs_twice() {
    let mut story = Story::default();
    assert_eq!(rule(story.ask(&proposal("i-1", "unit:web", 1))), "ladder");
    story.run("r-1", &proposal("i-1", "unit:web", 0), &UNDONE);
    assert_eq!(rule(story.ask(&proposal("i-1", "unit:web", 0))), "ladder");
    assert_eq!(rule(story.ask(&proposal("i-1", "unit:web", 1))), "ok");
    assert_eq!(rule(story.ask(&proposal("i-1", "unit:web", 2))), "ladder");
}

#[test]
fn an_incident_that_turns_out_to_be_of_another_kind_begins_at_that_ladders_foot() {
    let mut story = Story::default();
    story.run("r-1", &proposal("i-1", "unit:web", 0), &UNDONE);
    let mut other = proposal("i-1", "unit:web", 0);
    other.playbook = "start-limit-hit".parse().unwrap();
    assert_eq!(rule(story.ask(&other)), "ok");
    assert_eq!(rule(story.ask(&proposal("i-1", "unit:web", 0))), "ladder");
}

#[test]
fn a_rung_that_was_deferred_comes_again_and_one_that_cant_be_tried_here_is_passed() {
    let mut story = Story::default();
    let foot = proposal("i-1", "unit:web", 0);
    story.reserve("r-1", &foot);
    story.go("r-1", &[RunEvent::Planned, RunEvent::Deferred]);
    assert_eq!(rule(story.ask(&foot)), "ok");
    assert_eq!(rule(story.ask(&proposal("i-1", "unit:web", 1))), "ladder");
    let rule_word = REMEDY_UNAVAILABLE.to_owned();
    story.write(Record::ProposalRefused { proposal: foot, rule: rule_word, reason: String::new() });
    assert_eq!(rule(story.ask(&proposal("i-1", "unit:web", 1))), "ok");
}

// SV09.
#[test]
fn the_same_fault_three_times_in_a_day_disarms_until_a_person_resets_it() {
    let mut story = Story::default();
    let limits = Guardrails::default();
    for (index, run) in ["r-1", "r-2", "r-3"].into_iter().enumerate() {
        let asked = proposal(run, "unit:web", 0);
        story.now = index as u64 * HOUR;
        assert_eq!(rule(story.ask(&asked)), "ok", "{run}");
        story.run(run, &asked, &COMMITTED);
        let due = breaker_due(&story.standing, &limits, &asked, GuardTime(story.now));
        assert_eq!(due.is_some(), run == "r-3");
        if let Some(record) = due {
            story.write(record);
        }
    }
    let fourth = proposal("r-4", "unit:web", 0);
    assert_eq!(
        story.at(3 * HOUR).ask(&fourth).unwrap_err().to_string(),
        "`disk-reclaim` is disarmed for `unit:web`: `service-unhealthy` came 3 times within 1d"
    );
    assert_eq!(rule(story.ask(&proposal("r-4", "unit:api", 0))), "ok", "another target");
    assert_eq!(rule(story.at(72 * HOUR).ask(&fourth)), "breaker", "time does not close it");
    let (remedy, target) = (fourth.remedy.clone(), fourth.target.clone());
    story.write(Record::BreakerReset { remedy, target, by: "uid 0".into() });
    assert_eq!(rule(story.ask(&fourth)), "ok");
}

#[test]
fn a_breaker_that_is_due_and_not_yet_written_holds_too() {
    let mut story = Story::default();
    for (index, run) in ["r-1", "r-2", "r-3"].into_iter().enumerate() {
        story.now = index as u64 * HOUR;
        story.run(run, &proposal(run, "unit:web", 0), &COMMITTED);
    }
    assert_eq!(rule(story.at(3 * HOUR).ask(&proposal("r-4", "unit:web", 0))), "breaker");
    assert_eq!(rule(story.at(24 * HOUR).ask(&proposal("r-4", "unit:web", 0))), "ok", "the first is a day ago");
}

#[test]
fn two_undos_disarm_and_so_does_one_that_failed() {
    let mut story = Story::default();
    story.run("r-1", &proposal("i-1", "unit:web", 0), &UNDONE);
    assert_eq!(rule(story.at(HOUR).ask(&proposal("i-2", "unit:web", 0))), "ok");
    story.run("r-2", &proposal("i-2", "unit:web", 0), &UNDONE);
    assert_eq!(rule(story.at(2 * HOUR).ask(&proposal("i-3", "unit:web", 0))), "breaker");
    story.run("r-3", &proposal("i-3", "unit:api", 0), &[RunEvent::Failed, RunEvent::UndoFailed]);
    assert_eq!(rule(story.at(3 * HOUR).ask(&proposal("i-4", "unit:api", 0))), "breaker");
}

#[test]
fn a_hold_stops_its_target_or_everything_and_only_its_own_end_lifts_it() {
    let mut story = Story::default();
    let web: Target = "unit:web".parse().unwrap();
    let held = |target, until| Record::Held { target, until, by: "uid 0".into() };
    story.write(held(Some(web.clone()), Some(GuardTime(HOUR))));
    assert_eq!(rule(story.ask(&proposal("i-1", "unit:web", 0))), "hold");
    assert_eq!(rule(story.ask(&proposal("i-1", "unit:api", 0))), "ok");
    assert_eq!(rule(story.at(HOUR).ask(&proposal("i-1", "unit:web", 0))), "ok");
    story.write(held(None, None));
    story.write(held(Some(web.clone()), None));
    assert_eq!(rule(story.at(99 * HOUR).ask(&proposal("i-1", "unit:api", 0))), "hold");
    story.write(Record::Resumed { target: None, by: "uid 0".into() });
    assert_eq!(rule(story.ask(&proposal("i-1", "unit:api", 0))), "ok");
    assert_eq!(rule(story.ask(&proposal("i-1", "unit:web", 0))), "hold");
    story.write(Record::Resumed { target: Some(web), by: "uid 0".into() });
    assert_eq!(rule(story.ask(&proposal("i-1", "unit:web", 0))), "ok");
}

#[test]
fn a_hold_stops_a_run_that_waited_for_a_person() {
    let mut story = Story::default();
    story.reserve("r-1", &proposal("i-1", "unit:web", 0));
    story.go("r-1", &[RunEvent::Planned, RunEvent::ConsentAsked]);
    assert_eq!(rule(story.start("r-1")), "ok");
    story.write(Record::Held { target: None, until: None, by: "uid 0".into() });
    assert_eq!(rule(story.start("r-1")), "hold");
}

#[test]
fn nothing_is_healed_inside_a_window_or_a_deploy() {
    let story = Story::default();
    let asked = proposal("i-1", "unit:web", 0);
    let with = |situation| check_proposal(&story.standing, &Guardrails::default(), &asked, &situation);
    assert_eq!(rule(with(story.situation())), "ok");
    let window = Situation { window: Some("backups run".into()), ..story.situation() };
    assert!(matches!(with(window), Err(Objection::Defer { rule: "window", .. })));
    let deploy = Situation { deploy: Some("/run/deploy.lock".into()), ..story.situation() };
    assert!(matches!(with(deploy), Err(Objection::Defer { rule: "deploy-lock", .. })));
}

// SG05.
#[test]
fn a_serial_never_sinks() {
    let mut story = Story::default();
    let loaded = |serial| {
        let name = RemedyName::parse("disk-reclaim").unwrap();
        let component = theriac_model::id::Digest::of(b"x");
        let remedy = RemedyRef { name, version: "1.0.0".into(), serial, component };
        Record::RemedyLoaded { remedy, signers: Vec::new() }
    };
    story.write(loaded(7));
    story.write(loaded(5));
    assert_eq!(story.standing.high_water(&RemedyName::parse("disk-reclaim").unwrap()), Some(7));
}

#[test]
fn what_cant_have_happened_is_refused_and_changes_nothing() {
    let mut story = Story::default();
    story.reserve("r-1", &proposal("i-1", "unit:web", 0));
    let before = story.standing.clone();
    let moved = |run, event, state| Record::Moved { run: run_id(run), event, state, reason: String::new() };
    let hash = PlanHash(theriac_model::id::Digest::of(b"x"));
    for wrong in [
        Record::Reserved { run: run_id("r-1"), proposal: proposal("i-1", "unit:web", 0) },
        moved("r-1", RunEvent::Authorised, RunState::Running),
        moved("r-1", RunEvent::Planned, RunState::Running),
        moved("r-2", RunEvent::Planned, RunState::Planned),
        Record::UndoIntent { run: run_id("r-2"), index: 0 },
        Record::Consented { run: run_id("r-1"), plan: hash, by: "uid 0".into() },
    ] {
        assert!(story.try_write(wrong.clone()).is_err(), "{wrong:?}");
        assert_eq!(story.standing, before);
    }
    let entry =
        |seq, guard, epoch| Entry { seq, at: Timestamp(0), guard: GuardTime(guard), epoch, record: Record::Stopped };
    story.write(Record::Stopped);
    let mut from = story.standing.clone();
    assert!(matches!(from.apply(&entry(3, 0, 1)), Err(FoldError::Gap { .. })));
    assert!(matches!(from.apply(&entry(2, 0, 0)), Err(FoldError::Backwards { .. })));
    assert_eq!(from.apply(&entry(2, 0, 1)), Ok(()));
}

// SV09.
#[test]
fn a_restarted_runner_stands_where_the_killed_one_stood() {
    let mut story = Story::default();
    story.at(MINUTE).run("r-1", &proposal("i-1", "unit:web", 0), &UNDONE);
    story.write(Record::Held { target: None, until: None, by: "uid 0".into() });
    story.reserve("r-2", &proposal("i-2", "unit:api", 0));
    story.go("r-2", &[RunEvent::Planned, RunEvent::Authorised]);
    // Cut at every record: folding what is left gives what stood then.
    for cut in 0..=story.entries.len() {
        let (mut killed, mut restarted) = (Standing::default(), Standing::default());
        story.entries[..cut].iter().for_each(|entry| killed.apply(entry).unwrap());
        let saved = serde_json::to_string(&story.entries[..cut]).unwrap();
        let read: Vec<Entry> = serde_json::from_str(&saved).unwrap();
        read.iter().for_each(|entry| restarted.apply(entry).unwrap());
        assert_eq!(killed, restarted);
    }
    assert_eq!(story.standing.open_runs().count(), 1);
    assert_eq!(story.standing.open_run_for(&IncidentId::parse("i-2").unwrap(), 0), Some(&run_id("r-2")));
    assert_eq!(story.standing.epoch(), 1);
}

#[test]
fn an_ended_incident_is_forgotten_and_its_target_still_rests() {
    let mut story = Story::default();
    let asked = proposal("i-1", "unit:web", 0);
    story.run("r-1", &asked, &COMMITTED);
    let summary = IncidentSummary {
        incident: asked.incident.clone(),
        kind: asked.kind,
        target: asked.target.clone(),
        detected_ms: 1,
        healed_ms: None,
        stable_ms: None,
        escalated: false,
        false_alarm: false,
    };
    story.write(Record::IncidentEnded { summary });
    assert_eq!(rule(story.at(MINUTE).ask(&proposal("i-2", "unit:web", 0))), "cooldown");
}

proptest! {
    /// Whatever an agent proposes, in whatever order: never two runs of one target, never three at work.
    // RS17.
    #[test]
    fn no_order_of_proposals_gets_past_the_locks(steps in prop::collection::vec((0_u8..6, 0_u8..4, 0_u32..3, 0_u64..HOUR), 0..60)) {
        let mut story = Story::default();
        for (index, (incident, target, rung, wait)) in steps.into_iter().enumerate() {
            story.now += wait;
            let asked = proposal(&format!("i-{incident}"), &format!("unit:u{target}"), rung);
            let run = format!("r-{index}");
            let running = |run: &OpenRun| run.state == RunState::Running;
            let at_work = story.standing.open_runs().find(|(_, run)| running(run)).map(|(id, _)| id.to_string());
            if story.ask(&asked).is_ok() {
                story.reserve(&run, &asked);
                story.go(&run, &[RunEvent::Planned]);
                if story.start(&run).is_ok() {
                    story.go(&run, &[RunEvent::Authorised]);
                }
            } else if let Some(id) = at_work {
                story.go(&id, &COMMITTED);
            }
            let at_work = story.standing.open_runs().filter(|(_, run)| run.state.holds_slot()).count();
            prop_assert!(at_work <= 2);
            let mut targets: Vec<_> = story.standing.open_runs().map(|(_, run)| run.proposal.target.clone()).collect();
            targets.sort();
            let all = targets.len();
            targets.dedup();
            prop_assert_eq!(all, targets.len());
        }
    }
}
