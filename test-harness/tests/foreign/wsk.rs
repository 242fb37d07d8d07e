//! A plain WDM driver with sockets that block: `tests/drivers/wsk_blocking.c`.
#![allow(unsafe_code)] // a request whose buffers are addresses of nothing

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::channel;
use std::time::Duration;

use driver_build::DriverModel;
use test_harness::Machine;
use test_harness::machine::{Handle, Process, Unload};
use test_harness::nt::status::{STATUS_ACCESS_VIOLATION, STATUS_CONNECTION_INVALID, STATUS_NOT_FOUND, STATUS_SUCCESS};

use crate::bed::{self, READ_WRITE};

const LISTEN: u32 = 1;
const CONNECT: u32 = 2;
const ECHO: u32 = 3;
const DISCONNECT: u32 = 4;
const STOP: u32 = 5;
const METHOD_NEITHER: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(20);

fn control(process: &Process, handle: Handle, code: u32, input: &[u8], output: usize) -> (i32, Vec<u8>) {
    let (done, told) = channel();
    let issued = process.control_async(handle, code, input.to_vec(), vec![0; output], move |(status, _, output)| {
        let _ = done.send((status.status, output[..status.information.min(output.len())].to_vec()));
    });
    issued.expect("the request is issued");
    told.recv_timeout(PATIENCE).expect("the request ends")
}

fn code(function: u32) -> u32 {
    0x22 << 16 | function << 2
}

fn connect(process: &Process, handle: Handle, host: &str, port: u16) -> i32 {
    let mut input = port.to_le_bytes().to_vec();
    input.extend(host.bytes());
    input.push(0);
    control(process, handle, code(CONNECT), &input, 0).0
}

/// One pass: serve a host's client, connect to the driver's own server and to one of the host's.
#[test]
fn its_threads_sockets_and_controls_run_to_the_end() {
    let machine = Machine::new();
    let ended = std::panic::catch_unwind(AssertUnwindSafe(|| use_the_driver(&machine)));
    if let Some(violation) = machine.violation() {
        panic!("{violation}");
    }
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

fn use_the_driver(machine: &Machine) {
    let driver = machine.load(bed::build("wsk_blocking", DriverModel::Wdm), "wsk_blocking").expect("the driver loads");
    assert_eq!(driver.missing_imports(), []);
    let process = machine.process();
    let handle = process.open(r"\\.\WskBlocking", READ_WRITE).expect("the device opens");
    let echo = |bytes: &[u8]| control(&process, handle, code(ECHO) | METHOD_NEITHER, bytes, bytes.len());

    let (status, port) = control(&process, handle, code(LISTEN), &[], 2);
    assert_eq!(status, STATUS_SUCCESS);
    let port = u16::from_le_bytes([port[0], port[1]]);

    // A client of the host's.
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the driver listens");
    stream.write_all(b"from the host").expect("it receives");
    let mut back = [0; 13];
    stream.read_exact(&mut back).expect("it sends back");
    assert_eq!(&back, b"from the host");
    drop(stream);

    // The driver's own.
    assert_eq!(echo(b"too early").0, STATUS_CONNECTION_INVALID);
    assert_eq!(connect(&process, handle, "no.such.host", port), STATUS_NOT_FOUND);
    assert_eq!(connect(&process, handle, "127.0.0.1", port), STATUS_SUCCESS);
    let bytes: Vec<u8> = (0..100_000_u32).map(|index| index.to_le_bytes()[0]).collect();
    for length in [1, 4096, 30_000] {
        assert_eq!(echo(&bytes[..length]), (STATUS_SUCCESS, bytes[..length].to_vec()), "{length} bytes");
    }
    assert_eq!(control(&process, handle, code(DISCONNECT), &[], 0).0, STATUS_SUCCESS);

    // A server of the host's.
    let server = TcpListener::bind("127.0.0.1:0").expect("the host listens");
    let echoing = std::thread::spawn({
        let server = server.try_clone().expect("a second handle");
        move || {
            let (mut stream, _) = server.accept().expect("the driver connects");
            let mut buffer = [0; 1000];
            while let Ok(length) = stream.read(&mut buffer) {
                if length == 0 || stream.write_all(&buffer[..length]).is_err() {
                    return;
                }
            }
        }
    });
    let port = server.local_addr().expect("it is bound").port();
    assert_eq!(connect(&process, handle, "127.0.0.1", port), STATUS_SUCCESS);
    assert_eq!(echo(&bytes[..5000]), (STATUS_SUCCESS, bytes[..5000].to_vec()));

    // Memory that is not there: MmProbeAndLockPages raises, and the driver catches it.
    let (done, told) = channel();
    // SAFETY: nothing lies at the addresses, and the driver has to find that out.
    let issued = unsafe {
        process.device_io_control(
            handle,
            code(ECHO) | METHOD_NEITHER,
            0x1000 as *const u8,
            64,
            0x1000 as *mut u8,
            64,
            Box::new(move |status| {
                let _ = done.send(status.status);
            }),
        )
    };
    issued.expect("the request is issued");
    assert_eq!(told.recv_timeout(PATIENCE), Ok(STATUS_ACCESS_VIOLATION));
    assert_eq!(control(&process, handle, code(DISCONNECT), &[], 0).0, STATUS_SUCCESS);
    echoing.join().expect("the host's server ends");
    assert_eq!(control(&process, handle, code(STOP), &[], 0).0, STATUS_SUCCESS);

    // It may still listen when it is unloaded.
    assert_eq!(control(&process, handle, code(LISTEN), &[], 2).0, STATUS_SUCCESS);
    drop(process);
    let unloaded = machine.unload(&driver);
    assert_eq!(unloaded, Ok(Unload::Done), "{:?}", machine.violation());
    let said = machine.debug_output().concat();
    assert!(said.starts_with("accepted from 127.0.0.1\n"), "{said}");
    assert!(said.contains(&format!("connecting to localhost, port {port}\n")), "{said}");
}
