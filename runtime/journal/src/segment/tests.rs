use rustix::io::Errno;

use super::frame::{self, HEAD};
use super::header::HEADER;
use super::*;
use crate::disk::simulated::{Fault, Lie, Seed, Simulated};

const SMALL: Options = Options { segment_bytes: 2048, spares: 2 };

type Records = Vec<Vec<u8>>;
type Damaging<'a> = Box<dyn Fn(&mut Vec<u8>) + 'a>;

fn open(disk: &Simulated, options: Options) -> Result<(Segments<Simulated>, Records, Tail), OpenError> {
    let mut records = Vec::new();
    let (segments, tail) = Segments::open(disk.clone(), options, &mut |seq, payload, _| {
        assert_eq!(seq, records.len() as u64);
        records.push(payload.to_vec());
        Ok(())
    })?;
    Ok((segments, records, tail))
}

fn payload(n: usize) -> Vec<u8> {
    format!("{{\"n\":{n},\"text\":\"{}\"}}", "x".repeat(n % 7)).into_bytes()
}

/// A disk with that many synced records.
fn written(count: usize) -> (Simulated, Records) {
    let disk = Simulated::new(Lie::None);
    let (mut segments, _, _) = open(&disk, SMALL).unwrap();
    let records: Records = (0..count).map(payload).collect();
    for record in &records {
        segments.append(record, Durability::Synced).unwrap();
    }
    (disk, records)
}

/// Where each record of the first segment begins, and where the last ends.
fn bounds(records: &[Vec<u8>]) -> Vec<usize> {
    let ends = records.iter().scan(HEADER, |end, record| {
        *end += HEAD + record.len();
        Some(*end)
    });
    std::iter::once(HEADER).chain(ends).collect()
}

#[test]
fn records_read_back_across_segments_and_restarts() {
    let (disk, records) = written(300);
    let (segments, replayed, tail) = open(&disk, SMALL).unwrap();
    assert_eq!((replayed, tail), (records.clone(), Tail::Clean));
    for from in [0, 1, 63, 64, 65, 150, 299, 300, 1000] {
        let expected: Vec<_> = (from..records.len()).take(10).map(|n| (n as u64, payload(n))).collect();
        assert_eq!(segments.read(from as u64, 10).unwrap(), expected, "from {from}");
    }
}

#[test]
fn a_cut_at_any_byte_of_the_last_records_costs_only_what_was_cut() {
    let (disk, records) = written(8);
    let (bounds, image) = (bounds(&records), disk.bytes(&file_name(0)));
    for garbage in [0x00, 0xFF, 0xF5] {
        for cut in bounds[5]..bounds[8] {
            let torn = disk.deep_copy();
            let mut bytes = image.clone();
            bytes[cut..bounds[8]].fill(garbage);
            torn.set_bytes(&file_name(0), &bytes);
            let whole = bounds.iter().filter(|end| **end <= cut).count() - 1;
            let (mut segments, replayed, tail) = open(&torn, SMALL).unwrap();
            assert_eq!(replayed, records[..whole], "cut at {cut}");
            let clean = cut == bounds[whole] && garbage == 0;
            match tail {
                Tail::Clean => assert!(clean, "cut at {cut}"),
                Tail::Dropped { seq, offset, .. } => {
                    assert!(!clean);
                    assert_eq!((seq, offset), (whole as u64, bounds[whole] as u64));
                }
            }
            segments.append(b"{}", Durability::Synced).unwrap();
            let (_, replayed, tail) = open(&torn, SMALL).unwrap();
            assert_eq!((replayed.len(), tail), (whole + 1, Tail::Clean), "after going on from {cut}");
        }
    }
}

#[test]
fn a_file_that_ends_early_costs_only_what_is_gone() {
    let (disk, records) = written(4);
    let bounds = bounds(&records);
    let image = disk.bytes(&file_name(0));
    disk.set_bytes(&file_name(0), &image[..bounds[4] - 1]);
    let (mut segments, replayed, _) = open(&disk, SMALL).unwrap();
    assert_eq!(replayed, records[..3]);
    segments.append(&records[3], Durability::Synced).unwrap();
    assert_eq!(open(&disk, SMALL).unwrap().1, records);
}

#[test]
fn a_flip_of_any_byte_before_the_last_record_refuses_the_start_and_names_it() {
    let (disk, records) = written(6);
    let (bounds, image) = (bounds(&records), disk.bytes(&file_name(0)));
    for at in 0..bounds[6] {
        for flip in [0x01, 0x80] {
            let flipped = disk.deep_copy();
            let mut bytes = image.clone();
            bytes[at] ^= flip;
            flipped.set_bytes(&file_name(0), &bytes);
            let hit = bounds.iter().filter(|start| **start <= at).count().checked_sub(1);
            match (open(&flipped, SMALL), hit) {
                (Err(OpenError::Damaged(bad)), None) => assert_eq!(bad.damage, Damage::Header),
                (Err(OpenError::Damaged(bad)), Some(hit)) => {
                    assert_eq!((bad.seq, bad.offset), (hit as u64, bounds[hit] as u64), "byte {at}");
                    assert!(bad.file.ends_with(file_name(0)));
                }
                // The last one looks like a crash; nothing else does.
                (Ok((_, replayed, Tail::Dropped { seq: 5, .. })), Some(5)) => assert_eq!(replayed, records[..5]),
                (other, _) => panic!("byte {at}: {other:?}"),
            }
        }
    }
}

#[test]
fn blocks_zeroed_swapped_repeated_or_left_out_refuse_the_start() {
    let disk = Simulated::new(Lie::None);
    let (mut segments, _, _) = open(&disk, SMALL).unwrap();
    for n in 0..6 {
        segments.append(format!("{{\"n\":{n}}}").as_bytes(), Durability::Synced).unwrap();
    }
    let (image, length) = (disk.bytes(&file_name(0)), HEAD + 7);
    let block = |n: usize| HEADER + n * length..HEADER + (n + 1) * length;
    let damage: [(&str, Damaging<'_>); 5] = [
        ("zeroed", Box::new(|bytes| bytes[block(2)].fill(0))),
        ("zeroed with its neighbour", Box::new(|bytes| bytes[HEADER..HEADER + 2 * length].fill(0))),
        (
            "swapped",
            Box::new(|bytes| {
                let second = bytes[block(2)].to_vec();
                bytes.copy_within(block(3), block(2).start);
                bytes[block(3)].copy_from_slice(&second);
            }),
        ),
        ("repeated at the end", Box::new(|bytes| bytes.copy_within(block(5), block(6).start))),
        ("left out", Box::new(|bytes| bytes.copy_within(block(3).start..block(7).start, block(2).start))),
    ];
    for (what, damage) in damage {
        let copy = disk.deep_copy();
        let mut bytes = image.clone();
        damage(&mut bytes);
        copy.set_bytes(&file_name(0), &bytes);
        assert!(matches!(open(&copy, SMALL), Err(OpenError::Damaged(_))), "{what}");
    }
}

#[test]
fn a_record_whose_checksum_was_mended_is_found_by_the_one_after_it() {
    let (disk, records) = written(6);
    let bounds = bounds(&records);
    let mut bytes = disk.bytes(&file_name(0));
    let salt = bytes[24..40].try_into().unwrap();
    let old = frame::decode(&salt, &bytes[bounds[2]..]).unwrap();
    let (new, _) = frame::encode(&salt, 2, old.durable, old.prev, &vec![b'!'; records[2].len()]).unwrap();
    bytes[bounds[2]..bounds[3]].copy_from_slice(&new);
    disk.set_bytes(&file_name(0), &bytes);
    let Err(OpenError::Damaged(bad)) = open(&disk, SMALL) else { panic!("opened") };
    assert_eq!((bad.seq, bad.damage), (3, Damage::Unchained));
}

#[test]
fn segments_removed_exchanged_or_blanked_refuse_the_start() {
    let (disk, _) = written(150);
    let removed = disk.deep_copy();
    crate::disk::Disk::remove(&removed, &file_name(1)).unwrap();
    assert!(matches!(open(&removed, SMALL), Err(OpenError::Missing { file }) if file.ends_with(file_name(1))));
    let exchanged = disk.deep_copy();
    exchanged.set_bytes(&file_name(1), &disk.bytes(&file_name(2)));
    assert!(matches!(open(&exchanged, SMALL), Err(OpenError::Damaged(_))));
    let blanked = disk.deep_copy();
    blanked.set_bytes(&file_name(1), &[0; 2048]);
    assert!(matches!(open(&blanked, SMALL), Err(OpenError::Damaged(bad)) if bad.damage == Damage::Header));
}

#[test]
fn a_spare_that_is_not_blank_refuses_this_start_and_not_the_next() {
    let (disk, _) = written(3);
    assert!(open(&disk.deep_copy(), SMALL).is_ok());
    for spare in [1, 2] {
        let soiled = disk.deep_copy();
        let mut bytes = soiled.bytes(&file_name(spare));
        bytes[HEADER + 100] = 1;
        soiled.set_bytes(&file_name(spare), &bytes);
        match open(&soiled, SMALL) {
            Err(OpenError::Damaged(bad)) => assert!(bad.file.ends_with(file_name(spare)), "{bad}"),
            other => panic!("spare {spare}: {other:?}"),
        }
    }
}

#[test]
fn a_newer_format_is_refused_as_such() {
    let (disk, _) = written(3);
    let mut bytes = disk.bytes(&file_name(0));
    bytes[8] = 9;
    let crc = crc32fast::hash(&bytes[..12]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    disk.set_bytes(&file_name(0), &bytes);
    let error = open(&disk, SMALL).unwrap_err();
    assert_eq!(error.to_string(), "`/simulated/segment-00000000` has format 9, and this program knows 1");
}

#[test]
fn after_a_failed_sync_nothing_is_appended_any_more() {
    let (disk, _) = written(3);
    let (mut segments, _, _) = open(&disk, SMALL).unwrap();
    disk.fail(Some(Fault { after: 2, errno: Errno::IO, forever: false }));
    let error = segments.append(b"{}", Durability::Synced).unwrap_err();
    assert!(matches!(error, AppendError::Failed(_)) && error.is_fatal());
    for durability in [Durability::Buffered, Durability::Synced] {
        assert!(matches!(segments.append(b"{}", durability), Err(AppendError::Poisoned { .. })));
    }
    assert!(matches!(segments.sync(), Err(AppendError::Poisoned { .. })));
}

#[test]
fn what_a_restart_shows_is_on_disk_even_after_a_failed_sync() {
    let (disk, records) = written(3);
    let (mut segments, _, _) = open(&disk, SMALL).unwrap();
    disk.fail(Some(Fault { after: 2, errno: Errno::IO, forever: false }));
    segments.append(b"{}", Durability::Synced).unwrap_err();
    disk.kill();
    let (_, shown, _) = open(&disk, SMALL).unwrap();
    assert_eq!(shown.len(), records.len() + 1);
    disk.cut_power(&mut Seed(0));
    assert_eq!(open(&disk, SMALL).unwrap().1, shown);
}

#[test]
fn a_full_disk_uses_up_the_reserve_then_refuses_and_then_works_again() {
    let (disk, _) = written(3);
    let (mut segments, _, _) = open(&disk, SMALL).unwrap();
    disk.set_full(true);
    let promised = segments.room(400);
    let mut appended = 0;
    let error = loop {
        match segments.append(&[b'x'; 400], Durability::Synced) {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
    };
    assert!(appended >= 2 * 4 && appended * 432 >= promised, "{appended} records for a promise of {promised}");
    assert_eq!(error.to_string(), "no room for a record of 400 bytes: the reserve is used up and the disk is full");
    assert!(!error.is_fatal());
    assert_eq!(open(&disk, SMALL).unwrap().1.len(), 3 + usize::try_from(appended).unwrap());
    disk.set_full(false);
    segments.append(&[b'x'; 400], Durability::Synced).unwrap();
    assert!(segments.room(400) >= 2 * 1400, "the reserve is back");
}

#[test]
fn a_first_start_on_a_full_disk_says_so() {
    let disk = Simulated::new(Lie::None);
    disk.set_full(true);
    assert!(matches!(open(&disk, SMALL), Err(OpenError::NoRoom { bytes: 2048, .. })));
}

#[test]
fn a_record_larger_than_a_segment_is_refused_and_the_log_goes_on() {
    let (disk, _) = written(1);
    let (mut segments, _, _) = open(&disk, SMALL).unwrap();
    let most = 2048 - HEADER - HEAD;
    let error = segments.append(&vec![0; most + 1], Durability::Synced).unwrap_err();
    assert_eq!(error.to_string(), format!("a record of {} bytes is larger than the {most} a segment holds", most + 1));
    segments.append(&vec![1; most], Durability::Synced).unwrap();
    assert_eq!(open(&disk, SMALL).unwrap().1.len(), 2);
}

#[test]
fn retention_drops_whole_old_segments_and_keeps_positions() {
    let (disk, _) = written(200);
    let (mut segments, _, _) = open(&disk, SMALL).unwrap();
    segments.drop_before(120).unwrap();
    let first = segments.start();
    assert!(first > 0 && first <= 120);
    assert_eq!(segments.read(0, 1).unwrap(), [(first, payload(usize::try_from(first).unwrap()))]);
    segments.drop_before(u64::MAX).unwrap();
    assert!(segments.start() < 200 && segments.end() == 200);
    let mut seen = Vec::new();
    let (again, _) = Segments::open(disk, SMALL, &mut |seq, _, _| {
        seen.push(seq);
        Ok(())
    })
    .unwrap();
    assert_eq!((seen.first(), again.end()), (Some(&segments.start()), 200));
}

/// One life of a log after another, with kills, power cuts and failing operations. Says what went wrong.
fn lives(seed: u64, lie: Lie) -> Result<(), String> {
    let mut seed = Seed(seed);
    let disk = Simulated::new(lie);
    // What was appended; how much of it was promised; one more that may be there or not.
    let (mut appended, mut promised, mut perhaps): (Records, usize, Option<Vec<u8>>) = (Vec::new(), 0, None);
    for _ in 0..8 {
        if seed.below(4) == 0 {
            disk.fail(Some(any_fault(&mut seed, 6)));
        }
        let opened = match open(&disk, SMALL) {
            Err(OpenError::Disk(_) | OpenError::NoRoom { .. }) => {
                disk.kill();
                open(&disk, SMALL)
            }
            other => other,
        };
        let (mut segments, shown, _) = opened.map_err(|error| format!("a crash looks like damage: {error:?}"))?;
        appended.extend(perhaps.take());
        if shown.len() < promised {
            return Err(format!("{} of {promised} promised records are left", shown.len()));
        }
        if appended.get(..shown.len()) != Some(&shown[..]) {
            let differs = shown.iter().zip(&appended).position(|(shown, appended)| shown != appended);
            let (shown, appended) = (shown.len(), appended.len());
            return Err(format!("{shown} of {appended} records are shown, and record {differs:?} is another one"));
        }
        // What was shown is on disk.
        (promised, appended) = (shown.len(), shown);
        if seed.below(2) == 0 {
            disk.fail(Some(any_fault(&mut seed, 60)));
        }
        for _ in 0..seed.below(40) {
            let record = vec![b'a' + u8::try_from(seed.below(26)).unwrap(); usize::try_from(seed.below(700)).unwrap()];
            let durability = if seed.below(3) == 0 { Durability::Synced } else { Durability::Buffered };
            match segments.append(&record, durability) {
                Ok(_) => appended.push(record),
                Err(AppendError::NoRoom { .. }) => {}
                Err(_) => {
                    perhaps = Some(record);
                    break;
                }
            }
            promised = promised.max(usize::try_from(segments.durable()).unwrap());
        }
        if seed.below(3) == 0 {
            disk.kill();
        } else {
            disk.cut_power(&mut seed);
        }
    }
    Ok(())
}

fn any_fault(seed: &mut Seed, within: u64) -> Fault {
    let errno = if seed.below(2) == 0 { Errno::NOSPC } else { Errno::IO };
    Fault { after: 1 + seed.below(within), errno, forever: seed.below(2) == 0 }
}

#[test]
fn no_crash_loses_a_promised_record_or_looks_like_damage() {
    for seed in 0..1_000 {
        lives(seed, Lie::None).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
}

#[test]
fn the_simulation_notices_a_missing_sync_and_a_missing_directory_sync() {
    for lie in [Lie::Sync, Lie::SyncDirectory] {
        assert!((0..100).any(|seed| lives(seed, lie).is_err()), "{lie:?}");
    }
}
