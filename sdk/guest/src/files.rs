//! Regular files below a granted directory (`[grants.files.LABEL]`).

use alloc::vec;

use crate::Denial;
pub use crate::bindings::theriac::remedy::files::{Dir, Entry, Filter, Order, Page, Space, Stat};

impl Filter {
    /// Every file, the oldest first.
    pub const fn oldest_first() -> Self {
        Self { min_age: 0, min_bytes: 0, order: Order::OldestFirst }
    }

    /// Every file, the largest first.
    pub const fn largest_first() -> Self {
        Self { min_age: 0, min_bytes: 0, order: Order::LargestFirst }
    }

    /// Every file, by path.
    pub const fn by_name() -> Self {
        Self { min_age: 0, min_bytes: 0, order: Order::Name }
    }

    /// Only files at least that many seconds old.
    #[must_use]
    pub const fn older_than(mut self, seconds: u64) -> Self {
        self.min_age = seconds;
        self
    }

    /// Only files that hold at least that many bytes.
    #[must_use]
    pub const fn larger_than(mut self, bytes: u64) -> Self {
        self.min_bytes = bytes;
        self
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self::by_name()
    }
}

impl Dir {
    /// The directory's files, fetched a page at a time. What a listing gives is fixed when it begins: removing a file does
    /// not shift the rest.
    pub fn entries(&self, filter: Filter) -> Entries<'_> {
        Entries { dir: self, filter, page: vec![].into_iter(), next: Some(0) }
    }
}

/// The files of a directory; an error ends it.
#[derive(Debug)]
pub struct Entries<'a> {
    dir: &'a Dir,
    filter: Filter,
    page: vec::IntoIter<Entry>,
    next: Option<u64>,
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, Denial>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.page.next() {
                return Some(Ok(entry));
            }
            // An empty page with a cursor behind it is allowed: the grant's globs may have let nothing of it through.
            match self.dir.list(self.filter, self.next.take()?) {
                Ok(page) => {
                    self.next = page.next;
                    self.page = page.entries.into_iter();
                }
                Err(denial) => return Some(Err(denial)),
            }
        }
    }
}

impl Space {
    /// The share of its bytes that is available, in thousandths.
    pub const fn available_permille(&self) -> u64 {
        permille(self.available, self.total)
    }

    /// The share of its inodes that is available, in thousandths; 1000 where the filesystem has no such limit.
    pub const fn inodes_permille(&self) -> u64 {
        permille(self.inodes_available, self.inodes)
    }
}

const fn permille(part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return 1000;
    }
    // In u128, because a filesystem of 19 PB would overflow; the quotient is at most 1000 where `part <= whole`.
    let share = part as u128 * 1000 / whole as u128;
    if share > 1000 { 1000 } else { share as u64 }
}

#[cfg(test)]
mod tests {
    use super::permille;

    #[test]
    fn a_share_is_in_thousandths_and_never_overflows() {
        assert_eq!(permille(50, 1000), 50);
        assert_eq!(permille(u64::MAX, u64::MAX), 1000);
        assert_eq!(permille(0, 0), 1000, "no limit is never full");
        assert_eq!(permille(7, 3), 1000);
    }
}
