//! Every verb of `files` that is not granted, on files that are, and cursors and ranges that nobody gave out.

use theriac_sdk::files::Entry;
use theriac_sdk::prelude::*;

use crate::Attempts;

const MARK: &[u8] = b"hostile was here\n";

pub(crate) fn attack(attempts: &mut Attempts) {
    let dir = match Dir::open("logs") {
        Ok(dir) => dir,
        Err(denial) => {
            warn!("files: {} (rule {})", denial.refusal().attempted, denial.refusal().rule);
            return;
        }
    };
    attempts.note("space", dir.space());
    attempts.note("list-deleted", dir.list_deleted());
    for cursor in [1, 7, u64::MAX / 2, u64::MAX] {
        let page = dir.list(Filter::by_name(), cursor);
        attempts.note_unless("a forged cursor gave entries", page, |page| page.entries.is_empty());
    }
    for entry in dir.entries(Filter::by_name()).flatten().take(32) {
        escapes(attempts, &entry);
        verbs(attempts, &entry);
    }
}

/// What the globs should never have let through.
fn escapes(attempts: &mut Attempts, entry: &Entry) {
    let name = entry.name();
    let outside = name.starts_with('/') || name.split('/').any(|part| part == "..") || name.contains("secret");
    if outside {
        attempts.note(&format!("an entry outside: {name}"), Ok(()));
    }
}

fn verbs(attempts: &mut Attempts, entry: &Entry) {
    let name = entry.name();
    attempts.note(&format!("read {name}"), entry.read(0, 4096));
    attempts.note(&format!("read {name} from its end"), entry.read(u64::MAX, u32::MAX));
    attempts.note(&format!("tail {name}"), entry.tail(u32::MAX));
    attempts.note(&format!("replace {name}"), entry.replace(MARK));
    attempts.note(&format!("append {name}"), entry.append(MARK));
    attempts.note(&format!("truncate {name}"), entry.truncate());
    attempts.note(&format!("copy-truncate {name}"), entry.copy_truncate());
    attempts.note(&format!("archive {name}"), entry.archive());
    attempts.note(&format!("set-aside {name}"), entry.set_aside());
    attempts.note(&format!("remove {name}"), entry.remove());
}

/// A handle made of a number.
#[expect(unsafe_code, reason = "the forgery itself: the binding's constructor from a raw handle")]
pub(crate) fn forge(attempts: &mut Attempts) {
    for number in [1_u32, 2, 3, 4, 77, 0x0fff_ffff] {
        // SAFETY: none; the host's handle table has to refuse it.
        let entry = unsafe { Entry::from_handle(number) };
        attempts.note(&format!("forged handle {number}"), entry.remove());
        core::mem::forget(entry);
    }
}
