//! Named points at which the end-to-end tests kill the runner. Without the cargo feature `crash-points` a point is nothing.
//!
//! Everything that is promised about crashes is tested by killing at each of these names and starting again.

/// Every point there is. A test compares this list with the calls in the source.
pub const CRASH_POINTS: &[&str] = &[
    "run.reserved",
    "run.planned",
    "run.running",
    "run.verifying",
    "run.healed",
    "run.undoing",
    "gate.before-intent",
    "gate.after-intent",
    "gate.after-apply",
    "gate.after-done",
    "files.archive-half",
    "files.archive-complete",
    "files.replace-before-rename",
    "files.truncated",
    "undo.after-intent",
    "undo.file-half",
    "undo.after-apply",
    "undo.after-done",
];

#[cfg(feature = "crash-points")]
static ARMED: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Arms one point for the rest of this process' life; `false` when there is no such point, or one is armed already.
#[cfg(feature = "crash-points")]
pub fn arm(name: &str) -> bool {
    CRASH_POINTS.contains(&name) && ARMED.set(name.to_owned()).is_ok()
}

/// Ends the process with SIGKILL here, when this point is armed: no destructor, no flush, as a power cut would.
#[cfg(feature = "crash-points")]
pub fn crash_point(name: &'static str) {
    if ARMED.get().is_some_and(|armed| armed == name) {
        let myself = rustix::process::getpid();
        if rustix::process::kill_process(myself, rustix::process::Signal::KILL).is_err() {
            std::process::abort();
        }
    }
}

/// Nothing: this build has no crash points.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub const fn crash_point(_name: &'static str) {}

#[cfg(test)]
mod tests {
    use super::CRASH_POINTS;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn calls(dir: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                calls(&entry.path(), found);
            } else {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                let names = text.split("crash_point(\"").skip(1).filter_map(|rest| rest.split('"').next());
                found.extend(names.filter(|name| name.contains('.')).map(str::to_owned));
            }
        }
    }

    #[test]
    fn the_list_names_exactly_the_points_in_the_source() {
        let mut found = BTreeSet::new();
        calls(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        assert_eq!(found, CRASH_POINTS.iter().map(|name| (*name).to_owned()).collect());
    }
}
