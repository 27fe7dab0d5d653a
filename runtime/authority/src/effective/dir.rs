//! A bound directory: which calls it admits, and what would have to be written for those it does not.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Display;
use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use theriac_model::call::Interface;
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::id::Label;
use theriac_model::target::MountPath;
use theriac_model::time::Span;
use theriac_model::units::Bytes;

use super::missing::{Missing, Verbs};
use super::{Globs, suggest};
use crate::grant::{FilesGrant, FilesVerb, InUse, never};
use crate::host::DirectoryConfig;

/// A directory with what one run may do to the files below it.
#[derive(Debug, Clone, PartialEq)]
pub struct BoundDir {
    /// The label.
    pub label: Label,
    /// The directory.
    pub dir: MountPath,
    /// A file must match one of these …
    pub matching: Globs,
    /// … and none of these.
    pub except: Globs,
    /// What the manifest asks for and the operator leaves.
    pub verbs: BTreeSet<FilesVerb>,
    /// Where archives go.
    pub archive_to: Option<MountPath>,
    /// Where files are set aside.
    pub set_aside: Option<MountPath>,
    /// Changing verbs leave younger files alone.
    pub min_age: Span,
    /// Most bytes that one run may write or lose.
    pub max_bytes: Bytes,
    /// Most files that one run may change.
    pub max_files: u32,
    /// That many of the newest matching files are never taken away.
    pub keep_newest: u32,
    /// What holds for files that a process has open.
    pub in_use: InUse,
    match_deleted: Globs,
    /// The manifest's key for `matching`.
    match_key: &'static str,
    reproducible: Globs,
    asked: BTreeSet<FilesVerb>,
    left: BTreeSet<FilesVerb>,
    /// The `[[directory]]` that leaves it; `dir` is this one or lies below it.
    entry: MountPath,
}

/// What a run has changed in one directory so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    /// Files.
    pub files: u32,
    /// Bytes.
    pub bytes: u64,
}

/// Who has a file open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Nobody.
    Closed,
    /// Somebody, and every writer appends.
    AppendedOnly,
    /// Somebody who does not only append, or nobody could tell.
    Open,
}

impl BoundDir {
    pub(super) fn new(label: &Label, dir: MountPath, grant: &FilesGrant, entry: &DirectoryConfig) -> Self {
        let left = |verb: &FilesVerb| !verb.changes() || entry.verbs.contains(verb);
        // The patterns were compiled when they were read; were one of them bad now, nothing would match, which is safe.
        let globs = |patterns: &[String]| Globs::new(patterns).unwrap_or_else(|_| Globs::none());
        Self {
            label: label.clone(),
            dir,
            matching: globs(&grant.matching),
            match_deleted: globs(&grant.match_deleted),
            match_key: "match",
            except: globs(&grant.except),
            verbs: grant.verbs.iter().copied().filter(left).collect(),
            archive_to: grant.archive_to.and_then(|_| entry.archive_to.clone()),
            set_aside: grant.set_aside.and_then(|_| entry.set_aside.clone()),
            min_age: grant.min_age,
            max_bytes: grant.max_bytes,
            max_files: grant.max_files,
            keep_newest: grant.keep_newest,
            in_use: grant.in_use,
            reproducible: entry.reproducible.clone(),
            asked: grant.verbs.clone(),
            left: entry.verbs.clone(),
            entry: entry.path.clone(),
        }
    }

    /// What holds for a file that was deleted and is held open: other globs, and everything else the same.
    #[must_use]
    pub fn for_deleted(&self) -> Self {
        Self { matching: self.match_deleted.clone(), match_key: "match_deleted", ..self.clone() }
    }

    const fn all_verbs(&self) -> Verbs<'_, FilesVerb> {
        Verbs { granted: &self.verbs, asked: &self.asked, left: &self.left }
    }

    /// A verb of the directory as a whole (`list`, `list-deleted`, `space`).
    pub fn admits_verb(&self, verb: FilesVerb) -> Result<(), Denial> {
        let mut missing = Missing::default();
        self.need_verb(verb, &mut missing);
        missing.answer(&self.label, format_args!("{verb} {}", self.dir))
    }

    /// A verb of one file. The path is the one below the directory, in normal form.
    pub fn admits(&self, path: &Path, verb: FilesVerb) -> Result<(), Denial> {
        let attempted = format!("{verb} {}", shown(path));
        if !is_below(path) {
            return Err(self.denial("path", &attempted));
        }
        if never_named(path) {
            return Err(self.denial("never", &attempted));
        }
        let mut missing = Missing::default();
        self.need_verb(verb, &mut missing);
        self.need_path(path, &mut missing);
        missing.answer(&self.label, attempted)
    }

    /// Whether a listing shows the file: globs and names only, no verb.
    pub fn shows(&self, path: &Path) -> bool {
        is_below(path) && !never_named(path) && !self.except.admits(path) && self.matching.admits(path)
    }

    /// The file's data is of a class that the operator calls reproducible.
    pub fn is_reproducible(&self, path: &Path) -> bool {
        let prefix = self.dir.as_str().strip_prefix(self.entry.as_str()).unwrap_or_default().trim_start_matches('/');
        self.reproducible.admits(&PathBuf::from(prefix).join(path))
    }

    /// A changing verb needs the file to be that old.
    pub fn admits_age(&self, path: &Path, verb: FilesVerb, age: Duration) -> Result<(), Denial> {
        if !verb.changes() || age >= self.min_age.duration() {
            return Ok(());
        }
        let attempted = format!("{verb} {} ({} s old)", shown(path), age.as_secs());
        let age = Span::from_secs(age.as_secs());
        let line = self.manifest("min_age", suggest::text(&age.to_string()));
        Err(self.denial("min_age", &attempted).suggest(line))
    }

    /// A changing verb needs room for one more file and for its bytes.
    pub fn admits_amount(&self, path: &Path, verb: FilesVerb, spent: Spent, bytes: u64) -> Result<(), Denial> {
        if !verb.changes() {
            return Ok(());
        }
        let (files, total) = (spent.files.saturating_add(1), spent.bytes.saturating_add(bytes));
        let attempted = format!(
            "{verb} {} ({}, as file {files} of the run with {} in all)",
            shown(path),
            Bytes(bytes),
            Bytes(total)
        );
        let mut missing = Missing::default();
        if files > self.max_files {
            missing.add_as(DenialCause::OverBudget, "max_files", self.manifest("max_files", files));
        }
        if total > self.max_bytes.0 {
            let size = suggest::text(&format!("{total}B"));
            missing.add_as(DenialCause::OverBudget, "max_bytes", self.manifest("max_bytes", size));
        }
        missing.answer(&self.label, attempted)
    }

    /// A verb that takes the file away needs enough newer matching files to stay.
    pub fn admits_rank(&self, path: &Path, verb: FilesVerb, newer: u32) -> Result<(), Denial> {
        if !verb.takes_away() || newer >= self.keep_newest {
            return Ok(());
        }
        let attempted = format!("{verb} {} ({newer} newer files)", shown(path));
        let line = self.manifest("keep_newest", newer);
        Err(self.denial("keep_newest", &attempted).suggest(line))
    }

    /// A changing verb and a file that somebody has open: it may be cut where every writer appends and the grant says so.
    /// Removing it would free nothing, and cutting it under another kind of writer leaves a hole.
    pub fn admits_use(&self, path: &Path, verb: FilesVerb, used: Use) -> Result<(), Denial> {
        if !verb.changes() || used == Use::Closed {
            return Ok(());
        }
        let safe = verb.cuts() && used == Use::AppendedOnly;
        if safe && self.in_use == InUse::Truncate {
            return Ok(());
        }
        let denial = self.denial("in_use", &format!("{verb} {} (open)", shown(path)));
        let line = self.manifest("in_use", suggest::text("truncate"));
        Err(if safe { denial.suggest(line) } else { denial })
    }

    fn denial(&self, rule: &str, attempted: &str) -> Denial {
        Denial::new(DenialCause::NotGranted, &self.label, rule, attempted)
    }

    fn manifest(&self, key: &str, value: impl Display) -> String {
        suggest::manifest(Interface::Files, &self.label, key, value)
    }

    fn runner(&self, key: &str, value: impl Display) -> String {
        suggest::runner("directory", ("path", self.entry.as_str()), key, value)
    }

    /// With a verb come the keys that it needs.
    fn need_verb(&self, verb: FilesVerb, missing: &mut Missing) {
        if self.all_verbs().not_asked(&verb) {
            let mut manifest = |key, value: &str| missing.add("verbs", self.manifest(key, value));
            manifest("verbs", &suggest::list_with(&self.asked, verb, FilesVerb::as_str));
            let operator = r#"{ from = "operator" }"#;
            if verb.needs_archive() && !self.asked.iter().any(|verb| verb.needs_archive()) {
                manifest("archive_to", operator);
            }
            if verb == FilesVerb::SetAside {
                manifest("set_aside", operator);
            }
            if verb.changes() && !self.asked.iter().any(|verb| verb.changes()) {
                manifest("max_files", "1");
                manifest("max_bytes", &suggest::text("1GiB"));
                manifest("min_age", &suggest::text("1d"));
            }
        }
        if self.all_verbs().not_left(&verb, verb.changes()) {
            let list = suggest::list_with(&self.left, verb, FilesVerb::as_str);
            missing.add("runner.directory.verbs", self.runner("verbs", list));
        }
        // Where the manifest does not ask for the place, whether the operator names one is not known here: the line is right
        // where it is missing, and says the same again where it is not.
        if verb.needs_archive() && self.archive_to.is_none() {
            let line = self.runner("archive_to", suggest::text("/srv/archive"));
            missing.add_as(DenialCause::Unavailable, "runner.directory.archive_to", line);
        }
        if verb == FilesVerb::SetAside && self.set_aside.is_none() {
            let line = self.runner("set_aside", suggest::text(&format!("{}-set-aside", self.entry)));
            missing.add_as(DenialCause::Unavailable, "runner.directory.set_aside", line);
        }
    }

    fn need_path(&self, path: &Path, missing: &mut Missing) {
        if self.except.admits(path) {
            let holds = |glob: &&String| Globs::one(glob).is_ok_and(|glob| glob.compile_matcher().is_match(path));
            let rest = self.except.patterns().iter().filter(|glob| !holds(glob));
            missing.add("except", self.manifest("except", suggest::list(rest)));
        }
        if !self.matching.admits(path) {
            // A name that is not UTF-8 has no line.
            let literal = path.to_str().map(Globs::literal).filter(|glob| Globs::one(glob).is_ok());
            let globs = literal.map(|literal| suggest::list(self.matching.patterns().iter().chain([&literal])));
            missing.add(self.match_key, globs.map(|globs| self.manifest(self.match_key, globs)));
        }
    }
}

/// For people: escaped, cut.
fn shown(path: &Path) -> String {
    path.to_string_lossy().escape_debug().take(200).collect()
}

/// A relative path of plain parts only.
fn is_below(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    !bytes.is_empty()
        && path.components().all(|part| matches!(part, Component::Normal(_)))
        && bytes.split(|byte| *byte == b'/').all(|part| !part.is_empty() && part != b".")
}

static NEVER: LazyLock<GlobSet> = LazyLock::new(|| {
    let mut set = GlobSetBuilder::new();
    for (name, _) in never::FILE_NAMES {
        #[expect(clippy::expect_used, reason = "the list is a constant, and a test compiles it")]
        // A database may be restored to any spelling on a filesystem that folds case, so case is ignored.
        set.add(GlobBuilder::new(name).case_insensitive(true).build().expect("a constant glob compiles"));
    }
    #[expect(clippy::expect_used, reason = "the list is a constant, and a test compiles it")]
    set.build().expect("constant globs compile")
});

/// One part of the path has a name that no glob lets through.
fn never_named(path: &Path) -> bool {
    path.iter().any(|part: &OsStr| NEVER.is_match(part))
}
