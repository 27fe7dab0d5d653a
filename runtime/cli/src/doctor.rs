//! `theriac doctor`: what this machine can do, what is off and why, and what would keep Theriac from working. It looks and
//! asks, and changes nothing.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde::Serialize;
use theriac_authority::host::{DatabaseConfig, HostConfig};
use theriac_model::database::DatabaseKind;
use theriac_model::unit::Backend;
use theriac_probe::certificate::Certificate;
use theriac_probe::features;
use theriac_protocol::layout::Socket;
use theriac_protocol::operator::{OperatorAnswer, OperatorRequest};
use theriac_protocol::program;
use theriac_runner::backend::systemd_runs;
use theriac_runner::rules::Rules;

use crate::client;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, chain};
use crate::text::outside;

/// Without these nothing arms: a worker has no filter, a path can be swapped.
const NEEDED: [&str; 2] = ["openat2", "seccomp"];
/// All programs lie in one directory.
const PROGRAMS: [&str; 5] =
    ["theriac-runner", "theriac-agent", "theriac-worker", "theriac-courier", "theriac-launcher"];

/// The courier itself reads no more of its configuration.
const MAX_COURIER: u64 = 64 << 10;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// As it should be.
    Good,
    /// Something is off, or worth knowing; the rest works.
    Note,
    /// Theriac does not work, or not safely, before this is put right.
    Problem,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// How bad.
    pub grade: Grade,
    /// What was found.
    pub found: String,
    /// What follows, or what to do.
    pub advice: Option<String>,
}

impl Finding {
    fn new(what: impl Into<String>, grade: Grade, found: impl Into<String>) -> Self {
        Self { what: what.into(), grade, found: found.into(), advice: None }
    }

    fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// What `theriac doctor --json` prints.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    kernel: String,
    findings: Vec<Finding>,
}

/// Looks at everything. Exit code 5 where there is a problem.
pub fn run(context: &Context) -> Result<Exit, Failure> {
    let machine = features::detect();
    let mut findings: Vec<Finding> = machine.features.iter().map(feature).collect();
    findings.extend(machine.rivals.iter().map(rival));
    findings.extend(programs());
    findings.push(configuration(context));
    findings.extend(jails(context));
    findings.extend(certificates(context));
    findings.extend(engine(context));
    findings.extend(databases(context));
    findings.extend(state(context));
    findings.extend(processes(context));
    let ok = findings.iter().all(|finding| finding.grade < Grade::Problem);
    let report = Report { ok, kernel: machine.kernel, findings };
    context.show(&report, describe)?;
    Ok(if ok { Exit::Ok } else { Exit::NotVerified })
}

fn feature(feature: &features::Feature) -> Finding {
    let found = outside(&feature.detail);
    if feature.present {
        return Finding::new(feature.name, Grade::Good, found);
    }
    let grade = if NEEDED.contains(&feature.name) { Grade::Problem } else { Grade::Note };
    Finding::new(feature.name, grade, found).advise(format!("off without it: {}", feature.without))
}

fn rival(rival: &features::Rival) -> Finding {
    let found = format!("{} (process {}) {}", outside(&rival.name), rival.pid, rival.does);
    Finding::new("rival", Grade::Note, found).advise("two healers fight over one unit: let only one of them restart it")
}

fn programs() -> Vec<Finding> {
    let Ok(own) = std::env::current_exe() else { return Vec::new() };
    let missing = |name: &&str| !own.with_file_name(name).is_file();
    PROGRAMS
        .into_iter()
        .filter(missing)
        .map(|name| {
            let found = format!("`{}` is missing", own.with_file_name(name).display());
            Finding::new("programs", Grade::Problem, found).advise("install all binaries from one package")
        })
        .collect()
}

fn configuration(context: &Context) -> Finding {
    let dir = &context.layout.config;
    if !dir.is_dir() {
        return Finding::new("configuration", Grade::Problem, format!("there is no directory `{}`", dir.display()))
            .advise("`theriac init` writes one that only observes");
    }
    match Rules::read(&context.layout) {
        Ok(rules) => {
            let (targets, mode) = (rules.host.catalog_targets().len(), rules.host.mode.as_str());
            let operators = rules.trust.operators().count();
            let found =
                format!("mode {mode}, {targets} targets, {} playbooks, {operators} operators", rules.playbooks.len());
            Finding::new("configuration", Grade::Good, found)
        }
        Err(error) => Finding::new("configuration", Grade::Problem, outside(&chain(&error))),
    }
}

/// Who runs the listed programs here, and what would be refused.
fn jails(context: &Context) -> Vec<Finding> {
    const WHAT: &str = "listed programs";
    // A configuration that can't be read is a finding already.
    let Ok(host) = Rules::read_host(&context.layout) else { return Vec::new() };
    let Some(by) = host.programs_by(systemd_runs()) else { return Vec::new() };
    let jail = match by {
        Backend::Systemd => Finding::new(WHAT, Grade::Good, "systemd runs them, each as a transient unit"),
        Backend::Supervised => match program::check(program::BUBBLEWRAP) {
            Ok(()) => Finding::new(WHAT, Grade::Good, "the launcher runs them, each in a jail of bubblewrap")
                .advise("those that launcher.toml lists, too"),
            Err(error) => Finding::new(WHAT, Grade::Note, outside(&chain(&error)))
                .advise("install bubblewrap: the launcher runs nothing without a jail"),
        },
    };
    let refused = host.programs.iter().filter_map(|listed| Some((listed, program::check(listed.path.as_str()).err()?)));
    let refused = refused.map(|(listed, error)| {
        Finding::new(WHAT, Grade::Note, format!("`{}`: {}", listed.path, outside(&chain(&error))))
            .advise("it is refused until only root can have written it")
    });
    std::iter::once(jail).chain(refused).collect()
}

/// Whether listed certificates can be read here, and renewed where they may be.
fn certificates(context: &Context) -> Vec<Finding> {
    const WHAT: &str = "certificates";
    let Ok(host) = Rules::read_host(&context.layout) else { return Vec::new() };
    let unread = host.certificates.iter().filter_map(|listed| {
        let (path, certificate) = (&listed.place.certificate, &listed.name);
        let why = match fs::read_to_string(path.as_path()) {
            Ok(text) => Certificate::chain(&text).err().map(|error| chain(&error)),
            Err(error) => Some(error.to_string()),
        };
        let found = format!("`{certificate}`: `{path}`: {}", outside(&why?));
        Some(Finding::new(WHAT, Grade::Note, found).advise("it is neither watched nor renewed until that is put right"))
    });
    let asks = context.layout.config.join("courier-acme.toml");
    let unasked = (host.needs_courier_acme() && !asks.is_file()).then(|| {
        Finding::new(WHAT, Grade::Note, format!("there is no `{}`", asks.display()))
            .advise("no authority is known: certificates that may be renewed are not")
    });
    unread.chain(unasked).collect()
}

/// Whether the courier of the listed containers is there, and what it means that it is.
fn engine(context: &Context) -> Option<Finding> {
    const WHAT: &str = "listed containers";
    let host = Rules::read_host(&context.layout).ok().filter(HostConfig::needs_courier_docker)?;
    let socket = context.layout.socket(Socket::CourierDocker);
    Some(match UnixStream::connect(&socket) {
        Ok(_) => {
            Finding::new(WHAT, Grade::Good, format!("{} listed, the docker courier listens", host.containers.len()))
                .advise("it holds the engine's socket, which equals root: SECURITY.md says what follows")
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Finding::new(WHAT, Grade::Note, format!("`{}` can't be asked by this user", socket.display()))
        }
        Err(_) => Finding::new(WHAT, Grade::Note, format!("nobody listens on `{}`", socket.display())).advise(
            "`theriac up` starts the docker courier; packaged, `systemctl enable --now theriac-courier-docker` does",
        ),
    })
}

/// Whether the courier knows how each listed database is reached, and what lets it in when the pool is exhausted.
fn databases(context: &Context) -> Vec<Finding> {
    const WHAT: &str = "databases";
    let Ok(host) = Rules::read_host(&context.layout) else { return Vec::new() };
    if host.databases.is_empty() {
        return Vec::new();
    }
    let path = context.layout.config.join("courier-databases.toml");
    let text = match theriac_trusted::read_if_there(&path, MAX_COURIER) {
        Ok(text) => text.unwrap_or_default(),
        Err(error) => return vec![Finding::new(WHAT, Grade::Problem, outside(&chain(&error)))],
    };
    let Ok(table) = text.parse::<toml::Table>() else {
        return vec![Finding::new(WHAT, Grade::Problem, format!("`{}` is not TOML", path.display()))];
    };
    let servers = table.get("server").and_then(toml::Value::as_array).map_or(&[][..], Vec::as_slice);
    let finding = |database: &DatabaseConfig| {
        let text = |server: &toml::Value, key: &str| server.get(key).and_then(toml::Value::as_str).map(str::to_owned);
        let server = servers.iter().find(|server| text(server, "name").as_deref() == Some(database.name.as_str()));
        match server.map(|server| text(server, "kind")) {
            None => {
                let found = format!("`{}` has no [[server]] in `{}`", database.name, path.display());
                Finding::new(WHAT, Grade::Problem, found)
                    .advise("write there how it is reached, or nothing of it is healed")
            }
            Some(kind) if kind.as_deref() != Some(database.kind.as_str()) => {
                let found =
                    format!("`{}` is of one kind in runner.toml and of another in `{}`", database.name, path.display());
                Finding::new(WHAT, Grade::Problem, found)
            }
            Some(_) => Finding::new(WHAT, Grade::Good, format!("`{}` is reached by the courier", database.name))
                .advise(kept_slot(database.kind)),
        }
    };
    host.databases.iter().map(finding).collect()
}

/// The courier is in already when the pool is exhausted; to come back then, it needs a slot that is kept for it.
const fn kept_slot(kind: DatabaseKind) -> &'static str {
    match kind {
        DatabaseKind::Postgres => {
            "keep a slot for it: from PostgreSQL 16 `reserved_connections = 1` and GRANT pg_use_reserved_connections; before, only superusers have one"
        }
        DatabaseKind::Mysql => "keep a slot for it: the extra one is for users with CONNECTION ADMIN",
    }
}

/// The directories that hold keys and the undo store are the runner's alone.
fn state(context: &Context) -> Vec<Finding> {
    let layout = &context.layout;
    if !layout.state.is_dir() {
        let found = format!("there is no directory `{}`", layout.state.display());
        return vec![Finding::new("state", Grade::Note, found).advise("the first start makes it")];
    }
    let private = [layout.runner(), layout.agent()];
    let mut findings: Vec<Finding> = private.iter().filter_map(|path| private_directory(path)).collect();
    let socket = layout.socket(Socket::CourierDatabases);
    // The longest of the socket names; the kernel takes 107 bytes.
    if socket.as_os_str().len() > 107 {
        let found = format!("`{}` is too long for a socket's path", socket.display());
        findings.push(Finding::new("state", Grade::Problem, found).advise("use a shorter --state directory"));
    }
    if findings.is_empty() {
        findings.push(Finding::new("state", Grade::Good, format!("`{}`", layout.state.display())));
    }
    findings
}

fn private_directory(path: &Path) -> Option<Finding> {
    let meta = fs::metadata(path).ok()?;
    let mode = meta.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return None;
    }
    let found = format!("`{}` (uid {}, mode {mode:o}) is open to others", path.display(), meta.uid());
    Some(Finding::new("state", Grade::Problem, found).advise(format!("run `chmod 700 {}`", path.display())))
}

fn processes(context: &Context) -> Vec<Finding> {
    let mut findings = Vec::new();
    match client::operator(&context.layout, &OperatorRequest::Status) {
        Ok(OperatorAnswer::Status(status)) => {
            findings.push(Finding::new("runner", Grade::Good, format!("answers, mode {}", status.mode.as_str())));
            findings.extend(status.disabled.iter().map(|off| Finding::new("off", Grade::Note, outside(off))));
            findings.extend(status.refused.iter().map(|(file, why)| {
                Finding::new("remedy refused", Grade::Note, format!("{}: {}", outside(file), outside(why)))
            }));
        }
        Ok(_) => findings.push(Finding::new("runner", Grade::Problem, client::unexpected("runner").to_string())),
        Err(failure) => findings.push(silent("runner", &failure)),
    }
    match client::agent(&context.layout, &theriac_protocol::agent::AgentRequest::Status) {
        Ok(theriac_protocol::agent::AgentAnswer::Status(status)) if !status.runner_connected => {
            findings.push(Finding::new("agent", Grade::Problem, "has no connection to the runner"));
        }
        Ok(theriac_protocol::agent::AgentAnswer::Status(status)) => {
            findings.push(Finding::new("agent", Grade::Good, format!("answers, {} series", status.series)));
            findings.extend(status.disarmed.iter().map(|rule| Finding::new("disarmed", Grade::Note, outside(rule))));
        }
        Ok(_) => findings.push(Finding::new("agent", Grade::Problem, client::unexpected("agent").to_string())),
        Err(failure) => findings.push(silent("agent", &failure)),
    }
    findings
}

/// Not running is no problem of the machine's.
fn silent(what: &str, failure: &Failure) -> Finding {
    let finding = Finding::new(what, Grade::Note, failure.to_string());
    match failure.advice() {
        Some(advice) => finding.advise(advice),
        None => finding,
    }
}

fn describe(report: &Report) -> String {
    let mut text = format!("kernel {}\n", outside(&report.kernel));
    for finding in &report.findings {
        let mark = match finding.grade {
            Grade::Good => "ok     ",
            Grade::Note => "note   ",
            Grade::Problem => "PROBLEM",
        };
        text.push_str(&format!("{mark}  {:<16} {}\n", finding.what, finding.found));
        if let Some(advice) = &finding.advice {
            text.push_str(&format!("{:27}{advice}\n", ""));
        }
    }
    text.push_str(if report.ok { "\nno problems\n" } else { "\nthere are problems\n" });
    text
}

#[cfg(test)]
mod tests {
    use theriac_protocol::layout::Layout;

    use super::*;

    fn context(dir: &Path) -> Context {
        Context { layout: Layout { config: dir.join("config"), state: dir.join("state") }, json: false }
    }

    #[test]
    fn a_keys_directory_that_others_can_read_is_a_problem_and_a_private_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let context = context(dir.path());
        fs::create_dir_all(context.layout.runner()).unwrap();
        let mode = |mode| fs::set_permissions(context.layout.runner(), fs::Permissions::from_mode(mode)).unwrap();
        mode(0o755);
        assert!(state(&context).iter().any(|finding| finding.grade == Grade::Problem));
        mode(0o700);
        assert!(state(&context).iter().all(|finding| finding.grade == Grade::Good));
    }

    #[test]
    fn a_mistake_in_the_configuration_is_named_and_its_absence_is_answered_with_init() {
        let dir = tempfile::tempdir().unwrap();
        let context = context(dir.path());
        assert!(configuration(&context).advice.unwrap().contains("theriac init"));
        fs::create_dir(&context.layout.config).unwrap();
        assert_eq!(configuration(&context).grade, Grade::Good);
        fs::write(context.layout.config.join("runner.toml"), "mode = \"fast\"\n").unwrap();
        let finding = configuration(&context);
        assert_eq!(finding.grade, Grade::Problem);
        assert!(finding.found.contains("runner.toml"), "{finding:?}");
    }

    #[test]
    fn a_listed_program_that_is_not_there_is_named_and_one_of_the_systems_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let context = context(dir.path());
        fs::create_dir(&context.layout.config).unwrap();
        assert!(jails(&context).is_empty());
        let text =
            "[[program]]\npath = \"/bin/true\"\nuser = 998\n[[program]]\npath = \"/nonexistent/tool\"\nuser = 998\n";
        fs::write(context.layout.config.join("runner.toml"), text).unwrap();
        let findings = jails(&context);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[1].found.contains("/nonexistent/tool"), "{findings:?}");
    }

    #[test]
    fn a_listed_certificate_that_is_not_there_is_named_and_so_is_a_missing_authority() {
        let dir = tempfile::tempdir().unwrap();
        let context = context(dir.path());
        fs::create_dir(&context.layout.config).unwrap();
        assert!(certificates(&context).is_empty());
        let text = "[[certificate]]\nname = \"web\"\ncertificate = \"/nonexistent/c.pem\"\nkey = \"/nonexistent/k.pem\"\nnames = [\"a.test\"]\nverbs = [\"renew\"]\nwebroot = \"/srv/www\"\n";
        fs::write(context.layout.config.join("runner.toml"), text).unwrap();
        let findings = certificates(&context);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[0].found.contains("/nonexistent/c.pem"), "{findings:?}");
        assert!(findings[1].found.contains("courier-acme.toml"), "{findings:?}");
    }

    #[test]
    fn the_docker_courier_is_asked_for_only_where_a_container_is_listed() {
        let dir = tempfile::tempdir().unwrap();
        let context = context(dir.path());
        fs::create_dir(&context.layout.config).unwrap();
        assert_eq!(engine(&context), None);
        let listed = "[[container]]\nlabel = \"api\"\nname = \"api\"\n";
        fs::write(context.layout.config.join("runner.toml"), listed).unwrap();
        let absent = engine(&context).unwrap();
        assert!(absent.grade == Grade::Note && absent.advice.unwrap().contains("theriac-courier-docker"));
        fs::create_dir_all(context.layout.state.join("run")).unwrap();
        let _courier = std::os::unix::net::UnixListener::bind(context.layout.socket(Socket::CourierDocker)).unwrap();
        assert_eq!(engine(&context).unwrap().grade, Grade::Good);
    }

    #[test]
    fn a_listed_database_that_the_courier_does_not_know_is_a_problem_and_a_known_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let context = context(dir.path());
        let config = &context.layout.config;
        fs::create_dir(config).unwrap();
        assert!(databases(&context).is_empty());
        fs::write(config.join("runner.toml"), "[[database]]\nname = \"main\"\nkind = \"postgres\"\n").unwrap();
        let grade = || databases(&context)[0].grade;
        assert_eq!(grade(), Grade::Problem);
        let server = "[[server]]\nname = \"main\"\nkind = \"postgres\"\nsocket = \"/run/s\"\nuser = \"theriac\"\n";
        fs::write(config.join("courier-databases.toml"), server.replace("postgres", "mysql")).unwrap();
        assert_eq!(grade(), Grade::Problem);
        fs::write(config.join("courier-databases.toml"), server).unwrap();
        assert_eq!(grade(), Grade::Good);
        assert!(databases(&context)[0].advice.as_ref().unwrap().contains("reserved_connections"));
    }

    #[test]
    fn a_missing_wall_is_a_problem_and_a_missing_comfort_is_not() {
        let without =
            |name| feature(&features::Feature { name, present: false, detail: "no".into(), without: "x" }).grade;
        assert_eq!((without("seccomp"), without("psi")), (Grade::Problem, Grade::Note));
    }
}
