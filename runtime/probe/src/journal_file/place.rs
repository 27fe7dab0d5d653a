//! Where journald keeps the files of this machine. Journals that were received from other machines lie beside them and are left
//! alone: their trusted fields are those of another journald.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::TailError;

/// On disk, and in memory until the disk is there.
const PLACES: [&str; 2] = ["var/log/journal", "run/log/journal"];
/// The newest of them; at journald's usual size this reaches back over 8 GiB of logs.
const MAX_FILES: usize = 64;
/// Entries of a directory that are looked at.
const MAX_ENTRIES: usize = 4096;

/// The files, that with the newest change first.
pub(super) fn files(root: &Path) -> Result<Vec<PathBuf>, TailError> {
    let id = machine_id(root)?;
    let directories = PLACES.iter().flat_map(|place| directories(&root.join(place), &id));
    let mut files: Vec<(SystemTime, PathBuf)> = directories.flat_map(|directory| journals(&directory)).collect();
    files.sort_by(|a, b| b.cmp(a));
    files.truncate(MAX_FILES);
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

fn machine_id(root: &Path) -> Result<String, TailError> {
    let path = root.join("etc/machine-id");
    let text = fs::read_to_string(&path).and_then(|text| {
        let id = text.trim_end();
        let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then(|| id.to_owned()).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    });
    text.map_err(|source| TailError::MachineId { path, source })
}

/// `ID`, and `ID.NAMESPACE` for units with a journald of their own.
fn directories(place: &Path, id: &str) -> Vec<PathBuf> {
    let of_this_machine = |path: &PathBuf| {
        let rest = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix(id));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    entries(place).map(|entry| entry.path()).filter(of_this_machine).collect()
}

fn journals(directory: &Path) -> Vec<(SystemTime, PathBuf)> {
    let is_journal = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        // `~`: journald was killed while it wrote, which is when its last words matter most.
        (name.starts_with("system") || name.starts_with("user-"))
            && (name.ends_with(".journal") || name.ends_with(".journal~"))
    };
    let dated = |entry: fs::DirEntry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()));
    entries(directory).filter(is_journal).filter_map(dated).collect()
}

fn entries(directory: &Path) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(directory).into_iter().flatten().take(MAX_ENTRIES).filter_map(Result::ok)
}
