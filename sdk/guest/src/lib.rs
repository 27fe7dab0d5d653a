//! The SDK for remedies: a `#![no_std]` guest that holds handles to what its manifest grants and imports nothing else.
//!
//! It hides wit-bindgen, the allocator, the panic handler and the canonical ABI's `cabi_realloc`, so that an author needs
//! one dependency and no copy of the WIT. It deliberately holds no policy: what a remedy may do is decided by its manifest
//! and the runner, and the import list of the built file is the list of what it can even ask for.
//!
//! ```
//! # extern crate alloc; // a remedy has `#![no_std]` at this place
//! use theriac_sdk::prelude::*;
//!
//! fn treat(_: &Input) -> Result<Report, Denial> {
//!     let unit = Unit::open("target")?;
//!     unit.restart()?;
//!     Ok(Report::Treated(format!("{} restarted", unit.name())))
//! }
//!
//! theriac_sdk::remedy!(treat);
//! # fn main() {}
//! ```
#![no_std]

#[doc(hidden)]
pub extern crate alloc;

// So that `cargo test`, `cargo clippy` and an editor work on an author's own machine.
#[cfg(not(target_arch = "wasm32"))]
extern crate std;

#[doc(hidden)]
pub mod bindings;
pub mod certificates;
pub mod containers;
pub mod databases;
mod denial;
mod fault;
pub mod files;
pub mod firewall;
pub mod http;
pub mod kernel;
mod logging;
pub mod observe;
pub mod processes;
pub mod programs;
pub mod releases;
mod runtime;
pub mod units;

#[doc(hidden)]
pub use logging::line;

pub use bindings::theriac::remedy::fault::{Evidence, Input, Number, Opinion, Param, Report, Severity, Value};
pub use bindings::theriac::remedy::types::{Denial, Refusal, Signal};

/// What nearly every remedy needs: `use theriac_sdk::prelude::*;`.
pub mod prelude {
    pub use crate::alloc::{
        format,
        string::{String, ToString},
        vec,
        vec::Vec,
    };
    pub use crate::files::{Dir, Entry, Filter};
    pub use crate::observe::{Probe, Series};
    pub use crate::processes::{Group, Process};
    pub use crate::units::{Active, Property, Unit, Whom};
    pub use crate::{Denial, Input, Opinion, Report, Severity, Signal, info, warn};
}

/// Makes a remedy of one function or two: `remedy!(treat)` or `remedy!(treat, check)`.
///
/// `treat` is `fn(&Input) -> Result<Report, Denial>`. `check` is `fn(&Input) -> Result<Opinion, Denial>`; without it the
/// remedy has no opinion of its own and leaves the verdict to the runner's measurements.
#[macro_export]
macro_rules! remedy {
    ($treat:path) => {
        $crate::remedy!($treat, $crate::no_opinion);
    };
    ($treat:path, $check:path) => {
        #[expect(unsafe_code, reason = "the canonical ABI's exports; generated, and called by the host only")]
        const _: () = {
            struct Remedy;

            impl $crate::bindings::Guest for Remedy {
                fn remediate(input: $crate::Input) -> ::core::result::Result<$crate::Report, $crate::Denial> {
                    $treat(&input)
                }

                fn check(input: $crate::Input) -> ::core::result::Result<$crate::Opinion, $crate::Denial> {
                    $check(&input)
                }
            }

    $crate::bindings::export_remedy!(Remedy with_types_in $crate::bindings);
        };
    };
}

/// The check of a remedy that has none: an opinion can only lower the verdict, so having none is *satisfied*.
#[doc(hidden)]
pub fn no_opinion(_: &Input) -> Result<Opinion, Denial> {
    Ok(Opinion::Satisfied)
}
