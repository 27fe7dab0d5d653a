//! Reading what only root, or the process' own user, can have written: a file of commands that anybody may edit is an open door.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Mode bits that let others write.
const OTHERS_WRITE: u32 = 0o022;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum TrustedError {
    /// It can't be opened or read, or is no UTF-8.
    #[error("`{}` can't be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A directory, a FIFO, a device.
    #[error("`{}` is no regular file", path.display())]
    NotRegular { path: PathBuf },
    /// Somebody else could have written it.
    #[error(
        "`{}` must belong to root or to uid {own} and be writable by nobody else (it belongs to uid {owner}, mode {mode:o})",
        path.display()
    )]
    Writable { path: PathBuf, own: u32, owner: u32, mode: u32 },
    /// Longer than any real one.
    #[error("`{}` is longer than {max} bytes", path.display())]
    TooLong { path: PathBuf, max: u64 },
}

/// The text of a file, or `None` where there is no such file. Its directory is held to the same rule.
pub fn read(path: &Path, max: u64) -> Result<Option<String>, TrustedError> {
    let failed = |source| TrustedError::Read { path: path.to_owned(), source };
    // Without blocking, so that a FIFO under the name holds nobody up.
    let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC).bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(TrustedError::NotRegular { path: path.to_owned() });
    }
    judge(path, &metadata)?;
    // Whoever may write the directory may put another file in this one's place.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    judge(parent, &File::open(parent).and_then(|parent| parent.metadata()).map_err(failed)?)?;
    let mut text = String::new();
    let length = file.take(max + 1).read_to_string(&mut text).map_err(failed)?;
    if length as u64 > max { Err(TrustedError::TooLong { path: path.to_owned(), max }) } else { Ok(Some(text)) }
}

fn judge(path: &Path, metadata: &Metadata) -> Result<(), TrustedError> {
    let own = rustix::process::geteuid().as_raw();
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if (owner == 0 || owner == own) && mode & OTHERS_WRITE == 0 {
        return Ok(());
    }
    Err(TrustedError::Writable { path: path.to_owned(), own, owner, mode })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_or_directory_that_others_may_write_is_refused_and_its_neighbour_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.toml");
        assert_eq!(read(&path, 10).unwrap(), None);
        std::fs::write(&path, "0123456789").unwrap();
        let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(&path, 0o644);
        assert_eq!(read(&path, 10).unwrap().as_deref(), Some("0123456789"));
        assert!(matches!(read(&path, 9), Err(TrustedError::TooLong { .. })));
        mode(&path, 0o664);
        assert!(matches!(read(&path, 10), Err(TrustedError::Writable { .. })));
        mode(&path, 0o600);
        mode(dir.path(), 0o777);
        assert!(matches!(read(&path, 10), Err(TrustedError::Writable { .. })));
        assert!(matches!(read(dir.path(), 10), Err(TrustedError::NotRegular { .. })));
    }
}
