//! `sanctl` from the help alone: every command, on machines that run the real driver.

use std::fs;
use std::io::{self, Cursor};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::bed::{PATIENCE, San, free_port, harness, image, without_numbers};
use san_proxy::Provider;
use san_proxy::sanctl::{self, DONE, Streams, Terminals};
use test_harness::Machine;
use test_harness::device::HarnessDevice;
use test_harness::nt::registry::Value;

const ROUTE: &str = "10.77.0.0/16 127.0.0.0/16";

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("harness-{}-{number}", std::process::id()));
        fs::create_dir(&folder).expect("a folder");
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("Unicode").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in the temporary folder harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn bytes(seed: u8, length: u32) -> Vec<u8> {
    (0..length).map(|at| at.to_le_bytes()[1] ^ seed).collect()
}

#[test]
fn help_leads_to_every_command() {
    let page = harness(&["sanctl", "--help"]).done();
    let commands = page.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<_> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(
        commands,
        ["selftest", "status", "top", "route", "connect", "listen", "send", "receive", "ping", "echo", "perf"]
    );
    for command in commands {
        let page = harness(&["sanctl", command, "--help"]).done();
        let usage = format!("\nUsage: sanctl {command} ");
        assert!(page.contains(&usage) && page.contains("\nExamples:\n"), "{page}");
    }
}

#[test]
fn selftest_passes_with_and_without_routes() {
    for san in [San::new(), San::new().with_route(ROUTE), San::new().with_route("127.0.0.0/8 127.0.0.0/8 san-only")] {
        let output = san.run(&["selftest"]).done();
        let lines: Vec<_> = output.lines().collect();
        assert_eq!(lines.len(), 12, "{output}");
        assert!(lines[..11].iter().all(|line| line.starts_with("ok      ") && line.contains(" ms")), "{output}");
        assert_eq!(lines[11], "all 11 checks passed");
    }
    let value: serde_json::Value = serde_json::from_str(&San::new().run(&["selftest", "--json"]).done()).expect("JSON");
    assert_eq!((&value["passed"], &value["failed"]), (&11.into(), &0.into()));
    // An address that is not the machine's: the SAN's checks fail, and say so.
    let ran = San::new().run(&["selftest", "--address", "192.0.2.1"]);
    let output = String::from_utf8(ran.output.clone()).expect("text");
    let errors = ran.failed();
    assert!(output.contains("FAILED  SAN session carries messages both ways"), "{output}");
    assert!(output.contains("WSAEADDRNOTAVAIL (10049)") && output.contains("\n        hint: "), "{output}");
    assert!(errors.contains("5 of 11 checks failed: SAN session"), "{errors}");
}

#[test]
fn status_tells_of_the_driver_its_limits_and_counters() {
    let san = San::new().with_route(ROUTE);
    let output = san.run(&["status"]).done();
    for line in [
        "WSK provider  ready, WSK 1.0, STATUS_SUCCESS (0x00000000)\n",
        "\nEndpoints     0 of 65536\n",
        "SAN           10.77.0.1; 1 of ",
    ] {
        assert!(output.contains(line), "{output}");
    }
    let value: serde_json::Value = serde_json::from_str(&san.run(&["status", "--json"]).done()).expect("JSON");
    assert_eq!(value["limits"]["MaxBacklog"], 200);
    assert_eq!((&value["addresses"][0], &value["counters"]["routes"]), (&"10.77.0.1".into(), &1.into()));
}

#[test]
fn routes_are_listed_and_changed() {
    let san = San::new().with_route(ROUTE).with_route("fd00:7::/64 fe80::/64 port=28058 san-only");
    let listed = "\
SAN                      native                    port  TCP/IP    from
fd00:7::/64              fe80::/64                28058  no        registry
10.77.0.0/16             127.0.0.0/16               own  reaches   registry
";
    assert_eq!(san.run(&["route", "list"]).done(), listed);
    let added = san.run(&["route", "add", "10.78.0.0/16", "127.0.0.0/16", "--port", "9"]);
    assert_eq!(
        added.errors,
        "sanctl: it lasts until the driver is unloaded; to keep it, add this line to the registry value Routes:\n"
    );
    assert_eq!(added.done(), "10.78.0.0/16 127.0.0.0/16 port=9\n");
    san.run(&["route", "remove", "10.77.0.0/16"]).done();
    let errors = san.run(&["route", "remove", "10.79.0.0/16"]).failed();
    assert!(errors.contains("STATUS_OBJECT_NAME_NOT_FOUND") && errors.contains("sanctl route list"), "{errors}");
    let errors = san.run(&["route", "add", "10.77.0.0/16", "127.0.0.0/16"]).failed();
    assert!(errors.contains("STATUS_OBJECT_NAME_COLLISION") && errors.contains("remove it first"), "{errors}");
}

/// Two machines, one of which listens: how each says that it is connected.
fn talk(san: &San, listen: &[&str], connect: &[&str], to: impl FnOnce(String) -> String) -> [String; 2] {
    let (listener, address) = san.listening(&[&["listen"], listen].concat(), Cursor::new(bytes(1, 300_000)));
    let address = to(address);
    let connector = san.start(&[&["connect", &address], connect].concat(), Cursor::new(bytes(2, 300_000))).end();
    let listener = listener.end();
    let said = [without_numbers(&listener.errors), without_numbers(&connector.errors)];
    assert!(connector.output == bytes(1, 300_000), "what the listener sent: {said:?}");
    assert!(listener.output == bytes(2, 300_000), "what the connector sent: {said:?}");
    said
}

#[test]
fn two_machines_talk_whichever_way_and_say_which() {
    let native = San::new();
    for (way, path) in [("--san", "SAN"), ("--stream", "TCP/IP through the driver"), ("--tcp", "TCP/IP (--tcp)")] {
        let [listener, connector] = talk(&native, &["127.0.0.1:0", way], &[way], |address| address);
        assert!(
            listener.starts_with(&format!("sanctl: listening on 0:0 by {path}\nsanctl: connected from 0:0 by ")),
            "{listener}"
        );
        assert_eq!(connector, format!("sanctl: connected to 0:0 from 0:0 by {path}\n"));
    }
    // Nothing forced: TCP/IP without a subnet, and the SAN where a route of the driver is one.
    let [listener, connector] = talk(&native, &["127.0.0.1:0"], &[], |address| address);
    assert_eq!(
        listener,
        "sanctl: listening on 0:0 by TCP/IP (0 is in no SAN subnet)\nsanctl: connected from 0:0 by TCP/IP\n"
    );
    assert_eq!(connector, "sanctl: connected to 0:0 from 0:0 by TCP/IP (0 is in no SAN subnet)\n");
    let routed = San::new().with_route(ROUTE);
    let [listener, connector] = talk(&routed, &["0.0.0.0:0"], &[], |address| address.replace("0.0.0.0", "10.77.0.1"));
    assert_eq!(listener, "sanctl: listening on 0:0 by SAN and by TCP/IP\nsanctl: connected from 0:0 by SAN\n");
    assert_eq!(connector, "sanctl: connected to 0:0 from 0:0 by SAN\n");
}

#[test]
fn where_the_san_fails_tcp_is_taken_and_the_reason_told() {
    // A SAN that is there on one machine alone: nobody is at the native port.
    let san = San::new().with_route("127.0.0.0/8 127.0.0.0/8");
    let [listener, connector] = talk(&san, &["127.0.0.1:0", "--tcp"], &[], |address| address);
    assert_eq!(listener, "sanctl: listening on 0:0 by TCP/IP (--tcp)\nsanctl: connected from 0:0 by TCP/IP\n");
    assert!(
        connector.contains(" by TCP/IP (the SAN failed: cannot connect to 0:0: WSAETIMEDOUT (0), STATUS_IO_TIMEOUT"),
        "{connector}"
    );
    // Where TCP/IP does not reach, the failure is certain, and TCP/IP is not tried.
    let only = San::new().with_route("127.0.0.0/8 127.0.0.0/8 san-only");
    let errors = only.run(&["connect", &format!("127.0.0.1:{}", free_port())]).failed();
    assert!(errors.contains("WSAECONNRESET (10054)"), "{errors}");
    assert!(errors.contains("\nhint: "), "{errors}");
}

#[test]
fn a_file_is_sent_and_compared() {
    let (san, folder) = (San::new().with_route(ROUTE), Folder::new());
    let content = bytes(9, 3_000_000);
    let (file, copy) = (folder.path("file"), folder.path("copy"));
    fs::write(&file, &content).expect("writes");
    let (receiver, address) = san.listening(&["receive", "0.0.0.0:0", &copy], io::empty());
    let sent = san.run(&["send", &file, &address.replace("0.0.0.0", "10.77.0.1")]);
    assert_eq!(without_numbers(&sent.errors), "sanctl: connected to 0:0 from 0:0 by SAN\n");
    let sent = sent.done();
    let copied = receiver.end().done();
    assert!(sent.starts_with(&format!("sent {file}: 2.86 MiB in ")), "{sent}");
    assert_eq!(sent.lines().last(), copied.lines().last(), "the same sum");
    assert!(fs::read(&copy).expect("reads") == content);
    let (receiver, address) = san.listening(&["receive", "--tcp", "127.0.0.1:0", &copy], io::empty());
    let refused = san.run(&["send", "--tcp", &file, &address]).failed();
    assert!(refused.contains("the receiver refuses: there is a file of that name\nhint: "), "{refused}");
    receiver.end().failed();
}

#[test]
fn ping_and_perf_measure_what_goes_by_the_san() {
    let san = San::new();
    let (echo, address) = san.listening(&["echo", "--once", "--san", "127.0.0.1:0"], io::empty());
    let ping = san.run(&["ping", "--san", "--count", "50", "--interval", "0.001", &address]).done();
    echo.end().done();
    assert!(ping.starts_with(&format!("50 messages of 64 bytes to {address} and back by SAN\n")), "{ping}");
    assert!(ping.contains(&"█".repeat(32)) && ping.contains("\nmin ") && ping.contains("  p99 "), "{ping}");
    let (server, address) = san.listening(&["perf", "--serve", "--once", "--san", "127.0.0.1:0"], io::empty());
    let perf = san.run(&["perf", "--san", "--sizes", "1024,65536", "--seconds", "0.1", "--json", &address]).done();
    server.end().done();
    let value: serde_json::Value = serde_json::from_str(&perf).expect("JSON");
    assert_eq!(value["path"], "san");
    let runs = value["runs"].as_array().expect("runs");
    assert_eq!(runs.iter().map(|run| run["message_bytes"].as_u64()).collect::<Vec<_>>(), [Some(1024), Some(65536)]);
    assert!(runs.iter().all(|run| run["bytes_per_second"].as_f64() > Some(0.0)));
}

#[test]
fn top_shows_the_endpoints_of_its_machine() {
    let output = San::new().run(&["top", "--once", "--interval", "0.05"]).done();
    assert_eq!(output, "0 endpoints, 0 B/s sent, 0 B/s received\n");
    let begun = Instant::now();
    let lines = San::new().run(&["top", "--json", "--count", "2", "--interval", "0.05"]).done();
    assert!(begun.elapsed() >= Duration::from_millis(100) && begun.elapsed() < PATIENCE);
    for line in lines.lines() {
        let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(value["endpoints"], serde_json::json!([]));
    }
    assert_eq!(lines.lines().count(), 2);
}

/// Runs sanctl in a process of its own on a machine that goes on.
fn on(machine: &Machine, arguments: &[&str]) -> Vec<u8> {
    let device = HarnessDevice::open(&Arc::new(machine.process())).expect("the device opens");
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let terminals = Terminals::default();
    let streams = Streams { input: Box::new(io::empty()), output: &mut output, errors: &mut errors, terminals };
    let arguments = std::iter::once(&"sanctl").chain(arguments).map(Into::into);
    let code = sanctl::run(arguments, || Ok(Provider::new(Arc::new(device))), streams);
    assert_eq!(code, DONE, "{}", String::from_utf8_lossy(&errors));
    output
}

#[test]
fn top_shows_the_rates_of_other_processes() {
    let machine = Machine::builder().parameter("sanwsk", "NativePort", Value::Number(free_port().into())).build();
    let driver = machine.load(image(), "sanwsk").expect("the driver loads");
    let ready = || {
        let status: serde_json::Value = serde_json::from_slice(&on(&machine, &["status", "--json"])).expect("JSON");
        status["wsk_provider"]["state"] == "ready"
    };
    let deadline = Instant::now() + PATIENCE;
    while !ready() {
        assert!(Instant::now() < deadline, "the provider NPI is captured");
    }
    let address = format!("127.0.0.1:{}", free_port());
    thread::scope(|scope| {
        let served = scope.spawn(|| on(&machine, &["perf", "--serve", "--once", "--stream", &address]));
        let deadline = Instant::now() + PATIENCE;
        let table = |arguments: &[&str]| -> serde_json::Value {
            serde_json::from_slice(&on(&machine, arguments)).expect("JSON")
        };
        let once = ["top", "--once", "--json", "--interval", "0.05"];
        while table(&once)["endpoints"].as_array().is_none_or(Vec::is_empty) {
            assert!(Instant::now() < deadline, "a listener");
        }
        let sending =
            scope.spawn(|| on(&machine, &["perf", "--stream", "--sizes", "65536", "--seconds", "1", &address]));
        loop {
            assert!(Instant::now() < deadline, "three endpoints, and a rate");
            let value = table(&once);
            let endpoints = value["endpoints"].as_array().expect("endpoints");
            let of = |name: &str, part: &str| endpoints.iter().filter(|one| one[name] == part).count();
            if endpoints.len() == 3 && endpoints[0]["bytes_sent_per_second"].as_f64() > Some(0.0) {
                assert_eq!((of("kind", "stream"), of("kind", "listener"), of("state", "listening")), (2, 1, 1));
                assert_ne!(endpoints[0]["process"], endpoints[1]["process"], "one process sends, another receives");
                break;
            }
        }
        assert!(on(&machine, &["top", "--once", "--interval", "0.05"]).starts_with(b"3 endpoints, "));
        sending.join().expect("no panic");
        served.join().expect("no panic");
    });
    machine.unload(&driver).expect("it is unloaded");
    assert!(machine.wait_unloaded(&driver, PATIENCE));
    assert!(machine.violation().is_none());
}

#[test]
fn what_cannot_be_done_says_what_to_do() {
    let san = San::new();
    let nobody = format!("127.0.0.1:{}", free_port());
    for (arguments, said) in [
        (["connect", &nobody, "--tcp"], "by TCP/IP: WSAECONNREFUSED (10061)\nhint: nobody listens"),
        (
            ["connect", &nobody, "--stream"],
            "WSAECONNREFUSED (10061), STATUS_CONNECTION_REFUSED (0xc0000236)\nhint: nobody listens",
        ),
        (
            ["connect", &nobody, "--san"],
            "WSAETIMEDOUT (10060), STATUS_IO_TIMEOUT (0xc00000b5)\nhint: there was no answer",
        ),
        (["listen", "192.0.2.7:5000", "--san"], "WSAEADDRNOTAVAIL (10049)"),
        (
            ["listen", "192.0.2.7:5000", "--tcp"],
            "by TCP/IP: WSAEADDRNOTAVAIL (10049)\nhint: listen on one of this machine's",
        ),
    ] {
        let errors = san.run(&arguments).failed();
        assert!(errors.contains(said), "{arguments:?}: {errors}");
    }
    // A port that somebody has.
    let (holder, address) = san.listening(&["echo", "--once", "--stream", "127.0.0.1:0"], io::empty());
    let errors = san.run(&["echo", "--stream", &address]).failed();
    assert!(errors.contains("WSAEADDRINUSE (10048)") && errors.contains("another program has that port"), "{errors}");
    san.run(&["connect", "--stream", &address]).done();
    holder.end().done();
}
