//! A directory in memory whose files can be changed behind the journal's back. It never fails and forgets nothing: what a
//! crash leaves is the subject of the journal's own simulated disk.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use theriac_journal::disk::{Disk, DiskFile};

type Files = Rc<RefCell<BTreeMap<String, Vec<u8>>>>;

#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Files);

/// An open file of it.
#[derive(Debug)]
pub(crate) struct MemoryFile(Files, String);

impl Memory {
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.borrow().keys().cloned().collect()
    }

    pub(crate) fn get(&self, name: &str) -> Option<Vec<u8>> {
        self.0.borrow().get(name).cloned()
    }

    pub(crate) fn put(&self, name: &str, bytes: Vec<u8>) {
        self.0.borrow_mut().insert(name.to_owned(), bytes);
    }

    pub(crate) fn take(&self, name: &str) {
        self.0.borrow_mut().remove(name);
    }
}

impl Disk for Memory {
    type File = MemoryFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<MemoryFile> {
        if self.get(name).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.put(name, vec![0; usize::try_from(bytes).map_err(io::Error::other)?]);
        self.open(name)
    }

    fn open(&self, name: &str) -> io::Result<MemoryFile> {
        self.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(MemoryFile(Rc::clone(&self.0), name.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.take(name);
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn salt(&self) -> io::Result<[u8; 16]> {
        // The same for each segment of one length of the directory: a finding has to be found again.
        Ok([u8::try_from(self.names().len() % 251).map_err(io::Error::other)?; 16])
    }

    fn locate(&self, name: &str) -> PathBuf {
        PathBuf::from("/memory").join(name)
    }
}

impl DiskFile for MemoryFile {
    fn length(&self) -> io::Result<u64> {
        let files = self.0.borrow();
        Ok(files.get(&self.1).ok_or(io::ErrorKind::NotFound)?.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let files = self.0.borrow();
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let file = files.get(&self.1).ok_or(io::ErrorKind::NotFound)?;
        let found = start.checked_add(buffer.len()).and_then(|end| file.get(start..end));
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.0.borrow_mut();
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let file = files.get_mut(&self.1).ok_or(io::ErrorKind::NotFound)?;
        let end = start.checked_add(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        file.resize(file.len().max(end), 0);
        file.get_mut(start..end).ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
