//! What is linked into the privileged process, by name: a crate that joins it is a line in a diff that somebody has to read.

use std::collections::BTreeSet;
use std::process::Command;

use expect_test::expect_file;

use crate::host::root;

/// Crates of the platform that is packaged, without build scripts and procedural macros: those run where it is built.
fn linked_into(package: &str) -> BTreeSet<String> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(root())
        .args(["tree", "--offline", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none"])
        .args(["--target", "x86_64-unknown-linux-gnu", "--format", "{p}", "--package", package])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().filter_map(|line| line.split(' ').next()).filter(|name| *name != package).map(str::to_owned).collect()
}

#[test]
fn every_crate_of_the_privileged_process_is_written_down() {
    let names = linked_into("theriac-runner").into_iter().collect::<Vec<_>>().join("\n");
    // A new name here is code that runs as root: read it, then `UPDATE_EXPECT=1 cargo test -p theriac-tests supply`.
    expect_file!["runner-crates.txt"].assert_eq(&format!("{names}\n"));
}
