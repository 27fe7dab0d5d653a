//! What the end-to-end tests stand on: throw-away machines with a real systemd.

pub mod guest;
pub mod place;
pub mod systemd_box;
