//! Registry parameters (`HKLM\SYSTEM\CurrentControlSet\Services\sanwsk\Parameters`), read once, when the driver is loaded.
#![allow(unsafe_code, reason = "calls the framework's registry functions")]

use crate::wdf;
use alloc::vec::Vec;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};
use san_core::address_map::{self, AddError, AddressMap};
use san_core::san::Limits;
use san_protocol::{DeviceLimits, NtStatus};
use wdk_sys::{KEY_READ, REG_MULTI_SZ, UNICODE_STRING, WDFDRIVER, WDFKEY, call_unsafe_wdf_function_binding};

/// What an administrator may set.
#[derive(Clone, Copy)]
pub(crate) struct Parameters {
    /// `AllowUsers`: 1 lets every interactive user open the device, not administrators alone. Default 0.
    pub(crate) allow_users: bool,
    /// `MaxEndpoints`: of all handles. Default 65536.
    pub(crate) endpoints: u32,
    /// `MaxEndpointsPerHandle`: default 16384.
    pub(crate) endpoints_per_handle: usize,
    /// `MaxBacklog`: what a larger backlog is cut to, and what `SOMAXCONN` stands for. Default 200.
    pub(crate) backlog: usize,
    /// `MaxRegions`: registered regions of all handles. Default 65536.
    pub(crate) regions: u32,
    /// `MaxRegionsPerHandle`: default 16384.
    pub(crate) regions_per_handle: u32,
    /// `MaxPinnedMiB`: registered memory of all handles, in MiB; here in bytes. Default 1024.
    pub(crate) pinned: u64,
    /// `MaxPinnedMiBPerHandle`: default 256.
    pub(crate) pinned_per_handle: u64,
    /// `MaxMessageSize`: bytes of the longest SAN message. Default 1 MiB.
    pub(crate) message_size: u32,
    /// `MaxHandshakes`: peers that have connected to the native port and not said yet what they want. Default 256.
    pub(crate) handshakes: u32,
    /// `HandshakeTimeout`: milliseconds that such a peer has. Default 5000.
    pub(crate) handshake_timeout: u32,
    /// `ConnectTimeout`: milliseconds that a SAN connect may take that names no time of its own. Default 21000.
    pub(crate) connect_timeout: u32,
    /// `NativePort`: the TCP port at which SAN connections arrive. Default 28057.
    pub(crate) native_port: u16,
    /// `MaxRoutes`: routes, those of the registry included. Default 256.
    pub(crate) routes: usize,
}

impl Parameters {
    /// All of it, as a caller asks for it; `routes_used`: how many routes there are.
    pub(crate) fn reply(self, routes_used: u32) -> DeviceLimits {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        DeviceLimits {
            pinned_bytes: self.pinned,
            pinned_bytes_per_handle: self.pinned_per_handle,
            endpoints: self.endpoints,
            endpoints_per_handle: count(self.endpoints_per_handle),
            backlog: count(self.backlog),
            regions: self.regions,
            regions_per_handle: self.regions_per_handle,
            message_size: self.message_size,
            handshakes: self.handshakes,
            routes: count(self.routes),
            handshake_timeout: self.handshake_timeout,
            connect_timeout: self.connect_timeout,
            native_port: self.native_port.into(),
            allow_users: self.allow_users.into(),
            routes_used,
            reserved: 0,
        }
    }

    /// What of it the machine of a SAN endpoint goes by.
    pub(crate) fn san_limits(self) -> Limits {
        Limits {
            message_size: self.message_size,
            connect_timeout: self.connect_timeout,
            handshake_timeout: self.handshake_timeout,
            regions: self.regions_per_handle as usize,
        }
    }
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
static MAX_ENDPOINTS: Parameter = Parameter::new(wide!("MaxEndpoints"), 65536, 1, 1 << 24);
static MAX_ENDPOINTS_PER_HANDLE: Parameter = Parameter::new(wide!("MaxEndpointsPerHandle"), 16384, 1, 1 << 20);
static MAX_BACKLOG: Parameter = Parameter::new(wide!("MaxBacklog"), 200, 1, 1 << 16);
static MAX_REGIONS: Parameter = Parameter::new(wide!("MaxRegions"), 65536, 1, 1 << 24);
static MAX_REGIONS_PER_HANDLE: Parameter = Parameter::new(wide!("MaxRegionsPerHandle"), 16384, 1, 1 << 20);
static MAX_PINNED: Parameter = Parameter::new(wide!("MaxPinnedMiB"), 1024, 1, 1 << 24);
static MAX_PINNED_PER_HANDLE: Parameter = Parameter::new(wide!("MaxPinnedMiBPerHandle"), 256, 1, 1 << 24);
static MAX_MESSAGE_SIZE: Parameter = Parameter::new(wide!("MaxMessageSize"), 1 << 20, 256, 1 << 30);
static MAX_HANDSHAKES: Parameter = Parameter::new(wide!("MaxHandshakes"), 256, 1, 1 << 16);
static HANDSHAKE_TIMEOUT: Parameter = Parameter::new(wide!("HandshakeTimeout"), 5000, 10, 600_000);
static CONNECT_TIMEOUT: Parameter = Parameter::new(wide!("ConnectTimeout"), 21_000, 10, 600_000);
static NATIVE_PORT: Parameter = Parameter::new(wide!("NativePort"), DEFAULT_NATIVE_PORT as u32, 1, 65535);
static MAX_ROUTES: Parameter = Parameter::new(wide!("MaxRoutes"), 256, 1, 1024);

/// Default of `NativePort`.
pub(crate) const DEFAULT_NATIVE_PORT: u16 = 28057;

/// All that are numbers.
static ALL: [&Parameter; 14] = [
    &ALLOW_USERS,
    &MAX_ENDPOINTS,
    &MAX_ENDPOINTS_PER_HANDLE,
    &MAX_BACKLOG,
    &MAX_REGIONS,
    &MAX_REGIONS_PER_HANDLE,
    &MAX_PINNED,
    &MAX_PINNED_PER_HANDLE,
    &MAX_MESSAGE_SIZE,
    &MAX_HANDSHAKES,
    &HANDSHAKE_TIMEOUT,
    &CONNECT_TIMEOUT,
    &NATIVE_PORT,
    &MAX_ROUTES,
];

/// `Routes` (REG_MULTI_SZ): the map from SAN addresses to native ones, a route a string, as
/// [`san_core::address_map`] describes them. Default: every address is its own native address.
const ROUTES: &[u16] = wide!("Routes");

/// Longest value of `Routes` that is read, in UTF-16 units.
const LONGEST_ROUTES: u32 = 32768;

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
        endpoints: MAX_ENDPOINTS.get(),
        endpoints_per_handle: MAX_ENDPOINTS_PER_HANDLE.get() as usize,
        backlog: MAX_BACKLOG.get() as usize,
        regions: MAX_REGIONS.get(),
        regions_per_handle: MAX_REGIONS_PER_HANDLE.get(),
        pinned: u64::from(MAX_PINNED.get()) << 20,
        pinned_per_handle: u64::from(MAX_PINNED_PER_HANDLE.get()) << 20,
        message_size: MAX_MESSAGE_SIZE.get(),
        handshakes: MAX_HANDSHAKES.get(),
        handshake_timeout: HANDSHAKE_TIMEOUT.get(),
        connect_timeout: CONNECT_TIMEOUT.get(),
        native_port: u16::try_from(NATIVE_PORT.get()).unwrap_or(u16::MAX),
        routes: MAX_ROUTES.get() as usize,
    }
}

/// The `Parameters` key, open.
struct Key(WDFKEY);

impl Key {
    /// `None` if the service has no such key.
    fn open(driver: WDFDRIVER) -> Result<Option<Self>, NtStatus> {
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
        match wdf::check(opened) {
            Ok(()) => Ok(Some(Self(key))),
            Err(NtStatus::OBJECT_NAME_NOT_FOUND) => Ok(None),
            Err(status) => Err(status),
        }
    }

    fn number(&self, name: &'static [u16]) -> Option<u32> {
        let (name, mut value) = (unicode_string(name), 0);
        // SAFETY: the key is open; name and value are locals.
        let queried = unsafe {
            call_unsafe_wdf_function_binding!(WdfRegistryQueryULong, self.0, &raw const name, &raw mut value)
        };
        wdf::check(queried).is_ok().then_some(value)
    }

    /// The strings of a REG_MULTI_SZ, each ended by a zero.
    fn strings(&self, name: &'static [u16]) -> Result<Vec<u16>, NtStatus> {
        let mut units: Vec<u16> = Vec::new();
        units.try_reserve_exact(LONGEST_ROUTES as usize).map_err(|_| NtStatus::INSUFFICIENT_RESOURCES)?;
        units.resize(LONGEST_ROUTES as usize, 0);
        let (name, mut length, mut kind) = (unicode_string(name), 0, 0);
        // SAFETY: the key is open; the buffer has the length that is given, and the rest are locals.
        let queried = unsafe {
            call_unsafe_wdf_function_binding!(
                WdfRegistryQueryValue,
                self.0,
                &raw const name,
                2 * LONGEST_ROUTES,
                units.as_mut_ptr().cast(),
                &raw mut length,
                &raw mut kind
            )
        };
        match wdf::check(queried) {
            Ok(()) if kind == REG_MULTI_SZ => {
                units.truncate(length as usize / size_of::<u16>());
                Ok(units)
            }
            Err(NtStatus::OBJECT_NAME_NOT_FOUND) => Ok(Vec::new()),
            Ok(()) => Err(NtStatus::OBJECT_TYPE_MISMATCH),
            Err(status) => Err(status),
        }
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        // SAFETY: opened, and closed once.
        unsafe { call_unsafe_wdf_function_binding!(WdfRegistryClose, self.0) };
    }
}

/// Reads what the registry has; what it has not keeps its default. A number out of its range is cut to it; a route that is
/// none fails the load, as do more than `MaxRoutes`, for traffic would take another way than the administrator meant. The routes are
/// the caller's: a load that fails later gives their memory back. IRQL = PASSIVE_LEVEL; from DriverEntry.
pub(crate) fn read(driver: WDFDRIVER) -> Result<AddressMap, NtStatus> {
    let Some(key) = Key::open(driver)? else { return Ok(AddressMap::new(get().native_port)) };
    for parameter in ALL {
        if let Some(value) = key.number(parameter.name) {
            parameter.value.store(value.clamp(parameter.least, parameter.most), Ordering::Relaxed);
        }
    }
    let strings = key.strings(ROUTES)?;
    let mut map = AddressMap::new(get().native_port);
    for route in strings.split(|&unit| unit == 0).filter(|route| !route.is_empty()) {
        let mut text = [0; LONGEST_ROUTE];
        let text = ascii(route, &mut text).ok_or(NtStatus::INVALID_PARAMETER)?;
        let route = address_map::parse_route(text).map_err(|_| NtStatus::INVALID_PARAMETER)?;
        match map.add(route) {
            // Of two for the same SAN prefix the first counts.
            Ok(()) | Err(AddError::Exists) => {}
            Err(AddError::NoMemory) => return Err(NtStatus::INSUFFICIENT_RESOURCES),
        }
    }
    if map.routes().len() > get().routes {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    Ok(map)
}

/// Longest route, in characters.
const LONGEST_ROUTE: usize = 256;

/// A string of ASCII alone, as `str`.
fn ascii<'a>(wide: &[u16], text: &'a mut [u8; LONGEST_ROUTE]) -> Option<&'a str> {
    let text = text.get_mut(..wide.len())?;
    for (byte, &unit) in text.iter_mut().zip(wide) {
        *byte = u8::try_from(unit).ok().filter(u8::is_ascii)?;
    }
    core::str::from_utf8(text).ok()
}
