//! For tests: a writer of small journal files, after the same description as the reader.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::hash;
use super::payload::Coding;

const HEADER: usize = 272;
/// Fewer than fields, so that chains are walked.
const BUCKETS: u64 = 61;
pub(super) const MACHINE: &str = "0123456789abcdef0123456789abcdef";
const FILE_ID: [u8; 16] = [7; 16];

/// A file in the making.
#[derive(Debug, Clone)]
pub(super) struct Written {
    bytes: Vec<u8>,
    compact: bool,
    keyed: bool,
    /// For fields of 64 bytes and more.
    coding: Coding,
    data: BTreeMap<Vec<u8>, Data>,
    sequence: u64,
}

#[derive(Debug, Clone)]
struct Data {
    at: u64,
    entries: u64,
    /// The last array: where, of how many items, and how many are used.
    array: Option<(u64, u64, u64)>,
}

impl Written {
    pub(super) fn new(compact: bool, keyed: bool, coding: Coding) -> Self {
        let mut file = Self { bytes: vec![0; HEADER], compact, keyed, coding, data: BTreeMap::new(), sequence: 0 };
        file.bytes[..8].copy_from_slice(b"LPKSHHRH");
        let compressed = match coding {
            Coding::Plain => 0_u32,
            Coding::Xz => 1,
            Coding::Lz4 => 2,
            Coding::Zstd => 8,
        };
        let flags = compressed | if keyed { 4 } else { 0 } | if compact { 16 } else { 0 };
        file.bytes[12..16].copy_from_slice(&flags.to_le_bytes());
        file.bytes[24..40].copy_from_slice(&FILE_ID);
        file.put(88, HEADER as u64);
        let table = file.append(4, 0, &vec![0; usize::try_from(BUCKETS).unwrap() * 16]);
        file.put(104, table + 16);
        file.put(112, BUCKETS * 16);
        file
    }

    /// An entry with these fields, at that time in microseconds.
    pub(super) fn entry(&mut self, realtime: u64, fields: &[&[u8]]) {
        let data: Vec<u64> = fields.iter().map(|field| self.field(field)).collect();
        self.sequence += 1;
        let mut body = Vec::new();
        for number in [self.sequence, realtime, realtime, 1, 1] {
            body.extend(number.to_le_bytes());
        }
        let contents = fields.iter().fold(0, |xor, field| xor ^ hash::jenkins(field));
        body.extend(contents.to_le_bytes());
        for at in &data {
            if self.compact {
                body.extend(u32::try_from(*at).unwrap().to_le_bytes());
            } else {
                body.extend(at.to_le_bytes());
                body.extend([0; 8]);
            }
        }
        let entry = self.append(3, 0, &body);
        for field in fields {
            self.link(field, entry);
        }
        self.put(192, realtime);
    }

    /// A line of a unit's own process.
    pub(super) fn line(&mut self, realtime: u64, unit: &str, message: &str) {
        let (unit, message) = (format!("_SYSTEMD_UNIT={unit}"), format!("MESSAGE={message}"));
        self.entry(realtime, &[b"PRIORITY=6", b"_PID=4242", message.as_bytes(), unit.as_bytes()]);
    }

    /// A line about a unit by the process of that number.
    pub(super) fn about(&mut self, realtime: u64, pid: u32, unit: &str, message: &str) {
        let (pid, unit, message) = (format!("_PID={pid}"), format!("UNIT={unit}"), format!("MESSAGE={message}"));
        self.entry(realtime, &[pid.as_bytes(), b"_SYSTEMD_UNIT=init.scope", unit.as_bytes(), message.as_bytes()]);
    }

    fn field(&mut self, field: &[u8]) -> u64 {
        if let Some(data) = self.data.get(field) {
            return data.at;
        }
        let hash = if self.keyed { hash::keyed(&FILE_ID, field) } else { hash::jenkins(field) };
        let (flags, payload) = self.coded(field);
        let mut body = hash.to_le_bytes().to_vec();
        // Five places, and in the compact form two more of half the size.
        body.resize(if self.compact { 56 } else { 48 }, 0);
        body.extend(payload);
        let at = self.append(1, flags, &body);
        let bucket = self.number(104) + hash % BUCKETS * 16;
        match self.number(bucket + 8) {
            0 => self.put(bucket, at),
            tail => self.put(tail + 24, at),
        }
        self.put(bucket + 8, at);
        self.data.insert(field.to_vec(), Data { at, entries: 0, array: None });
        at
    }

    fn coded(&self, field: &[u8]) -> (u8, Vec<u8>) {
        if field.len() < 64 {
            return (0, field.to_vec());
        }
        match self.coding {
            Coding::Plain => (0, field.to_vec()),
            Coding::Xz => panic!("there is no encoder for it here"),
            Coding::Lz4 => {
                let mut stored = (field.len() as u64).to_le_bytes().to_vec();
                stored.extend(lz4_flex::block::compress(field));
                (2, stored)
            }
            Coding::Zstd => (4, ruzstd::encoding::compress_to_vec(field, ruzstd::encoding::CompressionLevel::Fastest)),
        }
    }

    fn link(&mut self, field: &[u8], entry: u64) {
        let mut data = self.data.remove(field).unwrap();
        data.entries += 1;
        if data.entries == 1 {
            self.put(data.at + 40, entry);
        } else {
            let (array, room, used) = match data.array {
                Some((array, room, used)) if used < room => (array, room, used),
                full => {
                    let room = full.map_or(4, |(_, room, _)| room * 2);
                    let width = if self.compact { 4 } else { 8 };
                    let body = vec![0; 8 + usize::try_from(room).unwrap() * width];
                    let array = self.append(6, 0, &body);
                    self.put(full.map_or(data.at + 48, |(before, _, _)| before + 16), array);
                    (array, room, 0)
                }
            };
            self.put_item(array + 24, used, entry);
            data.array = Some((array, room, used + 1));
        }
        self.put(data.at + 56, data.entries);
        self.data.insert(field.to_vec(), data);
    }

    fn put_item(&mut self, items: u64, index: u64, entry: u64) {
        if self.compact {
            let at = usize::try_from(items + index * 4).unwrap();
            self.bytes[at..at + 4].copy_from_slice(&u32::try_from(entry).unwrap().to_le_bytes());
        } else {
            self.put(items + index * 8, entry);
        }
    }

    fn append(&mut self, kind: u8, flags: u8, body: &[u8]) -> u64 {
        let at = self.bytes.len() as u64;
        self.bytes.extend([kind, flags, 0, 0, 0, 0, 0, 0]);
        self.bytes.extend((16 + body.len() as u64).to_le_bytes());
        self.bytes.extend(body);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.put(96, (self.bytes.len() - HEADER) as u64);
        at
    }

    pub(super) fn put(&mut self, at: u64, number: u64) {
        let at = usize::try_from(at).unwrap();
        self.bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }

    fn number(&self, at: u64) -> u64 {
        super::bytes::u64_at(&self.bytes, usize::try_from(at).unwrap()).unwrap()
    }

    /// Where the field's object is.
    pub(super) fn place_of(&self, field: &str) -> u64 {
        self.data[field.as_bytes()].at
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The root directory of a machine with these files in its journal.
pub(super) fn machine(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("etc")).unwrap();
    std::fs::write(root.path().join("etc/machine-id"), format!("{MACHINE}\n")).unwrap();
    for (name, bytes) in files {
        put(root.path(), &format!("var/log/journal/{MACHINE}/{name}"), bytes);
    }
    root
}

pub(super) fn put(root: &Path, path: &str, bytes: &[u8]) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    path
}
