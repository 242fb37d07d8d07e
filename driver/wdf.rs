//! The framework's calls that the driver makes, with Rust types in and out.
#![allow(unsafe_code, reason = "calls the framework")]

use crate::nt::Process;
use core::ptr::{self, NonNull};
use san_protocol::NtStatus;
use wdk_sys::{
    _WDF_EXECUTION_LEVEL, _WDF_REQUEST_TYPE, _WDF_SYNCHRONIZATION_SCOPE, KPROCESSOR_MODE, NTSTATUS,
    PCWDF_OBJECT_CONTEXT_TYPE_INFO, PFN_WDF_REQUEST_CANCEL, PMDL, PVOID, ULONG, USHORT, WDF_OBJECT_ATTRIBUTES,
    WDF_OBJECT_CONTEXT_TYPE_INFO, WDF_REQUEST_PARAMETERS, WDFDEVICE, WDFFILEOBJECT, WDFOBJECT, WDFREQUEST,
    call_unsafe_wdf_function_binding, ntddk::IoGetRequestorProcessId,
};

/// `Ok` for a status that `NT_SUCCESS` holds for.
pub(crate) fn check(status: NTSTATUS) -> Result<(), NtStatus> {
    let status = NtStatus(status);
    if status.is_success() { Ok(()) } else { Err(status) }
}

/// The size of a structure, for its `Size` member.
pub(crate) const fn size<T>() -> ULONG {
    const { assert!(size_of::<T>() <= u32::MAX as usize) };
    #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
    {
        size_of::<T>() as ULONG
    }
}

/// The same, where the member is a USHORT.
const fn size16<T>() -> USHORT {
    const { assert!(size_of::<T>() <= u16::MAX as usize) };
    #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
    {
        size_of::<T>() as USHORT
    }
}

/// `WDF_OBJECT_ATTRIBUTES_INIT`.
pub(crate) fn object_attributes() -> WDF_OBJECT_ATTRIBUTES {
    WDF_OBJECT_ATTRIBUTES {
        Size: size::<WDF_OBJECT_ATTRIBUTES>(),
        ExecutionLevel: _WDF_EXECUTION_LEVEL::WdfExecutionLevelInheritFromParent,
        SynchronizationScope: _WDF_SYNCHRONIZATION_SCOPE::WdfSynchronizationScopeInheritFromParent,
        ..WDF_OBJECT_ATTRIBUTES::default()
    }
}

/// A type that framework objects carry as their context space.
///
/// # Safety
///
/// `type_info` returns, every time, the one description of this type, with its exact size.
pub(crate) unsafe trait Context: Sized {
    fn type_info() -> PCWDF_OBJECT_CONTEXT_TYPE_INFO;
}

/// A context type's description; it refers to itself, as `WDF_DECLARE_CONTEXT_TYPE` makes it.
#[repr(transparent)]
pub(crate) struct ContextType(pub(crate) WDF_OBJECT_CONTEXT_TYPE_INFO);

// SAFETY: constant data, whose pointers lead to constant data.
unsafe impl Sync for ContextType {}

/// Describes `$type` to the framework.
macro_rules! context_type {
    ($type:ty, $name:literal) => {
        // SAFETY: one static for the type, with its size.
        unsafe impl $crate::wdf::Context for $type {
            fn type_info() -> wdk_sys::PCWDF_OBJECT_CONTEXT_TYPE_INFO {
                static INFO: $crate::wdf::ContextType =
                    $crate::wdf::ContextType(wdk_sys::WDF_OBJECT_CONTEXT_TYPE_INFO {
                        Size: $crate::wdf::size::<wdk_sys::WDF_OBJECT_CONTEXT_TYPE_INFO>(),
                        ContextName: $name.as_ptr().cast(),
                        ContextSize: size_of::<$type>() as _,
                        UniqueType: &raw const INFO.0,
                        EvtDriverGetUniqueContextType: None,
                    });
                &raw const INFO.0
            }
        }
    };
}
pub(crate) use context_type;

/// The context space of type `T` of an object. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
///
/// `object` is a live handle of an object that was made with a context of type `T`.
pub(crate) unsafe fn context<T: Context>(object: WDFOBJECT) -> NonNull<T> {
    // SAFETY: by this function's contract.
    let space = unsafe { call_unsafe_wdf_function_binding!(WdfObjectGetTypedContextWorker, object, T::type_info()) };
    // SAFETY: an object that has the context gives it; pool blocks are never at address zero.
    unsafe { NonNull::new_unchecked(space.cast()) }
}

/// The context space of type `T` of an object, if it was given one. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
///
/// `object` is a live handle.
pub(crate) unsafe fn optional_context<T: Context>(object: WDFOBJECT) -> Option<NonNull<T>> {
    // SAFETY: by this function's contract.
    let space = unsafe { call_unsafe_wdf_function_binding!(WdfObjectGetTypedContextWorker, object, T::type_info()) };
    NonNull::new(space.cast())
}

/// A request that this driver has to complete.
#[derive(Clone, Copy)]
pub(crate) struct Request(WDFREQUEST);

impl Request {
    /// # Safety
    ///
    /// The framework has handed `request` to this driver, and every copy is forgotten once one of them is completed.
    pub(crate) const unsafe fn new(request: WDFREQUEST) -> Self {
        Self(request)
    }

    pub(crate) const fn handle(self) -> WDFREQUEST {
        self.0
    }

    /// The input, which the I/O manager has copied into the kernel; empty if there is none. IRQL <= DISPATCH_LEVEL.
    ///
    /// It shares its memory with the output of a METHOD_BUFFERED request: read it whole before writing.
    pub(crate) fn input(&self) -> &[u8] {
        let (mut buffer, mut length) = (ptr::null_mut(), 0);
        // SAFETY: the request is this driver's; the out parameters are locals.
        let status = unsafe {
            call_unsafe_wdf_function_binding!(
                WdfRequestRetrieveInputBuffer,
                self.0,
                1,
                &raw mut buffer,
                &raw mut length
            )
        };
        if check(status).is_err() || buffer.is_null() {
            return &[];
        }
        // SAFETY: the framework says that so many bytes lie there; they stay until the request is completed.
        unsafe { core::slice::from_raw_parts(buffer.cast(), length) }
    }

    /// Whether the output buffer has room for `length` bytes. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn check_output(self, length: usize) -> Result<(), NtStatus> {
        self.output(length).map(|_| ())
    }

    /// Copies a reply into the output buffer of a METHOD_BUFFERED request; returns its length. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn write_output(self, reply: &[u8]) -> Result<usize, NtStatus> {
        let buffer = self.output(reply.len())?;
        // SAFETY: the system buffer has at least that length, and `reply` is not in it.
        unsafe { ptr::copy_nonoverlapping(reply.as_ptr(), buffer.as_ptr(), reply.len()) };
        Ok(reply.len())
    }

    /// The output buffer of a METHOD_BUFFERED request, for a head of so many bytes and entries behind it. Whoever asks for it
    /// has read the input. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn output_list(self, head: usize) -> Result<OutputList, NtStatus> {
        let (start, length) = self.output_buffer(head)?;
        Ok(OutputList { start, length, head, written: head })
    }

    fn output(self, length: usize) -> Result<NonNull<u8>, NtStatus> {
        self.output_buffer(length).map(|(start, _)| start)
    }

    /// The output buffer, at least so long, and its length.
    fn output_buffer(self, length: usize) -> Result<(NonNull<u8>, usize), NtStatus> {
        let (mut buffer, mut actual): (PVOID, _) = (ptr::null_mut(), 0);
        // SAFETY: as for the input.
        check(unsafe {
            call_unsafe_wdf_function_binding!(
                WdfRequestRetrieveOutputBuffer,
                self.0,
                length as _,
                &raw mut buffer,
                &raw mut actual
            )
        })?;
        NonNull::new(buffer.cast()).map(|start| (start, actual)).ok_or(NtStatus::BUFFER_TOO_SMALL)
    }

    /// The MDL of the caller's locked output buffer (METHOD_IN_DIRECT and METHOD_OUT_DIRECT), valid until the request is
    /// completed. `STATUS_BUFFER_TOO_SMALL` for an empty buffer. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn output_mdl(self) -> Result<NonNull<wdk_sys::MDL>, NtStatus> {
        let mut mdl: PMDL = ptr::null_mut();
        // SAFETY: the request is this driver's; the out parameter is a local.
        check(unsafe { call_unsafe_wdf_function_binding!(WdfRequestRetrieveOutputWdmMdl, self.0, &raw mut mdl) })?;
        NonNull::new(mdl).ok_or(NtStatus::BUFFER_TOO_SMALL)
    }

    /// The file object that the request came through. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn file_object(self) -> WDFFILEOBJECT {
        // SAFETY: the request is this driver's.
        unsafe { call_unsafe_wdf_function_binding!(WdfRequestGetFileObject, self.0) }
    }

    /// The same, as the I/O manager has it; null for a request that the kernel has sent without one. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn wdm_file_object(self) -> PVOID {
        let file = self.file_object();
        if file.is_null() {
            return ptr::null_mut();
        }
        // SAFETY: the request keeps its file object alive.
        unsafe { call_unsafe_wdf_function_binding!(WdfFileObjectWdmGetFileObject, file) }.cast()
    }

    /// The buffers of a METHOD_NEITHER request of the kernel's. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn neither_buffers(self) -> NeitherBuffers {
        let parameters = self.parameters();
        // SAFETY: the member of the union that an internal device control uses.
        let control = unsafe { parameters.Parameters.DeviceIoControl };
        // SAFETY: the request is this driver's.
        let irp = unsafe { call_unsafe_wdf_function_binding!(WdfRequestWdmGetIrp, self.0) };
        // SAFETY: the request is not completed, so its IRP is there.
        let output = unsafe { (*irp).UserBuffer };
        NeitherBuffers {
            input: control.Type3InputBuffer,
            input_length: control.InputBufferLength,
            output,
            output_length: control.OutputBufferLength,
        }
    }

    /// The process that issued the request. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn requestor(self) -> Option<Process> {
        // SAFETY: the request is this driver's.
        let irp = unsafe { call_unsafe_wdf_function_binding!(WdfRequestWdmGetIrp, self.0) };
        // SAFETY: the request is not completed, so its IRP is there.
        unsafe { Process::requestor(irp) }
    }

    /// Id of the process that issued the request; 0 for the kernel's own. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn requestor_id(self) -> u32 {
        // SAFETY: the request is this driver's.
        let irp = unsafe { call_unsafe_wdf_function_binding!(WdfRequestWdmGetIrp, self.0) };
        // SAFETY: the request is not completed, so its IRP is there.
        unsafe { IoGetRequestorProcessId(irp) }
    }

    /// The control code, if it is a device control request. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn control_code(self) -> Option<u32> {
        let parameters = self.parameters();
        if parameters.Type != _WDF_REQUEST_TYPE::WdfRequestTypeDeviceControl {
            return None;
        }
        // SAFETY: the member of the union that a device control request uses.
        Some(unsafe { parameters.Parameters.DeviceIoControl }.IoControlCode)
    }

    fn parameters(self) -> WDF_REQUEST_PARAMETERS {
        let mut parameters = WDF_REQUEST_PARAMETERS { Size: size16::<WDF_REQUEST_PARAMETERS>(), ..Default::default() };
        // SAFETY: the request is this driver's; the structure is a local with its size filled in.
        unsafe { call_unsafe_wdf_function_binding!(WdfRequestGetParameters, self.0, &raw mut parameters) };
        parameters
    }

    /// Whether the request came from user mode. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn requestor_mode(self) -> KPROCESSOR_MODE {
        // SAFETY: the request is this driver's.
        unsafe { call_unsafe_wdf_function_binding!(WdfRequestGetRequestorMode, self.0) }
    }

    /// Puts a request, which its caller's context has been asked about, into its queue. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn enqueue(self, device: WDFDEVICE) -> Result<(), NtStatus> {
        // SAFETY: the request is this driver's; on success it is the queue's.
        check(unsafe { call_unsafe_wdf_function_binding!(WdfDeviceEnqueueRequest, device, self.0) })
    }

    /// Lets the request be cancelled; `cancel` may run at once. IRQL <= DISPATCH_LEVEL.
    ///
    /// `STATUS_CANCELLED`: it is cancelled already; `cancel` will not be called.
    pub(crate) fn mark_cancelable(self, cancel: PFN_WDF_REQUEST_CANCEL) -> Result<(), NtStatus> {
        // SAFETY: the request is this driver's, and not cancelable yet.
        check(unsafe { call_unsafe_wdf_function_binding!(WdfRequestMarkCancelableEx, self.0, cancel) })
    }

    /// Whether the request can no longer be cancelled; if not, its cancel callback has run, runs, or will.
    /// IRQL <= DISPATCH_LEVEL.
    pub(crate) fn unmark_cancelable(self) -> bool {
        // SAFETY: the request is this driver's, and has been marked.
        let status = unsafe { call_unsafe_wdf_function_binding!(WdfRequestUnmarkCancelable, self.0) };
        NtStatus(status) != NtStatus::CANCELLED
    }

    /// Gives the request back to its issuer. IRQL <= DISPATCH_LEVEL; no lock is held.
    pub(crate) fn complete(self, status: NtStatus, information: usize) {
        // SAFETY: the request is this driver's and not cancelable (any more); no copy of the handle is used after this.
        unsafe {
            call_unsafe_wdf_function_binding!(
                WdfRequestCompleteWithInformation,
                self.0,
                status.0,
                information as wdk_sys::ULONG_PTR
            );
        }
    }
}

/// Buffers that a caller in the kernel passes as they are: pointers and lengths, all its own.
pub(crate) struct NeitherBuffers {
    input: PVOID,
    input_length: usize,
    output: PVOID,
    output_length: usize,
}

impl NeitherBuffers {
    /// A copy of the input; `None` if it is shorter.
    ///
    /// # Safety
    ///
    /// The caller is the kernel, whose buffers are what it says; `T` is plain data.
    pub(crate) unsafe fn read_input<T: Copy>(&self) -> Option<T> {
        if self.input.is_null() || self.input_length < size_of::<T>() {
            return None;
        }
        // SAFETY: so many bytes lie there, by this function's contract.
        Some(unsafe { self.input.cast::<T>().read_unaligned() })
    }

    /// Writes the first `length` bytes of `output`; false if there is less room.
    ///
    /// # Safety
    ///
    /// The caller is the kernel, whose buffers are what it says.
    pub(crate) unsafe fn write_output<T: Copy>(&self, output: &T, length: usize) -> bool {
        let length = length.min(size_of::<T>());
        let fits = !self.output.is_null() && self.output_length >= length;
        if fits {
            // SAFETY: so many bytes lie in either, in the output by this function's contract.
            unsafe { ptr::copy_nonoverlapping(ptr::from_ref(output).cast::<u8>(), self.output.cast(), length) };
        }
        fits
    }
}

/// An answer of a head and entries, written into a request's output buffer before the request is completed.
pub(crate) struct OutputList {
    start: NonNull<u8>,
    length: usize,
    head: usize,
    written: usize,
}

impl OutputList {
    /// Writes an entry behind the others; false if there is no room left for it. Any IRQL.
    pub(crate) fn push(&mut self, entry: &[u8]) -> bool {
        if !self.has_room(entry.len()) {
            return false;
        }
        self.write(self.written, entry);
        self.written += entry.len();
        true
    }

    /// Whether there is room for an entry of so many bytes. Any IRQL.
    pub(crate) fn has_room(&self, length: usize) -> bool {
        length <= self.length - self.written
    }

    /// How many entries of so many bytes each have been written. Any IRQL.
    pub(crate) fn count(&self, entry: usize) -> u32 {
        u32::try_from((self.written - self.head) / entry).unwrap_or(u32::MAX)
    }

    /// Writes the head; returns the length of the answer. Any IRQL.
    pub(crate) fn finish(self, head: &[u8]) -> usize {
        self.write(0, head.get(..self.head).unwrap_or(head));
        self.written
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        // SAFETY: head and entries were checked against the buffer's length.
        let to = unsafe { self.start.add(at) };
        // SAFETY: as above; the system buffer is not where `bytes` are, and stays until the request is completed.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
    }
}
