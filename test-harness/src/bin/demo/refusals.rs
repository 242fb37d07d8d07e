//! Connections that do not come about: refused by a peer, and by a full backlog of the driver.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use san_proxy::{AddressFamily, NtStatus, Provider, Receive, StreamConnection, Transfer};

use crate::console::Console;
use crate::failure::Failure;
use crate::http::listen;

const PATIENCE: Duration = Duration::from_secs(10);
const BACKLOG: u32 = 2;
const CLIENTS: usize = 5;

/// Connects to a port where nobody listens.
pub(crate) fn refused_connect(provider: &Provider, console: &Console) -> Result<(), Failure> {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = free.map_err(|error| Failure::new(error, "127.0.0.1 has to be up (ip link set lo up)"))?;
    let connection = StreamConnection::create(provider, AddressFamily::INET)?;
    match connection.connect(address, Some(PATIENCE)) {
        Ok(()) => Err(Failure::defect(format_args!("{address} is connected, where nobody listens"))),
        Err(error) if error.status() == NtStatus::CONNECTION_REFUSED => {
            console.done(format_args!("nobody listens at {address}: WskConnect ended with {}", error.status()));
            console.note(format_args!("which a Winsock program sees as {}", error.wsa_error()));
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// More clients than the backlog of a listener holds: those within it wait, the others are refused at once.
pub(crate) fn full_backlog(provider: &Provider, console: &Console) -> Result<(), Failure> {
    let (listener, address) = listen(provider, BACKLOG)?;
    let clients: Vec<_> = (0..CLIENTS).map(|_| connect(address)).collect::<Result<_, _>>()?;
    let deadline = Instant::now() + PATIENCE;
    let waiting = loop {
        let waiting: Vec<_> = clients.iter().flatten().filter(|client| stands(client)).collect();
        if waiting.len() <= BACKLOG as usize || Instant::now() > deadline {
            break waiting;
        }
        thread::sleep(Duration::from_millis(1));
    };
    if waiting.len() != BACKLOG as usize {
        let found = waiting.len();
        return Err(Failure::defect(format_args!("{found} of {CLIENTS} clients wait, where the backlog is {BACKLOG}")));
    }
    let refused = CLIENTS - waiting.len();
    console.done(format_args!("backlog {BACKLOG}, {CLIENTS} clients: {BACKLOG} wait, {refused} are refused at once"));
    for (mut client, number) in waiting.iter().copied().zip(1_u8..) {
        client.write_all(&[number]).map_err(|error| Failure::defect(format_args!("a waiting client: {error}")))?;
    }
    for number in 1..=BACKLOG {
        let accepted = listener.start_accept().wait_or_cancel(PATIENCE)?;
        let Transfer { result, buffer } =
            accepted.connection.start_receive(vec![0; 1], Receive::Some).wait_or_cancel(PATIENCE);
        if result? != 1 || u32::from(buffer[0]) != number {
            return Err(Failure::defect(format_args!("client {number} was lost in the backlog")));
        }
    }
    console.done(format_args!("the {BACKLOG} that waited are accepted in their order, with what they had sent"));
    Ok(())
}

/// `None` if the refusal came in place of the connection; with Linux below, it comes as a reset right after it.
fn connect(address: SocketAddr) -> Result<Option<TcpStream>, Failure> {
    let failed = |error| Failure::defect(format_args!("a client cannot connect to {address}: {error}"));
    match TcpStream::connect_timeout(&address, PATIENCE) {
        Ok(client) => {
            client.set_nonblocking(true).map_err(failed)?;
            Ok(Some(client))
        }
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Whether a connection has not been reset.
fn stands(mut client: &TcpStream) -> bool {
    client.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}
