//! Alertmanager's webhook: the one body that anybody on the network may send.

use theriac_analysis::alert::{self, Here, MAX_ALERTS, Mapping, Meaning};
use theriac_model::catalog::{TargetSpec, Thresholds};
use theriac_model::target::Target;
use theriac_model::time::Timestamp;

use crate::{Answer, assert_one_line, refused};

const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// Whatever the body holds: the signal's texts are one line each, its target is a listed one, and it begins before now.
pub(crate) fn check(bytes: &[u8]) -> Answer {
    let body = match alert::parse(bytes) {
        Ok(body) => body,
        Err(error) => return refused(&error),
    };
    assert!(body.alerts.len() <= MAX_ALERTS, "{} alerts", body.alerts.len());
    let listed = ["unit:dead.service", "mount:/var"].map(|target| TargetSpec {
        target: target.parse().expect("a target"),
        traffic_share: None,
        health: Vec::new(),
        thresholds: Thresholds::default(),
        backend: None,
    });
    let names = ["vps1".to_owned(), "10.0.0.7".to_owned()];
    let mapping = Mapping::defaults().expect("the rules that ship");
    for alert in &body.alerts {
        match mapping.meaning(alert, Here { names: &names, targets: &listed }, NOW) {
            Meaning::Elsewhere(host) => assert_one_line(&host),
            Meaning::Signal(signal) => {
                assert_one_line(&signal.source);
                assert_one_line(&signal.summary);
                assert!(signal.onset <= NOW, "an alert from the future");
                let known = signal.target == Target::Host || listed.iter().any(|spec| spec.target == signal.target);
                assert!(known, "{} is not listed", signal.target);
            }
        }
    }
    Answer::Taken
}
