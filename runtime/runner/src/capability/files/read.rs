//! The verbs of `files` that change nothing. In a dry run they show the recorded effects, marked *assumed*.

use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::rc::Rc;

use theriac_authority::effective::{BoundDir, Use};
use theriac_authority::grant::FilesVerb;
use theriac_model::call::{EntryRef, FileInfo, Filter, Reply, SpaceInfo};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::units::Blob;

use super::{Entry, escape, listing, root, state, used};
use crate::session::{Held, Scene};

/// Most entries of one page; each costs a handle.
const PAGE: usize = 256;
/// Most bytes of one read.
const MAX_READ: u32 = 64 << 10;
/// Most deleted files that one call shows.
const MAX_DELETED: usize = 64;

pub(super) fn list(scene: &mut Scene<'_>, bound: &BoundDir, filter: Filter, cursor: u64) -> Result<Reply, Denial> {
    let root = root(scene, &bound.label)?;
    if cursor == 0 {
        let walked = listing::walk(
            &root,
            listing::Wanted::of(filter, scene.world.senses.now()),
            &|path| bound.shows(path),
            &|file| scene.overlay.is_gone(file),
        );
        let walked = walked.map_err(|error| {
            Denial::new(DenialCause::Failed, &bound.label, "io", format!("list {}: {error}", bound.dir))
        })?;
        scene.listings.insert(bound.label.clone(), Rc::new(walked));
    }
    let all = scene.listings.get(&bound.label).cloned().unwrap_or_default();
    let from = usize::try_from(cursor).unwrap_or(usize::MAX).min(all.len());
    let most = PAGE.min(scene.table.room());
    let rest = all.get(from..).unwrap_or_default();
    if most == 0 && !rest.is_empty() {
        return Err(Denial::new(DenialCause::OverBudget, &bound.label, "handles", format!("list {}", bound.dir)));
    }
    let mut entries = Vec::new();
    for found in rest.iter().take(most) {
        let entry =
            Entry { label: bound.label.clone(), below: found.below.clone(), identity: found.identity, via: None };
        entries.push(hand_out(scene, entry)?);
    }
    let next = from + entries.len();
    Ok(Reply::Entries { next: (next < all.len()).then_some(next as u64), entries })
}

pub(super) fn list_deleted(scene: &mut Scene<'_>, bound: &BoundDir) -> Result<Reply, Denial> {
    let root = root(scene, &bound.label)?;
    let found = scene.open_files_now(root.identity.dev).deleted_below(bound.dir.as_path());
    let mut entries = Vec::new();
    let deleted = bound.for_deleted();
    let shown = found.into_iter().filter(|(_, below, _)| deleted.shows(below));
    for (identity, below, open) in shown.take(MAX_DELETED) {
        let via = Some((open.via.process, open.via.fd));
        entries.push(hand_out(scene, Entry { label: bound.label.clone(), below, identity, via })?);
    }
    Ok(Reply::Entries { entries, next: None })
}

fn hand_out(scene: &mut Scene<'_>, entry: Entry) -> Result<EntryRef, Denial> {
    let name = escape(&entry.below);
    let handle = scene.table.open(Held::Entry(entry), &format!("open {name}"))?;
    Ok(EntryRef { handle, name })
}

pub(super) fn space(scene: &mut Scene<'_>, bound: &BoundDir) -> Result<Reply, Denial> {
    let root = root(scene, &bound.label)?;
    let now = root.space().map_err(|error| {
        Denial::new(DenialCause::Failed, &bound.label, "io", format!("space {}: {error}", bound.dir))
    })?;
    let assumed = scene.overlay.space(root.identity.dev);
    let (bytes, inodes) = assumed.unwrap_or_default();
    let total = now.f_blocks.saturating_mul(now.f_frsize);
    Ok(Reply::Space(SpaceInfo {
        total,
        available: now.f_bavail.saturating_mul(now.f_frsize).saturating_add_signed(bytes).min(total),
        inodes: now.f_files,
        inodes_available: now.f_favail.saturating_add_signed(inodes).min(now.f_files),
        assumed: assumed.is_some(),
    }))
}

pub(super) fn stat(scene: &mut Scene<'_>, entry: &Entry) -> Result<Reply, Denial> {
    let bound = scene.grants.dir(entry.label.as_str())?;
    entry.admits(bound, FilesVerb::Stat)?;
    if scene.overlay.is_gone(entry.identity) {
        return Err(entry.denial(DenialCause::StaleTarget, "assumed.gone", FilesVerb::Stat));
    }
    let root = root(scene, &entry.label)?;
    let meta = entry.find(&root, FilesVerb::Stat)?.meta;
    let used = used(scene, entry.identity);
    let assumed = scene.overlay.size(entry.identity);
    Ok(Reply::Stat(FileInfo {
        size: assumed.unwrap_or_else(|| meta.size()),
        allocated: assumed.map_or_else(|| state::allocated(&meta), |size| size.min(state::allocated(&meta))),
        age_s: if assumed.is_some() { 0 } else { state::age(&meta, scene.world.senses.now()) },
        links: u32::try_from(meta.nlink()).unwrap_or(u32::MAX),
        open: used != Use::Closed,
        deleted: entry.via.is_some(),
        appended_only: used != Use::Open,
        assumed: assumed.is_some(),
    }))
}

/// `read` from an offset, or `tail` from the end.
pub(super) fn read(
    scene: &mut Scene<'_>,
    entry: &Entry,
    verb: FilesVerb,
    offset: u64,
    max: u32,
) -> Result<Reply, Denial> {
    entry.admits(scene.grants.dir(entry.label.as_str())?, verb)?;
    if scene.overlay.is_gone(entry.identity) {
        return Err(entry.denial(DenialCause::StaleTarget, "assumed.gone", verb));
    }
    let root = root(scene, &entry.label)?;
    let found = entry.find(&root, verb)?;
    // Another name of the file may lie outside of what is granted: its content is then not this grant's to show.
    if found.meta.nlink() > 1 {
        return Err(entry.denial(DenialCause::NotGranted, "one-link", verb));
    }
    let size = scene.overlay.size(entry.identity).unwrap_or_else(|| found.meta.size()).min(found.meta.size());
    let max = u64::from(max.min(MAX_READ));
    let from = if verb == FilesVerb::Tail { size.saturating_sub(max) } else { offset.min(size) };
    let mut bytes = vec![0; usize::try_from(max.min(size - from)).unwrap_or(0)];
    let file = found.read().map_err(|error| entry.io(verb, &error))?;
    let mut got = 0;
    while let Some(rest) = bytes.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, from + got as u64).map_err(|error| entry.io(verb, &error))? {
            0 => break,
            n => got += n,
        }
    }
    bytes.truncate(got);
    Ok(Reply::Bytes(Blob(bytes)))
}
