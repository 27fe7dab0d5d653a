//! Containers of a real engine, through the real `docker` courier, as the runner holds it.

mod podman;
mod released;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use serde_json::json;
use theriac_authority::host::HostConfig;
use theriac_model::container::{
    ContainerLabel, ContainerName, ContainerRef, ContainerSelector, ContainerState, ContainerVerb, RestartPolicy,
    RunState,
};
use theriac_model::fault::FaultKind;
use theriac_model::health::{HealthAnswer, HealthCheck};
use theriac_model::record::Record;
use theriac_model::release::{ImageId, ImageTag};
use theriac_model::run::RunState as Life;
use theriac_protocol::layout::{Layout, Socket};
use theriac_protocol::runner::{RunnerAnswer, RunnerEvent};
use theriac_runner::backend::Managers;
use theriac_runner::docker::DockerCourier;
use theriac_runner::hands::{Containers as _, HandError, Images as _};
use theriac_runner::observer::{Observer, Prober, Watched};

use crate::host::{Host, Setup, binary, playbook, proposal};
use podman::{OBEDIENT, Podman, until, with_podman};

/// The one that the runner takes by itself.
const COURIER: u32 = 61_108;
/// The engine's own group.
const GROUP: u32 = 61_809;
const JOB: Duration = Duration::from_secs(30);

/// The real courier, as the user and in the group that it has on a packaged machine.
struct Courier {
    child: Child,
    hand: Arc<DockerCourier>,
    _dir: Option<tempfile::TempDir>,
}

impl Courier {
    fn start(engine: &Podman) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout { config: dir.path().to_owned(), state: dir.path().to_owned() };
        let mut courier = Self::start_in(&layout, engine);
        courier._dir = Some(dir);
        courier
    }

    fn start_in(layout: &Layout, engine: &Podman) -> Self {
        fs::create_dir_all(&layout.config).unwrap();
        fs::write(layout.config.join("courier-docker.toml"), format!("socket = {:?}\n", engine.socket())).unwrap();
        chown(engine.socket(), None, Some(GROUP)).unwrap();
        fs::set_permissions(engine.socket(), fs::Permissions::from_mode(0o660)).unwrap();
        // The scratch directory is root's alone; whoever connects has to pass it.
        let mode = |path: &std::path::Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        mode(engine.socket().parent().unwrap());
        let child = Command::new(binary("theriac-courier"))
            .arg("docker")
            .arg("--config")
            .arg(&layout.config)
            .arg("--state")
            .arg(&layout.state)
            .args(["--uid", &COURIER.to_string(), "--gid", &COURIER.to_string()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let socket = layout.socket(Socket::CourierDocker);
        until("the courier", || UnixStream::connect(&socket).ok());
        Self { child, hand: Arc::new(DockerCourier::new(&socket, 1)), _dir: None }
    }

    fn find(&self, name: &str) -> ContainerState {
        self.hand.find(&named(name)).unwrap()
    }

    fn image(&self, tag: &str) -> ImageId {
        self.hand.image(&ImageTag::parse(tag).unwrap()).unwrap()
    }

    fn change(&self, container: &ContainerRef, verb: ContainerVerb) -> Result<ContainerState, HandError> {
        self.hand.change(container, verb, JOB)
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn named(name: &str) -> ContainerSelector {
    ContainerSelector::Name(ContainerName::parse(name).unwrap())
}

fn labelled(label: &str) -> ContainerSelector {
    ContainerSelector::Label(ContainerLabel::parse(label).unwrap())
}

fn with_both(test: impl FnOnce(&Podman, &Courier)) {
    with_podman(|engine| test(engine, &Courier::start(engine)));
}

#[test]
fn a_container_is_found_by_its_name_or_by_a_label_that_only_it_has() {
    with_both(|engine, courier| {
        let id = engine.create("shop-api-1", OBEDIENT, &json!({ "Labels": { "app": "api", "heal": "yes" } }));
        engine.create("shop-db-1", OBEDIENT, &json!({ "Labels": { "app": "db", "heal": "yes" } }));
        let found = courier.find("shop-api-1");
        assert_eq!((found.id.as_str(), found.run, found.started.as_str()), (id.as_str(), RunState::Created, ""));
        assert_eq!(courier.hand.find(&labelled("app=api")).unwrap(), found);
        assert!(matches!(courier.hand.find(&labelled("heal=yes")), Err(HandError::Refused { .. })), "two have it");
        for absent in [named("shop-api"), named("shop-cache"), labelled("app=ap"), labelled("app=cache")] {
            assert!(matches!(courier.hand.find(&absent), Err(HandError::Stale { .. })), "{absent}");
        }
        // Engines take this for the container whose id begins so.
        assert!(matches!(courier.hand.find(&named(found.id.short())), Err(HandError::Stale { .. })));
    });
}

#[test]
fn a_container_is_started_stopped_and_restarted_and_its_output_read() {
    with_both(|engine, courier| {
        engine.create("api", OBEDIENT, &json!({}));
        let started = courier.change(&courier.find("api").reference(), ContainerVerb::Start).unwrap();
        assert_eq!((started.run, started.policy), (RunState::Running, RestartPolicy::No));
        assert!(started.since_ms.is_some_and(|ms| ms < 60_000), "{started:?}");
        let lines =
            until("its output", || Some(courier.hand.log_tail(&started.id, 10).unwrap()).filter(|l| l.len() == 2));
        assert_eq!(lines, ["started", "trouble"], "both streams, taken apart");
        assert_eq!(courier.hand.log_tail(&started.id, 1).unwrap(), ["trouble"]);

        let restarted = courier.change(&started.reference(), ContainerVerb::Restart).unwrap();
        assert!(restarted.run == RunState::Running && restarted.started != started.started);
        let stopped = courier.change(&restarted.reference(), ContainerVerb::Stop).unwrap();
        assert_eq!(
            (stopped.run, &stopped.started),
            (RunState::Exited, &restarted.started),
            "its life has the same name"
        );
        // It is so already: no error, and no second stop.
        assert_eq!(courier.change(&stopped.reference(), ContainerVerb::Stop).unwrap().run, RunState::Exited);
    });
}

#[test]
fn another_container_under_the_same_name_or_another_life_is_not_touched() {
    with_both(|engine, courier| {
        engine.create("api", OBEDIENT, &json!({}));
        engine.by_hand("api", "start");
        let first = courier.find("api");
        engine.by_hand("api", "restart");
        let second = courier.find("api");
        assert!(matches!(courier.change(&first.reference(), ContainerVerb::Stop), Err(HandError::Stale { .. })));
        let untouched = courier.find("api");
        assert_eq!((untouched.run, untouched.started), (RunState::Running, second.started.clone()));

        engine.remove("api");
        engine.create("api", OBEDIENT, &json!({}));
        engine.by_hand("api", "start");
        for verb in [ContainerVerb::Stop, ContainerVerb::Restart, ContainerVerb::Start] {
            assert!(matches!(courier.change(&second.reference(), verb), Err(HandError::Stale { .. })), "{verb:?}");
        }
        let third = courier.find("api");
        assert!(third.run == RunState::Running && third.id != second.id);
        // Its positive twin.
        assert_eq!(courier.change(&third.reference(), ContainerVerb::Stop).unwrap().run, RunState::Exited);
    });
}

#[test]
fn a_tag_is_pointed_at_the_image_before_and_what_is_started_from_it_is_that_one() {
    with_both(|engine, courier| {
        let hand = &courier.hand;
        let tag = ImageTag::parse("localhost/shop/api:current").unwrap();
        assert!(matches!(hand.image(&tag), Err(HandError::Stale { .. })), "nobody has tagged anything yet");
        let deploy = |version: &str| {
            engine.image("localhost/shop/api:current", version, &[]);
            hand.image(&tag).unwrap()
        };
        let (old, new) = (deploy("v2.3.1"), deploy("v2.3.2"));
        assert_ne!(old, new);
        let version = || {
            engine.create_from("api", &tag.to_string(), "cat /version; sleep 600");
            engine.by_hand("api", "start");
            let id = courier.find("api").id;
            let said = until("its version", || hand.log_tail(&id, 1).unwrap().pop());
            engine.remove("api");
            said
        };
        assert_eq!(version(), "v2.3.2");

        hand.point_tag(&tag, &new, &old).unwrap();
        assert_eq!((hand.image(&tag).unwrap(), version()), (old.clone(), "v2.3.1".to_owned()));

        // Somebody has moved it; an image that the engine does not have is not fetched from anywhere.
        assert!(matches!(hand.point_tag(&tag, &new, &old), Err(HandError::Stale { .. })));
        let unknown = ImageId::parse(&format!("sha256:{}", "0".repeat(64))).unwrap();
        assert!(matches!(hand.has_image(&unknown), Err(HandError::Stale { .. })));
        assert!(matches!(hand.point_tag(&tag, &old, &unknown), Err(HandError::Stale { .. })));
        assert_eq!(hand.image(&tag).unwrap(), old);
        hand.has_image(&new).unwrap();
        hand.point_tag(&tag, &old, &new).unwrap();
        assert_eq!(version(), "v2.3.2", "and forward again");
    });
}

#[test]
fn a_restart_loop_is_seen_counted_and_ended() {
    with_both(|engine, courier| {
        let again = json!({ "HostConfig": { "NetworkMode": "none", "RestartPolicy": { "Name": "always" } } });
        engine.create("loop", "exit 3", &again);
        engine.by_hand("loop", "start");
        let seen = until("three restarts", || Some(courier.find("loop")).filter(|state| state.restarts >= 3));
        assert!(seen.is_in_loop() && !seen.stopped_on_purpose(), "{seen:?}");
        let between = until("the time between two", || Some(courier.find("loop")).filter(ContainerState::will_restart));
        assert_eq!((between.run, between.exit_code), (RunState::Restarting, 3));

        // One life of it is gone before anybody can name it; the loop is the same one.
        until("another life", || (courier.find("loop").started != seen.started).then_some(()));
        let stale = courier.change(&seen.reference(), ContainerVerb::Stop);
        assert!(matches!(stale, Err(HandError::Stale { .. })), "{stale:?}");
        let stopped = courier.change(&seen.reference_to_loop(), ContainerVerb::Stop).unwrap();
        assert!(stopped.run == RunState::Exited && stopped.stopped_on_purpose(), "{stopped:?}");
        println!("ended a loop after {} restarts", stopped.restarts);

        // A start by hand begins a new count: the old loop is over.
        engine.by_hand("loop", "start");
        let fresh = courier.find("loop");
        if fresh.restarts < seen.restarts {
            let over = courier.change(&seen.reference_to_loop(), ContainerVerb::Stop);
            assert!(matches!(over, Err(HandError::Stale { .. })) || courier.find("loop").restarts >= seen.restarts);
        }
    });
}

#[test]
fn the_runner_measures_a_loop_and_a_failure_by_itself_and_tells_of_them() {
    with_both(|engine, courier| {
        let again = json!({ "HostConfig": { "NetworkMode": "none", "RestartPolicy": { "Name": "always" } } });
        engine.create("loop", "sleep 0.2; exit 3", &again);
        engine.create("failed", "exit 7", &json!({}));
        engine.create("well", OBEDIENT, &json!({}));
        let text = "[[container]]\nlabel = \"loop\"\nname = \"loop\"\n[[container]]\nlabel = \"failed\"\nname = \"failed\"\n\
                    [[container]]\nlabel = \"well\"\nname = \"well\"\n";
        let host = HostConfig::parse(text).unwrap();
        let selectors = host.containers.iter().map(|entry| (entry.label.clone(), entry.selector.clone())).collect();
        let watched = Watched { hand: Some(Arc::clone(&courier.hand) as _), selectors, databases: None };
        let (tell, told) = mpsc::channel();
        let tell = move |event| drop(tell.send(event));
        let observer = Observer::new(host.catalog_targets(), Managers::default(), watched, Arc::new(Nobody), tell);
        observer.start(Duration::from_millis(100)).unwrap();
        for name in ["loop", "failed", "well"] {
            engine.by_hand(name, "start");
        }
        let measured =
            |target: &str| observer.measure(FaultKind::ContainerUnhealthy, &target.parse().unwrap()).unwrap();
        let looping = until("the loop to be measured", || {
            Some(measured("container:loop")).filter(|measured| measured.present == Some(true))
        });
        println!("measured: {}", looping.summary);
        assert!(looping.summary.contains("by its engine, threshold 3"), "{}", looping.summary);
        let failed = until("the failure to be measured", || {
            Some(measured("container:failed")).filter(|measured| measured.present == Some(true))
        });
        assert!(failed.summary.contains("last exit code 7"), "{}", failed.summary);
        assert_eq!(measured("container:well").present, Some(false));
        engine.by_hand("well", "stop");
        until("its end to be told", || {
            told.try_iter().any(|event| {
                matches!(event, RunnerEvent::Container { label, state } if label.as_str() == "well" && !state.is_up())
            }).then_some(())
        });
        observer.stop();
    });
}

struct Nobody;

impl Prober for Nobody {
    fn check(&self, _check: &HealthCheck) -> Option<HealthAnswer> {
        None
    }
}

#[test]
fn a_failure_is_told_from_a_stop_and_a_courier_that_dies_in_the_middle_is_not_a_no() {
    with_both(|engine, courier| {
        engine.create("failed", "exit 7", &json!({}));
        engine.by_hand("failed", "start");
        let failed = until("its end", || Some(courier.find("failed")).filter(|state| state.run == RunState::Exited));
        assert!(failed.exit_code == 7 && !failed.stopped_on_purpose(), "{failed:?}");
    });
    with_podman(|engine| {
        // Takes no notice of TERM: the engine waits ten seconds for it.
        engine.create("deaf", "trap '' TERM; while :; do sleep 0.05; done", &json!({ "StopTimeout": 10 }));
        engine.by_hand("deaf", "start");
        let mut courier = Courier::start(engine);
        let deaf = courier.find("deaf").reference();
        let hand = &courier.hand;
        let child = &mut courier.child;
        std::thread::scope(|scope| {
            let asked = scope.spawn(move || hand.change(&deaf, ContainerVerb::Stop, JOB));
            until("the engine to be at it", || (engine.status("deaf") != "running").then_some(()));
            child.kill().unwrap();
            let answer = asked.join().unwrap();
            assert!(matches!(answer, Err(HandError::Unknown { .. })), "{answer:?}");
        });
    });
}

#[test]
fn the_courier_is_sealed_has_no_right_and_only_the_engines_group() {
    with_both(|engine, courier| {
        engine.create("api", OBEDIENT, &json!({}));
        courier.find("api");
        let status = fs::read_to_string(format!("/proc/{}/status", courier.child.id())).unwrap();
        for line in [
            format!("Uid:\t{COURIER}\t{COURIER}\t{COURIER}\t{COURIER}"),
            format!("Gid:\t{GROUP}\t{GROUP}\t{GROUP}\t{GROUP}"),
            "CapEff:\t0000000000000000".to_owned(),
            "Seccomp:\t2".to_owned(),
            "NoNewPrivs:\t1".to_owned(),
            "Threads:\t1".to_owned(),
        ] {
            assert!(status.contains(&line), "{line}: {status}");
        }
        assert!(status.lines().any(|line| line.trim_end() == "Groups:"), "{status}");
        let inet = ["tcp", "tcp6", "udp", "udp6"].iter().any(|table| owns_a_socket_of(courier.child.id(), table));
        assert!(!inet, "it has a socket of the network");
    });
}

fn owns_a_socket_of(pid: u32, table: &str) -> bool {
    let table = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
    let inodes: Vec<&str> = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(9)).collect();
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten().any(|entry| {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let target = target.to_string_lossy();
        inodes.iter().any(|inode| *target == format!("socket:[{inode}]"))
    })
}

/// Fails once, and works from then on.
const FAILS_ONCE: &str = "if [ -e /failed ]; then trap 'exit 0' TERM; while :; do sleep 0.05; done; fi; echo giving up >&2; echo > /failed; exit 7";

#[test]
fn a_container_that_has_failed_is_healed_by_a_remedy_and_one_that_was_stopped_is_left_alone() {
    with_podman(|engine| {
        let dir = Host::scratch();
        let layout = Layout { config: dir.path().join("config"), state: dir.path().join("state") };
        // The runner's epoch is the first that this courier hears of.
        let courier = Courier::start_in(&layout, engine);
        engine.create("shop-api", FAILS_ONCE, &json!({ "Labels": { "app": "api" } }));
        engine.by_hand("shop-api", "start");
        let rung = "  - remedy: container-restart\n    level: 1\n    healed_within: 5s\n    stable_for: 300ms\n";
        let setup = Setup {
            remedies: vec!["container-restart"],
            rules: "\n[[container]]\nlabel = \"api\"\ndocker_label = \"app=api\"\nverbs = [\"start\", \"restart\"]\ntraffic_share = 0.1\n".into(),
            playbooks: vec![("test.yaml", playbook("test", "container-unhealthy", "container:api", rung))],
            ..Setup::default()
        };
        let host = Host::start_in(dir, &setup);
        until("its end", || (engine.status("shop-api") == "exited").then_some(()));
        let first = proposal("i-1", "container-unhealthy", "container:api", "test", "container-restart");
        let run = host.heal(&first);
        assert_eq!(run.state, Life::Committed, "{run:?}\n{:#?}", host.records());
        assert_eq!(engine.status("shop-api"), "running");
        let records = host.records();
        let planned = records.iter().find_map(|record| match record {
            Record::Planned { plan, .. } => Some(plan.effects.iter().map(|e| e.effect.to_string()).collect::<Vec<_>>()),
            _ => None,
        });
        println!("planned and done: {planned:?}; {}", run.reason);
        assert!(planned.is_some_and(
            |effects| matches!(&effects[..], [one] if one.starts_with("start the container labelled app=api"))
        ));
        assert!(
            records
                .iter()
                .any(|record| matches!(record, Record::RemedyLog { text, .. } if text.contains("log: giving up")))
        );
        assert!(records.iter().any(|record| matches!(record, Record::Denied { denial, .. } if denial.rule == "verbs")));

        // A person stops it: the runner measures no fault, and nothing is done.
        engine.by_hand("shop-api", "stop");
        let second = proposal("i-2", "container-unhealthy", "container:api", "test", "container-restart");
        if let RunnerAnswer::Accepted { .. } = host.propose(&second) {
            let run = host.wait_for(&second, Life::is_terminal);
            assert_ne!(run.state, Life::Committed, "{run:?}");
        }
        assert_eq!(engine.status("shop-api"), "exited");
        host.verify_ledger();
        drop(courier);
    });
}
