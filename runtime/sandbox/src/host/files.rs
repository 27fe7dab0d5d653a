//! `files`: directories and entries.

use theriac_model::call::{Call, DirCall, EntryCall, Filter, Interface, Order, Reply};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::units::{Blob, Bytes};
use wasmtime::component::Resource;

use super::{Answer, State, ask, handle, refused};
use crate::bindings::{Dir, Entry, files, types};

/// The contract's bound on content in one call; what is larger would not fit a frame.
const CONTENT_BYTES: usize = 256 << 10;

impl State {
    fn entries(&mut self, dir: &Resource<Dir>, verb: DirCall) -> Answer<files::Page> {
        let call = Call::Dir { handle: handle(dir), verb };
        let (refs, next) = match ask!(self, call, Reply::Entries { entries, next } => (entries, next))? {
            Ok(page) => page,
            Err(denial) => return Ok(Err(denial)),
        };
        let entries =
            refs.into_iter().map(|entry| self.hold(entry.handle, Some(entry.name))).collect::<Result<_, _>>()?;
        Ok(Ok(files::Page { entries, next }))
    }

    /// A changing verb that answers with a number of bytes.
    fn changed(&mut self, entry: &Resource<Entry>, verb: EntryCall) -> Answer<u64> {
        ask!(self, Call::Entry { handle: handle(entry), verb }, Reply::Count(bytes) => bytes)
    }

    fn content(&mut self, entry: &Resource<Entry>, verb: &str, content: Vec<u8>) -> Result<Blob, types::Denial> {
        if content.len() <= CONTENT_BYTES {
            return Ok(Blob(content));
        }
        let attempted = format!("{verb} {} with {}", self.name_of(entry), Bytes(content.len() as u64));
        Err(refused(Denial::new(DenialCause::OverBudget, "", "content", attempted)))
    }
}

impl files::Host for State {}

impl files::HostDir for State {
    fn open(&mut self, label: String) -> Answer<Resource<Dir>> {
        State::open(self, Interface::Files, label)
    }

    fn list(&mut self, dir: Resource<Dir>, filter: files::Filter, cursor: u64) -> Answer<files::Page> {
        let order = match filter.order {
            files::Order::OldestFirst => Order::OldestFirst,
            files::Order::LargestFirst => Order::LargestFirst,
            files::Order::Name => Order::Name,
        };
        let filter = Filter { min_age_s: filter.min_age, min_bytes: filter.min_bytes, order };
        self.entries(&dir, DirCall::List { filter, cursor })
    }

    fn list_deleted(&mut self, dir: Resource<Dir>) -> Answer<Vec<Resource<Entry>>> {
        Ok(self.entries(&dir, DirCall::ListDeleted)?.map(|page| page.entries))
    }

    fn space(&mut self, dir: Resource<Dir>) -> Answer<files::Space> {
        ask!(self, Call::Dir { handle: handle(&dir), verb: DirCall::Space }, Reply::Space(space) => files::Space {
            total: space.total,
            available: space.available,
            inodes: space.inodes,
            inodes_available: space.inodes_available,
            assumed: space.assumed,
        })
    }

    fn drop(&mut self, dir: Resource<Dir>) -> wasmtime::Result<()> {
        self.give_back(&dir)
    }
}

impl files::HostEntry for State {
    fn name(&mut self, entry: Resource<Entry>) -> wasmtime::Result<String> {
        Ok(self.name_of(&entry))
    }

    fn stat(&mut self, entry: Resource<Entry>) -> Answer<files::Stat> {
        ask!(self, Call::Entry { handle: handle(&entry), verb: EntryCall::Stat }, Reply::Stat(file) => files::Stat {
            size: file.size,
            allocated: file.allocated,
            age: file.age_s,
            links: file.links,
            open: file.open,
            deleted: file.deleted,
            appended_only: file.appended_only,
            assumed: file.assumed,
        })
    }

    fn read(&mut self, entry: Resource<Entry>, offset: u64, max: u32) -> Answer<Vec<u8>> {
        let verb = EntryCall::Read { offset, max };
        ask!(self, Call::Entry { handle: handle(&entry), verb }, Reply::Bytes(content) => content.0)
    }

    fn tail(&mut self, entry: Resource<Entry>, max: u32) -> Answer<Vec<u8>> {
        let verb = EntryCall::Tail { max };
        ask!(self, Call::Entry { handle: handle(&entry), verb }, Reply::Bytes(content) => content.0)
    }

    fn replace(&mut self, entry: Resource<Entry>, content: Vec<u8>) -> Answer<u64> {
        match self.content(&entry, "replace", content) {
            Ok(content) => self.changed(&entry, EntryCall::Replace { content }),
            Err(denial) => Ok(Err(denial)),
        }
    }

    fn append(&mut self, entry: Resource<Entry>, content: Vec<u8>) -> Answer<u64> {
        match self.content(&entry, "append", content) {
            Ok(content) => self.changed(&entry, EntryCall::Append { content }),
            Err(denial) => Ok(Err(denial)),
        }
    }

    fn truncate(&mut self, entry: Resource<Entry>) -> Answer<u64> {
        self.changed(&entry, EntryCall::Truncate)
    }

    fn copy_truncate(&mut self, entry: Resource<Entry>) -> Answer<u64> {
        self.changed(&entry, EntryCall::CopyTruncate)
    }

    fn remove(&mut self, entry: Resource<Entry>) -> Answer<u64> {
        self.changed(&entry, EntryCall::Remove)
    }

    fn archive(&mut self, entry: Resource<Entry>) -> Answer<u64> {
        self.changed(&entry, EntryCall::Archive)
    }

    fn set_aside(&mut self, entry: Resource<Entry>) -> Answer<u64> {
        self.changed(&entry, EntryCall::SetAside)
    }

    fn drop(&mut self, entry: Resource<Entry>) -> wasmtime::Result<()> {
        self.give_back(&entry)
    }
}
