//! An endpoint under test, and its actions as short texts.

use san_core::address_map::{Mapped, Reach};
use san_core::backlog::Backlog;
use san_core::san::{Action, Endpoint, Limits, Offered, Reply, Sending, Slice, State};
use san_protocol::NtStatus;
use san_protocol::wire::{ConnectRequest, ControlMessage, Header, MessageType, SessionOffer};
use std::collections::VecDeque;
use std::net::SocketAddr;

pub(crate) const LIMITS: Limits =
    Limits { message_size: 1000, connect_timeout: 20_000, handshake_timeout: 5000, regions: 4 };

/// `C` is a number, `W` is a number, `M` is a name.
pub(crate) type Tested = Endpoint<u32, u32, &'static str>;

pub(crate) struct Rig {
    pub(crate) endpoint: Tested,
    /// Sends on their way.
    pub(crate) sending: VecDeque<Sending<u32>>,
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn local() -> SocketAddr {
    address("10.0.0.1:1000")
}

pub(crate) fn remote() -> SocketAddr {
    address("10.0.0.2:2000")
}

#[expect(clippy::unnecessary_wraps, reason = "as a connect takes it")]
pub(crate) fn mapped(reach: Reach) -> Option<Mapped> {
    Some(Mapped { native: address("192.168.0.2:28057"), reach })
}

pub(crate) fn slice(length: u32) -> Slice<&'static str> {
    Slice { memory: "small", offset: 0, length }
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self { endpoint: Endpoint::new(LIMITS), sending: VecDeque::new() }
    }

    pub(crate) fn bound() -> Self {
        let mut rig = Self::new();
        rig.endpoint.bind(1, local(), Some(address("192.168.0.1:0"))).unwrap();
        assert_eq!(rig.pull(), ["1: bound to 10.0.0.1:1000"]);
        rig
    }

    pub(crate) fn listening(limit: usize) -> Self {
        let mut rig = Self::bound();
        rig.endpoint.listen(Backlog::new(limit).unwrap()).unwrap();
        rig
    }

    /// Its connect, request 2, has opened its socket and wants to be connected.
    pub(crate) fn connecting(reach: Reach) -> Self {
        let mut rig = Self::bound();
        rig.endpoint.connect(2, remote(), mapped(reach), 0).unwrap();
        assert_eq!(rig.pull(), ["start timer 20000", "open 192.168.0.1:0"]);
        rig.endpoint.opened(Ok(()));
        assert_eq!(rig.pull(), ["connect 192.168.0.2:28057"]);
        rig
    }

    /// Its connect, request 2, waits for the peer's answer.
    pub(crate) fn requesting(reach: Reach) -> Self {
        let mut rig = Self::connecting(reach);
        rig.endpoint.connected(Ok(()));
        assert_eq!(rig.pull(), ["send ConnectRequest", "receive header"]);
        rig.endpoint.control_sent(Ok(()));
        rig
    }

    pub(crate) fn connected() -> Self {
        let mut rig = Self::requesting(Reach::AlsoTcp);
        rig.header(MessageType::Accept, 0, 0);
        assert_eq!(rig.pull(), ["2: done", "stop timer", "receive header"]);
        rig
    }

    /// Connected, with region 7 of 1000 bytes that is held by request 3.
    pub(crate) fn with_memory() -> Self {
        let mut rig = Self::connected();
        rig.endpoint.register(3, 7, "seven", 1000, 3).unwrap();
        rig
    }

    /// With memory, `posted` receives of 100 bytes (requests from 100 on), and a session: this side takes 100 bytes and has
    /// granted `posted`; the peer takes 200 bytes and has granted `granted`.
    pub(crate) fn in_session(posted: u32, granted: u32) -> Self {
        let mut rig = Self::with_memory();
        for waiter in 100..100 + posted {
            rig.endpoint.receive_registered(waiter, 7, 0, 100).unwrap();
        }
        rig.endpoint.negotiate(4, b"ours", 100).unwrap();
        let credits = if posted == 0 { String::new() } else { format!(" with {posted} credits") };
        assert_eq!(rig.pull(), [format!("send Session{credits}")]);
        rig.endpoint.control_sent(Ok(()));
        rig.session(200, b"theirs", granted);
        assert_eq!(rig.pull(), ["4: negotiated", "receive header"]);
        rig
    }

    /// An acceptor whose request is offered to a listener.
    pub(crate) fn offering() -> Self {
        let mut rig = Self { endpoint: Endpoint::arriving(LIMITS), sending: VecDeque::new() };
        assert_eq!(rig.pull(), ["start timer 5000", "receive header"]);
        let message = ControlMessage::connect_request(&ConnectRequest { source: remote(), target: local() });
        rig.message(&message);
        assert_eq!(rig.pull(), ["offer 10.0.0.2:2000 to 10.0.0.1:1000"]);
        rig
    }

    pub(crate) fn queued() -> Self {
        let mut rig = Self::offering();
        rig.endpoint.offered(Offered::Queued);
        assert_eq!(rig.pull(), ["stop timer", "receive header"]);
        rig
    }

    pub(crate) fn undecided() -> Self {
        let mut rig = Self::queued();
        rig.endpoint.taken();
        assert_eq!(rig.pull(), [""; 0]);
        assert_eq!(rig.endpoint.state(), State::Undecided);
        rig
    }

    /// A header comes in, which was asked for.
    pub(crate) fn header(&mut self, message: MessageType, length: u32, credits: u32) {
        self.endpoint.header_received(Ok(Header { message, length, credits }.encode()));
    }

    /// A whole control message comes in.
    pub(crate) fn message(&mut self, message: &ControlMessage) {
        let (header, payload) = message.as_bytes().split_first_chunk().unwrap();
        self.endpoint.header_received(Ok(*header));
        if !payload.is_empty() {
            assert_eq!(self.pull().last(), Some(&format!("receive control of {}", payload.len())));
            self.endpoint.control_received(Ok(payload));
        }
    }

    pub(crate) fn session(&mut self, receive_size: u32, private: &[u8], credits: u32) {
        self.message(&ControlMessage::session(&SessionOffer { receive_size, private }, credits).unwrap());
    }

    /// Data comes in, and its payload is received.
    pub(crate) fn data(&mut self, length: u32) {
        self.header(MessageType::Data, length, 0);
        assert_eq!(self.pull().last(), Some(&format!("receive payload of {length} into seven at 0")));
        self.endpoint.payload_received(Ok(()));
    }

    /// The send that has been on its way longest comes back.
    pub(crate) fn sent(&mut self, result: Result<(), NtStatus>) {
        let send = self.sending.pop_front().expect("a send is on its way");
        self.endpoint.sent(send, result);
    }

    /// All actions that are to be done now.
    pub(crate) fn pull(&mut self) -> Vec<String> {
        let mut texts = Vec::new();
        while let Some(action) = self.endpoint.next_action() {
            texts.push(self.text(action));
        }
        texts
    }

    #[expect(clippy::needless_pass_by_value, reason = "it is carried out once")]
    fn text(&mut self, action: Action<u32, &'static str>) -> String {
        let message = |bytes: &[u8]| {
            let header = Header::parse(bytes.first_chunk().unwrap()).expect("a good header goes out");
            let credits = if header.credits == 0 { String::new() } else { format!(" with {} credits", header.credits) };
            (header, credits)
        };
        match action {
            Action::Open { native } => format!("open {native}"),
            Action::Connect { native } => format!("connect {native}"),
            Action::SendControl(control) => {
                let (header, credits) = message(control.as_bytes());
                format!("send {:?}{credits}", header.message)
            }
            Action::SendData { header, send, slice } => {
                let (header, credits) = message(&header);
                assert_eq!((header.message, header.length), (MessageType::Data, slice.length));
                let text = format!("send {} bytes of {} for {}{credits}", header.length, slice.memory, send.waiter);
                self.sending.push_back(send);
                text
            }
            Action::ReceiveHeader => "receive header".into(),
            Action::ReceiveControl { length } => format!("receive control of {length}"),
            Action::ReceivePayload(slice) => {
                format!("receive payload of {} into {} at {}", slice.length, slice.memory, slice.offset)
            }
            Action::Disconnect => "disconnect".into(),
            Action::Offer(request) => format!("offer {} to {}", request.source, request.target),
            Action::Withdraw => "withdraw".into(),
            Action::StartTimer(milliseconds) => format!("start timer {milliseconds}"),
            Action::StopTimer => "stop timer".into(),
            Action::Complete { waiter, result } => match result {
                Ok(Reply::Nothing) => format!("{waiter}: done"),
                Ok(Reply::Bound(address)) => format!("{waiter}: bound to {address}"),
                Ok(Reply::Transferred(length)) => format!("{waiter}: {length} bytes"),
                Ok(Reply::Negotiated) => format!("{waiter}: negotiated"),
                Err(status) => format!("{waiter}: {}", status.name().unwrap()),
            },
            Action::Close => "close".into(),
        }
    }

    /// Its socket closes: whatever reads comes back with an error, then the socket is gone.
    pub(crate) fn close_socket(&mut self) {
        self.endpoint.header_received(Err(NtStatus::CANCELLED));
        self.endpoint.closed();
    }

    /// Closes it where no network operation is outstanding but a header's receive, and says what came out.
    pub(crate) fn close(&mut self) -> Vec<String> {
        self.endpoint.close();
        let mut texts = self.pull();
        if texts.contains(&"close".into()) {
            self.close_socket();
            texts.extend(self.pull());
        }
        assert!(self.endpoint.is_finished(), "something is left inside: {:?}", self.endpoint);
        texts
    }
}
