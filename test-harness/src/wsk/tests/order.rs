//! The order in which operations happen and end, and calls from inside completions.

use super::*;
use crate::nt::types::DEVICE_OBJECT;

/// Requests in the order of their completion.
static ENDED: Mutex<Vec<usize>> = Mutex::new(Vec::new());

extern "win64" fn ended(device: *mut DEVICE_OBJECT, irp: *mut IRP, context: PVOID) -> NTSTATUS {
    ENDED.lock().push(irp as usize);
    completed(device, irp, context)
}

/// A request whose completion is noted in `ENDED`.
fn noted() -> Request {
    let request = Request::new();
    let context = ptr::from_ref(&*request.event).cast_mut().cast();
    let always = SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR | SL_INVOKE_ON_CANCEL;
    set_completion_routine(request.irp, ended, context, always);
    request
}

/// A socket with more outstanding sends than the network takes, each of its own byte; its peer has read nothing.
fn stuffed(
    client: &Client,
    pieces: &[Buffer],
    mut request: impl FnMut() -> Request,
) -> (Sock, TcpStream, Vec<Request>) {
    let (listener, address) = listener();
    let socket = connect_to(client, address).unwrap();
    let peer = listener.accept().unwrap().0;
    let requests = pieces.iter().map(|piece| {
        let request = request();
        let status = WskSend(socket, &piece.all(), 0, request.packet());
        assert!(matches!(status, STATUS_SUCCESS | STATUS_PENDING));
        request
    });
    let requests: Vec<_> = requests.collect();
    (socket, peer, requests)
}

const PIECE: usize = 1 << 18;

fn pieces() -> Vec<Buffer> {
    (0..64).map(|byte| Buffer::new(&vec![byte; PIECE])).collect()
}

#[test]
fn outstanding_sends_go_out_in_the_order_of_their_calls_and_a_graceful_disconnect_behind_them() {
    sound(|client| {
        let pieces = pieces();
        let (socket, mut peer, sends) = stuffed(client, &pieces, Request::new);
        let disconnect = Request::new();
        assert_eq!(WskDisconnect(socket, None, 0, disconnect.packet()), STATUS_PENDING);
        assert!(!disconnect.is_done() && !sends[63].is_done());
        let mut received = vec![0; PIECE];
        for piece in &pieces {
            peer.read_exact(&mut received).unwrap();
            assert!(received == piece.bytes(), "in order, and whole");
        }
        assert_eq!(peer.read(&mut received).unwrap(), 0, "then the end");
        for send in sends {
            assert_eq!(send.wait(), (STATUS_SUCCESS, PIECE));
            send.free();
        }
        assert_eq!(disconnect.wait().0, STATUS_SUCCESS);
        disconnect.free();
        close(socket);
        pieces.into_iter().for_each(Buffer::free);
    });
}

#[test]
fn a_close_cancels_what_is_outstanding_and_completes_last() {
    sound(|client| {
        ENDED.lock().clear();
        let pieces = pieces();
        let (socket, _peer, sends) = stuffed(client, &pieces, noted);
        let (waiting, room) = (noted(), Buffer::new(&[0; 4]));
        assert_eq!(WskReceive(socket, &room.all(), 0, waiting.packet()), STATUS_PENDING);
        let closing = noted();
        let close = closing.packet() as usize;
        WskCloseSocket(socket, closing.packet());
        assert_eq!(closing.wait().0, STATUS_SUCCESS);
        assert_eq!(waiting.wait(), (STATUS_CANCELLED, 0));
        let outcomes: Vec<_> = sends.iter().map(Request::wait).collect();
        assert_eq!(outcomes[0], (STATUS_SUCCESS, PIECE));
        assert_eq!(outcomes[63].0, STATUS_CANCELLED);
        let sent = outcomes.iter().take_while(|outcome| outcome.0 == STATUS_SUCCESS).count();
        assert!(outcomes[sent..].iter().all(|outcome| outcome.0 == STATUS_CANCELLED), "{outcomes:?}");
        {
            let order = ENDED.lock();
            assert_eq!((order.len(), order.last()), (66, Some(&close)));
        }
        for request in sends.into_iter().chain([waiting, closing]) {
            request.free();
        }
        pieces.into_iter().for_each(Buffer::free);
        room.free();
    });
}

#[test]
fn a_close_completes_behind_operations_that_are_being_cancelled() {
    sound(|client| {
        let (listener, address) = listener();
        for _ in 0..200 {
            let socket = connect_to(client, address).unwrap();
            let _peer = listener.accept().unwrap().0;
            let (waiting, closing, room) = (Request::new(), Request::new(), Buffer::new(&[0; 4]));
            assert_eq!(WskReceive(socket, &room.all(), 0, waiting.packet()), STATUS_PENDING);
            let (irp, done) = (waiting.packet() as usize, Arc::new(AtomicUsize::new(0)));
            let told = done.clone();
            crate::nt::process::start_system_thread(&crate::thread::current().kernel, "canceller", move || {
                IoCancelIrp(irp::at(irp as *mut IRP));
                told.store(1, Ordering::Release);
            })
            .unwrap();
            std::thread::yield_now();
            WskCloseSocket(socket, closing.packet());
            assert_eq!(closing.wait().0, STATUS_SUCCESS);
            assert!(waiting.is_done(), "it has ended before the close");
            assert_eq!(waiting.irp.IoStatus.Status.get(), STATUS_CANCELLED);
            until("the canceller has left", || done.load(Ordering::Acquire) == 1);
            waiting.free();
            closing.free();
            room.free();
        }
    });
}

/// A completion routine that sends again, so often.
struct Again {
    socket: Sock,
    buffer: WSK_BUF,
    left: AtomicUsize,
    /// The sends that are left, as one, and each call of WskSend that has not returned: none may be inside when the socket is closed.
    parties: AtomicUsize,
    event: KEVENT,
}

extern "win64" fn again(_device: *mut DEVICE_OBJECT, irp: *mut IRP, context: PVOID) -> NTSTATUS {
    // SAFETY: the test's own, which waits for the last completion.
    let again = unsafe { &*context.cast::<Again>() };
    if again.left.load(Ordering::Acquire) == 0 {
        again.leave();
    } else {
        again.left.fetch_sub(1, Ordering::AcqRel);
        IoReuseIrp(irp::at(irp), STATUS_SUCCESS);
        again.send(irp);
    }
    STATUS_MORE_PROCESSING_REQUIRED
}

impl Again {
    fn send(&self, irp: *mut IRP) {
        let always = SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR | SL_INVOKE_ON_CANCEL;
        set_completion_routine(irp::at(irp), again, ptr::from_ref(self).cast_mut().cast(), always);
        self.parties.fetch_add(1, Ordering::AcqRel);
        WskSend(self.socket, &self.buffer, 0, irp);
        self.leave();
    }

    fn leave(&self) {
        if self.parties.fetch_sub(1, Ordering::AcqRel) == 1 {
            KeSetEvent(&self.event, 0, 0);
        }
    }
}

/// Sends `nested` times, each from the completion of the one before.
fn send_from_completions(client: &Client, nested: usize) {
    let (listener, address) = listener();
    let socket = connect_to(client, address).unwrap();
    let _peer = listener.accept().unwrap();
    let (bytes, irp) = (Buffer::new(b"x"), IoAllocateIrp(1, 0));
    let (left, parties) = (AtomicUsize::new(nested), AtomicUsize::new(1));
    let again = Box::new(Again { socket, buffer: bytes.all(), left, parties, event: KEVENT::zeroed() });
    KeInitializeEvent(&again.event, 0, 0);
    again.send(irp);
    assert_eq!(KeWaitForSingleObject(&again.event.Header, 0, 0, 0, Some(&SECONDS_10)), STATUS_SUCCESS);
    IoFreeIrp(irp::at(irp));
    bytes.free();
    close(socket);
}

#[test]
fn calls_from_completions_are_bounded() {
    sound(|client| send_from_completions(client, 4));
    // Only those that complete inside their calls nest.
    breaks(Rule::Wsk(10), |client| send_from_completions(client, 5));
    let machine = Machine::new();
    machine.network().set_completions(Completions::Deferred, 1);
    let ended = machine.on_system_thread(|_| {
        callout("a test", || {
            let client = Client::new();
            send_from_completions(&client, 1000);
            client.end();
        });
    });
    assert!(ended.is_ok(), "{:?}", machine.violation());
}

#[test]
fn a_close_with_a_pending_connect_is_found() {
    /// A listener that takes no more connections, and those that fill it.
    fn full_listener() -> (TcpListener, Vec<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = listener.local_addr().unwrap();
        let moment = Duration::from_millis(200);
        let filling = std::iter::from_fn(|| TcpStream::connect_timeout(&address, moment).ok()).take(16);
        let filling = filling.collect();
        (listener, filling)
    }
    fn connecting(client: &Client, remote: SocketAddr) -> (Sock, Request) {
        let socket = socket(client, WSK_FLAG_CONNECTION_SOCKET, ptr::null_mut(), ptr::null());
        bind(socket, "127.0.0.1:0");
        let (remote, request) = (Encoded::new(&remote), Request::new());
        assert_eq!(WskConnect(socket, remote.as_ptr(), 0, request.packet()), STATUS_PENDING);
        (socket, request)
    }
    let full = Arc::new(full_listener());
    let (first, second) = (full.clone(), full);
    sound(move |client| {
        let (socket, request) = connecting(client, first.0.local_addr().unwrap());
        IoCancelIrp(request.irp);
        assert_eq!(request.wait().0, STATUS_CANCELLED);
        close(socket);
        request.free();
    });
    breaks(Rule::Wsk(34), move |client| {
        let (socket, _request) = connecting(client, second.0.local_addr().unwrap());
        run(|irp| WskCloseSocket(socket, irp));
    });
}
