//! PostgreSQL: getting in, and statements whose answers are rows of text.

mod questions;

use std::future::poll_fn;
use std::pin::pin;

use futures_core::Stream as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::config::{Server, Tls};
use super::rows::{Fault, Row};
use super::stream::{self, Allowance, Metered, Stream};

/// Asks whether the server speaks TLS: length and code of the protocol's `SSLRequest`.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// What holds for the courier's own session, whatever is set for everybody: it waits for nobody long, and is not ended for waiting.
/// Only names that this version has are set; the values before stay readable as `reset_val`.
const OWN_SESSION: &str = "SELECT pg_catalog.set_config(name, CASE name WHEN 'statement_timeout' THEN '5s' \
    WHEN 'lock_timeout' THEN '2s' WHEN 'search_path' THEN 'pg_catalog' ELSE '0' END, false) \
    FROM pg_catalog.pg_settings WHERE name IN ('statement_timeout', 'lock_timeout', 'search_path', \
    'idle_in_transaction_session_timeout', 'idle_session_timeout')";

/// A connection to one server.
pub(super) struct Postgres {
    client: Client,
    allowance: Allowance,
    wire: JoinHandle<()>,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.wire.abort();
    }
}

impl Postgres {
    pub(super) async fn connect(server: &Server) -> Result<Self, Fault> {
        let not_there = |error: std::io::Error| Fault::Unavailable(error.kind().to_string());
        let mut stream = stream::open(&server.listed.place).await.map_err(not_there)?;
        if let Some(tls) = &server.tls {
            stream = secure(stream, tls).await?;
        }
        let mut config = Config::new();
        config
            .user(&server.listed.user)
            .dbname(&server.listed.database)
            .application_name("theriac")
            .ssl_mode(SslMode::Disable)
            .channel_binding(ChannelBinding::Disable);
        if let Some(password) = &server.password {
            config.password(password.as_bytes());
        }
        let allowance = Allowance::new();
        let connected = config.connect_raw(Metered::new(stream, allowance.clone()), NoTls).await;
        let (client, connection) = connected.map_err(|error| fault(&error))?;
        let wire = tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %words(&error), "a connection to PostgreSQL ended");
            }
        });
        let postgres = Self { client, allowance, wire };
        postgres.rows(OWN_SESSION, 8).await?;
        Ok(postgres)
    }

    pub(super) async fn ping(&mut self) -> Result<(), Fault> {
        self.rows("SELECT 1", 1).await.map(|_| ())
    }

    /// The rows of one statement, at most that many: a server that sends more is not listened to any further.
    async fn rows(&self, statement: &str, most: usize) -> Result<Vec<Row>, Fault> {
        self.allowance.renew();
        let stream = self.client.simple_query_raw(statement).await.map_err(|error| fault(&error))?;
        let mut stream = pin!(stream);
        let mut rows = Vec::new();
        while let Some(message) = poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
            let SimpleQueryMessage::Row(row) = message.map_err(|error| fault(&error))? else { continue };
            if rows.len() >= most {
                return Err(Fault::nonsense());
            }
            let column = |index| row.try_get(index).map(|text| text.map(str::to_owned));
            let columns: Result<Vec<_>, _> = (0..row.len()).map(column).collect();
            rows.push(Row(columns.map_err(|error| fault(&error))?));
        }
        Ok(rows)
    }
}

/// The one byte of the answer is read, and not one more: what a man in the middle sends behind it is not taken for the server's.
async fn secure(mut stream: Stream, tls: &Tls) -> Result<Stream, Fault> {
    let broken = |error: std::io::Error| Fault::Unavailable(error.kind().to_string());
    stream.write_all(&SSL_REQUEST).await.map_err(broken)?;
    let mut answer = [0];
    stream.read_exact(&mut answer).await.map_err(broken)?;
    if answer != *b"S" {
        return Err(Fault::Unavailable("it does not speak TLS".to_owned()));
    }
    let secured = stream::secure(stream, tls).await;
    secured.map_err(|error| Fault::Unavailable(crate::check::tls_words_of(&error).to_owned()))
}

/// What is left of an error: a class of ours. Nothing the server said is repeated but the five letters of its code.
fn fault(error: &tokio_postgres::Error) -> Fault {
    let Some(code) = error.code() else { return Fault::Lost(words(error)) };
    match *code {
        SqlState::INSUFFICIENT_PRIVILEGE => Fault::Refused("the courier's user has no right to (42501)".to_owned()),
        SqlState::TOO_MANY_CONNECTIONS => Fault::Full("it has no slot left for the courier (53300)".to_owned()),
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            Fault::Unavailable(format!("it does not let the courier's user in ({})", shown(code)))
        }
        SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW => {
            Fault::Lost(format!("it is shutting down or starting ({})", shown(code)))
        }
        // Cut off, by our own timeout or by a person: nothing was done.
        SqlState::QUERY_CANCELED | SqlState::LOCK_NOT_AVAILABLE => {
            Fault::Refused(format!("it took too long ({})", shown(code)))
        }
        _ => Fault::Refused(format!("the server said no ({})", shown(code))),
    }
}

fn shown(code: &SqlState) -> String {
    code.code().chars().filter(char::is_ascii_alphanumeric).take(5).collect()
}

fn words(error: &tokio_postgres::Error) -> String {
    if error.is_closed() { "the connection was closed".to_owned() } else { "the connection broke".to_owned() }
}
