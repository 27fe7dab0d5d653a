//! A worker that was taken over, spoken by hand against the real runner: whatever frames it sends, only effects that the manifest,
//! the policy and the plan allow come of it; the run ends, everything is put back, and the runner goes on.

mod puppet;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use theriac_authority::package;
use theriac_model::call::{
    Call, DirCall, EntryCall, Filter, Handle, Interface, Opinion, Order, Reply, Report, UnitCall,
};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::plan::PlanCursor;
use theriac_model::record::Record;
use theriac_model::run::RunState;
use theriac_model::units::Blob;
use theriac_protocol::frame::{self, Frame};
use theriac_protocol::operator::{OperatorAnswer, OperatorRequest};
use theriac_protocol::runner::RunSummary;
use theriac_protocol::worker::{EndReason, FromWorker};

use crate::host::{Host, Service, Setup, playbook, proposal};
use puppet::{Act, Moment, Puppet, Strings};

const MANIFEST: &str = r#"
[remedy]
name         = "puppet"
version      = "1.0.0"
serial       = 1
summary      = "A test's attacker: a worker that says what it likes"
handles      = ["service-unhealthy"]
on_ambiguous = "undo"

[grants.files.logs]
dir       = { from = "operator" }
match     = ["*.log"]
verbs     = ["list", "stat", "replace"]
min_age   = "0s"
max_bytes = "1MiB"
max_files = 4
why       = "something to change"

[grants.units.target]
unit  = { from = "incident" }
verbs = ["status"]
why   = "something to look at"

[limits]
time       = "1s"
host_calls = 200
handles    = 16
"#;

/// A component that no compiler will see: this worker says that it compiled it.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
const CANARY: &str = "nobody was granted this";
const FILTER: Filter = Filter { min_age_s: 0, min_bytes: 0, order: Order::Name };

/// A host whose workers are puppets, a service that answers 503 whatever is done, files that are granted and one that is not.
struct Ward {
    host: Host,
    strings: Strings,
    granted: PathBuf,
    before: Vec<(String, String)>,
    runs: u32,
}

impl Ward {
    fn new() -> Self {
        let dir = Host::scratch();
        let strings = Strings::tie(dir.path());
        let granted = dir.path().join("granted");
        fs::create_dir(&granted).unwrap();
        for name in ["a.log", "b.log", "c.txt"] {
            fs::write(granted.join(name), format!("{name}\n")).unwrap();
        }
        fs::write(dir.path().join("canary.log"), CANARY).unwrap();
        let mut sick = Service::new("sick");
        sick.args = vec!["--needs".into(), dir.path().join("missing").display().to_string()];
        let rung = "  - remedy: puppet\n    level: 1\n    healed_within: 500ms\n    stable_for: 500ms\n";
        let setup = Setup {
            services: vec![sick.clone()],
            packages: vec![("puppet", package::embed(COMPONENT, MANIFEST).unwrap())],
            rules: format!(
                "[limits]\nbreaker_runs = 1000\nbreaker_undos = 1000\n\
                 [[directory]]\npath = \"{}\"\nlabel = \"logs\"\nverbs = [\"replace\", \"remove\", \"truncate\"]\n",
                granted.display()
            ),
            playbooks: vec![("test.yaml", playbook("test", "service-unhealthy", "unit:sick", rung))],
            runner_args: vec!["--worker".into(), strings.worker().display().to_string()],
            ..Setup::default()
        };
        let host = Host::start_in(dir, &setup);
        Host::wait_for_status(&sick, "503");
        let mut ward = Self { host, strings, granted, before: Vec::new(), runs: 0 };
        ward.before = ward.tree();
        ward
    }

    /// One run in which the worker acts like this. Afterwards everything is as it was, and the runner serves.
    fn run(&mut self, act: Act) -> RunSummary {
        self.runs += 1;
        self.strings.act(act);
        let incident = format!("i-{}", self.runs);
        let run = self.host.heal(&proposal(&incident, "service-unhealthy", "unit:sick", "test", "puppet"));
        assert!(self.strings.held(), "the worker heard something else than it should: {run:?}");
        assert!(matches!(run.state, RunState::Refused | RunState::Undone), "{run:?}");
        assert!(matches!(self.host.operator(&OperatorRequest::Status), OperatorAnswer::Status(_)));
        assert_eq!(self.tree(), self.before, "{run:?}");
        assert_eq!(fs::read_to_string(self.host.path().join("canary.log")).unwrap(), CANARY);
        run
    }

    /// The records of the newest run.
    fn records(&self, run: &RunSummary) -> Vec<Record> {
        self.host.records().into_iter().filter(|record| record.run() == Some(&run.run)).collect()
    }

    /// Which rules refused something in it.
    fn rules(&self, run: &RunSummary) -> Vec<String> {
        let rule = |record| match record {
            Record::Denied { denial, .. } => Some(denial.rule),
            _ => None,
        };
        self.records(run).into_iter().filter_map(rule).collect()
    }

    /// The effects that were begun, each of which must be next in the plan.
    fn effects(&self, run: &RunSummary) -> usize {
        let records = self.records(run);
        let plan =
            records.iter().find_map(|record| if let Record::Planned { plan, .. } = record { Some(plan) } else { None });
        let (mut cursor, mut begun) = (PlanCursor::default(), 0);
        for record in &records {
            if let Record::Intent { effect, .. } = record {
                let plan = plan.expect("nothing is done without a plan");
                assert!(cursor.advance(plan, effect).is_some(), "{effect} is not next in the plan");
                begun += 1;
            }
        }
        begun
    }

    fn tree(&self) -> Vec<(String, String)> {
        let mut files: Vec<_> = fs::read_dir(&self.granted)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap()))
            .collect();
        files.sort();
        files
    }
}

fn replace(handle: Handle, content: &str) -> Call {
    Call::Entry { handle, verb: EntryCall::Replace { content: Blob(content.as_bytes().to_vec()) } }
}

/// Handles of the granted files, by name.
fn list(puppet: &mut Puppet) -> Vec<Handle> {
    let Some(Reply::Opened(dir)) = puppet.ask(Call::Open { interface: Interface::Files, label: "logs".into() }) else {
        return Vec::new();
    };
    match puppet.ask(Call::Dir { handle: dir, verb: DirCall::List { filter: FILTER, cursor: 0 } }) {
        Some(Reply::Entries { entries, .. }) => entries.into_iter().map(|entry| entry.handle).collect(),
        _ => Vec::new(),
    }
}

fn treated(puppet: &mut Puppet) {
    puppet.say(&FromWorker::Remediated(Report::Treated("well".into())));
}

/// What its dry runs do.
fn plan_one(puppet: &mut Puppet) {
    let first = list(puppet).into_iter().next().expect("a granted file");
    puppet.ask(replace(first, "new"));
    treated(puppet);
}

/// In the dry run: one replacement. In the live run: what is given.
fn once_planned(live: impl Fn(&mut Puppet, &[Handle]) + Send + Sync + 'static) -> Act {
    Box::new(move |puppet, moment| {
        match moment {
            Moment::DryCall => plan_one(puppet),
            Moment::LiveCall => {
                let files = list(puppet);
                live(puppet, &files);
            }
            Moment::Started | Moment::Loaded | Moment::Check => return false,
        }
        true
    })
}

/// At this moment, this in place of what a worker would do.
fn at(wanted: Moment, act: impl Fn(&mut Puppet) + Send + Sync + 'static) -> Act {
    Box::new(move |puppet, moment| {
        if moment == wanted {
            act(puppet);
        }
        moment == wanted
    })
}

// RN14.
#[test]
fn a_worker_that_keeps_to_its_plan_acts_and_every_step_off_it_is_denied_and_undone() {
    let mut ward = Ward::new();
    // The twin of all that follows: it does what it planned, the runner measures no improvement and puts it back.
    let honest = ward.run(once_planned(|puppet, files| {
        assert!(matches!(puppet.ask(replace(files[0], "new")), Some(Reply::Count(_))));
        treated(puppet);
    }));
    assert_eq!((honest.state, ward.effects(&honest)), (RunState::Undone, 1), "{honest:?}");

    type Live = fn(&mut Puppet, &[Handle]);
    let off_plan: [(&str, Live); 4] = [
        ("another file", |puppet, files| drop(puppet.ask(replace(files[1], "new")))),
        ("other content", |puppet, files| drop(puppet.ask(replace(files[0], "newer")))),
        ("a larger one", |puppet, files| drop(puppet.ask(replace(files[0], &"x".repeat(9_000))))),
        ("the same again", |puppet, files| {
            puppet.ask(replace(files[0], "new"));
            puppet.ask(replace(files[0], "new"));
        }),
    ];
    for (name, live) in off_plan {
        let run = ward.run(once_planned(move |puppet, files| {
            live(puppet, files);
            // What it says about itself is no verdict.
            treated(puppet);
        }));
        assert_eq!(run.state, RunState::Undone, "{name}: {run:?}");
        assert!(ward.rules(&run).iter().any(|rule| rule.starts_with("plan.")), "{name}: {:?}", ward.rules(&run));
        assert!(ward.effects(&run) <= 1, "{name}");
    }
}

// FS26, RN14.
#[test]
fn a_worker_gains_no_right_by_speaking_for_itself() {
    let mut ward = Ward::new();
    let run = ward.run(at(Moment::DryCall, |puppet| {
        let mut rule = |call| match puppet.ask(call) {
            Some(Reply::Denied(Denial { cause, rule, .. })) => {
                assert_ne!(cause, DenialCause::Failed, "{rule}");
            }
            other => panic!("{other:?}"),
        };
        // Handles that nobody gave out, for every kind of thing.
        for handle in [0, 1, 7, 4711, u32::MAX].map(Handle) {
            rule(Call::Entry { handle, verb: EntryCall::Remove });
            rule(Call::Dir { handle, verb: DirCall::Space });
            rule(Call::Unit { handle, verb: UnitCall::Restart });
        }
        // Interfaces and labels that are not granted.
        for interface in Interface::ALL {
            for label in ["", "other", "/etc", "../logs", "LOGS", "logs\0"] {
                rule(Call::Open { interface, label: label.to_owned() });
            }
        }
        rule(Call::Open { interface: Interface::Programs, label: "logs".into() });
        let files = list(puppet);
        let mut rule = |call| assert!(matches!(puppet.ask(call), Some(Reply::Denied(_))));
        for verb in [
            EntryCall::Remove,
            EntryCall::Truncate,
            EntryCall::Archive,
            EntryCall::SetAside,
            EntryCall::Append { content: Blob(b"x".to_vec()) },
            EntryCall::Read { offset: 0, max: 10 },
        ] {
            rule(Call::Entry { handle: files[0], verb });
        }
        // One thing taken for another.
        rule(Call::Unit { handle: files[0], verb: UnitCall::Restart });
        puppet.say(&FromWorker::Remediated(Report::GaveUp("all denied".into())));
    }));
    assert_eq!(run.state, RunState::Refused, "{run:?}");
    assert!(ward.rules(&run).len() >= 40, "{:?}", ward.rules(&run));
    assert_eq!(ward.effects(&run), 0);
}

// FS25.
#[test]
fn a_handle_of_one_call_is_none_in_the_next() {
    let mut ward = Ward::new();
    // In the dry run the files were 2 and 3; in the live run nothing was opened yet, and in the check neither.
    let run = ward.run(Box::new(|puppet, moment| {
        match moment {
            Moment::DryCall => {
                let files = list(puppet);
                assert_eq!(files, [Handle(2), Handle(3)]);
                puppet.ask(replace(files[0], "new"));
            }
            Moment::LiveCall => {
                let denied = puppet.ask(replace(Handle(2), "new"));
                assert!(
                    matches!(denied, Some(Reply::Denied(Denial { ref rule, .. })) if rule == "handle"),
                    "{denied:?}"
                );
            }
            Moment::Started | Moment::Loaded | Moment::Check => return false,
        }
        treated(puppet);
        true
    }));
    assert_eq!((run.state, ward.effects(&run)), (RunState::Undone, 0), "{run:?}");
}

/// A frame as it should be, and what is then done to it.
fn told(message: &FromWorker) -> Vec<u8> {
    frame::encode(&Frame { epoch: 0, id: 0, message }).unwrap()
}

// RN01, RN14.
#[test]
fn frames_that_are_none_end_the_run_and_nothing_else() {
    let mut ward = Ward::new();
    let ready = || FromWorker::Ready { version: "x".into(), engine: "x".into(), walls: Vec::new() };
    let mut long = told(&FromWorker::Loaded);
    long[24..28].copy_from_slice(&u32::MAX.to_be_bytes());
    let short = told(&FromWorker::Loaded)[..20].to_vec();
    let mut other_version = told(&FromWorker::Loaded);
    other_version[5] = 9;
    let nonsense = frame::encode(&Frame { epoch: 0, id: 0, message: "nonsense" }).unwrap();
    let frames = [
        ("garbage", vec![0xff; 4096]),
        ("nothing but zeros", vec![0; 4096]),
        ("four gigabytes", long),
        ("cut", short),
        ("another version", other_version),
        ("no message of this conversation", nonsense),
        ("ready again", told(&ready())),
        ("a chunk", told(&FromWorker::Chunk(Blob(vec![1; 1000])))),
        ("compiled", told(&FromWorker::Compiled { size: u64::MAX, imports: Vec::new() })),
        ("an opinion", told(&FromWorker::Checked(Opinion::Satisfied))),
    ];
    for moment in [Moment::Started, Moment::Loaded, Moment::DryCall, Moment::LiveCall] {
        for (name, bytes) in &frames {
            if moment == Moment::Started && *name == "ready again" {
                continue;
            }
            let bytes = bytes.clone();
            let run = ward.run(Box::new(move |puppet, now| {
                if now == moment {
                    puppet.raw(&bytes);
                } else if now == Moment::DryCall {
                    plan_one(puppet);
                } else {
                    return false;
                }
                true
            }));
            assert_eq!(ward.effects(&run), 0, "{name} at {moment:?}: {run:?}");
        }
    }
    // A host call before anything was loaded is no host call.
    let early = ward.run(at(Moment::Started, |puppet| {
        puppet.say(&FromWorker::Host(Box::new(Call::Open { interface: Interface::Files, label: "logs".into() })));
    }));
    assert_eq!((early.state, ward.rules(&early).len()), (RunState::Refused, 0), "{early:?}");
}

// AB15, RN14, RS19.
#[test]
fn a_worker_that_dies_says_nothing_or_does_not_listen_holds_nobody_up() {
    let mut ward = Ward::new();
    let dies = ward.run(at(Moment::DryCall, Puppet::die));
    assert!(dies.reason.contains("without an answer") || dies.reason.contains("went away"), "{}", dies.reason);
    let dies_live = ward.run(once_planned(|puppet, files| {
        puppet.ask(replace(files[0], "new"));
        puppet.die();
    }));
    assert_eq!((dies_live.state, ward.effects(&dies_live)), (RunState::Undone, 1), "{dies_live:?}");

    for (name, act) in [
        ("silent", at(Moment::DryCall, Puppet::wait)),
        ("dripping", at(Moment::DryCall, |puppet| puppet.drip(&told(&FromWorker::Loaded)))),
        (
            "asks and does not listen",
            at(Moment::DryCall, |puppet| {
                let ask =
                    FromWorker::Host(Box::new(Call::Open { interface: Interface::Files, label: "x".repeat(400) }));
                puppet.flood(&told(&ask));
            }),
        ),
    ] {
        let begun = Instant::now();
        let run = ward.run(act);
        assert_eq!((run.state, ward.effects(&run)), (RunState::Refused, 0), "{name}: {run:?}");
        assert!(begun.elapsed() < Duration::from_secs(15), "{name}: {:?}", begun.elapsed());
    }
}

// RS02, RS10.
#[test]
fn a_flood_of_calls_and_of_words_is_bounded() {
    let mut ward = Ward::new();
    let calls = ward.run(at(Moment::DryCall, |puppet| {
        while puppet.ask(Call::Dir { handle: Handle(9), verb: DirCall::Space }).is_some() {}
    }));
    assert!(calls.reason.contains("more host calls") || calls.reason.contains("time limit"), "{}", calls.reason);
    assert!(ward.rules(&calls).len() <= 64, "{}", ward.rules(&calls).len());

    let words = "A\u{1b}[2J".repeat(100_000);
    let said = ward.run(at(Moment::DryCall, move |puppet| {
        puppet.ask(Call::Open { interface: Interface::Files, label: words.clone() });
        puppet.ask(Call::Log { severity: theriac_model::fault::Severity::Warning, text: words.clone() });
        let text = words.clone();
        puppet.say(&FromWorker::Ended { reason: EndReason::Trap, sentence: text });
    }));
    let kept: usize = ward.records(&said).iter().map(|record| serde_json::to_vec(record).unwrap().len()).sum();
    assert!(kept < 128 << 10, "{kept} bytes in the journal");
}

/// One message at random: any call with any handle, or something that is no call.
fn message() -> impl Strategy<Value = FromWorker> {
    let handle = || prop_oneof![4 => 0_u32..6, 1 => any::<u32>()].prop_map(Handle);
    let text = || "[ -~]{0,40}";
    let entry = prop_oneof![
        Just(EntryCall::Stat),
        Just(EntryCall::Remove),
        Just(EntryCall::Truncate),
        Just(EntryCall::SetAside),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| EntryCall::Replace { content: Blob(bytes) }),
    ];
    let call = prop_oneof![
        3 => (prop::sample::select(Interface::ALL.to_vec()), prop_oneof![Just("logs".to_owned()), Just("target".to_owned()), text()])
            .prop_map(|(interface, label)| Call::Open { interface, label }),
        3 => handle().prop_map(|handle| Call::Dir { handle, verb: DirCall::List { filter: FILTER, cursor: 0 } }),
        6 => (handle(), entry).prop_map(|(handle, verb)| Call::Entry { handle, verb }),
        1 => handle().prop_map(|handle| Call::Unit { handle, verb: UnitCall::Restart }),
        1 => handle().prop_map(|handle| Call::Drop { handle }),
    ];
    prop_oneof![
        12 => call.prop_map(|call| FromWorker::Host(Box::new(call))),
        1 => Just(FromWorker::Loaded),
        1 => text().prop_map(|text| FromWorker::Remediated(Report::Treated(text))),
        1 => text().prop_map(|text| FromWorker::Remediated(Report::NothingToDo(text))),
        1 => Just(FromWorker::Checked(Opinion::Satisfied)),
        1 => text().prop_map(|sentence| FromWorker::Ended { reason: EndReason::Trap, sentence }),
    ]
}

// RN14.
#[test]
fn no_sequence_of_messages_does_more_than_its_plan() {
    let mut ward = Ward::new();
    let sequence = || proptest::collection::vec(message(), 0..16);
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let ward = std::cell::RefCell::new(&mut ward);
    let outcome = runner.run(&(sequence(), sequence()), |(dry, live)| {
        let mut ward = ward.borrow_mut();
        let run = ward.run(Box::new(move |puppet, moment| {
            let said = match moment {
                Moment::DryCall => &dry,
                Moment::LiveCall => &live,
                Moment::Started | Moment::Loaded | Moment::Check => return false,
            };
            list(puppet);
            for message in said {
                if puppet.tell(message).is_none() {
                    break;
                }
            }
            treated(puppet);
            true
        }));
        // Each that was begun is in the plan, in its order.
        ward.effects(&run);
        Ok(())
    });
    outcome.unwrap();
}
