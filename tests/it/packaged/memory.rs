//! A unit that leaks. Where the kernel has MemoryHigh (cgroup v2) and somewhere to put the memory (swap), it is held by that;
//! without swap the throttle is taken back; without MemoryHigh there is none. Then evidence is kept and the unit restarted.

use std::fs;
use std::time::{Duration, Instant};

use theriac_model::effect::{Effect, UnitVerb};
use theriac_model::record::Record;
use theriac_model::run::RunState;

use super::configuration::Playbook;
use super::machine::{FIXTURE, Machine};
use super::{Fault, Healed, heal, kernel};

const LEAKY: &str = "leaky.service";
const TRIGGER: &str = "/run/leaky.trigger";
const LIMIT: u64 = 64 << 20;

pub(super) const LISTED: &str = r#"
[[unit]]
name          = "leaky.service"
verbs         = ["restart", "set-property"]
traffic_share = 0.1
health        = [{ http = "http://127.0.0.1:8103/health", status = 200 }]
memory_limit  = "64MiB"
"#;

pub(super) fn playbooks() -> Vec<Playbook> {
    let rungs =
        vec![("memory-relief", "step: throttle, below: 100", 1, "10s"), ("memory-relief", "step: restart", 2, "30s")];
    vec![Playbook { name: "memory-leak", kind: "memory-leak", target: None, rungs }]
}

pub(super) fn install(machine: &Machine) {
    machine
        .start_service(LEAKY, &format!("MemoryAccounting=yes\nExecStart={FIXTURE} --port 8103 --leak-when {TRIGGER}"));
}

/// What the machine can do about a leak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    /// MemoryHigh, and swap to put the memory into.
    Hold,
    /// MemoryHigh, and nowhere to put the memory.
    Stall,
    /// Cgroup v1 has no MemoryHigh.
    RestartOnly,
}

impl Means {
    fn of(machine: &Machine) -> Self {
        let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
        match (kernel::memory_high(machine, LEAKY), swaps.lines().count() > 1) {
            (None, _) => Self::RestartOnly,
            (Some(_), true) => Self::Hold,
            (Some(_), false) => Self::Stall,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Hold => "leaks: held by MemoryHigh",
            Self::Stall => "leaks: no swap, restarted",
            Self::RestartOnly => "leaks: no MemoryHigh, restarted",
        }
    }
}

/// With whatever this machine has.
pub(super) fn leaks_and_is_relieved(machine: &Machine) -> Healed {
    relieve(machine, Means::of(machine))
}

/// On a machine that has everything it takes.
pub(super) fn leaks_and_is_held(machine: &Machine) -> Healed {
    assert_eq!(Means::of(machine), Means::Hold, "cgroup v2 with all controllers, and swap");
    relieve(machine, Means::Hold)
}

fn relieve(machine: &Machine, means: Means) -> Healed {
    let before = machine.property(LEAKY, "InvocationID");
    let healed = leak(machine, means.name());
    let restarted = machine.property(LEAKY, "InvocationID") != before;
    match means {
        Means::Hold => {
            assert_eq!(healed.runs(), [RunState::Committed]);
            assert!(!restarted, "nothing was lost");
            is_held_by_the_kernel(machine);
        }
        Means::Stall | Means::RestartOnly => {
            assert_eq!(healed.runs(), [RunState::Undone, RunState::Committed]);
            assert!(restarted, "it is another process");
            assert!(matches!(healed.effects().last(), Some(Effect::Unit { verb: UnitVerb::Restart, .. })));
            let high = kernel::memory_high(machine, LEAKY);
            assert!(high.as_deref().is_none_or(|high| high == "max"), "the throttle is gone: {high:?}");
        }
    }
    evidence_was_kept(&healed);
    healed
}

fn leak(machine: &Machine, name: &'static str) -> Healed {
    let fault = Fault { name, kind: "memory-leak", target: "unit:leaky.service", mission: Duration::from_secs(10) };
    let holds = || kernel::anonymous(machine, LEAKY);
    let broken = || {
        let began = Instant::now();
        machine.write(TRIGGER, "");
        machine.until("it to be over its limit", || holds().is_some_and(|bytes| bytes > LIMIT));
        began
    };
    heal(machine, fault, broken, || holds().is_some_and(|bytes| bytes <= LIMIT))
}

fn is_held_by_the_kernel(machine: &Machine) {
    let high = kernel::memory_high(machine, LEAKY).unwrap();
    let times = kernel::times_above_high(machine, LEAKY).unwrap();
    let anonymous = kernel::anonymous(machine, LEAKY).unwrap();
    // A tenth below the limit, in whole MiB.
    assert_eq!(high, (57_u64 << 20).to_string());
    assert!(times > 0, "the kernel counts how often it throttled");
    println!("{LEAKY}: memory.high {high}, memory.events high {times}, anonymous {anonymous}");
}

/// Which process held the memory, said before the restart took it away.
fn evidence_was_kept(healed: &Healed) {
    let said = healed.records.iter().filter_map(|record| match record {
        Record::RemedyLog { text, dry: false, .. } => Some(text.as_str()),
        _ => None,
    });
    let said: Vec<&str> = said.collect();
    assert!(said.iter().any(|line| line.contains("the largest is fixture-service")), "{said:?}");
}
