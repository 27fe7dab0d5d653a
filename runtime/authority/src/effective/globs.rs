//! Globs over paths below a granted directory: compiled once, compared byte by byte.

use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Longest glob; nobody can review a longer one.
const MAX_GLOB: usize = 256;

/// Some globs; a path matches when one of them does.
#[derive(Clone)]
pub struct Globs {
    patterns: Vec<String>,
    set: GlobSet,
}

/// Why a text is not one of our globs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a glob: {reason}", glob.escape_debug())]
pub struct GlobError {
    glob: String,
    reason: String,
}

impl Globs {
    /// No globs, which no path matches.
    pub fn none() -> Self {
        Self { patterns: Vec::new(), set: GlobSet::empty() }
    }

    /// Compiles them.
    pub fn new(patterns: &[String]) -> Result<Self, GlobError> {
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            set.add(Self::one(pattern)?);
        }
        let set = set.build().map_err(|error| GlobError {
            glob: patterns.join(", ").chars().take(80).collect(),
            reason: error.kind().to_string(),
        })?;
        Ok(Self { patterns: patterns.to_vec(), set })
    }

    /// Compiles one glob: relative, without `.` and `..`, `*` never crosses a `/`.
    pub fn one(glob: &str) -> Result<globset::Glob, GlobError> {
        let wrong = |reason: &str| GlobError { glob: glob.chars().take(80).collect(), reason: reason.to_owned() };
        if glob.is_empty() || glob.len() > MAX_GLOB || glob.chars().any(char::is_control) {
            return Err(wrong("write 1 to 256 characters without control characters"));
        }
        if glob.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(wrong(
                "write a path below the directory, such as `**/*.gz`, without `.`, `..` or an empty part",
            ));
        }
        GlobBuilder::new(glob)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|error| wrong(&error.kind().to_string()))
    }

    /// The glob that matches exactly this path. globset's own `escape` leaves a backslash as it is, which then escapes.
    pub fn literal(path: &str) -> String {
        let mut glob = String::with_capacity(path.len());
        for c in path.chars() {
            if "?*[]{}!,\\".contains(c) {
                glob.push('\\');
            }
            glob.push(c);
        }
        glob
    }

    /// The path matches one of them.
    pub fn admits(&self, path: &Path) -> bool {
        self.set.is_match(path)
    }

    /// The globs as they were written.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }
}

impl std::fmt::Debug for Globs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.patterns).finish()
    }
}

impl PartialEq for Globs {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_in_its_directory_and_two_cross() {
        let globs = Globs::new(&["*.gz".into(), "old/**/*.log".into()]).unwrap();
        for path in ["a.gz", "old/x.log", "old/a/b/x.log"] {
            assert!(globs.admits(Path::new(path)), "{path}");
        }
        for path in ["a/b.gz", "x.log", "A.GZ", "a.gz/x", "new/x.log"] {
            assert!(!globs.admits(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn a_glob_that_climbs_or_is_absolute_is_refused() {
        for glob in ["", "/var/*", "../x", "a/../b", "a//b", "./a", "a/", "[", "a\nb", &"x".repeat(300)] {
            assert!(Globs::one(glob).is_err(), "{glob:?}");
        }
    }

    #[test]
    fn no_globs_admit_nothing() {
        assert!(!Globs::none().admits(Path::new("a")));
    }
}
