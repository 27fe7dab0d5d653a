//! `files`: regular files below granted directories.
//!
//! An entry is a device and an inode that a listing found. It holds no descriptor and no authority of its own: each verb
//! finds the file anew below the pinned directory and compares. What a verb may touch is the grant's to say
//! ([`theriac_authority::effective::BoundDir`]); what it does to the world is in [`change`].

mod archive;
mod change;
mod listing;
mod open_files;
mod path;
mod place;
mod read;
pub(crate) mod state;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use theriac_authority::effective::{BoundDir, Use};
use theriac_authority::grant::FilesVerb;
use theriac_model::call::{DirCall, EntryCall, Reply};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::effect::FileId;
use theriac_model::id::Label;
use theriac_model::unit::ProcessId;

use crate::gate::{Mode, Place, perform};
use crate::session::Scene;

pub(crate) use archive::Archive;
pub(crate) use listing::Candidate;
pub(crate) use open_files::{OpenFiles, Via, numbers};
pub(crate) use path::{escape, unescape};
pub(crate) use place::{Found, Identity, Over, PlaceError, Root};

/// One file that a listing gave out.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) label: Label,
    pub(crate) below: PathBuf,
    pub(crate) identity: Identity,
    /// For a file without a name: the descriptor it was found through.
    pub(crate) via: Option<(ProcessId, u32)>,
}

impl Entry {
    fn via(&self) -> Option<Via> {
        self.via.map(|(process, fd)| Via { process, fd })
    }

    fn id(&self, root: &Root) -> FileId {
        FileId {
            dev: self.identity.dev,
            ino: self.identity.ino,
            dir: root.path.clone(),
            path: escape(&self.below),
            deleted: self.via.is_some(),
        }
    }

    /// The verb and the path, held against the grant; for a file without a name other globs hold.
    fn admits(&self, bound: &BoundDir, verb: FilesVerb) -> Result<(), Denial> {
        if self.via.is_some() { bound.for_deleted().admits(&self.below, verb) } else { bound.admits(&self.below, verb) }
    }

    /// The file, if it still is the one that was listed.
    fn find(&self, root: &Root, verb: FilesVerb) -> Result<Found, Denial> {
        let found = match self.via() {
            Some(via) => via.find(self.identity),
            None => root.find_settled(&self.below),
        };
        let found = found.map_err(|error| self.lost(verb, &error))?;
        if found.identity() == self.identity {
            Ok(found)
        } else {
            Err(self.denial(DenialCause::StaleTarget, "identity", verb))
        }
    }

    fn denial(&self, cause: DenialCause, rule: &str, verb: FilesVerb) -> Denial {
        Denial::new(cause, &self.label, rule, format!("{verb} {}", escape(&self.below)))
    }

    fn lost(&self, verb: FilesVerb, error: &PlaceError) -> Denial {
        match error {
            PlaceError::Gone => self.denial(DenialCause::StaleTarget, "identity", verb),
            PlaceError::Escapes => self.denial(DenialCause::NotGranted, "beneath", verb),
            PlaceError::Taken => self.denial(DenialCause::Conflict, "name", verb),
            PlaceError::NotRegular => self.denial(DenialCause::NotGranted, "regular-file", verb),
            PlaceError::Io(error) => self.io(verb, error),
        }
    }

    fn io(&self, verb: FilesVerb, error: &std::io::Error) -> Denial {
        let attempted = format!("{verb} {}: {error}", escape(&self.below));
        Denial::new(DenialCause::Failed, &self.label, "io", attempted)
    }
}

/// The name of a file that one effect makes for a moment: from the run's id and the effect's index, so that after a crash
/// it is known whose it is.
pub(crate) fn own_name(below: &Path, place: &Place, purpose: &str) -> PathBuf {
    let mut name = OsString::from(".theriac-");
    name.push(format!("{purpose}-{}-{}", place.run, place.index));
    below.with_file_name(name)
}

/// The directory of a grant, opened once per run and compared with what the runner saw first.
pub(crate) fn root(scene: &mut Scene<'_>, label: &Label) -> Result<Rc<Root>, Denial> {
    if let Some(root) = scene.roots.get(label) {
        return Ok(Rc::clone(root));
    }
    let bound = scene.grants.dir(label.as_str())?;
    let root = pinned(scene, &bound.dir, label, "open")?;
    scene.roots.insert(label.clone(), Rc::clone(&root));
    Ok(root)
}

/// Any directory of a grant (its archive, its set-aside directory).
fn pinned(
    scene: &Scene<'_>,
    path: &theriac_model::target::MountPath,
    label: &Label,
    attempted: &str,
) -> Result<Rc<Root>, Denial> {
    let denial = |cause, rule: &str| Denial::new(cause, label, rule, format!("{attempted} {path}"));
    let root = Root::open(path).map_err(|error| match error {
        PlaceError::Escapes => denial(DenialCause::StaleTarget, "root.symlink"),
        PlaceError::Gone | PlaceError::NotRegular | PlaceError::Taken => denial(DenialCause::Unavailable, "root"),
        PlaceError::Io(error) => {
            Denial::new(DenialCause::Unavailable, label, "root", format!("{attempted} {path}: {error}"))
        }
    })?;
    if scene.world.roots.is_as_seen(path, root.identity) {
        Ok(Rc::new(root))
    } else {
        Err(denial(DenialCause::StaleTarget, "root.identity"))
    }
}

/// A verb of a directory.
pub(crate) fn dir(scene: &mut Scene<'_>, label: &Label, call: DirCall) -> Result<Reply, Denial> {
    let bound = scene.grants.dir(label.as_str())?;
    match call {
        DirCall::List { filter, cursor } => {
            bound.admits_verb(FilesVerb::List)?;
            read::list(scene, bound, filter, cursor)
        }
        DirCall::ListDeleted => {
            bound.admits_verb(FilesVerb::ListDeleted)?;
            read::list_deleted(scene, bound)
        }
        DirCall::Space => {
            bound.admits_verb(FilesVerb::Space)?;
            read::space(scene, bound)
        }
    }
}

/// A verb of one file.
pub(crate) fn entry(
    scene: &mut Scene<'_>,
    mode: &mut dyn Mode,
    entry: Entry,
    call: EntryCall,
) -> Result<Reply, Denial> {
    let change = match call {
        EntryCall::Stat => return read::stat(scene, &entry),
        EntryCall::Read { offset, max } => return read::read(scene, &entry, FilesVerb::Read, offset, max),
        EntryCall::Tail { max } => return read::read(scene, &entry, FilesVerb::Tail, 0, max),
        EntryCall::Replace { content } => change::Wish::Replace(content.0),
        EntryCall::Append { content } => change::Wish::Append(content.0),
        EntryCall::Truncate => change::Wish::Truncate,
        EntryCall::CopyTruncate => change::Wish::CopyTruncate,
        EntryCall::Remove => change::Wish::Remove,
        EntryCall::Archive => change::Wish::Archive,
        EntryCall::SetAside => change::Wish::SetAside,
    };
    perform(scene, mode, &mut change::FileChange::new(entry, change)).map(Reply::Count)
}

/// Who has the file open, as the grant's rules put it.
fn used(scene: &mut Scene<'_>, identity: Identity) -> Use {
    let open = scene.open_files(identity.dev);
    match open.get(identity) {
        Some(file) if file.appended_only => Use::AppendedOnly,
        Some(_) => Use::Open,
        None if open.is_complete() => Use::Closed,
        None => Use::Open,
    }
}

/// How many matching files are newer than this one; only looked up where a grant keeps some.
fn newer(scene: &mut Scene<'_>, bound: &BoundDir, entry: &Entry) -> Result<u32, Denial> {
    if bound.keep_newest == 0 {
        return Ok(0);
    }
    if !scene.newest.contains_key(&entry.label) {
        let root = root(scene, &entry.label)?;
        let now = scene.world.senses.now();
        let all = listing::Wanted { now, min_age_s: 0, min_bytes: 0, order: listing::Order::NewestFirst };
        let walked = listing::walk(&root, all, &|path| bound.shows(path), &|_| false)
            .map_err(|error| entry.lost(FilesVerb::List, &error))?;
        let kept = walked.into_iter().take(bound.keep_newest as usize).map(|found| found.identity).collect();
        scene.newest.insert(entry.label.clone(), kept);
    }
    let newest = scene.newest.get(&entry.label);
    let rank = newest.and_then(|newest: &Vec<Identity>| newest.iter().position(|kept| *kept == entry.identity));
    Ok(rank.map_or(bound.keep_newest, |rank| u32::try_from(rank).unwrap_or(u32::MAX)))
}
