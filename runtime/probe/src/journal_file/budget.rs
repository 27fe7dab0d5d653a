//! What one look at the journal may cost, whatever its files say.

use super::FileError;
use crate::group::monotonic_ns;

/// A tail of 200 lines takes some milliseconds; a disk that needs longer than this is itself the fault.
const TIME_NS: u64 = 2_000_000_000;
/// 200 entries of 30 fields, 2048 entries looked at for systemd's own, and the chains to get there, four times over.
const READS: u32 = 40_000;
/// In bytes; entries are small, and a message is read as far as it is shown.
const BYTES: u64 = 32 << 20;

/// What is left.
#[derive(Debug)]
pub(super) struct Budget {
    until_ns: u64,
    reads: u32,
    bytes: u64,
}

impl Budget {
    pub(super) fn of_one_look() -> Self {
        Self { until_ns: monotonic_ns().saturating_add(TIME_NS), reads: READS, bytes: BYTES }
    }

    /// Pays for one read.
    pub(super) fn pay(&mut self, bytes: usize) -> Result<(), FileError> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let left = (self.reads.checked_sub(1), self.bytes.checked_sub(bytes));
        let (Some(reads), Some(bytes)) = left else { return Err(FileError::Spent) };
        if monotonic_ns() > self.until_ns {
            return Err(FileError::Spent);
        }
        (self.reads, self.bytes) = (reads, bytes);
        Ok(())
    }
}

#[cfg(test)]
impl Budget {
    /// What was read so far.
    pub(super) fn spent(&self) -> (u32, u64) {
        (READS - self.reads, BYTES - self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_bytes_and_time_run_out_each_for_itself() {
        let mut budget = Budget::of_one_look();
        assert!(budget.pay(1 << 20).is_ok());
        assert_eq!(budget.spent(), (1, 1 << 20));
        assert!(matches!(budget.pay(64 << 20), Err(FileError::Spent)));
        assert!(matches!(Budget { reads: 0, ..Budget::of_one_look() }.pay(1), Err(FileError::Spent)));
        assert!(matches!(Budget { until_ns: 1, ..Budget::of_one_look() }.pay(1), Err(FileError::Spent)));
    }
}
