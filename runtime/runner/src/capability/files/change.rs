//! The changing verbs of `files`, as the gate wants them: drafted, checked again, made undoable, applied.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::time::Duration;

use theriac_authority::effective::{BoundDir, Use};
use theriac_authority::grant::FilesVerb;
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::effect::{Effect, FileVerb, Observed, Preimage, Undo, UndoClass};
use theriac_model::id::Digest;
use theriac_model::plan::Guard;
use theriac_model::target::MountPath;

use super::archive::{self, Archive};
use super::place::{Found, Over, PlaceError, Root};
use super::state::{self, Range};
use super::{Entry, Identity, newer, own_name, pinned, root, used};
use crate::crash::crash_point;
use crate::gate::{Applied, ApplyError, Change, Draft, Kept, Place};
use crate::session::{Assumption, Scene};

/// Most content that one `replace` or `append` brings.
const MAX_CONTENT: usize = 256 << 10;
/// Files up to this size are kept whole before they are cut or replaced; of larger ones the end is kept.
const WHOLE: u64 = 32 << 20;
/// The end of a log says what happened last.
const EVIDENCE: u64 = 1 << 20;
/// Growth of a log that a plan made some seconds (or, with consent, hours) earlier allows for; twice the size covers the rest.
const HEADROOM: u64 = 16 << 20;
/// Share of the archive's device that stays free, as a divisor: moving a full disk's trouble elsewhere heals nothing.
const STAYS_FREE: u64 = 20;

/// What a remedy asks for.
#[derive(Debug)]
pub(super) enum Wish {
    Replace(Vec<u8>),
    Append(Vec<u8>),
    Truncate,
    CopyTruncate,
    Remove,
    Archive,
    SetAside,
}

impl Wish {
    const fn verb(&self) -> FilesVerb {
        match self {
            Self::Replace(_) => FilesVerb::Replace,
            Self::Append(_) => FilesVerb::Append,
            Self::Truncate => FilesVerb::Truncate,
            Self::CopyTruncate => FilesVerb::CopyTruncate,
            Self::Remove => FilesVerb::Remove,
            Self::Archive => FilesVerb::Archive,
            Self::SetAside => FilesVerb::SetAside,
        }
    }

    /// The effect's verb for a file of that size, with at most that many bytes lost where it is cut.
    fn effect(&self, size: u64, cut: u64) -> FileVerb {
        match self {
            Self::Replace(content) => {
                FileVerb::Replace { content: Digest::of(content), bytes: size.max(content.len() as u64) }
            }
            Self::Append(content) => FileVerb::Append { content: Digest::of(content), bytes: content.len() as u64 },
            Self::Truncate => FileVerb::Truncate { bytes: cut },
            Self::CopyTruncate => FileVerb::CopyTruncate { bytes: cut },
            Self::Remove => FileVerb::Remove { bytes: size },
            Self::Archive => FileVerb::Archive { bytes: size },
            Self::SetAside => FileVerb::SetAside { bytes: size },
        }
    }

    const fn content(&self) -> Option<&[u8]> {
        match self {
            Self::Replace(content) | Self::Append(content) => Some(content.as_slice()),
            Self::Truncate | Self::CopyTruncate | Self::Remove | Self::Archive | Self::SetAside => None,
        }
    }
}

/// One change of one file.
#[derive(Debug)]
pub(super) struct FileChange {
    entry: Entry,
    wish: Wish,
    place: Option<Place>,
    /// Size and times when it was drafted: a file that is taken away may not change in between.
    seen: Option<(u64, i64, i64)>,
}

fn fingerprint(found: &Found) -> (u64, i64, i64) {
    (found.meta.size(), found.meta.mtime_nsec() ^ found.meta.mtime(), found.meta.ctime_nsec() ^ found.meta.ctime())
}

impl FileChange {
    pub(super) const fn new(entry: Entry, wish: Wish) -> Self {
        Self { entry, wish, place: None, seen: None }
    }

    fn denial(&self, cause: DenialCause, rule: &str) -> Denial {
        self.entry.denial(cause, rule, self.wish.verb())
    }

    fn failed(&self, error: &PlaceError) -> ApplyError {
        ApplyError::Denied(self.entry.lost(self.wish.verb(), error))
    }

    fn io(&self, error: &std::io::Error) -> Denial {
        self.entry.io(self.wish.verb(), error)
    }

    fn find(&self, scene: &mut Scene<'_>) -> Result<Found, Denial> {
        let root = root(scene, &self.entry.label)?;
        self.entry.find(&root, self.wish.verb())
    }

    /// Everything about the file itself that the grant asks for.
    fn check(&self, scene: &mut Scene<'_>, bound: &BoundDir, found: &Found) -> Result<Use, Denial> {
        let (path, verb) = (self.entry.below.as_path(), self.wish.verb());
        // Another name may lie outside of the directory: what is lost here would be lost there.
        let names = found.meta.nlink();
        if names > 1 || (names == 0) != self.entry.via.is_some() {
            return Err(self.denial(DenialCause::Conflict, "one-link"));
        }
        bound.admits_age(path, verb, Duration::from_secs(state::age(&found.meta, scene.world.senses.now())))?;
        let used = used(scene, self.entry.identity);
        bound.admits_use(path, verb, used)?;
        let newer = newer(scene, bound, &self.entry)?;
        bound.admits_rank(path, verb, newer)?;
        Ok(used)
    }

    fn guards(&self, bound: &BoundDir) -> Vec<Guard> {
        let mut guards = vec![if self.wish.verb().cuts() { Guard::AppendedOnly } else { Guard::NotOpen }];
        if bound.min_age.duration() > Duration::ZERO {
            guards.push(Guard::MinAge { seconds: bound.min_age.duration().as_secs() });
        }
        if self.entry.via.is_none() {
            guards.push(Guard::OneLink);
        }
        guards
    }

    fn class(&self, size: u64) -> Result<UndoClass, Denial> {
        Ok(match &self.wish {
            Wish::Replace(_) if size > WHOLE => return Err(self.denial(DenialCause::Unavailable, "undo.size")),
            Wish::Replace(_) | Wish::Append(_) | Wish::Archive | Wish::SetAside => UndoClass::Exact,
            Wish::Truncate if self.entry.via.is_some() => {
                UndoClass::Irreversible { reason: "the file has no name any more; its last MiB is kept".to_owned() }
            }
            Wish::Truncate if size > WHOLE => {
                UndoClass::Irreversible { reason: "too large to be kept; its last MiB is kept".to_owned() }
            }
            Wish::Truncate => UndoClass::Exact,
            Wish::CopyTruncate => UndoClass::Compensated {
                inverse: "put back from the archive, without the lines that were written during the copy".to_owned(),
            },
            Wish::Remove => UndoClass::Irreversible { reason: "the content is gone".to_owned() },
        })
    }

    /// The other directory that the verb needs, held against what it needs of it.
    fn other_dir(&self, scene: &Scene<'_>, bound: &BoundDir, size: u64) -> Result<Option<u64>, Denial> {
        let verb = self.wish.verb();
        let dir = if verb.needs_archive() {
            bound.archive_to.as_ref()
        } else if verb == FilesVerb::SetAside {
            bound.set_aside.as_ref()
        } else {
            return Ok(None);
        };
        let dir = dir.ok_or_else(|| self.denial(DenialCause::Unavailable, "other-directory"))?;
        let other = pinned(scene, dir, &self.entry.label, verb.as_str())?;
        let same_device = other.identity.dev == self.entry.identity.dev;
        if verb == FilesVerb::SetAside {
            let rule = "set_aside.device";
            return if same_device { Ok(None) } else { Err(self.denial(DenialCause::Unavailable, rule)) };
        }
        if same_device {
            return Err(self.denial(DenialCause::Unavailable, "archive_to.device"));
        }
        let space = other.space().map_err(|error| self.io(&error))?;
        let (assumed, _) = scene.overlay.space(other.identity.dev).unwrap_or_default();
        let available = space.f_bavail.saturating_mul(space.f_frsize).saturating_add_signed(assumed);
        let reserve = space.f_blocks.saturating_mul(space.f_frsize) / STAYS_FREE;
        if available < reserve.saturating_add(size) {
            return Err(self.denial(DenialCause::Unavailable, "archive_to.room"));
        }
        Ok(Some(other.identity.dev))
    }

    fn assumption(&self, found: &Found, archive: Option<u64>) -> Assumption {
        let (file, freed, size) = (self.entry.identity, state::allocated(&found.meta), found.meta.size());
        match &self.wish {
            Wish::Replace(content) => {
                let size = content.len() as u64;
                let grown = i64::try_from(size).unwrap_or(i64::MAX).saturating_sub_unsigned(freed);
                Assumption::FileWritten { file, size, grown }
            }
            Wish::Append(content) => {
                let more = content.len();
                let grown = i64::try_from(more).unwrap_or(i64::MAX);
                Assumption::FileWritten { file, size: size.saturating_add(more as u64), grown }
            }
            Wish::Truncate => Assumption::FileCut { file, freed },
            Wish::Remove => Assumption::FileGone { file, freed },
            Wish::SetAside => Assumption::FileGone { file, freed: 0 },
            Wish::CopyTruncate | Wish::Archive => match archive {
                Some(onto) => {
                    let gone = matches!(self.wish, Wish::Archive);
                    Assumption::Archived { file, freed, gone, onto, taken: size }
                }
                None => Assumption::Nothing,
            },
        }
    }
}

impl Change for FileChange {
    fn draft(&mut self, scene: &mut Scene<'_>) -> Result<Draft, Denial> {
        let bound = scene.grants.dir(self.entry.label.as_str())?;
        let (path, verb) = (self.entry.below.as_path(), self.wish.verb());
        self.entry.admits(bound, verb)?;
        if self.entry.via.is_some() && verb != FilesVerb::Truncate {
            return Err(self.denial(DenialCause::Unavailable, "deleted"));
        }
        if self.wish.content().is_some_and(|content| content.len() > MAX_CONTENT) {
            return Err(self.denial(DenialCause::OverBudget, "content"));
        }
        if scene.overlay.is_gone(self.entry.identity) {
            return Err(self.denial(DenialCause::StaleTarget, "assumed.gone"));
        }
        let root = root(scene, &self.entry.label)?;
        let found = self.entry.find(&root, verb)?;
        self.check(scene, bound, &found)?;
        self.seen = Some(fingerprint(&found));
        let size = found.meta.size();
        let asked = self.wish.effect(size, size);
        let spent = scene.budget.spent(&self.entry.label);
        bound.admits_amount(path, verb, spent, asked.bytes())?;
        let archive = self.other_dir(scene, bound, size)?;
        let room = bound.max_bytes.0.saturating_sub(spent.bytes);
        let roomy = size.saturating_mul(2).saturating_add(HEADROOM).min(room).max(size);
        let file = found.read().map_err(|error| self.io(&error))?;
        let before = state::of(&file, &found.meta).map_err(|error| self.io(&error))?;
        let effect = |verb| Effect::File { label: self.entry.label.clone(), file: self.entry.id(&root), verb };
        Ok(Draft {
            bound: effect(self.wish.effect(size, roomy)),
            effect: effect(asked),
            class: self.class(size)?,
            guards: self.guards(bound),
            before: Observed::File(before),
            reproducible: bound.is_reproducible(path),
            traffic_share: None,
            count: self.wish.content().map_or_else(|| state::allocated(&found.meta), |content| content.len() as u64),
            assumption: self.assumption(&found, archive),
        })
    }

    fn recheck(&mut self, scene: &mut Scene<'_>) -> Result<(), Denial> {
        let bound = scene.grants.dir(self.entry.label.as_str())?;
        let found = self.find(scene)?;
        self.check(scene, bound, &found)?;
        // A log that is cut goes on growing; everything else must be as it was drafted and kept.
        if !self.wish.verb().cuts() && self.seen != Some(fingerprint(&found)) {
            return Err(self.denial(DenialCause::Conflict, "changed"));
        }
        Ok(())
    }

    fn keep(&mut self, scene: &mut Scene<'_>, place: &Place) -> Result<Kept, Denial> {
        self.place = Some(place.clone());
        let bound = scene.grants.dir(self.entry.label.as_str())?;
        let root = root(scene, &self.entry.label)?;
        let found = self.entry.find(&root, self.wish.verb())?;
        let file = found.read().map_err(|error| self.io(&error))?;
        let id = self.entry.id(&root);
        let metadata = || state::of(&file, &found.meta).map_err(|error| self.io(&error));
        let content = || state::with_content(&file).map_err(|error| self.io(&error));
        let unnamed = || self.denial(DenialCause::Failed, "name");
        let whole = self.class(found.meta.size())? == UndoClass::Exact;
        let (before, undo) = match &self.wish {
            Wish::Replace(_) | Wish::Truncate if whole => {
                let before = content()?;
                let preimage = self.store(scene, &file, 0, before.size)?;
                (before.clone(), Undo::RestoreFile { file: id, before, preimage })
            }
            Wish::Replace(_) | Wish::Truncate => {
                let before = metadata()?;
                let from = before.size.saturating_sub(EVIDENCE);
                let reason = match self.store(scene, &file, from, before.size - from) {
                    Ok(evidence) => {
                        format!("its last {} bytes are kept as {}", before.size - from, digest_of(&evidence))
                    }
                    // Evidence is not an undo: the plan says that there is none.
                    Err(denial) => format!("its end could not be kept ({})", denial.rule),
                };
                (before, Undo::Nothing { reason })
            }
            Wish::Append(_) => {
                let before = metadata()?;
                (before.clone(), Undo::CutBack { file: id, before })
            }
            Wish::CopyTruncate | Wish::Archive => {
                let before = content()?;
                let dir = bound.archive_to.as_ref().ok_or_else(unnamed)?;
                let archive = archive::path_for(dir, &self.entry.below, place).ok_or_else(unnamed)?;
                let content = before.content.ok_or_else(unnamed)?;
                (before.clone(), Undo::RestoreArchived { file: id, before, archive, content })
            }
            Wish::Remove => (metadata()?, Undo::Nothing { reason: "the content is gone".to_owned() }),
            Wish::SetAside => {
                let dir = bound.set_aside.as_ref().ok_or_else(unnamed)?;
                (metadata()?, Undo::PutBack { file: id, aside: self.aside(dir, place).ok_or_else(unnamed)? })
            }
        };
        Ok(Kept { before: Observed::File(before), undo })
    }

    fn apply(&mut self, scene: &mut Scene<'_>, kept: &Kept) -> Result<Applied, ApplyError> {
        let root = root(scene, &self.entry.label).map_err(ApplyError::Denied)?;
        let found = self.entry.find(&root, self.wish.verb()).map_err(ApplyError::Denied)?;
        match (&self.wish, &kept.undo) {
            (Wish::Replace(content), _) => {
                let (applied, identity) = self.replace(&root, &found, kept, content)?;
                // Every handle to the file goes on standing for it: what is there now is what this run put there.
                scene.table.follow(&self.entry, identity);
                Ok(applied)
            }
            (Wish::Append(content), Undo::CutBack { before, .. }) => self.append(&found, before.size, content),
            (Wish::Truncate, _) => self.cut(&found),
            (Wish::CopyTruncate, Undo::RestoreArchived { archive, before, content, .. }) => {
                self.copy_out(&found, archive, before.size, *content)?;
                self.cut(&found)
            }
            (Wish::Remove, _) => self.unlink(&root, &found),
            (Wish::Archive, Undo::RestoreArchived { archive, before, content, .. }) => {
                self.copy_out(&found, archive, before.size, *content)?;
                self.unlink(&root, &found).inspect_err(|_| discard(archive))
            }
            (Wish::SetAside, Undo::PutBack { aside, .. }) => self.set_aside(&root, aside),
            (Wish::Append(_) | Wish::CopyTruncate | Wish::Archive | Wish::SetAside, _) => {
                Err(ApplyError::Denied(self.denial(DenialCause::Failed, "undo")))
            }
        }
    }
}

impl FileChange {
    fn store(&self, scene: &Scene<'_>, file: &File, at: u64, length: u64) -> Result<Preimage, Denial> {
        let stored = scene.world.undo_store().put(&mut Range::new(file, at, length));
        stored.map_err(|error| {
            let attempted = format!("keep {} for the undo: {error}", super::escape(&self.entry.below));
            Denial::new(DenialCause::Unavailable, &self.entry.label, "undo.store", attempted)
        })
    }

    fn aside(&self, dir: &MountPath, place: &Place) -> Option<MountPath> {
        let path = archive::path_for(dir, &self.entry.below, place)?;
        MountPath::parse(path.as_str().strip_suffix(".zst")?).ok()
    }

    fn replace(
        &self,
        root: &Root,
        found: &Found,
        kept: &Kept,
        content: &[u8],
    ) -> Result<(Applied, Identity), ApplyError> {
        let (Some(place), Observed::File(before)) = (&self.place, &kept.before) else {
            return Err(ApplyError::Denied(self.denial(DenialCause::Failed, "undo")));
        };
        let half = own_name(&self.entry.below, place, "new");
        let file = root.create(&half, 0o600).map_err(|error| self.failed(&error))?;
        let written = write_whole(&file, content).and_then(|()| {
            state::restore_metadata(&file, before)?;
            rustix::fs::futimens(&file, &now())?;
            file.sync_all()
        });
        let renamed = written.map_err(PlaceError::Io).and_then(|()| {
            crash_point("files.replace-before-rename");
            // Renaming over the name is the one step that could hit another file: compare as late as possible.
            if root.find(&self.entry.below)?.identity() != found.identity() {
                return Err(PlaceError::Gone);
            }
            root.rename(&half, root, &self.entry.below, Over::TheOld)
        });
        if let Err(error) = renamed {
            discard_half(root, &half);
            return Err(self.failed(&error));
        }
        let after = state::with_content(&file).map_err(|error| ApplyError::Ambiguous(self.io(&error)))?;
        root.sync_names(&self.entry.below)
            .map_err(|error| ApplyError::Ambiguous(self.entry.lost(self.wish.verb(), &error)))?;
        let identity = file.metadata().map_err(|error| ApplyError::Ambiguous(self.io(&error)))?;
        Ok((Applied { after: Observed::File(after), bytes: content.len() as u64 }, Identity::of(&identity)))
    }

    fn append(&self, found: &Found, size: u64, content: &[u8]) -> Result<Applied, ApplyError> {
        let denied = |error: &std::io::Error| ApplyError::Denied(self.io(error));
        let mut end = found.append().map_err(|error| denied(&error))?;
        if end.metadata().map_err(|error| denied(&error))?.size() != size {
            return Err(ApplyError::Denied(self.denial(DenialCause::Conflict, "changed")));
        }
        if let Err(error) = end.write_all(content).and_then(|()| end.sync_all()) {
            // A full disk takes a part of it: cut that off again, as long as nobody else wrote.
            let back = end.set_len(size).and_then(|()| end.sync_all());
            let denial = self.io(&error);
            return Err(if back.is_ok() { ApplyError::Denied(denial) } else { ApplyError::Ambiguous(denial) });
        }
        let after = found.read().and_then(|file| state::with_content(&file));
        let after = after.map_err(|error| ApplyError::Ambiguous(self.io(&error)))?;
        Ok(Applied { after: Observed::File(after), bytes: content.len() as u64 })
    }

    fn cut(&self, found: &Found) -> Result<Applied, ApplyError> {
        let file = found.write().map_err(|error| ApplyError::Denied(self.io(&error)))?;
        file.set_len(0).map_err(|error| ApplyError::Denied(self.io(&error)))?;
        crash_point("files.truncated");
        let after = file.sync_all().and_then(|()| Ok((state::with_content(&file)?, file.metadata()?)));
        let (after, meta) = after.map_err(|error| ApplyError::Ambiguous(self.io(&error)))?;
        let freed = state::allocated(&found.meta).saturating_sub(state::allocated(&meta));
        Ok(Applied { after: Observed::File(after), bytes: freed })
    }

    fn unlink(&self, root: &Root, found: &Found) -> Result<Applied, ApplyError> {
        root.unlink(&self.entry.below, found.identity()).map_err(|error| self.failed(&error))?;
        root.sync_names(&self.entry.below)
            .map_err(|error| ApplyError::Ambiguous(self.entry.lost(self.wish.verb(), &error)))?;
        Ok(Applied { after: Observed::NoFile, bytes: state::allocated(&found.meta) })
    }

    /// The archive is whole, synced and the very content that was kept in mind, or it is not there.
    fn copy_out(&self, found: &Found, path: &MountPath, size: u64, content: Digest) -> Result<(), ApplyError> {
        let archive = Archive::at(path).map_err(|error| self.failed(&error))?;
        let file = found.read().map_err(|error| ApplyError::Denied(self.io(&error)))?;
        let written = archive.write(&file, size).map_err(|error| self.failed(&error)).and_then(|digest| {
            crash_point("files.archive-complete");
            let unchanged = self.wish.verb().cuts() || file.metadata().is_ok_and(|now| now.size() == size);
            let same = digest == content && unchanged;
            if same { Ok(()) } else { Err(ApplyError::Denied(self.denial(DenialCause::Conflict, "changed"))) }
        });
        written.inspect_err(|_| discard(path))
    }

    fn set_aside(&self, root: &Root, aside: &MountPath) -> Result<Applied, ApplyError> {
        let moved = Archive::at(aside).and_then(|aside| aside.take_in(root, &self.entry.below));
        moved.map_err(|error| self.failed(&error))?;
        Ok(Applied { after: Observed::NoFile, bytes: 0 })
    }
}

fn now() -> rustix::fs::Timestamps {
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    rustix::fs::Timestamps { last_access: now, last_modification: now }
}

fn write_whole(file: &File, content: &[u8]) -> std::io::Result<()> {
    file.write_all_at(content, 0)
}

fn digest_of(preimage: &Preimage) -> Digest {
    match preimage {
        Preimage::Inline(blob) => Digest::of(&blob.0),
        Preimage::Stored { content, .. } => *content,
    }
}

/// An archive that is of no use; when it can't be removed the undo tries again.
fn discard(path: &MountPath) {
    if let Ok(archive) = Archive::at(path) {
        drop(archive.remove());
    }
}

fn discard_half(root: &Root, half: &std::path::Path) {
    if let Ok(found) = root.find(half) {
        drop(root.unlink(half, found.identity()));
    }
}
