//! The I/O manager, with a small driver built into the program.
#![allow(unsafe_code)] // reads system buffers, as a driver does

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::device::{IoCreateDevice, IoCreateSymbolicLink, IoDeleteDevice, IoDeleteSymbolicLink};
use super::{device, driver_object};
use crate::machine::{Finished, LoadError, Machine, Process, Unload};
use crate::nt::irp::{self, IofCompleteRequest};
use crate::nt::mdl;
use crate::nt::pool::{ExAllocatePool2, ExFreePool};
use crate::nt::status::*;
use crate::nt::strings::RtlInitUnicodeString;
use crate::nt::types::*;
use crate::thread::kernel;
use crate::violation::Rule;

const fn code(function: u32, method: u32, access: u32) -> u32 {
    0x22 << 16 | access << 14 | function << 2 | method
}
const INVERT: u32 = code(0x800, METHOD_BUFFERED, 0);
const PEND: u32 = code(0x801, METHOD_BUFFERED, 0);
const FILL: u32 = code(0x802, METHOD_OUT_DIRECT, 0);
const SUM: u32 = code(0x803, METHOD_IN_DIRECT, FILE_WRITE_ACCESS);
const TOO_LONG: u32 = code(0x804, METHOD_BUFFERED, 0);
const FORGET: u32 = code(0x805, METHOD_BUFFERED, 0);
const WARN: u32 = code(0x806, METHOD_BUFFERED, 0);
const ALLOCATE: u32 = code(0x807, METHOD_BUFFERED, 0);
const OVERRUN: u32 = code(0x808, METHOD_BUFFERED, 0);
const PEND_DIRECT: u32 = code(0x80A, METHOD_OUT_DIRECT, 0);
const NEITHER: u32 = code(0x809, METHOD_NEITHER, 0);

/// The device's extension.
struct Extension {
    creates: AtomicUsize,
    cleanups: AtomicUsize,
    closes: AtomicUsize,
    pending: AtomicPtr<IRP>,
    /// Cleanups before the last cancellation, and MDLs locked in it.
    cancelled_after: AtomicUsize,
    locked_when_cancelled: AtomicUsize,
}

fn extension<'a>(target: *mut DEVICE_OBJECT) -> &'a Extension {
    // SAFETY: the device was created with room for it, zeroed, which is valid.
    unsafe { &*device(target).DeviceExtension.get().cast::<Extension>() }
}

fn wide(text: &str) -> (Vec<u16>, UNICODE_STRING) {
    let mut units: Vec<u16> = text.encode_utf16().chain([0]).collect();
    let string = UNICODE_STRING::zeroed();
    RtlInitUnicodeString(&string, units.as_mut_ptr());
    (units, string)
}

extern "win64" fn entry(driver: *mut DRIVER_OBJECT, _path: *mut UNICODE_STRING) -> NTSTATUS {
    let driver = driver_object(driver);
    let (_units, name) = wide(r"\Device\Sample");
    let created = std::cell::Cell::new(ptr::null_mut());
    let status = IoCreateDevice(driver, 64, Some(&name), 0x22, FILE_DEVICE_SECURE_OPEN, 0, &created);
    if status != STATUS_SUCCESS {
        return status;
    }
    let (_units, link) = wide(r"\DosDevices\Sample");
    let status = IoCreateSymbolicLink(&link, &name);
    if status != STATUS_SUCCESS {
        IoDeleteDevice(device(created.get()));
        return status;
    }
    for major in [IRP_MJ_CREATE, IRP_MJ_CLEANUP, IRP_MJ_CLOSE, IRP_MJ_DEVICE_CONTROL] {
        driver.MajorFunction[usize::from(major)].set(Some(dispatch));
    }
    driver.DriverUnload.set(Some(unload));
    STATUS_SUCCESS
}

extern "win64" fn unload(driver: *mut DRIVER_OBJECT) {
    let (_units, link) = wide(r"\DosDevices\Sample");
    IoDeleteSymbolicLink(&link);
    IoDeleteDevice(device(driver_object(driver).DeviceObject.get()));
}

fn complete(irp: &IRP, status: NTSTATUS, information: usize) -> NTSTATUS {
    irp.IoStatus.Status.set(status);
    irp.IoStatus.Information.set(information);
    IofCompleteRequest(irp, 0);
    status
}

extern "win64" fn cancel(target: *mut DEVICE_OBJECT, irp: *mut IRP) {
    let irp = irp::at(irp);
    irp::IoReleaseCancelSpinLock(irp.CancelIrql.get());
    let own = extension(target);
    own.pending.store(ptr::null_mut(), Ordering::Release);
    own.cancelled_after.store(own.cleanups.load(Ordering::Acquire), Ordering::Release);
    own.locked_when_cancelled.store(kernel().locked_pages.count(), Ordering::Release);
    complete(irp, STATUS_CANCELLED, 0);
}

fn bytes<'a>(address: PVOID, length: u32) -> &'a mut [u8] {
    if length == 0 {
        return &mut [];
    }
    // SAFETY: the I/O manager made a buffer of this length for the packet.
    unsafe { std::slice::from_raw_parts_mut(address.cast(), length as usize) }
}

extern "win64" fn dispatch(target: *mut DEVICE_OBJECT, packet: *mut IRP) -> NTSTATUS {
    let irp = irp::at(packet);
    let own = extension(target);
    let counter = match irp.current().MajorFunction.get() {
        IRP_MJ_CREATE => &own.creates,
        IRP_MJ_CLEANUP => &own.cleanups,
        IRP_MJ_CLOSE => &own.closes,
        _ => return control(own, irp),
    };
    counter.fetch_add(1, Ordering::AcqRel);
    complete(irp, STATUS_SUCCESS, 0)
}

fn control(own: &Extension, irp: &IRP) -> NTSTATUS {
    let view = irp.current().Parameters.device_io_control();
    let described = || mdl::at(irp.MdlAddress.get()).map_or(ptr::null_mut(), MDL::virtual_address);
    match view.IoControlCode {
        INVERT => {
            let length = view.InputBufferLength.min(view.OutputBufferLength);
            for byte in bytes(irp.SystemBuffer.get(), length) {
                *byte = !*byte;
            }
            complete(irp, STATUS_SUCCESS, length as usize)
        }
        PEND | PEND_DIRECT => {
            irp.mark_pending();
            own.pending.store(irp.as_ptr(), Ordering::Release);
            irp.CancelRoutine.store(cancel as *mut _, Ordering::Release);
            STATUS_PENDING
        }
        FILL => {
            bytes(described(), view.OutputBufferLength).fill(0x77);
            complete(irp, STATUS_SUCCESS, view.OutputBufferLength as usize)
        }
        SUM => {
            let sum = bytes(described(), view.OutputBufferLength).iter().map(|byte| usize::from(*byte)).sum();
            complete(irp, STATUS_SUCCESS, sum)
        }
        TOO_LONG => complete(irp, STATUS_SUCCESS, view.OutputBufferLength as usize + 1),
        FORGET => STATUS_SUCCESS,
        WARN => {
            bytes(irp.SystemBuffer.get(), 2).fill(9);
            complete(irp, STATUS_BUFFER_OVERFLOW, 2)
        }
        ALLOCATE => {
            ExAllocatePool2(0x40, 48, u32::from_le_bytes(*b"Leak"));
            complete(irp, STATUS_SUCCESS, 0)
        }
        OVERRUN => {
            let length = view.InputBufferLength.max(view.OutputBufferLength);
            bytes(irp.SystemBuffer.get(), length + 16).fill(1);
            complete(irp, STATUS_SUCCESS, 0)
        }
        NEITHER => complete(irp, STATUS_SUCCESS, usize::from(view.Type3InputBuffer == 0x1234)),
        _ => complete(irp, STATUS_INVALID_DEVICE_REQUEST, 0),
    }
}

const ACCESS: ACCESS_MASK = GENERIC_READ | GENERIC_WRITE;
const NAME: &str = r"\\.\Sample";

fn loaded() -> (Machine, crate::machine::Driver) {
    let machine = Machine::new();
    let driver = machine.load_builtin(entry, "sample").unwrap();
    (machine, driver)
}

fn later() -> (Arc<Mutex<Option<Finished>>>, impl FnOnce(Finished) + Send + 'static) {
    let slot = Arc::new(Mutex::new(None));
    let told = slot.clone();
    (slot, move |finished| *told.lock() = Some(finished))
}

#[test]
fn buffered_requests_copy_in_and_out() {
    let (machine, driver) = loaded();
    let process = machine.process();
    let handle = process.open(NAME, ACCESS).unwrap();
    assert_eq!(process.control(handle, INVERT, &[0, 1, 255], 10).unwrap(), [255, 254, 0]);
    assert_eq!(process.control(handle, INVERT, &[0, 1, 255], 2).unwrap(), [255, 254]);
    assert_eq!(process.control(handle, INVERT, &[], 0).unwrap(), Vec::<u8>::new());
    let (status, output) = process.control_status(handle, WARN, &[], 3).unwrap();
    assert_eq!((status.status, output), (STATUS_BUFFER_OVERFLOW, vec![9, 9, 0]), "a warning copies its output");
    assert_eq!(process.control(handle, 0x22_2bfc, &[1], 8), Err(STATUS_INVALID_DEVICE_REQUEST));
    process.close(handle).unwrap();
    assert_eq!(machine.unload(&driver), Ok(Unload::Done));
    assert_eq!(machine.stats().irps, 0);
}

#[test]
fn direct_requests_lock_the_callers_pages() {
    let (machine, _driver) = loaded();
    let process = machine.process();
    let handle = process.open(NAME, ACCESS).unwrap();
    assert_eq!(process.control(handle, FILL, &[], 10_000).unwrap(), vec![0x77; 10_000]);
    let (slot, done) = later();
    process.control_async(handle, SUM, vec![], vec![1; 50], done).unwrap();
    assert_eq!(slot.lock().take().unwrap().0.information, 50);
    let never: Box<dyn FnOnce(crate::IoStatus) + Send> = Box::new(|_| panic!("there is no request"));
    // SAFETY: the range is inaccessible, which the kernel has to find.
    let refused = unsafe { process.device_io_control(handle, FILL, ptr::null(), 0, 0x10 as *mut u8, 100, never) };
    assert_eq!(refused, Err(STATUS_ACCESS_VIOLATION));
    let text = "a constant";
    let never: Box<dyn FnOnce(crate::IoStatus) + Send> = Box::new(|_| panic!("there is no request"));
    // SAFETY: the range is read only, which the kernel has to find.
    let refused =
        unsafe { process.device_io_control(handle, INVERT, text.as_ptr(), 4, text.as_ptr().cast_mut(), 4, never) };
    assert_eq!(refused, Err(STATUS_ACCESS_VIOLATION));
    let (told, tell) = std::sync::mpsc::channel();
    let neither = Box::new(move |status: crate::IoStatus| told.send(status).unwrap());
    // SAFETY: the driver only compares the address.
    unsafe { process.device_io_control(handle, NEITHER, 0x1234 as *const u8, 9, ptr::null_mut(), 0, neither) }.unwrap();
    assert_eq!(tell.recv().unwrap().information, 1);
}

#[test]
fn access_is_checked_on_open_and_by_the_code() {
    let (machine, _driver) = loaded();
    let process = machine.process();
    assert_eq!(process.open(r"\\.\Other", ACCESS), Err(STATUS_OBJECT_NAME_NOT_FOUND));
    let reader = process.open(r"\??\sample", GENERIC_READ).unwrap();
    assert_eq!(process.control(reader, SUM, &[], 10), Err(STATUS_ACCESS_DENIED));
    let user = machine.process_of(false, false);
    assert_eq!(user.open(NAME, ACCESS), Err(STATUS_ACCESS_DENIED));
    assert!(user.open(r"\\.\Sample\below", GENERIC_READ).is_ok());
    let other = machine.process();
    assert_eq!(other.control(reader, INVERT, &[], 0), Err(STATUS_INVALID_HANDLE), "handles are a process's own");
}

#[test]
fn pending_requests_are_cancelled_by_handle_thread_and_process() {
    let (machine, driver) = loaded();
    let process = machine.process();
    let handle = process.open(NAME, ACCESS).unwrap();
    let status = |slot: &Mutex<Option<Finished>>| slot.lock().as_ref().map(|finished| finished.0.status);
    let (slot, done) = later();
    let token = process.control_async(handle, PEND, vec![], vec![], done).unwrap();
    assert_eq!(status(&slot), None);
    process.cancel(handle, Some(token)).unwrap();
    assert_eq!(status(&slot), Some(STATUS_CANCELLED));
    assert_eq!(process.cancel(handle, None), Err(STATUS_NOT_FOUND));
    let (slot, done) = later();
    let thread = process.thread().unwrap();
    thread.control_async(handle, PEND, vec![], vec![], done).unwrap();
    thread.exit();
    assert_eq!(status(&slot), Some(STATUS_CANCELLED));
    let (slot, done) = later();
    process.control_async(handle, PEND, vec![], vec![], done).unwrap();
    process.exit();
    assert_eq!(status(&slot), Some(STATUS_CANCELLED));
    assert_eq!(machine.unload(&driver), Ok(Unload::Done), "the process closed its handle");
}

#[test]
fn an_unload_waits_for_the_last_handle() {
    let (machine, driver) = loaded();
    let process = machine.process();
    let handle = process.open(NAME, ACCESS).unwrap();
    assert_eq!(machine.unload(&driver), Ok(Unload::Deferred));
    assert_eq!(process.open(NAME, ACCESS), Err(STATUS_NO_SUCH_DEVICE));
    assert_eq!(machine.unload(&driver), Err(STATUS_INVALID_DEVICE_REQUEST));
    assert!(!driver.is_unloaded());
    assert_eq!(process.control(handle, INVERT, &[7], 1).unwrap(), [!7], "an open handle goes on working");
    process.close(handle).unwrap();
    assert!(machine.wait_unloaded(&driver, Duration::from_secs(5)));
    assert_eq!(process.open(NAME, ACCESS), Err(STATUS_OBJECT_NAME_NOT_FOUND));
    machine.load_builtin(entry, "sample").unwrap();
}

#[test]
fn cleanup_comes_with_the_last_handle_and_close_with_the_last_reference() {
    let (machine, _driver) = loaded();
    let process = machine.process();
    let handle = process.open(NAME, ACCESS).unwrap();
    let (slot, done) = later();
    process.control_async(handle, PEND, vec![], vec![], done).unwrap();
    let target = machine.on_system_thread(|kernel| super::device::find(kernel, NAME).unwrap().device as usize).unwrap();
    let own = extension(target as *mut DEVICE_OBJECT);
    let counts = || [&own.creates, &own.cleanups, &own.closes].map(|counter| counter.load(Ordering::Acquire));
    process.close(handle).unwrap();
    assert_eq!(counts(), [1, 1, 0], "the pending request holds the file object");
    process.exit();
    assert!(slot.lock().is_some());
    let begun = std::time::Instant::now();
    while counts() != [1, 1, 1] {
        assert!(begun.elapsed() < Duration::from_secs(5));
        std::thread::yield_now();
    }
}

/// The sample device's extension.
fn own(machine: &Machine) -> &'static Extension {
    let target = machine.on_system_thread(|kernel| super::device::find(kernel, NAME).unwrap().device as usize).unwrap();
    extension(target as *mut DEVICE_OBJECT)
}

#[test]
fn an_exiting_process_cancels_its_requests_then_closes_its_handles_and_keeps_no_page_locked() {
    let (machine, _driver) = loaded();
    let own = own(&machine);
    let cancelled = || [&own.cancelled_after, &own.locked_when_cancelled].map(|count| count.load(Ordering::Acquire));
    let process = machine.process();
    let handle = process.open(NAME, ACCESS).unwrap();
    let (slot, done) = later();
    process.control_async(handle, PEND_DIRECT, vec![], vec![0; 10_000], done).unwrap();
    assert_eq!(machine.stats().locked_mdls, 1);
    process.exit();
    assert_eq!(slot.lock().take().unwrap().0.status, STATUS_CANCELLED);
    assert_eq!((own.cleanups.load(Ordering::Acquire), cancelled()), (1, [0, 1]), "a thread's end comes first");
    assert_eq!(machine.stats().locked_mdls, 0);
    // A handle that is closed before leaves the request, and the lock, to the driver until then.
    let process = machine.process();
    let handle = process.open(NAME, ACCESS).unwrap();
    let (slot, done) = later();
    process.control_async(handle, PEND_DIRECT, vec![], vec![0; 10_000], done).unwrap();
    process.close(handle).unwrap();
    assert!(slot.lock().is_none());
    assert_eq!((own.cleanups.load(Ordering::Acquire), machine.stats().locked_mdls), (2, 1));
    process.exit();
    assert_eq!(cancelled(), [2, 1], "cleaned up before it was cancelled");
    assert_eq!(machine.stats().locked_mdls, 0);
    assert!(machine.violation().is_none());
}

fn violation(code: u32, rule: Rule) {
    let (machine, _driver) = loaded();
    let process = machine.process();
    let handle = process.open(NAME, ACCESS).unwrap();
    assert_eq!(process.control(handle, code, &[1; 8], 8), Err(STATUS_SYSTEM_SHUTDOWN));
    let violation = machine.violation().unwrap();
    assert_eq!(violation.rule, rule, "{violation}");
    assert_eq!(process.open(NAME, ACCESS), Err(STATUS_SYSTEM_SHUTDOWN));
}

#[test]
fn a_driver_that_completes_wrongly_is_found() {
    violation(TOO_LONG, Rule::Irp);
    violation(FORGET, Rule::Irp);
    violation(OVERRUN, Rule::PoolOverrun);
}

#[test]
fn what_a_driver_leaves_is_found_at_unload() {
    let (machine, driver) = loaded();
    let process = machine.process();
    let handle = process.open(NAME, ACCESS).unwrap();
    process.control(handle, ALLOCATE, &[], 0).unwrap();
    process.close(handle).unwrap();
    assert_eq!(machine.unload(&driver), Err(STATUS_SYSTEM_SHUTDOWN));
    let violation = machine.violation().unwrap();
    assert_eq!(violation.rule, Rule::Leak);
    assert!(violation.text.contains("Leak"), "{violation}");
}

#[test]
fn each_allocation_of_the_load_path_may_fail() {
    let machine = Machine::new();
    let mut failures = 0;
    loop {
        machine.fail_allocation(failures);
        let result = machine.load_builtin(entry, "sample");
        machine.fail_no_allocation();
        if !machine.allocation_has_failed() {
            assert!(result.is_ok());
            break;
        }
        assert!(matches!(result, Err(LoadError::Entry(STATUS_INSUFFICIENT_RESOURCES))), "{failures}");
        failures += 1;
    }
    assert_eq!(failures, 2, "the device and its link");
}

extern "win64" fn client_entry(driver: *mut DRIVER_OBJECT, _path: *mut UNICODE_STRING) -> NTSTATUS {
    use super::device::IoGetDeviceObjectPointer;
    use super::request::IoBuildDeviceIoControlRequest;
    use crate::nt::dispatcher::{KeInitializeEvent, KeReadStateEvent};
    let (_units, name) = wide(r"\Device\Sample");
    let (file, target) = (std::cell::Cell::new(ptr::null_mut()), std::cell::Cell::new(ptr::null_mut()));
    let status = IoGetDeviceObjectPointer(&name, FILE_READ_DATA, &file, &target);
    if status != STATUS_SUCCESS {
        return status;
    }
    let (event, block) = (KEVENT::zeroed(), IO_STATUS_BLOCK::zeroed());
    KeInitializeEvent(&event, 0, 0);
    let buffer = ExAllocatePool2(0x40, 4, u32::from_le_bytes(*b"Cli "));
    let (event_address, block_address) = ((&raw const event).cast_mut(), (&raw const block).cast_mut());
    let target = device(target.get());
    let irp = IoBuildDeviceIoControlRequest(INVERT, target, buffer, 4, buffer, 4, 0, event_address, block_address);
    let status = irp::IofCallDriver(target, irp::at(irp));
    assert_eq!((status, KeReadStateEvent(&event), block.Information.get()), (STATUS_SUCCESS, 1, 4));
    assert_eq!(bytes(buffer, 4), [0xff; 4]);
    ExFreePool(buffer);
    crate::nt::object::ObfDereferenceObject(file.get().cast());
    driver_object(driver).DriverUnload.set(Some(client_unload));
    STATUS_SUCCESS
}

extern "win64" fn client_unload(_driver: *mut DRIVER_OBJECT) {}

#[test]
fn a_driver_calls_another() {
    let (machine, sample) = loaded();
    let client = machine.load_builtin(client_entry, "client").unwrap();
    assert_eq!(machine.unload(&client), Ok(Unload::Done));
    assert_eq!(machine.unload(&sample), Ok(Unload::Done));
}

#[test]
fn machines_live_side_by_side() {
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                let (machine, driver) = loaded();
                let process: Process = machine.process();
                let handle = process.open(NAME, ACCESS).unwrap();
                for round in 0..500_u32 {
                    let input = round.to_le_bytes();
                    assert_eq!(process.control(handle, INVERT, &input, 4).unwrap(), (!round).to_le_bytes());
                }
                drop(process);
                assert_eq!(machine.unload(&driver), Ok(Unload::Done));
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}
