//! Registry parameters (`HKLM\SYSTEM\CurrentControlSet\Services\sanwsk\Parameters`), read once, when the driver is loaded.
#![allow(unsafe_code, reason = "calls the framework's registry functions")]

use crate::wdf;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};
use wdk_sys::{KEY_READ, UNICODE_STRING, WDFDRIVER, WDFKEY, call_unsafe_wdf_function_binding};

/// What an administrator may set.
#[derive(Clone, Copy)]
pub(crate) struct Parameters {
    /// `AllowUsers`: 1 lets every interactive user open the device, not administrators alone. Default 0.
    pub(crate) allow_users: bool,
    /// `MaxEndpointsPerHandle`: default 16384.
    pub(crate) endpoints_per_handle: usize,
    /// `MaxBacklog`: what a larger backlog is cut to, and what `SOMAXCONN` stands for. Default 200.
    pub(crate) backlog: usize,
}

/// A REG_DWORD with its default and the range that it is cut to.
struct Parameter {
    name: &'static [u16],
    least: u32,
    most: u32,
    value: AtomicU32,
}

impl Parameter {
    const fn new(name: &'static [u16], default: u32, least: u32, most: u32) -> Self {
        Self { name, least, most, value: AtomicU32::new(default) }
    }

    fn get(&self) -> u32 {
        self.value.load(Ordering::Relaxed)
    }
}

static ALLOW_USERS: Parameter = Parameter::new(wide!("AllowUsers"), 0, 0, 1);
static MAX_ENDPOINTS: Parameter = Parameter::new(wide!("MaxEndpointsPerHandle"), 16384, 1, 1 << 20);
static MAX_BACKLOG: Parameter = Parameter::new(wide!("MaxBacklog"), 200, 1, 1 << 16);

/// An ASCII literal as UTF-16.
macro_rules! wide {
    ($text:literal) => {{
        const TEXT: [u16; $text.len()] = {
            let (bytes, mut wide, mut at) = ($text.as_bytes(), [0; $text.len()], 0);
            while at < bytes.len() {
                assert!(bytes[at].is_ascii());
                wide[at] = bytes[at] as u16;
                at += 1;
            }
            wide
        };
        &TEXT
    }};
}
use wide;
pub(crate) use wide as utf16;

/// A `UNICODE_STRING` over `text`, for a call that reads it.
pub(crate) fn unicode_string(text: &'static [u16]) -> UNICODE_STRING {
    let length = u16::try_from(size_of_val(text)).unwrap_or(0);
    UNICODE_STRING { Length: length, MaximumLength: length, Buffer: text.as_ptr().cast_mut() }
}

/// The parameters in force.
pub(crate) fn get() -> Parameters {
    Parameters {
        allow_users: ALLOW_USERS.get() != 0,
        endpoints_per_handle: MAX_ENDPOINTS.get() as usize,
        backlog: MAX_BACKLOG.get() as usize,
    }
}

/// Reads what the registry has; what it has not keeps its default. IRQL = PASSIVE_LEVEL; from DriverEntry.
pub(crate) fn read(driver: WDFDRIVER) {
    let mut key: WDFKEY = ptr::null_mut();
    // SAFETY: the driver object has been made; the out parameter is a local.
    let opened = unsafe {
        call_unsafe_wdf_function_binding!(
            WdfDriverOpenParametersRegistryKey,
            driver,
            KEY_READ,
            ptr::null_mut(),
            &raw mut key
        )
    };
    if wdf::check(opened).is_err() {
        return;
    }
    for parameter in [&ALLOW_USERS, &MAX_ENDPOINTS, &MAX_BACKLOG] {
        let (name, mut value) = (unicode_string(parameter.name), 0);
        // SAFETY: the key is open; name and value are locals.
        let queried =
            unsafe { call_unsafe_wdf_function_binding!(WdfRegistryQueryULong, key, &raw const name, &raw mut value) };
        if wdf::check(queried).is_ok() {
            parameter.value.store(value.clamp(parameter.least, parameter.most), Ordering::Relaxed);
        }
    }
    // SAFETY: opened above, closed once.
    unsafe { call_unsafe_wdf_function_binding!(WdfRegistryClose, key) };
}
