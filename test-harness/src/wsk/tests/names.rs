//! Names of hosts and services, and what they resolve to.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::nt::types::UNICODE_STRING;
use crate::wsk::address;
use crate::wsk::name::WskGetNameInfo;

struct Text {
    units: Vec<u16>,
    string: UNICODE_STRING,
}

impl Text {
    fn new(text: &str) -> Self {
        Self::with_room(text, text.len())
    }

    fn with_room(text: &str, room: usize) -> Self {
        let mut units: Vec<u16> = text.encode_utf16().collect();
        units.resize(room, 0);
        let string = UNICODE_STRING::zeroed();
        string.Length.set(u16::try_from(text.len() * 2).unwrap());
        string.MaximumLength.set(u16::try_from(room * 2).unwrap());
        string.Buffer.set(units.as_mut_ptr());
        Self { units, string }
    }

    fn value(&self) -> String {
        String::from_utf16(&self.units[..usize::from(self.string.Length.get()) / 2]).unwrap()
    }
}

fn addresses(client: &Client, node: &str, service: &str) -> Result<Vec<SocketAddr>, NTSTATUS> {
    let (node, service, null) = (Text::new(node), Text::new(service), ptr::null_mut());
    let mut list: *mut ADDRINFOEXW = ptr::null_mut();
    let (node, service) = (Some(&node.string), Some(&service.string));
    let (status, _) =
        run(|irp| WskGetAddressInfo(client.client(), node, service, 0, null, None, &raw mut list, null, null, irp));
    if status != STATUS_SUCCESS {
        return Err(status);
    }
    let (mut all, mut next) = (Vec::new(), list);
    while !next.is_null() {
        // SAFETY: WSK's list, which is freed below.
        let info = unsafe { &*next };
        all.push(address::read(info.ai_addr.cast()).unwrap());
        next = info.ai_next.cast();
    }
    WskFreeAddressInfo(client.client(), list);
    Ok(all)
}

fn names(client: &Client, of: &str, flags: u32) -> (NTSTATUS, String, String) {
    let (node, service, null) = (Text::with_room("", 32), Text::with_room("", 32), ptr::null_mut());
    let address = Encoded::new(&of.parse().unwrap());
    let (host, port) = (Some(&node.string), Some(&service.string));
    let (status, _) =
        run(|irp| WskGetNameInfo(client.client(), address.as_ptr().cast(), 16, host, port, flags, null, null, irp));
    (status, node.value(), service.value())
}

#[test]
fn a_machine_knows_itself_and_the_hosts_that_it_was_given() {
    let peer = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
    let machine = Machine::builder()
        .name("front")
        .host("Peer.Example", peer)
        .host("peer.example", Ipv4Addr::LOCALHOST.into())
        .build();
    let outcome = machine.on_system_thread(|_| {
        callout("a test", || {
            let client = Client::new();
            let all = |texts: &[&str]| Ok(texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>());
            for own in ["localhost", "Front", "localhost."] {
                assert_eq!(addresses(&client, own, "http"), all(&["[::1]:80", "127.0.0.1:80"]), "{own}");
            }
            assert_eq!(addresses(&client, "peer.example", "5000"), all(&["192.0.2.7:5000", "127.0.0.1:5000"]));
            assert_eq!(addresses(&client, "elsewhere.example", "80"), Err(STATUS_NOT_FOUND));
            assert_eq!(addresses(&client, "localhost", "no service"), Err(STATUS_NOT_FOUND));
            let told = |status, host: &str, service: &str| (status, host.to_owned(), service.to_owned());
            assert_eq!(names(&client, "192.0.2.7:443", 0), told(STATUS_SUCCESS, "Peer.Example", "https"));
            // NI_NUMERICHOST and NI_NUMERICSERV.
            assert_eq!(names(&client, "192.0.2.7:443", 2 | 8), told(STATUS_SUCCESS, "192.0.2.7", "443"));
            assert_eq!(names(&client, "192.0.2.8:5000", 0), told(STATUS_SUCCESS, "192.0.2.8", "5000"));
            // NI_NAMEREQD.
            assert_eq!(names(&client, "192.0.2.8:5000", 4).0, STATUS_NOT_FOUND);
            client.end();
        });
    });
    assert!(outcome.is_ok(), "{:?}", machine.violation());
}
