//! Units that leak. Where the kernel has MemoryHigh (cgroup v2) and somewhere to put the memory (swap), the unit is held by it;
//! without swap the throttle is taken back; without MemoryHigh there is none. Then evidence is kept and the unit restarted.

use std::fs;
use std::time::{Duration, Instant};

use theriac_model::effect::{Effect, UnitVerb};
use theriac_model::record::Record;
use theriac_model::run::RunState;

use super::configuration::Playbook;
use super::machine::{FIXTURE, Machine};
use super::{Fault, Healed, heal, kernel};

/// A unit that can be made to leak.
#[derive(Debug, Clone, Copy)]
struct Patient {
    unit: &'static str,
    target: &'static str,
    port: u16,
}

const LEAKY: Patient = Patient { unit: "leaky.service", target: "unit:leaky.service", port: 8103 };
/// For a machine that is to be shown with swap and without.
const SIEVE: Patient = Patient { unit: "sieve.service", target: "unit:sieve.service", port: 8104 };
const LIMIT: u64 = 64 << 20;

pub(super) fn listed() -> String {
    let listed = |Patient { unit, port, .. }: Patient| {
        format!(
            r#"
[[unit]]
name          = "{unit}"
verbs         = ["restart", "set-property"]
traffic_share = 0.1
health        = [{{ http = "http://127.0.0.1:{port}/health", status = 200 }}]
memory_limit  = "64MiB"
"#
        )
    };
    [LEAKY, SIEVE].map(listed).concat()
}

pub(super) fn playbooks() -> Vec<Playbook> {
    let rungs =
        vec![("memory-relief", "step: throttle, below: 100", 1, "10s"), ("memory-relief", "step: restart", 2, "30s")];
    vec![Playbook { name: "memory-leak", kind: "memory-leak", target: None, rungs }]
}

pub(super) fn install(machine: &Machine) {
    for patient in [LEAKY, SIEVE] {
        let Patient { unit, port, .. } = patient;
        let trigger = patient.trigger();
        let service = format!("MemoryAccounting=yes\nExecStart={FIXTURE} --port {port} --leak-when {trigger}");
        machine.start_service(unit, &service);
    }
}

impl Patient {
    fn trigger(self) -> String {
        format!("/run/{}.trigger", self.unit)
    }
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
    fn of(machine: &Machine, unit: &str) -> Self {
        let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
        match (kernel::memory_high(machine, unit), swaps.lines().count() > 1) {
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
    relieve(machine, LEAKY, Means::of(machine, LEAKY.unit))
}

/// On a machine of our own that has everything, with swap and without.
pub(super) fn leaks_and_is_held_or_restarted(machine: &Machine) -> [Healed; 2] {
    assert_eq!(Means::of(machine, LEAKY.unit), Means::Hold, "cgroup v2 with all controllers, and swap");
    let held = relieve(machine, LEAKY, Means::Hold);
    // What it holds would come back all at once.
    machine.run(&["systemctl", "stop", LEAKY.unit]);
    machine.run(&["swapoff", "--all"]);
    [held, relieve(machine, SIEVE, Means::Stall)]
}

fn relieve(machine: &Machine, patient: Patient, means: Means) -> Healed {
    let before = machine.property(patient.unit, "InvocationID");
    let healed = leak(machine, patient, means.name());
    let restarted = machine.property(patient.unit, "InvocationID") != before;
    match means {
        Means::Hold => {
            assert_eq!(healed.runs(), [RunState::Committed]);
            assert!(!restarted, "nothing was lost");
            is_held_by_the_kernel(machine, patient.unit);
        }
        Means::Stall | Means::RestartOnly => {
            assert_eq!(healed.runs(), [RunState::Undone, RunState::Committed]);
            assert!(restarted, "it is another process");
            assert!(matches!(healed.effects().last(), Some(Effect::Unit { verb: UnitVerb::Restart, .. })));
            let high = kernel::memory_high(machine, patient.unit);
            assert!(high.as_deref().is_none_or(|high| high == "max"), "the throttle is gone: {high:?}");
        }
    }
    evidence_was_kept(&healed);
    healed
}

fn leak(machine: &Machine, patient: Patient, name: &'static str) -> Healed {
    let Patient { unit, target, .. } = patient;
    let fault = Fault { name, kind: "memory-leak", target, mission: Duration::from_secs(10) };
    let holds = || kernel::anonymous(machine, unit);
    let broken = || {
        let began = Instant::now();
        machine.write(&patient.trigger(), "");
        machine.until(&format!("{unit} to be over its limit"), || holds().is_some_and(|bytes| bytes > LIMIT));
        began
    };
    heal(machine, fault, broken, || holds().is_some_and(|bytes| bytes <= LIMIT))
}

fn is_held_by_the_kernel(machine: &Machine, unit: &str) {
    let high = kernel::memory_high(machine, unit).unwrap();
    let times = kernel::times_above_high(machine, unit).unwrap();
    let anonymous = kernel::anonymous(machine, unit).unwrap();
    // A tenth below the limit, in whole MiB.
    assert_eq!(high, (57_u64 << 20).to_string());
    assert!(times > 0, "the kernel counts how often it throttled");
    println!("{unit}: memory.high {high}, memory.events high {times}, anonymous {anonymous}");
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
