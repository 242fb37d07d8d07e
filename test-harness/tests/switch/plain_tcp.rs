//! Programs that know TCP alone: both ways, where the path is TCP.

use crate::bed::{Witness, bed, config, free_port, read_all, switch};
use crate::support::{PATIENCE, eventually, pattern};
use san_proxy::{SanStream, Switch};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

/// A child process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a program is there; says so if not.
fn is_installed(program: &str) -> bool {
    let there = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let there = there.is_ok_and(|status| status.success());
    if !there {
        println!("skipped: {program} is not installed");
    }
    there
}

/// Connects by TCP, after the SAN has found nobody at that port.
fn by_tcp(switch: &Switch, address: SocketAddr) -> SanStream {
    let stream = switch.connect(address).expect("connects");
    assert!(!stream.is_san() && stream.san_failure().is_some());
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream
}

#[test]
fn std_sockets_talk_to_the_switchs() {
    let bed = bed();
    let switch = switch(&bed, config());
    let data = pattern(21, 1 << 20);

    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let mut client = by_tcp(&switch, listener.local_addr().expect("its address"));
    let (server, _) = listener.accept().expect("accepts");
    thread::scope(|scope| {
        scope.spawn(|| {
            client.write_all(&data).expect("writes");
            client.shutdown(Shutdown::Write).expect("shuts down");
        });
        assert!(read_all(&server) == data);
    });
    drop((client, server));

    let listener = switch.bind("127.0.0.1:0").expect("listens");
    assert!(listener.is_san());
    let mut client = TcpStream::connect(listener.local_addr().expect("its address")).expect("connects");
    let (server, _) = listener.accept().expect("accepts");
    assert!(!server.is_san());
    thread::scope(|scope| {
        scope.spawn(|| {
            client.write_all(&data).expect("writes");
            client.shutdown(Shutdown::Write).expect("shuts down");
        });
        assert!(read_all(&server) == data);
    });
    drop((client, server, listener, switch));
    bed.finish();
}

#[test]
fn a_web_server_not_written_here_is_asked() {
    if !is_installed("python3") {
        return;
    }
    let bed = bed();
    let switch = switch(&bed, config());
    let folder = std::env::temp_dir().join(format!("sanwsk-switch-web-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let content = pattern(22, 300_000);
    std::fs::write(folder.join("file.bin"), &content).expect("a file");
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let server = Command::new("python3")
        .args(["-m", "http.server", "--bind", "127.0.0.1"])
        .arg(address.port().to_string())
        .current_dir(&folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let server = Running(server.expect("python3 starts"));
    eventually("the server listens", || TcpStream::connect(address).is_ok());

    let mut stream = by_tcp(&switch, address);
    stream.write_all(b"GET /file.bin HTTP/1.0\r\n\r\n").expect("asks");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("reads the answer");
    let body = answer.windows(4).position(|end| end == b"\r\n\r\n").expect("a header") + 4;
    assert!(answer.starts_with(b"HTTP/1.0 200 ") && answer[body..] == content);
    drop((stream, server, switch));
    std::fs::remove_dir_all(&folder).expect("the folder is removed");
    bed.finish();
}

#[test]
fn a_web_client_not_written_here_is_served() {
    if !is_installed("curl") {
        return;
    }
    let bed = bed();
    let switch = switch(&bed, config());
    let listener = switch.bind("127.0.0.1:0").expect("listens");
    let content = pattern(23, 300_000);
    let file: PathBuf = std::env::temp_dir().join(format!("sanwsk-switch-curl-{}", std::process::id()));
    let url = format!("http://{}/file.bin", listener.local_addr().expect("its address"));
    let status = thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("accepts");
            assert!(!stream.is_san());
            let mut request = BufReader::new(stream.try_clone().expect("a clone")).lines();
            assert_eq!(request.next().expect("a request").expect("reads"), "GET /file.bin HTTP/1.1");
            while !request.next().expect("a header").expect("reads").is_empty() {}
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", content.len()).expect("writes");
            stream.write_all(&content).expect("writes");
        });
        let curl = ["--silent", "--fail", "--noproxy", "*", "--max-time", "20", "--output"];
        Command::new("curl").args(curl).arg(&file).arg(&url).status().expect("curl runs")
    });
    assert!(status.success());
    assert!(std::fs::read(&file).expect("the file") == content);
    std::fs::remove_file(&file).expect("the file is removed");
    drop((listener, switch));
    bed.finish();
}

#[test]
fn a_target_that_the_san_does_not_serve_is_reached_by_tcp() {
    let witness = Witness::at([127, 0, 0, 1].into());
    let switch = Switch::new(None, config());
    let stream = switch.connect(witness.address).expect("connects");
    assert!(!stream.is_san() && witness.was_asked());
}
