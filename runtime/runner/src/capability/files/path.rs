//! Paths below a granted directory as texts, so that equal files have equal identities whatever bytes their names hold.
//!
//! A printable character stands for itself; every other byte (control characters, bidi marks, bytes that are no UTF-8, and the
//! backslash) is `\xNN`. The text can be shown on a terminal and turned back into the very bytes.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// The text of a path.
pub(crate) fn escape(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            let printable = matches!(c, '\'' | '"') || c.escape_debug().eq(std::iter::once(c));
            if printable && c != '\\' {
                text.push(c);
            } else {
                hex(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        hex(&mut text, chunk.invalid());
    }
    text
}

fn hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String can't fail.
        let _infallible = write!(text, "\\x{byte:02x}");
    }
}

/// The path of a text that [`escape`] made; `None` for any other text, and for one that would climb.
pub(crate) fn unescape(text: &str) -> Option<PathBuf> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'\\', [b'x', high, low, tail @ ..]) => {
                let digits = [*high, *low];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
                tail
            }
            (b'\\', _) => return None,
            (other, tail) => {
                bytes.push(*other);
                tail
            }
        };
    }
    let climbs = bytes.split(|byte| *byte == b'/').any(|part| matches!(part, b"" | b"." | b".."));
    if climbs || bytes.contains(&0) {
        return None;
    }
    let path = PathBuf::from(OsString::from_vec(bytes));
    // One path, one text: `\x+a`, `\x0A` and a bare line break would be the same file under other names.
    (escape(&path) == text).then_some(path)
}

/// Splits into the parent below the root (`.` for the root itself) and the name.
pub(crate) fn split(path: &Path) -> Option<(&Path, &OsStr)> {
    let name = path.file_name()?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some((parent, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // AB10, FS15.
    #[test]
    fn names_that_would_trick_a_terminal_are_shown_as_bytes() {
        let name = OsStr::from_bytes(b"a\x1b[2J\n\xff\xe2\x80\xae\\-rf '\xc3\xa9'");
        assert_eq!(escape(Path::new(name)), r"a\x1b[2J\x0a\xff\xe2\x80\xae\x5c-rf 'é'");
    }

    // FS01.
    #[test]
    fn a_text_that_climbs_or_is_not_ours_is_no_path() {
        for text in ["../x", "a/../b", "/etc/passwd", "a//b", "", ".", r"\x2e\x2e/x", r"\q", r"a\x0", r"a\x00b", r"a\"]
        {
            assert_eq!(unescape(text), None, "{text:?}");
        }
        // Each of these has a text already, and it is another one.
        for text in [r"a\x+a", r"a\x0A", "a\nb", r"\x41", r"\xc3\xa9"] {
            assert_eq!(unescape(text), None, "{text:?}");
        }
        assert_eq!(unescape(r"a\x0a"), Some(PathBuf::from("a\n")));
        assert_eq!(unescape("a/b.log"), Some(PathBuf::from("a/b.log")));
    }

    proptest! {
        // AB10, FS15.
        #[test]
        fn every_name_comes_back_and_is_printable(bytes in proptest::collection::vec(1_u8..=255, 1..40)) {
            prop_assume!(!bytes.contains(&b'/') && bytes != b"." && bytes != b"..");
            let path = PathBuf::from(OsString::from_vec(bytes));
            let text = escape(&path);
            prop_assert!(text.chars().all(|c| !c.is_control()));
            prop_assert_eq!(unescape(&text), Some(path));
        }
    }
}
