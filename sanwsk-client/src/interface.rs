//! How the table of functions is had.
#![allow(unsafe_code, reason = "opens a device, and sends it a request")]

use crate::shared::Shared;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};
use san_protocol::NtStatus;
use san_protocol::kernel::{self, GetInterface, INTERFACE_VERSION, IOCTL_INTERNAL_SANWSK_GET_INTERFACE};
use wdk_sys::ntddk::{
    IoBuildDeviceIoControlRequest, IoGetDeviceObjectPointer, IoGetRelatedDeviceObject, IofCallDriver,
    KeInitializeEvent, KeWaitForSingleObject, ObDereferenceObjectDeferDelete,
};
use wdk_sys::{
    _EVENT_TYPE, _KWAIT_REASON, _MODE, FILE_OBJECT, FILE_READ_DATA, FILE_WRITE_DATA, IO_STATUS_BLOCK, KEVENT, PIRP,
    UNICODE_STRING,
};

/// `\Device\SanWsk`.
const DEVICE_NAME: [u16; 14] = {
    let (ascii, mut wide, mut at) = (br"\Device\SanWsk", [0; 14], 0);
    while at < wide.len() {
        wide[at] = ascii[at] as u16;
        at += 1;
    }
    wide
};

/// The functions of `sanwsk.sys`, which is not unloaded as long as one of these is there.
#[derive(Clone)]
pub struct Interface(Shared<Device>);

pub(crate) struct Device {
    table: kernel::Interface,
    #[expect(dead_code, reason = "held as long as the functions are called")]
    file: File,
}

// SAFETY: functions that may be called on any thread; a file object may be dereferenced on any.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: the one reference that came with the table; the file's, which is the last, goes after this.
        unsafe { (self.table.interface_dereference)(self.table.context) };
    }
}

/// A reference to an open file object.
struct File(NonNull<FILE_OBJECT>);

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: the reference that this value stands for.
        unsafe { ObDereferenceObjectDeferDelete(self.0.as_ptr().cast()) };
    }
}

impl Interface {
    /// Opens the device and asks for the functions. IRQL = PASSIVE_LEVEL.
    ///
    /// # Errors
    ///
    /// `STATUS_OBJECT_NAME_NOT_FOUND`: the driver is not loaded. `STATUS_REVISION_MISMATCH`: it does not offer the version that this
    /// crate is for. `STATUS_INSUFFICIENT_RESOURCES`: no memory.
    pub fn open() -> Result<Self, NtStatus> {
        let file = open_device()?;
        let table = ask(&file)?;
        Ok(Self(Shared::try_new(Device { table, file })?))
    }

    pub(crate) fn table(&self) -> &kernel::Interface {
        &self.0.table
    }
}

fn check(status: i32) -> Result<(), NtStatus> {
    let status = NtStatus(status);
    if status.is_success() { Ok(()) } else { Err(status) }
}

fn open_device() -> Result<File, NtStatus> {
    #[expect(clippy::cast_possible_truncation, reason = "some bytes")]
    let length = size_of_val(&DEVICE_NAME) as u16;
    let mut name =
        UNICODE_STRING { Length: length, MaximumLength: length, Buffer: DEVICE_NAME.as_ptr().cast_mut().cast() };
    let (mut file, mut device) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: the name is only read; the out parameters are locals.
    check(unsafe {
        IoGetDeviceObjectPointer(&raw mut name, FILE_READ_DATA | FILE_WRITE_DATA, &raw mut file, &raw mut device)
    })?;
    NonNull::new(file).map(File).ok_or(NtStatus::UNSUCCESSFUL)
}

/// Sends the request for the table, and waits for the answer. IRQL = PASSIVE_LEVEL.
fn ask(file: &File) -> Result<kernel::Interface, NtStatus> {
    let size = const {
        assert!(size_of::<kernel::Interface>() <= u32::MAX as usize);
        #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
        {
            size_of::<kernel::Interface>() as u32
        }
    };
    let mut asked = GetInterface { version: INTERFACE_VERSION.into(), size };
    let mut table = MaybeUninit::<kernel::Interface>::uninit();
    let event = UnsafeCell::new(MaybeUninit::<KEVENT>::uninit());
    let event = event.get().cast::<KEVENT>();
    let mut block = IO_STATUS_BLOCK::default();
    // SAFETY: the event is a local, which stays until it is waited for.
    unsafe { KeInitializeEvent(event, _EVENT_TYPE::NotificationEvent, 0) };
    // SAFETY: the file is open.
    let device = unsafe { IoGetRelatedDeviceObject(file.0.as_ptr()) };
    #[expect(clippy::cast_possible_truncation, reason = "8 bytes")]
    let input_size = size_of::<GetInterface>() as u32;
    // SAFETY: buffers, event and status block are locals, which stay until the request is completed.
    let irp = unsafe {
        IoBuildDeviceIoControlRequest(
            IOCTL_INTERNAL_SANWSK_GET_INTERFACE,
            device,
            (&raw mut asked).cast(),
            input_size,
            table.as_mut_ptr().cast(),
            size,
            1,
            event,
            &raw mut block,
        )
    };
    if irp.is_null() {
        return Err(NtStatus::INSUFFICIENT_RESOURCES);
    }
    // SAFETY: just built, and not sent yet.
    unsafe { set_file(irp, file) };
    // SAFETY: the device of the open file, and a request for it.
    let mut status = NtStatus(unsafe { IofCallDriver(device, irp) });
    if status == NtStatus::PENDING {
        #[expect(clippy::cast_possible_truncation, reason = "0")]
        let mode = _MODE::KernelMode as i8;
        // SAFETY: initialized above; completing the request sets it.
        let _ = unsafe { KeWaitForSingleObject(event.cast(), _KWAIT_REASON::Executive, mode, 0, ptr::null_mut()) };
        // SAFETY: the member of the union that completing the request has set.
        status = NtStatus(unsafe { block.__bindgen_anon_1.Status });
    }
    check(status.0)?;
    // SAFETY: the driver has filled in as many bytes as this version has.
    Ok(unsafe { table.assume_init() })
}

/// Names the file that a request goes to.
///
/// # Safety
///
/// `irp` has been built and not been sent.
unsafe fn set_file(irp: PIRP, file: &File) {
    // SAFETY: by this function's contract.
    let packet = unsafe { &*irp };
    // SAFETY: the member of the union that an IRP outside a device queue uses.
    let overlay = unsafe { &packet.Tail.Overlay };
    // SAFETY: as above.
    let current = unsafe { overlay.__bindgen_anon_2.__bindgen_anon_1.CurrentStackLocation };
    // SAFETY: the device has a stack of at least one location.
    let next = unsafe { current.sub(1) };
    // SAFETY: as above.
    unsafe { (*next).FileObject = file.0.as_ptr() };
}
