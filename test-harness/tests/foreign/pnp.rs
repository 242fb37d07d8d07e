//! A driver of Plug and Play on the framework: `tests/drivers/kmdf_pnp.c`.

use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use driver_build::DriverModel;
use test_harness::Machine;
use test_harness::machine::{Handle, Process, Unload};
use test_harness::nt::status::{
    STATUS_CANCELLED, STATUS_DEVICE_BUSY, STATUS_INVALID_DEVICE_REQUEST, STATUS_SUCCESS, STATUS_UNSUCCESSFUL,
};
use test_harness::nt::types::GUID;

use crate::bed::{self, READ_WRITE};

const INTERFACE: GUID =
    GUID { Data1: 0x5a1c_2d5e, Data2: 0x0b6f, Data3: 0x4d3a, Data4: [0x9c, 0x41, 0x7f, 0x2e, 0x6f, 0x0a, 0x1b, 0x2c] };
const BY_TIMER: u32 = 1;
const BY_WORK_ITEM: u32 = 2;
const BY_DPC: u32 = 3;
const REFUSE_REMOVAL: u32 = 4;
const ALLOW_REMOVAL: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(20);

/// A device control with METHOD_BUFFERED: status and Information.
fn control(process: &Process, handle: Handle, function: u32) -> (i32, usize) {
    let (done, told) = channel();
    let code = 0x22 << 16 | function << 2;
    let issued = process.control_async(handle, code, vec![], vec![0; 8], move |(status, ..)| {
        let _ = done.send((status.status, status.information));
    });
    issued.expect("the request is issued");
    told.recv_timeout(PATIENCE).expect("the request ends")
}

/// Writes bytes, or reads up to 16: what comes of it, with the bytes that were moved.
fn transfer(process: &Process, handle: Handle, written: Option<&[u8]>) -> Receiver<(i32, Vec<u8>)> {
    let (done, told) = channel();
    let buffer = written.map_or_else(|| vec![0; 16], <[u8]>::to_vec);
    let issued = process.transfer_async(handle, written.is_some(), buffer, move |(status, mut buffer)| {
        buffer.truncate(status.information);
        let _ = done.send((status.status, buffer));
    });
    issued.expect("the request is issued");
    told
}

#[test]
fn a_root_device_is_added_started_used_and_removed() {
    let machine = Machine::new();
    let driver = machine.load(bed::build("kmdf_pnp", DriverModel::Kmdf), "kmdf_pnp").expect("the driver loads");
    assert!(machine.adds_devices(&driver));
    assert_eq!(machine.interfaces(&INTERFACE), Vec::<String>::new());
    let device = machine.add_device(&driver).unwrap_or_else(|status| panic!("{status:#x}: {:?}", machine.violation()));
    let paths = machine.interfaces(&INTERFACE);
    let [path] = &paths[..] else { panic!("{paths:?}") };
    assert!(path.starts_with(r"\\?\ROOT#") && path.ends_with("{5a1c2d5e-0b6f-4d3a-9c41-7f2e6f0a1b2c}"), "{path}");
    // A driver with a device is not unloaded.
    assert_eq!(machine.unload(&driver), Err(STATUS_INVALID_DEVICE_REQUEST));

    let process = machine.process();
    let handle = process.open(path, READ_WRITE).expect("the interface opens");
    assert_eq!(control(&process, handle, BY_TIMER), (STATUS_SUCCESS, 0), "a passive timer");
    assert_eq!(control(&process, handle, BY_WORK_ITEM), (STATUS_SUCCESS, 0));
    assert_eq!(control(&process, handle, BY_DPC), (STATUS_SUCCESS, 2));
    assert_eq!(control(&process, handle, 99).0, STATUS_INVALID_DEVICE_REQUEST);

    // What was written is read; a read before it waits for it.
    assert_eq!(
        transfer(&process, handle, Some(b"first")).recv_timeout(PATIENCE),
        Ok((STATUS_SUCCESS, b"first".to_vec()))
    );
    assert_eq!(transfer(&process, handle, None).recv_timeout(PATIENCE), Ok((STATUS_SUCCESS, b"first".to_vec())));
    let read = transfer(&process, handle, None);
    assert_eq!(read.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(
        transfer(&process, handle, Some(b"second")).recv_timeout(PATIENCE),
        Ok((STATUS_SUCCESS, b"second".to_vec()))
    );
    assert_eq!(read.recv_timeout(PATIENCE), Ok((STATUS_SUCCESS, b"second".to_vec())));
    // One that is cancelled does not.
    let read = transfer(&process, handle, None);
    process.cancel(handle, None).expect("the read waits");
    assert_eq!(read.recv_timeout(PATIENCE).map(|read| read.0), Ok(STATUS_CANCELLED));

    assert_eq!(control(&process, handle, REFUSE_REMOVAL), (STATUS_SUCCESS, 0));
    assert_eq!(machine.remove_device(&driver, device), Err(STATUS_DEVICE_BUSY), "it is open");
    process.close(handle).expect("the handle closes");
    assert_eq!(machine.remove_device(&driver, device), Err(STATUS_UNSUCCESSFUL), "the driver refuses");
    let handle = process.open(path, READ_WRITE).expect("it is still there");
    assert_eq!(control(&process, handle, ALLOW_REMOVAL), (STATUS_SUCCESS, 0));
    drop(process);
    let removed = machine.remove_device(&driver, device);
    assert_eq!(removed, Ok(()), "{:?}", machine.violation());
    assert_eq!(machine.interfaces(&INTERFACE), Vec::<String>::new());
    let said = machine.debug_output().concat();
    let said: Vec<&str> = said.lines().filter(|line| !line.starts_with("interface ")).collect();
    assert_eq!(
        said,
        [
            "prepare hardware",
            "D0 entry",
            "self-managed I/O init",
            "query remove",
            "self-managed I/O suspend",
            "D0 exit",
            "release hardware",
            "self-managed I/O cleanup",
            "device cleanup",
        ]
    );
    let unloaded = machine.unload(&driver);
    assert_eq!(unloaded, Ok(Unload::Done), "{:?}", machine.violation());
}
