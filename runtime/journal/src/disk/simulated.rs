//! A disk in memory that loses what was not synced, tears writes, and fails when told to.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use rustix::io::Errno;

use super::*;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A small deterministic generator: a failing seed is a failing test case.
#[derive(Debug, Clone)]
pub(crate) struct Seed(pub(crate) u64);

impl Seed {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// An operation that fails, and perhaps every one after it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) after: u64,
    pub(crate) errno: Errno,
    pub(crate) forever: bool,
}

/// A fault of the disk itself, to show that the tests notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    None,
    Sync,
    SyncDirectory,
}

#[derive(Debug, Default)]
struct Body {
    current: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
}

#[derive(Debug)]
struct State {
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    bodies: BTreeMap<u64, Body>,
    operations: u64,
    made: u64,
    fault: Option<Fault>,
    lie: Lie,
    full: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Simulated(Rc<RefCell<State>>);

#[derive(Debug)]
pub(crate) struct SimulatedFile(Rc<RefCell<State>>, u64);

impl Simulated {
    pub(crate) fn new(lie: Lie) -> Self {
        let state = State {
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            bodies: BTreeMap::new(),
            operations: 0,
            made: 0,
            fault: None,
            lie,
            full: false,
        };
        Self(Rc::new(RefCell::new(state)))
    }

    pub(crate) fn fail(&self, fault: Option<Fault>) {
        let mut state = self.0.borrow_mut();
        let now = state.operations;
        state.fault = fault.map(|fault| Fault { after: now + fault.after, ..fault });
    }

    /// No block and no inode is free.
    pub(crate) fn set_full(&self, full: bool) {
        self.0.borrow_mut().full = full;
    }

    /// The power goes: of each write that was not synced, any set of sectors is there; of each name, the old or the new.
    pub(crate) fn cut_power(&self, seed: &mut Seed) {
        let state = &mut *self.0.borrow_mut();
        state.fault = None;
        let kept_of_four = seed.below(5);
        for body in state.bodies.values_mut() {
            for (offset, bytes) in std::mem::take(&mut body.pending) {
                let mut at = 0;
                while at < bytes.len() {
                    let end = bytes.len().min((offset + at) / SECTOR * SECTOR + SECTOR - offset);
                    if seed.below(4) < kept_of_four {
                        body.durable[offset + at..offset + end].copy_from_slice(&bytes[at..end]);
                    }
                    at = end;
                }
            }
            body.current = body.durable.clone();
        }
        let all: Vec<String> = state.names.keys().chain(state.durable_names.keys()).cloned().collect();
        for name in all {
            let from = if seed.below(2) == 0 { &state.names } else { &state.durable_names };
            match from.get(&name).copied() {
                Some(id) => state.durable_names.insert(name, id),
                None => state.durable_names.remove(&name),
            };
        }
        state.names = state.durable_names.clone();
    }

    /// Only the process dies: what it wrote is in the page cache, synced or not.
    pub(crate) fn kill(&self) {
        self.0.borrow_mut().fault = None;
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        let state = self.0.borrow();
        state.bodies[&state.names[name]].current.clone()
    }

    /// Puts these bytes there, as an editor would.
    pub(crate) fn set_bytes(&self, name: &str, bytes: &[u8]) {
        let mut state = self.0.borrow_mut();
        let id = state.names[name];
        state.bodies.insert(id, Body { current: bytes.to_vec(), durable: bytes.to_vec(), pending: Vec::new() });
    }

    pub(crate) fn deep_copy(&self) -> Self {
        let copy = Self::new(Lie::None);
        for name in self.list().unwrap() {
            copy.create(&name, 0).unwrap();
            copy.set_bytes(&name, &self.bytes(&name));
        }
        copy.sync_directory().unwrap();
        copy
    }
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        self.operations += 1;
        let hit = |fault: &Fault| self.operations == fault.after || (fault.forever && self.operations > fault.after);
        self.fault.filter(hit).map_or(Ok(()), |fault| Err(fault.errno.into()))
    }
}

impl Disk for Simulated {
    type File = SimulatedFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.borrow().names.keys().cloned().collect())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<SimulatedFile> {
        let mut state = self.0.borrow_mut();
        if state.names.contains_key(name) {
            return Err(Errno::EXIST.into());
        }
        let failed = if state.full { Err(Errno::NOSPC.into()) } else { state.step() };
        let length = match &failed {
            Ok(()) => bytes,
            // Neither blocks nor an inode are left behind.
            Err(error) if is_full(error) => return Err(Errno::NOSPC.into()),
            Err(_) => bytes / 2,
        };
        state.made += 1;
        let (id, zeros) = (state.made, vec![0; usize::try_from(length).unwrap()]);
        state.bodies.insert(id, Body { current: zeros.clone(), durable: zeros, pending: Vec::new() });
        state.names.insert(name.to_owned(), id);
        failed.map(|()| SimulatedFile(Rc::clone(&self.0), id))
    }

    fn open(&self, name: &str) -> io::Result<SimulatedFile> {
        let state = self.0.borrow();
        let id = state.names.get(name).copied().ok_or(Errno::NOENT)?;
        Ok(SimulatedFile(Rc::clone(&self.0), id))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.step()?;
        state.names.remove(name).map(|_| ()).ok_or_else(|| Errno::NOENT.into())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.step()?;
        if state.lie != Lie::SyncDirectory {
            state.durable_names = state.names.clone();
        }
        Ok(())
    }

    fn salt(&self) -> io::Result<[u8; 16]> {
        let mut state = self.0.borrow_mut();
        state.made += 1;
        Ok([u8::try_from(state.made % 256).unwrap(); 16])
    }

    fn locate(&self, name: &str) -> PathBuf {
        PathBuf::from("/simulated").join(name)
    }
}

impl DiskFile for SimulatedFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.borrow().bodies[&self.1].current.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let state = self.0.borrow();
        let start = usize::try_from(offset).unwrap();
        let found = state.bodies[&self.1].current.get(start..start + buffer.len());
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        let failed = state.step();
        let bytes = if failed.is_err() { &bytes[..bytes.len() / 2] } else { bytes };
        let body = state.bodies.get_mut(&self.1).unwrap();
        let start = usize::try_from(offset).unwrap();
        body.current[start..start + bytes.len()].copy_from_slice(bytes);
        body.pending.push((start, bytes.to_vec()));
        failed
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        let (failed, lie) = (state.step(), state.lie);
        let body = state.bodies.get_mut(&self.1).unwrap();
        // A failed sync marks the pages clean all the same: they read well, and are never written.
        let pending = std::mem::take(&mut body.pending);
        if failed.is_ok() && lie != Lie::Sync {
            for (offset, bytes) in pending {
                body.durable[offset..offset + bytes.len()].copy_from_slice(&bytes);
            }
        }
        failed
    }
}
