//! Segments: what a start makes of a directory that somebody, or a dying disk, has written to.

mod memory;

use serde_json::Value;
use theriac_journal::log::Log;
use theriac_journal::segment::{Durability, OpenError, Options, Tail};

use self::memory::Memory;
use crate::{Answer, assert_one_line, refused};

/// As small as they get, so that a few records fill one.
const SEGMENT: u64 = 512;
const OPTIONS: Options = Options { segment_bytes: SEGMENT, spares: 1 };

/// What the fuzzer decides, byte by byte; at the end it decides for zeros.
#[derive(Debug)]
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn below(&mut self, bound: usize) -> usize {
        let number = usize::from(self.byte()) << 8 | usize::from(self.byte());
        number.checked_rem(bound).unwrap_or(0)
    }
}

/// First byte odd: the rest is a segment as it stands. Even: a log is written, changed as the rest says, and opened.
pub(crate) fn check(bytes: &[u8]) -> Answer {
    let mut choices = Choices(bytes);
    if choices.byte() % 2 == 1 { foreign(choices.0) } else { changed(&mut choices) }
}

/// Bytes of anybody: opened or refused in a sentence; what was opened works.
fn foreign(bytes: &[u8]) -> Answer {
    let disk = Memory::default();
    let mut segment = bytes.to_vec();
    segment.resize(segment.len().max(512), 0);
    disk.put("segment-00000000", segment);
    match Log::open_on(disk.clone(), OPTIONS) {
        Ok(opened) => goes_on(opened.log, &disk, opened.records),
        Err(error) => refusal(&error),
    }
}

/// Whatever was changed: a start refuses, or what it shows is what was written, in place and without a gap.
fn changed(choices: &mut Choices<'_>) -> Answer {
    let disk = Memory::default();
    let written = write(&disk, choices);
    let flipped = change(&disk, choices);
    match Log::<Value, _>::open_on(disk.clone(), OPTIONS) {
        Ok(opened) => {
            let first = opened.records.first().map_or(0, |(seq, _)| *seq);
            for ((seq, record), expected) in opened.records.iter().zip(first..) {
                assert_eq!(*seq, expected, "a gap");
                let original = usize::try_from(*seq).ok().and_then(|seq| written.get(seq));
                assert_eq!(Some(record), original, "record {seq} is not what was written");
            }
            if flipped {
                // Everything was synced: only the very last record can pass for unfinished.
                let lost = written.len().saturating_sub(opened.records.len());
                assert!(lost <= 1, "{lost} synced records were lost to one byte without a word");
                assert!(lost == 0 || opened.tail != Tail::Clean, "a record was lost without a word");
            }
            goes_on(opened.log, &disk, opened.records)
        }
        Err(error) => refusal(&error),
    }
}

fn write(disk: &Memory, choices: &mut Choices<'_>) -> Vec<Value> {
    let mut log = Log::<Value, _>::open_on(disk.clone(), OPTIONS).expect("an empty directory").log;
    let count = 1 + choices.below(12);
    let record = |number: usize, length: usize| Value::String(format!("{number}{}", "x".repeat(length)));
    let written: Vec<Value> = (0..count).map(|number| record(number, choices.below(300))).collect();
    for record in &written {
        log.append(record, Durability::Synced).expect("there is room");
    }
    written
}

/// Up to 15 changes; says whether they come to one altered byte.
fn change(disk: &Memory, choices: &mut Choices<'_>) -> bool {
    let changes = choices.byte() % 16;
    let mut flips = 0;
    for _ in 0..changes {
        let names = disk.names();
        let Some(name) = names.get(choices.below(names.len())) else { return false };
        let Some(mut bytes) = disk.get(name) else { return false };
        let at = choices.below(bytes.len());
        match choices.byte() % 6 {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= choices.byte().max(1);
                }
                flips += 1;
                disk.put(name, bytes);
            }
            1 => {
                bytes.truncate(at);
                disk.put(name, bytes);
            }
            2 => disk.take(name),
            3 => {
                let other = names.get(choices.below(names.len())).cloned().unwrap_or_default();
                let theirs = disk.get(&other).unwrap_or_default();
                disk.put(&other, bytes);
                disk.put(name, theirs);
            }
            4 => {
                bytes.iter_mut().skip(at).for_each(|byte| *byte = 0);
                disk.put(name, bytes);
            }
            _ => {
                let (from, length) = (choices.below(bytes.len()), choices.below(128));
                let part: Vec<u8> = bytes.iter().skip(from).take(length).copied().collect();
                bytes.iter_mut().skip(at).zip(part).for_each(|(byte, new)| *byte = new);
                disk.put(name, bytes);
            }
        }
    }
    changes == 1 && flips == 1
}

/// What was opened takes one more record, and the next start finds it behind the others.
fn goes_on(mut log: Log<Value, Memory>, disk: &Memory, mut records: Vec<(u64, Value)>) -> Answer {
    let one_more = Value::String("one more".to_owned());
    let seq = match log.append(&one_more, Durability::Synced) {
        Ok(seq) => seq,
        Err(error) => return refused(&error),
    };
    records.push((seq, one_more));
    let kept = log.read(0, usize::MAX).expect("what was opened can be read");
    assert_eq!(kept, records, "what is read back");
    drop(log);
    let again = Log::<Value, _>::open_on(disk.clone(), OPTIONS).expect("what was written by us can be opened");
    assert_eq!(again.records, records, "what the next start finds");
    Answer::Taken
}

fn refusal(error: &OpenError) -> Answer {
    assert_one_line(error.hint());
    refused(error)
}
