use proptest::prelude::*;

use super::*;
use crate::disk::simulated::{Lie, Simulated};

const SMALL: Options = Options { segment_bytes: 1024, spares: 1 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_records_read_back_in_order(records: Vec<(String, Option<i64>)>) {
        let disk = Simulated::new(Lie::None);
        let mut log = Log::open_on(disk.clone(), SMALL).unwrap().log;
        let mut expected = Vec::new();
        for record in records {
            match log.append(&record, Durability::Buffered) {
                Ok(seq) => expected.push((seq, record)),
                Err(AppendError::Segment(segment::AppendError::TooLarge { .. })) => {}
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            }
        }
        log.sync().unwrap();
        prop_assert_eq!(&log.read(0, usize::MAX).unwrap(), &expected);
        prop_assert_eq!(Log::open_on(disk, SMALL).unwrap().records, expected);
    }
}

#[test]
fn a_record_of_another_type_refuses_the_start() {
    let disk = Simulated::new(Lie::None);
    let mut log = Log::open_on(disk.clone(), SMALL).unwrap().log;
    log.append(&"text".to_owned(), Durability::Synced).unwrap();
    let error = Log::<u64, _>::open_on(disk, SMALL).unwrap_err();
    assert!(matches!(error, OpenError::Damaged(bad) if matches!(bad.damage, Damage::Unreadable { .. })));
}
