//! Putting a new key and a new certificate in the places of the old ones, and the old ones back.
//!
//! Each of the two changes in one step (a rename over the name); between the two steps a crash leaves the new key beside the old
//! certificate, which recovery sees and puts back.

use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
use theriac_model::certificate::{CertificateUndo, KeptFile};
use theriac_model::effect::FileState;

use super::pair::{Held, MAX_KEPT, Pair, PairError};
use crate::capability::files::{Identity, Over, PlaceError, own_name, state};
use crate::crash::crash_point;
use crate::gate::Place;
use crate::undo::Intent;
use crate::world::World;

/// Why the files were not changed, or not put back.
#[derive(Debug, thiserror::Error)]
pub(super) enum SwapError {
    /// A file can't be used.
    #[error(transparent)]
    Pair(#[from] PairError),
    /// It is another one by now.
    #[error("`{path}` was changed in between")]
    Changed { path: theriac_model::target::MountPath },
    /// The filesystem.
    #[error("`{path}` can't be replaced")]
    Place {
        path: theriac_model::target::MountPath,
        #[source]
        source: PlaceError,
    },
    /// What was kept is damaged.
    #[error("what was kept of `{path}` can't be used")]
    Kept { path: theriac_model::target::MountPath },
    /// The new key is in its place and the new certificate is not.
    #[error("only the key was replaced")]
    Half(#[source] Box<Self>),
}

/// What the halves are called: both may lie in one directory.
const NEW_CERTIFICATE: &str = "new-certificate";
const NEW_KEY: &str = "new-key";
const OLD_CERTIFICATE: &str = "old-certificate";
const OLD_KEY: &str = "old-key";

/// Others may never read a private key; whoever could through its owner or its group goes on.
const fn key_mode(mode: u32) -> u32 {
    (mode & !0o7777) | (mode & 0o640) | 0o600
}

/// A new file beside the old one, whole and durable, under a name of this run.
struct Half<'h> {
    held: &'h Held,
    name: std::path::PathBuf,
}

impl<'h> Half<'h> {
    fn write(
        held: &'h Held,
        purpose: &str,
        place: &Place,
        content: &[u8],
        as_was: &FileState,
    ) -> Result<Self, SwapError> {
        let failed = |source: PlaceError| SwapError::Place { path: held.path.clone(), source };
        let half = Self { held, name: own_name(&held.name, place, purpose) };
        half.discard();
        let file = held.root.create(&half.name, 0o600).map_err(failed)?;
        let written = file.write_all_at(content, 0).and_then(|()| {
            state::restore_metadata(&file, as_was)?;
            file.sync_all()
        });
        match written {
            Ok(()) => Ok(half),
            Err(error) => {
                half.discard();
                Err(failed(PlaceError::Io(error)))
            }
        }
    }

    /// It takes the old one's place, if that still is the very file.
    fn put(self) -> Result<(), SwapError> {
        let held = self.held;
        let failed = |source: PlaceError| SwapError::Place { path: held.path.clone(), source };
        let renamed = match held.root.find(&held.name) {
            Ok(now) if now.identity() == held.found.identity() => {
                held.root.rename(&self.name, &held.root, &held.name, Over::TheOld).map_err(failed)
            }
            Ok(_) => Err(SwapError::Changed { path: held.path.clone() }),
            Err(error) => Err(failed(error)),
        };
        if renamed.is_err() {
            self.discard();
        }
        renamed
    }

    fn discard(&self) {
        discard(self.held, &self.name);
    }
}

fn discard(held: &Held, name: &std::path::Path) {
    if let Ok(found) = held.root.find(name) {
        drop(held.root.unlink(name, Identity::of(&found.meta)));
    }
}

/// Removes what a run that was cut left beside the files: among it a private key that was never used.
pub(super) fn discard_leftovers(pair: &Pair, place: &Place) {
    for (held, new, old) in [(&pair.certificate, NEW_CERTIFICATE, OLD_CERTIFICATE), (&pair.key, NEW_KEY, OLD_KEY)] {
        for purpose in [new, old] {
            discard(held, &own_name(&held.name, place, purpose));
        }
    }
}

/// Replaces both; what they are now has to be what was kept.
pub(super) fn replace(
    pair: &Pair,
    undo: &CertificateUndo,
    place: &Place,
    (certificate, key): (&[u8], &[u8]),
) -> Result<(), SwapError> {
    for (held, kept) in [(&pair.certificate, &undo.certificate), (&pair.key, &undo.key)] {
        if !state::same(&held.state()?, &kept.state) {
            return Err(SwapError::Changed { path: held.path.clone() });
        }
    }
    let secret = FileState { mode: key_mode(undo.key.state.mode), ..undo.key.state.clone() };
    let new_key = Half::write(&pair.key, NEW_KEY, place, key, &secret)?;
    let new_certificate =
        match Half::write(&pair.certificate, NEW_CERTIFICATE, place, certificate, &undo.certificate.state) {
            Ok(half) => half,
            Err(error) => {
                new_key.discard();
                return Err(error);
            }
        };
    for half in [&new_key, &new_certificate] {
        // Of this moment, and not of the file that is replaced.
        if let Err(error) = touch(half) {
            new_key.discard();
            new_certificate.discard();
            return Err(error);
        }
    }
    crash_point("certificates.before-swap");
    if let Err(error) = new_key.put() {
        new_certificate.discard();
        return Err(error);
    }
    crash_point("certificates.half");
    new_certificate.put().map_err(|error| SwapError::Half(Box::new(error)))?;
    sync(pair).map_err(|error| SwapError::Half(Box::new(error)))?;
    crash_point("certificates.swapped");
    Ok(())
}

fn touch(half: &Half<'_>) -> Result<(), SwapError> {
    let failed = |source: PlaceError| SwapError::Place { path: half.held.path.clone(), source };
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let file = half.held.root.find(&half.name).and_then(|found| Ok(found.write()?)).map_err(failed)?;
    let times = Timestamps { last_access: now, last_modification: now };
    futimens(&file, &times).map_err(|errno| failed(PlaceError::Io(errno.into())))
}

fn sync(pair: &Pair) -> Result<(), SwapError> {
    for held in [&pair.certificate, &pair.key] {
        held.root.sync_names(&held.name).map_err(|source| SwapError::Place { path: held.path.clone(), source })?;
    }
    Ok(())
}

/// Puts back those of the two that `ours` says a run has replaced.
pub(super) fn restore(
    world: &World,
    intent: &Intent<'_>,
    pair: &Pair,
    undo: &CertificateUndo,
    ours: (bool, bool),
) -> Result<(), SwapError> {
    let each =
        [(&pair.key, OLD_KEY, &undo.key, ours.1), (&pair.certificate, OLD_CERTIFICATE, &undo.certificate, ours.0)];
    for (held, purpose, kept, replaced) in each {
        if replaced {
            let content = kept_content(world, held, kept)?;
            Half::write(held, purpose, &intent.place(), &content, &kept.state)?.put()?;
        }
    }
    sync(pair)
}

fn kept_content(world: &World, held: &Held, kept: &KeptFile) -> Result<zeroize::Zeroizing<Vec<u8>>, SwapError> {
    let damaged = |_: io::Error| SwapError::Kept { path: held.path.clone() };
    let store = world.undo_store();
    let mut source = store.get(&kept.preimage).map_err(|_missing| SwapError::Kept { path: held.path.clone() })?;
    let mut content = zeroize::Zeroizing::new(Vec::with_capacity(usize::try_from(kept.state.size).unwrap_or(0)));
    source.by_ref().take(MAX_KEPT).read_to_end(&mut content).map_err(damaged)?;
    let whole = kept.state.content == Some(theriac_model::id::Digest::of(&content));
    if whole { Ok(content) } else { Err(SwapError::Kept { path: held.path.clone() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_can_read_a_key_whatever_the_old_one_let() {
        for (old, new) in [
            (0o100_600, 0o100_600),
            (0o100_640, 0o100_640),
            (0o100_644, 0o100_640),
            (0o100_777, 0o100_640),
            (0o100_400, 0o100_600),
        ] {
            assert_eq!(key_mode(old), new, "{old:o}");
        }
    }
}
