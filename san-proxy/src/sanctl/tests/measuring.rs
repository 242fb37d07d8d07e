//! `ping`, `echo` and `perf`.

use super::*;
use std::net::TcpListener;

#[test]
fn ping_shows_how_long_every_answer_took() {
    let (provider, device) = FakeDevice::provider();
    for way in ["--san", "--tcp", "--stream"] {
        let (echo, address) = Running::listening(&["echo", "--once", way, "127.0.0.1:0"], &provider);
        let arguments = ["ping", way, "--count", "20", "--interval", "0.0001", "--size", "1000", &address];
        let output = sanctl_with(&arguments, Ok(provider.clone()), io::empty()).done();
        echo.end().done();
        let lines: Vec<_> = output.lines().collect();
        assert!(lines[0].starts_with(&format!("20 messages of 1000 bytes to {address} and back by ")), "{output}");
        let rows = &lines[1..lines.len() - 1];
        let counted: u64 = rows.iter().map(|row| row.split_whitespace().last().unwrap().parse::<u64>().unwrap()).sum();
        assert_eq!(counted, 20, "every answer is in the picture: {output}");
        assert!(rows.iter().any(|row| row.contains(&"█".repeat(32))), "the longest bar is whole: {output}");
        let units = without_numbers(lines[lines.len() - 1]).replace("ms", "us").replace("0 s", "0 us");
        assert_eq!(units, "min 0 us p0 0 us p0 0 us p0 0 us max 0 us");
    }
    assert_eq!(device.endpoints(), 0);
}

#[test]
fn ping_as_json_is_in_order() {
    let (provider, _) = FakeDevice::provider();
    let (echo, address) = Running::listening(&["echo", "--once", "--san", "127.0.0.1:0"], &provider);
    let arguments = ["ping", "--san", "-n", "10", "--interval", "0.0001", "--json", &address];
    let value = sanctl_with(&arguments, Ok(provider), io::empty()).json();
    echo.end().done();
    assert_eq!((&value["path"], &value["count"], &value["bytes"]), (&"san".into(), &10.into(), &64.into()));
    let times = ["min", "p50", "p90", "p99", "max"].map(|name| value["nanoseconds"][name].as_u64().unwrap());
    assert!(times.is_sorted() && times[0] > 0, "{times:?}");
}

#[test]
fn answers_that_are_wrong_or_do_not_come_are_told() {
    for (answer, said) in [
        (&[0xFF; 64][..], "answer 1 is not what was sent\nhint: the other side has to send back what it gets"),
        (&[], "the connection ended after 0 of 3 answers"),
    ] {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let mut stream = server.accept().unwrap().0;
            stream.read_exact(&mut [0; 64]).unwrap();
            stream.write_all(answer).unwrap();
        });
        let errors = sanctl(&["ping", "--tcp", "--count", "3", &address]).failed();
        server.join().unwrap();
        assert!(errors.contains(said), "{errors}");
    }
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let errors = sanctl(&["ping", "--tcp", "--timeout", "0.05", &address]).failed();
    assert!(
        errors.contains("cannot receive an answer by TCP/IP: WSAETIMEDOUT (10060)\nhint: there was no answer"),
        "{errors}"
    );
}

#[test]
fn perf_measures_each_size() {
    let (provider, device) = FakeDevice::provider();
    for way in ["--san", "--tcp", "--stream"] {
        let (server, address) = Running::listening(&["perf", "--serve", "--once", way, "127.0.0.1:0"], &provider);
        let arguments = ["perf", way, "--sizes", "100,20000", "--seconds", "0.02", &address];
        let output = sanctl_with(&arguments, Ok(provider.clone()), io::empty()).done();
        assert_eq!(server.end().done(), "");
        let lines: Vec<_> = output.lines().collect();
        assert_eq!(lines[0], "   message    messages    messages/s            rate");
        assert!(
            lines[1].trim_start().starts_with("100 B ") && lines[2].trim_start().starts_with("19.53 KiB "),
            "{output}"
        );
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().any(|line| line.contains(&"█".repeat(32))), "the best rate has the longest bar: {output}");
    }
    assert_eq!(device.endpoints(), 0);
}

#[test]
fn perf_as_json_adds_up() {
    let (provider, _) = FakeDevice::provider();
    let (server, address) = Running::listening(&["perf", "--serve", "--once", "--tcp", "127.0.0.1:0"], &provider);
    let arguments = ["perf", "--tcp", "--sizes", "4096", "--seconds", "0.02", "--json", &address];
    let value = sanctl_with(&arguments, Ok(provider), io::empty()).json();
    server.end().done();
    let run = &value["runs"][0];
    assert_eq!((&value["path"], &run["message_bytes"]), (&"tcp".into(), &4096.into()));
    assert_eq!(run["bytes"].as_u64().unwrap(), 4096 * run["messages"].as_u64().unwrap());
    assert!(run["seconds"].as_f64().unwrap() >= 0.02 && run["bytes_per_second"].as_f64().unwrap() > 0.0);
}

#[test]
fn perf_and_strangers_do_not_mistake_each_other() {
    let (provider, _) = FakeDevice::provider();
    let (server, address) = Running::listening(&["perf", "--serve", "--once", "--tcp", "127.0.0.1:0"], &provider);
    let stranger = sanctl_with(&["connect", "--tcp", &address], Ok(provider), Cursor::new(b"GET / HTTP/1.0\r\n\r\n"));
    drop(stranger);
    let errors = server.end().failed();
    assert!(
        errors.contains("the other side is no sanctl perf\nhint: the other side has to be sanctl perf ADDR:PORT"),
        "{errors}"
    );
}
