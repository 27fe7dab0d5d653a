//! Whether this process runs in the virtual machine that `cargo xtask vm` boots, and what was brought along for it.

use std::fs;
use std::path::PathBuf;

/// On the kernel's command line: the packaged tree, as the machine outside laid it out.
const TREE: &str = "theriac.tree=";

/// The virtual machine around this process. It is thrown away afterwards, so tests may break it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// The packaged tree.
    pub tree: PathBuf,
}

impl Guest {
    /// The machine that this process runs in, if it was booted for tests.
    pub fn booted() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/cmdline").ok()?)
    }

    fn parse(command_line: &str) -> Option<Self> {
        let tree = command_line.split_ascii_whitespace().find_map(|word| word.strip_prefix(TREE))?;
        Some(Self { tree: PathBuf::from(tree) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_machine_that_was_booted_for_it_is_broken() {
        assert_eq!(Guest::parse("console=ttyS0 root=/dev/vda1 ro"), None);
        let booted = Guest::parse("console=ttyS0 theriac.tree=/tmp/tree quiet\n").unwrap();
        assert_eq!(booted.tree, PathBuf::from("/tmp/tree"));
    }
}
