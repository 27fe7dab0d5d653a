//! `theriac help`: commands, and two tables that are no commands.

use clap::CommandFactory as _;
use theriac_model::fault::FaultKind;

use crate::args::Arguments;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::text::columns;

/// Helps with a topic, or with a command.
pub fn run(context: &Context, topic: &[String]) -> Result<Exit, Failure> {
    let words: Vec<&str> = topic.iter().map(String::as_str).collect();
    let text = match words.as_slice() {
        ["exit-codes"] => Exit::table(),
        ["faults"] => faults(),
        words => of_command(words)?,
    };
    context.print(&text)?;
    Ok(Exit::Ok)
}

fn of_command(words: &[&str]) -> Result<String, Failure> {
    let mut command = Arguments::command();
    command.build();
    let mut found = &mut command;
    for word in words {
        found = found.find_subcommand_mut(word).ok_or_else(|| {
            Failure::usage(format!("there is no command or topic `{}`", crate::text::outside(word)))
                .hint("`theriac help` lists the commands; topics are `exit-codes` and `faults`")
        })?;
    }
    Ok(found.render_help().to_string())
}

fn faults() -> String {
    let rows: Vec<[String; 2]> =
        FaultKind::ALL.iter().map(|kind| [kind.to_string(), meaning(*kind).to_owned()]).collect();
    format!("Fault kinds:\n{}", crate::text::indent(&columns(&rows)))
}

/// One line for each kind.
const fn meaning(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::DiskFull => "a filesystem has too few free blocks",
        FaultKind::DiskFilling => "a filesystem will be full soon",
        FaultKind::InodeExhaustion => "a filesystem has too few free inodes",
        FaultKind::CpuSaturation => "a unit takes more CPU than it is meant to, for long enough to matter",
        FaultKind::MemoryLeak => "a unit's anonymous memory grows without bound",
        FaultKind::OomKill => "the kernel killed a process for memory",
        FaultKind::SwapThrash => "the machine moves pages in and out of swap instead of working",
        FaultKind::ServiceCrash => "a unit ended without being asked to",
        FaultKind::ServiceUnhealthy => "a unit runs and does not answer its health check",
        FaultKind::StartLimitHit => "the service manager has given up restarting a unit",
        FaultKind::CertificateExpiry => "a certificate has expired or will soon",
        FaultKind::DbConnectionsExhausted => "a database accepts no more connections",
        FaultKind::ContainerUnhealthy => {
            "a container fails its own health check, has ended, or is started again and again"
        }
        FaultKind::LogExplosion => "a log grows far faster than usual",
        FaultKind::TrafficFlood => "far more traffic arrives than usual",
        FaultKind::BadRelease => "a new release is worse than the one before it",
        FaultKind::Unknown => "something is wrong that no rule names: always a person",
    }
}

/// Prints a completion script for the shell.
pub fn completions(context: &Context, shell: clap_complete::Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "theriac", &mut script);
    context.print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn commands_are_explained_and_unknown_ones_are_a_usage_error() {
        assert!(of_command(&["audit", "verify"]).unwrap().contains("--key"));
        assert_eq!(of_command(&["frobnicate"]).unwrap_err().exit(), Exit::Usage);
    }
}
