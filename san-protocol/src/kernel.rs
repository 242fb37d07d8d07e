//! The interface for other drivers: how they get the table of functions, and what is in it. In C: `include/sanwsk_kernel.h`,
//! which says what each function does.

use crate::control::{Access, FILE_DEVICE_SANWSK, Method, ctl_code};
use crate::request::{
    AcceptReply, AddressReply, AddressesReply, EndpointId, EndpointStatistics, MemoryReply, NegotiateReply,
};
use crate::{NtStatus, SocketAddress};
use core::ffi::c_void;

/// `METHOD_NEITHER`: the caller's own pointers.
const METHOD_NEITHER: u32 = 3;

/// Asks for the interface. An internal device control of the kernel's. Input: [`GetInterface`]. Output: [`Interface`], or
/// [`InterfaceVersions`] with `STATUS_REVISION_MISMATCH`.
pub const IOCTL_INTERNAL_SANWSK_GET_INTERFACE: u32 =
    ctl_code(FILE_DEVICE_SANWSK, 0x900, Method::Buffered, Access::Any) | METHOD_NEITHER;

/// The version of [`Interface`], the newest that there is.
pub const INTERFACE_VERSION: u16 = 1;

/// The oldest version that a driver still offers.
pub const OLDEST_INTERFACE_VERSION: u16 = 1;

/// Bytes of a version of [`Interface`]; `None` if there is none of that number.
///
/// A version has the fields of the one before it, and more behind them; what a function takes and what its structures are never
/// changes. So each version is the beginning of the newest, and a client that was built for it works with every later driver.
#[must_use]
pub const fn interface_size(version: u32) -> Option<usize> {
    match version {
        1 => Some(size_of::<Interface>()),
        _ => None,
    }
}

/// Which interface a client was built for.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetInterface {
    /// [`INTERFACE_VERSION`] of the client.
    pub version: u32,
    /// Size of its [`Interface`], in bytes.
    pub size: u32,
}

/// The versions that a driver offers.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceVersions {
    /// The oldest.
    pub oldest: u32,
    /// The newest.
    pub newest: u32,
}

/// A client of the interface, by its id.
pub type ClientId = u64;

/// What is under way for a client: non-paged memory of its own, of [`Interface::operation_size`] bytes.
#[repr(C)]
#[derive(Debug)]
pub struct Operation {
    opaque: [u8; 0],
}

/// A memory descriptor list (`MDL`).
pub type Mdl = c_void;

/// Called once for each operation that was begun, at IRQL <= DISPATCH_LEVEL.
pub type Completion =
    unsafe extern "C" fn(operation: *mut Operation, context: *mut c_void, status: NtStatus, information: usize);

macro_rules! interface {
    ($($(#[$doc:meta])* $field:ident / $name:ident: $kind:ty,)*) => {
        /// The table of functions. It begins as an `INTERFACE` of `<wdm.h>` does.
        #[repr(C)]
        #[derive(Clone, Copy, Debug)]
        pub struct Interface { $($(#[$doc])* pub $field: $kind,)* }

        impl Interface {
            /// Its fields, as C calls them.
            pub const LAYOUT: crate::Layout = crate::Layout {
                name: "Interface",
                size: size_of::<Self>(),
                fields: &[$(crate::Field {
                    name: stringify!($name),
                    offset: core::mem::offset_of!(Self, $field),
                    size: size_of::<$kind>(),
                },)*],
            };

            /// What they are, in their order, as Rust calls it.
            pub const KINDS: &[&str] = &[$(stringify!($kind),)*];
        }
    };
}

interface! {
    /// Bytes that the driver has filled in.
    size / Size: u16,
    /// The version that was asked for.
    version / Version: u16,
    /// For the two functions below and [`Interface::open_client`].
    context / Context: *mut c_void,
    /// Counts a further reference to the interface.
    interface_reference / InterfaceReference: unsafe extern "C" fn(context: *mut c_void),
    /// Gives one back.
    interface_dereference / InterfaceDereference: unsafe extern "C" fn(context: *mut c_void),
    /// Bytes of an [`Operation`].
    operation_size / OperationSize: u32,
    /// 0.
    reserved / Reserved: u32,
    /// Opens a client.
    open_client / OpenClient: unsafe extern "C" fn(context: *mut c_void, client: *mut ClientId) -> NtStatus,
    /// Closes it, and all its endpoints.
    close_client / CloseClient: unsafe extern "C" fn(client: ClientId, operation: *mut Operation) -> NtStatus,
    /// Makes an operation of memory.
    initialize_operation / InitializeOperation: unsafe extern "C" fn(
        operation: *mut Operation, completion: Option<Completion>, context: *mut c_void) -> NtStatus,
    /// Makes an operation that completes an IRP.
    initialize_irp_operation / InitializeIrpOperation: unsafe extern "C" fn(
        operation: *mut Operation, irp: *mut c_void) -> NtStatus,
    /// Cancels what an operation is under way for.
    cancel_operation / CancelOperation: unsafe extern "C" fn(operation: *mut Operation) -> NtStatus,
    /// Makes an endpoint.
    create / Create: unsafe extern "C" fn(
        client: ClientId, kind: u32, family: u16, endpoint: *mut EndpointId) -> NtStatus,
    /// Sets an option of a stream.
    set_option / SetOption: unsafe extern "C" fn(
        client: ClientId, operation: *mut Operation, endpoint: EndpointId, option: u32, value: u32) -> NtStatus,
    /// Binds an endpoint.
    bind / Bind: unsafe extern "C" fn(
        client: ClientId, operation: *mut Operation, endpoint: EndpointId, address: *const SocketAddress,
        reply: *mut AddressReply) -> NtStatus,
    /// Connects it.
    connect / Connect: unsafe extern "C" fn(
        client: ClientId, operation: *mut Operation, endpoint: EndpointId, address: *const SocketAddress,
        timeout: u32) -> NtStatus,
    /// Has it listen.
    listen / Listen: unsafe extern "C" fn(
        client: ClientId, operation: *mut Operation, endpoint: EndpointId, backlog: u32) -> NtStatus,
    /// Takes a connection out of its backlog.
    accept / Accept: unsafe extern "C" fn(
        client: ClientId, operation: *mut Operation, endpoint: EndpointId, reply: *mut AcceptReply) -> NtStatus,
    /// Accepts or rejects a SAN connection that was taken out.
    decide / Decide: unsafe extern "C" fn(client: ClientId, endpoint: EndpointId, decision: u32) -> NtStatus,
    /// Exchanges sessions with the peer.
    negotiate / Negotiate: unsafe extern "C" fn(
        client: ClientId, operation: *mut Operation, endpoint: EndpointId, private: *const u8, private_length: u32,
        receive_size: u32, reply: *mut NegotiateReply) -> NtStatus,
    /// Registers memory.
    register_memory / RegisterMemory: unsafe extern "C" fn(
        client: ClientId, operation: *mut Operation, endpoint: EndpointId, key: u64, mdl: *mut Mdl,
        rights: u32) -> NtStatus,
    /// Ends a registration.
    deregister_memory / DeregisterMemory: unsafe extern "C" fn(
        client: ClientId, operation: *mut Operation, endpoint: EndpointId, key: u64) -> NtStatus,
    /// Tells what is registered.
    query_memory / QueryMemory: unsafe extern "C" fn(
        client: ClientId, endpoint: EndpointId, key: u64, reply: *mut MemoryReply) -> NtStatus,
    /// Sends from an MDL.
    send / Send: unsafe extern "C" fn(
        client: ClientId, operation: *mut Operation, endpoint: EndpointId, mdl: *mut Mdl, offset: u32,
        length: u32) -> NtStatus,
    /// Sends from registered memory.
    send_registered / SendRegistered: unsafe extern "C" fn(
        client: ClientId, operation: *mut Operation, endpoint: EndpointId, key: u64, offset: u64,
        length: u32) -> NtStatus,
    /// Receives into an MDL.
    receive / Receive: unsafe extern "C" fn(
        client: ClientId, operation: *mut Operation, endpoint: EndpointId, mdl: *mut Mdl, offset: u32, length: u32,
        flags: u32) -> NtStatus,
    /// Receives into registered memory.
    receive_registered / ReceiveRegistered: unsafe extern "C" fn(
        client: ClientId, operation: *mut Operation, endpoint: EndpointId, key: u64, offset: u64,
        length: u32) -> NtStatus,
    /// Ends a connection.
    disconnect / Disconnect: unsafe extern "C" fn(
        client: ClientId, operation: *mut Operation, endpoint: EndpointId, flags: u32) -> NtStatus,
    /// Closes an endpoint.
    close / Close: unsafe extern "C" fn(
        client: ClientId, operation: *mut Operation, endpoint: EndpointId) -> NtStatus,
    /// Tells an endpoint's addresses.
    query_addresses / QueryAddresses: unsafe extern "C" fn(
        client: ClientId, endpoint: EndpointId, reply: *mut AddressesReply) -> NtStatus,
    /// Tells what a SAN endpoint has done and holds.
    query_statistics / QueryStatistics: unsafe extern "C" fn(
        client: ClientId, endpoint: EndpointId, reply: *mut EndpointStatistics) -> NtStatus,
}
