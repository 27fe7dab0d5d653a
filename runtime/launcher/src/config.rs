//! `launcher.toml`: parsed to raw structs, validated into [`ServiceSpec`]s and paths of programs. Nothing downstream checks a string again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use theriac_model::id::UnitName;
use theriac_model::target::MountPath;
use theriac_model::time::Span;
use theriac_model::unit::Signal;
use theriac_model::units::Bytes;
use theriac_trusted::{self as trusted, TrustedError};

/// The commented reference that `theriac init` writes.
pub const DEFAULT: &str = include_str!("launcher.toml");

/// Many more services than one machine without a service manager has; bounds memory and the poll list.
const MAX_SERVICES: usize = 64;
/// A configuration of 64 services is a few KiB.
const MAX_FILE: u64 = 256 << 10;
/// The log of a service is evidence, not an archive.
const MAX_LOG_CAP: u64 = 64 << 20;

/// What the launcher runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LauncherConfig {
    /// In the order of the file; names are unique.
    pub services: Vec<ServiceSpec>,
    /// Programs that the runner may have run in a jail.
    pub programs: BTreeSet<MountPath>,
}

/// One service, valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its name, also in runner.toml.
    pub name: UnitName,
    /// Absolute.
    pub program: PathBuf,
    /// After the program.
    pub args: Vec<String>,
    /// Working directory, absolute.
    pub dir: PathBuf,
    /// The whole environment, but for INVOCATION_ID.
    pub env: BTreeMap<String, String>,
    /// Whom it runs as; `None` is the launcher's own user.
    pub user: Option<User>,
    /// Start it with the launcher.
    pub autostart: bool,
    /// What follows a failure.
    pub restart: Restart,
    /// Before an automatic restart.
    pub restart_delay: Duration,
    /// Starts allowed within the interval.
    pub start_limit_burst: usize,
    /// See `start_limit_burst`.
    pub start_limit_interval: Duration,
    /// Between TERM and KILL.
    pub stop_timeout: Duration,
    /// What `reload` sends to the main process.
    pub reload_signal: Option<Signal>,
    /// Bytes of output in one file, of two.
    pub log_cap: u64,
}

/// A user to run as. Supplementary groups are always empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Its uid.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
}

/// What follows when a service fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// It stays down.
    Never,
    /// It is started again after `restart_delay`, within the start limit.
    OnFailure,
}

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It can't be read, or somebody else could have written it.
    #[error(transparent)]
    File(#[from] TrustedError),
    /// Not TOML, a wrong type, or an unknown key.
    #[error("line {line}: {message}")]
    Toml { line: usize, message: String },
    /// One service is wrong.
    #[error("service `{}`: {what}", name.escape_debug())]
    Service { name: String, what: String },
    /// One program is wrong.
    #[error("program `{}`: {what}", path.escape_debug())]
    Program { path: String, what: String },
    /// Over a limit.
    #[error("{count} services are more than {MAX_SERVICES}")]
    TooMany { count: usize },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    #[serde(default)]
    service: Vec<RawService>,
    #[serde(default)]
    program: Vec<RawProgram>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProgram {
    path: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawService {
    name: String,
    command: Vec<String>,
    #[serde(default = "root_dir")]
    dir: PathBuf,
    #[serde(default)]
    env: BTreeMap<String, String>,
    user: Option<String>,
    #[serde(default = "yes")]
    autostart: bool,
    #[serde(default = "on_failure")]
    restart: Restart,
    #[serde(default = "one_second")]
    restart_delay: Span,
    #[serde(default = "five")]
    start_limit_burst: u16,
    #[serde(default = "ten_seconds")]
    start_limit_interval: Span,
    #[serde(default = "ten_seconds")]
    stop_timeout: Span,
    reload_signal: Option<RawReload>,
    #[serde(default = "one_mebibyte")]
    log_cap: String,
}

/// TERM and KILL are no reloads.
#[derive(Debug, Clone, Copy, Deserialize)]
enum RawReload {
    #[serde(rename = "HUP")]
    Hup,
    #[serde(rename = "USR1")]
    Usr1,
}

fn root_dir() -> PathBuf {
    PathBuf::from("/")
}
const fn yes() -> bool {
    true
}
const fn on_failure() -> Restart {
    Restart::OnFailure
}
const fn one_second() -> Span {
    Span::from_secs(1)
}
const fn ten_seconds() -> Span {
    Span::from_secs(10)
}
const fn five() -> u16 {
    5
}
fn one_mebibyte() -> String {
    "1MiB".to_owned()
}

impl LauncherConfig {
    /// Reads the file if it is there; without it there is nothing to run.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        match trusted::read_if_there(path, MAX_FILE)? {
            Some(text) => Self::parse(&text),
            None => Ok(Self::default()),
        }
    }

    /// Parses and validates the text.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let raw: RawConfig = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
            ConfigError::Toml { line, message: error.message().replace('\n', "; ") }
        })?;
        if raw.service.len() > MAX_SERVICES {
            return Err(ConfigError::TooMany { count: raw.service.len() });
        }
        let mut services: Vec<ServiceSpec> = Vec::new();
        for raw in raw.service {
            let name = raw.name.clone();
            let spec =
                validate(raw).map_err(|what| ConfigError::Service { name: name.clone(), what: what.to_string() })?;
            if services.iter().any(|other| other.name == spec.name) {
                return Err(ConfigError::Service { name, what: "there are two of that name".to_owned() });
            }
            services.push(spec);
        }
        Ok(Self { services, programs: programs(raw.program)? })
    }
}

/// Which programs may be run at all; as whom and in which jail, the runner says.
fn programs(raw: Vec<RawProgram>) -> Result<BTreeSet<MountPath>, ConfigError> {
    let mut programs = BTreeSet::new();
    for RawProgram { path } in raw {
        let wrong = |what: String| ConfigError::Program { path: path.clone(), what };
        let parsed = MountPath::parse(&path).map_err(|error| wrong(error.to_string()))?;
        if !programs.insert(parsed) {
            return Err(wrong("it is listed twice".to_owned()));
        }
    }
    Ok(programs)
}

/// What is wrong with one service; the caller adds its name.
#[derive(Debug, thiserror::Error)]
enum ServiceError {
    #[error(transparent)]
    Name(#[from] theriac_model::id::NameError),
    #[error(transparent)]
    Size(#[from] theriac_model::units::BytesError),
    #[error("`command` needs an absolute program, such as [\"/usr/bin/app\", \"--port\", \"80\"]")]
    Command,
    #[error("`dir` must be absolute")]
    Dir,
    #[error("`{0}` holds a NUL byte")]
    Nul(&'static str),
    #[error("`env` has a name that is empty or holds `=`")]
    Env,
    #[error("`log_cap` must be 4KiB to 64MiB")]
    LogCap,
    #[error("`start_limit_burst` must be at least 1")]
    Burst,
    #[error("`user` works only where the launcher runs as root")]
    NotRoot,
    #[error("there is no user `{}` in /etc/passwd", .0.escape_debug())]
    NoUser(String),
}

fn validate(raw: RawService) -> Result<ServiceSpec, ServiceError> {
    let name = UnitName::parse(&raw.name)?;
    let nul = |text: &str| text.contains('\0');
    let (program, args) = raw.command.split_first().ok_or(ServiceError::Command)?;
    if !program.starts_with('/') {
        return Err(ServiceError::Command);
    }
    if raw.command.iter().any(|arg| nul(arg)) {
        return Err(ServiceError::Nul("command"));
    }
    if !raw.dir.is_absolute() {
        return Err(ServiceError::Dir);
    }
    if raw.env.iter().any(|(key, value)| nul(key) || nul(value)) {
        return Err(ServiceError::Nul("env"));
    }
    if raw.env.keys().any(|key| key.is_empty() || key.contains('=')) {
        return Err(ServiceError::Env);
    }
    let log_cap = Bytes::parse(&raw.log_cap)?.0;
    if !(4 << 10..=MAX_LOG_CAP).contains(&log_cap) {
        return Err(ServiceError::LogCap);
    }
    if raw.start_limit_burst == 0 {
        return Err(ServiceError::Burst);
    }
    Ok(ServiceSpec {
        name,
        program: PathBuf::from(program),
        args: args.to_vec(),
        dir: raw.dir,
        env: raw.env,
        user: raw.user.as_deref().map(find_user).transpose()?,
        autostart: raw.autostart,
        restart: raw.restart,
        restart_delay: raw.restart_delay.duration(),
        start_limit_burst: usize::from(raw.start_limit_burst),
        start_limit_interval: raw.start_limit_interval.duration(),
        stop_timeout: raw.stop_timeout.duration(),
        reload_signal: raw.reload_signal.map(|signal| match signal {
            RawReload::Hup => Signal::Hup,
            RawReload::Usr1 => Signal::Usr1,
        }),
        log_cap,
    })
}

/// Only /etc/passwd is asked: a directory server that is down must not keep a service from being healed.
fn find_user(text: &str) -> Result<User, ServiceError> {
    if !rustix::process::geteuid().is_root() {
        return Err(ServiceError::NotRoot);
    }
    let missing = || ServiceError::NoUser(text.to_owned());
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let listed = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, ..] = fields.as_slice() else { return None };
        (*name == text || *uid == text).then_some(())?;
        Some(User { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
    });
    match (listed, text.parse::<u32>()) {
        (Some(user), _) => Ok(user),
        // A bare number needs no entry: containers often have none.
        (None, Ok(uid)) if uid != u32::MAX => Ok(User { uid, gid: uid }),
        (None, _) => Err(missing()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        LauncherConfig::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn the_embedded_default_is_valid_as_it_is_and_with_its_comments_taken_off() {
        assert_eq!(LauncherConfig::parse(DEFAULT).unwrap().services, []);
        let uncommented: String = DEFAULT
            .lines()
            .skip_while(|line| !line.starts_with("# [["))
            .filter(|line| rustix::process::geteuid().is_root() || !line.starts_with("# user"))
            .map(|line| format!("{}\n", line.trim_start_matches("# ")))
            .collect();
        let config = LauncherConfig::parse(&uncommented).unwrap();
        let plain = LauncherConfig::parse("[[service]]\nname = \"web\"\ncommand = [\"/x\"]").unwrap();
        assert_eq!(config.programs.iter().map(MountPath::as_str).collect::<Vec<_>>(), ["/usr/sbin/nginx"]);
        let (full, plain) = (&config.services[0], &plain.services[0]);
        assert_eq!(full.reload_signal, Some(Signal::Hup));
        // The reference shows the defaults: a key that is left out means what the comment says.
        assert_eq!(
            (full.restart, full.restart_delay, full.start_limit_burst, full.start_limit_interval, full.stop_timeout),
            (
                plain.restart,
                plain.restart_delay,
                plain.start_limit_burst,
                plain.start_limit_interval,
                plain.stop_timeout
            ),
        );
        assert_eq!((full.log_cap, full.autostart, &full.dir), (plain.log_cap, plain.autostart, &plain.dir));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_valid_keys() {
        let sentence = refused("[[service]]\nname = \"a\"\ncommand = [\"/x\"]\nshell = true\n");
        assert!(sentence.starts_with("line 4: unknown field `shell`, expected one of `name`, `command`"), "{sentence}");
    }

    #[test]
    fn what_can_not_be_run_safely_is_refused() {
        let service = |rest: &str| refused(&format!("[[service]]\nname = \"a\"\n{rest}"));
        for (rest, sentence) in [
            ("command = []", "`command` needs an absolute program"),
            ("command = [\"nginx\"]", "`command` needs an absolute program"),
            ("command = [\"/x\", \"a\\u0000\"]", "NUL"),
            ("command = [\"/x\"]\ndir = \"tmp\"", "absolute"),
            ("command = [\"/x\"]\nlog_cap = \"1B\"", "4KiB"),
            ("command = [\"/x\"]\nstart_limit_burst = 0", "at least 1"),
            ("command = [\"/x\"]\nreload_signal = \"KILL\"", "unknown variant `KILL`"),
            ("command = [\"/x\"]\nenv = { \"A=B\" = \"c\" }", "`env`"),
        ] {
            assert!(service(rest).contains(sentence), "{rest}: {}", service(rest));
        }
        let twice = "[[service]]\nname = \"a\"\ncommand = [\"/x\"]\n".repeat(2);
        assert_eq!(refused(&twice), "service `a`: there are two of that name");
        assert!(refused("[[service]]\nname = \"../a\"\ncommand = [\"/x\"]").contains("unit name"));
    }

    // EX04.
    #[test]
    fn a_program_is_an_absolute_path_listed_once() {
        let program = |path: &str| format!("[[program]]\npath = \"{path}\"\n");
        assert_eq!(LauncherConfig::parse(&program("/usr/bin/certbot")).unwrap().programs.len(), 1);
        assert!(refused(&program("certbot")).contains("absolute path"));
        assert!(refused(&program("/usr/../bin/sh")).contains("absolute path"));
        assert_eq!(refused(&program("/bin/a").repeat(2)), "program `/bin/a`: it is listed twice");
        assert!(refused("[[program]]\npath = \"/x\"\nargs = []").contains("unknown field `args`"));
    }

    #[test]
    fn a_missing_file_lists_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(LauncherConfig::load(&dir.path().join("launcher.toml")).unwrap(), LauncherConfig::default());
    }
}
