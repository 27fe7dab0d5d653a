//! The launcher: owns the `supervised` services on machines and containers without systemd, and runs programs in a jail there.
//!
//! It starts what its own configuration lists, keeps each service in a session of its own, notices at once when one ends, and
//! does what the runner asks over `run/launcher.sock`. Of a program, a message brings arguments and jail; the program itself has
//! to be listed in launcher.toml, too. It outlives a runner crash.
//!
//! It is one thread around one `poll`: there is no lock to hold while forking, and the kernel ties a parent-death signal to
//! the *thread* that forked. It decides nothing about healing; whether a verb may be used is the runner's gate's business.
//!
//! Told to end, it stops every service. Killed, it can't: the kernel then sends TERM to each main process, and the next launcher
//! kills whatever is left of them before it starts anything.

pub mod config;
mod connection;
mod exec;
mod output;
mod processes;
mod programs;
mod requests;
mod service;
mod signals;
mod supervisor;

pub use supervisor::{RunError, run};
