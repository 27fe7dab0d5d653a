//! What `std` would bring to a component, without the thirteen WASI imports it also brings: an allocator, the canonical
//! ABI's `cabi_realloc`, `memcmp`, and a panic handler that says where and why before it traps.
#![cfg(target_arch = "wasm32")]
#![expect(unsafe_code, reason = "the symbols that the canonical ABI and the compiler ask for have unsafe signatures")]

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

/// What `==` on slices compiles to. On this target it is expected of wasi-libc; copies and fills are instructions of the
/// bulk-memory proposal and need no symbol.
///
/// # Safety
///
/// Both pointers are readable for `len` bytes, as the compiler guarantees.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    for at in 0..len {
        // SAFETY: `at` is below `len`.
        let (left, right) = unsafe { (*left.add(at), *right.add(at)) };
        if left != right {
            return i32::from(left) - i32::from(right);
        }
    }
    0
}

/// `memcmp` where only equality matters; LLVM prefers it.
///
/// # Safety
///
/// As for [`memcmp`].
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    // SAFETY: the caller's.
    unsafe { memcmp(left, right, len) }
}
