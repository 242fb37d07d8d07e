//! The functions of a client's own: sockets are made, client controls, addresses of names.
#![allow(unsafe_code)] // reads and writes the client's buffers

use std::ffi::c_void;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use wsk_bindings::{
    ADDRINFOEXW, AF_INET, AF_INET6, AF_UNSPEC, IPPROTO_TCP, IPPROTO_UDP, NPI_WSK_INTERFACE_ID, SOCK_DGRAM, SOCK_STREAM,
    WSK_CACHE_SD, WSK_CLIENT_STREAM_DISPATCH, WSK_EVENT_ACCEPT, WSK_EVENT_CALLBACK_CONTROL, WSK_EVENT_DISCONNECT,
    WSK_EVENT_RECEIVE, WSK_EVENT_RECEIVE_FROM, WSK_EVENT_SEND_BACKLOG, WSK_FLAG_BASIC_SOCKET,
    WSK_FLAG_CONNECTION_SOCKET, WSK_FLAG_DATAGRAM_SOCKET, WSK_FLAG_LISTEN_SOCKET, WSK_FLAG_STREAM_SOCKET,
    WSK_RELEASE_SD, WSK_SET_STATIC_EVENT_CALLBACKS, WSK_TDI_BEHAVIOR, WSK_TRANSPORT, WSK_TRANSPORT_LIST_QUERY,
};

use super::address::{Encoded, read};
use super::hosts;
use super::operation::{self, Completion, Cursor, Operation, begin};
use super::registration::of_client;
use super::socket::{Callbacks, Category, Socket};
use super::{registration::Registration, wsk};
use crate::guard::violate;
use crate::network::{Family, Progress};
use crate::nt::irql::called;
use crate::nt::object::Kind;
use crate::nt::pool::{self, Owner};
use crate::nt::status::{
    STATUS_BUFFER_OVERFLOW, STATUS_CANCELLED, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_STATE,
    STATUS_INVALID_PARAMETER, STATUS_NOT_FOUND, STATUS_NOT_SUPPORTED, STATUS_PENDING, STATUS_SUCCESS,
};
use crate::nt::strings::text;
use crate::nt::types::{DISPATCH_LEVEL, IRP, NTSTATUS, PASSIVE_LEVEL, PVOID, UNICODE_STRING};
use crate::thread::kernel;
use crate::violation::Rule;

fn family(value: u16) -> Option<Family> {
    if value == AF_INET {
        Some(Family::V4)
    } else if value == AF_INET6 {
        Some(Family::V6)
    } else {
        None
    }
}

/// Whether a transport that there is, is one of datagrams: TCP or UDP.
fn transport(kind: u16, protocol: u32) -> Option<bool> {
    match (kind, protocol) {
        (SOCK_STREAM, IPPROTO_TCP) => Some(false),
        (SOCK_DGRAM, IPPROTO_UDP) => Some(true),
        _ => None,
    }
}

/// Whether sockets of a category can be on a transport.
fn can_use(category: Category, datagrams: bool) -> bool {
    match category {
        Category::Basic => true,
        Category::Listen | Category::Connection | Category::Stream => !datagrams,
        Category::Datagram => datagrams,
    }
}

/// The callbacks in the table that a category's client gives.
fn callbacks(category: Category, context: PVOID, table: *const c_void) -> Callbacks {
    let none = Callbacks { context: context as usize, ..Callbacks::default() };
    match category {
        Category::Basic => none,
        Category::Listen => Callbacks { listen: table as usize, ..none },
        Category::Connection => Callbacks { connection: table as usize, ..none },
        Category::Datagram => Callbacks { datagram: table as usize, ..none },
        Category::Stream if table.is_null() => none,
        Category::Stream => {
            // SAFETY: the client's table for a stream socket; a bad pointer faults, which the guard reports.
            let table = unsafe { table.cast::<WSK_CLIENT_STREAM_DISPATCH>().read() };
            Callbacks { listen: table.Listen as usize, connection: table.Connect as usize, ..none }
        }
    }
}

/// A security descriptor comes from WSK_CACHE_SD.
fn check_descriptor(descriptor: PVOID, call: &str) {
    if !descriptor.is_null() && !wsk().descriptors.lock().contains(&(descriptor as usize)) {
        violate(Rule::Wsk(16), format!("{call}: the security descriptor is not from WSK_CACHE_SD"));
    }
}

/// What WSK gives back at DISPATCH_LEVEL is not pageable.
pub(super) fn check_context(context: PVOID, call: &str) {
    if kernel().paging.contains(context as usize) {
        violate(Rule::Wsk(11), format!("{call}: the socket's context lies in pageable memory"));
    }
}

/// The process and thread whose security context a socket gets exist.
pub(super) fn check_owner(process: PVOID, call: &str) {
    if !process.is_null() && kernel().objects.kind(process as usize) != Some(Kind::Process) {
        violate(Rule::Wsk(17), format!("{call}: {process:p} is no process"));
    }
}

#[allow(clippy::too_many_arguments)]
pub(super) extern "win64" fn WskSocket(
    client: PVOID,
    address_family: u16,
    kind: u16,
    protocol: u32,
    flags: u32,
    context: PVOID,
    dispatch: *const c_void,
    process: PVOID,
    _thread: PVOID,
    descriptor: PVOID,
    irp: *mut IRP,
) -> NTSTATUS {
    called("WskSocket", DISPATCH_LEVEL);
    let wsk = wsk();
    let registration = of_client(&wsk, client, "WskSocket");
    check_descriptor(descriptor, "WskSocket");
    check_owner(process, "WskSocket");
    check_context(context, "WskSocket");
    let irp = begin(irp, "WskSocket");
    let category = match flags {
        WSK_FLAG_BASIC_SOCKET => Some(Category::Basic),
        WSK_FLAG_LISTEN_SOCKET => Some(Category::Listen),
        WSK_FLAG_CONNECTION_SOCKET => Some(Category::Connection),
        WSK_FLAG_STREAM_SOCKET => Some(Category::Stream),
        WSK_FLAG_DATAGRAM_SOCKET => Some(Category::Datagram),
        _ => None,
    };
    let result = match (category, family(address_family), transport(kind, protocol)) {
        (Some(category), Some(family), Some(datagrams)) if can_use(category, datagrams) => {
            let callbacks = callbacks(category, context, dispatch);
            let socket = Socket::new(&wsk, &registration, category, (family, datagrams), callbacks);
            socket.ok_or(STATUS_INSUFFICIENT_RESOURCES)
        }
        (None, _, _) => Err(STATUS_INVALID_PARAMETER),
        (Some(_), _, _) => Err(STATUS_NOT_SUPPORTED),
    };
    let completion = match result {
        Ok(socket) => Completion::new(irp, STATUS_SUCCESS, socket.address),
        Err(status) => Completion::new(irp, status, 0),
    };
    completion.conclude(&wsk)
}

#[allow(clippy::too_many_arguments)]
pub(super) extern "win64" fn WskSocketConnect(
    client: PVOID,
    kind: u16,
    protocol: u32,
    local: *const c_void,
    remote: *const c_void,
    flags: u32,
    context: PVOID,
    dispatch: *const c_void,
    process: PVOID,
    _thread: PVOID,
    descriptor: PVOID,
    irp: *mut IRP,
) -> NTSTATUS {
    called("WskSocketConnect", DISPATCH_LEVEL);
    let wsk = wsk();
    let registration = of_client(&wsk, client, "WskSocketConnect");
    super::socket::check_flags(flags, 0, "WskSocketConnect");
    check_descriptor(descriptor, "WskSocketConnect");
    check_owner(process, "WskSocketConnect");
    check_context(context, "WskSocketConnect");
    let irp = begin(irp, "WskSocketConnect");
    let callbacks = callbacks(Category::Connection, context, dispatch);
    let addresses = if transport(kind, protocol) == Some(false) {
        read(local).and_then(|local| Ok((local, read(remote)?)))
    } else {
        Err(STATUS_NOT_SUPPORTED)
    };
    let begun = addresses.and_then(|(local, remote)| {
        let family = Family::of(&local);
        let socket = Socket::new(&wsk, &registration, Category::Connection, (family, false), callbacks);
        let socket = socket.ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
        let outcome = socket.bind(&wsk, local).and_then(|()| socket_connect(&wsk, &socket, remote, irp));
        if outcome.is_err() {
            // WskSocketConnect leaves no socket behind.
            socket.unlist(&wsk);
            socket.release(&wsk);
        }
        outcome.map(|progress| (socket, progress))
    });
    match begun {
        Ok((socket, Progress::Done(()))) => Completion::new(irp, STATUS_SUCCESS, socket.address).conclude(&wsk),
        Ok((_, Progress::Later)) => STATUS_PENDING,
        // It was made pending before it turned out to be cancelled.
        Err(STATUS_CANCELLED) => Completion::new(irp, STATUS_CANCELLED, 0).defer(&wsk),
        Err(status) => Completion::new(irp, status, 0).conclude(&wsk),
    }
}

/// Begins to connect; the IRP waits if the network needs time.
fn socket_connect(wsk: &super::Wsk, socket: &Socket, remote: SocketAddr, irp: &IRP) -> Result<Progress<()>, NTSTATUS> {
    let mut state = socket.state.lock();
    let progress = socket.start_connect(wsk, &mut state, remote)?;
    if progress == Progress::Later {
        let operation = Operation::new(irp, operation::Kind::Connect { creates: true }, Cursor::NOTHING);
        state.pend(socket.token, operation).map_err(|_| STATUS_CANCELLED)?;
    }
    Ok(progress)
}

const DESCRIPTOR_TAG: u32 = pool::tag(*b"Wskd");

#[allow(clippy::too_many_arguments)]
pub(super) extern "win64" fn WskControlClient(
    client: PVOID,
    code: u32,
    input_size: usize,
    input: PVOID,
    output_size: usize,
    output: PVOID,
    returned: *mut usize,
    irp: *mut IRP,
) -> NTSTATUS {
    called("WskControlClient", DISPATCH_LEVEL);
    let wsk = wsk();
    let registration = of_client(&wsk, client, "WskControlClient");
    if !irp.is_null() {
        violate(Rule::Wsk(18), format!("WskControlClient({code:#x}) takes no IRP"));
    }
    let put = |size: usize| {
        if !returned.is_null() {
            // SAFETY: the client gives it for the size; a bad pointer faults, which the guard reports.
            unsafe { returned.write(size) };
        }
    };
    match code {
        WSK_SET_STATIC_EVENT_CALLBACKS => set_static_events(&registration, input_size, input),
        WSK_TDI_BEHAVIOR if registration.sockets.load(std::sync::atomic::Ordering::Acquire) != 0 => {
            violate(Rule::Wsk(18), "WSK_TDI_BEHAVIOR comes before any socket exists")
        }
        // There is no TDI transport to prefer or to bypass.
        WSK_TDI_BEHAVIOR if input_size >= 4 => STATUS_SUCCESS,
        WSK_TDI_BEHAVIOR => STATUS_INVALID_PARAMETER,
        WSK_TRANSPORT_LIST_QUERY => {
            let transport = |family, kind, protocol| WSK_TRANSPORT {
                Version: wsk_bindings::MAKE_WSK_VERSION(1, 0),
                SocketType: kind,
                Protocol: protocol,
                AddressFamily: family,
                ProviderId: NPI_WSK_INTERFACE_ID,
            };
            let all: [WSK_TRANSPORT; 4] = [
                transport(AF_INET, SOCK_STREAM, IPPROTO_TCP),
                transport(AF_INET, SOCK_DGRAM, IPPROTO_UDP),
                transport(AF_INET6, SOCK_STREAM, IPPROTO_TCP),
                transport(AF_INET6, SOCK_DGRAM, IPPROTO_UDP),
            ];
            put(size_of_val(&all));
            if output_size < size_of_val(&all) {
                return STATUS_BUFFER_OVERFLOW;
            }
            // SAFETY: the client gives enough bytes; a bad pointer faults, which the guard reports.
            unsafe { output.cast::<[WSK_TRANSPORT; 4]>().write_unaligned(all) };
            STATUS_SUCCESS
        }
        WSK_CACHE_SD if input.is_null() || output_size < size_of::<usize>() => STATUS_INVALID_PARAMETER,
        WSK_CACHE_SD => {
            let kernel = kernel();
            let failed = kernel.faults.allocation_fails();
            let copy = if failed {
                None
            } else {
                kernel.pool.allocate(input_size.max(20), DESCRIPTOR_TAG, Owner::Driver, true)
            };
            let Some(copy) = copy else { return STATUS_INSUFFICIENT_RESOURCES };
            // SAFETY: the client names its descriptor and the descriptor's size.
            unsafe { std::ptr::copy_nonoverlapping(input.cast::<u8>(), copy.cast::<u8>(), input_size) };
            wsk.descriptors.lock().push(copy as usize);
            // SAFETY: the output takes a pointer.
            unsafe { output.cast::<PVOID>().write_unaligned(copy) };
            put(size_of::<PVOID>());
            STATUS_SUCCESS
        }
        WSK_RELEASE_SD => {
            let descriptor = if input_size >= size_of::<PVOID>() && !input.is_null() {
                // SAFETY: the input is the pointer that WSK_CACHE_SD returned.
                unsafe { input.cast::<PVOID>().read_unaligned() }
            } else {
                return STATUS_INVALID_PARAMETER;
            };
            let index = wsk.descriptors.lock().iter().position(|known| *known == descriptor as usize);
            let Some(index) = index else {
                violate(Rule::Wsk(16), "WSK_RELEASE_SD of what WSK_CACHE_SD did not return")
            };
            wsk.descriptors.lock().swap_remove(index);
            pool::free(kernel(), descriptor, DESCRIPTOR_TAG);
            STATUS_SUCCESS
        }
        _ => STATUS_NOT_SUPPORTED,
    }
}

fn set_static_events(registration: &Registration, input_size: usize, input: PVOID) -> NTSTATUS {
    use std::sync::atomic::Ordering;
    if registration.sockets.load(Ordering::Acquire) != 0 {
        violate(Rule::Wsk(18), "WSK_SET_STATIC_EVENT_CALLBACKS comes before any socket exists");
    }
    if input_size < size_of::<WSK_EVENT_CALLBACK_CONTROL>() || input.is_null() {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: the client gives the structure; a bad pointer faults, which the guard reports.
    let control = unsafe { input.cast::<WSK_EVENT_CALLBACK_CONTROL>().read_unaligned() };
    // SAFETY: likewise, the identifier that it points to.
    if unsafe { control.NpiId.read() } != NPI_WSK_INTERFACE_ID {
        return STATUS_NOT_SUPPORTED;
    }
    let known =
        WSK_EVENT_ACCEPT | WSK_EVENT_RECEIVE | WSK_EVENT_DISCONNECT | WSK_EVENT_SEND_BACKLOG | WSK_EVENT_RECEIVE_FROM;
    if control.EventMask & !known != 0 {
        return STATUS_INVALID_PARAMETER;
    }
    if registration.static_events.swap(control.EventMask, Ordering::AcqRel) != 0 {
        return STATUS_INVALID_DEVICE_STATE;
    }
    STATUS_SUCCESS
}

const ADDRESS_INFO_TAG: u32 = pool::tag(*b"Wska");

/// The address is to be bound, and names are literals (ws2tcpip.h).
const AI_PASSIVE: i32 = 1;
const AI_NUMERICHOST: i32 = 4;

/// One ADDRINFOEXW and its address, in one block.
#[repr(C)]
struct AddressInfo {
    head: ADDRINFOEXW,
    address: Encoded,
}

#[allow(clippy::too_many_arguments)]
pub(super) extern "win64" fn WskGetAddressInfo(
    client: PVOID,
    node: Option<&UNICODE_STRING>,
    service: Option<&UNICODE_STRING>,
    _name_space: u32,
    _provider: PVOID,
    hints: Option<&ADDRINFOEXW>,
    result: *mut *mut ADDRINFOEXW,
    process: PVOID,
    _thread: PVOID,
    irp: *mut IRP,
) -> NTSTATUS {
    called("WskGetAddressInfo", PASSIVE_LEVEL);
    let wsk = wsk();
    of_client(&wsk, client, "WskGetAddressInfo");
    check_owner(process, "WskGetAddressInfo");
    let irp = begin(irp, "WskGetAddressInfo");
    let found = resolve(node.map(text).as_deref(), service.map(text).as_deref(), hints);
    let status = match found {
        Ok(info) => {
            // SAFETY: the client gives it for the result, until the IRP completes.
            unsafe { result.write(info) };
            STATUS_SUCCESS
        }
        Err(status) => status,
    };
    Completion::new(irp, status, 0).conclude(&wsk)
}

/// The addresses of a literal, or of a host that the machine knows, in a list.
fn resolve(
    node: Option<&str>,
    service: Option<&str>,
    hints: Option<&ADDRINFOEXW>,
) -> Result<*mut ADDRINFOEXW, NTSTATUS> {
    let kernel = kernel();
    let wanted = hints.map_or(0, |hints| hints.ai_family);
    let flags = hints.map_or(0, |hints| hints.ai_flags);
    let port = match service {
        None | Some("") => 0,
        Some(service) => hosts::port(service).ok_or(STATUS_NOT_FOUND)?,
    };
    let all = match node {
        None | Some("") if flags & AI_PASSIVE != 0 => {
            vec![IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)]
        }
        None | Some("") => hosts::addresses(kernel, "localhost"),
        Some(node) => match node.parse() {
            Ok(literal) => vec![literal],
            Err(_) if flags & AI_NUMERICHOST != 0 => Vec::new(),
            Err(_) => hosts::addresses(kernel, node),
        },
    };
    let fits = |ip: &IpAddr| wanted == i32::from(AF_UNSPEC) || wanted == i32::from(family_of(ip));
    let mut first: *mut ADDRINFOEXW = std::ptr::null_mut();
    for ip in all.into_iter().filter(fits).rev() {
        match describe(SocketAddr::new(ip, port), hints, first) {
            Some(info) => first = info,
            None => {
                free_all(first);
                return Err(STATUS_INSUFFICIENT_RESOURCES);
            }
        }
    }
    if first.is_null() { Err(STATUS_NOT_FOUND) } else { Ok(first) }
}

fn family_of(ip: &IpAddr) -> u16 {
    if ip.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// One entry of a list, before the rest of it.
fn describe(address: SocketAddr, hints: Option<&ADDRINFOEXW>, next: *mut ADDRINFOEXW) -> Option<*mut ADDRINFOEXW> {
    let kernel = kernel();
    if kernel.faults.allocation_fails() {
        return None;
    }
    let block = kernel.pool.allocate(size_of::<AddressInfo>(), ADDRESS_INFO_TAG, Owner::Driver, true)?;
    // SAFETY: a fresh, zeroed block of the structure's size; zeros are valid for it.
    let info = unsafe { &mut *block.cast::<AddressInfo>() };
    info.address = Encoded::new(&address);
    info.head.ai_family = family_of(&address.ip()).into();
    let (kind, protocol) = hints.map_or((0, 0), |hints| (hints.ai_socktype, hints.ai_protocol));
    info.head.ai_socktype = if kind == 0 { SOCK_STREAM.into() } else { kind };
    info.head.ai_protocol = match protocol {
        0 if info.head.ai_socktype == i32::from(SOCK_DGRAM) => IPPROTO_UDP as _,
        0 => IPPROTO_TCP as _,
        protocol => protocol,
    };
    info.head.ai_addrlen = if address.is_ipv4() { 16 } else { 28 };
    info.head.ai_addr = info.address.as_ptr().cast();
    info.head.ai_next = next.cast();
    Some(block.cast())
}

fn free_all(mut info: *mut ADDRINFOEXW) {
    while !info.is_null() {
        // SAFETY: a list that `resolve` made; a bad address is found when it is freed, or faults.
        let next = unsafe { (*info).ai_next };
        pool::free(kernel(), info.cast(), ADDRESS_INFO_TAG);
        info = next.cast();
    }
}

pub(super) extern "win64" fn WskFreeAddressInfo(client: PVOID, info: *mut ADDRINFOEXW) {
    called("WskFreeAddressInfo", PASSIVE_LEVEL);
    of_client(&wsk(), client, "WskFreeAddressInfo");
    free_all(info);
}
