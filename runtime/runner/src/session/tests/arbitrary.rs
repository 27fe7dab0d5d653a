//! A worker that was taken over says what it likes, in the dry run and in the live one. Whatever that is: a dry run leaves no trace,
//! the live run does an ordered part of the plan and nothing after the first effect that is off it, what is not granted stays as
//! it is, and what was done can be put back.

use proptest::collection::vec;
use proptest::prelude::*;
use theriac_model::call::{
    Call, DirCall, EntryCall, Filter, GroupCall, Handle, Interface, Order, ProbeCall, ProcessCall, SeriesCall, UnitCall,
};
use theriac_model::denial::DenialCause;
use theriac_model::effect::UndoClass;
use theriac_model::fault::Severity;
use theriac_model::http::{HttpCall, HttpMethod};
use theriac_model::kernel::KnobCall;
use theriac_model::plan::PlanCursor;
use theriac_model::program::ProgramCall;
use theriac_model::record::Record;
use theriac_model::release::ReleaseCall;
use theriac_model::unit::{KillWhom, Property, Signal};
use theriac_model::units::Blob;

use super::world::*;
use crate::session::Host as _;

const CALLS: usize = 24;

/// What every run begins with, so that the numbers of handles that come after it stand for something.
fn opening() -> Vec<Call> {
    let open = |interface, label: &str| Call::Open { interface, label: label.to_owned() };
    vec![
        open(Interface::Files, "logs"),
        Call::Dir { handle: Handle(1), verb: DirCall::List { filter: ALL, cursor: 0 } },
        open(Interface::Units, "target"),
        open(Interface::Processes, "group"),
    ]
}

fn handle() -> impl Strategy<Value = Handle> {
    prop_oneof![9 => (0_u32..9).prop_map(Handle), 1 => any::<u32>().prop_map(Handle)]
}

fn label() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["logs", "target", "group", "other", "", "../logs", "LOGS"]).prop_map(str::to_owned),
        1 => ".{0,40}",
    ]
}

fn content() -> impl Strategy<Value = Blob> {
    vec(any::<u8>(), 0..64).prop_map(Blob)
}

fn dir_verb() -> impl Strategy<Value = DirCall> {
    let order = prop::sample::select(vec![Order::Name, Order::OldestFirst, Order::LargestFirst]);
    let list = (order, prop_oneof![4 => Just(0), 1 => any::<u64>()])
        .prop_map(|(order, cursor)| DirCall::List { filter: Filter { order, ..ALL }, cursor });
    prop_oneof![4 => list, 1 => Just(DirCall::Space), 1 => Just(DirCall::ListDeleted)]
}

fn entry_verb() -> impl Strategy<Value = EntryCall> {
    prop_oneof![
        Just(EntryCall::Stat),
        (any::<u64>(), any::<u32>()).prop_map(|(offset, max)| EntryCall::Read { offset, max }),
        any::<u32>().prop_map(|max| EntryCall::Tail { max }),
        content().prop_map(|content| EntryCall::Replace { content }),
        content().prop_map(|content| EntryCall::Append { content }),
        Just(EntryCall::Truncate),
        Just(EntryCall::CopyTruncate),
        Just(EntryCall::Remove),
        Just(EntryCall::Archive),
        Just(EntryCall::SetAside),
    ]
}

fn signal() -> impl Strategy<Value = Signal> {
    prop::sample::select(vec![Signal::Term, Signal::Kill, Signal::Hup, Signal::Usr1])
}

fn unit_verb() -> impl Strategy<Value = UnitCall> {
    let property = prop_oneof![
        any::<Option<u32>>().prop_map(Property::CpuQuota),
        any::<Option<u32>>().prop_map(Property::CpuWeight),
        any::<Option<u64>>().prop_map(Property::MemoryHigh),
        any::<Option<u64>>().prop_map(Property::TasksMax),
        (1_u32..2000).prop_map(|quota| Property::CpuQuota(Some(quota))),
    ];
    prop_oneof![
        Just(UnitCall::Status),
        Just(UnitCall::Start),
        Just(UnitCall::Stop),
        Just(UnitCall::Restart),
        Just(UnitCall::Reload),
        Just(UnitCall::ResetFailed),
        signal().prop_map(|signal| UnitCall::Kill { whom: KillWhom::All, signal }),
        property.prop_map(|property| UnitCall::SetProperty { property }),
        any::<u32>().prop_map(|lines| UnitCall::LogTail { lines }),
    ]
}

/// What this run has no grant for.
fn elsewhere() -> impl Strategy<Value = Call> {
    let send = |(handle, path)| Call::Http {
        handle,
        verb: HttpCall::Send { method: HttpMethod::Post, path, query: Vec::new(), body: Blob(Vec::new()) },
    };
    prop_oneof![
        handle().prop_map(|handle| Call::Series { handle, verb: SeriesCall::Range { seconds: u32::MAX } }),
        handle().prop_map(|handle| Call::Probe { handle, verb: ProbeCall::Check }),
        handle().prop_map(|handle| Call::Program { handle, verb: ProgramCall::Run { slots: Vec::new() } }),
        (handle(), ".{0,20}").prop_map(send),
        (handle(), any::<i64>()).prop_map(|(handle, value)| Call::Knob { handle, verb: KnobCall::Set { value } }),
        handle().prop_map(|handle| Call::Release { handle, verb: ReleaseCall::SwitchBack }),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    let interface = prop::sample::select(Interface::ALL.to_vec());
    let group = prop_oneof![
        Just(GroupCall::List),
        Just(GroupCall::Usage),
        any::<u32>().prop_map(|cpus| GroupCall::SetAffinity { cpus }),
        any::<i32>().prop_map(|nice| GroupCall::Renice { nice }),
    ];
    prop_oneof![
        3 => (interface, label()).prop_map(|(interface, label)| Call::Open { interface, label }),
        3 => (handle(), dir_verb()).prop_map(|(handle, verb)| Call::Dir { handle, verb }),
        12 => (handle(), entry_verb()).prop_map(|(handle, verb)| Call::Entry { handle, verb }),
        4 => (handle(), unit_verb()).prop_map(|(handle, verb)| Call::Unit { handle, verb }),
        1 => (handle(), group).prop_map(|(handle, verb)| Call::Group { handle, verb }),
        1 => (handle(), signal()).prop_map(|(handle, signal)| Call::Process { handle, verb: ProcessCall::Signal { signal } }),
        2 => elsewhere(),
        1 => handle().prop_map(|handle| Call::Drop { handle }),
        1 => ".{0,300}".prop_map(|text| Call::Log { severity: Severity::Info, text }),
    ]
}

/// The calls of a live run: those of the dry run without some of them, and with others between them.
fn altered(dry: &[Call], kept: &[bool], more: &[(usize, Call)]) -> Vec<Call> {
    let mut live: Vec<Call> = dry.iter().zip(kept).filter(|(_, kept)| **kept).map(|(call, _)| call.clone()).collect();
    for (at, call) in more {
        live.insert((*at).min(live.len()), call.clone());
    }
    live
}

fn only_the_plan_is_done(dry: &[Call], live: &[Call]) {
    let place = place();
    let secret = place.disk.path().join("secret.log");
    std::fs::write(&secret, b"nobody was granted this").unwrap();
    for (name, content) in [("a.log", "one"), ("b.gz", "two"), ("sub/c.log", "three"), ("other.txt", "not granted")] {
        place.write(name, content.as_bytes());
    }
    let logs = place.disk.path().join("logs");
    let (before, told) = (snapshot(&logs), std::fs::read(&secret).unwrap());
    let calls = |calls: &[Call]| opening().into_iter().chain(calls.iter().cloned()).collect::<Vec<_>>();

    let plan = place.plan(|ask| calls(dry).into_iter().for_each(|call| drop(ask(call))));
    assert_eq!(snapshot(&logs), before, "a dry run leaves no trace");
    assert!(place.entries().iter().all(|entry| !matches!(entry.record, Record::Intent { .. })));

    let mut session = place.live(&plan);
    calls(live).into_iter().for_each(|call| drop(session.answer(call)));
    let end = session.finish();

    let (mut cursor, mut intents, mut off_plan, mut lasting) = (PlanCursor::default(), 0, false, false);
    for entry in place.entries() {
        match &entry.record {
            Record::Intent { effect, class, .. } => {
                assert!(!off_plan, "{effect} after an effect off plan");
                assert!(cursor.advance(&plan, effect).is_some(), "{effect} is not next in the plan");
                lasting |= matches!(class, UndoClass::Irreversible { .. });
                intents += 1;
            }
            Record::Denied { dry: false, denial, .. } => off_plan |= denial.cause == DenialCause::OffPlan,
            _ => {}
        }
    }
    assert!(intents <= end.intents && intents as usize <= plan.effects.len());
    assert_eq!(end.off_plan.is_some(), off_plan);
    assert_eq!(std::fs::read(&secret).unwrap(), told);
    assert_eq!(std::fs::read(place.path("other.txt")).unwrap(), b"not granted");
    place.undo();
    if !lasting {
        assert_eq!(snapshot(&logs), before, "everything is put back");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    // AB12, FS25, RN14.
    #[test]
    fn whatever_a_worker_says_only_its_plan_is_done_and_is_taken_back(
        dry in vec(call(), 0..CALLS),
        kept in vec(prop::bool::weighted(0.85), CALLS),
        more in vec((0..CALLS, call()), 0..3),
    ) {
        only_the_plan_is_done(&dry, &altered(&dry, &kept, &more));
    }
}
