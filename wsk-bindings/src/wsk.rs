//! wsk.h: the Winsock Kernel interface.
//!
//! - [registration](self#functions) and the two network programming interfaces: [`WskRegister`] to [`WskDeregister`];
//! - [`provider`]: what WSK does for its client, as tables of functions found through [`WSK_PROVIDER_DISPATCH`] and
//!   [`WSK_SOCKET::Dispatch`];
//! - [`client`]: what the client does for WSK, as tables of event callbacks;
//! - [`control`]: options, control codes and the structures they carry.
//!
//! Everything is re-exported here and at the crate's root.
#![allow(unsafe_code)] // Imports from netio.sys.
#![allow(non_camel_case_types, non_snake_case)] // C spelling.

pub mod client;
pub mod control;
pub mod provider;

pub use client::*;
pub use control::*;
pub use provider::*;

use core::ptr;

use crate::netiodef::NPIID;
use crate::nt::{GUID, KSPIN_LOCK, NTSTATUS, PCVOID, PMDL, PVOID, SIZE_T, UCHAR, ULONG, ULONG_PTR, ULONGLONG, USHORT};
use crate::ws2def::{ADDRESS_FAMILY, PCMSGHDR, PSOCKADDR};

/// Names the WSK client object of one registration: the first argument of every function in
/// [`WSK_PROVIDER_DISPATCH`]. It comes from [`WskCaptureProviderNPI`] and is opaque.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/network/wsk-client>
pub type PWSK_CLIENT = PVOID;

/// The identifier of the WSK network programming interface: what
/// [`WSK_EVENT_CALLBACK_CONTROL::NpiId`] points to.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_event_callback_control>
pub static NPI_WSK_INTERFACE_ID: NPIID =
    GUID { Data1: 0x2227_e803, Data2: 0x8d8b, Data3: 0x11d4, Data4: [0xab, 0xad, 0x00, 0x90, 0x27, 0x71, 0x9e, 0x09] };

/// Puts a major and a minor version together, for [`WSK_CLIENT_DISPATCH::Version`]. Every current WSK provider serves
/// version 1.0, `MAKE_WSK_VERSION(1, 0)`.
#[must_use]
pub const fn MAKE_WSK_VERSION(Mj: UCHAR, Mn: UCHAR) -> USHORT {
    USHORT::from_be_bytes([Mj, Mn])
}

/// The major half of a WSK version.
#[must_use]
pub const fn WSK_MAJOR_VERSION(V: USHORT) -> UCHAR {
    V.to_be_bytes()[0]
}

/// The minor half of a WSK version.
#[must_use]
pub const fn WSK_MINOR_VERSION(V: USHORT) -> UCHAR {
    V.to_be_bytes()[1]
}

/// A socket. WSK makes it ([`PFN_WSK_SOCKET`], [`PFN_WSK_SOCKET_CONNECT`], [`PFN_WSK_ACCEPT`] return it in the IRP's
/// `IoStatus.Information`, [`PFN_WSK_ACCEPT_EVENT`] hands it over) and [`PFN_WSK_CLOSE_SOCKET`] ends it.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_socket>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WSK_SOCKET {
    /// The functions of this socket. The category it was created in says which table this points to:
    /// [`WSK_PROVIDER_BASIC_DISPATCH`], [`WSK_PROVIDER_LISTEN_DISPATCH`], [`WSK_PROVIDER_DATAGRAM_DISPATCH`],
    /// [`WSK_PROVIDER_CONNECTION_DISPATCH`] (also for accepted sockets) or [`WSK_PROVIDER_STREAM_DISPATCH`].
    pub Dispatch: PCVOID,
}

/// Points to a [`WSK_SOCKET`].
pub type PWSK_SOCKET = *mut WSK_SOCKET;

/// The range of versions that the installed WSK provider serves, as [`WskQueryProviderCharacteristics`] reports it.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_provider_characteristics>
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WSK_PROVIDER_CHARACTERISTICS {
    /// The newest version; take it apart with [`WSK_MAJOR_VERSION`] and [`WSK_MINOR_VERSION`].
    pub HighestVersion: USHORT,
    /// The oldest version.
    pub LowestVersion: USHORT,
}

/// Points to a [`WSK_PROVIDER_CHARACTERISTICS`].
pub type PWSK_PROVIDER_CHARACTERISTICS = *mut WSK_PROVIDER_CHARACTERISTICS;

/// One transport that WSK can make sockets of: an element of what [`WSK_TRANSPORT_LIST_QUERY`] returns.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_transport>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WSK_TRANSPORT {
    /// Version of the WSK interface that the transport serves.
    pub Version: USHORT,
    /// `SOCK_STREAM`, `SOCK_DGRAM`, `SOCK_RAW`, ...
    pub SocketType: USHORT,
    /// `IPPROTO_TCP`, `IPPROTO_UDP`, ...
    pub Protocol: ULONG,
    /// `AF_INET`, `AF_INET6`, or `AF_UNSPEC` where the transport serves several.
    pub AddressFamily: ADDRESS_FAMILY,
    /// Identifies the provider of the transport.
    pub ProviderId: GUID,
}

/// Points to a [`WSK_TRANSPORT`].
pub type PWSK_TRANSPORT = *mut WSK_TRANSPORT;

/// The bytes of one send or receive: a part of a chain of MDLs.
///
/// The pages must be locked, or non-paged, until the IRP completes. The structure itself is read during the call only.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_buf>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WSK_BUF {
    /// The first MDL of the chain.
    pub Mdl: PMDL,
    /// Bytes to skip. They must end inside the first MDL of the chain.
    pub Offset: ULONG,
    /// Bytes to send, or room to receive into, from `Offset` on; it may run over several MDLs.
    pub Length: SIZE_T,
}

/// Points to a [`WSK_BUF`].
pub type PWSK_BUF = *mut WSK_BUF;

/// An element of the list of datagrams that [`PFN_WSK_SEND_MESSAGES`] sends.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-wsk_buf_list>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WSK_BUF_LIST {
    /// The next datagram, or null.
    pub Next: *mut WSK_BUF_LIST,
    /// The datagram.
    pub Buffer: WSK_BUF,
}

/// Points to a [`WSK_BUF_LIST`].
pub type PWSK_BUF_LIST = *mut WSK_BUF_LIST;

/// A stretch of received stream data, in the list that [`PFN_WSK_RECEIVE_EVENT`] indicates. A client that keeps the
/// list (by returning `STATUS_PENDING`) gives it back with [`PFN_WSK_RELEASE_DATA_INDICATION_LIST`].
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_data_indication>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WSK_DATA_INDICATION {
    /// The data that follows, or null.
    pub Next: *mut WSK_DATA_INDICATION,
    /// The data.
    pub Buffer: WSK_BUF,
}

/// Points to a [`WSK_DATA_INDICATION`].
pub type PWSK_DATA_INDICATION = *mut WSK_DATA_INDICATION;

/// A received datagram, in the list that [`PFN_WSK_RECEIVE_FROM_EVENT`] indicates. A client that keeps the list (by
/// returning `STATUS_PENDING`) gives it back with [`PFN_WSK_RELEASE_DATAGRAM_INDICATION_LIST`].
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_datagram_indication>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WSK_DATAGRAM_INDICATION {
    /// The next datagram, or null.
    pub Next: *mut WSK_DATAGRAM_INDICATION,
    /// The datagram's payload.
    pub Buffer: WSK_BUF,
    /// Control data that came with it (a sequence of [`CMSGHDR`](crate::CMSGHDR) and data), or null.
    pub ControlInfo: PCMSGHDR,
    /// Bytes at `ControlInfo`.
    pub ControlInfoLength: ULONG,
    /// Who sent it.
    pub RemoteAddress: PSOCKADDR,
}

/// Points to a [`WSK_DATAGRAM_INDICATION`].
pub type PWSK_DATAGRAM_INDICATION = *mut WSK_DATAGRAM_INDICATION;

/// Names a connection request on a conditional-accept listening socket, from [`PFN_WSK_INSPECT_EVENT`] until it is
/// accepted or aborted. The contents name it, not the address of the structure: a client that answers later copies it.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_inspect_id>
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct WSK_INSPECT_ID {
    /// Opaque.
    pub Key: ULONG_PTR,
    /// Opaque.
    pub SerialNumber: ULONG,
}

/// Points to a [`WSK_INSPECT_ID`].
pub type PWSK_INSPECT_ID = *mut WSK_INSPECT_ID;

/// The client's side of WSK: what a driver hands to [`WskRegister`].
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_client_npi>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WSK_CLIENT_NPI {
    /// Passed to [`PFN_WSK_CLIENT_EVENT`]; WSK does not look at it.
    pub ClientContext: PVOID,
    /// The client's table. It stays resident and unchanged until [`WskDeregister`] returns.
    pub Dispatch: *const WSK_CLIENT_DISPATCH,
}

/// Points to a [`WSK_CLIENT_NPI`].
pub type PWSK_CLIENT_NPI = *mut WSK_CLIENT_NPI;

/// The provider's side of WSK: what [`WskCaptureProviderNPI`] gives to a driver.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_provider_npi>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WSK_PROVIDER_NPI {
    /// The first argument of every function in `Dispatch`.
    pub Client: PWSK_CLIENT,
    /// The provider's functions, to be called until [`WskReleaseProviderNPI`].
    pub Dispatch: *const WSK_PROVIDER_DISPATCH,
}

/// Points to a [`WSK_PROVIDER_NPI`].
pub type PWSK_PROVIDER_NPI = *mut WSK_PROVIDER_NPI;

impl WSK_PROVIDER_NPI {
    /// One that [`WskCaptureProviderNPI`] has not filled in yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { Client: ptr::null_mut(), Dispatch: ptr::null() }
    }
}

impl Default for WSK_PROVIDER_NPI {
    fn default() -> Self {
        Self::new()
    }
}

/// One registration as a WSK client. Its memory is the driver's, its contents are WSK's; it must not move or end while
/// any registration function that was given it runs.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_registration>
#[repr(C)]
#[derive(Debug)]
pub struct WSK_REGISTRATION {
    /// WSK's own.
    pub ReservedRegistrationState: ULONGLONG,
    /// WSK's own.
    pub ReservedRegistrationContext: PVOID,
    /// WSK's own.
    pub ReservedRegistrationLock: KSPIN_LOCK,
}

/// Points to a [`WSK_REGISTRATION`].
pub type PWSK_REGISTRATION = *mut WSK_REGISTRATION;

impl WSK_REGISTRATION {
    /// One that [`WskRegister`] has not initialized yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { ReservedRegistrationState: 0, ReservedRegistrationContext: ptr::null_mut(), ReservedRegistrationLock: 0 }
    }
}

impl Default for WSK_REGISTRATION {
    fn default() -> Self {
        Self::new()
    }
}

/// [`WskCaptureProviderNPI`] does not wait: its `WaitTimeout`.
pub const WSK_NO_WAIT: ULONG = 0;
/// [`WskCaptureProviderNPI`] waits until WSK is there, or until [`WskDeregister`]: its `WaitTimeout`.
pub const WSK_INFINITE_WAIT: ULONG = 0xffff_ffff;

#[cfg_attr(all(target_os = "windows", feature = "wdk-sys"), link(name = "netio"))]
unsafe extern "system" {
    /// Registers the driver as a WSK client. Each success is undone by exactly one [`WskDeregister`] with the same
    /// `WskRegistration`.
    ///
    /// Returns `STATUS_SUCCESS`, or an error after which nothing is registered.
    ///
    /// IRQL: `PASSIVE_LEVEL`.
    ///
    /// # Safety
    ///
    /// `WskClientNpi` and the table it points to are valid, the table until [`WskDeregister`] returns;
    /// `WskRegistration` is writable non-paged memory that stays where it is until then.
    ///
    /// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nf-wsk-wskregister>
    pub fn WskRegister(WskClientNpi: PWSK_CLIENT_NPI, WskRegistration: PWSK_REGISTRATION) -> NTSTATUS;

    /// Captures the provider NPI: waits for up to `WaitTimeout` milliseconds ([`WSK_NO_WAIT`],
    /// [`WSK_INFINITE_WAIT`]) until WSK is ready. Each success is undone by exactly one [`WskReleaseProviderNPI`].
    ///
    /// Returns `STATUS_SUCCESS`; `STATUS_DEVICE_NOT_READY` where the provider was not ready in time, or
    /// [`WskDeregister`] has been called; `STATUS_NOINTERFACE` where it does not serve the version that
    /// [`WSK_CLIENT_DISPATCH::Version`] asks for.
    ///
    /// A `DriverEntry` does not wait long here: the provider may need the rest of the system to start first.
    ///
    /// IRQL: `PASSIVE_LEVEL`; with [`WSK_NO_WAIT`] up to `DISPATCH_LEVEL`.
    ///
    /// # Safety
    ///
    /// `WskRegistration` has been registered, `WskProviderNpi` is writable.
    ///
    /// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nf-wsk-wskcaptureprovidernpi>
    pub fn WskCaptureProviderNPI(
        WskRegistration: PWSK_REGISTRATION,
        WaitTimeout: ULONG,
        WskProviderNpi: PWSK_PROVIDER_NPI,
    ) -> NTSTATUS;

    /// Releases what one successful [`WskCaptureProviderNPI`] captured. The provider's functions are not called after
    /// that.
    ///
    /// IRQL: up to `DISPATCH_LEVEL`.
    ///
    /// # Safety
    ///
    /// There is a capture through `WskRegistration` that has not been released yet.
    ///
    /// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nf-wsk-wskreleaseprovidernpi>
    pub fn WskReleaseProviderNPI(WskRegistration: PWSK_REGISTRATION);

    /// Asks which versions the provider serves, after [`WskCaptureProviderNPI`] returned `STATUS_NOINTERFACE` or
    /// `STATUS_SUCCESS`.
    ///
    /// Returns `STATUS_SUCCESS`, or `STATUS_DEVICE_NOT_READY` where the provider is not there.
    ///
    /// IRQL: up to `DISPATCH_LEVEL`.
    ///
    /// # Safety
    ///
    /// `WskRegistration` has been registered, `WskProviderCharacteristics` is writable.
    ///
    /// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nf-wsk-wskqueryprovidercharacteristics>
    pub fn WskQueryProviderCharacteristics(
        WskRegistration: PWSK_REGISTRATION,
        WskProviderCharacteristics: PWSK_PROVIDER_CHARACTERISTICS,
    ) -> NTSTATUS;

    /// Ends a registration. It waits until every capture is released, every call into [`WSK_PROVIDER_DISPATCH`] has
    /// returned and every socket is closed; waits in [`WskCaptureProviderNPI`] end with `STATUS_DEVICE_NOT_READY`.
    ///
    /// IRQL: `PASSIVE_LEVEL`.
    ///
    /// # Safety
    ///
    /// `WskRegistration` has been registered, and not deregistered since.
    ///
    /// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nf-wsk-wskderegister>
    pub fn WskDeregister(WskRegistration: PWSK_REGISTRATION);
}
