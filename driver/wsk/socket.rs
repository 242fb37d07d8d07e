//! The WSK calls on sockets. Each hands an IRP to the provider, and says `None` if the provider has no such function.
#![allow(unsafe_code, reason = "calls the WSK provider's dispatch tables")]

use super::{ProviderUse, SockAddr};
use crate::nt::Process;
use core::ffi::c_void;
use core::ptr::{self, NonNull};
use wdk_sys::{NTSTATUS, PEPROCESS, PIRP};
use wsk_bindings::{
    ADDRESS_FAMILY, IPPROTO_TCP, SO_CONDITIONAL_ACCEPT, SO_EXCLUSIVEADDRUSE, SO_KEEPALIVE, SO_REUSEADDR, SOCK_STREAM,
    SOL_SOCKET, TCP_NODELAY, WSK_BUF, WSK_CLIENT_LISTEN_DISPATCH, WSK_FLAG_ABORTIVE, WSK_FLAG_CONNECTION_SOCKET,
    WSK_FLAG_LISTEN_SOCKET, WSK_FLAG_WAITALL, WSK_PROVIDER_BASIC_DISPATCH, WSK_PROVIDER_CONNECTION_DISPATCH,
    WSK_PROVIDER_LISTEN_DISPATCH, WSK_SOCKET, WskSetOption,
};

/// WSK's categories of sockets that this driver uses; they say which dispatch table a socket has.
#[derive(Clone, Copy)]
pub(crate) enum Category {
    /// `WSK_FLAG_CONNECTION_SOCKET`; no event callbacks.
    Connection,
    /// `WSK_FLAG_LISTEN_SOCKET`, whose callbacks get the context.
    Listen(&'static WSK_CLIENT_LISTEN_DISPATCH, *const c_void),
}

/// A socket option to be set, with its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OptionName {
    NoDelay,
    KeepAlive,
    ExclusiveAddressUse,
    ReuseAddress,
    ConditionalAccept,
}

impl OptionName {
    const fn level_and_name(self) -> (u32, u32) {
        match self {
            Self::NoDelay => (IPPROTO_TCP, TCP_NODELAY),
            Self::KeepAlive => (SOL_SOCKET, SO_KEEPALIVE),
            Self::ExclusiveAddressUse => (SOL_SOCKET, SO_EXCLUSIVEADDRUSE),
            Self::ReuseAddress => (SOL_SOCKET, SO_REUSEADDR),
            Self::ConditionalAccept => (SOL_SOCKET, SO_CONDITIONAL_ACCEPT),
        }
    }
}

/// An open WSK socket. Whoever calls has made sure that it is not being closed.
#[derive(Clone, Copy)]
pub(crate) struct Socket(NonNull<WSK_SOCKET>);

// SAFETY: WSK's socket functions may be called from any thread.
unsafe impl Send for Socket {}

fn owner(process: Option<&Process>) -> PEPROCESS {
    process.map_or(ptr::null_mut(), Process::as_ptr)
}

/// WskSocket: the new socket comes in the IRP's information. IRQL <= DISPATCH_LEVEL.
pub(crate) fn wsk_socket(
    provider: &ProviderUse,
    family: ADDRESS_FAMILY,
    category: Category,
    process: Option<&Process>,
    irp: PIRP,
) -> Option<NTSTATUS> {
    let function = provider.dispatch().WskSocket?;
    let (flags, context, dispatch) = match category {
        Category::Connection => (WSK_FLAG_CONNECTION_SOCKET, ptr::null(), ptr::null()),
        Category::Listen(dispatch, context) => (WSK_FLAG_LISTEN_SOCKET, context, ptr::from_ref(dispatch).cast()),
    };
    // SAFETY: the NPI is in use; dispatch table and context outlive the socket; the process is referenced by the endpoint.
    Some(unsafe {
        function(
            provider.client().cast(),
            family,
            SOCK_STREAM as _,
            IPPROTO_TCP as _,
            flags,
            context.cast_mut(),
            dispatch,
            owner(process).cast(),
            ptr::null_mut(),
            ptr::null_mut(),
            irp.cast(),
        )
    })
}

/// WskSocketConnect: socket, bind to the wildcard, and connect in one. IRQL <= DISPATCH_LEVEL.
pub(crate) fn socket_connect(
    provider: &ProviderUse,
    local: &SockAddr,
    remote: &SockAddr,
    process: Option<&Process>,
    irp: PIRP,
) -> Option<NTSTATUS> {
    let function = provider.dispatch().WskSocketConnect?;
    // SAFETY: the NPI is in use; the addresses lie in the operation, which stays until the IRP is completed.
    Some(unsafe {
        function(
            provider.client().cast(),
            SOCK_STREAM as _,
            IPPROTO_TCP as _,
            local.as_ptr(),
            remote.as_ptr(),
            0,
            ptr::null_mut(),
            ptr::null(),
            owner(process).cast(),
            ptr::null_mut(),
            ptr::null_mut(),
            irp.cast(),
        )
    })
}

impl Socket {
    /// The socket that an IRP of WskSocket or WskSocketConnect was completed with.
    pub(crate) fn from_information(information: usize) -> Option<Self> {
        Self::new(information as *mut WSK_SOCKET)
    }

    /// A socket that WSK has handed over.
    pub(crate) fn new(socket: *mut WSK_SOCKET) -> Option<Self> {
        NonNull::new(socket).map(Self)
    }

    fn dispatch(self) -> *const c_void {
        // SAFETY: an open socket's structure is there for its owner to read.
        unsafe { self.0.as_ref() }.Dispatch
    }

    fn basic(self) -> &'static WSK_PROVIDER_BASIC_DISPATCH {
        // SAFETY: every dispatch table begins with the basic one, and stays as long as the socket.
        unsafe { &*self.dispatch().cast() }
    }

    /// The table of a connection socket.
    fn connection(self) -> &'static WSK_PROVIDER_CONNECTION_DISPATCH {
        // SAFETY: the callers below are used on connection sockets only.
        unsafe { &*self.dispatch().cast() }
    }

    /// The table of a listening socket.
    fn listen(self) -> &'static WSK_PROVIDER_LISTEN_DISPATCH {
        // SAFETY: the callers below are used on listening sockets only.
        unsafe { &*self.dispatch().cast() }
    }

    /// WskBind, on a socket of the given category. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn bind(self, listening: bool, local: &SockAddr, irp: PIRP) -> Option<NTSTATUS> {
        let function = if listening { self.listen().WskBind? } else { self.connection().WskBind? };
        // SAFETY: the socket is open; the address stays until the IRP is completed.
        Some(unsafe { function(self.0.as_ptr(), local.as_ptr(), 0, irp.cast()) })
    }

    /// WskConnect, on a bound connection socket. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn connect(self, remote: &SockAddr, irp: PIRP) -> Option<NTSTATUS> {
        let function = self.connection().WskConnect?;
        // SAFETY: as for bind.
        Some(unsafe { function(self.0.as_ptr(), remote.as_ptr(), 0, irp.cast()) })
    }

    /// WskGetLocalAddress into `local`. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn local_address(self, listening: bool, local: &mut SockAddr, irp: PIRP) -> Option<NTSTATUS> {
        let function =
            if listening { self.listen().WskGetLocalAddress? } else { self.connection().WskGetLocalAddress? };
        // SAFETY: the socket is open; the operation's address is for WSK to write until the IRP is completed.
        Some(unsafe { function(self.0.as_ptr(), local.as_mut_ptr(), irp.cast()) })
    }

    /// WskControlSocket(WskSetOption); `value` is read until the IRP is completed. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn set_option(self, option: OptionName, value: &u32, irp: PIRP) -> Option<NTSTATUS> {
        let function = self.basic().WskControlSocket?;
        let (level, name) = option.level_and_name();
        // SAFETY: the socket is open; the value lies in the operation.
        Some(unsafe {
            function(
                self.0.as_ptr(),
                WskSetOption,
                name,
                level,
                size_of::<u32>() as _,
                ptr::from_ref(value).cast_mut().cast(),
                0,
                ptr::null_mut(),
                ptr::null_mut(),
                irp.cast(),
            )
        })
    }

    /// WskSend. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn send(self, buffer: &WSK_BUF, irp: PIRP) -> Option<NTSTATUS> {
        let function = self.connection().WskSend?;
        // SAFETY: the socket is open; the pages are locked until the request is completed, which is after the IRP.
        Some(unsafe { function(self.0.as_ptr(), ptr::from_ref(buffer).cast_mut(), 0, irp.cast()) })
    }

    /// WskReceive; `all` waits for a full buffer. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn receive(self, buffer: &WSK_BUF, all: bool, irp: PIRP) -> Option<NTSTATUS> {
        let function = self.connection().WskReceive?;
        let flags = if all { WSK_FLAG_WAITALL } else { 0 };
        // SAFETY: as for send.
        Some(unsafe { function(self.0.as_ptr(), ptr::from_ref(buffer).cast_mut(), flags, irp.cast()) })
    }

    /// WskDisconnect. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn disconnect(self, abortive: bool, irp: PIRP) -> Option<NTSTATUS> {
        let function = self.connection().WskDisconnect?;
        let flags = if abortive { WSK_FLAG_ABORTIVE } else { 0 };
        // SAFETY: the socket is open.
        Some(unsafe { function(self.0.as_ptr(), ptr::null_mut(), flags, irp.cast()) })
    }

    /// WskCloseSocket: no call on the socket is in progress, and none follows. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn close(self, irp: PIRP) -> Option<NTSTATUS> {
        let function = self.basic().WskCloseSocket?;
        // SAFETY: the socket is open, and its owner gives it up.
        Some(unsafe { function(self.0.as_ptr(), irp.cast()) })
    }
}
