//! `index.db`: which entries belong to which run and incident, for history queries.
//!
//! Derived from the journal and never asked by anything that decides: losing it, damaging it or having no room for it costs a
//! rebuild, never a start or a heal. So it is kept without syncs and without a rollback file, and trusted only after a stop in
//! good order; otherwise it is made anew.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use theriac_model::id::{IncidentId, RunId};
use theriac_model::record::{Entry, Record};

use crate::journal::Journal;
use crate::log::ReadError;

/// Raised whenever the tables change: an older index is made anew.
const FORMAT: i64 = 2;
/// Entries taken over in one transaction.
const BATCH: usize = 512;

const TABLES: &str = "
    CREATE TABLE meta (format INTEGER NOT NULL, next INTEGER NOT NULL, root BLOB NOT NULL, clean INTEGER NOT NULL);
    CREATE TABLE entry (seq INTEGER PRIMARY KEY, run TEXT, incident TEXT);
    CREATE INDEX entry_by_run ON entry (run) WHERE run IS NOT NULL;
    CREATE INDEX entry_by_incident ON entry (incident) WHERE incident IS NOT NULL;
    CREATE TABLE run (run TEXT PRIMARY KEY, incident TEXT NOT NULL, reserved INTEGER NOT NULL);
    CREATE INDEX run_by_incident ON run (incident);
";

/// The open index.
#[derive(Debug)]
pub struct Index {
    connection: Connection,
    next: u64,
}

/// Why the index can't be used now. Go on without it.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// SQLite refused, most often for want of room.
    #[error("the index can't be used")]
    Sqlite(#[from] rusqlite::Error),
    /// The old one can't be removed.
    #[error("the old index can't be removed")]
    Remove(#[source] std::io::Error),
    /// The journal can't be read.
    #[error("the journal can't be read for the index")]
    Journal(#[from] ReadError),
}

impl Index {
    /// Opens the index and brings it up to the journal's end; one that is missing, damaged, of another journal, or was not
    /// closed is made anew, with `reserve` bytes allocated ahead.
    pub fn open(path: &Path, journal: &Journal, reserve: u32) -> Result<Self, IndexError> {
        let kept = Self::reopen(path, journal).ok().flatten();
        let mut index = match kept {
            Some(index) => index,
            None => Self::create(path, reserve)?,
        };
        index.catch_up(journal)?;
        Ok(index)
    }

    fn reopen(path: &Path, journal: &Journal) -> Result<Option<Self>, rusqlite::Error> {
        if !path.exists() {
            return Ok(None);
        }
        let connection = connect(path)?;
        let row = "SELECT next, root FROM meta WHERE format = ?1 AND clean = 1";
        let found =
            connection.query_row(row, [FORMAT], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?))).optional()?;
        let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        let head = journal.head();
        match found {
            Some((next, root)) if next == head.size && root == head.root && sound == "ok" => {
                connection.execute("UPDATE meta SET clean = 0", [])?;
                Ok(Some(Self { connection, next }))
            }
            Some(_) | None => Ok(None),
        }
    }

    fn create(path: &Path, reserve: u32) -> Result<Self, IndexError> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(IndexError::Remove(error)),
            Err(_) | Ok(()) => {}
        }
        let connection = connect(path)?;
        // Pages that were written once stay in the file when their content is deleted: this is the reserve.
        connection.execute_batch("CREATE TABLE reserve (bytes BLOB NOT NULL)")?;
        connection.execute("INSERT INTO reserve VALUES (zeroblob(?1))", [reserve])?;
        connection.execute_batch("DROP TABLE reserve")?;
        connection.execute_batch(TABLES)?;
        connection.execute("INSERT INTO meta VALUES (?1, 0, x'', 0)", [FORMAT])?;
        Ok(Self { connection, next: 0 })
    }

    /// Takes over what the journal has and the index has not.
    pub fn catch_up(&mut self, journal: &Journal) -> Result<(), IndexError> {
        loop {
            let entries = journal.read(self.next, BATCH)?;
            if entries.is_empty() {
                return Ok(());
            }
            self.add(&entries)?;
        }
    }

    /// Takes over entries; those it has already, or that leave a gap, are passed over.
    pub fn add(&mut self, entries: &[Entry]) -> Result<(), IndexError> {
        let mut next = self.next;
        let transaction = self.connection.transaction()?;
        for entry in entries {
            if entry.seq == next {
                insert(&transaction, entry)?;
                next += 1;
            }
        }
        transaction.commit()?;
        self.next = next;
        Ok(())
    }

    /// The first entry it does not have.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Positions of a run's entries, ascending.
    pub fn run(&self, run: &RunId) -> Result<Vec<u64>, IndexError> {
        self.positions("SELECT seq FROM entry WHERE run = ?1 ORDER BY seq", run.as_str())
    }

    /// Positions of an incident's entries, those of its runs included, ascending.
    pub fn incident(&self, incident: &IncidentId) -> Result<Vec<u64>, IndexError> {
        self.positions("SELECT seq FROM entry WHERE incident = ?1 ORDER BY seq", incident.as_str())
    }

    fn positions(&self, query: &str, key: &str) -> Result<Vec<u64>, IndexError> {
        let mut statement = self.connection.prepare_cached(query)?;
        let rows = statement.query_map([key], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// An incident's runs in the order they were reserved.
    pub fn runs_of(&self, incident: &IncidentId) -> Result<Vec<RunId>, IndexError> {
        let query = "SELECT run FROM run WHERE incident = ?1 ORDER BY reserved";
        let mut statement = self.connection.prepare_cached(query)?;
        let rows = statement.query_map([incident.as_str()], |row| row.get::<_, String>(0))?;
        let names = rows.collect::<Result<Vec<_>, _>>()?;
        Ok(names.iter().filter_map(|name| RunId::parse(name).ok()).collect())
    }

    /// Closes it in good order, so that the next start need not make it anew.
    pub fn close(self, journal: &Journal) -> Result<(), IndexError> {
        let head = journal.head();
        if head.size == self.next {
            let update = "UPDATE meta SET next = ?1, root = ?2, clean = 1";
            self.connection.execute(update, params![self.next, head.root.as_slice()])?;
        }
        Ok(self.connection.close().map_err(|(_, error)| error)?)
    }
}

/// Made 0600 whatever the umask: SQLite itself would make it 0644.
fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let made = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    made.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let connection = Connection::open(path)?;
    // Exclusive, and the rollback in memory: no second file is ever needed.
    connection.execute_batch(
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; PRAGMA temp_store = MEMORY;",
    )?;
    Ok(connection)
}

fn insert(transaction: &Transaction<'_>, entry: &Entry) -> Result<(), rusqlite::Error> {
    let run = entry.record.run().map(RunId::as_str);
    if let Record::Reserved { run, proposal } = &entry.record {
        let statement = "INSERT OR REPLACE INTO run VALUES (?1, ?2, ?3)";
        transaction.prepare_cached(statement)?.execute(params![run.as_str(), proposal.incident.as_str(), entry.seq])?;
    }
    let incident = entry.record.incident().map(IncidentId::as_str);
    transaction
        .prepare_cached("INSERT INTO entry VALUES (?1, ?2, coalesce(?3, (SELECT incident FROM run WHERE run = ?2)))")?
        .execute(params![entry.seq, run, incident])?;
    Ok(())
}

#[cfg(test)]
mod tests;
