//! The table at the end.

use super::case::{Finding, Outcome};

const HEAD: [&str; 9] =
    ["case", "fault", "detected", "effect", "healed", "stable", "mission", "effects", "what came of it"];

/// Prints one line per case.
pub(crate) fn print(findings: &[Finding]) {
    let rows: Vec<[String; 9]> = findings.iter().map(row).collect();
    let mut widths = HEAD.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    println!("\nseconds after the fault was made");
    line(&HEAD.map(str::to_owned), &widths);
    for row in &rows {
        line(row, &widths);
    }
}

fn line(cells: &[String; 9], widths: &[usize; 9]) {
    let padded: Vec<String> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
    println!("{}", padded.join("  ").trim_end());
}

fn row(finding: &Finding) -> [String; 9] {
    let blank = || "-".to_owned();
    let time = |time: Option<f64>| time.map_or_else(blank, |time| format!("{time:.2}"));
    let mission = finding.mission.map_or_else(blank, |mission| format!("< {mission}"));
    let (name, fault) = (finding.name().to_owned(), finding.fault.to_owned());
    match &finding.outcome {
        Outcome::Right { times, effects, said } => [
            name,
            fault,
            time(times.detected),
            time(times.effect),
            time(times.healed),
            time(times.stable),
            mission,
            effects.to_string(),
            said.clone(),
        ],
        Outcome::Wrong(why) => {
            [name, fault, blank(), blank(), blank(), blank(), mission, blank(), format!("WRONG: {why}")]
        }
        Outcome::NotPossible(why) => {
            [name, fault, blank(), blank(), blank(), blank(), mission, blank(), format!("not possible here: {why}")]
        }
    }
}
