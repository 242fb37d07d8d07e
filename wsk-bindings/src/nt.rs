//! The NT types that wsk.h is written in.
//!
//! This is the one place where the `wdk-sys` feature matters. With it the kernel's own structures are re-exports of
//! [`wdk-sys`](https://crates.io/crates/wdk-sys), so a `PIRP` here *is* a `wdk_sys::PIRP`. Without it the structures
//! that a WSK client only ever points to are opaque, and the few that it fills in itself have their real layout.
//!
//! Integer names are plain Rust integers either way. `SIZE_T` and `ULONG_PTR` are `usize`, so that lengths need no
//! conversion; `wdk-sys` spells them `u64`, which is the same size and needs an `as` where the two meet.
#![allow(non_camel_case_types, non_snake_case)] // C spelling.

use core::ffi::c_void;

/// `void *`.
pub type PVOID = *mut c_void;
/// `const void *`.
pub type PCVOID = *const c_void;
/// 8-bit character.
pub type CHAR = i8;
/// Unsigned 8-bit integer.
pub type UCHAR = u8;
/// Unsigned 8-bit integer.
pub type UINT8 = u8;
/// Unsigned 16-bit integer.
pub type USHORT = u16;
/// Unsigned 16-bit integer.
pub type UINT16 = u16;
/// 32-bit integer (`int`).
pub type INT = i32;
/// 32-bit integer: `long` has 32 bits on x64 and ARM64 Windows.
pub type LONG = i32;
/// Unsigned 32-bit integer: `unsigned long` has 32 bits on x64 and ARM64 Windows.
pub type ULONG = u32;
/// Unsigned 32-bit integer.
pub type UINT32 = u32;
/// Unsigned 64-bit integer.
pub type UINT64 = u64;
/// 64-bit integer (`long long`).
pub type LONGLONG = i64;
/// Unsigned 64-bit integer.
pub type ULONGLONG = u64;
/// A count of bytes in memory.
pub type SIZE_T = usize;
/// An unsigned integer as wide as a pointer.
pub type ULONG_PTR = usize;
/// Points to a [`ULONG`].
pub type PULONG = *mut ULONG;
/// Points to a [`SIZE_T`].
pub type PSIZE_T = *mut SIZE_T;
/// UTF-16 code unit.
pub type WCHAR = u16;
/// NUL-terminated UTF-16 string.
pub type PWSTR = *mut WCHAR;
/// Constant NUL-terminated UTF-16 string.
pub type PCWSTR = *const WCHAR;
/// The status of a kernel call: negative values are errors, zero is `STATUS_SUCCESS`.
pub type NTSTATUS = i32;
/// A handle. The Network Module Registrar's handles are not object handles: only its functions take them.
pub type HANDLE = *mut c_void;
/// Points to a [`HANDLE`].
pub type PHANDLE = *mut HANDLE;
/// A spin lock's storage.
pub type KSPIN_LOCK = ULONG_PTR;
/// Points to a security descriptor. A WSK socket takes only one that `WSK_CACHE_SD` returned.
pub type PSECURITY_DESCRIPTOR = PVOID;
/// Points to a [`GUID`].
pub type LPGUID = *mut GUID;

#[cfg(feature = "wdk-sys")]
pub use wdk_sys::{GUID, IRP, LUID, MDL, PEPROCESS, PETHREAD, PIRP, PMDL, PUNICODE_STRING, UNICODE_STRING};

#[cfg(not(feature = "wdk-sys"))]
pub use stand_alone::*;

#[cfg(not(feature = "wdk-sys"))]
mod stand_alone {
    use core::marker::{PhantomData, PhantomPinned};

    /// Declares structures that are only ever pointed to: no value of them can be made, moved or sized from outside.
    macro_rules! opaque {
        ($($(#[$doc:meta])* $name:ident, $pointer:ident;)*) => {$(
            $(#[$doc])*
            #[repr(C)]
            pub struct $name {
                opaque: [u8; 0],
                neither_send_nor_sync_nor_unpin: PhantomData<(*mut u8, PhantomPinned)>,
            }

            #[doc = concat!("Points to an [`", stringify!($name), "`].")]
            pub type $pointer = *mut $name;
        )*};
    }

    opaque! {
        /// An I/O request packet. Every WSK call that can pend takes one, and completes it whatever the call returned.
        IRP, PIRP;
        /// A memory descriptor list: the locked or non-paged pages that a [`WSK_BUF`](crate::WSK_BUF) describes.
        MDL, PMDL;
        /// A process object.
        EPROCESS, PEPROCESS;
        /// A thread object.
        ETHREAD, PETHREAD;
    }

    /// A counted UTF-16 string.
    #[repr(C)]
    #[derive(Clone, Copy, Debug)]
    pub struct UNICODE_STRING {
        /// Bytes in use, without a terminator.
        pub Length: u16,
        /// Bytes that `Buffer` has room for.
        pub MaximumLength: u16,
        /// The string; it need not be NUL-terminated.
        pub Buffer: *mut u16,
    }

    /// Points to a [`UNICODE_STRING`].
    pub type PUNICODE_STRING = *mut UNICODE_STRING;

    /// A globally unique identifier.
    #[repr(C)]
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct GUID {
        /// The first eight hexadecimal digits.
        pub Data1: u32,
        /// The first group of four digits.
        pub Data2: u16,
        /// The second group of four digits.
        pub Data3: u16,
        /// The third group of four digits, and the last twelve.
        pub Data4: [u8; 8],
    }

    /// A locally unique identifier.
    #[repr(C)]
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct LUID {
        /// Low 32 bits.
        pub LowPart: u32,
        /// High 32 bits.
        pub HighPart: i32,
    }
}
