//! What the engine's answers mean. Only the fields that are used are looked at; one that is missing or out of range is an error, never
//! a default that could be taken for a measurement.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use theriac_model::container::{ContainerHealth, ContainerId, ContainerName, ContainerState, RestartPolicy, RunState};
use theriac_model::id::NameError;
use theriac_model::release::ImageId;

/// Engines write a time with nanoseconds and a zone in 35 characters.
const MAX_TIME: usize = 40;

/// Why an answer says nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadingError {
    #[error("it is not the JSON of an engine")]
    Json(#[source] serde_json::Error),
    #[error("its `{field}` makes no sense")]
    Senseless { field: &'static str },
    #[error(transparent)]
    Name(#[from] NameError),
}

/// One line of a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    name: String,
    #[serde(default)]
    restart_count: i64,
    state: RawState,
    host_config: Option<HostConfig>,
    config: Option<Config>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawState {
    status: String,
    exit_code: i64,
    #[serde(default, rename = "OOMKilled")]
    oom_killed: bool,
    #[serde(default)]
    started_at: String,
    health: Option<Health>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    #[serde(default)]
    status: String,
    #[serde(default)]
    failing_streak: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    restart_policy: Option<Policy>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Policy {
    #[serde(default)]
    name: String,
    #[serde(default)]
    maximum_retry_count: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    tty: bool,
}

/// What the engine says when it says no.
#[derive(Debug, Deserialize)]
struct Refusal {
    message: String,
}

/// One container.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) state: ContainerState,
    /// It has a terminal, so that its output is one stream.
    pub(super) tty: bool,
    labels: BTreeMap<String, String>,
}

impl Description {
    pub(super) fn has_label(&self, key: &str, value: &str) -> bool {
        self.labels.get(key).is_some_and(|known| known == value)
    }
}

/// The ids of a list.
pub(super) fn ids(body: &[u8]) -> Result<Vec<ContainerId>, ReadingError> {
    let listed: Vec<Listed> = serde_json::from_slice(body).map_err(ReadingError::Json)?;
    listed.iter().map(|container| Ok(ContainerId::parse(&container.id)?)).collect()
}

/// The id of an image. podman leaves out what the digits are of.
pub(super) fn image(body: &[u8]) -> Result<ImageId, ReadingError> {
    let Listed { id } = serde_json::from_slice(body).map_err(ReadingError::Json)?;
    let whole = if id.contains(':') { id } else { format!("sha256:{id}") };
    Ok(ImageId::parse(&whole)?)
}

/// The engine's own sentence, or what it sent in place of one.
pub(super) fn refusal(body: &[u8]) -> String {
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => refusal.message,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    }
}

/// A container as the engine describes it.
pub(super) fn description(body: &[u8], now: Timestamp) -> Result<Description, ReadingError> {
    let raw: Inspected = serde_json::from_slice(body).map_err(ReadingError::Json)?;
    let started = started(&raw.state.started_at)?;
    let since = started.map(|at| now.as_millisecond().saturating_sub(at.as_millisecond()));
    let policy = policy(raw.host_config.and_then(|host| host.restart_policy))?;
    let (health, failing_streak) = health(raw.state.health.as_ref())?;
    let restarts = number("RestartCount", raw.restart_count)?;
    let exit_code = number("State.ExitCode", raw.state.exit_code)?;
    let (labels, tty) =
        raw.config.map_or_else(Default::default, |config| (config.labels.unwrap_or_default(), config.tty));
    let state = ContainerState {
        id: ContainerId::parse(&raw.id)?,
        name: ContainerName::parse(raw.name.strip_prefix('/').unwrap_or(&raw.name))?,
        run: run(&raw.state.status, policy, exit_code, restarts)?,
        health,
        failing_streak,
        restarts,
        exit_code,
        oom_killed: raw.state.oom_killed,
        started: if started.is_some() { raw.state.started_at } else { String::new() },
        // A clock that was set back makes no container younger than now.
        since_ms: since.map(|ms| u64::try_from(ms).unwrap_or(0)),
        policy,
    };
    Ok(Description { state, tty, labels })
}

fn number<T: TryFrom<i64>>(field: &'static str, value: i64) -> Result<T, ReadingError> {
    T::try_from(value).map_err(|_out_of_range| ReadingError::Senseless { field })
}

fn run(status: &str, policy: RestartPolicy, exit_code: i32, restarts: u32) -> Result<RunState, ReadingError> {
    Ok(match status {
        // podman's words for a container that was made and not yet set up.
        "created" | "configured" | "initialized" => RunState::Created,
        "running" => RunState::Running,
        "paused" => RunState::Paused,
        "restarting" => RunState::Restarting,
        // podman's word for one that has ended and was not cleaned up after: what the policy says comes next.
        "stopped" => match policy {
            RestartPolicy::Always => RunState::Restarting,
            RestartPolicy::OnFailure { most } if exit_code != 0 && (most == 0 || restarts < most) => {
                RunState::Restarting
            }
            RestartPolicy::OnFailure { .. } | RestartPolicy::No => RunState::Exited,
        },
        "exited" => RunState::Exited,
        "dead" => RunState::Dead,
        "" => return Err(ReadingError::Senseless { field: "State.Status" }),
        _ => RunState::Other,
    })
}

/// A container that never ran has the year 1, or nothing.
fn started(text: &str) -> Result<Option<Timestamp>, ReadingError> {
    if text.is_empty() {
        return Ok(None);
    }
    let senseless = ReadingError::Senseless { field: "State.StartedAt" };
    if text.len() > MAX_TIME {
        return Err(senseless);
    }
    match text.parse::<Timestamp>() {
        Ok(at) => Ok((at.as_second() > 0).then_some(at)),
        Err(_) => Err(senseless),
    }
}

fn health(raw: Option<&Health>) -> Result<(ContainerHealth, u32), ReadingError> {
    let Some(raw) = raw else { return Ok((ContainerHealth::None, 0)) };
    let health = match raw.status.as_str() {
        "" | "none" => return Ok((ContainerHealth::None, 0)),
        "starting" => ContainerHealth::Starting,
        "healthy" => ContainerHealth::Healthy,
        "unhealthy" => ContainerHealth::Unhealthy,
        _ => return Err(ReadingError::Senseless { field: "State.Health.Status" }),
    };
    Ok((health, number("State.Health.FailingStreak", raw.failing_streak)?))
}

fn policy(raw: Option<Policy>) -> Result<RestartPolicy, ReadingError> {
    let Some(raw) = raw else { return Ok(RestartPolicy::No) };
    Ok(match raw.name.as_str() {
        "" | "no" => RestartPolicy::No,
        "always" | "unless-stopped" => RestartPolicy::Always,
        "on-failure" => {
            RestartPolicy::OnFailure { most: number("RestartPolicy.MaximumRetryCount", raw.maximum_retry_count)? }
        }
        _ => return Err(ReadingError::Senseless { field: "RestartPolicy.Name" }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T10:00:10Z".parse().unwrap()
    }

    /// As engines answer, shortened; what is not looked at may be anything.
    fn inspected(state: &str, policy: &str, more: &str) -> Result<ContainerState, ReadingError> {
        let text = format!(
            r#"{{"Id":"{id}","Name":"/api","Created":7,"NetworkSettings":[],"RestartCount":2,"State":{state},"HostConfig":{{"RestartPolicy":{policy}}}{more}}}"#,
            id = "a".repeat(64)
        );
        description(text.as_bytes(), now()).map(|found| found.state)
    }

    const FAILING: &str = r#"{"Name":"on-failure","MaximumRetryCount":5}"#;
    const ALWAYS: &str = r#"{"Name":"always","MaximumRetryCount":0}"#;

    #[test]
    fn an_inspection_is_read_to_types() {
        let state = inspected(
            r#"{"Status":"running","ExitCode":0,"OOMKilled":false,"StartedAt":"2026-11-22T10:00:00.123456789Z","Health":{"Status":"unhealthy","FailingStreak":4,"Log":null}}"#,
            FAILING,
            "",
        )
        .unwrap();
        assert_eq!((state.name.as_str(), state.run, state.restarts), ("api", RunState::Running, 2));
        assert_eq!((state.health, state.failing_streak), (ContainerHealth::Unhealthy, 4));
        assert_eq!((state.started.as_str(), state.since_ms), ("2026-11-22T10:00:00.123456789Z", Some(9877)));
        assert_eq!(state.policy, RestartPolicy::OnFailure { most: 5 });
    }

    #[test]
    fn podmans_words_for_a_container_between_two_restarts_are_understood() {
        let run = |code: i32, policy: &str| {
            inspected(&format!(r#"{{"Status":"stopped","ExitCode":{code}}}"#), policy, "").unwrap().run
        };
        assert_eq!((run(3, ALWAYS), run(0, ALWAYS)), (RunState::Restarting, RunState::Restarting));
        assert_eq!((run(3, FAILING), run(0, FAILING)), (RunState::Restarting, RunState::Exited));
        let given_up = FAILING.replace('5', "2");
        assert_eq!((run(3, &given_up), run(3, "null")), (RunState::Exited, RunState::Exited));
        let health = r#"{"Status":"running","ExitCode":0,"Health":{"Status":"","FailingStreak":0,"Log":null}}"#;
        assert_eq!(inspected(health, ALWAYS, "").unwrap().health, ContainerHealth::None);
    }

    #[test]
    fn a_container_that_never_ran_has_no_time() {
        for never in ["0001-01-01T00:00:00Z", ""] {
            let state = format!(r#"{{"Status":"created","ExitCode":0,"StartedAt":"{never}"}}"#);
            let state = inspected(&state, ALWAYS, "").unwrap();
            assert_eq!((state.run, state.started.as_str(), state.since_ms), (RunState::Created, "", None));
        }
    }

    #[test]
    fn what_makes_no_sense_is_an_error_and_no_default() {
        let field = |state: &str, policy: &str| match inspected(state, policy, "") {
            Err(ReadingError::Senseless { field }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field(r#"{"Status":"","ExitCode":0}"#, ALWAYS), "State.Status");
        assert_eq!(field(r#"{"Status":"exited","ExitCode":99999999999}"#, ALWAYS), "State.ExitCode");
        assert_eq!(field(r#"{"Status":"exited","ExitCode":0}"#, r#"{"Name":"sometimes"}"#), "RestartPolicy.Name");
        for time in ["yesterday".to_owned(), "2".repeat(1000)] {
            let state = format!(r#"{{"Status":"running","ExitCode":0,"StartedAt":"{time}"}}"#);
            assert_eq!(field(&state, ALWAYS), "State.StartedAt");
        }
        assert!(matches!(inspected("{}", ALWAYS, ""), Err(ReadingError::Json(_))));
        let named = |id: &str, name: &str| {
            let text = format!(r#"{{"Id":"{id}","Name":"{name}","State":{{"Status":"exited","ExitCode":0}}}}"#);
            description(text.as_bytes(), now())
        };
        assert!(named(&"a".repeat(64), "/api").is_ok());
        assert!(matches!(named("abc", "/api"), Err(ReadingError::Name(_))), "a prefix of an id is none");
        assert!(matches!(named(&"a".repeat(64), "/a/b"), Err(ReadingError::Name(_))));
        let negative = format!(
            r#"{{"Id":"{}","Name":"a1","RestartCount":-1,"State":{{"Status":"exited","ExitCode":0}}}}"#,
            "a".repeat(64)
        );
        assert!(matches!(
            description(negative.as_bytes(), now()),
            Err(ReadingError::Senseless { field: "RestartCount" })
        ));
    }

    #[test]
    fn labels_are_compared_whole() {
        let text = format!(
            r#"{{"Id":"{}","Name":"a1","State":{{"Status":"exited","ExitCode":0}},"Config":{{"Labels":{{"app":"web"}},"Tty":true}}}}"#,
            "a".repeat(64)
        );
        let found = description(text.as_bytes(), now()).unwrap();
        assert!(found.tty && found.has_label("app", "web"));
        assert!(!found.has_label("app", "we") && !found.has_label("ap", "web"));
        let list = format!(r#"[{{"Id":"{}","Names":null}}]"#, "b".repeat(64));
        assert_eq!(ids(list.as_bytes()).unwrap().len(), 1);
        assert!(ids(br#"[{"Id":"b"}]"#).is_err() && ids(b"{}").is_err());
    }
}
