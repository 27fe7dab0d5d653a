//! Uses up whatever can be used up, chosen by the parameter `bomb`. Each must end as a typed denial or a killed worker with a
//! translated sentence, and the daemon goes on.
#![no_std]
#![expect(clippy::panic, reason = "a panic is one of the bombs")]

use core::hint::black_box;
use theriac_sdk::prelude::*;

theriac_sdk::remedy!(treat, check);

const MIB: usize = 1 << 20;

fn treat(input: &Input) -> Result<Report, Denial> {
    match input.param_choice("bomb") {
        "loop" => spin(),
        "memory" => return Ok(grow()),
        "log" => flood(),
        "panic" => panic!("boom: the fault was {:?}", input.kind),
        "index" => return Ok(Report::Treated(format!("{}", out_of_bounds(&input.numbers.len())))),
        "argument" => return argument(),
        "handles" => return hoard(),
        "recursion" => return Ok(Report::Treated(format!("{}", deeper(0)))),
        "calls" => return call_forever(),
        "report" => return Ok(Report::Treated("A".repeat(8 * MIB))),
        "escape" => return Ok(Report::Treated("\u{1b}[2J\u{202e}gnp.exe\r\nok: all well\0".to_string())),
        // Well-behaved here, and not in the check.
        "check-loop" | "check-change" | "check-panic" => {}
        other => return Ok(Report::GaveUp(format!("there is no bomb `{other}`"))),
    }
    let unit = Unit::open("target")?;
    unit.restart()?;
    Ok(Report::Treated("restarted".to_string()))
}

fn check(input: &Input) -> Result<Opinion, Denial> {
    match input.param_choice("bomb") {
        "check-loop" => spin(),
        "check-panic" => panic!("boom in the check"),
        "check-change" => {
            let unit = Unit::open("target")?;
            // Denied, whatever the manifest grants: the error is what a test sees.
            unit.restart()?;
            warn!("leak: a unit was restarted in a check");
        }
        _ => {}
    }
    Ok(Opinion::Satisfied)
}

fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Touches each page: what is only reserved costs the host nothing.
fn grow() -> Report {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    for _ in 0..8192 {
        hoard.push(black_box(vec![0xA5; MIB]));
    }
    Report::Treated(format!("leak: {} MiB", hoard.len()))
}

fn flood() {
    let line = "A".repeat(4096);
    for _ in 0..4096 {
        info!("{line}");
    }
}

#[expect(clippy::indexing_slicing, reason = "the panic is the point")]
fn out_of_bounds(at: &usize) -> u8 {
    let table = [1_u8; 4];
    table[black_box(at + 1000)]
}

/// 100 MB in one argument: more than the guest's memory may hold by default, and more than a host call may carry where a
/// manifest asks for more.
fn argument() -> Result<Report, Denial> {
    let text = "A".repeat(100 * 1000 * 1000);
    Unit::open(&text)?;
    Ok(Report::Treated("leak: a label of 100 MB".to_string()))
}

fn hoard() -> Result<Report, Denial> {
    let mut units = Vec::new();
    for _ in 0..100_000 {
        units.push(Unit::open("target")?);
    }
    Ok(Report::Treated(format!("leak: {} handles", units.len())))
}

#[expect(unconditional_recursion, reason = "the overflow of the stack is the point")]
fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    deeper(depth + 1) + frame.iter().sum::<u64>()
}

fn call_forever() -> Result<Report, Denial> {
    let unit = Unit::open("target")?;
    loop {
        unit.status()?;
    }
}
