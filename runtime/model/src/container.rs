//! Containers of the machine's engine: how one is named, which one exactly is meant, what is asked of it and how it does.
//!
//! A name is where to look. What is changed is the container with one full id in one incarnation: engines give a name to the next
//! container as soon as the old one is gone.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{Label, NameError};

/// The name of one container, as engines allow it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerName(String);

impl ContainerName {
    /// Parses a name, without the slash that the engine's protocol puts in front of it.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let good = (2..=128).contains(&text.len())
            && text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if good {
            Ok(Self(text.to_owned()))
        } else {
            let rule = "use 2 to 128 of letters, digits, `_`, `.` and `-`, starting with a letter or digit";
            Err(NameError::new("container name", text, rule))
        }
    }

    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ContainerName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<ContainerName> for String {
    fn from(name: ContainerName) -> String {
        name.0
    }
}

/// One label that a container was made with, as in `com.docker.compose.service=api`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerLabel {
    key: String,
    value: String,
}

impl ContainerLabel {
    /// Parses `key=value`; neither may be empty, so that a label never stands for more containers than it says.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let rule = "write `key=value`, each 1 to 128 of letters, digits, `.`, `_`, `-`, `/` and `:`";
        let wrong = || NameError::new("container label", text, rule);
        let part = |part: &str| {
            (1..=128).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/:".contains(&b))
        };
        let (key, value) = text.split_once('=').ok_or_else(wrong)?;
        if part(key) && part(value) { Ok(Self { key: key.to_owned(), value: value.to_owned() }) } else { Err(wrong()) }
    }

    /// What stands before the `=`.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What stands after it.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Display for ContainerLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

impl TryFrom<String> for ContainerLabel {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<ContainerLabel> for String {
    fn from(label: ContainerLabel) -> String {
        label.to_string()
    }
}

/// How one container is found. It has to be exactly one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerSelector {
    /// By its name.
    Name(ContainerName),
    /// By one label: compose and its like give another name to each new container of a service.
    Label(ContainerLabel),
}

impl fmt::Display for ContainerSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "container {name}"),
            Self::Label(label) => write!(f, "the container labelled {label}"),
        }
    }
}

/// Files inside a container that its engine keeps in a directory named like the container.
const OVER_ETC: [&str; 4] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/run/.containerenv"];

/// The full id of a container: 64 lower-case hex digits, never a prefix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// Parses a full id.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::new("container id", text, "use the full id of 64 lower-case hex digits"))
        }
    }

    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The container around a process that reads this in its `/proc/self/cgroup` and `/proc/self/mountinfo`. Of the mounts only
    /// those count that engines put over files of `/etc` inside: outside, each running container's own mounts name it, too.
    pub fn is_around(&self, cgroup: &str, mountinfo: &str) -> bool {
        let names_it = |line: &str| {
            let mut fields = line.split(' ').skip(3);
            let (root, point) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
            OVER_ETC.contains(&point) && root.contains(self.as_str())
        };
        cgroup.contains(self.as_str()) || mountinfo.lines().any(names_it)
    }

    /// The first 12, as engines show them.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl TryFrom<String> for ContainerId {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> String {
        id.0
    }
}

/// Which life of a container is meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Incarnation {
    /// The one that was started then (the engine's own text; empty where it never was).
    Started(String),
    /// Any later one in the same chain of starts by the engine itself: its count has not fallen below this. A container that the
    /// engine starts again every second has no other identity that lasts as long as a plan; a person's start sets the count
    /// back to 0, and ends the chain.
    InLoop { restarts: u32 },
}

/// Which container exactly.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerRef {
    /// The full id.
    pub id: ContainerId,
    /// Its life.
    pub incarnation: Incarnation,
}

impl ContainerRef {
    /// The container in this state is the one that is meant.
    pub fn is(&self, state: &ContainerState) -> bool {
        self.id == state.id
            && match &self.incarnation {
                Incarnation::Started(started) => *started == state.started,
                Incarnation::InLoop { restarts } => state.restarts >= *restarts,
            }
    }
}

/// Up or down, in the engine's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// Made, and never started.
    Created,
    /// Its first process runs.
    Running,
    /// Frozen.
    Paused,
    /// Down, and about to be started again by the engine.
    Restarting,
    /// Its first process has ended.
    Exited,
    /// The engine could not take it away.
    Dead,
    /// Anything else, such as being removed.
    Other,
}

impl RunState {
    /// The word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Dead => "dead",
            Self::Other => "in another state",
        }
    }
}

/// What the engine's own health check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerHealth {
    /// There is none.
    None,
    /// Within its start period.
    Starting,
    /// The last one passed.
    Healthy,
    /// As many failed in a row as the container is configured with.
    Unhealthy,
}

/// When the engine starts a container again by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never.
    No,
    /// When it failed; at most that often (0: without end).
    OnFailure {
        /// At most that often; 0 is without end.
        most: u32,
    },
    /// Whenever it ends and nobody stopped it.
    Always,
}

/// A container as the engine describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerState {
    /// The full id.
    pub id: ContainerId,
    /// Its name now.
    pub name: ContainerName,
    /// Up or down.
    pub run: RunState,
    /// The engine's health check.
    pub health: ContainerHealth,
    /// Failed health checks in a row.
    pub failing_streak: u32,
    /// Starts by the engine itself since the last one by hand.
    pub restarts: u32,
    /// Status of the last end.
    pub exit_code: i32,
    /// The kernel ended it for memory.
    pub oom_killed: bool,
    /// When it was last started, in the engine's own text; empty where it never was.
    pub started: String,
    /// Milliseconds since then by the courier's clock; `None` where it never was.
    pub since_ms: Option<u64>,
    /// When the engine starts it again.
    pub policy: RestartPolicy,
}

impl ContainerState {
    /// Its first process is there.
    pub const fn is_up(&self) -> bool {
        match self.run {
            RunState::Running | RunState::Paused => true,
            RunState::Created | RunState::Restarting | RunState::Exited | RunState::Dead | RunState::Other => false,
        }
    }

    /// The engine is about to start it by itself.
    pub const fn will_restart(&self) -> bool {
        matches!(self.run, RunState::Restarting)
    }

    /// The engine has started it by itself since it was last started by hand.
    pub const fn is_in_loop(&self) -> bool {
        self.restarts > 0
    }

    /// It is down, and not because it failed. Engines don't say who stopped a container, but a policy that would have started
    /// it again and did not says that somebody did.
    pub const fn stopped_on_purpose(&self) -> bool {
        if !matches!(self.run, RunState::Exited) {
            return false;
        }
        match self.policy {
            RestartPolicy::Always | RestartPolicy::OnFailure { most: 0 } => true,
            RestartPolicy::OnFailure { most } => self.exit_code == 0 || self.restarts < most,
            RestartPolicy::No => self.exit_code == 0,
        }
    }

    /// This container in this life; one that the engine starts again and again, in any of that chain.
    pub fn reference(&self) -> ContainerRef {
        ContainerRef { id: self.id.clone(), incarnation: Incarnation::Started(self.started.clone()) }
    }

    /// The same for a verb that means the whole chain of lives.
    pub fn reference_to_loop(&self) -> ContainerRef {
        if self.is_in_loop() {
            ContainerRef { id: self.id.clone(), incarnation: Incarnation::InLoop { restarts: self.restarts } }
        } else {
            self.reference()
        }
    }
}

/// Verbs of a granted container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerCall {
    /// Its name, for log lines.
    Name,
    /// How it does.
    Inspect,
    /// The last lines of its output, at most 200.
    LogTail {
        /// How many.
        lines: u32,
    },
    /// Start.
    Start,
    /// Stop.
    Stop,
    /// Restart.
    Restart,
}

/// What is done to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerVerb {
    /// Started.
    Start,
    /// Stopped.
    Stop,
    /// Restarted.
    Restart,
}

impl ContainerVerb {
    /// The word used in manifests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }
}

/// A container as a remedy sees it.
#[expect(clippy::struct_excessive_bools, reason = "four facts that do not exclude each other")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerInfo {
    /// Up or down.
    pub run: RunState,
    /// The engine's health check.
    pub health: ContainerHealth,
    /// Failed health checks in a row.
    pub failing_streak: u32,
    /// Starts by the engine itself since the last one by hand.
    pub restarts: u32,
    /// Status of the last end; `None` while it runs, and before it ever ran.
    pub exit_code: Option<i32>,
    /// The kernel ended it for memory.
    pub oom_killed: bool,
    /// Seconds since it was last started.
    pub since_s: Option<u64>,
    /// The engine is about to start it by itself.
    pub will_restart: bool,
    /// Down, and not because it failed.
    pub stopped_on_purpose: bool,
    /// Includes recorded effects.
    pub assumed: bool,
}

/// One change of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerEffect {
    /// The grant's label.
    pub label: Label,
    /// What the operator calls it: `container:LABEL` as a target.
    pub target: Label,
    /// How it was found.
    pub selector: ContainerSelector,
    /// Which one it was.
    pub container: ContainerRef,
    /// What is done.
    pub verb: ContainerVerb,
}

impl ContainerEffect {
    /// The verb in the manifest's word.
    pub const fn verb(&self) -> &'static str {
        self.verb.as_str()
    }

    /// A restart twice ends two processes.
    pub const fn is_idempotent(&self) -> bool {
        match self.verb {
            ContainerVerb::Start | ContainerVerb::Stop => true,
            ContainerVerb::Restart => false,
        }
    }

    /// The same verb on the same container; for one that the engine restarts, in the same chain.
    pub fn is_within(&self, planned: &Self) -> bool {
        let same_life = match (&self.container.incarnation, &planned.container.incarnation) {
            (Incarnation::InLoop { restarts: now }, Incarnation::InLoop { restarts: then }) => now >= then,
            (Incarnation::Started(now), Incarnation::Started(then)) => now == then,
            (Incarnation::Started(_), Incarnation::InLoop { .. })
            | (Incarnation::InLoop { .. }, Incarnation::Started(_)) => false,
        };
        same_life
            && self.label == planned.label
            && self.target == planned.target
            && self.selector == planned.selector
            && self.container.id == planned.container.id
            && self.verb == planned.verb
    }
}

impl fmt::Display for ContainerEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.verb(), self.selector, self.container.id.short())?;
        match self.container.incarnation {
            Incarnation::Started(_) => Ok(()),
            Incarnation::InLoop { .. } => f.write_str(", also when the engine has started it again meanwhile"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(run: RunState, policy: RestartPolicy) -> ContainerState {
        ContainerState {
            id: ContainerId::parse(&"a".repeat(64)).unwrap(),
            name: ContainerName::parse("api").unwrap(),
            run,
            health: ContainerHealth::None,
            failing_streak: 0,
            restarts: 0,
            exit_code: 1,
            oom_killed: false,
            started: "2026-11-22T10:00:00Z".into(),
            since_ms: Some(1000),
            policy,
        }
    }

    #[test]
    fn a_name_a_label_and_an_id_are_exact_and_their_neighbours_are_refused() {
        for right in ["api", "shop_api.1", "a1"] {
            assert!(ContainerName::parse(right).is_ok(), "{right:?}");
        }
        for wrong in ["", "a", "/api", "-api", "a b", "a/b", "api\n", "..", "a%2f", "äpi", &"x".repeat(129)] {
            assert!(ContainerName::parse(wrong).is_err(), "{wrong:?}");
        }
        let label = ContainerLabel::parse("com.docker.compose.service=api").unwrap();
        assert_eq!((label.key(), label.value()), ("com.docker.compose.service", "api"));
        for wrong in ["heal", "=x", "heal=", "a=b=c", "a b=c", "a=\"", "a=b,c"] {
            assert!(ContainerLabel::parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(ContainerId::parse(&"0f".repeat(32)).is_ok());
        for wrong in [String::new(), "0".repeat(12), "A".repeat(64), "0".repeat(65), format!("{}/", "0".repeat(63))] {
            assert!(ContainerId::parse(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_container_around_a_process_is_known_by_its_cgroup_or_the_files_over_its_etc_and_one_beside_it_is_not_taken_for_it()
     {
        let digits = "c".repeat(64);
        let (own, other) = (ContainerId::parse(&digits).unwrap(), ContainerId::parse(&"d".repeat(64)).unwrap());
        for cgroup in [
            format!("0::/system.slice/docker-{digits}.scope\n"),
            format!("1:name=systemd:/docker/{digits}\n"),
            format!("0::/machine.slice/libpod-{digits}.scope/container\n"),
        ] {
            assert!(own.is_around(&cgroup, "") && !other.is_around(&cgroup, ""), "{cgroup}");
        }
        let over =
            format!("612 598 8:1 /var/lib/docker/containers/{digits}/hostname /etc/hostname rw - ext4 /dev/sda1 rw\n");
        assert!(own.is_around("0::/\n", &over) && !other.is_around("0::/\n", &over));
        let beside =
            format!("90 27 0:39 / /var/lib/docker/containers/{digits}/mounts/shm rw - tmpfs shm rw,size=65536k\n");
        assert!(!own.is_around("0::/\n", &beside), "the mounts of whatever runs on this machine");
    }

    #[test]
    fn another_container_or_another_start_is_not_the_one_that_was_meant() {
        let found = state(RunState::Running, RestartPolicy::Always);
        let meant = found.reference();
        assert!(meant.is(&found));
        assert!(!meant.is(&ContainerState { started: "2026-11-22T10:00:09Z".into(), ..found.clone() }));
        assert!(!meant.is(&ContainerState { id: ContainerId::parse(&"b".repeat(64)).unwrap(), ..found }));
    }

    #[test]
    fn a_loop_is_one_chain_until_somebody_starts_the_container_by_hand() {
        let found = ContainerState { restarts: 3, ..state(RunState::Restarting, RestartPolicy::Always) };
        let meant = found.reference_to_loop();
        let later = |restarts| ContainerState { restarts, started: "later".into(), ..found.clone() };
        assert!(meant.is(&later(3)) && meant.is(&later(9)));
        assert!(!meant.is(&later(0)), "a start by hand begins a new count");
        assert!(!found.reference().is(&later(4)), "a verb that means one life does not mean the next");
    }

    #[test]
    fn a_policy_that_would_have_restarted_it_says_who_stopped_it() {
        let exited = |policy, exit_code, restarts| {
            ContainerState { exit_code, restarts, ..state(RunState::Exited, policy) }.stopped_on_purpose()
        };
        assert!(exited(RestartPolicy::Always, 137, 0));
        assert!(exited(RestartPolicy::OnFailure { most: 0 }, 1, 4));
        assert!(!exited(RestartPolicy::OnFailure { most: 3 }, 1, 3), "the engine gave up");
        assert!(exited(RestartPolicy::OnFailure { most: 3 }, 1, 1));
        assert!(exited(RestartPolicy::No, 0, 0) && !exited(RestartPolicy::No, 1, 0));
        assert!(!state(RunState::Restarting, RestartPolicy::Always).stopped_on_purpose());
    }
}
