//! The opening rule: a file counts only if nobody but root or this process' own user could have written it.
//!
//! Whoever can write a configuration, a key or a policy decides what root will do. So the last part of the path is no symbolic
//! link, the file is regular, it and its directory belong to root or to us, and nobody else may write either. All of it is
//! asked of the opened file, never of its name. What the text means is its reader's business.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Mode bits that let others write.
const OTHERS_WRITE: u32 = 0o022;
/// In such a directory others can add names, but not replace one that is not theirs.
const STICKY: u32 = 0o1000;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum TrustedError {
    /// It is not there.
    #[error("there is no file `{}`", path.display())]
    Absent { path: PathBuf },
    /// It can't be opened.
    #[error("can't open `{}`", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
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
    /// Longer than any real one.
    #[error("`{}` has more than {max} bytes", path.display())]
    TooLong { path: PathBuf, max: u64 },
    /// Not UTF-8, or unreadable in the middle.
    #[error("can't read `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The text of a file of at most `max` bytes.
pub fn read(path: &Path, max: u64) -> Result<String, TrustedError> {
    String::from_utf8(read_bytes(path, max)?).map_err(|error| TrustedError::Read {
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()),
    })
}

/// The same; `None` where there is no such file.
pub fn read_if_there(path: &Path, max: u64) -> Result<Option<String>, TrustedError> {
    match read(path, max) {
        Ok(text) => Ok(Some(text)),
        Err(TrustedError::Absent { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The bytes of a file of at most `max` bytes.
pub fn read_bytes(path: &Path, max: u64) -> Result<Vec<u8>, TrustedError> {
    let me = rustix::process::geteuid().as_raw();
    // Without blocking, so that a FIFO under the name can't hold a daemon's start up.
    let file = open(path, OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC)?;
    judge(path, &file, me, false)?;
    // Whoever may write the directory may put another file in this one's place.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    judge(parent, &open(parent, OFlags::DIRECTORY | OFlags::CLOEXEC)?, me, true)?;
    let mut bytes = Vec::new();
    let read = file.take(max.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|source| TrustedError::Read { path: path.to_owned(), source })?;
    if bytes.len() as u64 > max { Err(TrustedError::TooLong { path: path.to_owned(), max }) } else { Ok(bytes) }
}

fn open(path: &Path, flags: OFlags) -> Result<File, TrustedError> {
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path).map_err(|source| {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::NotFound {
            TrustedError::Absent { path }
        } else if source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
            TrustedError::Symlink { path }
        } else {
            TrustedError::Open { path, source }
        }
    })
}

fn judge(path: &Path, file: &File, me: u32, directory: bool) -> Result<(), TrustedError> {
    let meta = file.metadata().map_err(|source| TrustedError::Open { path: path.to_owned(), source })?;
    if !directory && !meta.is_file() {
        return Err(TrustedError::NotRegular { path: path.to_owned() });
    }
    if meta.uid() != 0 && meta.uid() != me {
        return Err(TrustedError::ForeignOwner { path: path.to_owned(), owner: meta.uid(), me });
    }
    let sticky = directory && meta.mode() & STICKY != 0;
    if meta.mode() & OTHERS_WRITE != 0 && !sticky {
        return Err(TrustedError::WritableByOthers { path: path.to_owned(), mode: meta.mode() & 0o7777 });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    const TEXT: &str = "mode = \"observe\"\n";
    const MAX: u64 = 100;

    fn file_in_private_directory() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        mode(dir.path(), 0o755);
        let path = dir.path().join("runner.toml");
        fs::write(&path, TEXT).unwrap();
        mode(&path, 0o644);
        (dir, path)
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn reads_a_file_that_only_its_owner_can_write() {
        let (_dir, path) = file_in_private_directory();
        assert_eq!(read(&path, MAX).unwrap(), TEXT);
        assert_eq!(read_if_there(&path, MAX).unwrap().as_deref(), Some(TEXT));
    }

    // CF34, SG16.
    #[test]
    fn refuses_a_file_or_a_directory_that_others_can_write() {
        let (dir, path) = file_in_private_directory();
        mode(&path, 0o664);
        assert!(matches!(read(&path, MAX), Err(TrustedError::WritableByOthers { mode: 0o664, .. })));
        mode(&path, 0o600);
        mode(dir.path(), 0o777);
        assert!(matches!(read(&path, MAX), Err(TrustedError::WritableByOthers { mode: 0o777, .. })));
        mode(dir.path(), 0o1777);
        assert_eq!(read(&path, MAX).unwrap(), TEXT, "nobody can exchange a file of ours in a sticky directory");
    }

    // CF34, SG16.
    #[test]
    fn refuses_a_symlink_a_directory_and_a_fifo_without_hanging() {
        let (dir, path) = file_in_private_directory();
        let link = dir.path().join("link.toml");
        symlink(&path, &link).unwrap();
        assert!(matches!(read(&link, MAX), Err(TrustedError::Symlink { .. })));
        assert!(matches!(read(dir.path(), MAX), Err(TrustedError::NotRegular { .. })));
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(matches!(read(&fifo, MAX), Err(TrustedError::NotRegular { .. })));
    }

    #[test]
    fn an_absent_file_is_told_from_one_that_can_not_be_read() {
        let (dir, path) = file_in_private_directory();
        assert_eq!(read_if_there(&dir.path().join("other.toml"), MAX).unwrap(), None);
        assert!(matches!(read(&dir.path().join("other.toml"), MAX), Err(TrustedError::Absent { .. })));
        fs::write(&path, [0xff]).unwrap();
        assert!(matches!(read_if_there(&path, MAX), Err(TrustedError::Read { .. })));
    }

    #[test]
    fn refuses_a_file_beyond_the_bound() {
        let (_dir, path) = file_in_private_directory();
        let length = TEXT.len() as u64;
        assert!(read_bytes(&path, length).is_ok());
        assert!(matches!(read_bytes(&path, length - 1), Err(TrustedError::TooLong { .. })));
    }
}
