//! The tool as a user meets it.

use super::{DONE, FAILED, Streams, USAGE, run};
use crate::error::{Error, Operation};
use crate::fake::FakeDevice;
use crate::provider::Provider;
use crate::{AddressFamily, Backlog, NtStatus, StreamConnection, StreamListener};
use std::io::{self, Cursor, Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// What a run left behind.
#[derive(Debug, PartialEq)]
struct Ran {
    code: u8,
    output: String,
    errors: String,
}

fn sanctl_with(arguments: &[&str], provider: Result<Provider, Error>, input: impl Read + Send + 'static) -> Ran {
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let streams = Streams { input: Box::new(input), output: &mut output, errors: &mut errors };
    let code = run(std::iter::once(&"sanctl").chain(arguments).map(Into::into), || provider, streams);
    Ran { code, output: String::from_utf8(output).unwrap(), errors: String::from_utf8(errors).unwrap() }
}

fn sanctl(arguments: &[&str]) -> Ran {
    sanctl_with(arguments, Ok(FakeDevice::provider().0), io::empty())
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Standard input that never ends: a terminal at which nobody types.
struct Terminal(Receiver<()>);

impl Read for Terminal {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(0)
    }
}

#[test]
fn help_is_as_it_was_agreed() {
    for (command, expected) in [
        ("", include_str!("help/sanctl.txt")),
        ("status", include_str!("help/status.txt")),
        ("connect", include_str!("help/connect.txt")),
        ("listen", include_str!("help/listen.txt")),
    ] {
        let arguments: Vec<&str> = [command, "--help"].into_iter().filter(|word| !word.is_empty()).collect();
        assert_eq!(sanctl(&arguments), Ran { code: DONE, output: expected.to_owned(), errors: String::new() });
    }
}

#[test]
fn wrong_arguments_are_explained() {
    let ran = sanctl(&["connect", "localhost"]);
    assert_eq!((ran.code, &ran.output[..]), (USAGE, ""));
    assert!(ran.errors.starts_with(
        "error: invalid value 'localhost' for '<ADDR:PORT>': give an IP address and a port, as in 192.0.2.7:80 or \
         [2001:db8::7]:80\n"
    ));
    let ran = sanctl(&["connect", "127.0.0.1:1", "--timeout", "0"]);
    assert_eq!(ran.code, USAGE);
    assert!(ran.errors.contains("give seconds, more than 0, as in 5 or 0.5"), "{}", ran.errors);
    let ran = sanctl(&["listne", "127.0.0.1:1"]);
    assert_eq!(ran.code, USAGE);
    assert!(ran.errors.contains("a similar subcommand exists: 'listen'"), "{}", ran.errors);
    assert_eq!(sanctl(&[]).code, USAGE);
}

#[test]
fn status_shows_a_table() {
    let output = "\
Driver        1.2.3
Protocol      1
WSK provider  ready, WSK 1.0, STATUS_SUCCESS (0x00000000)
Endpoints     0
";
    assert_eq!(sanctl(&["status"]), Ran { code: DONE, output: output.to_owned(), errors: String::new() });
}

#[test]
fn a_driver_that_is_not_loaded_is_said_to_be() {
    let missing = Error::new(Operation::Open, NtStatus::OBJECT_NAME_NOT_FOUND);
    let ran = sanctl_with(&["status"], Err(missing), io::empty());
    let errors = "\
sanctl: cannot open the device: WSAENETDOWN (10050), STATUS_OBJECT_NAME_NOT_FOUND (0xc0000034)
hint: the driver is not loaded: install it (pnputil /add-driver sanwsk.inf /install), then start it (sc start sanwsk)
";
    assert_eq!(ran, Ran { code: FAILED, output: String::new(), errors: errors.to_owned() });
}

#[test]
fn a_refused_connection_is_explained() {
    let errors = "\
sanctl: cannot connect to 127.0.0.1:9: WSAECONNREFUSED (10061), STATUS_CONNECTION_REFUSED (0xc0000236)
hint: nobody listens at that address and port, or the listener's backlog is full: check the server
";
    let ran = sanctl(&["connect", "127.0.0.1:9"]);
    assert_eq!(ran, Ran { code: FAILED, output: String::new(), errors: errors.to_owned() });
}

/// A listener on which one peer is served.
fn serve(provider: &Provider, serve: impl FnOnce(StreamConnection) + Send + 'static) -> thread::JoinHandle<()> {
    let listener = StreamListener::create(provider, AddressFamily::INET).unwrap();
    listener.bind(address(80)).unwrap();
    listener.listen(Backlog(1)).unwrap();
    thread::spawn(move || serve(listener.accept().unwrap().connection))
}

#[test]
fn connect_relays_both_ways_and_ends_with_both() {
    let (provider, device) = FakeDevice::provider();
    let question: Vec<u8> = b"0123456789abcdef".repeat(20_000);
    let expected = question.clone();
    let server = serve(&provider, move |mut connection| {
        let mut received = Vec::new();
        connection.read_to_end(&mut received).unwrap();
        assert!(received == expected);
        connection.write_all(b"thank you\n").unwrap();
    });
    let ran = sanctl_with(&["connect", "127.0.0.1:80"], Ok(provider), Cursor::new(question));
    server.join().unwrap();
    assert_eq!((ran.code, &ran.output[..]), (DONE, "thank you\n"));
    assert!(ran.errors.starts_with("sanctl: connected to 127.0.0.1:80 from 127.0.0.1:"), "{}", ran.errors);
    assert_eq!(device.endpoints(), 0);
}

#[test]
fn a_reset_ends_it_though_nobody_types() {
    let (provider, device) = FakeDevice::provider();
    let server = serve(&provider, |connection| {
        connection.send(b"first").unwrap();
        let mut asked = [0; 1];
        connection.receive(&mut asked).unwrap();
        connection.abort().unwrap();
    });
    let (_typing, terminal) = channel();
    let input = Cursor::new(b"?").chain(Terminal(terminal));
    let ran = sanctl_with(&["connect", "127.0.0.1:80"], Ok(provider), input);
    server.join().unwrap();
    assert_eq!(ran.code, FAILED);
    assert!(ran.errors.contains("sanctl: cannot receive: WSAECONNRESET (10054)"), "{}", ran.errors);
    assert_eq!(device.endpoints(), 0);
}

#[test]
fn listen_serves_one_peer_and_names_the_free_port() {
    let (provider, _) = FakeDevice::provider();
    let client = StreamConnection::create(&provider, AddressFamily::INET).unwrap();
    let arguments = ["listen", "127.0.0.1:5000"];
    let tool = thread::spawn({
        let provider = provider.clone();
        move || sanctl_with(&arguments, Ok(provider), Cursor::new(b"hello"))
    });
    while client.connect(address(5000), None).is_err() {
        thread::yield_now();
    }
    client.send(b"good day").unwrap();
    client.shutdown().unwrap();
    let mut greeting = String::new();
    (&client).read_to_string(&mut greeting).unwrap();
    let ran = tool.join().unwrap();
    assert_eq!(greeting, "hello");
    assert_eq!((ran.code, &ran.output[..]), (DONE, "good day"));
    let peer = client.local_address().unwrap();
    assert_eq!(ran.errors, format!("sanctl: listening on 127.0.0.1:5000\nsanctl: connected from {peer}\n"));
}

#[test]
fn output_that_cannot_be_written_ends_the_run() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (provider, _) = FakeDevice::provider();
    let server = serve(&provider, |connection| {
        connection.send(b"data").unwrap();
        let mut rest = [0; 1];
        assert!(connection.receive(&mut rest).is_err(), "the connection is reset");
    });
    let (_typing, terminal) = channel();
    let mut errors = Vec::new();
    let streams = Streams { input: Box::new(Terminal(terminal)), output: &mut Full, errors: &mut errors };
    let arguments = ["sanctl", "connect", "127.0.0.1:80"].map(Into::into);
    assert_eq!(run(arguments, || Ok(provider), streams), FAILED);
    server.join().unwrap();
    let errors = String::from_utf8(errors).unwrap();
    assert!(errors.contains("sanctl: cannot write to standard output: "), "{errors}");
}
