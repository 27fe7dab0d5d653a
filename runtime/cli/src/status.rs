//! `theriac status` and `theriac numbers`: how everything is, on one screen.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use theriac_model::unit::UnitState;
use theriac_protocol::agent::{AgentAnswer, AgentRequest, AgentStatus};
use theriac_protocol::operator::{OperatorAnswer, OperatorRequest, RunnerStatus};
use theriac_protocol::runner::{RunSummary, RunnerNumbers};

use crate::client;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::text::{columns, outside, span};

/// What `theriac status --json` prints.
#[derive(Debug, Serialize)]
pub struct Status {
    /// `None`: it does not answer.
    pub runner: Option<RunnerStatus>,
    /// `None`: it does not answer.
    pub agent: Option<AgentStatus>,
    /// As the runner saw them last.
    pub units: Vec<UnitState>,
}

/// Shows how runner, agent and units are. Exit code 4 where the runner is not running.
pub fn run(context: &Context) -> Result<Exit, Failure> {
    let layout = &context.layout;
    let runner = match client::operator(layout, &OperatorRequest::Status) {
        Ok(OperatorAnswer::Status(status)) => Ok(*status),
        Ok(_) => Err(client::unexpected("runner")),
        Err(failure) => Err(failure),
    };
    let agent = match client::agent(layout, &AgentRequest::Status) {
        Ok(AgentAnswer::Status(status)) => Ok(status),
        Ok(_) => Err(client::unexpected("agent")),
        Err(failure) => Err(failure),
    };
    let units = client::units(layout).unwrap_or_default();
    let unreachable = runner.as_ref().err().cloned();
    let agent_trouble = agent.as_ref().err().map(ToString::to_string);
    let status = Status { runner: runner.ok(), agent: agent.ok(), units };
    match unreachable {
        Some(failure) if status.agent.is_none() && !context.json => Err(failure),
        Some(_) => context.show(&status, |status| describe(status, agent_trouble)).map(|_| Exit::NotRunning),
        None => context.show(&status, |status| describe(status, agent_trouble)),
    }
}

fn describe(status: &Status, agent_trouble: Option<String>) -> String {
    let mut text = String::new();
    match &status.runner {
        Some(runner) => text.push_str(&describe_runner(runner)),
        None => text.push_str("runner   not running: nothing is healed\n"),
    }
    match &status.agent {
        Some(agent) => text.push_str(&describe_agent(agent)),
        None => {
            let why = agent_trouble.unwrap_or_else(|| "it does not answer".to_owned());
            let _infallible = writeln!(text, "agent    {why}: nothing is detected");
        }
    }
    if !status.units.is_empty() {
        text.push('\n');
        text.push_str(&units(&status.units));
    }
    text
}

fn describe_runner(runner: &RunnerStatus) -> String {
    let mut text = format!(
        "runner   {}, up {}, mode {}, {} targets, {} remedies, ledger {} records\n",
        outside(&runner.version),
        span(Duration::from_secs(runner.uptime_s)),
        runner.mode.as_str(),
        runner.targets,
        runner.remedies.len(),
        runner.ledger.0
    );
    let mut line = |word: &str, said: String| text.push_str(&format!("{word:<8} {said}\n"));
    for run in &runner.open_runs {
        line("run", open_run(run));
    }
    for (target, left) in &runner.holds {
        let target = target.as_ref().map_or_else(|| "everything".to_owned(), ToString::to_string);
        let left =
            left.map_or_else(|| "until resumed".to_owned(), |left| format!("for {} more", span(left.duration())));
        line("hold", format!("{target}, {left}"));
    }
    for (remedy, target, why) in &runner.breakers {
        line("breaker", format!("{remedy} at {target}: {}", outside(why)));
    }
    for (target, left) in &runner.cooldowns {
        line("cooldown", format!("{target}, {} more", span(left.duration())));
    }
    for (file, why) in &runner.refused {
        line("refused", format!("{}: {}", outside(file), outside(why)));
    }
    for off in &runner.disabled {
        line("off", outside(off));
    }
    text
}

fn open_run(run: &RunSummary) -> String {
    format!("{} {} at {} for incident {}: {}", run.run, run.state, run.target, run.incident, outside(&run.reason))
}

fn describe_agent(agent: &AgentStatus) -> String {
    let connected = if agent.runner_connected { "" } else { ", NOT connected to the runner" };
    let listen = agent.listen.as_ref().map_or_else(String::new, |at| format!(", listens on {}", outside(at)));
    let mut text = format!(
        "agent    {}, up {}, {} series, {} open incidents{connected}{listen}\n",
        outside(&agent.version),
        span(Duration::from_secs(agent.uptime_s)),
        agent.series,
        agent.open_incidents
    );
    for rule in &agent.disarmed {
        let _infallible = writeln!(text, "disarmed {}", outside(rule));
    }
    text
}

fn units(units: &[UnitState]) -> String {
    let row = |unit: &UnitState| {
        let since = span(Duration::from_millis(unit.since_ms));
        let pid = if unit.main_pid == 0 { "-".to_owned() } else { unit.main_pid.to_string() };
        [
            format!("unit:{}", unit.name),
            format!("{:?}", unit.active).to_lowercase(),
            outside(&unit.sub),
            pid,
            format!("since {since}"),
        ]
    };
    columns(&units.iter().map(row).collect::<Vec<_>>())
}

/// Shows the counters.
pub fn numbers(context: &Context) -> Result<Exit, Failure> {
    let OperatorAnswer::Numbers(numbers) = client::operator(&context.layout, &OperatorRequest::Numbers)? else {
        return Err(client::unexpected("runner"));
    };
    context.show(&numbers, describe_numbers)
}

fn describe_numbers(numbers: &RunnerNumbers) -> String {
    let mean = |(sum, count): (u64, u64)| {
        let mean = sum.checked_div(count).map(|mean| span(Duration::from_millis(mean)));
        mean.map_or_else(|| "-".to_owned(), |mean| format!("{mean} (mean of {count})"))
    };
    let mut rows = vec![
        ["time to detect".to_owned(), mean(numbers.detect_ms)],
        ["time to heal".to_owned(), mean(numbers.heal_ms)],
        ["time to stable".to_owned(), mean(numbers.stable_ms)],
        ["effects applied".to_owned(), numbers.effects.to_string()],
        ["effects undone".to_owned(), numbers.undone_effects.to_string()],
        ["incidents for a person".to_owned(), numbers.escalated.to_string()],
        ["false alarms".to_owned(), numbers.false_alarms.to_string()],
        ["records".to_owned(), numbers.records.to_string()],
    ];
    let counted = [
        ("runs", &numbers.runs),
        ("incidents", &numbers.incidents),
        ("denials", &numbers.denials),
        ("not acting", &numbers.not_acting),
        ("refused", &numbers.refused),
    ];
    for (what, counts) in counted {
        let seen = counts.iter().filter(|(_, count)| **count > 0);
        rows.extend(seen.map(|(word, count)| [format!("{what}: {}", outside(word)), count.to_string()]));
    }
    columns(&rows)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use theriac_model::catalog::Mode;
    use theriac_model::time::Span;

    use super::*;

    #[test]
    fn what_stands_in_the_way_of_healing_is_on_the_screen() {
        let runner = RunnerStatus {
            version: "0.1.0".into(),
            epoch: 3,
            uptime_s: 90,
            mode: Mode::Strict,
            targets: 4,
            remedies: Vec::new(),
            refused: vec![("evil.wasm".into(), "`evil` is unsigned\u{7}".into())],
            open_runs: Vec::new(),
            holds: vec![(None, Some(Span::from_secs(7200))), (Some("unit:web".parse().unwrap()), None)],
            breakers: Vec::new(),
            cooldowns: Vec::new(),
            disabled: vec!["the launcher: no [[service]] is listed".into()],
            ledger: (12, "ab".into()),
        };
        let status = Status { runner: Some(runner), agent: None, units: Vec::new() };
        expect![[r"
            runner   0.1.0, up 1 min 30 s, mode strict, 4 targets, 0 remedies, ledger 12 records
            hold     everything, for 2 h 0 min more
            hold     unit:web, until resumed
            refused  evil.wasm: `evil` is unsigned\u{7}
            off      the launcher: no [[service]] is listed
            agent    the agent is not running: nothing is detected
        "]]
        .assert_eq(&describe(&status, Some("the agent is not running".into())));
    }
}
