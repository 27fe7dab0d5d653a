//! Answers to HTTP challenges in the operator's webroot: written where nothing leads elsewhere, gone afterwards.

use std::fs::File;
use std::io::{self, Read as _, Write as _};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, fchmod, fstat, mkdirat, openat2, statat, unlinkat};
use rustix::io::Errno;
use theriac_model::target::MountPath;
use theriac_protocol::acme::Challenge;

/// RFC 8555, 8.3.
const BELOW: [&str; 2] = [".well-known", "acme-challenge"];
/// The web server's user reads it.
const DIRECTORY: Mode = Mode::from_raw_mode(0o755);
const FILE: Mode = Mode::from_raw_mode(0o644);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
/// Files that other clients of the webroot may have left there; more are nobody's tokens.
const MAX_FILES: usize = 4_096;
/// A token of 128 characters, a dot and a thumbprint.
const MAX_ANSWER: u64 = 256;

/// Why an answer was not put in its place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebrootError {
    /// The webroot, or a directory below it.
    #[error("`{webroot}` can't be used")]
    Directory {
        webroot: MountPath,
        #[source]
        source: io::Error,
    },
    /// A challenge that is none: another account's answer, or a token that is more than a name.
    #[error("what the authority wants to see is not the answer to a challenge of this account")]
    Unsound,
    /// More than the names of the certificate.
    #[error("the authority wants to see {asked} answers for {names} names")]
    TooMany { asked: usize, names: usize },
    /// The file.
    #[error("the answer can't be written in `{webroot}`")]
    File {
        webroot: MountPath,
        #[source]
        source: io::Error,
    },
}

/// Answers that are in their places, until this is dropped.
#[derive(Debug)]
pub(crate) struct Placed {
    directory: File,
    files: Vec<(String, (u64, u64))>,
}

/// The directory for answers; made where it is not there yet and `make` says so.
fn directory(webroot: &MountPath, make: bool) -> Result<File, WebrootError> {
    let failed = |errno: Errno| WebrootError::Directory { webroot: webroot.clone(), source: errno.into() };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mut here = openat2(CWD, webroot.as_path(), flags, Mode::empty(), resolve).map_err(failed)?;
    for part in BELOW {
        let made = make
            && match mkdirat(&here, part, DIRECTORY) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(errno) => return Err(failed(errno)),
            };
        here = openat2(&here, part, flags, Mode::empty(), BENEATH).map_err(failed)?;
        if made {
            // Whatever this process' umask is: the web server is another user.
            fchmod(&here, DIRECTORY).map_err(failed)?;
        }
    }
    Ok(here.into())
}

impl Placed {
    /// Looks at every challenge first, and then writes.
    pub(crate) fn write(
        webroot: &MountPath,
        challenges: &[Challenge],
        account: &str,
        names: usize,
    ) -> Result<Self, WebrootError> {
        if challenges.len() > names {
            return Err(WebrootError::TooMany { asked: challenges.len(), names });
        }
        if !challenges.iter().all(|challenge| challenge.is_sound(account)) {
            return Err(WebrootError::Unsound);
        }
        let mut placed = Self { directory: directory(webroot, true)?, files: Vec::new() };
        for challenge in challenges {
            placed.put(challenge).map_err(|source| WebrootError::File { webroot: webroot.clone(), source })?;
        }
        Ok(placed)
    }

    /// Never over a file that is there: it would be somebody else's.
    fn put(&mut self, challenge: &Challenge) -> io::Result<()> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat2(&self.directory, challenge.token.as_str(), flags, FILE, BENEATH)?);
        let stat = fstat(&file)?;
        self.files.push((challenge.token.clone(), (stat.st_dev, stat.st_ino)));
        file.write_all(challenge.answer.as_bytes())?;
        fchmod(&file, FILE)?;
        Ok(())
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        for (token, identity) in &self.files {
            let same = statat(&self.directory, token.as_str(), AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == *identity);
            if same && let Err(error) = unlinkat(&self.directory, token.as_str(), AtFlags::empty()) {
                tracing::warn!(%error, token, "an answer to a challenge was not removed");
            }
        }
    }
}

/// Removes what a crash left: answers of this account, which nobody else can have written, and nothing else.
pub(crate) fn sweep(webroot: &MountPath, account: &str) {
    let Ok(directory) = directory(webroot, false) else { return };
    let Ok(entries) = rustix::fs::Dir::read_from(&directory) else { return };
    for entry in entries.take(MAX_FILES).filter_map(Result::ok) {
        let Ok(token) = entry.file_name().to_str() else { continue };
        let answer = format!("{token}.{account}");
        let challenge = Challenge { token: token.to_owned(), answer };
        if challenge.is_sound(account)
            && holds(&directory, &challenge)
            && let Err(error) = unlinkat(&directory, token, AtFlags::empty())
        {
            tracing::warn!(%error, token, "an answer to a challenge that a crash left was not removed");
        }
    }
}

/// The file is the answer to its own name. An empty one, which a crash can leave too, could be another client's, and harms nobody.
fn holds(directory: &File, challenge: &Challenge) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = openat2(directory, challenge.token.as_str(), flags, Mode::empty(), BENEATH) else { return false };
    let file = File::from(file);
    let mut content = String::new();
    file.metadata().is_ok_and(|meta| meta.is_file())
        && file.take(MAX_ANSWER + 1).read_to_string(&mut content).is_ok()
        && challenge.answer == content
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    const ACCOUNT: &str = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";
    const TOKEN: &str = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";

    fn challenge(token: &str) -> Challenge {
        Challenge { token: token.to_owned(), answer: format!("{token}.{ACCOUNT}") }
    }

    fn webroot() -> (tempfile::TempDir, MountPath) {
        let dir = tempfile::tempdir().unwrap();
        let path = MountPath::parse(dir.path().to_str().unwrap()).unwrap();
        (dir, path)
    }

    fn files(dir: &tempfile::TempDir) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(dir.path().join(".well-known/acme-challenge")) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn an_answer_is_there_for_everybody_to_read_until_it_is_dropped() {
        let (dir, path) = webroot();
        let placed = Placed::write(&path, &[challenge(TOKEN)], ACCOUNT, 1).unwrap();
        let file = dir.path().join(".well-known/acme-challenge").join(TOKEN);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{TOKEN}.{ACCOUNT}"));
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o644);
        assert_eq!(file.parent().unwrap().metadata().unwrap().permissions().mode() & 0o7777, 0o755);
        drop(placed);
        assert!(files(&dir).is_empty());
    }

    #[test]
    fn what_is_no_challenge_of_ours_writes_nothing() {
        let (dir, path) = webroot();
        let climbs =
            Challenge { token: "../../../etc/cron.d/x".into(), answer: format!("../../../etc/cron.d/x.{ACCOUNT}") };
        let other = Challenge { answer: format!("{TOKEN}.{}", "x".repeat(43)), ..challenge(TOKEN) };
        for wrong in [climbs, other, Challenge { answer: "<?php".into(), ..challenge(TOKEN) }] {
            let refused = Placed::write(&path, &[challenge(&TOKEN.replace('L', "M")), wrong], ACCOUNT, 2);
            assert!(matches!(refused, Err(WebrootError::Unsound)));
            assert!(files(&dir).is_empty());
        }
        let many = vec![challenge(TOKEN); 2];
        assert!(matches!(Placed::write(&path, &many, ACCOUNT, 1), Err(WebrootError::TooMany { asked: 2, names: 1 })));
    }

    #[test]
    fn a_link_on_the_way_or_a_file_of_that_name_is_never_written_through() {
        let (dir, path) = webroot();
        let elsewhere = tempfile::tempdir().unwrap();
        symlink(elsewhere.path(), dir.path().join(".well-known")).unwrap();
        let refused = Placed::write(&path, &[challenge(TOKEN)], ACCOUNT, 1);
        assert!(matches!(refused, Err(WebrootError::Directory { .. })));
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);

        let (dir, path) = webroot();
        let inner = dir.path().join(".well-known/acme-challenge");
        std::fs::create_dir_all(&inner).unwrap();
        let target = elsewhere.path().join("target");
        symlink(&target, inner.join(TOKEN)).unwrap();
        assert!(matches!(Placed::write(&path, &[challenge(TOKEN)], ACCOUNT, 1), Err(WebrootError::File { .. })));
        assert!(!target.exists() && files(&dir) == [TOKEN], "somebody else's file stays");
    }

    #[test]
    fn after_a_crash_our_answers_go_and_others_stay() {
        let (dir, path) = webroot();
        std::mem::forget(Placed::write(&path, &[challenge(TOKEN)], ACCOUNT, 1).unwrap());
        let foreign = TOKEN.replace('L', "M");
        let inner = dir.path().join(".well-known/acme-challenge");
        std::fs::write(inner.join(&foreign), format!("{foreign}.{}", "x".repeat(43))).unwrap();
        std::fs::write(inner.join("robots.txt"), "x").unwrap();
        sweep(&path, ACCOUNT);
        assert_eq!(files(&dir), [foreign, "robots.txt".to_owned()]);
        sweep(&MountPath::parse("/nonexistent").unwrap(), ACCOUNT);
    }
}
