//! MySQL and MariaDB: getting in, and statements whose answers are rows of text.
//!
//! The client is our own (docs/decisions/008): the text protocol as far as a handful of questions needs it, over any stream, with a
//! bound on every length that the server chooses.

mod auth;
mod questions;
mod wire;

use super::config::Server;
use super::rows::{Fault, Row};
use super::stream::{self, Allowance, Metered};
use wire::{Packet, Wire};

/// Columns of the widest answer.
const MAX_COLUMNS: usize = 16;
/// `COM_QUERY` and `COM_PING`.
const QUERY: u8 = 3;
const PING: u8 = 14;

/// A connection to one server.
pub(super) struct Mysql {
    wire: Wire<Metered>,
    allowance: Allowance,
    /// MariaDB looks and ends in one statement; MySQL has no such one.
    mariadb: bool,
    user: String,
    /// When the server was started, as it was first computed: two clocks that tick in seconds disagree by one now and then.
    started: Option<u64>,
    looked: Option<questions::Looked>,
}

impl Mysql {
    pub(super) async fn connect(server: &Server) -> Result<Self, Fault> {
        let not_there = |error: std::io::Error| Fault::Unavailable(error.kind().to_string());
        let stream = stream::open(&server.listed.place).await.map_err(not_there)?;
        let allowance = Allowance::new();
        let (wire, greeting) = auth::enter(stream, server, &allowance).await?;
        let user = server.listed.user.clone();
        let mut mysql = Self { wire, allowance, mariadb: greeting.mariadb, user, started: None, looked: None };
        let patience = if mysql.mariadb { "max_statement_time = 5" } else { "max_execution_time = 5000" };
        let own = format!("SET SESSION {patience}, lock_wait_timeout = 2, wait_timeout = 28800, sql_mode = ''");
        mysql.rows(&own, 0).await?;
        Ok(mysql)
    }

    pub(super) async fn ping(&mut self) -> Result<(), Fault> {
        self.begin(PING, b"").await?;
        match self.wire.read().await? {
            Packet::Ok => Ok(()),
            Packet::No(fault) => Err(fault),
            Packet::Data(_) | Packet::End => Err(Fault::nonsense()),
        }
    }

    async fn begin(&mut self, command: u8, text: &[u8]) -> Result<(), Fault> {
        self.allowance.renew();
        self.wire.restart();
        let mut payload = vec![command];
        payload.extend_from_slice(text);
        self.wire.write(&payload).await
    }

    /// The rows of one statement, at most that many: a server that sends more is not listened to any further.
    async fn rows(&mut self, statement: &str, most: usize) -> Result<Vec<Row>, Fault> {
        self.begin(QUERY, statement.as_bytes()).await?;
        let mut rows = Vec::new();
        // A compound statement answers with its rows and then with its own end.
        loop {
            let more = match self.wire.read().await? {
                Packet::Ok => self.wire.more,
                Packet::No(fault) => return Err(fault),
                Packet::Data(head) => self.read_rows(&head, most, &mut rows).await?,
                Packet::End => return Err(Fault::nonsense()),
            };
            if !more {
                return Ok(rows);
            }
        }
    }

    async fn read_rows(&mut self, head: &[u8], most: usize, rows: &mut Vec<Row>) -> Result<bool, Fault> {
        let columns = wire::column_count(head).filter(|count| (1..=MAX_COLUMNS).contains(count));
        let columns = columns.ok_or_else(Fault::nonsense)?;
        for _ in 0..columns {
            let Packet::Data(_definition) = self.wire.read().await? else { return Err(Fault::nonsense()) };
        }
        let Packet::End = self.wire.read().await? else { return Err(Fault::nonsense()) };
        loop {
            match self.wire.read_row().await? {
                Packet::Data(row) if rows.len() < most => {
                    rows.push(wire::row(&row, columns).ok_or_else(Fault::nonsense)?)
                }
                Packet::End => return Ok(self.wire.more),
                Packet::No(fault) => return Err(fault),
                Packet::Data(_) | Packet::Ok => return Err(Fault::nonsense()),
            }
        }
    }
}
