//! Every function, imported or in a dispatch table: what it returns, and the type of each argument.

use core::any::type_name;
use std::collections::BTreeMap;

use super::c_types::CTypes;
use wsk_bindings::*;

/// What a function takes and returns, as the compiler names the types.
#[derive(Debug, PartialEq, Eq)]
struct Signature {
    returns: String,
    arguments: Vec<String>,
}

/// The type of a function that follows the system's calling convention.
trait Function {
    fn signature() -> Signature;
}

macro_rules! functions_of {
    ($($argument:ident)*) => {
        impl<Return, $($argument),*> Function for unsafe extern "system" fn($($argument),*) -> Return {
            fn signature() -> Signature {
                Signature {
                    returns: type_name::<Return>().to_string(),
                    arguments: vec![$(type_name::<$argument>().to_string()),*],
                }
            }
        }
    };
}
functions_of!(A);
functions_of!(A B);
functions_of!(A B C);
functions_of!(A B C D);
functions_of!(A B C D E);
functions_of!(A B C D E F);
functions_of!(A B C D E F G);
functions_of!(A B C D E F G H);
functions_of!(A B C D E F G H I);
functions_of!(A B C D E F G H I J);
functions_of!(A B C D E F G H I J K);
functions_of!(A B C D E F G H I J K L);

/// A slot of a table is a function that may be absent.
impl<Slot: Function> Function for Option<Slot> {
    fn signature() -> Signature {
        Slot::signature()
    }
}

/// The signature of an imported function. It is named in a closure that never runs, so that nothing has to be linked.
fn imported<Import: Function>(_name: impl FnOnce() -> Import) -> Signature {
    Import::signature()
}

fn functions() -> BTreeMap<(&'static str, &'static str), Signature> {
    macro_rules! slots {
        ($($name:ident,)*) => { [$((("slot", stringify!($name)), $name::signature()),)*] };
    }
    macro_rules! imports {
        ($($name:ident($($argument:tt),*),)*) => {
            [$((
                ("import", stringify!($name)),
                imported(|| $name as unsafe extern "system" fn($($argument),*) -> _),
            ),)*]
        };
    }
    let mut functions = BTreeMap::from(slots! {
        PFN_WSK_CLIENT_EVENT, PFN_WSK_RECEIVE_FROM_EVENT, PFN_WSK_ACCEPT_EVENT, PFN_WSK_INSPECT_EVENT,
        PFN_WSK_ABORT_EVENT, PFN_WSK_SEND_BACKLOG_EVENT, PFN_WSK_RECEIVE_EVENT, PFN_WSK_DISCONNECT_EVENT,
        PFN_WSK_SOCKET, PFN_WSK_SOCKET_CONNECT, PFN_WSK_CONTROL_CLIENT, PFN_WSK_GET_ADDRESS_INFO,
        PFN_WSK_GET_NAME_INFO, PFN_WSK_FREE_ADDRESS_INFO, PFN_WSK_BIND, PFN_WSK_CONNECT, PFN_WSK_CONNECT_EX,
        PFN_WSK_CONTROL_SOCKET, PFN_WSK_CLOSE_SOCKET, PFN_WSK_ACCEPT, PFN_WSK_INSPECT_COMPLETE, PFN_WSK_SEND_TO,
        PFN_WSK_SEND_MESSAGES, PFN_WSK_RECEIVE_FROM, PFN_WSK_GET_LOCAL_ADDRESS, PFN_WSK_GET_REMOTE_ADDRESS,
        PFN_WSK_RELEASE_DATA_INDICATION_LIST, PFN_WSK_RELEASE_DATAGRAM_INDICATION_LIST, PFN_WSK_SEND,
        PFN_WSK_RECEIVE, PFN_WSK_DISCONNECT, PFN_WSK_LISTEN,
    });
    functions.extend(imports! {
        NmrRegisterClient(_, _, _),
        NmrDeregisterClient(_),
        NmrWaitForClientDeregisterComplete(_),
        NmrClientAttachProvider(_, _, _, _, _),
        NmrClientDetachProviderComplete(_),
        NmrRegisterProvider(_, _, _),
        NmrDeregisterProvider(_),
        NmrWaitForProviderDeregisterComplete(_),
        NmrProviderDetachClientComplete(_),
        WskRegister(_, _),
        WskCaptureProviderNPI(_, _, _),
        WskReleaseProviderNPI(_),
        WskQueryProviderCharacteristics(_, _),
        WskDeregister(_),
    });
    functions
}

#[test]
fn functions_have_the_signatures_of_the_headers() {
    let types = CTypes::new();
    let theirs: BTreeMap<_, _> = super::rows(include_str!("wsk_functions.tsv"))
        .map(|row| {
            let returns = if row[2] == "void" { "()".to_string() } else { types.rust(row[2]) };
            let arguments = row[3].split(';').map(|argument| types.rust(argument)).collect();
            ((row[1], row[0]), Signature { returns, arguments })
        })
        .collect();
    let ours = functions();
    assert_eq!(ours.len(), 46);
    for (name, signature) in &theirs {
        assert_eq!(ours.get(name), Some(signature), "{name:?}");
    }
    assert_eq!(ours.len(), theirs.len());
}
