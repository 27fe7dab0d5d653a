//! The trust store: who may approve what, how many must agree, and what is revoked.
//!
//! Owns `trust.toml` and the one judgement that makes an [`Approved`]. It counts keys, never names or lines: two names of
//! one key are one signer. It reads no file and no clock.

mod parse;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use theriac_model::id::{Digest, KeyName, RemedyName};
use theriac_model::remedy::RemedyRef;
use theriac_model::time::Timestamp;

use crate::approval::{Approval, ApprovalError, Mismatch, Validity, rfc3339};
use crate::document::Mistake;
use crate::grant::{GrantKind, WordError};
use crate::key::VerifierKey;
use crate::manifest::Manifest;
use crate::note::{Note, NoteError};

/// What a remedy can do, in the classes that signers are trusted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Series and probes.
    Observe,
    /// Files: names, sizes, content.
    FilesRead,
    /// Files: anything else.
    FilesChange,
    /// Units: state and log.
    UnitsObserve,
    /// Units: anything else.
    UnitsChange,
    /// Processes: who they are and what they use.
    ProcessesObserve,
    /// Processes: anything else.
    ProcessesChange,
    /// Certificates: what they say.
    CertificatesObserve,
    /// Certificates: renewing them.
    CertificatesChange,
    /// Programs that change nothing.
    ProgramsLook,
    /// Programs that change something.
    ProgramsChange,
    /// HTTP: `GET` and `HEAD`.
    HttpRead,
    /// HTTP: anything else.
    HttpChange,
    /// The kernel's numbers.
    KernelObserve,
    /// The kernel's numbers: setting them.
    KernelChange,
    /// Releases: which there are.
    ReleasesObserve,
    /// Releases: switching.
    ReleasesChange,
    /// Containers: how they do, and their output.
    ContainersObserve,
    /// Containers: anything else.
    ContainersChange,
    /// The firewall: what Theriac put in a set.
    FirewallObserve,
    /// The firewall: adding to a set.
    FirewallChange,
    /// Databases: who is connected, how they are set.
    DatabasesObserve,
    /// Databases: ending sessions, setting.
    DatabasesChange,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 23] = [
        Self::Observe,
        Self::FilesRead,
        Self::FilesChange,
        Self::UnitsObserve,
        Self::UnitsChange,
        Self::ProcessesObserve,
        Self::ProcessesChange,
        Self::CertificatesObserve,
        Self::CertificatesChange,
        Self::ProgramsLook,
        Self::ProgramsChange,
        Self::HttpRead,
        Self::HttpChange,
        Self::KernelObserve,
        Self::KernelChange,
        Self::ReleasesObserve,
        Self::ReleasesChange,
        Self::ContainersObserve,
        Self::ContainersChange,
        Self::FirewallObserve,
        Self::FirewallChange,
        Self::DatabasesObserve,
        Self::DatabasesChange,
    ];

    /// The word used in `trust.toml`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::FilesRead => "files-read",
            Self::FilesChange => "files-change",
            Self::UnitsObserve => "units-observe",
            Self::UnitsChange => "units-change",
            Self::ProcessesObserve => "processes-observe",
            Self::ProcessesChange => "processes-change",
            Self::CertificatesObserve => "certificates-observe",
            Self::CertificatesChange => "certificates-change",
            Self::ProgramsLook => "programs-look",
            Self::ProgramsChange => "programs-change",
            Self::HttpRead => "http-read",
            Self::HttpChange => "http-change",
            Self::KernelObserve => "kernel-observe",
            Self::KernelChange => "kernel-change",
            Self::ReleasesObserve => "releases-observe",
            Self::ReleasesChange => "releases-change",
            Self::ContainersObserve => "containers-observe",
            Self::ContainersChange => "containers-change",
            Self::FirewallObserve => "firewall-observe",
            Self::FirewallChange => "firewall-change",
            Self::DatabasesObserve => "databases-observe",
            Self::DatabasesChange => "databases-change",
        }
    }

    /// The classes that a manifest's grants fall into.
    pub fn of(manifest: &Manifest) -> BTreeSet<Self> {
        manifest.grants.iter().flat_map(|grant| Self::of_grant(grant.grant)).collect()
    }

    fn of_grant(grant: GrantKind<'_>) -> Vec<Self> {
        let (reads, changes, verbs): (Self, Self, Vec<bool>) = match grant {
            GrantKind::Files(grant) => {
                (Self::FilesRead, Self::FilesChange, grant.verbs.iter().map(|verb| verb.changes()).collect())
            }
            GrantKind::Units(grant) => {
                (Self::UnitsObserve, Self::UnitsChange, grant.verbs.iter().map(|verb| verb.changes()).collect())
            }
            GrantKind::Processes(grant) => {
                (Self::ProcessesObserve, Self::ProcessesChange, grant.verbs.iter().map(|verb| verb.changes()).collect())
            }
            GrantKind::Certificates(grant) => (
                Self::CertificatesObserve,
                Self::CertificatesChange,
                grant.verbs.iter().map(|verb| verb.changes()).collect(),
            ),
            GrantKind::Programs(grant) => (Self::ProgramsLook, Self::ProgramsChange, vec![grant.changes]),
            GrantKind::Http(grant) => {
                (Self::HttpRead, Self::HttpChange, grant.methods.iter().map(|method| method.changes()).collect())
            }
            GrantKind::Kernel(grant) => {
                (Self::KernelObserve, Self::KernelChange, grant.verbs.iter().map(|verb| verb.changes()).collect())
            }
            GrantKind::Releases(grant) => {
                (Self::ReleasesObserve, Self::ReleasesChange, grant.verbs.iter().map(|verb| verb.changes()).collect())
            }
            GrantKind::Containers(grant) => (
                Self::ContainersObserve,
                Self::ContainersChange,
                grant.verbs.iter().map(|verb| verb.changes()).collect(),
            ),
            GrantKind::Firewall(grant) => {
                (Self::FirewallObserve, Self::FirewallChange, grant.verbs.iter().map(|verb| verb.changes()).collect())
            }
            GrantKind::Databases(grant) => {
                (Self::DatabasesObserve, Self::DatabasesChange, grant.verbs.iter().map(|verb| verb.changes()).collect())
            }
            GrantKind::Series(_) | GrantKind::Probes(_) => return vec![Self::Observe],
        };
        verbs.into_iter().map(|verb_changes| if verb_changes { changes } else { reads }).collect()
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Class {
    type Err = WordError;
    fn from_str(word: &str) -> Result<Self, WordError> {
        let all = || Self::ALL.into_iter();
        all()
            .find(|class| class.as_str() == word)
            .ok_or_else(|| WordError::new("a capability class", word, all().map(Self::as_str)))
    }
}

/// Which remedies a signer may approve.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Names {
    /// `*` and `disk-*`: every name with this beginning.
    Beginning(String),
    /// One name.
    Exactly(RemedyName),
}

impl Names {
    fn hold(&self, name: &RemedyName) -> bool {
        match self {
            Self::Beginning(beginning) => name.as_str().starts_with(beginning.as_str()),
            Self::Exactly(exact) => exact == name,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct TrustedSigner {
    key: VerifierKey,
    remedies: Vec<Names>,
    classes: BTreeSet<Class>,
}

impl TrustedSigner {
    fn may_approve(&self, name: &RemedyName) -> bool {
        self.remedies.iter().any(|names| names.hold(name))
    }
}

/// The parsed `trust.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustStore {
    signers: Vec<TrustedSigner>,
    thresholds: BTreeMap<Class, u32>,
    revoked_keys: BTreeSet<[u8; 32]>,
    revoked_components: BTreeSet<Digest>,
    operators: Vec<VerifierKey>,
}

/// The time of a judgement: the clock, but never earlier than the latest time on record. A clock that is set back revives
/// no approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Timestamp);

impl Moment {
    /// The later of the two.
    pub fn new(clock: Timestamp, last_seen: Timestamp) -> Self {
        Self(clock.max(last_seen))
    }

    /// As a time.
    pub const fn timestamp(self) -> Timestamp {
        self.0
    }
}

/// A remedy file to be judged.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its manifest.
    pub manifest: &'a Manifest,
    /// The digest of the very bytes that will be compiled.
    pub component: Digest,
    /// What lies beside it: the signed note, if there is one.
    pub note: Option<&'a [u8]>,
}

/// Proof that a remedy is approved by those who must. Only [`TrustStore::judge`] makes one, and without one there is neither
/// a dry run on the runner nor a warrant.
#[derive(Debug, Clone)]
pub struct Approved {
    manifest: Manifest,
    remedy: RemedyRef,
    signers: Vec<KeyName>,
    valid: Validity,
}

impl Approved {
    /// The manifest that was approved.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The exact remedy.
    pub const fn remedy(&self) -> &RemedyRef {
        &self.remedy
    }

    /// Whose signatures counted.
    pub fn signers(&self) -> &[KeyName] {
        &self.signers
    }

    /// When it holds.
    pub const fn valid(&self) -> Validity {
        self.valid
    }

    /// Still valid at this moment? A run may have waited for hours.
    pub fn check_valid(&self, now: Moment) -> Result<(), Refusal> {
        check_validity(&self.remedy.name, self.valid, now)
    }
}

/// Why a remedy is refused: one sentence for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No note beside the file.
    #[error("`{remedy}` is unsigned: there is no approval beside it")]
    Unsigned { remedy: RemedyName },
    /// The note can't be read, or a signature does not fit.
    #[error("the approval of `{remedy}` is refused")]
    Note { remedy: RemedyName, source: NoteError },
    /// Only strangers signed.
    #[error("`{remedy}` is signed by nobody the trust store knows; the approval names: {claimed}")]
    Strangers { remedy: RemedyName, claimed: String },
    /// Signed, and no approval.
    #[error("what was signed for `{remedy}` is no approval")]
    NoApproval { remedy: RemedyName, source: ApprovalError },
    /// The file is not the approved one.
    #[error("`{remedy}` is not what was approved")]
    Altered { remedy: RemedyName, source: Mismatch },
    /// Over.
    #[error("the approval of `{remedy}` expired at {}", rfc3339(*at))]
    Expired { remedy: RemedyName, at: Timestamp },
    /// Not begun.
    #[error("the approval of `{remedy}` holds only from {}", rfc3339(*at))]
    NotYetValid { remedy: RemedyName, at: Timestamp },
    /// A newer one was loaded here before.
    #[error("`{remedy}` has serial {serial}, and serial {seen} was loaded here before: older remedies are refused")]
    Older { remedy: RemedyName, serial: u64, seen: u64 },
    /// Revoked by digest.
    #[error("`{remedy}` is revoked: the trust store lists {component}")]
    Revoked { remedy: RemedyName, component: Digest },
    /// All who signed are revoked.
    #[error("everybody who signed `{remedy}` is revoked: {names}")]
    RevokedSigners { remedy: RemedyName, names: String },
    /// Those who signed may not approve remedies of that name.
    #[error("{names} signed `{remedy}`, and may not approve remedies of that name")]
    OutOfScope { remedy: RemedyName, names: String },
    /// Too few of those who may.
    #[error(
        "`{remedy}` needs {needed} for `{class}`: {signed} signed and may, {missing} could",
        needed = signatures(*needed)
    )]
    Threshold { remedy: RemedyName, class: Class, needed: u32, signed: String, missing: String },
}

fn signatures(count: u32) -> String {
    if count == 1 { "1 signature".to_owned() } else { format!("{count} signatures") }
}

impl TrustStore {
    /// Parses `trust.toml`; the mistake says where and what is wrong.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        parse::store(text)
    }

    /// The keys whose consents count.
    pub fn operators(&self) -> impl Iterator<Item = &VerifierKey> {
        self.operators.iter().filter(|key| !self.is_revoked(key))
    }

    fn is_revoked(&self, key: &VerifierKey) -> bool {
        self.revoked_keys.contains(key.point())
    }

    /// Whether somebody trusted signed an approval of exactly these bytes. Asked before anything in the file is looked at:
    /// not even its sections are walked for a stranger. `name` is only for the sentence, since nothing is known yet.
    pub fn vouch(&self, name: &RemedyName, component: Digest, note: Option<&[u8]>) -> Result<(), Refusal> {
        let note = note.ok_or_else(|| Refusal::Unsigned { remedy: name.clone() })?;
        let (note, _) = self.signers_of(name, note)?;
        let approval =
            Approval::parse(note.text()).map_err(|source| Refusal::NoApproval { remedy: name.clone(), source })?;
        if approval.component == component {
            return Ok(());
        }
        let source = Mismatch::Component { approved: approval.component, found: component };
        Err(Refusal::Altered { remedy: name.clone(), source })
    }

    /// Judges one remedy file. `high_water` is the highest serial of that name which was ever loaded here.
    pub fn judge(
        &self,
        candidate: &Candidate<'_>,
        now: Moment,
        high_water: impl Fn(&RemedyName) -> Option<u64>,
    ) -> Result<Approved, Refusal> {
        let Candidate { manifest, component, note } = *candidate;
        let remedy = || manifest.name.clone();
        if self.revoked_components.contains(&component) {
            return Err(Refusal::Revoked { remedy: remedy(), component });
        }
        let note = note.ok_or_else(|| Refusal::Unsigned { remedy: remedy() })?;
        let (note, signers) = self.signers_of(&remedy(), note)?;
        let approval =
            Approval::parse(note.text()).map_err(|source| Refusal::NoApproval { remedy: remedy(), source })?;
        approval.covers(manifest, component).map_err(|source| Refusal::Altered { remedy: remedy(), source })?;
        check_validity(&manifest.name, approval.valid, now)?;
        match high_water(&manifest.name) {
            Some(seen) if manifest.serial < seen => {
                return Err(Refusal::Older { remedy: remedy(), serial: manifest.serial, seen });
            }
            Some(_) | None => {}
        }
        let counted = self.counted(manifest, &signers)?;
        Ok(Approved {
            manifest: manifest.clone(),
            remedy: manifest.reference(component),
            signers: counted.iter().map(|signer| signer.key.name().clone()).collect(),
            valid: approval.valid,
        })
    }

    fn signers_of(&self, remedy: &RemedyName, bytes: &[u8]) -> Result<(Note, Vec<&TrustedSigner>), Refusal> {
        let spoilt = |source| Refusal::Note { remedy: remedy.clone(), source };
        let note = Note::parse(bytes).map_err(spoilt)?;
        let keys = note.verify(self.signers.iter().map(|signer| &signer.key)).map_err(spoilt)?;
        let signed = |signer: &&TrustedSigner| keys.iter().any(|key| key.point() == signer.key.point());
        let signers: Vec<&TrustedSigner> = self.signers.iter().filter(signed).collect();
        if signers.is_empty() {
            let claimed = note.claimed_names().collect::<Vec<_>>().join(", ");
            return Err(Refusal::Strangers { remedy: remedy.clone(), claimed: claimed.escape_debug().to_string() });
        }
        Ok((note, signers))
    }

    /// The signers whose word counts for this manifest, if they are enough in every class it needs.
    fn counted<'s>(
        &'s self,
        manifest: &Manifest,
        signers: &[&'s TrustedSigner],
    ) -> Result<Vec<&'s TrustedSigner>, Refusal> {
        let remedy = &manifest.name;
        let standing: Vec<_> = signers.iter().copied().filter(|signer| !self.is_revoked(&signer.key)).collect();
        if standing.is_empty() {
            return Err(Refusal::RevokedSigners { remedy: remedy.clone(), names: names(signers) });
        }
        let in_scope: Vec<_> = standing.iter().copied().filter(|signer| signer.may_approve(remedy)).collect();
        if in_scope.is_empty() {
            return Err(Refusal::OutOfScope { remedy: remedy.clone(), names: names(&standing) });
        }
        for class in Class::of(manifest) {
            self.check_threshold(remedy, class, &in_scope)?;
        }
        Ok(in_scope)
    }

    fn check_threshold(&self, remedy: &RemedyName, class: Class, in_scope: &[&TrustedSigner]) -> Result<(), Refusal> {
        let needed = self.thresholds.get(&class).copied().unwrap_or(1);
        let may = |signer: &&TrustedSigner| signer.classes.contains(&class);
        let signed: Vec<_> = in_scope.iter().copied().filter(may).collect();
        if signed.len() >= needed as usize {
            return Ok(());
        }
        let could = |signer: &&TrustedSigner| {
            may(signer)
                && signer.may_approve(remedy)
                && !self.is_revoked(&signer.key)
                && !signed.iter().any(|other| other.key.point() == signer.key.point())
        };
        let missing: Vec<_> = self.signers.iter().filter(could).collect();
        let (signed, missing) = (names(&signed), names(&missing));
        Err(Refusal::Threshold { remedy: remedy.clone(), class, needed, signed, missing })
    }
}

fn names(signers: &[&TrustedSigner]) -> String {
    if signers.is_empty() {
        return "nobody".to_owned();
    }
    signers.iter().map(|signer| signer.key.name().as_str()).collect::<Vec<_>>().join(", ")
}

fn check_validity(remedy: &RemedyName, valid: Validity, now: Moment) -> Result<(), Refusal> {
    let now = now.timestamp();
    if now >= valid.until {
        return Err(Refusal::Expired { remedy: remedy.clone(), at: valid.until });
    }
    if now < valid.from {
        return Err(Refusal::NotYetValid { remedy: remedy.clone(), at: valid.from });
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
