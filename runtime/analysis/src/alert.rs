//! Alerts: Alertmanager's webhook, version 4, and what it means here.
//!
//! Everything in a body is hostile until it is mapped: sizes are capped, texts are escaped when shown, and an alert only ever
//! becomes a signal that says it was told, not measured. An alert about another machine is kept and not acted on.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use theriac_model::catalog::TargetSpec;
use theriac_model::fault::{FaultKind, Severity};
use theriac_model::id::UnitName;
use theriac_model::signal::{Origin, Signal};
use theriac_model::target::{MountPath, Target};
use theriac_model::time::Timestamp;

use crate::text::foreign;

const DEFAULTS: &str = include_str!("../../../policies/rules/alerts.yaml");
/// The largest body that is parsed; Alertmanager's own default groups are a few KiB.
pub const MAX_BODY: usize = 1 << 20;
/// Alerts in one body, labels of one alert, characters of one label.
pub const MAX_ALERTS: usize = 200;
const MAX_LABELS: usize = 64;
const MAX_TEXT: usize = 300;
/// Labels that may say which machine an alert is about.
const HOST_LABELS: [&str; 5] = ["instance", "host", "hostname", "nodename", "node"];

/// Why a body was refused.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Too long.
    #[error("a body of {0} bytes is over the limit of {MAX_BODY}")]
    TooLong(usize),
    /// No webhook of Alertmanager.
    #[error("not an Alertmanager webhook")]
    Json(#[source] serde_json::Error),
    /// Another version of it.
    #[error("webhook version `{}` is not known; version 4 is", .0.escape_debug())]
    Version(String),
    /// Too many alerts.
    #[error("{0} alerts in one body are over the limit of {MAX_ALERTS}")]
    TooMany(usize),
    /// An alert with more labels than any rule gives.
    #[error("an alert with {0} labels is over the limit of {MAX_LABELS}")]
    Labels(usize),
}

/// A parsed body. Unknown fields are passed over: the sender's next version may have more.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Body {
    version: String,
    /// The alerts.
    pub alerts: Vec<Alert>,
    /// How many alerts the sender left out.
    #[serde(default, rename = "truncatedAlerts")]
    pub truncated: u64,
}

/// Firing or over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is so.
    Firing,
    /// It is over.
    Resolved,
}

/// One alert.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Alert {
    /// Firing or over.
    pub status: Status,
    /// What it is about.
    pub labels: BTreeMap<String, String>,
    /// For people.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// When it began.
    #[serde(default, rename = "startsAt")]
    pub starts_at: String,
    /// Alertmanager's id of the label set.
    #[serde(default)]
    pub fingerprint: String,
}

/// Parses a webhook's body.
pub fn parse(body: &[u8]) -> Result<Body, BodyError> {
    if body.len() > MAX_BODY {
        return Err(BodyError::TooLong(body.len()));
    }
    let body: Body = serde_json::from_slice(body).map_err(BodyError::Json)?;
    if body.version != "4" {
        return Err(BodyError::Version(body.version.chars().take(16).collect()));
    }
    if body.alerts.len() > MAX_ALERTS {
        return Err(BodyError::TooMany(body.alerts.len()));
    }
    match body.alerts.iter().map(|alert| alert.labels.len().max(alert.annotations.len())).max() {
        Some(most) if most > MAX_LABELS => Err(BodyError::Labels(most)),
        Some(_) | None => Ok(body),
    }
}

/// Why the rules of alerts were refused.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct MappingError {
    line: u64,
    message: String,
}

/// Which alert means which fault here.
#[derive(Debug)]
pub struct Mapping {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    alerts: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[expect(dead_code, reason = "names the rule in the file; people need it, the mapping does not")]
    id: String,
    names: BTreeSet<String>,
    kind: FaultKind,
    #[serde(default)]
    unit: Vec<String>,
    #[serde(default)]
    mount: Vec<String>,
}

/// What the mapping has to know of this machine.
#[derive(Debug, Clone, Copy)]
pub struct Here<'a> {
    /// Its names and addresses, without ports.
    pub names: &'a [String],
    /// The listed targets.
    pub targets: &'a [TargetSpec],
}

/// What an alert means.
#[derive(Debug, Clone, PartialEq)]
pub enum Meaning {
    /// A signal about this machine.
    Signal(Box<Signal>),
    /// It is about another machine: stored, not acted on.
    Elsewhere(String),
}

impl Mapping {
    /// The mapping that ships with the daemon.
    pub fn defaults() -> Result<Self, MappingError> {
        Self::parse(DEFAULTS)
    }

    /// Parses a file of rules.
    pub fn parse(text: &str) -> Result<Self, MappingError> {
        let file: File = serde_saphyr::from_str(text).map_err(|error| MappingError {
            line: error.location().map_or(0, |location| location.line()),
            message: error.without_snippet().to_string().lines().next().unwrap_or_default().chars().take(300).collect(),
        })?;
        Ok(Self { rules: file.alerts })
    }

    /// What the alert means here. `now` stands in where the alert does not say when it began.
    pub fn meaning(&self, alert: &Alert, here: Here<'_>, now: Timestamp) -> Meaning {
        if let Some(other) = elsewhere(alert, here.names) {
            return Meaning::Elsewhere(foreign(other, MAX_TEXT));
        }
        let name = alert.labels.get("alertname").map_or("", String::as_str);
        let rule = self.rules.iter().find(|rule| rule.names.contains(name));
        let found = rule.and_then(|rule| Some((rule.kind, rule.target(alert, here.targets)?)));
        // A name we know about something that is not listed is as unknown as an unknown name.
        let (kind, target) = found.unwrap_or((FaultKind::Unknown, Target::Host));
        let onset =
            alert.starts_at.parse::<jiff::Timestamp>().ok().and_then(|at| u64::try_from(at.as_millisecond()).ok());
        let fingerprint: String = alert.fingerprint.chars().filter(char::is_ascii_hexdigit).take(32).collect();
        Meaning::Signal(Box::new(Signal {
            source: format!("alert:{}:{fingerprint}", foreign(name, 80)),
            kind,
            target,
            severity: severity(alert),
            summary: foreign(summary(alert, name), MAX_TEXT),
            numbers: Vec::new(),
            onset: Timestamp(onset.unwrap_or(now.0).min(now.0)),
            at: now,
            resolved: alert.status == Status::Resolved,
            origin: Origin::Alert,
        }))
    }
}

impl Rule {
    fn target(&self, alert: &Alert, targets: &[TargetSpec]) -> Option<Target> {
        let listed = |target: Target| targets.iter().any(|spec| spec.target == target).then_some(target);
        let unit = |value: &String| {
            let named = |name: &str| UnitName::parse(name).ok().map(Target::Unit).and_then(listed);
            named(value).or_else(|| named(&format!("{value}.service")))
        };
        let mount = |value: &String| MountPath::parse(value).ok().map(Target::Mount).and_then(listed);
        let labels = |names: &[String]| -> Vec<String> {
            names.iter().filter_map(|name| alert.labels.get(name)).cloned().collect()
        };
        labels(&self.unit).iter().find_map(unit).or_else(|| labels(&self.mount).iter().find_map(mount))
    }
}

/// The machine an alert names, if it is not this one. An alert that names none is taken to be about this one: it was sent here.
fn elsewhere<'a>(alert: &'a Alert, names: &[String]) -> Option<&'a str> {
    let named: Vec<&str> =
        HOST_LABELS.iter().filter_map(|label| alert.labels.get(*label)).map(|value| without_port(value)).collect();
    let ours = |host: &&str| {
        names.iter().any(|name| name.eq_ignore_ascii_case(host))
            || host.eq_ignore_ascii_case("localhost")
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    if named.iter().any(ours) { None } else { named.first().copied() }
}

fn without_port(text: &str) -> &str {
    let text = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).unwrap_or(text);
    let text = text.split('/').next().unwrap_or(text);
    match (text.strip_prefix('['), text.rsplit_once(':')) {
        (Some(v6), _) => v6.split(']').next().unwrap_or(v6),
        // More than one colon and no bracket: an IPv6 address without a port.
        (None, Some((host, port))) if !host.contains(':') && port.bytes().all(|b| b.is_ascii_digit()) => host,
        (None, _) => text,
    }
}

fn severity(alert: &Alert) -> Severity {
    match alert.labels.get("severity").map(String::as_str) {
        Some("critical" | "page" | "emergency" | "error") => Severity::Critical,
        Some("info" | "none") => Severity::Info,
        Some(_) | None => Severity::Warning,
    }
}

fn summary<'a>(alert: &'a Alert, name: &'a str) -> &'a str {
    ["summary", "description", "message"]
        .iter()
        .find_map(|key| alert.annotations.get(*key))
        .map_or(name, String::as_str)
}

#[cfg(test)]
mod tests {
    use theriac_model::catalog::Thresholds;

    use super::*;

    /// Sent by a real Alertmanager 0.25.
    const FIRING: &str = r#"{"receiver":"rt","status":"firing","alerts":[{"status":"firing","labels":{"alertname":"TargetDown","cluster":"test","instance":"127.0.0.1:19199","job":"dead","severity":"page"},"annotations":{"summary":"dead down"},"startsAt":"2026-11-22T08:45:21.648Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://vm:19090/graph?g0.expr=up+%3D%3D+0\u0026g0.tab=1","fingerprint":"a7a63dcb98953a11"}],"groupLabels":{"alertname":"TargetDown","instance":"127.0.0.1:19199"},"commonLabels":{},"commonAnnotations":{},"externalURL":"http://vm:19093","version":"4","groupKey":"{}","truncatedAlerts":0}"#;

    fn meaning(body: &str, targets: &[&str]) -> Meaning {
        let spec = |target: &&str| TargetSpec {
            target: target.parse().unwrap(),
            traffic_share: None,
            health: Vec::new(),
            thresholds: Thresholds::default(),
            backend: None,
        };
        let targets: Vec<TargetSpec> = targets.iter().map(spec).collect();
        let names = ["vps1".to_owned(), "10.0.0.7".to_owned()];
        let here = Here { names: &names, targets: &targets };
        let body = parse(body.as_bytes()).unwrap();
        Mapping::defaults().unwrap().meaning(&body.alerts[0], here, Timestamp(1_800_000_000_000))
    }

    fn signal(meaning: Meaning) -> Signal {
        match meaning {
            Meaning::Signal(signal) => *signal,
            Meaning::Elsewhere(host) => panic!("about {host}"),
        }
    }

    #[test]
    fn a_real_alert_becomes_a_signal_about_the_listed_unit() {
        let signal = signal(meaning(FIRING, &["unit:dead.service"]));
        assert_eq!(
            (signal.kind, signal.target.to_string().as_str()),
            (FaultKind::ServiceUnhealthy, "unit:dead.service")
        );
        assert_eq!((signal.severity, signal.origin, signal.resolved), (Severity::Critical, Origin::Alert, false));
        assert_eq!(signal.source, "alert:TargetDown:a7a63dcb98953a11");
        assert_eq!((signal.onset, signal.summary.as_str()), (Timestamp(1_795_337_121_648), "dead down"));
    }

    #[test]
    fn its_end_has_the_same_source() {
        let resolved = FIRING.replace("\"alerts\":[{\"status\":\"firing\"", "\"alerts\":[{\"status\":\"resolved\"");
        let (begins, ends) = (signal(meaning(FIRING, &[])), signal(meaning(&resolved, &[])));
        assert!(ends.resolved && begins.source == ends.source && begins.target == ends.target);
    }

    #[test]
    fn an_unknown_alert_or_an_unlisted_target_is_an_unknown_fault() {
        assert_eq!(signal(meaning(FIRING, &["unit:web.service"])).kind, FaultKind::Unknown);
        let odd = FIRING.replace("\"alertname\":\"TargetDown\"", "\"alertname\":\"Odd\\u001b[2J\"");
        let signal = signal(meaning(&odd, &["unit:dead.service"]));
        assert_eq!((signal.kind, signal.target), (FaultKind::Unknown, Target::Host));
        assert!(!signal.source.contains('\x1b'));
    }

    #[test]
    fn another_machines_alert_is_not_ours() {
        let of = |instance: &str| meaning(&FIRING.replace("127.0.0.1:19199", instance), &["unit:dead.service"]);
        for ours in ["vps1:9100", "VPS1", "10.0.0.7:9100", "[::1]:9100", "localhost:80", "http://vps1:80/metrics"] {
            assert!(matches!(of(ours), Meaning::Signal(_)), "{ours}");
        }
        for other in ["vps2:9100", "10.0.0.8", "[2001:db8::1]:9100", "vps1.evil.example:80"] {
            assert!(matches!(of(other), Meaning::Elsewhere(_)), "{other}");
        }
    }

    #[test]
    fn a_mount_is_found_by_its_label() {
        let body = FIRING
            .replace("\"alertname\":\"TargetDown\",\"cluster\"", "\"alertname\":\"HostOutOfDiskSpace\",\"cluster\"")
            .replace("\"job\":\"dead\"", "\"mountpoint\":\"/var\"");
        assert_eq!(signal(meaning(&body, &["mount:/var"])).target.to_string(), "mount:/var");
        assert_eq!(signal(meaning(&body, &["mount:/srv"])).kind, FaultKind::Unknown);
    }

    #[test]
    fn what_is_no_webhook_or_too_much_of_one_is_refused() {
        assert!(matches!(parse(b"{}"), Err(BodyError::Json(_))));
        assert!(matches!(
            parse(FIRING.replace("\"version\":\"4\"", "\"version\":\"5\"").as_bytes()),
            Err(BodyError::Version(_))
        ));
        assert!(matches!(parse(&vec![b' '; MAX_BODY + 1]), Err(BodyError::TooLong(_))));
        let alert = r#"{"status":"firing","labels":{}}"#;
        let many = |n: usize| format!(r#"{{"version":"4","alerts":[{}]}}"#, vec![alert; n].join(","));
        assert!(parse(many(MAX_ALERTS).as_bytes()).is_ok());
        assert!(matches!(parse(many(MAX_ALERTS + 1).as_bytes()), Err(BodyError::TooMany(_))));
    }

    #[test]
    fn an_alert_from_the_future_begins_now() {
        let body = FIRING.replace("2026-11-22T08:45:21.648Z", "2999-01-01T00:00:00Z");
        assert_eq!(signal(meaning(&body, &[])).onset, Timestamp(1_800_000_000_000));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            drop(parse(&bytes));
            proptest::prop_assert!(without_port(&String::from_utf8_lossy(&bytes)).len() <= bytes.len() * 3);
        }
    }
}
