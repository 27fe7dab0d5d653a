//! `theriac key` and `theriac remedy`, as an author and a signer use them: the real command, real cargo, real files.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, and so do its helpers")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// An empty directory that commands work in, with its own configuration.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        fs::create_dir(desk.path("config")).unwrap();
        fs::write(desk.path("passphrase"), "correct horse\n").unwrap();
        fs::set_permissions(desk.path("passphrase"), fs::Permissions::from_mode(0o600)).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn theriac(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_theriac"));
        command.current_dir(self.0.path()).args(words).args(["--config", "config", "--state", "state"]);
        command.output().unwrap()
    }

    fn done(&self, words: &[&str]) -> String {
        let output = self.theriac(words);
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The exit code and what was said on stderr.
    fn refused(&self, words: &[&str]) -> (i32, String) {
        let output = self.theriac(words);
        (output.status.code().unwrap(), said(&output))
    }

    /// A key, listed in the trust store for those classes.
    fn signer(&self, name: &str, classes: &str) {
        let key = format!("{name}.key");
        let made =
            self.done(&["key", "new", "--key", &key, "--name", name, "--passphrase-file", "passphrase", "--json"]);
        let made: Value = serde_json::from_str(&made).unwrap();
        let public = made["public"].as_str().unwrap();
        let trust = self.path("config/trust.toml");
        let listed = fs::read_to_string(&trust).unwrap_or_default();
        let signer =
            format!("[[signer]]\nname = \"{name}\"\nkey = \"{public}\"\nremedies = [\"*\"]\nclasses = [{classes}]\n");
        fs::write(trust, listed + &signer).unwrap();
    }

    fn approve(&self, file: &str, name: &str) {
        let key = format!("{name}.key");
        self.done(&["remedy", "approve", file, "--key", &key, "--passphrase-file", "passphrase", "--yes"]);
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A remedy's file that needs no compiler: the smallest component, with a shipped manifest in it.
fn packed(desk: &Desk, manifest: &str) -> &'static str {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins").join(manifest).join("remedy.toml");
    let component = [0x00, 0x61, 0x73, 0x6d, 0x0d, 0x00, 0x01, 0x00];
    let bytes = theriac_authority::package::embed(&component, &fs::read_to_string(shipped).unwrap()).unwrap();
    fs::write(desk.path("remedy.wasm"), bytes).unwrap();
    "remedy.wasm"
}

const UNITS: &str = "\"units-observe\", \"units-change\"";

#[test]
fn a_new_key_shows_the_same_public_half_again_and_is_never_overwritten() {
    let desk = Desk::new();
    let new =
        ["key", "new", "--key", "alice.key", "--name", "ops.example.com/alice", "--passphrase-file", "passphrase"];
    let made = desk.done(&new);
    let shown = desk.done(&["key", "show", "--key", "alice.key", "--passphrase-file", "passphrase"]);
    assert!(made.starts_with(&shown), "{made} {shown}");
    assert!(shown.starts_with("ops.example.com/alice+"));
    assert_eq!(fs::metadata(desk.path("alice.key")).unwrap().permissions().mode() & 0o777, 0o600);
    let (code, sentence) = desk.refused(&new);
    assert_eq!((code, sentence.contains("is there already")), (1, true), "{sentence}");
    fs::write(desk.path("passphrase"), "wrong horse\n").unwrap();
    let (code, sentence) = desk.refused(&["key", "show", "--key", "alice.key", "--passphrase-file", "passphrase"]);
    assert_eq!((code, sentence.contains("the passphrase does not open")), (1, true), "{sentence}");
}

#[test]
fn unsigned_is_refused_approved_is_verified_and_altered_is_found_out() {
    let desk = Desk::new();
    let file = packed(&desk, "service-recover");
    let (code, sentence) = desk.refused(&["remedy", "verify", file]);
    assert_eq!((code, sentence.contains("is unsigned")), (3, true), "{sentence}");
    desk.signer("alice", UNITS);
    desk.approve(file, "alice");
    let verified = desk.done(&["remedy", "verify", file]);
    assert_eq!(verified, "service-recover 1.0.0 (serial 1) is approved by alice\n");
    assert!(desk.done(&["remedy", "inspect", file]).contains("Approved by alice."));
    // Another custom section at the end: the manifest is the same, the file is not.
    let mut bytes = fs::read(desk.path(file)).unwrap();
    bytes.extend_from_slice(&[0, 2, 1, b'x']);
    fs::write(desk.path(file), bytes).unwrap();
    let (code, sentence) = desk.refused(&["remedy", "verify", file]);
    assert_eq!((code, sentence.contains("altered after it was approved")), (5, true), "{sentence}");
    assert!(desk.done(&["remedy", "inspect", file]).contains("Refused here: "));
}

#[test]
fn the_second_of_two_signers_adds_to_the_same_approval() {
    let desk = Desk::new();
    let file = packed(&desk, "service-recover");
    desk.signer("alice", UNITS);
    desk.signer("bob", UNITS);
    let trust = desk.path("config/trust.toml");
    let listed = fs::read_to_string(&trust).unwrap();
    fs::write(&trust, listed + "[[threshold]]\nclass = \"units-change\"\nk = 2\n").unwrap();
    desk.approve(file, "alice");
    let (code, sentence) = desk.refused(&["remedy", "verify", file]);
    assert_eq!((code, sentence.contains("needs 2 signatures for `units-change`")), (3, true), "{sentence}");
    desk.approve(file, "bob");
    assert!(desk.done(&["remedy", "verify", file]).ends_with("approved by alice, bob\n"));
    let again = ["remedy", "approve", file, "--key", "bob.key", "--passphrase-file", "passphrase", "--yes"];
    assert!(desk.refused(&again).1.contains("has signed this note already"));
}

#[test]
fn a_signer_without_the_class_approves_in_vain() {
    let desk = Desk::new();
    let file = packed(&desk, "service-recover");
    desk.signer("alice", "\"units-observe\"");
    desk.approve(file, "alice");
    let (code, sentence) = desk.refused(&["remedy", "verify", file]);
    assert_eq!((code, sentence.contains("units-change")), (3, true), "{sentence}");
}

#[test]
fn without_a_terminal_nothing_is_signed_unless_yes_is_said() {
    let desk = Desk::new();
    let file = packed(&desk, "service-recover");
    desk.signer("alice", UNITS);
    let (code, sentence) =
        desk.refused(&["remedy", "approve", file, "--key", "alice.key", "--passphrase-file", "passphrase"]);
    assert_eq!((code, sentence.contains("--yes")), (2, true), "{sentence}");
    assert!(!desk.path("remedy.approval").exists());
}

#[test]
fn what_is_no_remedy_is_called_by_its_name() {
    let desk = Desk::new();
    fs::write(desk.path("x.wasm"), "hello\n").unwrap();
    let (code, sentence) = desk.refused(&["remedy", "inspect", "x.wasm"]);
    assert_eq!((code, sentence.contains("it is text, not a WebAssembly component")), (5, true), "{sentence}");
}

/// The promise of the scaffold, for a remedy about a unit and for one about files.
#[test]
fn a_new_remedy_builds_and_passes_its_own_scenario_at_once() {
    let desk = Desk::new();
    for (name, fault, grants) in [("bring-back", "service-crash", "units"), ("make-room", "disk-full", "files")] {
        desk.done(&["remedy", "new", name, "--fault", fault]);
        let built = desk.done(&["remedy", "build", name, "--json"]);
        let built: Value = serde_json::from_str(&built).unwrap();
        let imports: Vec<&str> =
            built["imports"].as_array().unwrap().iter().map(|import| import.as_str().unwrap()).collect();
        assert!(imports.contains(&format!("theriac:remedy/{grants}@0.1.0").as_str()), "{imports:?}");
        assert!(imports.iter().all(|import| import.starts_with("theriac:remedy/")), "{imports:?}");
        let tested = desk.done(&["remedy", "test", name, "--json"]);
        let tested: Value = serde_json::from_str(&tested).unwrap();
        let verdict = &tested["outcomes"][0]["verdict"];
        assert!(verdict.get("passed").or(verdict.get("not-possible")).is_some(), "{tested:#}");
    }
    let (code, sentence) = desk.refused(&["remedy", "new", "make-room", "--fault", "disk-full"]);
    assert_eq!((code, sentence.contains("is there already")), (1, true), "{sentence}");
}
