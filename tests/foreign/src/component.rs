//! A remedy's file: the walk over its sections before anything is compiled, in the runner's zone and in the worker's.

use theriac_authority::package;
use theriac_sandbox::interfaces::Import;
use theriac_sandbox::structure;

use crate::{Answer, refused};

/// Both walks end with an answer; where both take the file, they saw the same imports, and all are the contract's or a WASI's that can be sealed.
pub(crate) fn check(bytes: &[u8]) -> Answer {
    match structure::check(bytes) {
        Ok(structure) => {
            for import in &structure.imports {
                assert!(Import::parse(import).is_ok(), "{import:?}");
            }
            let imports = package::imports(bytes).expect("the runner's walk takes what the worker's takes");
            assert_eq!(imports, structure.imports, "what the signer was shown is what is linked");
        }
        Err(error) => drop(refused(&error)),
    }
    match package::open(bytes.to_vec()) {
        Ok(package) => {
            assert_eq!(package.bytes, bytes, "what is compiled is what was hashed");
            Answer::Taken
        }
        Err(error) => refused(&error),
    }
}
