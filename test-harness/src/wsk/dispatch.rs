//! The provider's dispatch tables, as drivers see them: wsk.h's layouts, with functions of the Windows calling convention.

use std::ffi::c_void;
use std::sync::LazyLock;

use wsk_bindings::{
    MAKE_WSK_VERSION, WSK_PROVIDER_BASIC_DISPATCH, WSK_PROVIDER_CONNECTION_DISPATCH, WSK_PROVIDER_DATAGRAM_DISPATCH,
    WSK_PROVIDER_DISPATCH, WSK_PROVIDER_LISTEN_DISPATCH, WSK_PROVIDER_STREAM_DISPATCH,
};

use super::client::{WskControlClient, WskFreeAddressInfo, WskGetAddressInfo, WskSocket, WskSocketConnect};
use super::close::WskCloseSocket;
use super::connection::{WskConnect, WskConnectEx, WskDisconnect, WskReceive, WskSend};
use super::control::WskControlSocket;
use super::datagram::{WskReceiveFrom, WskReleaseDatagrams, WskSendMessages, WskSendTo};
use super::events::WskRelease;
use super::listen::{WskAccept, WskInspectComplete, WskListen};
use super::name::WskGetNameInfo;
use super::socket::{Category, WskBind, WskGetLocalAddress, WskGetRemoteAddress};
use crate::image::{Sealed, Thunks};

/// A function with its name; none in a slot that this provider leaves empty.
type Function = (&'static str, *const ());

const NO_FUNCTION: Function = ("", std::ptr::null());

macro_rules! named {
    ($($function:ident),* $(,)?) => { &[$((stringify!($function), $function as *const ())),*] };
}

const BASIC: &[Function] = named![WskControlSocket, WskCloseSocket];
const LISTEN: &[Function] = named![WskBind, WskAccept, WskInspectComplete, WskGetLocalAddress];
const CONNECTION: &[Function] = named![
    WskBind,
    WskConnect,
    WskGetLocalAddress,
    WskGetRemoteAddress,
    WskSend,
    WskReceive,
    WskDisconnect,
    WskRelease,
    WskConnectEx,
];
const STREAM: &[Function] = named![
    WskBind,
    WskAccept,
    WskConnect,
    WskListen,
    WskSend,
    WskReceive,
    WskDisconnect,
    WskRelease,
    WskGetLocalAddress,
    WskGetRemoteAddress,
    WskConnectEx,
];
const DATAGRAM: &[Function] = &[
    ("WskBind", WskBind as *const ()),
    ("WskSendTo", WskSendTo as *const ()),
    ("WskReceiveFrom", WskReceiveFrom as *const ()),
    ("WskRelease", WskReleaseDatagrams as *const ()),
    ("WskGetLocalAddress", WskGetLocalAddress as *const ()),
    ("WskSendMessages", WskSendMessages as *const ()),
];
/// Its first word is the version.
const PROVIDER: &[Function] = &[
    NO_FUNCTION,
    ("WskSocket", WskSocket as *const ()),
    ("WskSocketConnect", WskSocketConnect as *const ()),
    ("WskControlClient", WskControlClient as *const ()),
    ("WskGetAddressInfo", WskGetAddressInfo as *const ()),
    ("WskFreeAddressInfo", WskFreeAddressInfo as *const ()),
    ("WskGetNameInfo", WskGetNameInfo as *const ()),
];

/// Every function in the tables.
#[cfg(test)]
pub(crate) fn functions() -> Vec<(&'static str, usize)> {
    let all = [PROVIDER, BASIC, LISTEN, CONNECTION, STREAM, DATAGRAM].concat();
    all.into_iter().filter(|(_, address)| !address.is_null()).map(|(name, address)| (name, address as usize)).collect()
}

/// Tables of addresses, in the order of wsk.h, and the code that they lead to.
struct Tables {
    provider: Box<[usize]>,
    basic: Box<[usize]>,
    listen: Box<[usize]>,
    connection: Box<[usize]>,
    stream: Box<[usize]>,
    datagram: Box<[usize]>,
    _thunks: Sealed,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    const FUNCTIONS: usize = 64;
    let mut thunks = Thunks::new(FUNCTIONS).expect("memory for the dispatch tables");
    let mut table = |functions: &[Function], size: usize| -> Box<[usize]> {
        assert_eq!(functions.len() * size_of::<usize>(), size, "a table has all slots of its structure");
        let entry = |(_, address): &Function| if address.is_null() { 0 } else { thunks.entry(*address as usize) };
        functions.iter().map(entry).collect()
    };
    // The first word holds the version and a reserved half.
    let mut provider = table(PROVIDER, size_of::<WSK_PROVIDER_DISPATCH>());
    provider[0] = usize::from(MAKE_WSK_VERSION(1, 0));
    Tables {
        provider,
        listen: table(&[BASIC, LISTEN].concat(), size_of::<WSK_PROVIDER_LISTEN_DISPATCH>()),
        connection: table(&[BASIC, CONNECTION].concat(), size_of::<WSK_PROVIDER_CONNECTION_DISPATCH>()),
        stream: table(&[BASIC, STREAM].concat(), size_of::<WSK_PROVIDER_STREAM_DISPATCH>()),
        datagram: table(&[BASIC, DATAGRAM].concat(), size_of::<WSK_PROVIDER_DATAGRAM_DISPATCH>()),
        basic: table(BASIC, size_of::<WSK_PROVIDER_BASIC_DISPATCH>()),
        _thunks: thunks.seal().expect("executable memory for the dispatch tables"),
    }
});

/// The table that a captured NPI has.
pub(super) fn provider() -> *const WSK_PROVIDER_DISPATCH {
    TABLES.provider.as_ptr().cast()
}

/// The table that a socket of a category has.
pub(super) fn of(category: Category) -> *const c_void {
    let table = match category {
        Category::Basic => &TABLES.basic,
        Category::Listen => &TABLES.listen,
        Category::Connection => &TABLES.connection,
        Category::Stream => &TABLES.stream,
        Category::Datagram => &TABLES.datagram,
    };
    table.as_ptr().cast()
}
