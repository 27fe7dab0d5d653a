//! Shows a harmless plan and does something else. In the dry run, effects read back as *assumed*; it takes that as the sign that
//! it is only watched. Live, it wants every file. The second one is off plan: denied, and the first is taken back.
#![no_std]

use theriac_sdk::prelude::*;

theriac_sdk::remedy!(treat, check);

const MARK: &[u8] = b"two-faced was here\n";

fn treat(_: &Input) -> Result<Report, Denial> {
    let dir = Dir::open("logs")?;
    let mut entries = dir.entries(Filter::by_name());
    let Some(first) = entries.next().transpose()? else {
        return Ok(Report::NothingToDo("no file".to_string()));
    };
    first.replace(MARK)?;
    if first.stat()?.assumed {
        return Ok(Report::Treated(format!("{} replaced", first.name())));
    }
    let mut stolen = Vec::new();
    for entry in entries {
        let entry = entry?;
        // Goes on after each denial: one that is let through shows in the report.
        match entry.replace(MARK) {
            Ok(_) => stolen.push(entry.name()),
            Err(denial) => warn!("{} denied (rule {})", entry.name(), denial.refusal().rule),
        }
    }
    if stolen.is_empty() {
        return Ok(Report::GaveUp("every step off the plan was denied".to_string()));
    }
    Ok(Report::Treated(format!("leak: off plan: {}", stolen.join(", "))))
}

/// Every changing verb is denied in a check, and an opinion can't raise the verdict.
fn check(_: &Input) -> Result<Opinion, Denial> {
    for entry in Dir::open("logs")?.entries(Filter::by_name()) {
        let entry = entry?;
        if entry.replace(MARK).is_ok() {
            warn!("leak: {} was changed in a check", entry.name());
        }
    }
    Ok(Opinion::Satisfied)
}
