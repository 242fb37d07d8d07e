//! The provider's dispatch tables, as drivers see them: wsk.h's layouts, with functions of the Windows calling convention.

use std::ffi::c_void;
use std::sync::LazyLock;

use wsk_bindings::{
    MAKE_WSK_VERSION, WSK_PROVIDER_BASIC_DISPATCH, WSK_PROVIDER_CONNECTION_DISPATCH, WSK_PROVIDER_DISPATCH,
    WSK_PROVIDER_LISTEN_DISPATCH, WSK_PROVIDER_STREAM_DISPATCH,
};

use super::client::{WskControlClient, WskFreeAddressInfo, WskGetAddressInfo, WskSocket, WskSocketConnect};
use super::close::WskCloseSocket;
use super::connection::{WskConnect, WskConnectEx, WskDisconnect, WskReceive, WskSend};
use super::control::WskControlSocket;
use super::events::WskRelease;
use super::listen::{WskAccept, WskInspectComplete, WskListen};
use super::socket::{Category, WskBind, WskGetLocalAddress, WskGetRemoteAddress};
use crate::image::{Sealed, Thunks};

/// Tables of addresses, in the order of wsk.h, and the code that they lead to.
struct Tables {
    provider: Box<[usize]>,
    basic: Box<[usize]>,
    listen: Box<[usize]>,
    connection: Box<[usize]>,
    stream: Box<[usize]>,
    _thunks: Sealed,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    const FUNCTIONS: usize = 64;
    let mut thunks = Thunks::new(FUNCTIONS).expect("memory for the dispatch tables");
    let mut table = |functions: &[*const ()], size: usize| -> Box<[usize]> {
        assert_eq!(functions.len() * size_of::<usize>(), size, "a table has all slots of its structure");
        functions.iter().map(|function| if function.is_null() { 0 } else { thunks.entry(*function as usize) }).collect()
    };
    let basic = [WskControlSocket as *const (), WskCloseSocket as *const ()];
    let connection = [
        WskBind as *const (),
        WskConnect as *const (),
        WskGetLocalAddress as *const (),
        WskGetRemoteAddress as *const (),
        WskSend as *const (),
        WskReceive as *const (),
        WskDisconnect as *const (),
        WskRelease as *const (),
        WskConnectEx as *const (),
    ];
    let listen = [
        WskBind as *const (),
        WskAccept as *const (),
        WskInspectComplete as *const (),
        WskGetLocalAddress as *const (),
    ];
    let stream = [
        WskBind as *const (),
        WskAccept as *const (),
        WskConnect as *const (),
        WskListen as *const (),
        WskSend as *const (),
        WskReceive as *const (),
        WskDisconnect as *const (),
        WskRelease as *const (),
        WskGetLocalAddress as *const (),
        WskGetRemoteAddress as *const (),
        WskConnectEx as *const (),
    ];
    // The first word holds the version and a reserved half. This provider looks up literals, not names of addresses.
    let mut provider = table(
        &[
            std::ptr::null(),
            WskSocket as *const (),
            WskSocketConnect as *const (),
            WskControlClient as *const (),
            WskGetAddressInfo as *const (),
            WskFreeAddressInfo as *const (),
            std::ptr::null(),
        ],
        size_of::<WSK_PROVIDER_DISPATCH>(),
    );
    provider[0] = usize::from(MAKE_WSK_VERSION(1, 0));
    Tables {
        provider,
        listen: table(&[&basic[..], &listen].concat(), size_of::<WSK_PROVIDER_LISTEN_DISPATCH>()),
        connection: table(&[&basic[..], &connection].concat(), size_of::<WSK_PROVIDER_CONNECTION_DISPATCH>()),
        stream: table(&[&basic[..], &stream].concat(), size_of::<WSK_PROVIDER_STREAM_DISPATCH>()),
        basic: table(&basic, size_of::<WSK_PROVIDER_BASIC_DISPATCH>()),
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
    };
    table.as_ptr().cast()
}
