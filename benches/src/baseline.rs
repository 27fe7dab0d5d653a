//! The alternatives: what a healer made of shell scripts pays for each step. They are measured in the same run, because a
//! machine that is busy today was not busy yesterday.

use std::process::{Command, Stdio};

use criterion::BenchmarkGroup;
use criterion::measurement::WallTime;

/// Adds `fork+exec /bin/true` and `sh -c true` to the group.
pub fn add(group: &mut BenchmarkGroup<'_, WallTime>) {
    group
        .bench_function("alternative: fork+exec /bin/true", |bench| bench.iter(|| run(&mut Command::new("/bin/true"))));
    group.bench_function("alternative: sh -c true", |bench| {
        bench.iter(|| run(Command::new("sh").args(["-c", "true"])));
    });
}

fn run(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}
