//! `theriac`: parses its arguments, runs the command, and says in one sentence what went wrong.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use theriac_cli::args::Arguments;

fn main() -> ExitCode {
    match Arguments::parse().run() {
        Ok(exit) => exit.into(),
        Err(failure) => {
            let hint = failure.advice().map_or_else(String::new, |hint| format!("hint: {hint}\n"));
            // Nobody is left to be told when stderr is closed.
            std::io::stderr().write_all(format!("theriac: {failure}\n{hint}").as_bytes()).ok();
            failure.exit().into()
        }
    }
}
