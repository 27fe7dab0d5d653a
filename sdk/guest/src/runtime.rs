//! What `std` would bring to a component, without the thirteen WASI imports it also brings: an allocator, the canonical
//! ABI's `cabi_realloc`, and a panic handler that says where and why before it traps.
#![cfg(target_arch = "wasm32")]
#![expect(unsafe_code, reason = "the allocator's entry point of the canonical ABI has a fixed, unsafe signature")]

use alloc::alloc::{Layout, alloc, realloc};
use alloc::string::ToString;

use crate::bindings::theriac::remedy::log;

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// The host shows only `wasm function 48` of a trap; this turns it into a sentence with file and line.
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let (file, line) = info.location().map_or(("?", 0), |at| (at.file(), at.line()));
    log::panicked(&info.message().to_string(), file, line);
    core::arch::wasm32::unreachable()
}

/// wit-bindgen expects wasi-libc's on this target, which is not linked.
///
/// # Safety
///
/// The host calls it as the canonical ABI says: `old` is null with `old_len` 0, or was allocated here with these values.
#[unsafe(export_name = "cabi_realloc")]
unsafe extern "C" fn cabi_realloc(old: *mut u8, old_len: usize, align: usize, new_len: usize) -> *mut u8 {
    if old_len == 0 && new_len == 0 {
        return core::ptr::without_provenance_mut(align);
    }
    // SAFETY: `align` is a power of two by the canonical ABI, and neither length is zero where it is used as a size.
    let fresh = unsafe {
        if old_len == 0 {
            alloc(Layout::from_size_align_unchecked(new_len, align))
        } else {
            realloc(old, Layout::from_size_align_unchecked(old_len, align), new_len)
        }
    };
    if fresh.is_null() {
        // No memory is left to format a message with; the host remembers the growth it refused.
        core::arch::wasm32::unreachable()
    }
    fresh
}
