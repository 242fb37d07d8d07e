//! HTTP/1.0 over endpoints of the driver, as much of it as a download needs.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use san_proxy::{
    AddressFamily, Backlog, Disconnect, NtStatus, Pending, Provider, Receive, StreamConnection, StreamListener,
    Transfer,
};

use crate::console::Progress;
use crate::failure::Failure;
use crate::payload::{Fingerprint, Hasher};

/// Bytes of one operation.
const CHUNK: usize = 64 * 1024;
/// Operations that are under way at once.
const IN_FLIGHT: usize = 8;
/// An operation that takes longer has failed.
const STALL: Duration = Duration::from_secs(15);
/// A longer head is not read.
const HEAD_LIMIT: usize = 16 * 1024;

/// The answer to a GET.
pub(crate) struct Answer {
    /// Status line and fields.
    pub(crate) head: String,
    /// The beginning of the body.
    pub(crate) beginning: String,
    pub(crate) length: u64,
    pub(crate) fingerprint: Fingerprint,
    /// How long it took.
    pub(crate) pace: String,
}

impl Answer {
    pub(crate) fn status_line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// Connects an endpoint to a server and fetches `path`; `expected` bytes are the whole bar.
pub(crate) fn get(provider: &Provider, server: SocketAddr, path: &str, expected: u64) -> Result<Answer, Failure> {
    let connection = StreamConnection::create(provider, AddressFamily::of(server))?;
    connection.connect(server, Some(STALL))?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    connection.start_send(request.into_bytes()).wait_or_cancel(STALL).result?;
    let mut answer = Answer {
        head: String::new(),
        beginning: String::new(),
        length: 0,
        fingerprint: Hasher::default().finish(),
        pace: String::new(),
    };
    let (mut head, mut hasher, progress) = (Vec::new(), Hasher::default(), Progress::new("fetching", expected));
    let mut body = |bytes: &[u8], answer: &mut Answer| {
        if answer.length == 0 {
            answer.beginning = String::from_utf8_lossy(&bytes[..bytes.len().min(256)]).into_owned();
        }
        answer.length += bytes.len() as u64;
        progress.advance(bytes.len());
        hasher.update(bytes);
    };
    let mut receives: VecDeque<_> =
        (0..IN_FLIGHT).map(|_| connection.start_receive(vec![0; CHUNK], Receive::Some)).collect();
    while let Some(receive) = receives.pop_front() {
        let Transfer { result, buffer } = receive.wait_or_cancel(STALL);
        let bytes = match result? {
            0 => break,
            length => &buffer[..length],
        };
        if answer.head.is_empty() {
            head.extend_from_slice(bytes);
            if let Some(end) = end_of_head(&head) {
                answer.head = String::from_utf8_lossy(&head[..end]).into_owned();
                if end < head.len() {
                    body(&head[end..], &mut answer);
                }
            } else if head.len() > HEAD_LIMIT {
                break;
            }
        } else {
            body(bytes, &mut answer);
        }
        receives.push_back(connection.start_receive(buffer, Receive::Some));
    }
    drop(receives);
    connection.start_disconnect(Disconnect::Graceful).wait_or_cancel(STALL)?;
    connection.into_endpoint().start_close().wait_or_cancel(STALL)?;
    answer.pace = progress.finish();
    answer.fingerprint = hasher.finish();
    if answer.head.is_empty() {
        return Err(Failure::defect(format_args!("the answer of {server} has no head of HTTP")));
    }
    Ok(answer)
}

/// Where the body begins.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// A listener of the driver on a free port of 127.0.0.1.
pub(crate) fn listen(provider: &Provider, backlog: u32) -> Result<(StreamListener, SocketAddr), Failure> {
    let listener = StreamListener::create(provider, AddressFamily::INET)?;
    let address = listener.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    listener.listen(Backlog(backlog))?;
    Ok((listener, address))
}

/// What a client asked for, and how long the answer took.
pub(crate) struct Served {
    pub(crate) peer: SocketAddr,
    pub(crate) request: String,
    pub(crate) agent: String,
    pub(crate) pace: String,
}

/// Accepts one client and serves it the file, whatever it asks for.
pub(crate) fn serve(listener: &StreamListener, file: &Path, size: u64) -> Result<Served, Failure> {
    let accepted = listener.start_accept().wait_or_cancel(STALL).map_err(|error| match error.status() {
        NtStatus::IO_TIMEOUT => Failure::defect("the client did not connect"),
        _ => Failure::from(error),
    })?;
    let connection = accepted.connection;
    let head = request_head(&connection)?;
    let progress = Progress::new("serving", size);
    let head_of_answer =
        format!("HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {size}\r\n\r\n");
    connection.start_send(head_of_answer.into_bytes()).wait_or_cancel(STALL).result?;
    send_file(&connection, file, &progress)?;
    connection.start_disconnect(Disconnect::Graceful).wait_or_cancel(STALL)?;
    // The client has all of it when it ends its side too.
    while connection.start_receive(vec![0; 1024], Receive::Some).wait_or_cancel(STALL).result? > 0 {}
    let pace = progress.finish();
    connection.into_endpoint().start_close().wait_or_cancel(STALL)?;
    let agent = head.lines().find_map(|line| line.strip_prefix("User-Agent: ")).unwrap_or("no name");
    let request = head.lines().next().unwrap_or_default();
    Ok(Served { peer: accepted.peer, request: request.to_owned(), agent: agent.to_owned(), pace })
}

fn request_head(connection: &StreamConnection) -> Result<String, Failure> {
    let mut head = Vec::new();
    while end_of_head(&head).is_none() {
        let Transfer { result, buffer } = connection.start_receive(vec![0; 4096], Receive::Some).wait_or_cancel(STALL);
        let length = result?;
        if length == 0 || head.len() > HEAD_LIMIT {
            return Err(Failure::defect("the client sent no request of HTTP"));
        }
        head.extend_from_slice(&buffer[..length]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn send_file(connection: &StreamConnection, path: &Path, progress: &Progress) -> Result<(), Failure> {
    let unreadable = |error| Failure::file("read", path, &error);
    let mut file = File::open(path).map_err(unreadable)?;
    let mut sends: VecDeque<Pending<Transfer>> = VecDeque::new();
    let mut spare: Vec<Vec<u8>> = vec![Vec::new(); IN_FLIGHT];
    loop {
        while let Some(mut buffer) = spare.pop() {
            buffer.resize(CHUNK, 0);
            let length = file.read(&mut buffer).map_err(unreadable)?;
            if length == 0 {
                break;
            }
            buffer.truncate(length);
            sends.push_back(connection.start_send(buffer));
        }
        let Some(send) = sends.pop_front() else { return Ok(()) };
        let Transfer { result, buffer } = send.wait_or_cancel(STALL);
        progress.advance(result?);
        spare.push(buffer);
    }
}
