//! The guest's memory: one limit on the sum of all memories and tables, and a note of what was refused.
//!
//! A refused `memory.grow` only returns -1 to the guest, which then panics about an allocation, or traps, or goes wrong: the
//! note is what lets the ending say why.

use theriac_model::units::Bytes;
use wasmtime::ResourceLimiter;

use crate::limits::{INSTANCES, TABLE_ELEMENT_BYTES, TABLES_AND_MEMORIES};

/// Counts and limits.
#[derive(Debug)]
pub(crate) struct Meter {
    allowed: u64,
    used: u64,
    refused: Option<u64>,
}

impl Meter {
    pub(crate) const fn new(allowed: u64) -> Self {
        Self { allowed, used: 0, refused: None }
    }

    /// What was refused, as a sentence.
    pub(crate) fn refusal(&self) -> Option<String> {
        self.refused.map(|asked| format!("memory: asked {}, allowed {}", Bytes(asked), Bytes(self.allowed)))
    }

    fn grow(&mut self, current: u64, desired: u64) -> bool {
        let sum = self.used.saturating_sub(current).saturating_add(desired);
        if sum > self.allowed {
            self.refused = Some(sum);
            return false;
        }
        self.used = sum;
        true
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(current as u64, desired as u64))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let bytes = |elements: usize| (elements as u64).saturating_mul(TABLE_ELEMENT_BYTES);
        Ok(self.grow(bytes(current), bytes(desired)))
    }

    fn instances(&self) -> usize {
        INSTANCES
    }

    fn tables(&self) -> usize {
        TABLES_AND_MEMORIES
    }

    fn memories(&self) -> usize {
        TABLES_AND_MEMORIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RS06.
    #[test]
    fn the_limit_is_on_the_sum_and_a_refusal_is_remembered() {
        let mut meter = Meter::new(16 << 20);
        assert!(meter.memory_growing(0, 10 << 20, None).unwrap());
        assert!(meter.table_growing(0, 1 << 19, None).unwrap());
        assert_eq!(meter.refusal(), None);
        assert!(!meter.memory_growing(0, 3 << 20, None).unwrap());
        assert_eq!(meter.refusal().unwrap(), "memory: asked 17 MiB, allowed 16 MiB");
        assert!(meter.memory_growing(10 << 20, 12 << 20, None).unwrap());
    }
}
