//! `cargo xtask`: what a person or CI does with this repository. It knows paths and commands, nothing of Theriac's inside:
//! whatever it asks of Theriac, it asks the way a user does, with the `theriac` command.

#![expect(clippy::print_stdout, reason = "what a task has to say, it says to the person who ran it")]

mod build;
mod check;
mod demo;
mod fuzz;
mod package;
mod race;
mod run;
mod supply;
mod vm;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Build, demonstrate and test Theriac")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Break real things in a scratch area and watch them being healed.
    Demo(demo::Options),
    /// Everything that CI runs.
    Test(check::Options),
    /// Look for inputs that break a promise of a parser (needs a nightly toolchain and cargo-fuzz).
    Fuzz(fuzz::Options),
    /// Swap files, directories and links under the hands of the files capability (CI does it 20,000 times).
    Race(race::Options),
    /// Install the tools that CI uses beside Rust.
    Tools,
    /// Build the remedies into plugins/dist.
    Remedies,
    /// Lay everything out as it is installed.
    Package(package::Options),
    /// The packaged tree in a virtual machine with a kernel of its own; takes minutes, needs root and QEMU.
    Vm(vm::Options),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Demo(options) => demo::run(&options),
        Task::Test(options) => check::run(&options),
        Task::Fuzz(options) => fuzz::run_fuzzer(&options),
        Task::Race(options) => race::race(&options),
        Task::Tools => supply::tools(),
        Task::Remedies => build::remedies().map(drop),
        Task::Package(options) => package::run(&options),
        Task::Vm(options) => vm::run(&options),
    }
}
