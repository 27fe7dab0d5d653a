//! Compiling: check, then Cranelift. The result is an artefact that the runner authenticates before it is ever loaded.

use theriac_protocol::worker::EndReason;
use wasmtime::Engine;

use crate::interfaces::shown;
use crate::structure::{self, StructureError};

/// Machine code for one engine. Loading bytes that no compiler of ours made is undefined behaviour, so that there are only
/// two ways to get one.
#[derive(Debug, Clone)]
pub struct Artefact(Vec<u8>);

impl Artefact {
    /// Takes bytes from outside.
    ///
    /// # Safety
    ///
    /// The bytes were made by [`compile`] in an engine of the same id, and somebody authenticated that.
    #[expect(unsafe_code, reason = "the promise is the caller's")]
    pub unsafe fn from_authenticated(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A compiled component.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// The machine code.
    pub artefact: Artefact,
    /// The component's imports.
    pub imports: Vec<String>,
}

/// Why a component was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// Its structure.
    #[error(transparent)]
    Structure(#[from] StructureError),
    /// wasmtime does not accept it.
    #[error("it is not valid: {problem}")]
    Invalid { problem: String },
}

impl CompileError {
    /// The class for the runner.
    pub const fn reason(&self) -> EndReason {
        match self {
            Self::Structure(error) => error.reason(),
            Self::Invalid { .. } => EndReason::Malformed,
        }
    }
}

/// Checks and compiles.
pub fn compile(engine: &Engine, component: &[u8]) -> Result<Compiled, CompileError> {
    let structure = structure::check(component)?;
    let artefact = engine
        .precompile_component(component)
        .map_err(|error| CompileError::Invalid { problem: shown(&error.root_cause().to_string()) })?;
    Ok(Compiled { artefact: Artefact(artefact), imports: structure.imports })
}
