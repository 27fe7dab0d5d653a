//! The processes of a granted unit, cgroup or user (`[grants.processes.LABEL]`).

use crate::Denial;
use alloc::string::String;

pub use crate::bindings::theriac::remedy::processes::{Group, Info, Process, Usage};

impl Group {
    /// The process for which `key` is largest, for evidence. Processes that end meanwhile are left out.
    pub fn largest(&self, key: impl Fn(&Info) -> u64) -> Result<Option<(String, u64)>, Denial> {
        let mut largest: Option<(String, u64)> = None;
        for process in self.list()? {
            let Ok(info) = process.info() else { continue };
            let value = key(&info);
            if largest.as_ref().is_none_or(|(_, most)| value > *most) {
                largest = Some((info.name, value));
            }
        }
        Ok(largest)
    }
}
