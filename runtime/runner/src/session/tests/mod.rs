//! One small real world per test: directories on two real devices, a service manager that is a table, a journal in memory.

mod arbitrary;
mod certificates;
mod containers;
mod databases;
mod edges;
mod files;
mod firewall;
mod hostile;
mod http;
mod kernel;
mod observe;
mod processes;
mod programs;
mod race;
mod releases;
mod units;
mod world;
