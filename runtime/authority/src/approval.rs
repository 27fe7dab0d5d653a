//! Approvals: the short text that a signer reads and signs over one exact remedy.
//!
//! Owns the text, both ways. Whose signatures make it count is [`crate::trust`]'s question. The first line is the domain,
//! so that no signature made for something else can be passed off as an approval.

use std::fmt;

use theriac_model::id::{Digest, RemedyName};
use theriac_model::time::Timestamp;

use crate::grant;
use crate::manifest::Manifest;

/// The first line.
pub const DOMAIN: &str = "theriac.approval/v1";

/// What a signer says about one exact remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// The remedy.
    pub remedy: RemedyName,
    /// Its version.
    pub version: String,
    /// Its serial.
    pub serial: u64,
    /// The whole file's digest.
    pub component: Digest,
    /// When the approval holds.
    pub valid: Validity,
    /// The `grant` lines, as the signer saw them.
    pub grants: Vec<String>,
}

/// From and until, to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub from: Timestamp,
    /// The first moment after it.
    pub until: Timestamp,
}

/// Why a text is not an approval.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// It is about something else.
    #[error("the signed text is no `{DOMAIN}` but `{}`", found.escape_debug())]
    Domain { found: String },
    /// A line is missing, doubled, in another place or of another form.
    #[error("line {line} of the approval is not `{wanted}`")]
    Line { line: usize, wanted: &'static str },
    /// It ends before it begins.
    #[error("the approval ends before it begins")]
    Validity,
    /// It can't be told as one.
    #[error("`{field}` of the remedy can't be written into an approval")]
    Unprintable { field: &'static str },
}

/// How an approval and a remedy file differ.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Of another remedy.
    #[error("the approval is for `{approved}`, the file holds `{found}`")]
    Name { approved: RemedyName, found: RemedyName },
    /// Not these bytes.
    #[error(
        "the file was altered after it was approved, or the approval is for another build: approved {approved}, found {found}"
    )]
    Component { approved: Digest, found: Digest },
    /// Another version or serial.
    #[error("the approval is for version {approved}, the manifest says {found}")]
    Version { approved: String, found: String },
    /// The lines that the signer read don't say what the manifest asks for.
    #[error("the approval's grant lines are not the manifest's: `{}`", line.escape_debug())]
    Grants { line: String },
}

impl Approval {
    /// What a signer of this remedy is shown.
    pub fn of(manifest: &Manifest, component: Digest, valid: Validity) -> Result<Self, ApprovalError> {
        if valid.from >= valid.until {
            return Err(ApprovalError::Validity);
        }
        let approval = Self {
            remedy: manifest.name.clone(),
            version: manifest.version.clone(),
            serial: manifest.serial,
            component,
            valid: Validity { from: whole_seconds(valid.from), until: whole_seconds(valid.until) },
            grants: grant::lines(manifest),
        };
        // A text that does not read back as itself would be signed in vain.
        match Self::parse(&approval.to_string()) {
            Ok(read) if read == approval => Ok(approval),
            Ok(_) | Err(_) => Err(ApprovalError::Unprintable { field: "version or grants" }),
        }
    }

    /// Parses the text strictly: every line in its place, in the one form that [`Approval::of`] writes.
    pub fn parse(text: &str) -> Result<Self, ApprovalError> {
        let body = text.strip_suffix('\n').ok_or(ApprovalError::Line { line: 1, wanted: DOMAIN })?;
        let mut lines = body.split('\n').enumerate().map(|(index, line)| (index + 1, line));
        let domain = lines.next().map_or("", |(_, line)| line);
        if domain != DOMAIN {
            return Err(ApprovalError::Domain { found: domain.chars().take(80).collect() });
        }
        let mut field = |line, prefix: &str, wanted| {
            let value = lines.next().and_then(|(_, line)| line.strip_prefix(prefix)).filter(|value| !value.is_empty());
            value.ok_or(ApprovalError::Line { line, wanted })
        };
        let remedy = field(2, "remedy ", "remedy NAME")?;
        let version = field(3, "version ", "version VERSION")?;
        let serial = field(4, "serial ", "serial NUMBER")?;
        let component = field(5, "component ", "component sha256:…")?;
        let valid = field(6, "valid ", "valid FROM UNTIL")?;
        let wrong = |line, wanted| move |_| ApprovalError::Line { line, wanted };
        let grants = lines
            .map(|(line, text)| {
                let is_grant = text.starts_with("grant ");
                is_grant.then(|| text.to_owned()).ok_or(ApprovalError::Line { line, wanted: "grant …" })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            remedy: RemedyName::parse(remedy).map_err(wrong(2, "remedy NAME"))?,
            version: version.to_owned(),
            serial: canonical_number(serial).ok_or(ApprovalError::Line { line: 4, wanted: "serial NUMBER" })?,
            component: Digest::parse(component).map_err(wrong(5, "component sha256:…"))?,
            valid: Validity::parse(valid)?,
            grants,
        })
    }

    /// Whether it is about exactly this remedy, and its signers read exactly what it may do.
    pub fn covers(&self, manifest: &Manifest, component: Digest) -> Result<(), Mismatch> {
        if self.remedy != manifest.name {
            return Err(Mismatch::Name { approved: self.remedy.clone(), found: manifest.name.clone() });
        }
        if self.component != component {
            return Err(Mismatch::Component { approved: self.component, found: component });
        }
        if (self.serial, &self.version) != (manifest.serial, &manifest.version) {
            let shown = |version: &str, serial| format!("{version} serial {serial}");
            let approved = shown(&self.version, self.serial);
            return Err(Mismatch::Version { approved, found: shown(&manifest.version, manifest.serial) });
        }
        let wanted = grant::lines(manifest);
        if self.grants == wanted {
            return Ok(());
        }
        let odd = wanted.iter().find(|line| !self.grants.contains(line));
        let odd = odd.or_else(|| self.grants.iter().find(|line| !wanted.contains(line)));
        Err(Mismatch::Grants { line: odd.map_or_else(|| "their order".to_owned(), Clone::clone) })
    }
}

impl fmt::Display for Approval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{DOMAIN}")?;
        writeln!(f, "remedy {}", self.remedy)?;
        writeln!(f, "version {}", self.version)?;
        writeln!(f, "serial {}", self.serial)?;
        writeln!(f, "component {}", self.component)?;
        writeln!(f, "valid {} {}", rfc3339(self.valid.from), rfc3339(self.valid.until))?;
        self.grants.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl Validity {
    fn parse(text: &str) -> Result<Self, ApprovalError> {
        let wrong = ApprovalError::Line { line: 6, wanted: "valid FROM UNTIL" };
        let both = text.split_once(' ').and_then(|(from, until)| from_rfc3339(from).zip(from_rfc3339(until)));
        let Some((from, until)) = both else { return Err(wrong) };
        if from < until { Ok(Self { from, until }) } else { Err(ApprovalError::Validity) }
    }
}

/// A number in the one way of writing it: `7`, not `07` or `+7`.
fn canonical_number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp(at.0 / 1000 * 1000)
}

/// `2026-11-22T00:00:00Z`, to the second.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    // Times beyond the year 9999 have no such form; the last moment that has one stands for them.
    let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Reads exactly what [`rfc3339`] writes, and no other way of writing the same moment.
pub(crate) fn from_rfc3339(text: &str) -> Option<Timestamp> {
    let at: jiff::Timestamp = text.parse().ok()?;
    let at = Timestamp(u64::try_from(at.as_second()).ok()?.checked_mul(1000)?);
    (rfc3339(at) == text).then_some(at)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;
    use crate::trust::tests::{disk_manifest, year};

    fn approval() -> Approval {
        Approval::of(&disk_manifest(), Digest::of(b"component"), year()).unwrap()
    }

    #[test]
    fn an_approval_is_a_text_that_a_person_can_read() {
        expect![[r#"
            theriac.approval/v1
            remedy disk-reclaim
            version 1.2.0
            serial 7
            component sha256:6985ca1f4daa5a584a28eae043a239cb96689af1337ea13afb63e00c2bf512fa
            valid 2026-11-22T00:00:00Z 2027-11-22T00:00:00Z
            grant faults: disk-full, service-unhealthy; on an unknown result ask
            grant files logs: list, stat, remove in /var/log matching **/*.gz; at most 2 files, 1 MiB, older than 7 days; no open files
            grant units target: status, restart of the incident's unit; jobs at most 30s
            grant limits: 16 MiB memory, 30s time, 10000 host calls, 64 handles, 16 KiB of log
        "#]].assert_eq(&approval().to_string());
    }

    #[test]
    fn a_signer_reads_that_a_wasi_is_linked_and_an_approval_without_that_line_covers_none() {
        let mut sealed = disk_manifest();
        sealed.wasi = theriac_model::remedy::Wasi::Sealed;
        let component = Digest::of(b"component");
        let approval = Approval::of(&sealed, component, year()).unwrap();
        let line = "grant wasi: sealed; it prints to the log, its clock and random numbers are the same in each run";
        assert!(approval.to_string().lines().any(|read| read == line), "{approval}");
        assert_eq!(approval.covers(&sealed, component), Ok(()));
        assert!(matches!(approval.covers(&disk_manifest(), component), Err(Mismatch::Grants { .. })));
        assert!(matches!(self::approval().covers(&sealed, component), Err(Mismatch::Grants { .. })));
    }

    #[test]
    fn it_reads_back_and_covers_the_remedy_it_was_made_for() {
        let read = Approval::parse(&approval().to_string()).unwrap();
        assert_eq!(read, approval());
        assert_eq!(read.covers(&disk_manifest(), Digest::of(b"component")), Ok(()));
    }

    #[test]
    fn it_covers_no_other_bytes_name_version_or_grants() {
        let component = Digest::of(b"component");
        assert!(matches!(approval().covers(&disk_manifest(), Digest::of(b"other")), Err(Mismatch::Component { .. })));
        let other = |change: fn(&mut Manifest)| {
            let mut manifest = disk_manifest();
            change(&mut manifest);
            approval().covers(&manifest, component)
        };
        assert!(matches!(other(|m| m.name = RemedyName::parse("x").unwrap()), Err(Mismatch::Name { .. })));
        assert!(matches!(other(|m| m.serial += 1), Err(Mismatch::Version { .. })));
        assert!(matches!(other(|m| m.version.push('1')), Err(Mismatch::Version { .. })));
        assert!(matches!(other(|m| m.limits.host_calls += 1), Err(Mismatch::Grants { .. })));
        let mut reordered = approval();
        reordered.grants.reverse();
        assert!(matches!(reordered.covers(&disk_manifest(), component), Err(Mismatch::Grants { .. })));
    }

    #[test]
    fn a_text_of_another_domain_or_form_is_refused() {
        let text = approval().to_string();
        assert!(Approval::parse(&text).is_ok());
        for (from, to) in [
            ("theriac.approval/v1", "theriac.consent/v1"),
            ("theriac.approval/v1", "theriac.approval/v2"),
            ("serial 7", "serial 07"),
            ("serial 7", "serial +7"),
            ("serial 7", "serial 7\nserial 8"),
            ("serial 7\n", ""),
            ("version 1.2.0", "version "),
            ("00:00:00Z ", "00:00:00+00:00 "),
            ("00:00:00Z ", "00:00:00.5Z "),
            ("2026-", "2028-"),
            ("grant faults", "GRANT faults"),
            ("grant faults", "\ngrant faults"),
            ("remedy disk", "remedy Disk"),
        ] {
            let wrong = text.replacen(from, to, 1);
            assert_ne!(wrong, text, "{from}");
            assert!(Approval::parse(&wrong).is_err(), "{from} -> {to}");
        }
    }

    #[test]
    fn times_have_one_way_of_being_written() {
        let at = from_rfc3339("2026-11-22T00:00:00Z").unwrap();
        assert_eq!(rfc3339(at), "2026-11-22T00:00:00Z");
        for wrong in [
            "2026-11-22",
            "2026-11-22 00:00:00Z",
            "2026-11-22T00:00:00z",
            "2026-02-30T00:00:00Z",
            "1969-12-31T00:00:00Z",
        ] {
            assert_eq!(from_rfc3339(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_prints_back(text in "(theriac.approval/v1\n)?[ -~\n]{0,200}") {
            if let Ok(read) = Approval::parse(&text) {
                prop_assert_eq!(read.to_string(), text);
            }
        }
    }
}
