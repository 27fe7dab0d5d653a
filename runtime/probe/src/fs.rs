//! Space on mounted filesystems, by statvfs.
//!
//! A listed mount point on which nothing is mounted is an error, not the space of the filesystem below it: a forgotten backup
//! disk must not look like a full root.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatVfsMountFlags, StatxAttributes, StatxFlags};
use theriac_model::call::SpaceInfo;

/// Why a filesystem could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum SpaceError {
    /// The call failed.
    #[error("the filesystem can't be read")]
    Read(#[source] rustix::io::Errno),
    /// Nothing is mounted there.
    #[error("nothing is mounted there")]
    NotMounted,
    /// It has no blocks to run out of (a pseudo filesystem).
    #[error("the filesystem has no blocks")]
    NoBlocks,
}

/// A filesystem's space at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Space {
    /// Bytes that ordinary users' files can take in all, as df computes it: reserved blocks are not in it.
    pub total: u64,
    /// Bytes an ordinary user can still write.
    pub available: u64,
    /// Inodes in all; 0 where the filesystem makes them as needed.
    pub inodes: u64,
    /// Inodes an ordinary user can still take.
    pub inodes_available: u64,
    /// Mounted read-only.
    pub read_only: bool,
}

impl Space {
    /// Share of the blocks still available, in thousandths.
    pub fn available_permille(&self) -> f64 {
        permille(self.available, self.total)
    }

    /// Share of the inodes still available; `None` where there is no such limit.
    pub fn inodes_permille(&self) -> Option<f64> {
        (self.inodes > 0).then(|| permille(self.inodes_available, self.inodes))
    }

    /// As a remedy sees it.
    pub const fn info(&self) -> SpaceInfo {
        SpaceInfo {
            total: self.total,
            available: self.available,
            inodes: self.inodes,
            inodes_available: self.inodes_available,
            assumed: false,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
pub(crate) fn permille(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 * 1000.0 / whole as f64).clamp(0.0, 1000.0) }
}

/// Measures the filesystem mounted at the path.
pub fn space_of_mount(path: &Path) -> Result<Space, SpaceError> {
    let stat = rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MODE).map_err(SpaceError::Read)?;
    // Kernels before 5.8 can't tell.
    if stat.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
        && !stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
    {
        return Err(SpaceError::NotMounted);
    }
    space(path)
}

/// Measures the filesystem the path is on.
pub fn space(path: &Path) -> Result<Space, SpaceError> {
    let stat = rustix::fs::statvfs(path).map_err(SpaceError::Read)?;
    if stat.f_blocks == 0 {
        return Err(SpaceError::NoBlocks);
    }
    let used = stat.f_blocks.saturating_sub(stat.f_bfree);
    let inodes_used = stat.f_files.saturating_sub(stat.f_ffree);
    Ok(Space {
        total: used.saturating_add(stat.f_bavail).saturating_mul(stat.f_frsize),
        available: stat.f_bavail.saturating_mul(stat.f_frsize),
        inodes: if stat.f_files == 0 { 0 } else { inodes_used.saturating_add(stat.f_favail) },
        inodes_available: stat.f_favail,
        read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_measured_and_a_plain_directory_is_not_one() {
        let space = space_of_mount(Path::new("/")).unwrap();
        assert!(space.total >= space.available && (0.0..=1000.0).contains(&space.available_permille()));
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(space_of_mount(dir.path()), Err(SpaceError::NotMounted)));
        assert!(super::space(dir.path()).is_ok());
        assert!(matches!(space_of_mount(&dir.path().join("gone")), Err(SpaceError::Read(_))));
    }

    #[test]
    fn a_filesystem_without_an_inode_limit_never_runs_out_of_inodes() {
        let space = Space { total: 10, available: 5, inodes: 0, inodes_available: 0, read_only: false };
        assert_eq!(space.inodes_permille(), None);
        assert!((space.available_permille() - 500.0).abs() < f64::EPSILON);
    }
}
