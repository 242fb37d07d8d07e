//! WSK as a client calls it, against real sockets on the loopback interface.
#![allow(unsafe_code)] // a client's structures

mod lists;
mod names;
mod order;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use wsk_bindings::*;

use super::Completions;
use super::address::Encoded;
use super::client::{WskControlClient, WskFreeAddressInfo, WskGetAddressInfo, WskSocket, WskSocketConnect};
use super::close::WskCloseSocket;
use super::connection::{WskConnect, WskDisconnect, WskReceive, WskSend};
use super::control::WskControlSocket;
use super::listen::{WskAccept, WskInspectComplete};
use super::registration::{WskCaptureProviderNPI, WskDeregister, WskRegister, WskReleaseProviderNPI};
use super::socket::{WskBind, WskGetLocalAddress, WskGetRemoteAddress};
use crate::guard::callout;
use crate::machine::Machine;
use crate::nt::dispatcher::{KeInitializeEvent, KeSetEvent, KeWaitForSingleObject};
use crate::nt::irp::{self, IoAllocateIrp, IoCancelIrp, IoFreeIrp, IoReuseIrp, set_completion_routine};
use crate::nt::irql::KeGetCurrentIrql;
use crate::nt::mdl::{self, IoAllocateMdl, IoFreeMdl, MmBuildMdlForNonPagedPool};
use crate::nt::pool::{ExAllocatePool2, ExFreePool};
use crate::nt::status::*;
use crate::nt::types::{
    IRP, KEVENT, MDL, NTSTATUS, PVOID, SL_INVOKE_ON_CANCEL, SL_INVOKE_ON_ERROR, SL_INVOKE_ON_SUCCESS, Zeroed,
};
use crate::violation::Rule;

static CLIENT: WSK_CLIENT_DISPATCH =
    WSK_CLIENT_DISPATCH { Version: MAKE_WSK_VERSION(1, 0), Reserved: 0, WskClientEvent: None };

/// A registered client with a captured NPI.
struct Client {
    registration: Box<WSK_REGISTRATION>,
    npi: WSK_PROVIDER_NPI,
}

impl Client {
    fn new() -> Self {
        let mut registration = Box::new(WSK_REGISTRATION::new());
        let client = WSK_CLIENT_NPI { ClientContext: ptr::null_mut(), Dispatch: &raw const CLIENT };
        assert_eq!(WskRegister(&client, &mut registration), STATUS_SUCCESS);
        let mut npi = WSK_PROVIDER_NPI::new();
        assert_eq!(WskCaptureProviderNPI(&raw const *registration, WSK_NO_WAIT, &mut npi), STATUS_SUCCESS);
        Self { registration, npi }
    }

    fn client(&self) -> PVOID {
        self.npi.Client
    }

    fn end(mut self) {
        WskReleaseProviderNPI(&raw const *self.registration);
        WskDeregister(&raw mut *self.registration);
    }
}

/// An IRP and the event that its completion sets.
struct Request {
    irp: &'static IRP,
    event: Box<KEVENT>,
}

extern "win64" fn completed(_device: *mut crate::nt::types::DEVICE_OBJECT, _irp: *mut IRP, context: PVOID) -> NTSTATUS {
    // SAFETY: the context is the request's event.
    KeSetEvent(unsafe { &*context.cast::<KEVENT>() }, 0, 0);
    STATUS_MORE_PROCESSING_REQUIRED
}

const SECONDS_10: i64 = -100_000_000;

impl Request {
    fn new() -> Self {
        let request = Self { irp: irp::at(IoAllocateIrp(1, 0)), event: Box::new(KEVENT::zeroed()) };
        request.arm();
        request
    }

    fn arm(&self) {
        KeInitializeEvent(&self.event, 0, 0);
        let context = ptr::from_ref(&*self.event).cast_mut().cast();
        set_completion_routine(
            self.irp,
            completed,
            context,
            SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR | SL_INVOKE_ON_CANCEL,
        );
    }

    fn packet(&self) -> *mut IRP {
        self.irp.as_ptr()
    }

    /// Waits for the completion: status and information.
    fn wait(&self) -> (NTSTATUS, usize) {
        let waited = KeWaitForSingleObject(&self.event.Header, 0, 0, 0, Some(&SECONDS_10));
        assert_eq!(waited, STATUS_SUCCESS, "the IRP completes in time");
        (self.irp.IoStatus.Status.get(), self.irp.IoStatus.Information.get())
    }

    fn is_done(&self) -> bool {
        KeWaitForSingleObject(&self.event.Header, 0, 0, 0, Some(&0)) == STATUS_SUCCESS
    }

    fn free(self) {
        IoFreeIrp(self.irp);
    }
}

/// Makes a call with an IRP of its own, and waits for its completion.
fn run(call: impl FnOnce(*mut IRP) -> NTSTATUS) -> (NTSTATUS, usize) {
    let request = Request::new();
    let returned = call(request.packet());
    let outcome = request.wait();
    assert!(returned == STATUS_PENDING || returned == outcome.0, "{} then {}", name(returned), name(outcome.0));
    request.free();
    outcome
}

/// Non-paged pool and its MDL.
struct Buffer {
    block: PVOID,
    list: *mut MDL,
    size: usize,
}

impl Buffer {
    fn new(bytes: &[u8]) -> Self {
        let block = ExAllocatePool2(0x40, bytes.len(), u32::from_le_bytes(*b"Buff"));
        // SAFETY: a block of this size.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), block.cast(), bytes.len()) };
        let list = IoAllocateMdl(block, u32::try_from(bytes.len()).unwrap(), 0, 0, None);
        MmBuildMdlForNonPagedPool(mdl::at(list).unwrap());
        Self { block, list, size: bytes.len() }
    }

    fn at(&self, offset: usize, length: usize) -> WSK_BUF {
        WSK_BUF { Mdl: self.list.cast(), Offset: u32::try_from(offset).unwrap(), Length: length }
    }

    fn all(&self) -> WSK_BUF {
        self.at(0, self.size)
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: a block of this size.
        unsafe { std::slice::from_raw_parts(self.block.cast(), self.size) }
    }

    fn free(self) {
        IoFreeMdl(mdl::at(self.list).unwrap());
        ExFreePool(self.block);
    }
}

type Sock = *mut WSK_SOCKET;

fn connect_to(client: &Client, remote: SocketAddr) -> Result<Sock, NTSTATUS> {
    let (local, remote) = (Encoded::new(&any(&remote)), Encoded::new(&remote));
    let (stream, tcp) = (SOCK_STREAM, IPPROTO_TCP);
    let null = ptr::null_mut();
    let outcome = run(|irp| {
        let (from, to) = (local.as_ptr().cast_const(), remote.as_ptr().cast_const());
        WskSocketConnect(client.client(), stream, tcp, from, to, 0, null, ptr::null(), null, null, null, irp)
    });
    if outcome.0 == STATUS_SUCCESS { Ok(outcome.1 as Sock) } else { Err(outcome.0) }
}

fn any(like: &SocketAddr) -> SocketAddr {
    if like.is_ipv4() { "0.0.0.0:0".parse().unwrap() } else { "[::]:0".parse().unwrap() }
}

fn socket(client: &Client, flags: u32, context: PVOID, dispatch: *const std::ffi::c_void) -> Sock {
    let (stream, tcp) = (SOCK_STREAM, IPPROTO_TCP);
    let null = ptr::null_mut();
    let outcome =
        run(|irp| WskSocket(client.client(), AF_INET, stream, tcp, flags, context, dispatch, null, null, null, irp));
    assert_eq!(outcome.0, STATUS_SUCCESS);
    outcome.1 as Sock
}

fn bind(socket: Sock, to: &str) -> NTSTATUS {
    let address = Encoded::new(&to.parse().unwrap());
    run(|irp| WskBind(socket, address.as_ptr(), 0, irp)).0
}

fn address_of(socket: Sock, remote: bool) -> SocketAddr {
    let room = Encoded::new(&"[::]:0".parse().unwrap());
    let function = if remote { WskGetRemoteAddress } else { WskGetLocalAddress };
    assert_eq!(run(|irp| function(socket, room.as_ptr(), irp)).0, STATUS_SUCCESS);
    super::address::read(room.as_ptr()).unwrap()
}

fn close(socket: Sock) {
    assert_eq!(run(|irp| WskCloseSocket(socket, irp)).0, STATUS_SUCCESS);
}

/// Runs a client in kernel mode, once for every way that completions can arrive; the machine stays sound.
fn sound(body: impl Fn(&Client) + Send + Sync + 'static) {
    let body = Arc::new(body);
    for completions in [Completions::Inline, Completions::Deferred, Completions::Mixed] {
        let machine = Machine::new();
        machine.network().set_completions(completions, 7);
        let body = body.clone();
        let ended = machine.on_system_thread(move |_| {
            callout("a test", || {
                let client = Client::new();
                body(&client);
                client.end();
            });
        });
        if let Some(violation) = machine.violation() {
            panic!("{completions:?}: {violation}");
        }
        assert!(ended.is_ok());
        let left = machine.stats();
        assert_eq!((left.driver_pool.len(), left.irps), (0, 0), "{completions:?} {left:?}");
        assert_eq!(machine.network().in_use().sockets, 0);
    }
}

fn breaks(rule: Rule, body: impl FnOnce(&Client) + Send + 'static) {
    let machine = Machine::new();
    let ended = machine.on_system_thread(move |_| callout("a test", || body(&Client::new())));
    assert!(ended.is_err());
    let violation = machine.violation().unwrap();
    assert_eq!(violation.rule, rule, "{violation}");
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn a_connection_carries_bytes_both_ways() {
    sound(|client| {
        let (listener, address) = listener();
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            stream.write_all(&bytes).unwrap();
        });
        let socket = connect_to(client, address).unwrap();
        assert_eq!(address_of(socket, true), address);
        assert_eq!(address_of(socket, false).ip(), address.ip());
        let sent: Vec<u8> = (0..300_000_u32).map(|index| index.to_le_bytes()[1]).collect();
        let from = Buffer::new(&sent);
        // Several in flight, over parts of one MDL.
        let requests: Vec<Request> = (0..3).map(|_| Request::new()).collect();
        for (index, request) in requests.iter().enumerate() {
            WskSend(socket, &from.at(index * 100_000, 100_000), 0, request.packet());
        }
        for request in requests {
            assert_eq!(request.wait(), (STATUS_SUCCESS, 100_000));
            request.free();
        }
        assert_eq!(run(|irp| WskDisconnect(socket, None, 0, irp)).0, STATUS_SUCCESS);
        assert_eq!(run(|irp| WskSend(socket, &from.at(0, 1), 0, irp)).0, STATUS_FILE_CLOSED);
        let into = Buffer::new(&vec![0; sent.len()]);
        assert_eq!(run(|irp| WskReceive(socket, &into.all(), WSK_FLAG_WAITALL, irp)), (STATUS_SUCCESS, sent.len()));
        assert!(into.bytes() == sent);
        assert_eq!(run(|irp| WskReceive(socket, &into.all(), 0, irp)), (STATUS_SUCCESS, 0), "the end of the stream");
        close(socket);
        peer.join().unwrap();
        from.free();
        into.free();
    });
}

#[test]
fn chains_of_lists_are_filled_in_order() {
    sound(|client| {
        let (listener, address) = listener();
        let socket = connect_to(client, address).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let (first, second) = (Buffer::new(&[0; 10]), Buffer::new(&[0; 5000]));
        mdl::at(first.list).unwrap().Next.set(second.list);
        peer.write_all(&[1; 4]).unwrap();
        peer.write_all(&(0..100).collect::<Vec<u8>>()).unwrap();
        let skip = Buffer::new(&[0; 4]);
        assert_eq!(run(|irp| WskReceive(socket, &skip.all(), WSK_FLAG_WAITALL, irp)).1, 4);
        assert_eq!(run(|irp| WskReceive(socket, &first.at(4, 100), WSK_FLAG_WAITALL, irp)), (STATUS_SUCCESS, 100));
        assert_eq!(first.bytes(), [0, 0, 0, 0, 0, 1, 2, 3, 4, 5]);
        assert_eq!(second.bytes()[..94], (6..100).collect::<Vec<u8>>());
        assert_eq!(run(|irp| WskSend(socket, &first.at(9, 3), 0, irp)), (STATUS_SUCCESS, 3));
        let mut bytes = [0; 3];
        peer.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, [5, 6, 7]);
        close(socket);
        [first, second, skip].into_iter().for_each(Buffer::free);
    });
}

#[test]
fn failures_have_the_status_of_their_cause() {
    sound(|client| {
        let (listener, address) = listener();
        drop(listener);
        assert_eq!(connect_to(client, address), Err(STATUS_CONNECTION_REFUSED));
        assert_eq!(connect_to(client, "[::1]:1".parse().unwrap()), Err(STATUS_CONNECTION_REFUSED));
        let socket = socket(client, WSK_FLAG_CONNECTION_SOCKET, ptr::null_mut(), ptr::null());
        let remote = Encoded::new(&address);
        assert_eq!(run(|irp| WskConnect(socket, remote.as_ptr(), 0, irp)).0, STATUS_INVALID_DEVICE_STATE, "not bound");
        let (other, taken) = self::listener();
        assert_eq!(bind(socket, &taken.to_string()), STATUS_ADDRESS_ALREADY_EXISTS);
        assert_eq!(bind(socket, "192.0.2.1:0"), STATUS_INVALID_ADDRESS_COMPONENT);
        assert_eq!(bind(socket, "[::1]:0"), STATUS_INVALID_ADDRESS_COMPONENT);
        assert_eq!(bind(socket, "127.0.0.1:0"), STATUS_SUCCESS);
        assert_eq!(bind(socket, "127.0.0.1:0"), STATUS_INVALID_DEVICE_STATE);
        let buffer = Buffer::new(&[0; 8]);
        assert_eq!(run(|irp| WskSend(socket, &buffer.all(), 0, irp)).0, STATUS_CONNECTION_INVALID);
        let remote = Encoded::new(&taken);
        assert_eq!(run(|irp| WskConnect(socket, remote.as_ptr(), 0, irp)).0, STATUS_SUCCESS);
        assert_eq!(run(|irp| WskConnect(socket, remote.as_ptr(), 0, irp)).0, STATUS_CONNECTION_ACTIVE);
        let (peer, _) = other.accept().unwrap();
        rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
        drop(peer);
        assert_eq!(run(|irp| WskReceive(socket, &buffer.all(), 0, irp)).0, STATUS_CONNECTION_RESET);
        assert_eq!(run(|irp| WskSend(socket, &buffer.all(), 0, irp)).0, STATUS_CONNECTION_RESET);
        close(socket);
        buffer.free();
    });
}

#[test]
fn pending_operations_are_cancelled_and_closed() {
    sound(|client| {
        let (listener, address) = listener();
        let socket = connect_to(client, address).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let buffer = Buffer::new(&[0; 100]);
        let requests: Vec<Request> = (0..3).map(|_| Request::new()).collect();
        for request in &requests {
            assert_eq!(WskReceive(socket, &buffer.all(), 0, request.packet()), STATUS_PENDING);
        }
        assert!(!requests[1].is_done());
        assert_eq!(IoCancelIrp(requests[1].irp), 1);
        assert_eq!(requests[1].wait().0, STATUS_CANCELLED);
        peer.write_all(b"first").unwrap();
        assert_eq!(requests[0].wait(), (STATUS_SUCCESS, 5));
        assert!(!requests[2].is_done());
        close(socket);
        assert_eq!(requests[2].wait().0, STATUS_CANCELLED);
        // An open half made the close a reset.
        assert!(peer.read(&mut [0; 1]).is_err());
        requests.into_iter().for_each(Request::free);
        buffer.free();
    });
}

#[test]
fn sends_wait_for_room_and_are_reset_by_an_abort() {
    sound(|client| {
        let (listener, address) = listener();
        let socket = connect_to(client, address).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let buffer = Buffer::new(&vec![3; 16 << 20]);
        let (send, graceful) = (Request::new(), Request::new());
        assert_eq!(WskSend(socket, &buffer.all(), 0, send.packet()), STATUS_PENDING);
        assert_eq!(WskDisconnect(socket, None, 0, graceful.packet()), STATUS_PENDING);
        assert_eq!(run(|irp| WskDisconnect(socket, None, WSK_FLAG_ABORTIVE, irp)).0, STATUS_SUCCESS);
        assert_eq!(send.wait().0, STATUS_CONNECTION_ABORTED);
        assert_eq!(graceful.wait().0, STATUS_CONNECTION_ABORTED);
        assert!(std::io::copy(&mut peer, &mut std::io::sink()).is_err());
        assert_eq!(run(|irp| WskReceive(socket, &buffer.at(0, 1), 0, irp)).0, STATUS_CONNECTION_ABORTED);
        close(socket);
        [send, graceful].into_iter().for_each(Request::free);
        buffer.free();
    });
}

#[test]
fn a_listening_socket_accepts() {
    sound(|client| {
        let listening = socket(client, WSK_FLAG_LISTEN_SOCKET, ptr::null_mut(), ptr::null());
        assert_eq!(bind(listening, "127.0.0.1:0"), STATUS_SUCCESS);
        let address = address_of(listening, false);
        let (local, remote) = (Encoded::new(&address), Encoded::new(&address));
        let waiting = Request::new();
        let null = ptr::null_mut();
        let accept = |irp| WskAccept(listening, 0, null, null, local.as_ptr(), remote.as_ptr(), irp);
        assert_eq!(accept(waiting.packet()), STATUS_PENDING);
        let mut first = TcpStream::connect(address).unwrap();
        let (status, accepted) = waiting.wait();
        assert_eq!(status, STATUS_SUCCESS);
        assert_eq!(super::address::read(remote.as_ptr()).unwrap(), first.local_addr().unwrap());
        let mut second = TcpStream::connect(address).unwrap();
        let (status, other) = run(accept);
        assert_eq!(status, STATUS_SUCCESS);
        let buffer = Buffer::new(b"hello");
        for (socket, stream) in [(accepted as Sock, &mut first), (other as Sock, &mut second)] {
            assert_eq!(run(|irp| WskSend(socket, &buffer.all(), 0, irp)).0, STATUS_SUCCESS);
            let mut bytes = [0; 5];
            stream.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"hello");
        }
        IoReuseIrp(waiting.irp, STATUS_SUCCESS);
        waiting.arm();
        assert_eq!(accept(waiting.packet()), STATUS_PENDING);
        close(listening);
        assert_eq!(waiting.wait().0, STATUS_CANCELLED);
        close(accepted as Sock);
        close(other as Sock);
        waiting.free();
        buffer.free();
    });
}

/// What a listening socket's callbacks saw.
#[derive(Default)]
struct Seen {
    inspected: Mutex<Vec<(WSK_INSPECT_ID, SocketAddr)>>,
    aborted: Mutex<Vec<WSK_INSPECT_ID>>,
    accepted: Mutex<Vec<usize>>,
    /// The answer to every inspection.
    action: AtomicUsize,
}

fn seen<'a>(context: PVOID) -> &'a Seen {
    // SAFETY: the context is the test's own, which outlives its sockets.
    unsafe { &*context.cast::<Seen>() }
}

extern "win64" fn inspect(context: PVOID, _local: PVOID, remote: PVOID, id: *mut WSK_INSPECT_ID) -> i32 {
    assert_eq!(KeGetCurrentIrql(), crate::nt::types::DISPATCH_LEVEL);
    // SAFETY: WSK's identifier, for the call.
    let id = unsafe { *id };
    seen(context).inspected.lock().push((id, super::address::read(remote).unwrap()));
    i32::try_from(seen(context).action.load(Ordering::Acquire)).unwrap()
}

extern "win64" fn abort(context: PVOID, id: *mut WSK_INSPECT_ID) -> NTSTATUS {
    // SAFETY: as above.
    seen(context).aborted.lock().push(unsafe { *id });
    STATUS_SUCCESS
}

extern "win64" fn accept(
    context: PVOID,
    _flags: u32,
    _local: PVOID,
    _remote: PVOID,
    socket: Sock,
    _socket_context: *mut PVOID,
    _dispatch: *mut *const std::ffi::c_void,
) -> NTSTATUS {
    seen(context).accepted.lock().push(socket as usize);
    STATUS_SUCCESS
}

/// A client's table, in C's layout; its slots are functions with the Windows convention.
static LISTEN: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];

fn listen_table() -> *const std::ffi::c_void {
    const { assert!(size_of::<WSK_CLIENT_LISTEN_DISPATCH>() == 24) };
    for (slot, function) in LISTEN.iter().zip([accept as *const (), inspect as *const (), abort as *const ()]) {
        slot.store(function as usize, Ordering::Release);
    }
    LISTEN.as_ptr().cast()
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn set(socket: Sock, level: u32, name: u32, value: u32) -> NTSTATUS {
    let null = ptr::null_mut();
    run(|irp| {
        WskControlSocket(
            socket,
            WskSetOption,
            name,
            level,
            4,
            (&raw const value).cast_mut().cast(),
            0,
            null,
            ptr::null_mut(),
            irp,
        )
    })
    .0
}

fn enable_accept(socket: Sock) -> NTSTATUS {
    let control = WSK_EVENT_CALLBACK_CONTROL { NpiId: &raw const NPI_WSK_INTERFACE_ID, EventMask: WSK_EVENT_ACCEPT };
    let (input, null) = ((&raw const control).cast_mut().cast(), ptr::null_mut());
    WskControlSocket(
        socket,
        WskSetOption,
        SO_WSK_EVENT_CALLBACK,
        SOL_SOCKET,
        16,
        input,
        0,
        null,
        ptr::null_mut(),
        ptr::null_mut(),
    )
}

#[test]
fn conditional_accept_inspects_rejects_pends_and_aborts() {
    sound(|client| {
        let watch = Seen::default();
        let context = (&raw const watch).cast_mut().cast();
        let listening = socket(client, WSK_FLAG_LISTEN_SOCKET, context, listen_table());
        assert_eq!(set(listening, SOL_SOCKET, SO_CONDITIONAL_ACCEPT, 1), STATUS_SUCCESS);
        assert_eq!(bind(listening, "127.0.0.1:0"), STATUS_SUCCESS);
        let address = address_of(listening, false);
        assert_eq!(enable_accept(listening), STATUS_SUCCESS);

        watch.action.store(WskInspectReject as usize, Ordering::Release);
        let mut rejected = TcpStream::connect(address).unwrap();
        assert_eq!(rejected.read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);

        watch.action.store(WskInspectAccept as usize, Ordering::Release);
        let admitted = TcpStream::connect(address).unwrap();
        until("an accepted connection", || watch.accepted.lock().len() == 1);
        assert_eq!(watch.inspected.lock()[1].1, admitted.local_addr().unwrap());

        watch.action.store(WskInspectPend as usize, Ordering::Release);
        let pended = TcpStream::connect(address).unwrap();
        until("a pended inspection", || watch.inspected.lock().len() == 3);
        let id = watch.inspected.lock()[2].0;
        assert_eq!(run(|irp| WskInspectComplete(listening, &id, WskInspectAccept, irp)).0, STATUS_SUCCESS);
        until("the pended connection", || watch.accepted.lock().len() == 2);
        assert_eq!(run(|irp| WskInspectComplete(listening, &id, WskInspectAccept, irp)).0, STATUS_NOT_FOUND);

        let gone = TcpStream::connect(address).unwrap();
        until("another pended inspection", || watch.inspected.lock().len() == 4);
        drop(gone);
        until("its abort", || watch.aborted.lock().len() == 1);
        assert_eq!(watch.aborted.lock()[0], watch.inspected.lock()[3].0);

        let accepted = watch.accepted.lock().clone();
        for socket in accepted {
            close(socket as Sock);
        }
        close(listening);
        drop((admitted, pended));
    });
}

#[derive(Default)]
struct Received {
    bytes: Mutex<Vec<u8>>,
    /// Bytes taken of each indication; more is all.
    limit: AtomicUsize,
    disconnects: Mutex<Vec<u32>>,
}

extern "win64" fn receive(
    context: PVOID,
    _flags: u32,
    data: *mut WSK_DATA_INDICATION,
    count: usize,
    accepted: *mut usize,
) -> NTSTATUS {
    // SAFETY: the context is the test's own.
    let received = unsafe { &*context.cast::<Received>() };
    // SAFETY: WSK's indication, for the call.
    let buffer = unsafe { (*data).Buffer };
    let list = mdl::at(buffer.Mdl.cast()).unwrap();
    let taken = count.min(received.limit.load(Ordering::Acquire));
    // SAFETY: the indicated bytes lie in one list here.
    let bytes = unsafe { std::slice::from_raw_parts(list.virtual_address().cast::<u8>(), taken) };
    received.bytes.lock().extend_from_slice(bytes);
    // SAFETY: WSK's out parameter.
    unsafe { accepted.write(taken) };
    STATUS_SUCCESS
}

extern "win64" fn disconnect(context: PVOID, flags: u32) -> NTSTATUS {
    // SAFETY: the context is the test's own.
    unsafe { &*context.cast::<Received>() }.disconnects.lock().push(flags);
    STATUS_SUCCESS
}

#[test]
fn data_and_the_end_are_indicated() {
    sound(|client| {
        let received = Received::default();
        received.limit.store(3, Ordering::Release);
        let table = [receive as *const () as usize, disconnect as *const () as usize, 0];
        let (listener, address) = listener();
        let socket =
            socket(client, WSK_FLAG_CONNECTION_SOCKET, (&raw const received).cast_mut().cast(), table.as_ptr().cast());
        bind(socket, "127.0.0.1:0");
        let remote = Encoded::new(&address);
        assert_eq!(run(|irp| WskConnect(socket, remote.as_ptr(), 0, irp)).0, STATUS_SUCCESS);
        let (mut peer, _) = listener.accept().unwrap();
        let mask = WSK_EVENT_RECEIVE | WSK_EVENT_DISCONNECT;
        let control = WSK_EVENT_CALLBACK_CONTROL { NpiId: &raw const NPI_WSK_INTERFACE_ID, EventMask: mask };
        let (input, null) = ((&raw const control).cast_mut().cast(), ptr::null_mut());
        let level = SOL_SOCKET;
        let enabled = WskControlSocket(
            socket,
            WskSetOption,
            SO_WSK_EVENT_CALLBACK,
            level,
            16,
            input,
            0,
            null,
            ptr::null_mut(),
            ptr::null_mut(),
        );
        assert_eq!(enabled, STATUS_SUCCESS);
        peer.write_all(b"abcdef").unwrap();
        until("a partly accepted indication", || *received.bytes.lock() == b"abc");
        // Silent now; what was left comes by WskReceive, which turns the event on again.
        let buffer = Buffer::new(&[0; 3]);
        assert_eq!(run(|irp| WskReceive(socket, &buffer.all(), WSK_FLAG_WAITALL, irp)), (STATUS_SUCCESS, 3));
        assert_eq!(buffer.bytes(), b"def");
        received.limit.store(usize::MAX, Ordering::Release);
        peer.write_all(b"ghi").unwrap();
        until("an indication", || *received.bytes.lock() == b"abcghi");
        drop(peer);
        until("the disconnect", || received.disconnects.lock().len() == 1);
        assert_eq!(received.disconnects.lock()[0] & WSK_FLAG_ABORTIVE, 0);
        close(socket);
        buffer.free();
    });
}

#[test]
fn options_and_controls() {
    sound(|client| {
        let (_listener, address) = listener();
        let socket = connect_to(client, address).unwrap();
        assert_eq!(set(socket, IPPROTO_TCP, TCP_NODELAY, 1), STATUS_SUCCESS);
        assert_eq!(set(socket, IPPROTO_TCP, 0x777, 1), STATUS_NOT_SUPPORTED);
        assert_eq!(set(socket, SOL_SOCKET, SO_CONDITIONAL_ACCEPT, 1), STATUS_INVALID_DEVICE_REQUEST);
        let mut value = 0_u32;
        let out = (&raw mut value).cast();
        let got = run(|irp| {
            let (name, level) = (TCP_NODELAY, IPPROTO_TCP);
            WskControlSocket(socket, WskGetOption, name, level, 0, ptr::null_mut(), 4, out, ptr::null_mut(), irp)
        });
        assert_eq!((got, value), ((STATUS_SUCCESS, 4), 1));
        let mut backlog = 0_usize;
        let out = (&raw mut backlog).cast();
        let code = SIO_WSK_QUERY_IDEAL_SEND_BACKLOG;
        let got =
            run(|irp| WskControlSocket(socket, WskIoctl, code, 0, 0, ptr::null_mut(), 8, out, ptr::null_mut(), irp));
        assert_eq!(got, (STATUS_SUCCESS, 8));
        assert!(backlog > 0);
        let mut size = 0;
        let null = ptr::null_mut();
        let query = |length, out, size| {
            WskControlClient(client.client(), WSK_TRANSPORT_LIST_QUERY, 0, null, length, out, size, ptr::null_mut())
        };
        assert_eq!(query(0, null, &raw mut size), STATUS_BUFFER_OVERFLOW);
        let mut list = vec![0_u8; size];
        assert_eq!(query(size, list.as_mut_ptr().cast(), &raw mut size), STATUS_SUCCESS);
        close(socket);
        let text: Vec<u16> = "127.0.0.9".encode_utf16().collect();
        let name = crate::nt::types::UNICODE_STRING {
            Length: 18.into(),
            MaximumLength: 18.into(),
            Buffer: text.as_ptr().cast_mut().into(),
        };
        let mut info = ptr::null_mut();
        let found = run(|irp| {
            WskGetAddressInfo(client.client(), Some(&name), None, 0, null, None, &raw mut info, null, null, irp)
        });
        assert_eq!(found.0, STATUS_SUCCESS);
        // SAFETY: WSK's result.
        let address = unsafe { (*info).ai_addr };
        assert_eq!(super::address::read(address.cast()).unwrap(), "127.0.0.9:0".parse().unwrap());
        WskFreeAddressInfo(client.client(), info);
    });
}

#[test]
fn the_capture_waits_times_out_and_is_ended_by_deregistration() {
    let machine = Machine::new();
    machine.network().set_ready(false);
    let ended = machine.on_system_thread(|_| {
        callout("a test", || {
            let mut registration = Box::new(WSK_REGISTRATION::new());
            let client = WSK_CLIENT_NPI { ClientContext: ptr::null_mut(), Dispatch: &raw const CLIENT };
            assert_eq!(WskRegister(&client, &mut registration), STATUS_SUCCESS);
            let mut npi = WSK_PROVIDER_NPI::new();
            let capture =
                |timeout, npi: &mut WSK_PROVIDER_NPI| WskCaptureProviderNPI(&raw const *registration, timeout, npi);
            assert_eq!(capture(WSK_NO_WAIT, &mut npi), STATUS_DEVICE_NOT_READY);
            assert_eq!(capture(5, &mut npi), STATUS_DEVICE_NOT_READY);
            let address = &raw const *registration as usize;
            let waiting = Arc::new(AtomicUsize::new(usize::MAX));
            let told = waiting.clone();
            crate::nt::process::start_system_thread(&crate::thread::current().kernel, "capture", move || {
                let mut npi = WSK_PROVIDER_NPI::new();
                let status = WskCaptureProviderNPI(address as *const WSK_REGISTRATION, WSK_INFINITE_WAIT, &mut npi);
                told.store(status.cast_unsigned() as usize, Ordering::Release);
            })
            .unwrap();
            std::thread::sleep(Duration::from_millis(20));
            WskDeregister(&raw mut *registration);
            until("the end of the wait", || waiting.load(Ordering::Acquire) != usize::MAX);
            assert_eq!(waiting.load(Ordering::Acquire), STATUS_DEVICE_NOT_READY.cast_unsigned() as usize);
        });
    });
    assert!(ended.is_ok(), "{:?}", machine.violation());
}

#[test]
fn broken_rules_are_found() {
    let buffer = |length| WSK_BUF { Mdl: ptr::null_mut(), Offset: 0, Length: length };
    let opened = |client: &Client| socket(client, WSK_FLAG_CONNECTION_SOCKET, ptr::null_mut(), ptr::null());
    breaks(Rule::Wsk(33), move |client| {
        let socket = opened(client);
        close(socket);
        run(|irp| WskReceive(socket, &buffer(0), 0, irp));
    });
    breaks(Rule::Wsk(6), move |client| {
        WskReceive(opened(client), &buffer(0), 0, ptr::null_mut());
    });
    breaks(Rule::Wsk(6), move |client| {
        WskReceive(opened(client), &buffer(0), 0, IoAllocateIrp(1, 0));
    });
    breaks(Rule::Wsk(29), move |client| {
        run(|irp| WskSend(opened(client), &buffer(4), 0, irp));
    });
    breaks(Rule::Wsk(30), move |client| {
        run(|irp| WskReceive(opened(client), &buffer(4), WSK_FLAG_DRAIN, irp));
    });
    breaks(Rule::Wsk(5), move |client| {
        WskReleaseProviderNPI(&raw const *client.registration);
        opened(client);
    });
    breaks(Rule::Wsk(2), move |client| {
        WskReleaseProviderNPI(&raw const *client.registration);
        WskReleaseProviderNPI(&raw const *client.registration);
    });
    breaks(Rule::Wsk(9), move |client| {
        let (_listener, address) = listener();
        let socket = connect_to(client, address).unwrap();
        let (request, bytes) = (Request::new(), Buffer::new(&[0; 4]));
        WskReceive(socket, &bytes.all(), 0, request.packet());
        IoFreeIrp(request.irp);
    });
}
