//! `[[program]]` of `runner.toml`: programs that remedies may run, as whom, and what their jail may hold.

use theriac_model::program::Network;
use theriac_model::target::MountPath;

use crate::document::{Field, Mistake};
use crate::manifest::{program_network, program_paths, uid};

/// One listed program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramConfig {
    /// Its absolute path.
    pub path: MountPath,
    /// The user it runs as.
    pub uid: u32,
    /// The group it runs as.
    pub gid: u32,
    /// Remedies may run it in a way that changes something.
    pub changes: bool,
    /// Below these a jail may read.
    pub read: Vec<MountPath>,
    /// Below these a jail may write.
    pub write: Vec<MountPath>,
    /// The most of the network a jail may have.
    pub network: Network,
    /// What it changes can be made again.
    pub reproducible: bool,
}

const KEYS: &[&str] = &["path", "user", "group", "changes", "read", "write", "network", "reproducible"];

pub(super) fn parse(field: Field) -> Result<ProgramConfig, Mistake> {
    let mut table = field.table(KEYS)?;
    let path = table.required("path", "the program's absolute path")?.parse_with(MountPath::parse)?;
    // Root has to be written down: nothing runs as root because nobody thought of it.
    let user = table.required("user", "the uid it runs as, 0 for root on purpose")?;
    let who = |field: &Field| if field.integer(0, u32::MAX)? == 0 { Ok(0) } else { uid(field) };
    let group = table.optional("group");
    let write = table.optional("write").map_or_else(|| Ok(Vec::new()), program_paths)?;
    Ok(ProgramConfig {
        path,
        uid: who(&user)?,
        gid: group.as_ref().map_or_else(|| who(&user), who)?,
        changes: table.optional("changes").map_or(Ok(false), |field| field.flag())?,
        read: table.optional("read").map_or_else(|| Ok(Vec::new()), program_paths)?,
        write,
        network: table.optional("network").map_or(Ok(Network::None), |field| program_network(&field))?,
        reproducible: table.optional("reproducible").map_or(Ok(false), |field| field.flag())?,
    })
}
