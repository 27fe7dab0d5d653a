//! What is so about a plan, as far as policy asks about it. Everything is computed from the effects, root's configuration and
//! the approved manifest; nothing a remedy or a model claims is read.

use std::collections::BTreeSet;
use std::fmt;

use theriac_model::catalog::Mode;
use theriac_model::effect::{Effect, GroupId, UndoClass};
use theriac_model::fault::FaultKind;
use theriac_model::id::{Label, RemedyName, UnitName};
use theriac_model::plan::Plan;
use theriac_model::playbook::Level;
use theriac_model::remedy::Wasi;
use theriac_model::target::Target;
use theriac_model::units::Permille;

use super::risk::{Scope, affects_service, risk_of};
use crate::host::HostConfig;

/// Directories whose files decide who may log in and what may run. Grants can't reach most of them at all; this is for
/// those an operator grants on purpose.
const SECURITY_DIRECTORIES: [&str; 12] = [
    "/etc/apparmor",
    "/etc/apparmor.d",
    "/etc/fail2ban",
    "/etc/nftables.d",
    "/etc/pam.d",
    "/etc/polkit-1",
    "/etc/security",
    "/etc/selinux",
    "/etc/ssh",
    "/etc/ssl/private",
    "/etc/sudoers.d",
    "/etc/ufw",
];
/// Files of the same sort that lie in `/etc` itself.
const SECURITY_FILES: [&str; 8] = [
    "/etc/passwd",
    "/etc/shadow",
    "/etc/group",
    "/etc/gshadow",
    "/etc/sudoers",
    "/etc/nftables.conf",
    "/etc/hosts.allow",
    "/etc/hosts.deny",
];
/// Units of the same sort.
const SECURITY_UNITS: [&str; 12] = [
    "apparmor",
    "auditd",
    "fail2ban",
    "firewalld",
    "iptables",
    "nftables",
    "polkit",
    "ssh",
    "sshd",
    "sssd",
    "systemd-logind",
    "ufw",
];
/// Where the common databases keep their files: whoever changes one there changes more than data.
const DATABASE_DIRECTORIES: [&str; 7] = [
    "/var/lib/mongodb",
    "/var/lib/mysql",
    "/var/lib/pgsql",
    "/var/lib/postgresql",
    "/var/lib/redis",
    "/var/lib/clickhouse",
    "/var/lib/cassandra",
];

/// What a plan is looked at under.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// The mode.
    pub mode: Mode,
    /// The level of the plan's rung.
    pub rung: Level,
    /// A maintenance window or silence covers the target.
    pub in_window: bool,
    /// Whether the plan's remedy is linked with a WASI, by its manifest.
    pub wasi: Wasi,
    /// Root's configuration.
    pub host: &'a HostConfig,
}

/// What policy is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The remedy.
    pub remedy: RemedyName,
    /// The mode.
    pub mode: Mode,
    /// The fault kind.
    pub kind: FaultKind,
    /// The target.
    pub target: Target,
    /// The rung's level, or a higher one that the risk demands.
    pub level: Level,
    /// The plan's risk.
    pub risk: Permille,
    /// Share of all traffic that the changed things serve; `None` is unknown.
    pub traffic_share: Option<Permille>,
    /// How what is changed is.
    pub traits: Traits,
    /// Every changing verb, as in `files.remove`.
    pub verbs: BTreeSet<String>,
    /// Of these, those that do more when done twice.
    pub non_idempotent: BTreeSet<String>,
    /// Those that need a policy that names them, or a person.
    pub to_be_named: BTreeSet<String>,
}

/// What holds for a plan as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "these are the schema's attributes, each an independent fact")]
pub struct Traits {
    /// A changed thing may stop serving, if only for a moment.
    pub affects_service: bool,
    /// Something can't be taken back, and its data is not classed as reproducible.
    pub irreversible: bool,
    /// Something can't be taken back, and all such data is classed as reproducible.
    pub reproducible: bool,
    /// A maintenance window or silence covers the target.
    pub in_window: bool,
    /// The files of a database.
    pub database_schema: bool,
    /// Who may log in, what may run.
    pub security_configuration: bool,
    /// The remedy is of another language's tools, and linked with a sealed WASI.
    pub sealed_wasi: bool,
}

impl Facts {
    /// Looks at a plan.
    pub fn of(plan: &Plan, setting: &Setting<'_>) -> Self {
        let effects = || plan.effects.iter().map(|planned| &planned.effect);
        let word = |effect: &Effect| format!("{}.{}", effect.interface(), effect.verb());
        // The recorder's figures, or higher ones by the table: a plan can't talk its risk down.
        let risk = plan.risk().max(computed_risk(plan, setting.host));
        let irreversible = plan.irreversible().next().is_some();
        let lost = plan.effects.iter().any(|planned| matches!(planned.undo, UndoClass::Irreversible { .. }));
        Self {
            remedy: plan.remedy.name.clone(),
            mode: setting.mode,
            kind: plan.kind,
            target: plan.target.clone(),
            level: super::level(setting.rung, risk),
            risk,
            traffic_share: affected_share(plan, setting.host),
            traits: Traits {
                affects_service: effects().any(affects_service),
                irreversible,
                reproducible: lost && !irreversible,
                in_window: setting.in_window,
                database_schema: effects().any(changes_database),
                security_configuration: effects().any(changes_security),
                sealed_wasi: setting.wasi == Wasi::Sealed,
            },
            verbs: effects().map(word).collect(),
            non_idempotent: effects().filter(|effect| !effect.is_idempotent()).map(word).collect(),
            to_be_named: effects().filter(|effect| needs_a_name(effect)).map(word).collect(),
        }
    }

    /// The target's sort, as policies name it.
    pub const fn target_kind(&self) -> &'static str {
        match self.target {
            Target::Unit(_) => "unit",
            Target::Mount(_) => "mount",
            Target::Certificate(_) => "certificate",
            Target::Pool(_) => "pool",
            Target::Container(_) => "container",
            Target::Host => "host",
        }
    }
}

fn computed_risk(plan: &Plan, host: &HostConfig) -> Permille {
    plan.effects.iter().enumerate().fold(Permille::ZERO, |risk, (index, planned)| {
        let scope = Scope { traffic_share: share_of(&planned.effect, host), reproducible: planned.reproducible };
        let earlier = plan.effects.get(..index).unwrap_or_default();
        risk.or(risk_of(&planned.effect, &planned.undo, scope, earlier))
    })
}

/// What serves traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Server<'a> {
    Unit(&'a UnitName),
    Container(&'a Label),
    Database(&'a Label),
}

impl Server<'_> {
    fn share(self, host: &HostConfig) -> Option<Permille> {
        match self {
            Self::Unit(unit) => host.units.get(unit)?.traffic_share,
            Self::Container(label) => host.containers.iter().find(|entry| entry.label == *label)?.traffic_share,
            Self::Database(name) => host.databases.iter().find(|entry| entry.name == *name)?.traffic_share,
        }
    }
}

fn server_of(effect: &Effect) -> Option<Server<'_>> {
    match effect {
        Effect::Container(effect) => Some(Server::Container(&effect.target)),
        Effect::Database(effect) => Some(Server::Database(&effect.database)),
        Effect::File { .. }
        | Effect::Unit { .. }
        | Effect::Group { .. }
        | Effect::Process { .. }
        | Effect::Program(_)
        | Effect::Http(_)
        | Effect::Knob(_)
        | Effect::Certificate(_)
        | Effect::Release(_)
        | Effect::Firewall(_) => unit_of(effect).map(Server::Unit),
    }
}

fn unit_of(effect: &Effect) -> Option<&UnitName> {
    match effect {
        Effect::Unit { unit, .. } => Some(unit),
        Effect::Group { group, .. } | Effect::Process { group, .. } => match group {
            GroupId::Unit(unit) => Some(unit),
            GroupId::Cgroup(_) | GroupId::User(_) => None,
        },
        Effect::Certificate(effect) => effect.unit.as_ref(),
        Effect::Release(effect) => Some(&effect.unit),
        Effect::File { .. }
        | Effect::Program(_)
        | Effect::Http(_)
        | Effect::Knob(_)
        | Effect::Container(_)
        | Effect::Database(_)
        | Effect::Firewall(_) => None,
    }
}

fn share_of(effect: &Effect, host: &HostConfig) -> Option<Permille> {
    server_of(effect)?.share(host)
}

/// The shares of the different things that may stop serving, added up; unknown where one of them is.
fn affected_share(plan: &Plan, host: &HostConfig) -> Option<Permille> {
    let affected = plan.effects.iter().map(|planned| &planned.effect).filter(|effect| affects_service(effect));
    let servers: Option<BTreeSet<Server<'_>>> = affected.map(server_of).collect();
    let total =
        servers?.into_iter().try_fold(0_u64, |total, server| Some(total + u64::from(server.share(host)?.get())))?;
    Some(Permille::clamped(total))
}

fn changes_security(effect: &Effect) -> bool {
    match effect {
        Effect::File { .. } => file_path(effect)
            .is_some_and(|path| below(&SECURITY_DIRECTORIES, &path) || SECURITY_FILES.contains(&path.as_str())),
        Effect::Unit { .. } | Effect::Group { .. } | Effect::Process { .. } | Effect::Release(_) => unit_of(effect)
            .is_some_and(|unit| {
                let stem = unit.as_str().split(['.', '@']).next().unwrap_or_default();
                SECURITY_UNITS.contains(&stem)
            }),
        Effect::Knob(effect) => {
            ["kernel.", "fs.protected_", "user."].iter().any(|of| effect.knob.as_str().starts_with(of))
        }
        // Not who may log in or what may run: which of two keys of the same names is served.
        Effect::Certificate(_) => false,
        // The firewall is asked about by its verb, which a policy may name; for the files above none can.
        Effect::Program(_) | Effect::Http(_) | Effect::Container(_) | Effect::Database(_) | Effect::Firewall(_) => {
            false
        }
    }
}

/// Done twice it does more, or it decides who may reach the machine.
const fn needs_a_name(effect: &Effect) -> bool {
    !effect.is_idempotent() || matches!(effect, Effect::Firewall(_))
}

fn changes_database(effect: &Effect) -> bool {
    file_path(effect).is_some_and(|path| below(&DATABASE_DIRECTORIES, &path))
}

fn file_path(effect: &Effect) -> Option<String> {
    match effect {
        Effect::File { file, .. } => Some(format!("{}/{}", file.dir.as_str().trim_end_matches('/'), file.path)),
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

fn below(directories: &[&str], path: &str) -> bool {
    directories.iter().any(|dir| path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/')))
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |words: &BTreeSet<String>| words.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        writeln!(
            f,
            "remedy `{}`, fault `{}`, target `{}`, mode {}",
            self.remedy,
            self.kind,
            self.target,
            self.mode.as_str()
        )?;
        writeln!(f, "level {}, risk {}", self.level.get(), self.risk)?;
        match (self.traits.affects_service, self.traffic_share) {
            (false, _) => writeln!(f, "traffic: not affected")?,
            (true, Some(share)) => writeln!(f, "traffic: {share} could be affected")?,
            (true, None) => writeln!(f, "traffic: it is unknown how much could be affected")?,
        }
        write!(f, "verbs: {}", list(&self.verbs))
    }
}
