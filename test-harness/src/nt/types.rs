//! Structures and constants that drivers share with the kernel (wdm.h, ntddk.h; x64).
//!
//! A structure lies in memory that the driver, this kernel and other threads read and write through pointers of their own.
//! So its fields are cells (or atomics where NT uses interlocked operations): a `&IRP` claims neither that nobody
//! else writes nor that the values stand still. What NT overlays in unions is one field here, named after the member
//! that this kernel uses. Layouts are tested against `facts/nt_layout.tsv`.
#![allow(unsafe_code)] // reaches the stack locations behind an IRP and the page list behind an MDL
#![allow(non_snake_case, non_camel_case_types, missing_docs)] // the headers' own names

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU8, AtomicUsize};

pub type NTSTATUS = i32;
pub type HANDLE = usize;
pub type PVOID = *mut c_void;
pub type PEPROCESS = *mut EPROCESS;
pub type PETHREAD = *mut ETHREAD;
pub type KIRQL = u8;
pub type ACCESS_MASK = u32;

pub const PAGE_SIZE: usize = 4096;

pub const PASSIVE_LEVEL: KIRQL = 0;
pub const APC_LEVEL: KIRQL = 1;
pub const DISPATCH_LEVEL: KIRQL = 2;
pub const HIGH_LEVEL: KIRQL = 15;

/// KPROCESSOR_MODE.
pub type KPROCESSOR_MODE = i8;
pub const KERNEL_MODE: KPROCESSOR_MODE = 0;
pub const USER_MODE: KPROCESSOR_MODE = 1;

#[repr(C)]
pub struct LIST_ENTRY {
    pub Flink: Cell<*mut LIST_ENTRY>,
    pub Blink: Cell<*mut LIST_ENTRY>,
}

#[repr(C)]
pub struct UNICODE_STRING {
    /// Bytes in use, without a terminator.
    pub Length: Cell<u16>,
    /// Bytes in `Buffer`.
    pub MaximumLength: Cell<u16>,
    pub Buffer: Cell<*mut u16>,
}

#[repr(C)]
pub struct ANSI_STRING {
    pub Length: Cell<u16>,
    pub MaximumLength: Cell<u16>,
    pub Buffer: Cell<*mut u8>,
}

#[repr(C)]
pub struct IO_STATUS_BLOCK {
    pub Status: Cell<NTSTATUS>,
    pub Information: Cell<usize>,
}

#[repr(C)]
pub struct DISPATCHER_HEADER {
    pub Type: Cell<u8>,
    pub Signalling: Cell<u8>,
    pub Size: Cell<u8>,
    pub Inserted: Cell<u8>,
    pub SignalState: AtomicI32,
    pub WaitListHead: LIST_ENTRY,
}

/// KOBJECTS: the type of a dispatcher object.
pub const EVENT_NOTIFICATION_OBJECT: u8 = 0;
pub const EVENT_SYNCHRONIZATION_OBJECT: u8 = 1;
pub const MUTANT_OBJECT: u8 = 2;
pub const PROCESS_OBJECT: u8 = 3;
pub const SEMAPHORE_OBJECT: u8 = 5;
pub const THREAD_OBJECT: u8 = 6;
pub const TIMER_NOTIFICATION_OBJECT: u8 = 8;
pub const TIMER_SYNCHRONIZATION_OBJECT: u8 = 9;

#[repr(C)]
pub struct KEVENT {
    pub Header: DISPATCHER_HEADER,
}

#[repr(C)]
pub struct KSEMAPHORE {
    pub Header: DISPATCHER_HEADER,
    pub Limit: Cell<i32>,
}

/// A KMUTEX, too.
#[repr(C)]
pub struct KMUTANT {
    pub Header: DISPATCHER_HEADER,
    pub MutantListEntry: LIST_ENTRY,
    /// The number of the thread that owns it, as spin locks hold it; 0 if it is free.
    pub OwnerThread: Cell<usize>,
    pub Abandoned: Cell<u8>,
    pub ApcDisable: Cell<u8>,
}

#[repr(C)]
pub struct KTIMER {
    pub Header: DISPATCHER_HEADER,
    pub DueTime: Cell<u64>,
    pub TimerListEntry: LIST_ENTRY,
    pub Dpc: Cell<*mut KDPC>,
    pub Processor: Cell<u32>,
    pub Period: Cell<u32>,
}

pub type KDEFERRED_ROUTINE = extern "win64" fn(*mut KDPC, PVOID, PVOID, PVOID);

#[repr(C)]
pub struct KDPC {
    pub Type: Cell<u8>,
    pub Importance: Cell<u8>,
    pub Number: Cell<u16>,
    pub DpcListEntry: Cell<PVOID>,
    pub ProcessorHistory: Cell<usize>,
    pub DeferredRoutine: Cell<Option<KDEFERRED_ROUTINE>>,
    pub DeferredContext: Cell<PVOID>,
    pub SystemArgument1: Cell<PVOID>,
    pub SystemArgument2: Cell<PVOID>,
    /// Not null while the DPC is queued.
    pub DpcData: AtomicPtr<c_void>,
}

/// A KSPIN_LOCK: zero when free. While held it holds the owning thread's number.
pub type KSPIN_LOCK = AtomicUsize;

#[repr(C)]
pub struct KSPIN_LOCK_QUEUE {
    pub Next: Cell<PVOID>,
    pub Lock: Cell<*const KSPIN_LOCK>,
}

#[repr(C)]
pub struct KLOCK_QUEUE_HANDLE {
    pub LockQueue: KSPIN_LOCK_QUEUE,
    pub OldIrql: Cell<KIRQL>,
}

#[repr(C)]
pub struct FAST_MUTEX {
    /// 1 when free, as FM_LOCK_BIT.
    pub Count: AtomicI32,
    pub Owner: AtomicUsize,
    pub Contention: Cell<u32>,
    pub Event: KEVENT,
    pub OldIrql: Cell<u32>,
}

#[repr(C)]
pub struct EX_RUNDOWN_REF {
    /// Twice the references; the low bit is set once rundown has begun.
    pub Count: AtomicUsize,
}

/// The head of every process object: waitable, otherwise opaque to drivers.
#[repr(C)]
pub struct EPROCESS {
    pub Header: DISPATCHER_HEADER,
    pub UniqueProcessId: Cell<usize>,
}

/// The head of every thread object: waitable, otherwise opaque to drivers.
#[repr(C)]
pub struct ETHREAD {
    pub Header: DISPATCHER_HEADER,
    pub UniqueThreadId: Cell<usize>,
    pub Process: Cell<PEPROCESS>,
    pub Priority: Cell<i32>,
}

#[repr(C)]
pub struct OBJECT_ATTRIBUTES {
    pub Length: u32,
    pub RootDirectory: HANDLE,
    pub ObjectName: *const UNICODE_STRING,
    pub Attributes: u32,
    pub SecurityDescriptor: PVOID,
    pub SecurityQualityOfService: PVOID,
}

pub const OBJ_CASE_INSENSITIVE: u32 = 0x40;
pub const OBJ_KERNEL_HANDLE: u32 = 0x200;

#[repr(C)]
pub struct OBJECT_HANDLE_INFORMATION {
    pub HandleAttributes: u32,
    pub GrantedAccess: ACCESS_MASK,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct CLIENT_ID {
    pub UniqueProcess: HANDLE,
    pub UniqueThread: HANDLE,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GUID {
    pub Data1: u32,
    pub Data2: u16,
    pub Data3: u16,
    pub Data4: [u8; 8],
}

impl std::fmt::Display for GUID {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{{{:08x}-{:04x}-{:04x}-", self.Data1, self.Data2, self.Data3)?;
        for (index, byte) in self.Data4.iter().enumerate() {
            write!(f, "{}{byte:02x}", if index == 2 { "-" } else { "" })?;
        }
        write!(f, "}}")
    }
}

#[repr(C)]
pub struct MDL {
    pub Next: Cell<*mut MDL>,
    /// Bytes of this structure and the page numbers behind it.
    pub Size: Cell<i16>,
    pub MdlFlags: Cell<i16>,
    pub Process: Cell<PEPROCESS>,
    pub MappedSystemVa: Cell<PVOID>,
    /// The first page's address.
    pub StartVa: Cell<PVOID>,
    pub ByteCount: Cell<u32>,
    pub ByteOffset: Cell<u32>,
}

pub const MDL_MAPPED_TO_SYSTEM_VA: i16 = 0x0001;
pub const MDL_PAGES_LOCKED: i16 = 0x0002;
pub const MDL_SOURCE_IS_NONPAGED_POOL: i16 = 0x0004;
pub const MDL_ALLOCATED_FIXED_SIZE: i16 = 0x0008;
pub const MDL_PARTIAL: i16 = 0x0010;
pub const MDL_PARTIAL_HAS_BEEN_MAPPED: i16 = 0x0020;
pub const MDL_IO_PAGE_READ: i16 = 0x0040;
pub const MDL_WRITE_OPERATION: i16 = 0x0080;
pub const MDL_LOCKED_PAGE_TABLES: i16 = 0x0100;

impl MDL {
    /// The address the list describes, in the address space of the process it was made for (MmGetMdlVirtualAddress).
    #[must_use]
    pub fn virtual_address(&self) -> PVOID {
        self.StartVa.get().wrapping_byte_add(self.ByteOffset.get() as usize)
    }

    /// Where the kernel reaches the described bytes, once they are mapped or non-paged.
    #[must_use]
    pub fn system_address(&self) -> Option<PVOID> {
        let mapped = self.MdlFlags.get() & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL) != 0;
        mapped.then(|| self.MappedSystemVa.get())
    }
}

/// IO_STACK_LOCATION.Parameters: four pointer-sized cells, read through the view that belongs to the major function.
#[repr(C)]
pub struct IO_PARAMETERS {
    pub Argument: [Cell<usize>; 4],
}

/// The view `Parameters.DeviceIoControl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DEVICE_IO_CONTROL {
    pub OutputBufferLength: u32,
    pub InputBufferLength: u32,
    pub IoControlCode: u32,
    pub Type3InputBuffer: usize,
}

/// The views `Parameters.Read` and `Parameters.Write`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct READ_WRITE {
    pub Length: u32,
    pub Key: u32,
    pub ByteOffset: i64,
}

/// The view `Parameters.Create`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CREATE {
    pub SecurityContext: *mut IO_SECURITY_CONTEXT,
    pub Options: u32,
    pub FileAttributes: u16,
    pub ShareAccess: u16,
    pub EaLength: u32,
}

#[allow(clippy::cast_possible_truncation)] // the low halves are what the overlaid fields are
impl IO_PARAMETERS {
    #[must_use]
    pub fn device_io_control(&self) -> DEVICE_IO_CONTROL {
        DEVICE_IO_CONTROL {
            OutputBufferLength: self.Argument[0].get() as u32,
            InputBufferLength: self.Argument[1].get() as u32,
            IoControlCode: self.Argument[2].get() as u32,
            Type3InputBuffer: self.Argument[3].get(),
        }
    }

    pub fn set_device_io_control(&self, view: DEVICE_IO_CONTROL) {
        self.Argument[0].set(view.OutputBufferLength as usize);
        self.Argument[1].set(view.InputBufferLength as usize);
        self.Argument[2].set(view.IoControlCode as usize);
        self.Argument[3].set(view.Type3InputBuffer);
    }

    #[must_use]
    pub fn read_write(&self) -> READ_WRITE {
        READ_WRITE {
            Length: self.Argument[0].get() as u32,
            Key: self.Argument[1].get() as u32,
            ByteOffset: (self.Argument[2].get() as u64).cast_signed(),
        }
    }

    pub fn set_read_write(&self, view: READ_WRITE) {
        self.Argument[0].set(view.Length as usize);
        self.Argument[1].set(view.Key as usize);
        self.Argument[2].set(view.ByteOffset.cast_unsigned() as usize);
    }

    #[must_use]
    pub fn create(&self) -> CREATE {
        let attributes = self.Argument[2].get();
        CREATE {
            SecurityContext: self.Argument[0].get() as *mut IO_SECURITY_CONTEXT,
            Options: self.Argument[1].get() as u32,
            FileAttributes: attributes as u16,
            ShareAccess: (attributes >> 16) as u16,
            EaLength: self.Argument[3].get() as u32,
        }
    }

    pub fn set_create(&self, view: CREATE) {
        self.Argument[0].set(view.SecurityContext as usize);
        self.Argument[1].set(view.Options as usize);
        self.Argument[2].set(usize::from(view.FileAttributes) | usize::from(view.ShareAccess) << 16);
        self.Argument[3].set(view.EaLength as usize);
    }
}

#[repr(C)]
pub struct IO_SECURITY_CONTEXT {
    pub SecurityQos: PVOID,
    pub AccessState: PVOID,
    pub DesiredAccess: ACCESS_MASK,
    pub FullCreateOptions: u32,
}

pub type IO_COMPLETION_ROUTINE = extern "win64" fn(*mut DEVICE_OBJECT, *mut IRP, PVOID) -> NTSTATUS;

#[repr(C)]
pub struct IO_STACK_LOCATION {
    pub MajorFunction: Cell<u8>,
    pub MinorFunction: Cell<u8>,
    pub Flags: Cell<u8>,
    pub Control: Cell<u8>,
    pub Parameters: IO_PARAMETERS,
    pub DeviceObject: Cell<*mut DEVICE_OBJECT>,
    pub FileObject: Cell<*mut FILE_OBJECT>,
    pub CompletionRoutine: Cell<Option<IO_COMPLETION_ROUTINE>>,
    pub Context: Cell<PVOID>,
}

pub const SL_PENDING_RETURNED: u8 = 0x01;
pub const SL_INVOKE_ON_CANCEL: u8 = 0x20;
pub const SL_INVOKE_ON_SUCCESS: u8 = 0x40;
pub const SL_INVOKE_ON_ERROR: u8 = 0x80;

pub const IRP_MJ_CREATE: u8 = 0x00;
pub const IRP_MJ_CLOSE: u8 = 0x02;
pub const IRP_MJ_READ: u8 = 0x03;
pub const IRP_MJ_WRITE: u8 = 0x04;
pub const IRP_MJ_QUERY_INFORMATION: u8 = 0x05;
pub const IRP_MJ_SET_INFORMATION: u8 = 0x06;
pub const IRP_MJ_FLUSH_BUFFERS: u8 = 0x09;
pub const IRP_MJ_DIRECTORY_CONTROL: u8 = 0x0c;
pub const IRP_MN_QUERY_DIRECTORY: u8 = 0x01;
pub const SL_RESTART_SCAN: u8 = 0x01;
pub const SL_RETURN_SINGLE_ENTRY: u8 = 0x02;
pub const IRP_MJ_DEVICE_CONTROL: u8 = 0x0e;
pub const IRP_MJ_INTERNAL_DEVICE_CONTROL: u8 = 0x0f;
pub const IRP_MJ_SHUTDOWN: u8 = 0x10;
pub const IRP_MJ_CLEANUP: u8 = 0x12;
pub const IRP_MJ_POWER: u8 = 0x16;
pub const IRP_MJ_SYSTEM_CONTROL: u8 = 0x17;
pub const IRP_MJ_PNP: u8 = 0x1b;
pub const IRP_MJ_MAXIMUM_FUNCTION: u8 = 0x1b;

/// A DRIVER_CANCEL routine; called with the cancel spin lock held, which it releases.
pub type DRIVER_CANCEL = extern "win64" fn(*mut DEVICE_OBJECT, *mut IRP);

#[repr(C, align(16))]
pub struct IRP {
    pub Type: Cell<i16>,
    pub Size: Cell<u16>,
    pub MdlAddress: Cell<*mut MDL>,
    pub Flags: Cell<u32>,
    /// AssociatedIrp.SystemBuffer.
    pub SystemBuffer: Cell<PVOID>,
    pub ThreadListEntry: LIST_ENTRY,
    pub IoStatus: IO_STATUS_BLOCK,
    pub RequestorMode: Cell<KPROCESSOR_MODE>,
    pub PendingReturned: Cell<u8>,
    pub StackCount: Cell<i8>,
    /// One-based; `StackCount + 1` before the first IoCallDriver and after the last completion routine.
    pub CurrentLocation: Cell<i8>,
    pub Cancel: AtomicU8,
    pub CancelIrql: Cell<KIRQL>,
    pub ApcEnvironment: Cell<i8>,
    pub AllocationFlags: Cell<u8>,
    pub UserIosb: Cell<*mut IO_STATUS_BLOCK>,
    pub UserEvent: Cell<*mut KEVENT>,
    pub UserApcRoutine: Cell<PVOID>,
    pub UserApcContext: Cell<PVOID>,
    /// A [`DRIVER_CANCEL`] or null; exchanged atomically by the macro IoSetCancelRoutine.
    pub CancelRoutine: AtomicPtr<c_void>,
    pub UserBuffer: Cell<PVOID>,
    /// Tail.Overlay from here on.
    pub DriverContext: [Cell<PVOID>; 4],
    pub Thread: Cell<PETHREAD>,
    pub AuxiliaryBuffer: Cell<PVOID>,
    pub ListEntry: LIST_ENTRY,
    pub CurrentStackLocation: Cell<*mut IO_STACK_LOCATION>,
    pub OriginalFileObject: Cell<*mut FILE_OBJECT>,
}

pub const IO_TYPE_DEVICE: i16 = 3;
pub const IO_TYPE_DRIVER: i16 = 4;
pub const IO_TYPE_FILE: i16 = 5;
pub const IO_TYPE_IRP: i16 = 6;

pub const IRP_NOCACHE: u32 = 0x0000_0001;
pub const IRP_SYNCHRONOUS_API: u32 = 0x0000_0004;
pub const IRP_BUFFERED_IO: u32 = 0x0000_0010;
pub const IRP_DEALLOCATE_BUFFER: u32 = 0x0000_0020;
pub const IRP_INPUT_OPERATION: u32 = 0x0000_0040;
pub const IRP_CREATE_OPERATION: u32 = 0x0000_0080;
pub const IRP_READ_OPERATION: u32 = 0x0000_0100;
pub const IRP_WRITE_OPERATION: u32 = 0x0000_0200;
pub const IRP_CLOSE_OPERATION: u32 = 0x0000_0400;

impl IRP {
    /// The stack location of a one-based number, `1..=StackCount`.
    ///
    /// # Panics
    /// If there is no such location: a fault of this kernel, since drivers' numbers are checked before.
    #[must_use]
    pub fn location(&self, number: i8) -> &IO_STACK_LOCATION {
        assert!((1..=self.StackCount.get()).contains(&number), "stack location {number}");
        let first = ptr::from_ref(self).wrapping_add(1).cast::<IO_STACK_LOCATION>();
        // SAFETY: the packet is allocated with `StackCount` locations behind it, and the number is within them.
        unsafe { &*first.wrapping_add(number.cast_unsigned() as usize - 1) }
    }

    /// The address of a location by number; one past the last for `StackCount + 1`.
    #[must_use]
    pub fn location_address(&self, number: i8) -> *mut IO_STACK_LOCATION {
        let first = ptr::from_ref(self).wrapping_add(1).cast::<IO_STACK_LOCATION>().cast_mut();
        first.wrapping_offset(isize::from(number) - 1)
    }

    /// The stack location of the driver that has the packet (IoGetCurrentIrpStackLocation).
    #[must_use]
    pub fn current(&self) -> &IO_STACK_LOCATION {
        self.location(self.CurrentLocation.get())
    }

    /// The stack location of the next lower driver (IoGetNextIrpStackLocation).
    #[must_use]
    pub fn next(&self) -> &IO_STACK_LOCATION {
        self.location(self.CurrentLocation.get() - 1)
    }

    /// Notes that the current driver returns STATUS_PENDING (IoMarkIrpPending).
    pub fn mark_pending(&self) {
        let control = &self.current().Control;
        control.set(control.get() | SL_PENDING_RETURNED);
    }

    #[must_use]
    pub fn as_ptr(&self) -> *mut IRP {
        ptr::from_ref(self).cast_mut()
    }
}

pub type DRIVER_INITIALIZE = extern "win64" fn(*mut DRIVER_OBJECT, *mut UNICODE_STRING) -> NTSTATUS;
pub type DRIVER_DISPATCH = extern "win64" fn(*mut DEVICE_OBJECT, *mut IRP) -> NTSTATUS;
pub type DRIVER_UNLOAD = extern "win64" fn(*mut DRIVER_OBJECT);
pub type DRIVER_ADD_DEVICE = extern "win64" fn(*mut DRIVER_OBJECT, *mut DEVICE_OBJECT) -> NTSTATUS;

#[repr(C)]
pub struct DRIVER_OBJECT {
    pub Type: Cell<i16>,
    pub Size: Cell<i16>,
    pub DeviceObject: Cell<*mut DEVICE_OBJECT>,
    pub Flags: Cell<u32>,
    pub DriverStart: Cell<PVOID>,
    pub DriverSize: Cell<u32>,
    pub DriverSection: Cell<PVOID>,
    pub DriverExtension: Cell<*mut DRIVER_EXTENSION>,
    pub DriverName: UNICODE_STRING,
    pub HardwareDatabase: Cell<*mut UNICODE_STRING>,
    pub FastIoDispatch: Cell<PVOID>,
    pub DriverInit: Cell<Option<DRIVER_INITIALIZE>>,
    pub DriverStartIo: Cell<PVOID>,
    pub DriverUnload: Cell<Option<DRIVER_UNLOAD>>,
    pub MajorFunction: [Cell<Option<DRIVER_DISPATCH>>; 28],
}

#[repr(C)]
pub struct DRIVER_EXTENSION {
    pub DriverObject: Cell<*mut DRIVER_OBJECT>,
    pub AddDevice: Cell<Option<DRIVER_ADD_DEVICE>>,
    pub Count: Cell<u32>,
    pub ServiceKeyName: UNICODE_STRING,
}

#[repr(C)]
pub struct KDEVICE_QUEUE {
    pub Type: Cell<i16>,
    pub Size: Cell<i16>,
    pub DeviceListHead: LIST_ENTRY,
    pub Lock: KSPIN_LOCK,
    pub Busy: Cell<u8>,
}

#[repr(C, align(16))]
pub struct DEVICE_OBJECT {
    pub Type: Cell<i16>,
    pub Size: Cell<u16>,
    /// Open file objects and other users of the device.
    pub ReferenceCount: AtomicI32,
    pub DriverObject: Cell<*mut DRIVER_OBJECT>,
    pub NextDevice: Cell<*mut DEVICE_OBJECT>,
    pub AttachedDevice: Cell<*mut DEVICE_OBJECT>,
    pub CurrentIrp: Cell<*mut IRP>,
    pub Timer: Cell<PVOID>,
    pub Flags: Cell<u32>,
    pub Characteristics: Cell<u32>,
    pub Vpb: Cell<PVOID>,
    pub DeviceExtension: Cell<PVOID>,
    pub DeviceType: Cell<u32>,
    pub StackSize: Cell<i8>,
    pub Wcb: [Cell<usize>; 9],
    pub AlignmentRequirement: Cell<u32>,
    pub DeviceQueue: KDEVICE_QUEUE,
    pub Dpc: KDPC,
    pub ActiveThreadCount: Cell<u32>,
    pub SecurityDescriptor: Cell<PVOID>,
    pub DeviceLock: KEVENT,
    pub SectorSize: Cell<u16>,
    pub Spare1: Cell<u16>,
    pub DeviceObjectExtension: Cell<PVOID>,
    pub Reserved: Cell<PVOID>,
}

pub const DO_BUFFERED_IO: u32 = 0x0000_0004;
pub const DO_EXCLUSIVE: u32 = 0x0000_0008;
pub const DO_DIRECT_IO: u32 = 0x0000_0010;
pub const DO_DEVICE_HAS_NAME: u32 = 0x0000_0040;
pub const DO_DEVICE_INITIALIZING: u32 = 0x0000_0080;
pub const DO_SHUTDOWN_REGISTERED: u32 = 0x0000_0800;
pub const DO_BUS_ENUMERATED_DEVICE: u32 = 0x0000_1000;
pub const FILE_DEVICE_SECURE_OPEN: u32 = 0x0000_0100;
pub const FILE_AUTOGENERATED_DEVICE_NAME: u32 = 0x0000_0080;

#[repr(C)]
pub struct FILE_OBJECT {
    pub Type: Cell<i16>,
    pub Size: Cell<i16>,
    pub DeviceObject: Cell<*mut DEVICE_OBJECT>,
    pub Vpb: Cell<PVOID>,
    pub FsContext: Cell<PVOID>,
    pub FsContext2: Cell<PVOID>,
    pub SectionObjectPointer: Cell<PVOID>,
    pub PrivateCacheMap: Cell<PVOID>,
    pub FinalStatus: Cell<NTSTATUS>,
    pub RelatedFileObject: Cell<*mut FILE_OBJECT>,
    pub LockOperation: Cell<u8>,
    pub DeletePending: Cell<u8>,
    pub ReadAccess: Cell<u8>,
    pub WriteAccess: Cell<u8>,
    pub DeleteAccess: Cell<u8>,
    pub SharedRead: Cell<u8>,
    pub SharedWrite: Cell<u8>,
    pub SharedDelete: Cell<u8>,
    pub Flags: Cell<u32>,
    pub FileName: UNICODE_STRING,
    pub CurrentByteOffset: Cell<i64>,
    pub Waiters: Cell<u32>,
    pub Busy: Cell<u32>,
    pub LastLock: Cell<PVOID>,
    pub Lock: KEVENT,
    pub Event: KEVENT,
    pub CompletionContext: Cell<PVOID>,
    pub IrpListLock: KSPIN_LOCK,
    pub IrpList: LIST_ENTRY,
    pub FileObjectExtension: Cell<PVOID>,
}

/// A node's links (ntddk.h).
#[repr(C)]
pub struct RTL_BALANCED_LINKS {
    pub Parent: Cell<*mut RTL_BALANCED_LINKS>,
    pub LeftChild: Cell<*mut RTL_BALANCED_LINKS>,
    pub RightChild: Cell<*mut RTL_BALANCED_LINKS>,
    pub Balance: Cell<i8>,
    pub Reserved: [Cell<u8>; 3],
}

/// A generic table (ntddk.h).
#[repr(C)]
pub struct RTL_AVL_TABLE {
    pub BalancedRoot: RTL_BALANCED_LINKS,
    pub OrderedPointer: Cell<PVOID>,
    pub WhichOrderedElement: Cell<u32>,
    pub NumberGenericTableElements: Cell<u32>,
    pub DepthOfTree: Cell<u32>,
    pub RestartKey: Cell<*mut RTL_BALANCED_LINKS>,
    pub DeleteCount: Cell<u32>,
    pub CompareRoutine: Cell<Option<extern "win64" fn(*const RTL_AVL_TABLE, PVOID, PVOID) -> u32>>,
    pub AllocateRoutine: Cell<Option<extern "win64" fn(*const RTL_AVL_TABLE, u32) -> PVOID>>,
    pub FreeRoutine: Cell<Option<extern "win64" fn(*const RTL_AVL_TABLE, PVOID)>>,
    pub TableContext: Cell<PVOID>,
}

pub const FO_SYNCHRONOUS_IO: u32 = 0x0000_0002;
pub const FO_HANDLE_CREATED: u32 = 0x0004_0000;
pub const FO_CLEANUP_COMPLETE: u32 = 0x0000_4000;

/// The parts of a control code (CTL_CODE, devioctl.h).
pub const METHOD_BUFFERED: u32 = 0;
pub const METHOD_IN_DIRECT: u32 = 1;
pub const METHOD_OUT_DIRECT: u32 = 2;
pub const METHOD_NEITHER: u32 = 3;
pub const FILE_READ_ACCESS: u32 = 1;
pub const FILE_WRITE_ACCESS: u32 = 2;

pub const GENERIC_READ: ACCESS_MASK = 0x8000_0000;
pub const GENERIC_WRITE: ACCESS_MASK = 0x4000_0000;
pub const GENERIC_EXECUTE: ACCESS_MASK = 0x2000_0000;
pub const GENERIC_ALL: ACCESS_MASK = 0x1000_0000;
pub const MAXIMUM_ALLOWED: ACCESS_MASK = 0x0200_0000;
pub const SYNCHRONIZE: ACCESS_MASK = 0x0010_0000;
pub const FILE_READ_DATA: ACCESS_MASK = 0x0001;
pub const FILE_WRITE_DATA: ACCESS_MASK = 0x0002;
pub const FILE_APPEND_DATA: ACCESS_MASK = 0x0004;
pub const FILE_EXECUTE: ACCESS_MASK = 0x0020;
pub const DELETE: ACCESS_MASK = 0x0001_0000;
pub const FILE_GENERIC_READ: ACCESS_MASK = 0x0012_0089;
pub const FILE_GENERIC_WRITE: ACCESS_MASK = 0x0012_0116;
pub const FILE_GENERIC_EXECUTE: ACCESS_MASK = 0x0012_00a0;
pub const FILE_ALL_ACCESS: ACCESS_MASK = 0x001f_01ff;
pub const EVENT_QUERY_STATE: ACCESS_MASK = 0x0001;
pub const EVENT_MODIFY_STATE: ACCESS_MASK = 0x0002;
pub const EVENT_ALL_ACCESS: ACCESS_MASK = 0x001f_0003;

/// A zeroed value of a structure of this module, for memory that this kernel itself lends to a driver.
pub(crate) trait Zeroed: Sized {
    fn zeroed() -> Self;
}

macro_rules! zeroed {
    ($($name:ident)*) => { $(
        impl Zeroed for $name {
            fn zeroed() -> Self {
                // SAFETY: integers, null pointers, `None` and cells of them are all valid as zero bytes.
                unsafe { std::mem::zeroed() }
            }
        }
    )* };
}
zeroed!(UNICODE_STRING IO_STATUS_BLOCK KEVENT KSEMAPHORE KTIMER KDPC MDL IRP IO_STACK_LOCATION FAST_MUTEX EX_RUNDOWN_REF KLOCK_QUEUE_HANDLE);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::mem::{align_of, offset_of, size_of};

    const FACTS: &str = include_str!("../../facts/nt_layout.tsv");

    /// Size, alignment, and rows of field, offset, size.
    type Structure = (usize, usize, Vec<(&'static str, &'static str, &'static str)>);

    fn facts() -> HashMap<&'static str, Structure> {
        let mut all = HashMap::new();
        let mut current = "";
        for line in FACTS.lines().filter(|line| !line.starts_with('#')) {
            let cells: Vec<_> = line.split('\t').collect();
            if cells[0].is_empty() {
                let entry: &mut (usize, usize, Vec<_>) = all.get_mut(current).expect("a structure comes first");
                entry.2.push((cells[1], cells[2], cells[3]));
            } else {
                current = cells[0];
                all.insert(current, (cells[1].parse().unwrap(), cells[2].parse().unwrap(), vec![]));
            }
        }
        all
    }

    macro_rules! check {
        ($facts:ident, $name:ident: $($field:ident)*) => {
            let (size, align, rows) = &$facts[stringify!($name)];
            assert_eq!(size_of::<$name>(), *size, "size of {}", stringify!($name));
            assert_eq!(align_of::<$name>(), *align, "alignment of {}", stringify!($name));
            $(
                let offset = offset_of!($name, $field).to_string();
                let known = rows.iter().any(|row| row.0 == stringify!($field) && row.1 == offset);
                assert!(known, "{}.{} at {offset}", stringify!($name), stringify!($field));
            )*
        };
    }

    #[test]
    #[allow(clippy::cognitive_complexity)]
    fn layouts_are_those_of_the_headers() {
        let f = facts();
        check!(f, IRP: Type Size MdlAddress Flags SystemBuffer ThreadListEntry IoStatus RequestorMode PendingReturned StackCount
            CurrentLocation Cancel CancelIrql ApcEnvironment AllocationFlags UserIosb UserEvent UserApcRoutine UserApcContext
            CancelRoutine UserBuffer DriverContext Thread AuxiliaryBuffer ListEntry CurrentStackLocation OriginalFileObject);
        check!(f, IO_STACK_LOCATION: MajorFunction MinorFunction Flags Control DeviceObject FileObject CompletionRoutine Context);
        check!(f, MDL: Next Size MdlFlags Process MappedSystemVa StartVa ByteCount ByteOffset);
        check!(f, KEVENT: Header);
        check!(f, DISPATCHER_HEADER: Type Signalling Size SignalState WaitListHead);
        check!(f, DEVICE_OBJECT: Type Size ReferenceCount DriverObject NextDevice AttachedDevice CurrentIrp Timer Flags Characteristics
            Vpb DeviceExtension DeviceType StackSize Wcb AlignmentRequirement DeviceQueue Dpc ActiveThreadCount SecurityDescriptor
            DeviceLock SectorSize Spare1 DeviceObjectExtension Reserved);
        check!(f, DRIVER_OBJECT: Type Size DeviceObject Flags DriverStart DriverSize DriverSection DriverExtension DriverName
            HardwareDatabase FastIoDispatch DriverInit DriverStartIo DriverUnload MajorFunction);
        check!(f, DRIVER_EXTENSION: DriverObject AddDevice Count ServiceKeyName);
        check!(f, FILE_OBJECT: Type Size DeviceObject Vpb FsContext FsContext2 SectionObjectPointer PrivateCacheMap FinalStatus
            RelatedFileObject LockOperation DeletePending ReadAccess WriteAccess DeleteAccess SharedRead SharedWrite SharedDelete Flags
            FileName CurrentByteOffset Waiters Busy LastLock Lock Event CompletionContext IrpListLock IrpList FileObjectExtension);
        check!(f, UNICODE_STRING: Length MaximumLength Buffer);
        check!(f, LIST_ENTRY: Flink Blink);
        check!(f, IO_STATUS_BLOCK: Status Information);
        check!(f, OBJECT_ATTRIBUTES: Length RootDirectory ObjectName Attributes SecurityDescriptor SecurityQualityOfService);
        check!(f, KDPC: Type Importance Number DpcListEntry ProcessorHistory DeferredRoutine DeferredContext SystemArgument1
            SystemArgument2 DpcData);
        check!(f, KTIMER: Header DueTime TimerListEntry Dpc Processor Period);
        check!(f, FAST_MUTEX: Count Owner Contention Event OldIrql);
        check!(f, KSEMAPHORE: Header Limit);
        check!(f, EX_RUNDOWN_REF: Count);
        check!(f, OBJECT_HANDLE_INFORMATION: HandleAttributes GrantedAccess);
        check!(f, KSPIN_LOCK_QUEUE: Next Lock);
        check!(f, KLOCK_QUEUE_HANDLE: LockQueue OldIrql);
        check!(f, KDEVICE_QUEUE: Type Size DeviceListHead Lock Busy);
    }

    #[test]
    fn parameter_views_overlay_as_in_the_headers() {
        let f = facts();
        let rows = &f["IO_STACK_LOCATION"].2;
        let base = offset_of!(IO_STACK_LOCATION, Parameters);
        for (field, cell) in
            [("OutputBufferLength", 0), ("InputBufferLength", 1), ("IoControlCode", 2), ("Type3InputBuffer", 3)]
        {
            let offset = (base + cell * 8).to_string();
            assert!(rows.iter().any(|row| row.0 == field && row.1 == offset), "{field}");
        }
        for (field, offset) in [
            ("Length", 0),
            ("Key", 8),
            ("ByteOffset", 16),
            ("FileAttributes", 16),
            ("ShareAccess", 18),
            ("EaLength", 24),
        ] {
            let offset = (base + offset).to_string();
            assert!(rows.iter().any(|row| row.0 == field && row.1 == offset), "{field}");
        }
        let location = IO_STACK_LOCATION::zeroed();
        let view = DEVICE_IO_CONTROL {
            OutputBufferLength: 1,
            InputBufferLength: u32::MAX,
            IoControlCode: 3,
            Type3InputBuffer: 4,
        };
        location.Parameters.set_device_io_control(view);
        assert_eq!(location.Parameters.device_io_control(), view);
        let view =
            CREATE { SecurityContext: ptr::null_mut(), Options: 7, FileAttributes: 0x80, ShareAccess: 3, EaLength: 0 };
        location.Parameters.set_create(view);
        assert_eq!(location.Parameters.create(), view);
    }
}
