//! Globs over paths below a granted directory: compiled once, compared byte by byte.
//!
//! The language is smaller than globset's: what people read in two ways, or what would match a `/` where none is written, is
//! refused. So `except` never spares less, and `match` never finds more, than its reader thought.

use std::iter::Peekable;
use std::path::Path;
use std::str::Chars;

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
        let plain = plain(glob).map_err(wrong)?;
        GlobBuilder::new(&plain)
            .literal_separator(true)
            .backslash_escape(true)
            .empty_alternates(true)
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

/// The glob as globset has to read it: its negated classes don't match a `/` either.
fn plain(glob: &str) -> Result<String, &'static str> {
    let mut plain = String::with_capacity(glob.len() + 8);
    let (mut rest, mut braces, mut before) = (glob.chars().peekable(), false, None);
    while let Some(c) = rest.next() {
        plain.push(c);
        match c {
            '\\' => match rest.next() {
                Some(escaped) if escaped != '/' => plain.push(escaped),
                Some(_) | None => return Err("after a `\\` write the character that is meant, and no `/`"),
            },
            '[' => class(&mut rest, &mut plain)?,
            '{' if braces => return Err("write braces without braces inside"),
            '{' => braces = true,
            '}' => braces = false,
            '/' if braces => return Err("write a `/` outside of braces"),
            '*' if rest.next_if_eq(&'*').is_some() => {
                plain.push('*');
                if before.is_some_and(|before| before != '/') || rest.peek().is_some_and(|after| *after != '/') {
                    return Err("write `**` alone between two `/`");
                }
            }
            _literal => {}
        }
        before = Some(c);
    }
    Ok(plain)
}

/// A class, from behind its `[` to its `]`. globset would let it match a `/`, and half of a character that is not ASCII.
fn class(rest: &mut Peekable<Chars<'_>>, plain: &mut String) -> Result<(), &'static str> {
    let negated = rest.next_if(|c| matches!(c, '!' | '^'));
    let mut items = String::new();
    loop {
        match rest.next() {
            Some(']') if items.is_empty() => return Err("write at least one character in brackets, and no `]`"),
            Some(']') => break,
            Some('/' | '\\' | '[') => return Err("write no `/`, `\\` or `[` in brackets"),
            Some(c) if c.is_ascii() => items.push(c),
            Some(_) => return Err("write only ASCII in brackets"),
            None => return Err("close the brackets"),
        }
    }
    ranges(items.as_bytes())?;
    if negated.is_some() {
        if items.starts_with('-') {
            return Err("write `-` last in brackets");
        }
        plain.push_str("!/");
    }
    plain.push_str(&items);
    plain.push(']');
    Ok(())
}

/// No range passes a `/`, and none begins where another one ends.
fn ranges(mut items: &[u8]) -> Result<(), &'static str> {
    loop {
        items = match items {
            [] => return Ok(()),
            [from, b'-', to, ..] if (*from..=*to).contains(&b'/') => {
                return Err("write a range in brackets that does not pass `/`");
            }
            [_, b'-', _, b'-', _, ..] => return Err("write a range in brackets with its own beginning and end"),
            [_, b'-', _, after @ ..] | [_, after @ ..] => after,
        }
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
    fn no_class_matches_a_slash() {
        let admits = |glob: &str, path: &str| Globs::new(&[glob.to_owned()]).unwrap().admits(Path::new(path));
        assert!(admits("a[!b]c", "axc") && !admits("a[!b]c", "a/c") && !admits("a[!b]c", "abc"));
        assert!(admits("a[^b]c", "axc") && !admits("a[^b]c", "a/c"));
        assert!(admits("a[0-9]c", "a5c") && admits("a[._-]c", "a-c"));
        for glob in [
            "a[+-9]c",
            "a[/]c",
            "a[!-9]c",
            "[]-a]",
            "[]",
            "[!]",
            "[!]a]",
            "[\\]]",
            "[[:alpha:]]",
            "[a-b-c]",
            "[!-a]",
            "[z-a]",
        ] {
            assert!(Globs::one(glob).is_err(), "{glob:?}");
        }
    }

    #[test]
    fn half_a_character_is_never_matched() {
        assert!(Globs::one("[é]").is_err());
        assert!(Globs::new(&["é*".into()]).unwrap().admits(Path::new("éa")));
    }

    #[test]
    fn an_empty_choice_is_a_choice() {
        let globs = Globs::new(&["a{,.gz}".into()]).unwrap();
        assert!(globs.admits(Path::new("a")) && globs.admits(Path::new("a.gz")) && !globs.admits(Path::new("a.")));
    }

    #[test]
    fn what_is_read_in_two_ways_is_refused() {
        for glob in
            ["a**b", "**a", "a/b**", "{**/a,b}", "{a/b,c}", "{a,{b,c}}", "{**,a}", "a\\/b", "\\", "***", "{", "}"]
        {
            assert!(Globs::one(glob).is_err(), "{glob:?}");
        }
        for glob in ["**", "**/a", "a/**", "a/**/b", "**/**/a", "*{a,b}*", "\\**a", "\\{a"] {
            assert!(Globs::one(glob).is_ok(), "{glob:?}");
        }
    }

    #[test]
    fn no_globs_admit_nothing() {
        assert!(!Globs::none().admits(Path::new("a")));
    }
}
