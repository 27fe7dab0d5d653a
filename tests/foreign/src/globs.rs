//! Globs of grants against a matcher that was written apart from them, straight from what the manifest's reference says.

mod reference;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use theriac_authority::effective::Globs;

use self::reference::Reference;
use crate::{Answer, refused};

/// First line: a glob. Every other line: a path below the directory, or (it may hold line breaks) one that ends at a NUL.
/// Both matchers take the same globs and say the same of each path; a glob made from a path admits that path.
pub(crate) fn check(bytes: &[u8]) -> Answer {
    let mut lines = bytes.split(|byte| matches!(byte, b'\n' | 0));
    let Ok(glob) = std::str::from_utf8(lines.next().unwrap_or_default()) else { return Answer::Refused };
    let globs = Globs::new(&[glob.to_owned()]);
    let reference = Reference::parse(glob);
    assert_eq!(globs.is_ok(), reference.is_some(), "`{glob}`: one matcher takes it and one does not");
    for line in lines {
        if is_path(line) {
            compare(glob, globs.as_ref().ok(), reference.as_ref(), line);
        }
    }
    if let Some((_, rest)) = bytes.split_first()
        && is_path(rest)
    {
        compare(glob, globs.as_ref().ok(), reference.as_ref(), rest);
        is_its_own_literal(rest);
    }
    globs.map_or_else(|error| refused(&error), |_| Answer::Taken)
}

fn compare(glob: &str, globs: Option<&Globs>, reference: Option<&Reference>, path: &[u8]) {
    if let (Some(globs), Some(reference)) = (globs, reference) {
        let admitted = globs.admits(Path::new(OsStr::from_bytes(path)));
        assert_eq!(admitted, reference.admits(path), "`{glob}` and {:?}", String::from_utf8_lossy(path));
    }
}

fn is_its_own_literal(path: &[u8]) {
    let Ok(text) = std::str::from_utf8(path) else { return };
    if let Ok(globs) = Globs::new(&[Globs::literal(text)]) {
        assert!(globs.admits(Path::new(text)), "the literal of {text:?} does not admit it");
    }
}

/// A path as the runner makes one: parts that a directory can hold, one slash between two.
fn is_path(path: &[u8]) -> bool {
    path.len() < 512
        && !path.contains(&0)
        && path.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."))
}
