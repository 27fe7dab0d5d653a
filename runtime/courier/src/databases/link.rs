//! The connection to one server: made at the start, kept, made again when it breaks, and used by one question at a time.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use theriac_model::database::{DatabaseKind, PoolState, Setting};
use theriac_protocol::database::{DatabaseAnswer, DatabaseNo, DatabaseRequest};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::config::Server;
use super::mysql::Mysql;
use super::postgres::Postgres;
use super::rows::Fault;

/// A server that does not let one in within this time is not there.
const CONNECT: Duration = Duration::from_secs(5);
/// From the question to its answer, waiting for others included; the runner waits longer.
const QUESTION: Duration = Duration::from_secs(12);
/// How often a connection that is not used is tried.
const TRIED_EVERY: Duration = Duration::from_secs(10);
/// Between two attempts to connect, at first; doubled each time, up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// Questions come in bunches: after a failed attempt, those that follow within this time are answered with its reason.
const FAILURE_HOLDS: Duration = Duration::from_secs(1);

/// One server and the connection to it.
pub(super) struct Link {
    server: Server,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<Connection>,
    /// When the last attempt failed, and why.
    failed: Option<(Instant, Fault)>,
    /// It was said in the log that the server can't be reached.
    said: bool,
}

/// A connection, and what is asked through it.
enum Connection {
    Postgres(Postgres),
    Mysql(Mysql),
}

impl Connection {
    async fn open(server: &Server) -> Result<Self, Fault> {
        match server.listed.kind {
            DatabaseKind::Postgres => Postgres::connect(server).await.map(Self::Postgres),
            DatabaseKind::Mysql => Mysql::connect(server).await.map(Self::Mysql),
        }
    }

    async fn ping(&mut self) -> Result<(), Fault> {
        match self {
            Self::Postgres(postgres) => postgres.ping().await,
            Self::Mysql(mysql) => mysql.ping().await,
        }
    }

    async fn answer(&mut self, request: &DatabaseRequest) -> Result<DatabaseAnswer, Fault> {
        use DatabaseAnswer as Answer;
        match (request, self) {
            (DatabaseRequest::Sessions { .. }, Self::Postgres(postgres)) => {
                postgres.sessions().await.map(Answer::Sessions)
            }
            (DatabaseRequest::Sessions { .. }, Self::Mysql(mysql)) => mysql.sessions().await.map(Answer::Sessions),
            (DatabaseRequest::Pool { .. }, Self::Postgres(postgres)) => postgres.pool().await.map(Answer::Pool),
            (DatabaseRequest::Pool { .. }, Self::Mysql(mysql)) => mysql.pool().await.map(Answer::Pool),
            (DatabaseRequest::Settings { settings, .. }, Self::Postgres(postgres)) => {
                postgres.settings(&of_kind(settings, DatabaseKind::Postgres)).await.map(Answer::Settings)
            }
            (DatabaseRequest::Settings { settings, .. }, Self::Mysql(mysql)) => {
                mysql.settings(&of_kind(settings, DatabaseKind::Mysql)).await.map(Answer::Settings)
            }
            (DatabaseRequest::Terminate { termination, .. }, Self::Postgres(postgres)) => {
                postgres.terminate(termination).await.map(|()| Answer::Terminated)
            }
            (DatabaseRequest::Terminate { termination, .. }, Self::Mysql(mysql)) => {
                mysql.terminate(termination).await.map(|()| Answer::Terminated)
            }
            (DatabaseRequest::Set { change, .. }, Self::Postgres(postgres)) => {
                postgres.set(change).await.map(Answer::Set)
            }
            (DatabaseRequest::Set { change, .. }, Self::Mysql(mysql)) => mysql.set(change).await.map(Answer::Set),
            (DatabaseRequest::Hello { version }, _) => Ok(Answer::Hello { version: version.clone() }),
        }
    }
}

/// Both kinds have a `max_connections`, and mean different things.
fn of_kind(settings: &[Setting], kind: DatabaseKind) -> Vec<Setting> {
    settings.iter().copied().filter(|setting| setting.kind() == kind).collect()
}

impl Link {
    pub(super) fn new(server: Server) -> Self {
        Self { server, state: Mutex::default() }
    }

    /// Answers within its time, whatever the server does.
    pub(super) async fn ask(&self, request: &DatabaseRequest) -> DatabaseAnswer {
        let changes = matches!(request, DatabaseRequest::Terminate { .. } | DatabaseRequest::Set { .. });
        let begun = Cell::new(false);
        let asked = async {
            let mut state = self.state.lock().await;
            // Taken out: a question that is cut off leaves no connection behind with half an answer in it.
            let mut connection = self.connection(&mut state).await?;
            if let DatabaseRequest::Set { change, .. } = request
                && change.setting.kind() != self.server.listed.kind
            {
                state.connection = Some(connection);
                return Err(Fault::Unavailable(format!("it has no {}", change.setting)));
            }
            begun.set(true);
            let answer = connection.answer(request).await;
            if !matches!(answer, Err(Fault::Lost(_))) {
                state.connection = Some(connection);
            }
            answer
        };
        let answer = tokio::time::timeout(QUESTION, asked).await;
        let fault = match answer {
            Ok(Ok(answer)) => return answer,
            Ok(Err(fault)) => fault,
            Err(_elapsed) => Fault::Lost(format!("no answer within {} s", QUESTION.as_secs())),
        };
        let fault = if changes && begun.get() { fault.after_a_change() } else { fault };
        match fault {
            Fault::Full(_) if matches!(request, DatabaseRequest::Pool { .. }) => {
                DatabaseAnswer::Pool(PoolState::Refusing)
            }
            Fault::Lost(reason) | Fault::Unavailable(reason) | Fault::Full(reason) => {
                DatabaseAnswer::No(DatabaseNo::Unavailable(reason))
            }
            Fault::Stale(reason) => DatabaseAnswer::No(DatabaseNo::Stale(reason)),
            Fault::Refused(reason) => DatabaseAnswer::No(DatabaseNo::Refused(reason)),
            Fault::Unknown(reason) => DatabaseAnswer::Unknown(reason),
        }
    }

    /// The warm connection, or a new one.
    async fn connection(&self, state: &mut State) -> Result<Connection, Fault> {
        if let Some(connection) = state.connection.take() {
            return Ok(connection);
        }
        if let Some((at, fault)) = &state.failed
            && at.elapsed() < FAILURE_HOLDS
        {
            return Err(fault.clone());
        }
        let opened = tokio::time::timeout(CONNECT, Connection::open(&self.server)).await;
        let mut full = false;
        let reason = match opened {
            Ok(Ok(connection)) => {
                if state.said {
                    tracing::info!(database = %self.server.listed.name, "the database is reached again");
                }
                (state.failed, state.said) = (None, false);
                return Ok(connection);
            }
            Ok(Err(Fault::Lost(reason) | Fault::Unavailable(reason) | Fault::Refused(reason))) => reason,
            Ok(Err(Fault::Stale(reason) | Fault::Unknown(reason))) => reason,
            Ok(Err(Fault::Full(reason))) => {
                full = true;
                reason
            }
            Err(_elapsed) => format!("no connection within {} s", CONNECT.as_secs()),
        };
        let reason = format!("`{}` can't be reached: {reason}", self.server.listed.name);
        if !state.said {
            tracing::warn!(database = %self.server.listed.name, %reason, "no connection to the database");
        }
        let fault = if full { Fault::Full(reason) } else { Fault::Unavailable(reason) };
        (state.failed, state.said) = (Some((Instant::now(), fault.clone())), true);
        Err(fault)
    }

    /// Connects at once, and again when it is lost, with growing pauses.
    pub(super) async fn stay_warm(self: Rc<Self>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let warm = tokio::time::timeout(QUESTION, self.try_out()).await;
            if matches!(warm, Ok(true)) {
                pause = FIRST_PAUSE;
                tokio::time::sleep(TRIED_EVERY).await;
            } else {
                tokio::time::sleep(pause).await;
                pause = LAST_PAUSE.min(pause * 2);
            }
        }
    }

    async fn try_out(&self) -> bool {
        // Whoever asks just now tries it out.
        let Ok(mut state) = self.state.try_lock() else { return true };
        let Ok(mut connection) = self.connection(&mut state).await else { return false };
        let alive = connection.ping().await.is_ok();
        if alive {
            state.connection = Some(connection);
        }
        alive
    }
}
