//! What the end-to-end tests stand on: a throw-away machine with a real systemd.

pub mod systemd_box;
