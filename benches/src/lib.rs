//! What the benches share: the alternatives they stand next to, scratch directories, an approved remedy with its plan, and a
//! whole Theriac in a scratch directory. Nothing here is measured, and nothing here is used by Theriac.

pub mod baseline;
pub mod guest;
pub mod office;
pub mod place;
pub mod processes;
pub mod stack;
pub mod world;
