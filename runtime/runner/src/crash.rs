//! Named points at which the end-to-end tests kill the runner. Without the cargo feature `crash-points` a point is nothing.
//!
//! Everything that is promised about crashes is tested by killing at each of these names and starting again.

/// Every point there is. A test compares this list with the calls in the source.
pub const CRASH_POINTS: &[&str] = &[
    "run.reserved",
    "run.planned",
    "run.asked",
    "run.running",
    "run.verifying",
    "run.healed",
    "run.undoing",
    "run.ended",
    "gate.before-intent",
    "gate.after-intent",
    "gate.after-apply",
    "gate.after-done",
    "files.archive-half",
    "files.archive-complete",
    "files.replace-before-rename",
    "files.truncated",
    "certificates.challenged",
    "certificates.issued",
    "certificates.before-swap",
    "certificates.half",
    "certificates.swapped",
    "processes.half-set",
    "undo.after-intent",
    "undo.file-half",
    "undo.threads-half",
    "undo.after-apply",
    "undo.after-done",
    "recover.settled",
];

#[cfg(feature = "crash-points")]
pub use script::{ArmError, Script, crash_point};

#[cfg(feature = "crash-points")]
mod script {
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::io::{self, Write as _};
    use std::path::Path;
    use std::str::FromStr;
    use std::sync::{Mutex, OnceLock, PoisonError};

    use super::CRASH_POINTS;

    static SCRIPT: OnceLock<Script> = OnceLock::new();

    /// What a test wants of this process: where it is to die, and where it writes down the points that it passes.
    #[derive(Debug, Default)]
    pub struct Script {
        at: Option<Moment>,
        trace: Option<File>,
        passed: Mutex<BTreeMap<&'static str, u32>>,
    }

    /// One passing of one point: `gate.after-apply` is the first, `gate.after-apply@2` the second.
    #[derive(Debug)]
    struct Moment {
        point: &'static str,
        passing: u32,
    }

    /// A script that can't be followed: the test would wait for a death that never comes.
    #[derive(Debug, thiserror::Error)]
    pub enum ArmError {
        /// Not one of [`CRASH_POINTS`], or not a number behind the `@`.
        #[error("`{}` is no moment: write a crash point such as `gate.after-apply`, or `gate.after-apply@2`", text.escape_debug())]
        Moment { text: String },
        /// The file for the trace can't be opened.
        #[error("can't write the trace to `{}`", path.display())]
        Trace {
            path: std::path::PathBuf,
            #[source]
            source: io::Error,
        },
        /// A process has one script for its whole life.
        #[error("a script is armed already")]
        Armed,
    }

    impl FromStr for Moment {
        type Err = ArmError;
        fn from_str(text: &str) -> Result<Self, ArmError> {
            let no = || ArmError::Moment { text: text.to_owned() };
            let (name, passing) = match text.split_once('@') {
                Some((name, passing)) => (name, passing.parse().ok().filter(|n| *n > 0).ok_or_else(no)?),
                None => (text, 1),
            };
            let point = CRASH_POINTS.iter().find(|point| **point == name).ok_or_else(no)?;
            Ok(Self { point, passing })
        }
    }

    impl Script {
        /// Reads what the command line says. The trace is appended to: it goes on over several processes.
        pub fn read(at: Option<&str>, trace: Option<&Path>) -> Result<Self, ArmError> {
            let open = |path: &Path| {
                let opened = File::options().create(true).append(true).open(path);
                opened.map_err(|source| ArmError::Trace { path: path.to_owned(), source })
            };
            Ok(Self { at: at.map(str::parse).transpose()?, trace: trace.map(open).transpose()?, ..Self::default() })
        }

        /// Follows it for the rest of this process' life.
        pub fn arm(self) -> Result<(), ArmError> {
            SCRIPT.set(self).map_err(|_another| ArmError::Armed)
        }

        fn pass(&self, point: &'static str) {
            let passing = {
                let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
                let count = passed.entry(point).or_insert(0);
                *count += 1;
                *count
            };
            // A trace that can't be written is short, and the test that reads it says so.
            if let Some(mut trace) = self.trace.as_ref() {
                drop(writeln!(trace, "{point}"));
            }
            if self.at.as_ref().is_some_and(|at| at.point == point && at.passing == passing) {
                let myself = rustix::process::getpid();
                if rustix::process::kill_process(myself, rustix::process::Signal::KILL).is_err() {
                    std::process::abort();
                }
            }
        }
    }

    /// Ends the process with SIGKILL here, when the script says so: no destructor, no flush, as a power cut would.
    pub fn crash_point(name: &'static str) {
        if let Some(script) = SCRIPT.get() {
            script.pass(name);
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
