//! The whole agent but its process: real configuration files, sockets, frames, inbox, samples and rules.

use std::path::Path;
use std::time::{Duration, Instant};

use theriac_model::catalog::Catalog;
use theriac_model::database::PoolState;
use theriac_model::diagnosis::EvidenceSource;
use theriac_model::fault::FaultKind;
use theriac_model::id::{EvidenceId, IncidentId, Label, RunId, UnitName};
use theriac_model::incident::{Incident, IncidentState};
use theriac_model::record::{IncidentSummary, Proposal};
use theriac_model::run::RunState;
use theriac_model::time::{Span, Timestamp};
use theriac_model::unit::{ActiveState, UnitState};
use theriac_model::units::Permille;
use theriac_protocol::agent::{AgentAnswer, AgentRequest, AgentStatus};
use theriac_protocol::frame::Frame;
use theriac_protocol::layout::{Layout, Socket};
use theriac_protocol::runner::{RunSummary, RunnerEvent, RunnerRequest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use crate::clock::wall;
use crate::daemon::{Settings, assemble, prepare};
use crate::fake_runner::FakeRunner;
use crate::incidents::tests::catalog;
use crate::runner_link::{read, write};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// An agent in a directory of its own.
struct Agent {
    layout: Layout,
    task: JoinHandle<()>,
}

impl Agent {
    fn start(dir: &Path, config: &str) -> Self {
        let layout = Layout { config: dir.to_owned(), state: dir.to_owned() };
        std::fs::write(dir.join("agent.toml"), config).unwrap();
        let prepared = prepare(&Settings { layout: layout.clone(), identity: None }).unwrap();
        let task = spawn_local(async move { assemble(prepared).unwrap().run(std::future::pending()).await });
        Self { layout, task }
    }

    fn runner(&self, catalog: Catalog) -> FakeRunner {
        FakeRunner::start(&self.layout.socket(Socket::Runner), catalog)
    }

    async fn ask(&self, request: AgentRequest) -> AgentAnswer {
        let mut stream = UnixStream::connect(self.layout.socket(Socket::Agent)).await.unwrap();
        write(&mut stream, &Frame { epoch: 0, id: 9, message: request }).await.unwrap();
        read(&mut stream).await.unwrap().message
    }

    async fn incident(&self, id: &IncidentId) -> Incident {
        let answer = self.ask(AgentRequest::Incident { id: id.clone() }).await;
        let AgentAnswer::Incident(Some(incident)) = answer else { panic!("{answer:?}") };
        *incident
    }

    async fn status(&self) -> AgentStatus {
        let answer = self.ask(AgentRequest::Status).await;
        let AgentAnswer::Status(status) = answer else { panic!("{answer:?}") };
        status
    }

    /// Like a SIGKILL: nothing is said goodbye to, only locks and sockets are gone.
    async fn kill(self) {
        self.task.abort();
        drop(self.task.await);
        while UnixStream::connect(self.layout.socket(Socket::Agent)).await.is_ok() {}
    }

    async fn http(&self, request: &str) -> (u16, String) {
        let address = self.status().await.listen.unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        (answer[9..12].parse().unwrap(), answer)
    }
}

fn test(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bounded =
        async { tokio::time::timeout(Duration::from_secs(60), future).await.expect("it happens within a minute") };
    LocalSet::new().block_on(&runtime, bounded);
}

/// No tick within a test: what happens, happens by events.
fn without_ticks() -> Catalog {
    Catalog { sample_every: Span::from_secs(3_600), ..catalog("unit:web", &["a", "b"]) }
}

fn unit(active: ActiveState) -> RunnerEvent {
    RunnerEvent::Unit(UnitState {
        name: UnitName::parse("web").unwrap(),
        active,
        sub: "running".into(),
        result: if active == ActiveState::Failed { "signal" } else { "success" }.into(),
        invocation: "0123456789abcdef0123456789abcdef".into(),
        main_pid: 0,
        main_start: 0,
        restarts: 0,
        since_ms: 5,
        will_restart: false,
        stopped_on_purpose: false,
        needs_reload: false,
        cgroup: String::new(),
        pids: Vec::new(),
    })
}

fn run(proposal: &Proposal, state: RunState, healed: bool) -> RunnerEvent {
    RunnerEvent::Run(summary(proposal, state, healed))
}

fn summary(proposal: &Proposal, state: RunState, healed: bool) -> RunSummary {
    let at = wall();
    RunSummary {
        run: RunId::parse(&format!("r-{}", proposal.rung)).unwrap(),
        incident: proposal.incident.clone(),
        target: proposal.target.clone(),
        rung: proposal.rung,
        state,
        reason: "so it is".into(),
        at,
        first_effect: healed.then_some(at),
        healed: healed.then_some(at),
        stable: (state == RunState::Committed).then_some(at),
        verdict: None,
        effects: u32::from(healed),
        tell: false,
        declined: false,
    }
}

async fn ended(runner: &mut FakeRunner) -> IncidentSummary {
    let ended = |request: &RunnerRequest| {
        if let RunnerRequest::IncidentEnded(summary) = request { Some(summary.clone()) } else { None }
    };
    runner.next(ended).await
}

#[test]
fn a_crash_is_one_proposal_without_a_tick_and_its_end_is_reported() {
    test(async {
        let dir = tempfile::tempdir().unwrap();
        let agent = Agent::start(dir.path(), "");
        let mut runner = agent.runner(without_ticks());
        runner.subscribed().await;
        runner.tell(unit(ActiveState::Active));
        // The status is answered after the catalog is in force.
        while agent.status().await.series == 0 {}
        let began = Instant::now();
        runner.tell(unit(ActiveState::Failed));
        let proposal = runner.proposal().await;
        println!("from event to proposal: {:?}", began.elapsed());
        assert_eq!((proposal.kind, proposal.rung), (FaultKind::ServiceCrash, 0));
        assert!(proposal.detected.since(proposal.onset) < Duration::from_secs(1) && !proposal.evidence.is_empty());
        runner.tell(run(&proposal, RunState::Running, false));
        runner.tell(run(&proposal, RunState::Verifying, true));
        runner.tell(unit(ActiveState::Active));
        runner.tell(run(&proposal, RunState::Committed, true));
        let summary = ended(&mut runner).await;
        assert!(summary.healed_ms.is_some() && summary.stable_ms.is_some() && !summary.false_alarm);
        let incident = agent.incident(&proposal.incident).await;
        assert_eq!((incident.state, incident.runs.len()), (IncidentState::Closed, 1));
        assert!(incident.diagnosis.unwrap().causes.iter().any(|cause| cause.rule == "killed-by-signal"));
        assert_eq!(runner.more_proposals(), 0);
    });
}

#[test]
fn a_pool_that_the_runner_tells_to_be_exhausted_is_one_proposal_without_a_tick() {
    test(async {
        let dir = tempfile::tempdir().unwrap();
        let agent = Agent::start(dir.path(), "");
        let mut catalog = Catalog { sample_every: Span::from_secs(3_600), ..catalog("pool:main", &["a"]) };
        catalog.playbooks[0].handles.push(FaultKind::DbConnectionsExhausted);
        catalog.remedies[0].handles.push(FaultKind::DbConnectionsExhausted);
        let mut runner = agent.runner(catalog);
        runner.subscribed().await;
        while agent.status().await.series == 0 {}
        let told = |used| {
            let state = PoolState::Counted { used, max: 103, reserved: 3 };
            RunnerEvent::Pool { database: Label::parse("main").unwrap(), state }
        };
        runner.tell(told(89));
        runner.tell(told(90));
        let proposal = runner.proposal().await;
        assert_eq!((proposal.kind, proposal.target), (FaultKind::DbConnectionsExhausted, "pool:main".parse().unwrap()));
        let incident = agent.incident(&proposal.incident).await;
        let summary = &incident.signals[0].summary;
        assert_eq!(summary, "90.0 % of the connections of pool:main are used, threshold 90.0 %");
        assert!(incident.diagnosis.unwrap().causes.iter().any(|cause| cause.rule == "connections-used-up"));
        runner.tell(told(91));
        assert_eq!(runner.more_proposals(), 0);
    });
}

#[test]
fn a_proposal_waits_for_no_log_and_the_log_is_evidence_that_names_a_cause_beside_what_was_measured() {
    test(async {
        let dir = tempfile::tempdir().unwrap();
        let agent = Agent::start(dir.path(), "");
        let mut runner = agent.runner(without_ticks());
        *runner.log.borrow_mut() =
            ["bind() failed: Address already in use", "\x1b[2Jrestart it now"].map(str::to_owned).into();
        runner.subscribed().await;
        runner.tell(unit(ActiveState::Failed));
        let proposal = runner.proposal().await;
        assert!(!proposal.evidence.iter().any(|(_, summary)| summary.contains("bind()")));
        let asked = |request: &RunnerRequest| {
            if let RunnerRequest::LogTail { unit, lines } = request { Some((unit.to_string(), *lines)) } else { None }
        };
        assert_eq!(runner.next(asked).await, ("web".to_owned(), 20));
        // It is up again before the log is read: the log is about the crash all the same.
        runner.tell(unit(ActiveState::Active));
        let told = |incident: &Incident| -> Vec<String> {
            let logs = incident.evidence.iter().filter(|piece| piece.source == EvidenceSource::Log);
            logs.map(|piece| piece.summary.clone()).collect()
        };
        let incident = loop {
            let incident = agent.incident(&proposal.incident).await;
            if !told(&incident).is_empty() {
                break incident;
            }
        };
        assert_eq!(told(&incident), ["bind() failed: Address already in use", "\\u{1b}[2Jrestart it now"]);
        let cause = incident.diagnosis.unwrap().causes.into_iter().find(|cause| cause.rule == "port-taken").unwrap();
        let cited = |id: &EvidenceId| incident.evidence.iter().find(|piece| piece.id == *id).unwrap().source;
        let cited: Vec<EvidenceSource> = cause.evidence.iter().map(cited).collect();
        assert!(cited.contains(&EvidenceSource::Log) && cited.contains(&EvidenceSource::UnitState), "{cited:?}");
        assert_eq!(runner.more_proposals(), 0, "a log starts nothing");
    });
}

#[test]
fn a_runner_that_died_is_asked_again_when_it_is_back() {
    test(async {
        let dir = tempfile::tempdir().unwrap();
        let agent = Agent::start(dir.path(), "");
        let mut runner = agent.runner(without_ticks());
        runner.subscribed().await;
        runner.tell(unit(ActiveState::Failed));
        let lost = runner.proposal().await;
        drop(runner);
        while agent.status().await.runner_connected {}
        assert_eq!(agent.incident(&lost.incident).await.state, IncidentState::Planned);
        let mut runner = agent.runner(without_ticks());
        let again = runner.proposal().await;
        assert_eq!((again.incident, again.rung), (lost.incident, 0), "the new runner knows no run of it");
    });
}

#[test]
fn an_agent_that_died_goes_on_with_its_incident_and_asks_how_far_the_run_got() {
    test(async {
        let dir = tempfile::tempdir().unwrap();
        let agent = Agent::start(dir.path(), "");
        let mut runner = agent.runner(without_ticks());
        runner.subscribed().await;
        runner.tell(unit(ActiveState::Failed));
        let proposal = runner.proposal().await;
        runner.tell(run(&proposal, RunState::Running, false));
        while agent.incident(&proposal.incident).await.state != IncidentState::Healing {}
        agent.kill().await;
        runner.runs.borrow_mut().push(summary(&proposal, RunState::Committed, true));
        let agent = Agent::start(dir.path(), "");
        let summary = ended(&mut runner).await;
        assert_eq!((summary.incident, summary.false_alarm), (proposal.incident.clone(), false));
        assert_eq!(agent.incident(&proposal.incident).await.state, IncidentState::Closed);
        assert_eq!(runner.more_proposals(), 0);
    });
}

#[test]
fn a_real_file_system_below_its_threshold_is_found_by_the_samples() {
    test(async {
        let dir = tempfile::tempdir().unwrap();
        let agent = Agent::start(dir.path(), "");
        let mut full = Catalog { sample_every: Span::from_millis(100), ..catalog("mount:/", &["a"]) };
        // Every file system that holds anything is below this.
        full.targets[0].thresholds.disk_full = Permille::FULL;
        let mut runner = agent.runner(full);
        let proposal = runner.proposal().await;
        assert_eq!((proposal.kind, proposal.target.to_string().as_str()), (FaultKind::DiskFull, "mount:/"));
        assert!(proposal.evidence.iter().any(|(_, summary)| summary.contains("disk_available of mount:/")));
    });
}

fn alert(name: &str, status: &str, starts: &str) -> String {
    format!(
        r#"{{"version":"4","alerts":[{{"status":"{status}","labels":{{"alertname":"{name}","job":"web","severity":"page"}},"annotations":{{"summary":"web is down"}},"startsAt":"{starts}","fingerprint":"a7a63dcb98953a11"}}]}}"#
    )
}

fn post(body: &str) -> String {
    format!(
        "POST /api/v1/alert/immediate HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn an_alert_is_on_disk_before_it_is_acknowledged_and_the_same_one_again_is_known_after_a_crash() {
    test(async {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), TOKEN).unwrap();
        let token = dir.path().join("token").display().to_string();
        let config = format!("[listen]\naddress = \"127.0.0.1:0\"\ntoken_file = \"{token}\"\n");
        let agent = Agent::start(dir.path(), &config);
        let mut runner = agent.runner(without_ticks());
        runner.subscribed().await;
        while agent.status().await.series == 0 {}
        let firing = alert("TargetDown", "firing", "2026-11-22T08:45:21.648Z");
        let (status, text) = agent.http(&post(&firing)).await;
        assert!(status == 200 && text.contains("1 kept, 0 known"), "{text}");
        let proposal = runner.proposal().await;
        assert_eq!(proposal.kind, FaultKind::ServiceUnhealthy);
        agent.kill().await;
        let agent = Agent::start(dir.path(), &config);
        let (status, text) = agent.http(&post(&firing)).await;
        assert!(status == 200 && text.contains("0 kept, 1 known"), "{text}");
        assert_eq!(agent.incident(&proposal.incident).await.signals.len(), 1);
        let (_, page) = agent.http("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:1\r\nConnection: close\r\n\r\n").await;
        assert!(
            page.contains("theriac_alerts_total{result=\"known\"} 1\n") && page.contains("theriac_incidents_open 1\n"),
            "{page}"
        );
    });
}

#[test]
fn people_are_told_of_an_escalation_and_the_heartbeat_stops_without_the_runner() {
    test(async {
        let dir = tempfile::tempdir().unwrap();
        let receiver = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = format!("[[notify]]\nurl = \"http://{}/hook\"\n", receiver.local_addr().unwrap());
        let agent = Agent::start(dir.path(), &(config + "[listen]\naddress = \"127.0.0.1:0\"\n"));
        let healthz = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let (status, text) = agent.http(healthz).await;
        assert!(status == 503 && text.contains("the runner can't be reached"), "{text}");
        let mut runner = agent.runner(without_ticks());
        runner.subscribed().await;
        runner.tell(unit(ActiveState::Failed));
        let proposal = runner.proposal().await;
        runner.tell(RunnerEvent::Run(RunSummary { declined: true, ..summary(&proposal, RunState::Refused, false) }));
        let (mut stream, _) = receiver.accept().await.unwrap();
        let mut text = vec![0; 4_096];
        let mut length = 0;
        while !text[..length].ends_with(b"}") {
            length += stream.read(&mut text[length..]).await.unwrap();
        }
        let text = String::from_utf8(text[..length].to_vec()).unwrap();
        assert!(text.starts_with("POST /hook") && text.contains("\"event\":\"escalated\""), "{text}");
        assert!(text.contains(proposal.incident.as_str()));
        assert_eq!(agent.http(healthz).await.0, 200);
        assert!(agent.incident(&proposal.incident).await.detected >= Timestamp(1));
    });
}
