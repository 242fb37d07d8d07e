//! What a type is in C, and which Rust type that must be.

use core::any::type_name;
use core::ffi::c_void;
use std::collections::BTreeMap;

use wsk_bindings::*;

/// C's names of types, each with the Rust type that it stands for, as the compiler names it.
pub(crate) struct CTypes(BTreeMap<&'static str, &'static str>);

impl CTypes {
    pub(crate) fn new() -> Self {
        macro_rules! named {
            ($($name:ident,)*) => { [$((stringify!($name), type_name::<$name>()),)*] };
        }
        let mut types = BTreeMap::from(named! {
        ADDRESS_FAMILY, CHAR, COMPARTMENT_ID, DL_EI48, DL_EI64, DL_EUI48, DL_EUI64, DL_OUI, GUID, HANDLE,
        ICMPV4_MESSAGE, ICMPV6_HEADER, ICMPV6_MESSAGE, ICMP_HEADER, IF_INDEX, IN6_ADDR, INT, IN_ADDR,
        IPV6_OPTION_HEADER, IRP, KSPIN_LOCK, LONG, LPGUID, LPSOCKADDR, LPWSABUF, LUID, NPI_MODULEID_TYPE,
        NPI_REGISTRATION_INSTANCE, NTSTATUS, PCMSGHDR, PCWSTR, PFN_WSK_ABORT_EVENT, PFN_WSK_ACCEPT,
        PFN_WSK_ACCEPT_EVENT, PFN_WSK_BIND, PFN_WSK_CLIENT_EVENT, PFN_WSK_CLOSE_SOCKET, PFN_WSK_CONNECT,
        PFN_WSK_CONNECT_EX, PFN_WSK_CONTROL_CLIENT, PFN_WSK_CONTROL_SOCKET, PFN_WSK_DISCONNECT,
        PFN_WSK_DISCONNECT_EVENT, PFN_WSK_FREE_ADDRESS_INFO, PFN_WSK_GET_ADDRESS_INFO, PFN_WSK_GET_LOCAL_ADDRESS,
        PFN_WSK_GET_NAME_INFO, PFN_WSK_GET_REMOTE_ADDRESS, PFN_WSK_INSPECT_COMPLETE, PFN_WSK_INSPECT_EVENT,
        PFN_WSK_LISTEN, PFN_WSK_RECEIVE, PFN_WSK_RECEIVE_EVENT, PFN_WSK_RECEIVE_FROM, PFN_WSK_RECEIVE_FROM_EVENT,
        PFN_WSK_RELEASE_DATAGRAM_INDICATION_LIST, PFN_WSK_RELEASE_DATA_INDICATION_LIST, PFN_WSK_SEND,
        PFN_WSK_SEND_BACKLOG_EVENT, PFN_WSK_SEND_MESSAGES, PFN_WSK_SEND_TO, PFN_WSK_SOCKET, PFN_WSK_SOCKET_CONNECT,
        PHANDLE, PMDL, PNPIID, PNPI_CLIENT_ATTACH_PROVIDER_FN, PNPI_CLIENT_CHARACTERISTICS,
        PNPI_CLIENT_CLEANUP_BINDING_CONTEXT_FN, PNPI_CLIENT_DETACH_PROVIDER_FN, PNPI_MODULEID,
        PNPI_PROVIDER_ATTACH_CLIENT_FN, PNPI_PROVIDER_CHARACTERISTICS, PNPI_PROVIDER_CLEANUP_BINDING_CONTEXT_FN,
        PNPI_PROVIDER_DETACH_CLIENT_FN, PSOCKADDR, PVOID, PWSK_CLIENT, PWSK_CLIENT_NPI,
        PWSK_PROVIDER_CHARACTERISTICS, PWSK_PROVIDER_NPI, PWSK_REGISTRATION, PWSTR, SCOPE_ID, SEQ_NUM, SIZE_T,
        SOCKADDR_IN, SOCKADDR_IN6, UCHAR, UINT16, UINT32, UINT64, UINT8, ULONG, ULONGLONG, ULONG_PTR,
        UNICODE_STRING, USHORT, WSABUF, WSK_BUF, WSK_BUF_LIST, WSK_CLIENT_CONNECTION_DISPATCH, WSK_CLIENT_DISPATCH,
        WSK_CLIENT_LISTEN_DISPATCH, WSK_CONTROL_SOCKET_TYPE, WSK_DATAGRAM_INDICATION, WSK_DATA_INDICATION,
        WSK_INSPECT_ACTION, WSK_INSPECT_ID, WSK_PROVIDER_DISPATCH, WSK_SOCKET, WSK_TDI_MAP, addrinfoexW, cmsghdr,
         sockaddr, tcp_opt_sack_block,
            });
        types.extend([
            ("void", type_name::<c_void>()),
            ("int", type_name::<i32>()),
            ("long", type_name::<i32>()),
            ("long long", type_name::<i64>()),
            ("size_t", type_name::<usize>()),
            ("unsigned short", type_name::<u16>()),
            ("unsigned long", type_name::<u32>()),
            ("unsigned long long", type_name::<usize>()),
            // The tags behind PEPROCESS and PETHREAD.
            ("KPROCESS", type_name::<EPROCESS>()),
            ("KTHREAD", type_name::<ETHREAD>()),
        ]);
        Self(types)
    }

    /// The Rust type of a C type such as `const struct _WSK_BUF *` or `CHAR[14]`.
    pub(crate) fn rust(&self, c: &str) -> String {
        let c = c.trim();
        if let Some((element, count)) = c.strip_suffix(']').and_then(|array| array.split_once('[')) {
            return format!("[{}; {count}]", self.rust(element));
        }
        if let Some(target) = c.strip_suffix('*') {
            let constant = target.starts_with("const ") && !target.contains('*');
            return format!("*{} {}", if constant { "const" } else { "mut" }, self.rust(target));
        }
        let name = c.trim_start_matches("const ").trim_start_matches("struct ").trim_start_matches('_');
        let rust = self.0.get(name).unwrap_or_else(|| panic!("the type `{c}` is not listed"));
        (*rust).to_string()
    }
}
