//! From a fault to the first good answer, through the whole of Theriac: services are killed and stopped for real, and the clock
//! runs until the service answers again. The faults that need a filesystem or a core of their own are the demo's.
//!
//! `cargo bench --bench heal -- 20` breaks each 20 times.

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Signal, kill_process};
use theriac_benches::stack::{Plan, Stack};

/// How often each fault is made, unless an argument says so.
const ROUNDS: usize = 10;

/// A fault, and how long the mission allows for it.
struct Case {
    name: &'static str,
    signal: Signal,
    mission: &'static str,
}

const CASES: [Case; 2] = [
    Case { name: "crash (SIGKILL)", signal: Signal::KILL, mission: "3 s" },
    Case { name: "hang (SIGSTOP), found by 3 failed checks", signal: Signal::STOP, mission: "-" },
];

fn main() {
    // Cargo adds `--bench`.
    let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(ROUNDS);
    if let Err(error) = measure(rounds) {
        println!("heal: {error:#}");
    }
}

fn measure(rounds: usize) -> anyhow::Result<()> {
    let stack = Stack::start(&plan())?;
    let port = *stack.ports().first().context("a service")?;
    println!(
        "{:<44}{:>4}{:>10}{:>10}{:>10}{:>10}",
        "fault, until the service answers", "n", "min", "median", "max", "mission"
    );
    let mut incidents = 0;
    for Case { name, signal, mission } in CASES {
        let mut times = Vec::new();
        for _ in 0..rounds {
            let patient = stack.patient(port)?;
            let began = Instant::now();
            kill_process(patient, signal)?;
            times.push(stack.healed(port, began)?);
            incidents += 1;
            stack.quiet(incidents)?;
        }
        times.sort();
        let at = |index: usize| times.get(index).copied().map_or_else(String::new, seconds);
        println!(
            "{name:<44}{:>4}{:>10}{:>10}{:>10}{mission:>10}",
            times.len(),
            at(0),
            at(times.len() / 2),
            at(times.len().saturating_sub(1))
        );
    }
    Ok(())
}

fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

/// The times of production up to the repair; after it, seconds in place of minutes.
fn plan() -> Plan {
    let playbook = |kind: &str, step: &str| {
        format!(
            "name: {kind}\nsummary: bench\nhandles: [{kind}]\nrungs:\n  - remedy: service-recover\n    params: {{ step: {step} }}\n    level: 1\n    healed_within: 20s\n    stable_for: 300ms\n"
        )
    };
    Plan {
        services: 1,
        remedies: vec!["service-recover"],
        rules: "[timing]\ncooldown = \"0ms\"\n[limits]\nbreaker_runs = 1000\nbreaker_undos = 1000\n".to_owned(),
        playbooks: vec![
            ("service-crash.yaml", playbook("service-crash", "start")),
            ("service-unhealthy.yaml", playbook("service-unhealthy", "restart")),
        ],
        ..Plan::default()
    }
}
