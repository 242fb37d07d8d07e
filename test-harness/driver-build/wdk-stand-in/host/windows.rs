//! Takes the place of two crates while wdk-build is compiled for a Linux host, so that its published source compiles
//! unchanged: of `windows`, the registry names it uses; and of `std`, which it expects to be Windows' own.

#![allow(non_snake_case, non_camel_case_types)]

pub use std::*;

/// `std::os`, with the one name under `std::os::windows` that wdk-build uses.
pub mod os {
    pub use std::os::*;

    pub mod windows {
        pub mod fs {
            pub use std::os::unix::fs::symlink as symlink_file;
        }
    }
}

pub mod core {
    pub use ::core::*;

    #[derive(Clone, Copy)]
    pub struct PCSTR(pub *const u8);

    pub use crate::__pcstr as s;
}

#[doc(hidden)]
#[macro_export]
macro_rules! __pcstr {
    ($literal:literal) => {
        $crate::core::PCSTR(concat!($literal, "\0").as_ptr())
    };
}

pub mod Win32 {
    pub mod System {
        /// A registry without keys: every look-up says that the file was not found.
        pub mod Registry {
            use std::ffi::c_void;

            use crate::core::PCSTR;

            #[derive(Clone, Copy, Default)]
            pub struct HKEY(pub usize);

            pub struct WIN32_ERROR(pub u32);

            impl WIN32_ERROR {
                pub fn is_ok(&self) -> bool {
                    self.0 == 0
                }

                pub fn ok(self) -> Result<(), u32> {
                    if self.0 == 0 { Ok(()) } else { Err(self.0) }
                }
            }

            pub const HKEY_LOCAL_MACHINE: HKEY = HKEY(0x8000_0002);
            pub const KEY_READ: u32 = 0x2_0019;
            pub const RRF_RT_REG_SZ: u32 = 2;
            const ERROR_FILE_NOT_FOUND: WIN32_ERROR = WIN32_ERROR(2);

            /// # Safety
            /// Touches nothing: `unsafe` is for its callers, who call Windows' function so.
            pub unsafe fn RegOpenKeyExA(_: HKEY, _: PCSTR, _: Option<u32>, _: u32, _: *mut HKEY) -> WIN32_ERROR {
                ERROR_FILE_NOT_FOUND
            }

            /// # Safety
            /// As [`RegOpenKeyExA`].
            pub unsafe fn RegGetValueA(
                _: HKEY,
                _: Option<PCSTR>,
                _: PCSTR,
                _: u32,
                _: Option<*mut u32>,
                _: Option<*mut c_void>,
                _: Option<*mut u32>,
            ) -> WIN32_ERROR {
                ERROR_FILE_NOT_FOUND
            }

            /// # Safety
            /// As [`RegOpenKeyExA`].
            pub unsafe fn RegCloseKey(_: HKEY) -> WIN32_ERROR {
                ERROR_FILE_NOT_FOUND
            }
        }
    }
}
