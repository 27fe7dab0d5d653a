//! The opening rule for configuration files.
//!
//! Whoever can write one of these files decides what root will do, so a file counts only if nobody but root or this
//! process' own user could have written it. The check is made on the opened file, not on its name.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Largest file that is read; the same bound as for the parsers.
const MAX_FILE: u64 = crate::document::MAX_DOCUMENT as u64;

/// Mode bits that let others write.
const OTHERS_WRITE: u32 = 0o022;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum OpenTrustedError {
    /// It is not there, or can't be opened (a symbolic link answers `ELOOP`).
    #[error("can't open `{}`", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The last part of the path is a symbolic link.
    #[error("`{}` is a symbolic link: put the file itself there", path.display())]
    Symlink { path: PathBuf },
    /// A directory, a FIFO, a device.
    #[error("`{}` is not a regular file", path.display())]
    NotRegular { path: PathBuf },
    /// Somebody else's.
    #[error("`{}` belongs to uid {owner}: it must belong to root or to uid {me}; run `chown {me} {}`", path.display(), path.display())]
    ForeignOwner { path: PathBuf, owner: u32, me: u32 },
    /// Group or others may write it.
    #[error("`{}` can be written by others (mode {mode:o}): run `chmod go-w {}`", path.display(), path.display())]
    WritableByOthers { path: PathBuf, mode: u32 },
    /// Longer than the bound.
    #[error("`{}` has more than {MAX_FILE} bytes", path.display())]
    TooLong { path: PathBuf },
    /// Not UTF-8, or unreadable in the middle.
    #[error("can't read `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl OpenTrustedError {
    /// The file is simply not there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Open { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }
}

/// Reads a text file that only root or this process' own user could have written: owner, mode, parent directory, no
/// symbolic link, a regular file.
pub fn open_trusted(path: &Path) -> Result<String, OpenTrustedError> {
    let bytes = open_trusted_bytes(path, MAX_FILE)?;
    String::from_utf8(bytes).map_err(|error| OpenTrustedError::Read {
        path: path.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, error.utf8_error()),
    })
}

/// The same for bytes, up to `max` of them.
pub fn open_trusted_bytes(path: &Path, max: u64) -> Result<Vec<u8>, OpenTrustedError> {
    let me = rustix::process::geteuid().as_raw();
    // Opened without blocking, so that a FIFO under the name can't hold a daemon's start up.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
    let file = open(path, flags)?;
    judge(path, &file, me, false)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = open(parent, rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC)?;
    judge(parent, &directory, me, true)?;
    let mut bytes = Vec::new();
    let read = file.take(max + 1).read_to_end(&mut bytes);
    read.map_err(|source| OpenTrustedError::Read { path: path.to_owned(), source })?;
    if bytes.len() as u64 > max { Err(OpenTrustedError::TooLong { path: path.to_owned() }) } else { Ok(bytes) }
}

fn open(path: &Path, flags: rustix::fs::OFlags) -> Result<File, OpenTrustedError> {
    let bits = flags.bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(bits).open(path).map_err(|source| {
        if source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
            OpenTrustedError::Symlink { path: path.to_owned() }
        } else {
            OpenTrustedError::Open { path: path.to_owned(), source }
        }
    })
}

fn judge(path: &Path, file: &File, me: u32, directory: bool) -> Result<(), OpenTrustedError> {
    let meta = file.metadata().map_err(|source| OpenTrustedError::Open { path: path.to_owned(), source })?;
    if !directory && !meta.is_file() {
        return Err(OpenTrustedError::NotRegular { path: path.to_owned() });
    }
    if meta.uid() != 0 && meta.uid() != me {
        return Err(OpenTrustedError::ForeignOwner { path: path.to_owned(), owner: meta.uid(), me });
    }
    // In a directory with the sticky bit others can add names, but not replace this one.
    let sticky = directory && meta.mode() & 0o1000 != 0;
    if meta.mode() & OTHERS_WRITE != 0 && !sticky {
        return Err(OpenTrustedError::WritableByOthers { path: path.to_owned(), mode: meta.mode() & 0o7777 });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn file_in_private_directory() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = dir.path().join("runner.toml");
        fs::write(&path, "mode = \"observe\"\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        (dir, path)
    }

    #[test]
    fn reads_a_file_that_only_its_owner_can_write() {
        let (_dir, path) = file_in_private_directory();
        assert_eq!(open_trusted(&path).unwrap(), "mode = \"observe\"\n");
    }

    #[test]
    fn refuses_a_file_or_a_directory_that_others_can_write() {
        let (dir, path) = file_in_private_directory();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
        assert!(matches!(open_trusted(&path), Err(OpenTrustedError::WritableByOthers { mode: 0o664, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(open_trusted(&path), Err(OpenTrustedError::WritableByOthers { mode: 0o777, .. })));
    }

    #[test]
    fn refuses_a_symlink_a_directory_and_a_fifo_without_hanging() {
        let (dir, path) = file_in_private_directory();
        let link = dir.path().join("link.toml");
        symlink(&path, &link).unwrap();
        assert!(matches!(open_trusted(&link), Err(OpenTrustedError::Symlink { .. })));
        assert!(matches!(open_trusted(dir.path()), Err(OpenTrustedError::NotRegular { .. })));
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(matches!(open_trusted(&fifo), Err(OpenTrustedError::NotRegular { .. })));
    }

    #[test]
    fn says_which_file_is_absent() {
        let (dir, _) = file_in_private_directory();
        assert!(open_trusted(&dir.path().join("other.toml")).unwrap_err().is_absent());
    }

    #[test]
    fn refuses_a_file_beyond_the_bound() {
        let (_dir, path) = file_in_private_directory();
        assert!(open_trusted_bytes(&path, 19).is_ok());
        assert!(matches!(open_trusted_bytes(&path, 5), Err(OpenTrustedError::TooLong { .. })));
    }
}
