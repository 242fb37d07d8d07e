//! `connect` and `listen`.

use super::*;
use crate::switch::CONFIG_VARIABLE;
use crate::{AddressFamily, Backlog, StreamConnection, StreamListener};
use std::net::{SocketAddr, TcpListener};

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A listener on which one peer is served.
fn serve(provider: &Provider, serve: impl FnOnce(StreamConnection) + Send + 'static) -> JoinHandle<()> {
    let listener = StreamListener::create(provider, AddressFamily::INET).unwrap();
    listener.bind(address(80)).unwrap();
    listener.listen(Backlog(1)).unwrap();
    thread::spawn(move || serve(listener.accept().unwrap().connection))
}

#[test]
fn a_refused_connection_is_explained() {
    let errors = "\
sanctl: cannot connect to 127.0.0.1:9: WSAECONNREFUSED (10061), STATUS_CONNECTION_REFUSED (0xc0000236)
hint: nobody listens at that address and port, or the listener's backlog is full: check the server
";
    assert_eq!(sanctl(&["connect", "--stream", "127.0.0.1:9"]).failed(), errors);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let errors = sanctl(&["connect", &nobody]).failed();
    let expected =
        format!("sanctl: cannot connect to {nobody} by TCP/IP: WSAECONNREFUSED (10061)\nhint: nobody listens");
    assert!(errors.starts_with(&expected), "{errors}");
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
    let ran = sanctl_with(&["connect", "--stream", "127.0.0.1:80"], Ok(provider), Cursor::new(question));
    server.join().unwrap();
    let errors = "sanctl: connected to 0:0 from 0:0 by TCP/IP through the driver\n";
    assert_eq!((without_numbers(&ran.errors), ran.done()), (errors.to_owned(), "thank you\n".to_owned()));
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
    let ran = sanctl_with(&["connect", "--stream", "127.0.0.1:80"], Ok(provider), input);
    server.join().unwrap();
    let errors = ran.failed();
    assert!(errors.contains("sanctl: cannot receive: WSAECONNRESET (10054)"), "{errors}");
    assert_eq!(device.endpoints(), 0);
}

/// One listens, one connects: what standard error of each said, without numbers.
fn meet(listen: &[&str], connect: &[&str], provider: &Provider) -> [String; 2] {
    let listener = Running::start(
        &[&["listen"], listen, &["127.0.0.1:0"]].concat(),
        Ok(provider.clone()),
        Cursor::new(b"hello"),
        Terminals::default(),
    );
    let address = listener.address();
    let arguments = [&["connect"], connect, &[&address]].concat();
    let connected = sanctl_with(&arguments, Ok(provider.clone()), Cursor::new(b"good day"));
    let ended = listener.end();
    let said = [without_numbers(&ended.errors), without_numbers(&connected.errors)];
    assert_eq!((ended.done(), connected.done()), ("good day".to_owned(), "hello".to_owned()));
    said
}

#[test]
fn each_way_says_which_it_is_and_why() {
    let (provider, device) = FakeDevice::provider();
    let file = std::env::temp_dir().join(format!("sanctl-{}-loopback.toml", std::process::id()));
    std::fs::write(&file, "[[subnet]]\nprefix = '127.0.0.0/8'\n").unwrap();
    let config = ["--config", file.to_str().unwrap()];
    for (listen, connect, listening, connected) in [
        (&["--stream"][..], &["--stream"][..], "TCP/IP through the driver", "TCP/IP through the driver"),
        (&["--san"], &["--san"], "SAN", "SAN"),
        (&["--tcp"], &["--tcp"], "TCP/IP (--tcp)", "TCP/IP (--tcp)"),
        (&[], &[], "TCP/IP (0 is in no SAN subnet)", "TCP/IP (0 is in no SAN subnet)"),
        (&config, &config, "SAN and by TCP/IP", "SAN"),
        (&config, &["--san"], "SAN and by TCP/IP", "SAN"),
        (&config, &["--tcp"], "SAN and by TCP/IP", "TCP/IP (--tcp)"),
    ] {
        let [listened, connector] = meet(listen, connect, &provider);
        let from = if connected == "SAN" || connected.contains("driver") { connected } else { "TCP/IP" };
        assert_eq!(
            listened,
            format!("sanctl: listening on 0:0 by {listening}\nsanctl: connected from 0:0 by {from}\n")
        );
        assert_eq!(connector, format!("sanctl: connected to 0:0 from 0:0 by {connected}\n"));
    }
    std::fs::remove_file(&file).unwrap();
    assert_eq!(device.endpoints(), 0);
}

#[test]
fn a_route_of_the_driver_is_a_subnet() {
    let (provider, _) = FakeDevice::provider();
    assert_eq!(
        sanctl_with(&["route", "add", "127.0.0.0/8", "127.0.0.0/8"], Ok(provider.clone()), io::empty()).code,
        DONE
    );
    let [_, connector] = meet(&[], &[], &provider);
    assert_eq!(connector, "sanctl: connected to 0:0 from 0:0 by SAN\n");
}

#[test]
fn without_the_driver_it_goes_by_tcp_and_says_so() {
    let (provider, _) = FakeDevice::provider();
    let (listener, address) = Running::listening(&["echo", "--once", "--tcp", "127.0.0.1:0"], &provider);
    let missing = Error::new(Operation::Open, NtStatus::OBJECT_NAME_NOT_FOUND);
    let ran = sanctl_with(&["connect", &address], Err(missing), Cursor::new(b"?"));
    let expected =
        "by TCP/IP (there is no SAN: cannot open the device: WSAENETDOWN (10050), STATUS_OBJECT_NAME_NOT_FOUND";
    assert!(ran.errors.contains(expected), "{}", ran.errors);
    assert_eq!(ran.done(), "?");
    listener.end().done();
}

#[test]
fn a_broken_file_of_the_switch_is_named_with_its_line_and_key() {
    let file = std::env::temp_dir().join(format!("sanctl-{}-broken.toml", std::process::id()));
    std::fs::write(&file, "[session]\nsend-count = 0\n").unwrap();
    let errors = sanctl(&["connect", "--config", file.to_str().unwrap(), "127.0.0.1:1"]).failed();
    std::fs::remove_file(&file).unwrap();
    assert!(errors.starts_with(&format!("sanctl: {}:2: session.send-count: a number", file.display())), "{errors}");
    assert!(include_str!("../help/connect.txt").contains(CONFIG_VARIABLE));
}

#[test]
fn listen_keeps_on_after_a_peer_that_breaks_off() {
    let (provider, _) = FakeDevice::provider();
    let (_typing, terminal) = channel();
    let arguments = ["listen", "--keep", "--stream", "127.0.0.1:5000"];
    let running = Running::start(&arguments, Ok(provider.clone()), Terminal(terminal), Terminals::default());
    running.address();
    for _ in 0..2 {
        let client = StreamConnection::create(&provider, AddressFamily::INET).unwrap();
        let before = running.errors.text().matches("WSAECONNRESET (10054)").count();
        client.connect(address(5000), None).unwrap();
        client.abort().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while running.errors.text().matches("WSAECONNRESET (10054)").count() == before {
            assert!(Instant::now() < deadline && !running.run.is_finished(), "{}", running.errors.text());
            thread::sleep(Duration::from_millis(1));
        }
    }
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
    let (mut errors, terminals) = (Vec::new(), Terminals::default());
    let streams = Streams { input: Box::new(Terminal(terminal)), output: &mut Full, errors: &mut errors, terminals };
    let arguments = ["sanctl", "connect", "--stream", "127.0.0.1:80"].map(Into::into);
    assert_eq!(run(arguments, || Ok(provider), streams), FAILED);
    server.join().unwrap();
    let errors = String::from_utf8(errors).unwrap();
    assert!(errors.contains("sanctl: cannot write to standard output: "), "{errors}");
}
