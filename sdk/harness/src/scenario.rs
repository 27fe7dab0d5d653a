//! `scenarios/*.toml`, parsed: one fault, one small world, and what must come of it. Unknown keys are errors.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path};

use serde::Deserialize;
use theriac_model::database::{DatabaseKind, Protected, SessionState, Setting};
use theriac_model::fault::FaultKind;
use theriac_model::id::Label;
use theriac_model::release::ReleaseName;
use theriac_model::remedy::{ParamValue, Params};
use theriac_model::time::Span;
use theriac_model::units::Bytes;

use crate::error::ScenarioError;

/// Larger files belong into no test.
const MAX_FILE: u64 = 1 << 30;

/// One scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in one sentence.
    pub summary: String,
    pub(crate) fault: FaultKind,
    #[serde(default)]
    params: BTreeMap<Label, Value>,
    #[serde(default)]
    pub(crate) number: Vec<theriac_model::call::Number>,
    /// How old the youngest file is; without it, as old as the grants ask for.
    pub(crate) age: Option<Span>,
    #[serde(default)]
    pub(crate) directory: Vec<Directory>,
    pub(crate) unit: Option<Unit>,
    pub(crate) releases: Option<Releases>,
    pub(crate) certificate: Option<Certificate>,
    pub(crate) database: Option<Database>,
    pub(crate) expect: Expect,
    /// Not again, and not with each effect failing.
    #[serde(default)]
    pub(crate) once: bool,
}

/// A parameter as TOML has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "toml::Value")]
struct Value(ParamValue);

impl From<toml::Value> for Value {
    /// What is no number and no flag is a word, and the manifest says whether it is one of its choices.
    fn from(value: toml::Value) -> Self {
        Self(match (value.as_integer(), value.as_bool()) {
            (Some(number), _) => ParamValue::Integer(number),
            (None, Some(flag)) => ParamValue::Flag(flag),
            (None, None) => ParamValue::Choice(value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
        })
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Directory {
    pub(crate) label: Label,
    pub(crate) size: Option<String>,
    #[serde(default)]
    pub(crate) archive: Archive,
    pub(crate) verbs: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) reproducible: Vec<String>,
    #[serde(default)]
    pub(crate) file: Vec<File>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Archive {
    OtherDevice,
    #[default]
    None,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) path: String,
    bytes: Option<String>,
    content: Option<String>,
    #[serde(default)]
    pub(crate) open: Open,
    #[serde(default)]
    pub(crate) deleted: bool,
    #[serde(default = "one")]
    pub(crate) links: u32,
}

const fn one() -> u32 {
    1
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Open {
    Appending,
    Writing,
    #[default]
    No,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unit {
    pub(crate) state: UnitWord,
    pub(crate) verbs: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) health: bool,
    #[serde(default)]
    pub(crate) load: Load,
}

/// The unit's releases.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Releases {
    /// Oldest first; the last one is in use.
    pub(crate) names: Vec<ReleaseName>,
    /// How many of them the runner has seen in use, the newest ones; without it, all.
    pub(crate) seen: Option<usize>,
    pub(crate) verbs: Option<Vec<String>>,
}

/// The certificate that the unit serves; it is the target then.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Certificate {
    /// Days until the file's expires; negative: since it did.
    pub(crate) left_days: i64,
    /// The same of another one that is served; without it, none is.
    pub(crate) served_days: Option<i64>,
    pub(crate) verbs: Option<Vec<String>>,
}

/// What has become of the certificate's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CertificateWord {
    Renewed,
    Unchanged,
}

/// The database server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Database {
    #[serde(default = "postgres")]
    pub(crate) kind: DatabaseKind,
    pub(crate) max: u32,
    #[serde(default)]
    pub(crate) reserved: u32,
    /// Whose sessions the operator lets be ended; without it, those that the grants name.
    pub(crate) applications: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) reproducible: bool,
    #[serde(default)]
    pub(crate) settings: BTreeMap<Setting, i64>,
    #[serde(default)]
    pub(crate) session: Vec<Session>,
}

const fn postgres() -> DatabaseKind {
    DatabaseKind::Postgres
}

/// Sessions that are alike.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Session {
    pub(crate) application: String,
    pub(crate) state: SessionState,
    /// Seconds in this state.
    pub(crate) for_s: u64,
    pub(crate) protected: Option<Protected>,
    #[serde(default = "one")]
    pub(crate) count: u32,
}

/// A unit's state in a scenario's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum UnitWord {
    Running,
    Crashed,
    GivenUp,
    Stopped,
    Hung,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Load {
    #[default]
    Idle,
    Spin,
    Memory,
}

impl Load {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Spin => "spin",
            Self::Memory => "memory",
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    pub(crate) report: ReportWord,
    effects: Option<Vec<String>>,
    effects_any: Option<Vec<Vec<String>>>,
    pub(crate) undo: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) denials: Vec<String>,
    pub(crate) unit: Option<UnitWord>,
    pub(crate) release: Option<ReleaseName>,
    pub(crate) certificate: Option<CertificateWord>,
    pub(crate) database: Option<ExpectDatabase>,
    #[serde(default)]
    pub(crate) file: Vec<ExpectFile>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ReportWord {
    Treated,
    NothingToDo,
    GaveUp,
    Denied,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectDatabase {
    pub(crate) sessions: Option<usize>,
    #[serde(default)]
    pub(crate) settings: BTreeMap<Setting, i64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectFile {
    pub(crate) directory: Label,
    pub(crate) path: String,
    is: Option<FileWord>,
    content: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FileWord {
    Unchanged,
    Absent,
    Empty,
}

/// What a file must be afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Afterwards {
    Unchanged,
    Absent,
    Content(String),
}

/// What a file holds at first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filling<'a> {
    Text(&'a str),
    Bytes(u64),
}

impl Scenario {
    /// Reads one file.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let text = fs::read_to_string(path).map_err(ScenarioError::io(format!("reading `{}`", path.display())))?;
        Self::parse(&text)
            .map_err(|problem| ScenarioError::Scenario { problem: format!("`{}`: {problem}", path.display()) })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let scenario: Self = toml::from_str(text).map_err(|error| error.to_string().trim().to_owned())?;
        scenario.check()?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), String> {
        for file in self.directory.iter().flat_map(|directory| &directory.file) {
            let plain = Path::new(&file.path).components().all(|part| matches!(part, Component::Normal(_)));
            if !plain || file.path.is_empty() {
                return Err(format!("`{}` does not lie below its directory", file.path));
            }
            file.filling()?;
            if file.links == 0 || (file.deleted && file.open == Open::No) {
                return Err(format!("`{}` would not be there", file.path));
            }
        }
        for directory in &self.directory {
            directory.bytes()?;
        }
        for file in &self.expect.file {
            file.afterwards()?;
        }
        if self.unit.as_ref().is_some_and(|unit| unit.state == UnitWord::Hung && !unit.health) {
            return Err("a unit that hangs needs `health = true`, or nothing shows it".to_owned());
        }
        if self.unit.is_none() && self.directory.is_empty() && self.database.is_none() {
            return Err("there is nothing at fault: add a [[directory]], a [unit] or a [database]".to_owned());
        }
        if self.releases.as_ref().is_some_and(|releases| releases.names.is_empty() || self.unit.is_none()) {
            return Err("[releases] needs at least one name, and a [unit] that they are of".to_owned());
        }
        if self.certificate.is_some() && self.unit.is_none() {
            return Err("[certificate] needs a [unit] that serves it".to_owned());
        }
        let other_kind =
            |database: &Database| database.settings.keys().copied().find(|setting| setting.kind() != database.kind);
        if let Some(setting) = self.database.as_ref().and_then(other_kind) {
            return Err(format!("`{setting}` is a setting of {}", setting.kind()));
        }
        if self.expect.database.is_some() && self.database.is_none() {
            return Err("[expect.database] needs a [database]".to_owned());
        }
        self.expect.effects()?;
        Ok(())
    }

    pub(crate) fn params(&self) -> Params {
        self.params.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect()
    }
}

impl Directory {
    /// The size of its own filesystem, where it has one.
    pub(crate) fn bytes(&self) -> Result<Option<u64>, String> {
        self.size.as_deref().map(size).transpose()
    }
}

impl File {
    pub(crate) fn filling(&self) -> Result<Filling<'_>, String> {
        match (&self.bytes, &self.content) {
            (Some(bytes), None) => Ok(Filling::Bytes(size(bytes)?)),
            (None, Some(content)) => Ok(Filling::Text(content)),
            (Some(_), Some(_)) | (None, None) => Err(format!("`{}` needs one of `bytes` and `content`", self.path)),
        }
    }
}

impl Expect {
    /// The plans that are right.
    pub(crate) fn effects(&self) -> Result<Vec<Vec<String>>, String> {
        match (&self.effects, &self.effects_any) {
            (Some(effects), None) => Ok(vec![effects.clone()]),
            (None, Some(any)) => Ok(any.clone()),
            (Some(_), Some(_)) | (None, None) => Err("[expect] needs one of `effects` and `effects_any`".to_owned()),
        }
    }
}

impl ExpectFile {
    pub(crate) fn afterwards(&self) -> Result<Afterwards, String> {
        match (self.is, &self.content) {
            (Some(FileWord::Unchanged), None) => Ok(Afterwards::Unchanged),
            (Some(FileWord::Absent), None) => Ok(Afterwards::Absent),
            (Some(FileWord::Empty), None) => Ok(Afterwards::Content(String::new())),
            (None, Some(content)) => Ok(Afterwards::Content(content.clone())),
            (Some(_), Some(_)) | (None, None) => Err(format!("`{}` needs one of `is` and `content`", self.path)),
        }
    }
}

fn size(text: &str) -> Result<u64, String> {
    match Bytes::parse(text) {
        Ok(Bytes(bytes)) if bytes <= MAX_FILE => Ok(bytes),
        Ok(_) => Err(format!("`{text}` is more than {}", Bytes(MAX_FILE))),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str =
        "summary = 's'\nfault = 'disk-full'\n[unit]\nstate = 'running'\n[expect]\nreport = 'treated'\neffects = []\n";

    fn refused(from: &str, to: &str) -> String {
        assert!(LEAST.contains(from));
        Scenario::parse(&LEAST.replace(from, to)).expect_err("it is refused")
    }

    #[test]
    fn a_scenario_names_a_fault_a_world_and_an_end() {
        Scenario::parse(LEAST).unwrap();
        assert!(refused("[unit]\nstate = 'running'\n", "").contains("nothing at fault"));
        assert!(refused("effects = []", "").contains("one of `effects`"));
        assert!(refused("summary = 's'", "sumary = 's'").contains("unknown field"));
    }

    #[test]
    fn a_file_lies_below_its_directory_and_holds_one_thing() {
        let directory = |file: &str| format!("[[directory]]\nlabel = 'logs'\n[[directory.file]]\n{file}\n[unit]");
        Scenario::parse(&LEAST.replace("[unit]", &directory("path = 'a'\nbytes = '1KiB'"))).unwrap();
        assert!(refused("[unit]", &directory("path = '../a'\nbytes = '1KiB'")).contains("does not lie below"));
        assert!(refused("[unit]", &directory("path = 'a'")).contains("one of `bytes`"));
        assert!(
            refused("[unit]", &directory("path = 'a'\nbytes = '1KiB'\ndeleted = true")).contains("would not be there")
        );
    }

    #[test]
    fn a_hung_unit_needs_something_that_shows_it() {
        assert!(refused("'running'", "'hung'").contains("health = true"));
    }

    #[test]
    fn releases_are_of_a_unit_and_one_is_in_use() {
        Scenario::parse(&LEAST.replace("[unit]", "[releases]\nnames = ['v1', 'v2']\n[unit]")).unwrap();
        assert!(refused("[unit]", "[releases]\nnames = []\n[unit]").contains("at least one name"));
        assert!(refused("[unit]", "[releases]\nnames = ['../v1']\n[unit]").contains("release"));
    }

    #[test]
    fn a_database_has_settings_of_its_kind() {
        let database = |settings: &str| format!("[database]\nmax = 10\nsettings = {{ {settings} = 1 }}\n[unit]");
        Scenario::parse(&LEAST.replace("[unit]", &database("lock_timeout"))).unwrap();
        assert!(refused("[unit]", &database("wait_timeout")).contains("a setting of mysql"));
        assert!(refused("[unit]", &database("shared_buffers")).contains("unknown variant"));
        assert!(refused("[expect]", "[expect.database]\nsessions = 1\n[expect]").contains("needs a [database]"));
    }

    #[test]
    fn every_shipped_scenario_is_one() {
        let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
        let mut count = 0;
        for remedy in fs::read_dir(plugins).unwrap().map(Result::unwrap) {
            let Ok(files) = fs::read_dir(remedy.path().join("scenarios")) else { continue };
            for file in files.map(Result::unwrap) {
                Scenario::read(&file.path()).unwrap();
                count += 1;
            }
        }
        assert!(count >= 15, "{count} scenarios");
    }
}
