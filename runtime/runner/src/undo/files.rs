//! Putting files back. Contents are compared before anything is overwritten, never inodes alone: a filesystem gives the inode
//! of a removed file to the next one that is made.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use theriac_model::effect::{Effect, FileId, FileState, FileVerb, Observed, Preimage, Undo, UndoOutcome};
use theriac_model::id::Digest;
use theriac_model::target::MountPath;

use super::{Intent, changed, failed, not_needed};
use crate::capability::files::{Archive, Found, Identity, Over, PlaceError, Root, own_name, state, unescape};
use crate::crash::crash_point;
use crate::world::World;

/// Why a file was not put back.
#[derive(Debug, thiserror::Error)]
enum RestoreError {
    /// Somebody else's change is in the way.
    #[error("{0}")]
    Changed(String),
    /// The directory or the file can't be reached.
    #[error("{0}")]
    Place(#[from] PlaceError),
    /// The filesystem failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The pre-image is missing or damaged.
    #[error("{0}")]
    Preimage(#[from] theriac_journal::undo::GetError),
    /// What came back is not what was kept.
    #[error("the kept content is damaged")]
    Damaged,
}

/// Where the content before comes from.
enum Source<'a> {
    Store(&'a World, &'a Preimage),
    Archive(Archive),
}

/// A file as it was before.
struct Past<'a> {
    state: &'a FileState,
    source: Source<'a>,
}

impl Source<'_> {
    /// Hands the content to `take`, which reads it once.
    fn read<T>(
        &self,
        size: u64,
        take: impl FnOnce(&mut dyn Read) -> Result<T, RestoreError>,
    ) -> Result<T, RestoreError> {
        match self {
            Self::Store(world, preimage) => take(&mut world.undo_store().get(preimage)?),
            Self::Archive(archive) => take(&mut archive.content(size)?),
        }
    }
}

/// The directory and the path of a file that a record names.
pub(crate) fn place(world: &World, file: &FileId) -> Result<(Root, PathBuf), PlaceError> {
    let root = Root::open(&file.dir)?;
    let below = unescape(&file.path).ok_or(PlaceError::Escapes)?;
    if root.identity.dev == file.dev && world.roots.is_as_seen(&file.dir, root.identity) {
        Ok((root, below))
    } else {
        Err(PlaceError::Gone)
    }
}

/// Takes one change of one file back.
pub(super) fn take_back(world: &World, intent: &Intent<'_>, after: Option<&Observed>) -> UndoOutcome {
    let done = match intent.undo {
        Undo::RestoreFile { file, before, preimage } => {
            let past = Past { state: before, source: Source::Store(world, preimage) };
            restore(world, intent, file, &past, after)
        }
        Undo::RestoreArchived { file, before, archive, .. } => restore_archived(world, intent, file, before, archive),
        Undo::CutBack { file, before } => cut_back(world, intent, file, before),
        Undo::PutBack { file, aside } => put_back(world, file, aside),
        Undo::StopUnit { .. }
        | Undo::StartUnit { .. }
        | Undo::SetProperty { .. }
        | Undo::SetAffinity { .. }
        | Undo::Renice { .. }
        | Undo::RestoreCertificate(_)
        | Undo::RunProgram { .. }
        | Undo::SendHttp { .. }
        | Undo::SetKnob { .. }
        | Undo::RemoveElement { .. }
        | Undo::SwitchRelease { .. }
        | Undo::StopContainer { .. }
        | Undo::StartContainer { .. }
        | Undo::SetDatabase(_)
        | Undo::Nothing { .. } => Ok(not_needed("no file")),
    };
    done.unwrap_or_else(|error| match error {
        RestoreError::Changed(found) => changed(found),
        RestoreError::Place(error @ (PlaceError::Taken | PlaceError::Gone | PlaceError::NotRegular)) => changed(error),
        error @ (RestoreError::Place(_) | RestoreError::Io(_) | RestoreError::Preimage(_) | RestoreError::Damaged) => {
            failed(chain(&error))
        }
    })
}

/// The whole sentence, sources included: an undo that failed is read by a person.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        next = source.source();
    }
    text
}

fn restore(
    world: &World,
    intent: &Intent<'_>,
    file: &FileId,
    past: &Past<'_>,
    after: Option<&Observed>,
) -> Result<UndoOutcome, RestoreError> {
    let (root, below) = place(world, file)?;
    match verb(intent) {
        Some(FileVerb::Replace { content, .. }) => {
            let expected = match after {
                Some(Observed::File(state)) => Expected::State(state),
                Some(_) | None => Expected::Content(content),
            };
            restore_replaced(&root, &below, intent, past, &expected)
        }
        Some(_) | None => restore_in_place(&root.find(&below)?, past),
    }
}

/// What an effect left behind.
enum Expected<'a> {
    State(&'a FileState),
    Content(Digest),
}

fn restore_replaced(
    root: &Root,
    below: &Path,
    intent: &Intent<'_>,
    past: &Past<'_>,
    expected: &Expected<'_>,
) -> Result<UndoOutcome, RestoreError> {
    let before = past.state;
    discard(root, &own_name(below, &intent.place(), "new"));
    let found = root.find(below)?;
    let now = state::with_content(&found.read()?)?;
    if state::same(&now, before) {
        return Ok(not_needed("it is as it was before"));
    }
    let untouched = match expected {
        Expected::State(after) => state::same(&now, after),
        Expected::Content(content) => now.content == Some(*content),
    };
    if !untouched {
        return Err(RestoreError::Changed(Observed::File(now).to_string()));
    }
    let half = write_half(root, below, intent, past)?;
    if root.find(below)?.identity() != found.identity() {
        discard(root, &half);
        return Err(RestoreError::Changed("another file of that name".to_owned()));
    }
    root.rename(&half, root, below, Over::TheOld)?;
    root.sync_names(below)?;
    Ok(UndoOutcome::Restored)
}

fn restore_archived(
    world: &World,
    intent: &Intent<'_>,
    file: &FileId,
    before: &FileState,
    archive: &MountPath,
) -> Result<UndoOutcome, RestoreError> {
    let (root, below) = place(world, file)?;
    let past = Past { state: before, source: Source::Archive(Archive::at(archive)?) };
    let outcome = match root.find(&below) {
        Err(PlaceError::Gone) => {
            let half = write_half(&root, &below, intent, &past)?;
            root.rename(&half, &root, &below, Over::Nothing).inspect_err(|_| discard(&root, &half))?;
            root.sync_names(&below)?;
            UndoOutcome::Restored
        }
        Err(error) => return Err(error.into()),
        Ok(found) if matches!(verb(intent), Some(FileVerb::CopyTruncate { .. })) => restore_in_place(&found, &past)?,
        Ok(found) => {
            let now = state::with_content(&found.read()?)?;
            if !state::same(&now, before) {
                return Err(RestoreError::Changed(Observed::File(now).to_string()));
            }
            not_needed("it is as it was before")
        }
    };
    // Only now is the archive a second copy.
    if let Source::Archive(archive) = past.source {
        archive.remove()?;
    }
    Ok(outcome)
}

/// Writes what is missing at the end of a file that was cut, into the same inode, because writers have it open. A restore that
/// was interrupted left a beginning of the content: it goes on from there.
fn restore_in_place(found: &Found, past: &Past<'_>) -> Result<UndoOutcome, RestoreError> {
    let Past { state: before, source } = past;
    let file = found.write()?;
    let now = state::with_content(&file)?;
    // Asked first, and without the source: an archive is removed as soon as its content is back.
    if before.content.is_some() && state::same(&now, before) {
        state::restore_mtime(&file, before)?;
        return Ok(not_needed("it is as it was before"));
    }
    let is_beginning = now.size <= before.size && now.content == Some(prefix(source, before, now.size)?);
    if !is_beginning {
        return Err(RestoreError::Changed(Observed::File(now).to_string()));
    }
    let digest = source.read(before.size, |content| copy(content, &file, now.size, before.size))?;
    file.sync_all()?;
    if file.metadata()?.len() != before.size {
        return Err(RestoreError::Changed("somebody wrote while it was put back".to_owned()));
    }
    if before.content.is_some_and(|kept| kept != digest) {
        return Err(RestoreError::Damaged);
    }
    state::restore_metadata(&file, before)?;
    file.sync_all()?;
    Ok(UndoOutcome::Restored)
}

/// The digest of the first bytes of the content before.
fn prefix(source: &Source<'_>, before: &FileState, length: u64) -> Result<Digest, RestoreError> {
    source.read(before.size, |content| {
        let mut hash = Sha256::new();
        io::copy(&mut content.take(length), &mut Hashing(&mut hash))?;
        Ok(Digest::from_bytes(hash.finalize().into()))
    })
}

/// A new file beside the old path with the content, owner, mode, attributes and times of before; synced.
fn write_half(root: &Root, below: &Path, intent: &Intent<'_>, past: &Past<'_>) -> Result<PathBuf, RestoreError> {
    let Past { state: before, source } = past;
    let half = own_name(below, &intent.place(), "undo");
    discard(root, &half);
    let file = root.create(&half, 0o600)?;
    let write = || -> Result<(), RestoreError> {
        let digest = source.read(before.size, |content| copy(content, &file, 0, before.size))?;
        if file.metadata()?.len() != before.size || before.content.is_some_and(|kept| kept != digest) {
            return Err(RestoreError::Damaged);
        }
        state::restore_metadata(&file, before)?;
        Ok(file.sync_all()?)
    };
    match write() {
        Ok(()) => Ok(half),
        Err(error) => {
            discard(root, &half);
            Err(error)
        }
    }
}

/// Copies the content from `from` on to the same offsets of the file; the digest is of all of it.
fn copy(content: &mut dyn Read, file: &File, from: u64, size: u64) -> Result<Digest, RestoreError> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; state::CHUNK];
    let mut at = 0_u64;
    loop {
        let n = content.read(&mut buffer)?;
        let Some(part) = buffer.get(..n).filter(|part| !part.is_empty()) else { break };
        hash.update(part);
        let known = usize::try_from(from.saturating_sub(at)).unwrap_or(usize::MAX).min(n);
        if let Some(new) = part.get(known..) {
            file.write_all_at(new, at + known as u64)?;
        }
        at += n as u64;
        if at > size {
            return Err(RestoreError::Damaged);
        }
        crash_point("undo.file-half");
    }
    Ok(Digest::from_bytes(hash.finalize().into()))
}

fn cut_back(
    world: &World,
    intent: &Intent<'_>,
    file: &FileId,
    before: &FileState,
) -> Result<UndoOutcome, RestoreError> {
    let (root, below) = place(world, file)?;
    let found = root.find(&below)?;
    let other = || RestoreError::Changed("the file is another one, or was written to".to_owned());
    let Some(FileVerb::Append { content, bytes }) = verb(intent) else { return Err(other()) };
    if found.identity() != identity(file) {
        return Err(other());
    }
    let file = found.write()?;
    let now = state::of(&file, &file.metadata()?)?;
    if now.size == before.size {
        return Ok(not_needed("it is as it was before"));
    }
    let only_ours =
        now.size == before.size.saturating_add(bytes) && state::digest(&file, before.size, bytes)? == content;
    if !only_ours {
        return Err(other());
    }
    file.set_len(before.size)?;
    state::restore_mtime(&file, before)?;
    file.sync_all()?;
    Ok(UndoOutcome::Restored)
}

fn put_back(world: &World, file: &FileId, aside: &MountPath) -> Result<UndoOutcome, RestoreError> {
    let (root, below) = place(world, file)?;
    let aside = Archive::at(aside)?;
    if aside.identity() == Some(identity(file)) {
        aside.give_back(&root, &below)?;
        return Ok(UndoOutcome::Restored);
    }
    if root.find(&below)?.identity() == identity(file) {
        return Ok(not_needed("it is where it was before"));
    }
    Err(RestoreError::Changed("the file is neither in its place nor where it was set aside".to_owned()))
}

/// What an effect that did not happen may have left: a half-written replacement, an archive of a file that is still there.
pub(super) fn discard_leftovers(world: &World, intent: &Intent<'_>) {
    let Effect::File { file, .. } = intent.effect else { return };
    let Ok((root, below)) = place(world, file) else { return };
    discard(&root, &own_name(&below, &intent.place(), "new"));
    if let Undo::RestoreArchived { archive, .. } = intent.undo
        && let Ok(archive) = Archive::at(archive)
    {
        // A leftover that can't be removed does no harm but its space.
        drop(archive.remove());
    }
}

fn discard(root: &Root, below: &Path) {
    if let Ok(found) = root.find(below) {
        drop(root.unlink(below, found.identity()));
    }
}

pub(crate) const fn verb(intent: &Intent<'_>) -> Option<FileVerb> {
    match intent.effect {
        Effect::File { verb, .. } => Some(*verb),
        Effect::Unit { .. }
        | Effect::Group { .. }
        | Effect::Process { .. }
        | Effect::Certificate(_)
        | Effect::Program(_)
        | Effect::Http(_)
        | Effect::Knob(_)
        | Effect::Release(_)
        | Effect::Container(_)
        | Effect::Database(_)
        | Effect::Firewall(_) => None,
    }
}

pub(crate) const fn identity(file: &FileId) -> Identity {
    Identity { dev: file.dev, ino: file.ino }
}

struct Hashing<'h>(&'h mut Sha256);

impl io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
