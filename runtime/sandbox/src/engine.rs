//! The one configuration of wasmtime: Cranelift, and only what guests need.
//!
//! Time is bounded by epochs, not by fuel: fuel costs a tenth of the speed and bounds nothing that the deadline and the plan
//! do not bound already. A remedy has no clock and no random numbers, so its effects are a function of its inputs without it.

use std::fmt::Write as _;
use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256};
use wasmtime::{Config, Engine, OptLevel, Strategy, WasmFeatures};

use crate::interfaces::CONTRACT;
use crate::limits;

/// Bumped when the structural check becomes stricter, so that what it would refuse now is not in the cache.
const CHECK_VERSION: u32 = 1;

/// wasmtime refused the configuration, which is a bug of ours.
#[derive(Debug, thiserror::Error)]
#[error("the engine can't be configured: {0}")]
pub struct EngineError(wasmtime::Error);

/// What rustc 1.95 writes for `wasm32-wasip2`, and the two that other languages' linkers need. All other proposals are refused
/// at load and are code that can't be reached.
const FEATURES: WasmFeatures = WasmFeatures::MUTABLE_GLOBAL
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::FLOATS)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    // LLVM writes the table's index of `call_indirect` in five bytes.
    .union(WasmFeatures::CALL_INDIRECT_OVERLONG)
    // Libraries that are linked into one component (an interpreter, its C library) share a table beside their own. References
    // to anything but functions are the pseudo-feature GC_TYPES, which stays off.
    .union(WasmFeatures::REFERENCE_TYPES)
    // And find their places by adding to what the loader gives them.
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::COMPONENT_MODEL);

/// Makes the engine.
pub fn engine() -> Result<Engine, EngineError> {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .wasm_features(WasmFeatures::all(), false)
        .wasm_features(FEATURES, true)
        .epoch_interruption(true)
        .consume_fuel(false)
        .max_wasm_stack(limits::GUEST_STACK)
        // 4 GiB of reserved address space per memory is the default, and what `ulimit -v` kills. Too little is as bad: every
        // growth past the reservation copies the whole memory (a guest that grew to 256 MiB by the MiB took 6 s).
        .memory_reservation(256 << 20)
        .memory_guard_size(64 << 10)
        .memory_reservation_for_growth(64 << 20)
        // Images of memories would need memfd_create behind the walls.
        .memory_init_cow(false)
        // Nobody reads a backtrace of a remedy: panics come with their file and line.
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false);
    Engine::new(&config).map_err(EngineError)
}

/// Names everything an artefact depends on: wasmtime's version, its configuration, this CPU's features, the contract, and our
/// check. An artefact is only ever loaded by an engine of the same id.
pub fn engine_id(engine: &Engine) -> String {
    let mut hasher = Fingerprint(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    CONTRACT.hash(&mut hasher);
    CHECK_VERSION.hash(&mut hasher);
    let digest = hasher.0.finalize();
    digest.iter().take(16).fold(String::new(), |mut text, byte| {
        // Writing to a String can't fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// wasmtime hands its configuration to a `Hasher`; 64 bits of an unspecified hash are too few to key a cache.
struct Fingerprint(Sha256);

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        // Asked for by nobody: `precompile_compatibility_hash` only writes.
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_engines_of_one_build_have_the_same_id() {
        assert_eq!(engine_id(&engine().unwrap()), engine_id(&engine().unwrap()));
        assert_eq!(engine_id(&engine().unwrap()).len(), 32);
    }

    fn module(text: &str) -> Result<(), String> {
        let bytes = wat::parse_str(format!("(component (core module {text}))")).unwrap();
        engine().unwrap().precompile_component(&bytes).map(drop).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn what_rust_guests_use_compiles() {
        module("(memory 1) (func (param i32) (memory.fill (local.get 0) (i32.const 0) (i32.const 8)))").unwrap();
        module("(func (param f64) (result i32) (i32.trunc_sat_f64_s (local.get 0)))").unwrap();
    }

    #[test]
    fn what_other_languages_linkers_write_compiles() {
        module("(global i32 (i32.add (i32.const 1) (i32.const 2)))").unwrap();
        module("(table 1 funcref) (table 1 funcref) (func (drop (table.get 1 (i32.const 0))))").unwrap();
    }

    // AB08, RS06, RS13.
    #[test]
    fn proposals_that_guests_do_not_use_are_refused() {
        for text in [
            "(memory i64 1)",
            "(memory 1) (memory 1)",
            "(memory 1 1 shared)",
            "(func (result v128) (v128.const i64x2 0 0))",
            "(func (param externref))",
            "(type (struct (field i32)))",
            "(tag)",
            "(func (return_call 0))",
            "(table 1 externref)",
            "(global i32 (i32.div_s (i32.const 1) (i32.const 2)))",
            "(memory 1 (pagesize 1))",
        ] {
            assert!(module(text).is_err(), "{text}");
        }
    }
}
