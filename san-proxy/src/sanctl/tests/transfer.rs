//! `send` and `receive`.

use super::super::transfer::hex;
use super::*;
use sha2::{Digest, Sha256};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("sanctl-{}-{number}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        fs::create_dir(folder.join("in")).unwrap();
        Self(folder)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.0.join(name), bytes).unwrap();
        self.path(name)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Names of what was received.
    fn received(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.join("in")).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 251 + at).to_le_bytes()[0]).collect()
}

fn sum(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

#[test]
fn a_file_arrives_whole_whichever_way_it_takes() {
    let (provider, device) = FakeDevice::provider();
    for (way, length, path) in
        [("--san", 300_000, "san"), ("--stream", 1, "stream"), ("--tcp", 1_000_000, "tcp"), ("--tcp", 0, "tcp")]
    {
        let folder = Folder::new();
        let content = bytes(length);
        let file = folder.file("some file.bin", &content);
        let (receiver, address) = Running::listening(&["receive", way, "127.0.0.1:0", &folder.path("in")], &provider);
        let sent = sanctl_with(&["send", way, &file, &address, "--json"], Ok(provider.clone()), io::empty()).json();
        let told = receiver.end().done();
        assert_eq!(
            (&sent["bytes"], &sent["sha256"], &sent["path"]),
            (&length.into(), &sum(&content).into(), &path.into())
        );
        assert!(told.contains(&format!("SHA-256 {}, the same at both ends\n", sum(&content))), "{told}");
        assert_eq!(folder.received(), ["some file.bin"]);
        assert!(fs::read(folder.0.join("in/some file.bin")).unwrap() == content);
    }
    assert_eq!(device.endpoints(), 0);
}

#[test]
fn what_is_there_is_replaced_by_force_alone() {
    let (provider, _) = FakeDevice::provider();
    let folder = Folder::new();
    let (new, old) = (folder.file("new", b"new"), folder.file("in/old", b"old"));
    let (receiver, address) = Running::listening(&["receive", "--tcp", "127.0.0.1:0", &old], &provider);
    let errors = sanctl_with(&["send", "--tcp", &new, &address], Ok(provider.clone()), io::empty()).failed();
    assert!(
        errors.contains("the receiver refuses: there is a file of that name\nhint: receive it under another name"),
        "{errors}"
    );
    let errors = receiver.end().failed();
    assert!(
        errors.contains(&format!("sanctl: {old} is there already\nhint: give another name, or --force")),
        "{errors}"
    );
    assert_eq!((fs::read(&old).unwrap(), folder.received()), (b"old".to_vec(), vec!["old".to_owned()]));

    let (receiver, address) = Running::listening(&["receive", "--tcp", "127.0.0.1:0", &old, "--force"], &provider);
    let sent = sanctl_with(&["send", "--tcp", &new, &address, "--quiet"], Ok(provider), io::empty());
    assert_eq!(sent, Ran { code: DONE, output: String::new(), errors: String::new() });
    assert!(receiver.end().done().starts_with(&format!("received {old}: 3 B in ")));
    assert_eq!((fs::read(&old).unwrap(), folder.received()), (b"new".to_vec(), vec!["old".to_owned()]));
}

/// A sender that says what it wants; what the receiver says then.
fn receive_from(folder: &Folder, say: impl FnOnce(&mut TcpStream)) -> String {
    let (receiver, address) =
        Running::listening(&["receive", "--tcp", "127.0.0.1:0", &folder.path("in")], &FakeDevice::provider().0);
    let mut stream = TcpStream::connect(address).unwrap();
    say(&mut stream);
    drop(stream);
    let errors = receiver.end().failed();
    assert_eq!(folder.received(), [""; 0], "nothing is left");
    errors
}

fn header(name: &str, length: u64) -> Vec<u8> {
    let mut header = b"SANFILE1".to_vec();
    header.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
    header.extend(length.to_le_bytes());
    header.extend(name.as_bytes());
    header
}

#[test]
fn what_is_cut_short_or_changed_or_leads_elsewhere_is_dropped() {
    let folder = Folder::new();
    let cut = receive_from(&folder, |stream| {
        stream.write_all(&header("file", 100)).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        stream.write_all(&[7; 60]).unwrap();
    });
    assert!(cut.contains("the connection ended early: 60 of 100 bytes have come"), "{cut}");

    let changed = receive_from(&folder, |stream| {
        stream.write_all(&header("file", 4)).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        stream.write_all(b"haha").unwrap();
        stream.write_all(&Sha256::digest(b"hehe")).unwrap();
        let mut verdict = [0];
        stream.read_exact(&mut verdict).unwrap();
        assert_eq!(verdict, [4]);
    });
    assert!(
        changed.contains("the SHA-256 sums differ, and the file is dropped\nhint: have it sent again"),
        "{changed}"
    );

    let elsewhere = receive_from(&folder, |stream| {
        stream.write_all(&header("../file", 4)).unwrap();
        let mut verdict = [0];
        stream.read_exact(&mut verdict).unwrap();
        assert_eq!(verdict, [3]);
    });
    assert!(
        elsewhere.contains("the sender's name for the file is not taken: \"../file\"\nhint: name the file here"),
        "{elsewhere}"
    );
    assert!(!Path::new(&folder.path("file")).exists());

    let stranger = receive_from(&folder, |stream| stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap());
    assert!(stranger.contains("the other side is no sanctl send\nhint: run sanctl of the same version"), "{stranger}");
}

#[test]
fn a_receiver_that_is_none_and_a_file_that_is_none_are_told() {
    let folder = Folder::new();
    let file = folder.file("file", b"content");
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap().to_string();
    let server = thread::spawn(move || server.accept().unwrap().0.write_all(b"220 ready\r\n").unwrap());
    let errors = sanctl(&["send", "--tcp", &file, &address]).failed();
    server.join().unwrap();
    assert!(errors.contains("the other side is no sanctl receive"), "{errors}");

    let errors = sanctl(&["send", &folder.path("nothing"), &address]).failed();
    assert!(errors.starts_with(&format!("sanctl: cannot open {}: ", folder.path("nothing"))), "{errors}");
    let errors = sanctl(&["send", &folder.path("in"), &address]).failed();
    assert!(errors.contains("it is no such file\nhint: give a file"), "{errors}");
}

#[test]
fn progress_is_drawn_on_a_terminal_alone() {
    let (provider, _) = FakeDevice::provider();
    for (terminal, drawn) in [(true, true), (false, false)] {
        let folder = Folder::new();
        let file = folder.file("file", &bytes(500_000));
        let terminals = Terminals { errors: terminal, output: false };
        let (receiver, address) =
            Running::listening(&["receive", "--tcp", "127.0.0.1:0", &folder.path("in")], &provider);
        let sent =
            Running::start(&["send", "--tcp", &file, &address], Ok(provider.clone()), io::empty(), terminals).end();
        receiver.end().done();
        assert_eq!(sent.errors.contains("of 488.28 KiB ["), drawn, "{}", sent.errors);
        assert_eq!(sent.errors.contains("100 %"), drawn, "{}", sent.errors);
        assert_eq!(sent.errors.contains('\x1b') || sent.errors.contains('\r'), drawn, "{:?}", sent.errors);
    }
}
