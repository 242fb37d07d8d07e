//! Structures that KMDF clients pass to the framework (wdf*.h, KMDF 1.31; x64). Layouts are tested against
//! `facts/kmdf_layout.tsv`.
#![allow(non_snake_case, non_camel_case_types, missing_docs)] // the headers' own names

use std::ffi::c_void;

use crate::nt::io::property::DEVPROPKEY;
use crate::nt::types::{DRIVER_OBJECT, GUID, NTSTATUS, UNICODE_STRING, Zeroed};

/// A framework object's handle: never an address, so that none is taken for one.
pub(crate) type HANDLE = usize;
pub(crate) type PFN_OBJECT = extern "win64" fn(HANDLE);

#[repr(C)]
pub(crate) struct WDF_OBJECT_CONTEXT_TYPE_INFO {
    pub(crate) Size: u32,
    pub(crate) ContextName: *const u8,
    pub(crate) ContextSize: usize,
    pub(crate) UniqueType: *const WDF_OBJECT_CONTEXT_TYPE_INFO,
    pub(crate) EvtDriverGetUniqueContextType: Option<extern "win64" fn() -> *const WDF_OBJECT_CONTEXT_TYPE_INFO>,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct WDF_OBJECT_ATTRIBUTES {
    pub(crate) Size: u32,
    pub(crate) EvtCleanupCallback: Option<PFN_OBJECT>,
    pub(crate) EvtDestroyCallback: Option<PFN_OBJECT>,
    pub(crate) ExecutionLevel: u32,
    pub(crate) SynchronizationScope: u32,
    pub(crate) ParentObject: HANDLE,
    pub(crate) ContextSizeOverride: usize,
    pub(crate) ContextTypeInfo: *const WDF_OBJECT_CONTEXT_TYPE_INFO,
}

pub(crate) const WdfSynchronizationScopeInheritFromParent: u32 = 1;
pub(crate) const WdfSynchronizationScopeDevice: u32 = 2;
pub(crate) const WdfSynchronizationScopeQueue: u32 = 3;
pub(crate) const WdfSynchronizationScopeNone: u32 = 4;

pub(crate) const WdfExecutionLevelInheritFromParent: u32 = 1;
pub(crate) const WdfExecutionLevelPassive: u32 = 2;
pub(crate) const WdfExecutionLevelDispatch: u32 = 3;

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct WDF_DRIVER_CONFIG {
    pub(crate) Size: u32,
    pub(crate) EvtDriverDeviceAdd: Option<extern "win64" fn(HANDLE, *mut c_void) -> NTSTATUS>,
    pub(crate) EvtDriverUnload: Option<PFN_OBJECT>,
    pub(crate) DriverInitFlags: u32,
    pub(crate) DriverPoolTag: u32,
}

pub(crate) const WdfDriverInitNonPnpDriver: u32 = 1;
pub(crate) const WdfDriverInitNoDispatchOverride: u32 = 2;

pub(crate) type PFN_DEVICE_STATUS = extern "win64" fn(HANDLE) -> NTSTATUS;
pub(crate) type PFN_DEVICE_POWER = extern "win64" fn(HANDLE, u32) -> NTSTATUS;

#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct WDF_PNPPOWER_EVENT_CALLBACKS {
    pub(crate) Size: u32,
    pub(crate) EvtDeviceD0Entry: Option<PFN_DEVICE_POWER>,
    pub(crate) EvtDeviceD0EntryPostInterruptsEnabled: Option<PFN_DEVICE_POWER>,
    pub(crate) EvtDeviceD0Exit: Option<PFN_DEVICE_POWER>,
    pub(crate) EvtDeviceD0ExitPreInterruptsDisabled: Option<PFN_DEVICE_POWER>,
    pub(crate) EvtDevicePrepareHardware: Option<extern "win64" fn(HANDLE, HANDLE, HANDLE) -> NTSTATUS>,
    pub(crate) EvtDeviceReleaseHardware: Option<extern "win64" fn(HANDLE, HANDLE) -> NTSTATUS>,
    pub(crate) EvtDeviceSelfManagedIoCleanup: Option<PFN_OBJECT>,
    pub(crate) EvtDeviceSelfManagedIoFlush: Option<PFN_OBJECT>,
    pub(crate) EvtDeviceSelfManagedIoInit: Option<PFN_DEVICE_STATUS>,
    pub(crate) EvtDeviceSelfManagedIoSuspend: Option<PFN_DEVICE_STATUS>,
    pub(crate) EvtDeviceSelfManagedIoRestart: Option<PFN_DEVICE_STATUS>,
    pub(crate) EvtDeviceSurpriseRemoval: Option<PFN_OBJECT>,
    pub(crate) EvtDeviceQueryRemove: Option<PFN_DEVICE_STATUS>,
    pub(crate) EvtDeviceQueryStop: Option<PFN_DEVICE_STATUS>,
    pub(crate) EvtDeviceUsageNotification: usize,
    pub(crate) EvtDeviceRelationsQuery: usize,
    pub(crate) EvtDeviceUsageNotificationEx: usize,
}

/// WDF_TRI_STATE.
pub(crate) const WdfFalse: u32 = 0;
pub(crate) const WdfTrue: u32 = 1;
pub(crate) const WdfUseDefault: u32 = 2;

/// The tri-states Disabled, DontDisplayInUI, Failed, NotDisableable, Removed, ResourcesChanged, AssignedToGuest.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct WDF_DEVICE_STATE {
    pub(crate) Size: u32,
    pub(crate) States: [u32; 7],
}

/// The tri-states LockSupported, EjectSupported, Removable, DockDevice, UniqueID, SilentInstall, SurpriseRemovalOK, HardwareDisabled,
/// NoDisplayInUI, and what the device's address and number are.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct WDF_DEVICE_PNP_CAPABILITIES {
    pub(crate) Size: u32,
    pub(crate) Can: [u32; 9],
    pub(crate) Address: u32,
    pub(crate) UINumber: u32,
}

/// The tri-states DeviceD1, DeviceD2, WakeFromD0 to WakeFromD3; the device's states by the system's; how slowly it comes back from D1,
/// D2 and D3.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct WDF_DEVICE_POWER_CAPABILITIES {
    pub(crate) Size: u32,
    pub(crate) Can: [u32; 6],
    pub(crate) DeviceState: [u32; 7],
    pub(crate) DeviceWake: u32,
    pub(crate) SystemWake: u32,
    pub(crate) Latency: [u32; 3],
    pub(crate) IdealDxStateForSx: u32,
}

#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct WDF_DEVICE_POWER_POLICY_IDLE_SETTINGS {
    pub(crate) Size: u32,
    pub(crate) IdleCaps: u32,
    pub(crate) DxState: u32,
    pub(crate) IdleTimeout: u32,
    pub(crate) UserControlOfIdleSettings: u32,
    pub(crate) Enabled: u32,
    pub(crate) PowerUpIdleDeviceOnSystemWake: u32,
    pub(crate) IdleTimeoutType: u32,
    pub(crate) ExcludeD3Cold: u32,
}

#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct WDF_DEVICE_POWER_POLICY_WAKE_SETTINGS {
    pub(crate) Size: u32,
    pub(crate) DxState: u32,
    pub(crate) UserControlOfWakeSettings: u32,
    pub(crate) Enabled: u32,
    pub(crate) ArmForWakeIfChildrenAreArmedForWake: u8,
    pub(crate) IndicateChildWakeOnParentWake: u8,
}

/// Callbacks around waking up: from S0 and from Sx each to arm the device, to disarm it, and when it has woken; and to arm it for Sx
/// with the reason.
#[repr(C)]
pub(crate) struct WDF_POWER_POLICY_EVENT_CALLBACKS {
    pub(crate) Size: u32,
    pub(crate) FromS0: [usize; 3],
    pub(crate) FromSx: [usize; 3],
    pub(crate) EvtDeviceArmWakeFromSxWithReason: usize,
}

/// A property of the unified model.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct WDF_DEVICE_PROPERTY_DATA {
    pub(crate) Size: u32,
    pub(crate) PropertyKey: *const DEVPROPKEY,
    pub(crate) Lcid: u32,
    pub(crate) Flags: u32,
}

/// How an interface that drivers give each other begins.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct INTERFACE {
    pub(crate) Size: u16,
    pub(crate) Version: u16,
    pub(crate) Context: *mut c_void,
    pub(crate) InterfaceReference: Option<extern "win64" fn(*mut c_void)>,
    pub(crate) InterfaceDereference: Option<extern "win64" fn(*mut c_void)>,
}

#[repr(C)]
pub(crate) struct WDF_QUERY_INTERFACE_CONFIG {
    pub(crate) Size: u32,
    pub(crate) Interface: *const INTERFACE,
    pub(crate) InterfaceType: *const GUID,
    pub(crate) SendQueryToParentStack: u8,
    pub(crate) EvtDeviceProcessQueryInterfaceRequest:
        Option<extern "win64" fn(HANDLE, *const GUID, *mut INTERFACE, *mut c_void) -> NTSTATUS>,
    pub(crate) ImportInterface: u8,
}

/// WDF_POWER_DEVICE_STATE: the state before the first D0, and after the last.
pub(crate) const WdfPowerDeviceD3Final: u32 = 5;

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct WDF_DPC_CONFIG {
    pub(crate) Size: u32,
    pub(crate) EvtDpcFunc: Option<PFN_OBJECT>,
    pub(crate) AutomaticSerialization: u8,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct WDF_FILEOBJECT_CONFIG {
    pub(crate) Size: u32,
    pub(crate) EvtDeviceFileCreate: Option<extern "win64" fn(HANDLE, HANDLE, HANDLE)>,
    pub(crate) EvtFileClose: Option<PFN_OBJECT>,
    pub(crate) EvtFileCleanup: Option<PFN_OBJECT>,
    pub(crate) AutoForwardCleanupClose: u32,
    pub(crate) FileObjectClass: u32,
}

pub(crate) const WdfFileObjectNotRequired: u32 = 1;
pub(crate) const WdfFileObjectWdfCanUseFsContext: u32 = 2;
pub(crate) const WdfFileObjectWdfCanUseFsContext2: u32 = 3;
pub(crate) const WdfFileObjectCanBeOptional: u32 = 0x8000_0000;

pub(crate) type PFN_IO_DEFAULT = extern "win64" fn(HANDLE, HANDLE);
pub(crate) type PFN_IO_TRANSFER = extern "win64" fn(HANDLE, HANDLE, usize);
pub(crate) type PFN_IO_CONTROL = extern "win64" fn(HANDLE, HANDLE, usize, usize, u32);

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct WDF_IO_QUEUE_CONFIG {
    pub(crate) Size: u32,
    pub(crate) DispatchType: u32,
    pub(crate) PowerManaged: u32,
    pub(crate) AllowZeroLengthRequests: u8,
    pub(crate) DefaultQueue: u8,
    pub(crate) EvtIoDefault: Option<PFN_IO_DEFAULT>,
    pub(crate) EvtIoRead: Option<PFN_IO_TRANSFER>,
    pub(crate) EvtIoWrite: Option<PFN_IO_TRANSFER>,
    pub(crate) EvtIoDeviceControl: Option<PFN_IO_CONTROL>,
    pub(crate) EvtIoInternalDeviceControl: Option<PFN_IO_CONTROL>,
    pub(crate) EvtIoStop: Option<extern "win64" fn(HANDLE, HANDLE, u32)>,
    pub(crate) EvtIoResume: Option<PFN_IO_DEFAULT>,
    pub(crate) EvtIoCanceledOnQueue: Option<PFN_IO_DEFAULT>,
    pub(crate) NumberOfPresentedRequests: u32,
    pub(crate) Driver: HANDLE,
}

pub(crate) const WdfIoQueueDispatchSequential: u32 = 1;
pub(crate) const WdfIoQueueDispatchParallel: u32 = 2;
pub(crate) const WdfIoQueueDispatchManual: u32 = 3;

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct WDF_WORKITEM_CONFIG {
    pub(crate) Size: u32,
    pub(crate) EvtWorkItemFunc: Option<PFN_OBJECT>,
    pub(crate) AutomaticSerialization: u8,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct WDF_TIMER_CONFIG {
    pub(crate) Size: u32,
    pub(crate) EvtTimerFunc: Option<PFN_OBJECT>,
    pub(crate) Period: u32,
    pub(crate) AutomaticSerialization: u8,
    pub(crate) TolerableDelay: u32,
    pub(crate) UseHighResolutionTimer: UseHighResolutionTimer,
}

/// The member is declared with eight bytes' alignment.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct UseHighResolutionTimer(pub(crate) u8);

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct WDF_REQUEST_PARAMETERS {
    pub(crate) Size: u16,
    pub(crate) MinorFunction: u8,
    pub(crate) Type: u32,
    /// Read, Write: Length, Key, DeviceOffset. DeviceIoControl: OutputBufferLength, InputBufferLength, IoControlCode.
    pub(crate) Parameters: [usize; 4],
}

/// A UNICODE_STRING of the client's, by value.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Name {
    length: u16,
    maximum: u16,
    buffer: *mut u16,
}

impl Name {
    /// Its units.
    pub(crate) fn units(&self) -> Vec<u16> {
        let at = |index: usize| crate::nt::strings::unit(self.buffer.wrapping_add(index));
        (0..usize::from(self.length) / 2).map(at).collect()
    }

    /// The string of these units.
    pub(crate) fn of_units(units: &[u16]) -> UNICODE_STRING {
        let string = UNICODE_STRING::zeroed();
        let length = u16::try_from(units.len() * 2).unwrap_or(u16::MAX);
        string.Length.set(length);
        string.MaximumLength.set(length);
        string.Buffer.set(units.as_ptr().cast_mut());
        string
    }
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct WDF_IO_TARGET_OPEN_PARAMS {
    pub(crate) Size: u32,
    pub(crate) Type: u32,
    pub(crate) EvtIoTargetQueryRemove: Option<PFN_DEVICE_STATUS>,
    pub(crate) EvtIoTargetRemoveCanceled: Option<PFN_OBJECT>,
    pub(crate) EvtIoTargetRemoveComplete: Option<PFN_OBJECT>,
    pub(crate) TargetDeviceObject: usize,
    pub(crate) TargetFileObject: usize,
    pub(crate) TargetDeviceName: Name,
    pub(crate) DesiredAccess: u32,
    pub(crate) ShareAccess: u32,
    pub(crate) FileAttributes: u32,
    pub(crate) CreateDisposition: u32,
    pub(crate) CreateOptions: u32,
    pub(crate) EaBuffer: *mut c_void,
    pub(crate) EaBufferLength: u32,
    pub(crate) AllocationSize: *const i64,
    pub(crate) FileInformation: u32,
    pub(crate) FileName: Name,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct WDF_REQUEST_SEND_OPTIONS {
    pub(crate) Size: u32,
    pub(crate) Flags: u32,
    pub(crate) Timeout: i64,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct WDF_REQUEST_REUSE_PARAMS {
    pub(crate) Size: u32,
    pub(crate) Flags: u32,
    pub(crate) Status: NTSTATUS,
    pub(crate) NewIrp: usize,
}

/// A buffer, an MDL, or a memory object: where it is, and its length, or the part of it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct WDF_MEMORY_DESCRIPTOR {
    pub(crate) Type: u32,
    pub(crate) Buffer: usize,
    pub(crate) Length: usize,
}

#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct WDF_REQUEST_COMPLETION_PARAMS {
    pub(crate) Size: u32,
    pub(crate) Type: u32,
    pub(crate) Status: NTSTATUS,
    pub(crate) Information: usize,
    /// Read, Write: Buffer, Length, Offset. Ioctl: IoControlCode, Input.Buffer, .Offset, Output.Buffer, .Offset, .Length.
    pub(crate) Parameters: [usize; 6],
}

/// A part of a memory object.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct WDFMEMORY_OFFSET {
    pub(crate) BufferOffset: usize,
    pub(crate) BufferLength: usize,
}

/// A driver object's address, for keys of maps.
pub(crate) type DriverObject = *mut DRIVER_OBJECT;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wdfldr::WDF_DRIVER_GLOBALS;
    use std::collections::HashMap;
    use std::mem::offset_of;

    /// Sizes and field offsets of the table, by structure.
    fn facts() -> HashMap<&'static str, (usize, HashMap<&'static str, usize>)> {
        let mut structures = HashMap::new();
        let mut name = "";
        for line in include_str!("../../facts/kmdf_layout.tsv").lines().skip(1) {
            let cells: Vec<_> = line.split('\t').collect();
            if let ["", field, offset, ..] = cells[..] {
                let entry: &mut (usize, HashMap<_, _>) = structures.get_mut(name).expect("a structure row comes first");
                entry.1.insert(field, offset.parse().unwrap());
            } else {
                name = cells[0];
                structures.insert(name, (cells[1].parse().unwrap(), HashMap::new()));
            }
        }
        structures
    }

    #[test]
    fn layouts_are_the_headers() {
        let facts = facts();
        macro_rules! check {
            ($($name:ident: $($field:ident)*;)*) => {$(
                let (size, fields) = &facts[stringify!($name)];
                assert_eq!(size_of::<$name>(), *size, stringify!($name));
                $(assert_eq!(offset_of!($name, $field), fields[stringify!($field)], stringify!($name.$field));)*
            )*};
        }
        check! {
            WDF_DRIVER_GLOBALS: Driver DriverFlags DriverTag DriverName DisplaceDriverUnload;
            WDF_OBJECT_ATTRIBUTES: Size EvtCleanupCallback EvtDestroyCallback ExecutionLevel SynchronizationScope
                ParentObject ContextSizeOverride ContextTypeInfo;
            WDF_OBJECT_CONTEXT_TYPE_INFO: Size ContextName ContextSize UniqueType EvtDriverGetUniqueContextType;
            WDF_DRIVER_CONFIG: Size EvtDriverDeviceAdd EvtDriverUnload DriverInitFlags DriverPoolTag;
            WDF_FILEOBJECT_CONFIG: Size EvtDeviceFileCreate EvtFileClose EvtFileCleanup AutoForwardCleanupClose
                FileObjectClass;
            WDF_IO_QUEUE_CONFIG: Size DispatchType PowerManaged AllowZeroLengthRequests DefaultQueue EvtIoDefault
                EvtIoRead EvtIoWrite EvtIoDeviceControl EvtIoInternalDeviceControl EvtIoStop EvtIoResume
                EvtIoCanceledOnQueue NumberOfPresentedRequests Driver;
            WDF_WORKITEM_CONFIG: Size EvtWorkItemFunc AutomaticSerialization;
            WDF_DPC_CONFIG: Size EvtDpcFunc AutomaticSerialization;
            WDF_TIMER_CONFIG: Size EvtTimerFunc Period AutomaticSerialization TolerableDelay UseHighResolutionTimer;
            WDF_REQUEST_PARAMETERS: Size MinorFunction Type;
            WDFMEMORY_OFFSET: BufferOffset BufferLength;
            WDF_MEMORY_DESCRIPTOR: Type Buffer Length;
            WDF_IO_TARGET_OPEN_PARAMS: Size Type EvtIoTargetQueryRemove EvtIoTargetRemoveCanceled
                EvtIoTargetRemoveComplete TargetDeviceObject TargetFileObject TargetDeviceName DesiredAccess ShareAccess
                FileAttributes CreateDisposition CreateOptions EaBuffer EaBufferLength AllocationSize FileInformation
                FileName;
            WDF_REQUEST_SEND_OPTIONS: Size Flags Timeout;
            WDF_REQUEST_REUSE_PARAMS: Size Flags Status NewIrp;
            WDF_REQUEST_COMPLETION_PARAMS: Size Type;
            WDF_DEVICE_STATE: Size;
            WDF_DEVICE_PNP_CAPABILITIES: Size Address UINumber;
            WDF_DEVICE_PROPERTY_DATA: Size PropertyKey Lcid Flags;
            WDF_QUERY_INTERFACE_CONFIG: Size Interface InterfaceType SendQueryToParentStack
                EvtDeviceProcessQueryInterfaceRequest ImportInterface;
        }
        // Held against the header that C drivers are compiled with by `tests/drivers/kmdf_pnp.c`.
        assert_eq!(size_of::<WDF_PNPPOWER_EVENT_CALLBACKS>(), 144);
        assert_eq!(offset_of!(WDF_PNPPOWER_EVENT_CALLBACKS, EvtDeviceSurpriseRemoval), 96);
        // By `tests/drivers/kmdf_power.h`.
        assert_eq!(size_of::<WDF_DEVICE_POWER_CAPABILITIES>(), 80);
        assert_eq!(size_of::<WDF_DEVICE_POWER_POLICY_IDLE_SETTINGS>(), 36);
        assert_eq!(size_of::<WDF_DEVICE_POWER_POLICY_WAKE_SETTINGS>(), 20);
        assert_eq!(size_of::<WDF_POWER_POLICY_EVENT_CALLBACKS>(), 64);
        assert_eq!(size_of::<INTERFACE>(), 32);
    }
}
