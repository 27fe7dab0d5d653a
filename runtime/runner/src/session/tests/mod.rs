//! One small real world per test: directories on two real devices, a service manager that is a table, a journal in memory.

mod files;
mod hostile;
mod processes;
mod units;
mod world;
