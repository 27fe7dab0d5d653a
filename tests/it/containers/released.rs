//! A service whose unit runs a container from a tag, and whose new image is bad: the shipped remedy points the tag at the image before.

use theriac_model::record::Record;
use theriac_model::run::RunState as Life;
use theriac_protocol::layout::Layout;

use super::Courier;
use super::podman::{Podman, with_podman};
use crate::host::{Host, Service, Setup, playbook, proposal};

const TAG: &str = "localhost/shop/api:current";
/// What its image has to hold to answer its health check.
const HEALTH: &str = "www/health";

/// As a unit of the operator's does it: the tag is looked up at each start.
fn launched(engine: &Podman, port: u16) -> String {
    let engine = format!("unix://{}", engine.socket().display());
    let podman =
        ["/usr/bin/podman", "--url", &engine, "run", "--rm", "--replace", "--name", "api", "--network", "host"];
    // The first process of a container gets no TERM that it does not ask for.
    let server = format!("trap 'exit 143' TERM; /bin/busybox httpd -f -h /www -p 127.0.0.1:{port} & wait");
    let command: Vec<&str> = podman.into_iter().chain([TAG, "/bin/sh", "-c", &server]).collect();
    format!(
        "[[service]]\nname = \"api\"\ncommand = {command:?}\nenv = {{ HOME = \"/root\" }}\nautostart = true\nrestart = \"on-failure\"\nrestart_delay = \"100ms\"\nstop_timeout = \"10s\"\n"
    )
}

#[test]
fn a_bad_image_is_left_for_the_one_before_once_a_person_agrees() {
    with_podman(|engine| {
        let dir = Host::scratch();
        let layout = Layout { config: dir.path().join("config"), state: dir.path().join("state") };
        let courier = Courier::start_in(&layout, engine);
        engine.image(TAG, "v2.3.1", &[HEALTH]);
        let service = Service::new("api");
        let health = format!("http = \"http://127.0.0.1:{}/health\", status = 200, timeout = \"300ms\"", service.port);
        let rung = "  - remedy: release-return\n    level: 3\n    healed_within: 10s\n    stable_for: 300ms\n";
        let setup = Setup {
            remedies: vec!["release-return"],
            launcher: launched(engine, service.port),
            rules: format!(
                "\n[[service]]\nname = \"api\"\nverbs = [\"restart\"]\ntraffic_share = 0.1\nhealth = [{{ {health} }}]\nhealth_failures = 2\n\
                 [[release]]\nunit = \"api\"\nimage = \"{TAG}\"\nverbs = [\"switch-back\"]\n"
            ),
            playbooks: vec![("test.yaml", playbook("test", "service-unhealthy", "unit:api", rung))],
            ..Setup::default()
        };
        let host = Host::start_in(dir, &setup);
        Host::wait_for_status(&service, "200");
        let seen = |record: &Record| matches!(record, Record::ReleaseSeen { .. });
        host.wait_for_records("the first image to be seen", 1, seen);
        let old = courier.image(TAG);

        // As a deploy does it: another image takes the tag, and the service is started again.
        engine.image(TAG, "v2.3.2", &["www/index.html"]);
        let new = courier.image(TAG);
        assert_ne!(old, new);
        host.wait_for_records("the second image to be seen", 2, seen);
        host.signal("api", rustix::process::Signal::TERM);
        Host::wait_for_status(&service, "404");

        let wish = proposal("i-1", "service-unhealthy", "unit:api", "test", "release-return");
        let plan = host.consent(&wish);
        let run = host.wait_for(&wish, Life::is_terminal);

        assert_eq!(run.state, Life::Committed, "{run:?}\n{:#?}", host.records());
        println!("planned and done: {plan:?}; {}", run.reason);
        assert!(plan[0].contains(&new.to_string()) && plan[0].contains(&old.to_string()), "{plan:?}");
        assert_eq!(courier.image(TAG), old);
        Host::wait_for_status(&service, "200");
        host.verify_ledger();
    });
}
