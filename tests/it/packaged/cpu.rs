//! Units that spin: one that takes every core and is throttled, and one that goes on to take its core when it is throttled to
//! the operator's share, and is restarted.

use std::time::{Duration, Instant};

use theriac_model::effect::{Effect, UnitVerb};
use theriac_model::run::RunState;
use theriac_model::unit::Property;

use super::configuration::Playbook;
use super::machine::{FIXTURE, Machine};
use super::{Fault, Healed, heal, kernel};

const HOG: &str = "hog.service";
const DRONE: &str = "drone.service";
/// The hog may take less of the machine than this, and a throttle to half of it is below.
const HOG_SHARE: f64 = 0.6;

/// As long as the product's own default says, a unit has to be busy.
pub(super) fn listed() -> String {
    format!(
        r#"
[[unit]]
name          = "{HOG}"
verbs         = ["restart", "set-property"]
traffic_share = 0.1
health        = [{{ http = "http://127.0.0.1:8101/health", status = 200 }}]
cpu_share     = {HOG_SHARE}

[[unit]]
name          = "{DRONE}"
verbs         = ["restart", "set-property"]
traffic_share = 0.1
health        = [{{ http = "http://127.0.0.1:8102/health", status = 200 }}]
cpu_share     = {:.3}
cpu_for       = "3s"
"#,
        drone_share()
    )
}

/// Seven tenths of one core.
fn drone_share() -> f64 {
    0.7 / f64::from(u32::try_from(kernel::cpus()).unwrap())
}

pub(super) fn playbooks() -> Vec<Playbook> {
    let rungs = |throttle, within| vec![("cpu-calm", throttle, 1, within), ("cpu-calm", "step: restart", 2, "30s")];
    vec![
        Playbook {
            name: "hog",
            kind: "cpu-saturation",
            target: Some("unit:hog.service"),
            rungs: rungs("step: throttle, share: 500", "30s"),
        },
        // Nineteen twentieths of all cores leave a single busy thread what it has.
        Playbook {
            name: "drone",
            kind: "cpu-saturation",
            target: Some("unit:drone.service"),
            rungs: rungs("step: throttle, share: 950", "4s"),
        },
    ]
}

pub(super) fn install(machine: &Machine) {
    machine.start_service(
        HOG,
        &format!("CPUAccounting=yes\nExecStart={FIXTURE} --port 8101 --spin-when /run/hog.trigger"),
    );
    machine.start_service(
        DRONE,
        &format!("CPUAccounting=yes\nExecStart={FIXTURE} --port 8102 --spin-when /run/drone.trigger --spin-threads 1"),
    );
}

/// Pulls the trigger and waits until the unit spins.
fn spin(machine: &Machine, name: &'static str, unit: &'static str, limit: f64) -> Healed {
    let trigger = format!("/run/{}.trigger", unit.trim_end_matches(".service"));
    let target = if unit == HOG { "unit:hog.service" } else { "unit:drone.service" };
    let fault = Fault { name, kind: "cpu-saturation", target, mission: Duration::from_secs(30) };
    let mut share = kernel::cpu_share(machine, unit);
    let mut spins = kernel::cpu_share(machine, unit);
    let broken = || {
        let began = Instant::now();
        machine.write(&trigger, "");
        machine.until(&format!("{unit} to spin"), || spins().is_some_and(|share| share >= limit));
        began
    };
    heal(machine, fault, broken, || share().is_some_and(|share| share < limit))
}

fn quota_that_was_set(healed: &Healed) -> u64 {
    let quota = healed.effects().into_iter().find_map(|effect| match effect {
        Effect::Unit { verb: UnitVerb::SetProperty { property: Property::CpuQuota(quota) }, .. } => *quota,
        _ => None,
    });
    u64::from(quota.expect("a throttle"))
}

/// Half of the machine, in the kernel's own words.
pub(super) fn is_throttled(machine: &Machine) -> Healed {
    assert_eq!(kernel::cpu_quota(machine, HOG), None);
    let before = machine.property(HOG, "InvocationID");
    let healed = spin(machine, "spins on every core: throttled", HOG, HOG_SHARE);
    let half = u64::try_from(kernel::cpus()).unwrap() * 1000 / 2;
    assert_eq!(quota_that_was_set(&healed), half);
    assert_eq!(kernel::cpu_quota(machine, HOG), Some(half), "in the kernel's file");
    assert_eq!(healed.runs(), [RunState::Committed]);
    assert_eq!(machine.property(HOG, "InvocationID"), before, "nothing was lost");
    println!("hog.service: the kernel lets it have {half} thousandths of a core");
    // It would go on to take half of the machine.
    machine.run(&["systemctl", "stop", HOG]);
    healed
}

/// The throttle is taken back before the restart: it did not help.
pub(super) fn is_restarted_where_a_throttle_does_not_help(machine: &Machine) -> Healed {
    let before = machine.property(DRONE, "InvocationID");
    let healed = spin(machine, "spins on one core: restarted", DRONE, drone_share());
    let throttled = quota_that_was_set(&healed);
    assert_eq!(throttled, u64::try_from(kernel::cpus()).unwrap() * 950);
    assert_eq!(healed.runs(), [RunState::Undone, RunState::Committed]);
    assert_eq!(kernel::cpu_quota(machine, DRONE), None, "the throttle is gone from the kernel");
    assert!(matches!(healed.effects().last(), Some(Effect::Unit { verb: UnitVerb::Restart, .. })));
    assert_ne!(machine.property(DRONE, "InvocationID"), before, "it is another process");
    println!("drone.service: {throttled} thousandths of a core did not help and were taken back");
    healed
}
