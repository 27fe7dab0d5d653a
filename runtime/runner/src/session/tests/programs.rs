//! Programs, with a hand that remembers what it was told. The jails are tested with the launcher and with systemd.

use std::sync::{Arc, Mutex};

use theriac_model::call::{Call, Interface, Reply};
use theriac_model::effect::{UndoClass, UndoOutcome};
use theriac_model::program::{Network, ProgramCall, ProgramEnding, ProgramOutput, ProgramSpec, SlotValue};
use theriac_model::target::MountPath;
use theriac_model::time::Span;
use theriac_model::units::{Blob, Bytes};

use super::world::*;
use crate::hands::{HandError, Programs};

const GRANTS: &str = r#"
[grants.programs.look]
run = ["/bin/true", "--of={what}"]
slots = { what = { one_of = ["a", "b"] } }
changes = false
why = "tests"

[grants.programs.act]
run = ["/bin/true", "--level", "{level}"]
slots = { level = { min = 1, max = 9 } }
changes = true
undo = ["/bin/true", "--reset", "{level}"]
why = "tests"
"#;
const HOST: &str = "[[program]]\npath = \"/bin/true\"\nuser = 65533\nchanges = true\n";

const DONE: ProgramEnding = ProgramEnding::Exited { code: 0 };

#[derive(Debug, Default)]
struct Hand {
    ran: Mutex<Vec<ProgramSpec>>,
    ending: Mutex<Option<Result<ProgramEnding, HandError>>>,
}

impl Programs for Hand {
    fn run(&self, program: &ProgramSpec) -> Result<ProgramOutput, HandError> {
        self.ran.lock().unwrap().push(program.clone());
        let ending = self.ending.lock().unwrap().clone().unwrap_or(Ok(DONE))?;
        let stdout = Blob(b"said".to_vec());
        Ok(ProgramOutput { ending, stdout, stderr: Blob::default(), cut: false, assumed: false })
    }
}

impl Hand {
    fn lines(&self) -> Vec<String> {
        self.ran.lock().unwrap().iter().map(ToString::to_string).collect()
    }

    fn ends_as(&self, ending: Result<ProgramEnding, HandError>) {
        *self.ending.lock().unwrap() = Some(ending);
    }
}

fn with_hand(grants: &str) -> (Place, Arc<Hand>) {
    let mut place = place_granting(grants, HOST);
    let hand = Arc::new(Hand::default());
    place.world.hands.programs = Some(Arc::clone(&hand) as Arc<dyn Programs>);
    (place, hand)
}

fn run(ask: Ask<'_>, label: &str, slot: &str, value: SlotValue) -> Reply {
    let handle = open(ask, Interface::Programs, label);
    ask(Call::Program { handle, verb: ProgramCall::Run { slots: vec![(slot.into(), value)] } })
}

fn look(ask: Ask<'_>, what: &str) -> Reply {
    run(ask, "look", "what", SlotValue::Choice(what.into()))
}

fn act(ask: Ask<'_>, level: i64) -> Reply {
    run(ask, "act", "level", SlotValue::Integer(level))
}

fn output(reply: Reply) -> ProgramOutput {
    match reply {
        Reply::Program(output) => output,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_dry_run_looks_and_only_assumes_that_it_acted() {
    let (place, hand) = with_hand(GRANTS);
    let plan = place.plan(|ask| {
        let looked = output(look(ask, "a"));
        assert_eq!((looked.ending, looked.stdout.0.as_slice(), looked.assumed), (DONE, &b"said"[..], false));
        let acted = output(act(ask, 3));
        assert_eq!((acted.ending, acted.stdout.0.len(), acted.assumed), (DONE, 0, true));
    });
    assert_eq!(hand.lines(), ["/bin/true --of=a"]);
    assert_eq!(plan.effects.len(), 1);
    assert_eq!(plan.effects[0].undo, UndoClass::Compensated { inverse: "run /bin/true --reset 3".into() });
}

#[test]
fn an_effect_runs_once_in_the_operators_jail_and_is_taken_back_by_its_inverse() {
    let (place, hand) = with_hand(GRANTS);
    let done = place.both(|ask| drop(act(ask, 3)));
    assert!(!done.must_undo(), "{done:?}");
    let jail = hand.ran.lock().unwrap()[0].jail.clone();
    assert_eq!((jail.uid, jail.gid, jail.network), (65533, 65533, Network::None));
    assert!(jail.read.is_empty() && jail.write.is_empty());
    assert_eq!(place.undo(), [UndoOutcome::Restored]);
    assert_eq!(hand.lines(), ["/bin/true --level 3", "/bin/true --reset 3"]);
}

#[test]
fn a_jail_holds_what_the_grant_names_for_its_time_and_output() {
    let wide = "read = [\"/etc/ssl\"]\nwrite = [\"/var/log\"]\nnetwork = \"host\"\ntimeout = \"3s\"\noutput = \"1KiB\"\nwhy = ";
    let (looks, acts) = GRANTS.split_once("[grants.programs.act]").unwrap();
    let grants = format!("{looks}[grants.programs.act]{}", acts.replace("why = ", wide));
    let host = format!("{HOST}read = [\"/etc\"]\nwrite = [\"/var/log\"]\nnetwork = \"host\"\n");
    let mut place = place_granting(&grants, &host);
    let hand = Arc::new(Hand::default());
    place.world.hands.programs = Some(Arc::clone(&hand) as Arc<dyn Programs>);
    place.both(|ask| {
        act(ask, 3);
        look(ask, "a");
    });
    let ran = hand.ran.lock().unwrap().clone();
    let of = |argument: &str| ran.iter().find(|program| program.argv.iter().any(|one| one == argument)).unwrap();
    let (acted, looked) = (of("--level"), of("--of=a"));
    let paths = |paths: &[MountPath]| paths.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        (paths(&acted.jail.read), paths(&acted.jail.write)),
        (vec!["/etc/ssl".to_owned()], vec!["/var/log".to_owned()])
    );
    assert_eq!((acted.jail.network, acted.timeout, acted.output), (Network::Host, Span::from_secs(3), Bytes(1 << 10)));
    // What the operator leaves is not what the other grant asks for.
    assert!(looked.jail.read.is_empty() && looked.jail.write.is_empty());
    assert_eq!(
        (looked.jail.network, looked.timeout, looked.output),
        (Network::None, Span::from_secs(30), Bytes(16 << 10))
    );
}

// EX12: how a program ends is told to the remedy; whether it helped is for verification to find.
#[test]
fn an_exit_code_is_no_verdict() {
    let (place, hand) = with_hand(GRANTS);
    hand.ends_as(Ok(ProgramEnding::Exited { code: 1 }));
    let done = place.both(|ask| drop(act(ask, 3)));
    assert!(!done.must_undo(), "the remedy is told, and decides");
    assert!(matches!(&place.undo()[..], [UndoOutcome::Failed { reason }] if reason.contains("exited with 1")));
}

// EX09: what was killed at its deadline was killed in the middle of something.
#[test]
fn what_may_have_happened_is_taken_back_and_what_was_refused_is_not() {
    for ending in [Ok(ProgramEnding::TimedOut), Err(HandError::Unknown { reason: "no answer".into() })] {
        let (place, hand) = with_hand(GRANTS);
        hand.ends_as(ending);
        assert!(place.both(|ask| drop(act(ask, 3))).must_undo());
        hand.ends_as(Ok(DONE));
        assert_eq!(place.undo(), [UndoOutcome::Restored]);
        assert_eq!(hand.lines(), ["/bin/true --level 3", "/bin/true --reset 3"]);
    }
    let (place, hand) = with_hand(GRANTS);
    hand.ends_as(Err(HandError::Refused { reason: "no jail".into() }));
    place.both(|ask| drop(act(ask, 3)));
    hand.ends_as(Ok(DONE));
    assert!(matches!(place.undo()[..], [UndoOutcome::NotNeeded { .. }]));
    assert_eq!(hand.lines(), ["/bin/true --level 3"]);
}

#[test]
fn without_an_inverse_it_is_irreversible_and_a_person_hears_of_it() {
    let (place, _) = with_hand(&GRANTS.replace("undo = [\"/bin/true\", \"--reset\", \"{level}\"]\n", ""));
    let plan = place.plan(|ask| drop(act(ask, 3)));
    assert!(matches!(plan.effects[0].undo, UndoClass::Irreversible { .. }));
    place.both(|ask| drop(act(ask, 3)));
    assert!(matches!(place.undo()[..], [UndoOutcome::Impossible { .. }]));
}

// EX01, EX02.
#[test]
fn a_value_that_its_slot_does_not_take_runs_nothing() {
    let (place, hand) = with_hand(GRANTS);
    place.plan(|ask| {
        for value in ["c", "-a", "a --b", "$(id)", "a;id", "`id`", "a\nb", ""] {
            assert_eq!(denied(look(ask, value)).rule, "slots", "{value:?}");
        }
        assert_eq!(denied(act(ask, 10)).rule, "slots");
        assert_eq!(denied(run(ask, "look", "other", SlotValue::Choice("a".into()))).rule, "slots");
        assert_eq!(denied(run(ask, "act", "level", SlotValue::Choice("3".into()))).rule, "slots");
    });
    assert_eq!(hand.lines(), Vec::<String>::new());
}

#[test]
fn another_value_than_the_planned_one_is_off_plan() {
    let (place, hand) = with_hand(GRANTS);
    let plan = place.plan(|ask| drop(act(ask, 3)));
    let mut session = place.live(&plan);
    let mut ask = |call| crate::session::Host::answer(&mut session, call);
    assert_eq!(denied(act(&mut ask, 4)).rule, "plan.effects");
    drop(session);
    assert_eq!(hand.lines(), Vec::<String>::new());
}

// EX04, EX05: the file is looked at again at each run, whatever the configuration once found.
#[test]
fn a_program_that_is_not_roots_is_not_run() {
    let grants = GRANTS.replace("\"/bin/true\"", "\"/nonexistent/tool\"");
    let mut place = place_granting(&grants, &HOST.replace("/bin/true", "/nonexistent/tool"));
    let hand = Arc::new(Hand::default());
    place.world.hands.programs = Some(Arc::clone(&hand) as Arc<dyn Programs>);
    place.plan(|ask| {
        assert_eq!(denied(look(ask, "a")).rule, "program");
        assert_eq!(denied(act(ask, 3)).rule, "program");
    });
    assert_eq!(hand.lines(), Vec::<String>::new());
}

#[test]
fn without_a_hand_programs_are_unavailable() {
    let place = place_granting(GRANTS, HOST);
    place.plan(|ask| {
        assert_eq!(denied(look(ask, "a")).rule, "programs");
        assert_eq!(denied(act(ask, 3)).rule, "programs");
    });
}
