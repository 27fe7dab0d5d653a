//! The seeds in the tree: `tests/fuzz/seeds/TARGET/*`, as they are, or (`.hex`) as hex digits with `#` comments, because no
//! binary file lies in this repository.

use std::io;
use std::path::{Path, PathBuf};

use crate::Target;

/// One input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// Unique among its target's seeds.
    pub name: String,
    /// What the target is called with.
    pub bytes: Vec<u8>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every seed of the target, in the order of their names.
pub fn seeds(target: &Target) -> io::Result<Vec<Seed>> {
    let mut paths: Vec<PathBuf> = target.shipped.iter().map(|path| root().join(path)).collect();
    for entry in root().join("tests/fuzz/seeds").join(target.name).read_dir()? {
        paths.push(entry?.path());
    }
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

/// Writes them to `tests/fuzz/corpus/TARGET`, each as the bytes that it stands for.
pub(crate) fn sow(target: &Target) -> io::Result<()> {
    let corpus = root().join("tests/fuzz/corpus").join(target.name);
    std::fs::create_dir_all(&corpus)?;
    for Seed { name, bytes } in seeds(target)? {
        std::fs::write(corpus.join(name), bytes)?;
    }
    Ok(())
}

fn read(path: &Path) -> io::Result<Seed> {
    let told = |reason: &dyn std::fmt::Display| io::Error::other(format!("{}: {reason}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| told(&error))?;
    // Shipped files have the same name in many directories.
    let name: Vec<_> = path.iter().rev().take(2).map(|part| part.to_string_lossy()).collect();
    let name = name.join("-");
    if path.extension().is_none_or(|extension| extension != "hex") {
        return Ok(Seed { name, bytes });
    }
    let text = String::from_utf8(bytes).map_err(|error| told(&error))?;
    let bytes = hex(&text).ok_or_else(|| told(&"not pairs of hex digits with `#` comments"))?;
    Ok(Seed { name, bytes })
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text
        .lines()
        .filter_map(|line| line.split('#').next())
        .flat_map(str::chars)
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16))
        .collect::<Option<_>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| u8::try_from(high * 16 + low).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::hex;

    #[test]
    fn hex_has_comments_and_whole_bytes() {
        assert_eq!(hex("00 61 # the magic\n ff"), Some(vec![0, 0x61, 0xff]));
        assert_eq!(hex("0"), None);
        assert_eq!(hex("zz"), None);
    }
}
