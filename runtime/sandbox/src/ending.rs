//! How a guest ended, in a sentence for an operator. wasmtime's own messages speak to people who embed wasmtime.

use theriac_model::units::Bytes;
use theriac_protocol::worker::{EndReason, WorkerLimits};
use wasmtime::Trap;

use crate::host::State;
use crate::interfaces::shown;
use crate::limits::{GUEST_STACK, HOSTCALL_BYTES, INSTANCES};
use crate::port::PortError;

/// The end of a guest that did not return.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct Ending {
    /// The class for the runner.
    pub reason: EndReason,
    /// For people.
    pub sentence: String,
}

/// Why the host ended a guest from within a host call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    #[error("more than {allowed} open handles")]
    Handles { allowed: u32 },
    #[error("more than {allowed} host calls")]
    HostCalls { allowed: u32 },
    #[error("more than {} of log", Bytes(u64::from(*allowed)))]
    Log { allowed: u32 },
    #[error("the runner's reply does not fit the call")]
    WrongReply,
    #[error("it ended itself with `exit`, and said that it {}", if *well { "went well" } else { "failed" })]
    Exit { well: bool },
    #[error("it called `{function}`, and its WASI is sealed: there is nothing that could be answered")]
    Sealed { function: String },
    #[error("it asked for more than {} of random numbers at once", Bytes(*allowed))]
    Noise { allowed: u64 },
    #[error(transparent)]
    Port(#[from] PortError),
}

/// What became of a call into a guest that did not return.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The guest's doing, or a limit's.
    Ended(Ending),
    /// The runner is gone or makes no sense.
    Port(PortError),
}

/// The sentence of a time limit.
pub(crate) fn time_limit(limits: WorkerLimits) -> String {
    let millis = limits.time_ms;
    if millis.is_multiple_of(1000) {
        format!("time limit {} s", millis / 1000)
    } else {
        format!("time limit {millis} ms")
    }
}

/// Translates whatever instantiation or a call failed with.
pub(crate) fn translate(error: wasmtime::Error, state: &State, limits: WorkerLimits) -> Broken {
    let (reason, sentence) = match error.downcast::<Stop>() {
        Ok(Stop::Port(error)) => return Broken::Port(error),
        Ok(stop @ (Stop::Handles { .. } | Stop::HostCalls { .. } | Stop::Log { .. })) => {
            (EndReason::Budget, stop.to_string())
        }
        Ok(stop @ (Stop::WrongReply | Stop::Exit { .. } | Stop::Sealed { .. } | Stop::Noise { .. })) => {
            (EndReason::Trap, stop.to_string())
        }
        Err(error) => of_wasmtime(&error, state, limits),
    };
    Broken::Ended(Ending { reason, sentence })
}

fn of_wasmtime(error: &wasmtime::Error, state: &State, limits: WorkerLimits) -> (EndReason, String) {
    let trap = error.downcast_ref::<Trap>().copied();
    if trap == Some(Trap::Interrupt) {
        return (EndReason::Time, time_limit(limits));
    }
    if let Some(refusal) = state.meter.refusal() {
        let then = state.panic.as_deref().map(|panic| format!("; then it {panic}")).unwrap_or_default();
        return (EndReason::Memory, format!("{refusal}{then}"));
    }
    if let Some(panic) = &state.panic {
        return (EndReason::Trap, panic.clone());
    }
    if let Some(trap) = trap {
        return (EndReason::Trap, of_trap(trap));
    }
    // These have no type of their own in wasmtime 48; a test holds each text.
    let text = error.root_cause().to_string();
    if text.contains("store handle limit exceeded") {
        return (EndReason::Budget, "too many open handles".to_owned());
    }
    if text.contains("fuel allocated for hostcalls") {
        return (EndReason::Budget, format!("more than {} handed over in one call", Bytes(HOSTCALL_BYTES as u64)));
    }
    if text.contains("instance count too high") {
        return (EndReason::Budget, format!("more than {INSTANCES} instances of core modules"));
    }
    (EndReason::Trap, format!("it broke the calling convention: {}", shown(&text)))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "wasmtime's enum is non-exhaustive; its own words do for the rest")]
fn of_trap(trap: Trap) -> String {
    match trap {
        Trap::StackOverflow => format!("recursion too deep: the stack has {}", Bytes(GUEST_STACK as u64)),
        Trap::UnreachableCodeReached => "it aborted without saying why (no panic message was sent)".to_owned(),
        Trap::MemoryOutOfBounds => "it read or wrote outside its memory".to_owned(),
        Trap::IntegerDivisionByZero => "it divided by zero".to_owned(),
        other => {
            let text = other.to_string();
            format!("it trapped: {}", text.strip_prefix("wasm trap: ").unwrap_or(&text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_limit_is_said_in_whole_seconds_where_it_is() {
        let limits = |time_ms| WorkerLimits { memory: 0, time_ms, host_calls: 0, handles: 0, log_bytes: 0 };
        assert_eq!(time_limit(limits(10_000)), "time limit 10 s");
        assert_eq!(time_limit(limits(250)), "time limit 250 ms");
    }
}
