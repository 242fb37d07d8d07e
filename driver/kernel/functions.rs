//! The functions of the table. Each may be called at IRQL <= DISPATCH_LEVEL.
//!
//! Clients are trusted to hand over memory that is what they say, and that stays; ids, states and numbers are checked.
#![allow(unsafe_code, reason = "called from C, with pointers of the client")]

use super::call::{Call, Reply};
use super::interface::DeviceUse;
use crate::endpoint::{AnyEndpoint, Begun, CloseWaiter};
use crate::handle::{self, ClientCloser, Handle, Owner};
use crate::issuer::Issuer;
use crate::nt::{CriticalRegion, Shared, wait_for};
use crate::san::{self, LockedMemory, Region, Transfer};
use crate::stream::{self, LockedBuffer};
use core::ffi::c_void;
use core::ptr::NonNull;
use san_core::san::Slice;
use san_protocol::kernel::{ClientId, Completion, Mdl, Operation};
use san_protocol::wire;
use san_protocol::{
    AcceptReply, AddressReply, AddressesReply, DISCONNECT_ABORTIVE, Decision, EndpointId, EndpointStatistics,
    MemoryReply, NegotiateReply, NtStatus, RECEIVE_ALL, SocketAddress, SocketOption,
};
use wdk_sys::{MDL, MDL_PAGES_LOCKED, MDL_PARTIAL, MDL_SOURCE_IS_NONPAGED_POOL};

/// What a function does that takes no time.
fn at_once(act: impl FnOnce() -> Result<(), NtStatus>) -> NtStatus {
    // Others may wait for what this thread is doing for an endpoint: it is not suspended in the middle.
    let _region = CriticalRegion::enter();
    act().err().unwrap_or(NtStatus::SUCCESS)
}

/// What a function does with an operation: the client is told by the operation's completion once this has returned
/// `STATUS_PENDING`, and not at all otherwise.
///
/// # Safety
///
/// `operation` is memory of the size that the interface says; that and the reply's room stay until it is completed.
unsafe fn begin(
    client: ClientId,
    operation: *mut Operation,
    reply: Reply,
    start: impl FnOnce(&Handle, Issuer) -> Result<Begun, NtStatus>,
) -> NtStatus {
    let _region = CriticalRegion::enter();
    let begun = handle::client(client).and_then(|handle| {
        // SAFETY: by this function's contract.
        let call = unsafe { Call::of(operation) }?;
        call.begin(Some(handle.clone()), reply)?;
        let begun = start(&handle, Issuer::Client(call));
        // What is done, or has not begun, is nobody else's.
        match begun {
            Ok(Begun::Pends) => {}
            Ok(Begun::Done(length)) => call.complete(NtStatus::SUCCESS, length),
            Err(_) => call.abandon(),
        }
        begun.map(|_| ())
    });
    begun.err().unwrap_or(NtStatus::PENDING)
}

/// What an operation does whose beginning always leads to its completion.
///
/// # Safety
///
/// That of [`begin`].
unsafe fn pends(
    client: ClientId,
    operation: *mut Operation,
    reply: Reply,
    start: impl FnOnce(&Handle, Issuer) -> Result<(), NtStatus>,
) -> NtStatus {
    // SAFETY: by this function's contract.
    unsafe { begin(client, operation, reply, |handle, issuer| start(handle, issuer).map(|()| Begun::Pends)) }
}

/// Gives a client a value.
///
/// # Safety
///
/// `to` is null, or room for one.
unsafe fn give<T>(to: *mut T, value: T) -> Result<(), NtStatus> {
    let to = NonNull::new(to).ok_or(NtStatus::INVALID_PARAMETER)?;
    // SAFETY: by this function's contract.
    unsafe { to.write_unaligned(value) };
    Ok(())
}

/// The address that a client gives.
///
/// # Safety
///
/// `address` is null, or leads to one.
unsafe fn address(address: *const SocketAddress) -> Result<SocketAddress, NtStatus> {
    let address = NonNull::new(address.cast_mut()).ok_or(NtStatus::INVALID_PARAMETER)?;
    // SAFETY: by this function's contract.
    Ok(unsafe { address.read_unaligned() })
}

/// A client's MDL, if it describes that many bytes of memory that stays where it is: locked pages, non-paged pool, or a part of
/// these; alone, for what is behind it in a chain would be mistaken for more of the message.
///
/// # Safety
///
/// `mdl` is null, or an MDL that stays until the operation is completed.
unsafe fn locked(mdl: *mut Mdl, offset: u32, length: u32) -> Result<NonNull<MDL>, NtStatus> {
    let mdl = NonNull::new(mdl.cast::<MDL>()).ok_or(NtStatus::INVALID_PARAMETER)?;
    // SAFETY: by this function's contract.
    let described = unsafe { mdl.as_ref() };
    let stays = MDL_PAGES_LOCKED | MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL;
    if !described.Next.is_null() || u32::from(described.MdlFlags.cast_unsigned()) & stays == 0 {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    match offset.checked_add(length) {
        Some(end) if end <= described.ByteCount => Ok(mdl),
        Some(_) | None => Err(NtStatus::ACCESS_VIOLATION),
    }
}

/// The SAN endpoint of this id.
fn san(handle: &Handle, id: EndpointId) -> Result<Shared<san::Endpoint>, NtStatus> {
    handle.find(id)?.san()
}

pub(super) unsafe extern "C" fn open_client(context: *mut c_void, client: *mut ClientId) -> NtStatus {
    at_once(|| {
        let file = NonNull::new(context).ok_or(NtStatus::INVALID_PARAMETER)?;
        let client = NonNull::new(client).ok_or(NtStatus::INVALID_PARAMETER)?;
        // SAFETY: the interface's context, to which the caller has a reference.
        let device = unsafe { DeviceUse::of(file) };
        let opened = Handle::open(Owner::Client(device))?;
        // SAFETY: room for an id.
        unsafe { client.write(opened.id()) };
        Ok(())
    })
}

pub(super) unsafe extern "C" fn close_client(client: ClientId, operation: *mut Operation) -> NtStatus {
    let _region = CriticalRegion::enter();
    if operation.is_null() {
        return close_client_and_wait(client);
    }
    let closing = handle::client(client).and_then(|handle| {
        // SAFETY: the client's operation.
        let call = unsafe { Call::of(operation) }?;
        call.begin(None, Reply::NONE)?;
        Handle::close_client(&handle, ClientCloser::Call(call)).inspect_err(|_| call.abandon())
    });
    closing.err().unwrap_or(NtStatus::PENDING)
}

/// IRQL <= APC_LEVEL.
fn close_client_and_wait(client: ClientId) -> NtStatus {
    let mut closed = Ok(());
    wait_for(|thread| {
        let waiting = ClientCloser::Thread(thread);
        // The reference goes before the wait begins.
        closed = handle::client(client).and_then(|handle| Handle::close_client(&handle, waiting));
    });
    closed.err().unwrap_or(NtStatus::SUCCESS)
}

pub(super) unsafe extern "C" fn initialize_operation(
    operation: *mut Operation,
    completion: Option<Completion>,
    context: *mut c_void,
) -> NtStatus {
    // SAFETY: the client's memory, which is not in use.
    let initialized = unsafe { Call::with_callback(operation, completion, context) };
    initialized.err().unwrap_or(NtStatus::SUCCESS)
}

pub(super) unsafe extern "C" fn initialize_irp_operation(operation: *mut Operation, irp: *mut c_void) -> NtStatus {
    // SAFETY: the client's memory, which is not in use, and its IRP.
    let initialized = unsafe { Call::with_irp(operation, irp) };
    initialized.err().unwrap_or(NtStatus::SUCCESS)
}

pub(super) unsafe extern "C" fn cancel_operation(operation: *mut Operation) -> NtStatus {
    at_once(|| {
        // SAFETY: the client's operation, which it keeps during this call.
        let call = unsafe { Call::of(operation) }?;
        call.cancel()
    })
}

pub(super) unsafe extern "C" fn create(
    client: ClientId,
    kind: u32,
    family: u16,
    endpoint: *mut EndpointId,
) -> NtStatus {
    at_once(|| {
        let handle = handle::client(client)?;
        if endpoint.is_null() {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let id = handle.add(AnyEndpoint::create(kind, family, None)?)?;
        // SAFETY: room for an id.
        unsafe { give(endpoint, id) }
    })
}

pub(super) unsafe extern "C" fn set_option(
    client: ClientId,
    operation: *mut Operation,
    endpoint: EndpointId,
    option: u32,
    value: u32,
) -> NtStatus {
    let start = |handle: &Handle, issuer| {
        let option = SocketOption::from_number(option).ok_or(NtStatus::INVALID_PARAMETER)?;
        let on = match value {
            0 => false,
            1 => true,
            _ => return Err(NtStatus::INVALID_PARAMETER),
        };
        let endpoint = handle.find(endpoint)?.stream()?;
        let pends = stream::Endpoint::set_option(&endpoint, issuer, option, on)?;
        Ok(if pends { Begun::Pends } else { Begun::Done(0) })
    };
    // SAFETY: the client's operation.
    unsafe { begin(client, operation, Reply::NONE, start) }
}

pub(super) unsafe extern "C" fn bind(
    client: ClientId,
    operation: *mut Operation,
    endpoint: EndpointId,
    to: *const SocketAddress,
    reply: *mut AddressReply,
) -> NtStatus {
    let start = |handle: &Handle, issuer| {
        let endpoint = handle.find(endpoint)?;
        // SAFETY: the client's address.
        let address = endpoint.address(unsafe { address(to) }?)?;
        endpoint.bind(issuer, address)
    };
    // SAFETY: the client's operation, and room for its reply.
    unsafe { pends(client, operation, Reply::of(reply), start) }
}

pub(super) unsafe extern "C" fn connect(
    client: ClientId,
    operation: *mut Operation,
    endpoint: EndpointId,
    to: *const SocketAddress,
    timeout: u32,
) -> NtStatus {
    let start = |handle: &Handle, issuer| {
        let endpoint = handle.find(endpoint)?;
        // SAFETY: the client's address.
        endpoint.connect(issuer, unsafe { address(to) }?, timeout)
    };
    // SAFETY: the client's operation.
    unsafe { pends(client, operation, Reply::NONE, start) }
}

pub(super) unsafe extern "C" fn listen(
    client: ClientId,
    operation: *mut Operation,
    endpoint: EndpointId,
    backlog: u32,
) -> NtStatus {
    let start = |handle: &Handle, issuer| handle.find(endpoint)?.listen(issuer, backlog);
    // SAFETY: the client's operation.
    unsafe { begin(client, operation, Reply::NONE, start) }
}

pub(super) unsafe extern "C" fn accept(
    client: ClientId,
    operation: *mut Operation,
    endpoint: EndpointId,
    reply: *mut AcceptReply,
) -> NtStatus {
    let start = |handle: &Handle, issuer| {
        if reply.is_null() {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        handle.find(endpoint)?.accept(issuer)
    };
    // SAFETY: the client's operation, and room for its reply.
    unsafe { pends(client, operation, Reply::of(reply), start) }
}

pub(super) unsafe extern "C" fn decide(client: ClientId, endpoint: EndpointId, decision: u32) -> NtStatus {
    at_once(|| {
        let handle = handle::client(client)?;
        let decision = Decision::from_number(decision).ok_or(NtStatus::INVALID_PARAMETER)?;
        match (decision, san::Endpoint::decide(&handle, endpoint, decision)) {
            // It is what was asked for: the endpoint is gone.
            (Decision::Reject, Err(NtStatus::CONNECTION_REFUSED)) => Ok(()),
            (Decision::Accept | Decision::Reject, decided) => decided,
        }
    })
}

pub(super) unsafe extern "C" fn negotiate(
    client: ClientId,
    operation: *mut Operation,
    endpoint: EndpointId,
    private: *const u8,
    private_length: u32,
    receive_size: u32,
    reply: *mut NegotiateReply,
) -> NtStatus {
    let start = |handle: &Handle, issuer| {
        let endpoint = san(handle, endpoint)?;
        let private = match (NonNull::new(private.cast_mut()), private_length) {
            (_, 0) => &[],
            (None, _) => return Err(NtStatus::INVALID_PARAMETER),
            (_, length) if length as usize > wire::MAX_PRIVATE_DATA => return Err(NtStatus::INVALID_BUFFER_SIZE),
            // SAFETY: the client's private data, of that length.
            (Some(start), length) => unsafe { core::slice::from_raw_parts(start.as_ptr(), length as usize) },
        };
        san::Endpoint::negotiate(&endpoint, issuer, private, receive_size)
    };
    // SAFETY: the client's operation, and room for its reply.
    unsafe { pends(client, operation, Reply::of(reply), start) }
}

pub(super) unsafe extern "C" fn register_memory(
    client: ClientId,
    operation: *mut Operation,
    endpoint: EndpointId,
    key: u64,
    mdl: *mut Mdl,
    rights: u32,
) -> NtStatus {
    let start = |handle: &Handle, issuer| {
        let endpoint = san(handle, endpoint)?;
        // SAFETY: the client's MDL.
        let mdl = unsafe { locked(mdl, 0, 0) }?;
        // SAFETY: as above.
        let length = unsafe { mdl.as_ref() }.ByteCount.into();
        let region = Region { key, memory: LockedMemory::of(mdl), length, rights };
        san::Endpoint::register(&endpoint, issuer, region)
    };
    // SAFETY: the client's operation.
    unsafe { pends(client, operation, Reply::NONE, start) }
}

pub(super) unsafe extern "C" fn deregister_memory(
    client: ClientId,
    operation: *mut Operation,
    endpoint: EndpointId,
    key: u64,
) -> NtStatus {
    let start = |handle: &Handle, issuer| san::Endpoint::deregister(&san(handle, endpoint)?, issuer, key);
    // SAFETY: the client's operation.
    unsafe { pends(client, operation, Reply::NONE, start) }
}

pub(super) unsafe extern "C" fn query_memory(
    client: ClientId,
    endpoint: EndpointId,
    key: u64,
    reply: *mut MemoryReply,
) -> NtStatus {
    at_once(|| {
        let endpoint = san(&*handle::client(client)?, endpoint)?;
        // SAFETY: room for the reply.
        unsafe { give(reply, endpoint.query_memory(key)?) }
    })
}

pub(super) unsafe extern "C" fn send(
    client: ClientId,
    operation: *mut Operation,
    endpoint: EndpointId,
    mdl: *mut Mdl,
    offset: u32,
    length: u32,
) -> NtStatus {
    let start = |handle: &Handle, issuer| match handle.find(endpoint)? {
        AnyEndpoint::Stream(endpoint) if length == 0 => {
            stream::Endpoint::check_send(&endpoint).map(|()| Begun::Done(0))
        }
        AnyEndpoint::Stream(endpoint) => {
            // SAFETY: the client's MDL.
            let mdl = unsafe { locked(mdl, offset, length) }?;
            let buffer = LockedBuffer { mdl, offset, length: length as usize };
            stream::Endpoint::send(&endpoint, issuer, buffer).map(|()| Begun::Pends)
        }
        AnyEndpoint::San(endpoint) => {
            let slice = if length == 0 {
                Slice { memory: LockedMemory::NOTHING, offset: 0, length }
            } else {
                // SAFETY: the client's MDL.
                let memory = LockedMemory::of(unsafe { locked(mdl, offset, length) }?);
                Slice { memory, offset: offset.into(), length }
            };
            san::Endpoint::send(&endpoint, issuer, slice).map(|()| Begun::Pends)
        }
    };
    // SAFETY: the client's operation.
    unsafe { begin(client, operation, Reply::NONE, start) }
}

pub(super) unsafe extern "C" fn send_registered(
    client: ClientId,
    operation: *mut Operation,
    endpoint: EndpointId,
    key: u64,
    offset: u64,
    length: u32,
) -> NtStatus {
    let start = |handle: &Handle, issuer| {
        san::Endpoint::send_registered(&san(handle, endpoint)?, issuer, Transfer { key, offset, length })
    };
    // SAFETY: the client's operation.
    unsafe { pends(client, operation, Reply::NONE, start) }
}

pub(super) unsafe extern "C" fn receive(
    client: ClientId,
    operation: *mut Operation,
    endpoint: EndpointId,
    mdl: *mut Mdl,
    offset: u32,
    length: u32,
    flags: u32,
) -> NtStatus {
    let start = |handle: &Handle, issuer| {
        // SAFETY: the client's MDL.
        let found = (handle.find(endpoint)?, unsafe { locked(mdl, offset, length) }?);
        match found {
            (_, _) if flags & !RECEIVE_ALL != 0 || length == 0 => Err(NtStatus::INVALID_PARAMETER),
            (AnyEndpoint::Stream(endpoint), mdl) => {
                let buffer = LockedBuffer { mdl, offset, length: length as usize };
                stream::Endpoint::receive(&endpoint, issuer, buffer, flags & RECEIVE_ALL != 0)
            }
            (AnyEndpoint::San(endpoint), mdl) => {
                let slice = Slice { memory: LockedMemory::of(mdl), offset: offset.into(), length };
                san::Endpoint::receive(&endpoint, issuer, slice)
            }
        }
    };
    // SAFETY: the client's operation.
    unsafe { pends(client, operation, Reply::NONE, start) }
}

pub(super) unsafe extern "C" fn receive_registered(
    client: ClientId,
    operation: *mut Operation,
    endpoint: EndpointId,
    key: u64,
    offset: u64,
    length: u32,
) -> NtStatus {
    let start = |handle: &Handle, issuer| {
        san::Endpoint::receive_registered(&san(handle, endpoint)?, issuer, Transfer { key, offset, length })
    };
    // SAFETY: the client's operation.
    unsafe { pends(client, operation, Reply::NONE, start) }
}

pub(super) unsafe extern "C" fn disconnect(
    client: ClientId,
    operation: *mut Operation,
    endpoint: EndpointId,
    flags: u32,
) -> NtStatus {
    let start = |handle: &Handle, issuer| {
        if flags & !DISCONNECT_ABORTIVE != 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        handle.find(endpoint)?.disconnect(issuer, flags & DISCONNECT_ABORTIVE != 0)
    };
    // SAFETY: the client's operation.
    unsafe { pends(client, operation, Reply::NONE, start) }
}

pub(super) unsafe extern "C" fn close(client: ClientId, operation: *mut Operation, endpoint: EndpointId) -> NtStatus {
    let start = |handle: &Handle, issuer| {
        handle.take(endpoint)?.close(Some(CloseWaiter::Issuer(issuer)));
        Ok(())
    };
    // SAFETY: the client's operation.
    unsafe { pends(client, operation, Reply::NONE, start) }
}

pub(super) unsafe extern "C" fn query_addresses(
    client: ClientId,
    endpoint: EndpointId,
    reply: *mut AddressesReply,
) -> NtStatus {
    at_once(|| {
        let endpoint = handle::client(client)?.find(endpoint)?;
        // SAFETY: room for the reply.
        unsafe { give(reply, endpoint.addresses()) }
    })
}

pub(super) unsafe extern "C" fn query_statistics(
    client: ClientId,
    endpoint: EndpointId,
    reply: *mut EndpointStatistics,
) -> NtStatus {
    at_once(|| {
        let endpoint = san(&*handle::client(client)?, endpoint)?;
        // SAFETY: room for the reply.
        unsafe { give(reply, endpoint.statistics()) }
    })
}
