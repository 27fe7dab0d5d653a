//! `info!` and `warn!`: lines for the run's record. The host caps them and shows them escaped.

use alloc::string::ToString;
use core::fmt::Arguments;

use crate::bindings::theriac::remedy::log;

/// Whether a line is a warning; only the macros use it.
#[doc(hidden)]
pub fn line(warning: bool, text: Arguments<'_>) {
    // A text without arguments needs no formatting code in the guest.
    match (warning, text.as_str()) {
        (false, Some(text)) => log::info(text),
        (false, None) => log::info(&text.to_string()),
        (true, Some(text)) => log::warn(text),
        (true, None) => log::warn(&text.to_string()),
    }
}

/// A line for the run's record.
#[macro_export]
macro_rules! info {
    ($($text:tt)+) => { $crate::line(false, ::core::format_args!($($text)+)) };
}

/// A line for the run's record that an operator should see.
#[macro_export]
macro_rules! warn {
    ($($text:tt)+) => { $crate::line(true, ::core::format_args!($($text)+)) };
}
