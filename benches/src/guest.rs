//! A shipped remedy, built by cargo once and packed with its manifest.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, ensure};
use theriac_authority::package;
use theriac_model::call::{Call, FaultInput, Handle, Reply};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::fault::{FaultKind, Severity};
use theriac_model::id::Label;
use theriac_model::remedy::ParamValue;
use theriac_protocol::worker::WorkerLimits;

use crate::place::root;

/// Limits as `service-recover` has them.
pub const LIMITS: WorkerLimits =
    WorkerLimits { memory: 16 << 20, time_ms: 10_000, host_calls: 1_000, handles: 64, log_bytes: 32 << 10 };

/// The packed component of a folder below `plugins`.
pub fn packed(name: &str) -> anyhow::Result<Vec<u8>> {
    packed_in("plugins", name)
}

/// The packed component of a folder below a workspace of guests.
pub fn packed_in(workspace: &str, name: &str) -> anyhow::Result<Vec<u8>> {
    let plugins = root().join(workspace);
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(&plugins)
        .args(["build", "--release", "--quiet", "--target", "wasm32-wasip2", "--package", name])
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "`{name}` does not build; is the target wasm32-wasip2 there?");
    let component = plugins.join("target/wasm32-wasip2/release").join(format!("{}.wasm", name.replace('-', "_")));
    let manifest = fs::read_to_string(plugins.join(name).join("remedy.toml"))?;
    Ok(package::embed(&fs::read(&component).with_context(|| component.display().to_string())?, &manifest)?)
}

/// A fault as a remedy is told of it.
pub fn fault() -> anyhow::Result<FaultInput> {
    Ok(FaultInput {
        kind: FaultKind::ServiceCrash,
        severity: Severity::Critical,
        target: "unit:web".to_owned(),
        summary: "it is down and nobody stopped it".to_owned(),
        numbers: Vec::new(),
        evidence: Vec::new(),
        params: vec![(Label::parse("step")?, ParamValue::Choice("start".to_owned()))],
    })
}

/// A handle for every `open`, and a no for all the rest: the remedy ends after its second call.
pub fn answer(call: &Call) -> Reply {
    match call {
        Call::Open { .. } => Reply::Opened(Handle(1)),
        Call::Log { .. } | Call::Panicked { .. } | Call::Drop { .. } => Reply::Done,
        Call::Dir { .. }
        | Call::Entry { .. }
        | Call::Unit { .. }
        | Call::Group { .. }
        | Call::Process { .. }
        | Call::Series { .. }
        | Call::Probe { .. }
        | Call::Program { .. }
        | Call::Http { .. }
        | Call::Knob { .. }
        | Call::Certificate { .. }
        | Call::Release { .. }
        | Call::Container { .. }
        | Call::Firewall { .. }
        | Call::Database { .. } => Reply::Denied(Denial::new(DenialCause::Unavailable, "target", "bench", "anything")),
    }
}
