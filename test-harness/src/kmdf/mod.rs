//! The framework (KMDF), re-implemented: the function table to which `WDFLDR.SYS` binds clients.
//!
//! It stands on the [`nt`](crate::nt) layer as a driver does, by the functions that ntoskrnl exports: on a machine that has it,
//! Microsoft's own runtime takes its place ([`wdfldr`](crate::wdfldr)). Semantics follow the documentation and the published KMDF source: objects are a
//! tree, deleted children first; a request has one owner; create and device-control IRPs return STATUS_PENDING also when
//! the client has completed them inline.
#![allow(non_snake_case, non_camel_case_types, non_upper_case_globals)] // the headers' own names

mod bind;
mod device;
mod driver;
mod format;
mod object;
mod pnp;
mod power;
mod presentation;
mod queue;
mod registry;
mod request;
mod send;
mod support;
mod target;
mod types;
mod values;

pub(crate) use bind::{register_client, unregister_client};

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use crate::kernel::Kernel;
use crate::simulation;

/// The framework's state on one machine.
#[derive(Default)]
pub(crate) struct Framework {
    objects: object::Objects,
    /// Clients by the address of their globals.
    clients: Mutex<HashMap<usize, Arc<bind::Client>>>,
    /// WDFDEVICE_INITs that are neither freed nor taken.
    inits: Mutex<HashSet<usize>>,
    /// WDFFILEOBJECTs by their device and file objects, of devices whose files' contexts are not the framework's to use.
    files: Mutex<HashMap<(usize, usize), usize>>,
    /// Requests whose IRPs are completed, or about to be, and that are not destroyed yet.
    completing: AtomicUsize,
}

/// Whether the framework allocates with this tag for another driver than that of `object`.
pub(crate) fn is_of_another_driver(kernel: &Kernel, object: usize, tag: u32) -> bool {
    let framework = kernel.extension::<Framework>();
    let clients = framework.clients.lock();
    clients.values().any(|client| client.tag() == tag && client.driver_object as usize != object)
}

/// Waits a moment for requests that have been completed to be destroyed, which comes after their issuers are told.
pub(crate) fn settle(kernel: &Kernel) {
    const MOMENT: Duration = Duration::from_millis(20);
    const SHORTLY: Duration = Duration::from_micros(10);
    let (framework, since) = (kernel.extension::<Framework>(), simulation::now());
    while framework.completing.load(Ordering::Acquire) != 0 && simulation::now().duration_since(since) < MOMENT {
        simulation::sleep(SHORTLY);
    }
}

/// Names of the function table's entries, by index.
fn function_names() -> &'static [&'static str] {
    static NAMES: OnceLock<Vec<&'static str>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let rows = include_str!("../../facts/kmdf_functions.tsv").lines().skip(1);
        // The enumeration ends with the number of functions.
        rows.filter_map(|row| row.split('\t').nth(1)).take(bind::FUNCTIONS as usize).collect()
    })
}

/// The address of the function of that name, if the framework has it.
fn function(name: &str) -> Option<usize> {
    static TABLE: OnceLock<HashMap<&'static str, usize>> = OnceLock::new();
    TABLE.get_or_init(|| functions().iter().copied().collect()).get(name).copied()
}

/// Every function that the framework has.
pub(crate) fn functions() -> &'static [(&'static str, usize)] {
    macro_rules! table {
        ($($module:ident: $($function:ident)*;)*) => {
            vec![$($((stringify!($function), $module::$function as *const () as usize),)*)*]
        };
    }
    static FUNCTIONS: OnceLock<Vec<(&'static str, usize)>> = OnceLock::new();
    FUNCTIONS.get_or_init(|| {
        table! {
            driver: WdfDriverCreate WdfDriverWdmGetDriverObject WdfWdmDriverGetWdfDriverHandle
                WdfDriverRetrieveVersionString WdfDriverIsVersionAvailable WdfDriverGetRegistryPath
                WdfVerifierDbgBreakPoint WdfVerifierKeBugCheck;
            registry: WdfDriverOpenParametersRegistryKey WdfRegistryOpenKey WdfRegistryCreateKey WdfRegistryClose
                WdfRegistryWdmGetHandle WdfRegistryRemoveKey WdfRegistryRemoveValue WdfRegistryQueryValue
                WdfRegistryQueryMemory WdfRegistryQueryMultiString WdfRegistryQueryUnicodeString WdfRegistryQueryString
                WdfRegistryQueryULong WdfRegistryAssignValue WdfRegistryAssignMemory WdfRegistryAssignMultiString
                WdfRegistryAssignUnicodeString WdfRegistryAssignString WdfRegistryAssignULong;
            object: WdfObjectGetTypedContextWorker WdfObjectAllocateContext WdfObjectContextGetObject
                WdfObjectReferenceActual WdfObjectDereferenceActual WdfObjectCreate WdfObjectDelete;
            device: WdfControlDeviceInitAllocate WdfDeviceInitFree WdfDeviceInitAssignName WdfDeviceInitAssignSDDLString
                WdfDeviceInitSetDeviceType WdfDeviceInitSetCharacteristics WdfDeviceInitSetExclusive
                WdfDeviceInitSetIoType WdfDeviceInitSetFileObjectConfig WdfDeviceInitSetRequestAttributes
                WdfDeviceInitSetIoInCallerContextCallback WdfDeviceCreate WdfControlFinishInitializing
                WdfDeviceCreateSymbolicLink WdfDeviceWdmGetDeviceObject WdfWdmDeviceGetWdfDeviceHandle
                WdfDeviceGetDriver WdfDeviceGetDefaultQueue WdfFileObjectGetDevice WdfFileObjectWdmGetFileObject WdfFileObjectGetFileName
                WdfDeviceEnqueueRequest WdfDeviceConfigureRequestDispatching
                WdfDeviceInitAssignWdmIrpPreprocessCallback WdfDeviceWdmDispatchIrpToIoQueue
                WdfDeviceWdmDispatchPreprocessedIrp WdfControlDeviceInitSetShutdownNotification
                WdfDeviceGetAlignmentRequirement WdfDeviceSetAlignmentRequirement WdfDeviceGetCharacteristics
                WdfDeviceSetCharacteristics WdfDeviceInitSetDeviceClass WdfDeviceRetrieveDeviceName
                WdfDeviceQueryProperty WdfDeviceAllocAndQueryProperty WdfDeviceQueryPropertyEx
                WdfDeviceAllocAndQueryPropertyEx WdfDeviceAssignProperty WdfDeviceOpenRegistryKey
                WdfFdoInitQueryProperty WdfFdoInitAllocAndQueryProperty WdfFdoInitQueryPropertyEx
                WdfFdoInitAllocAndQueryPropertyEx WdfFdoInitOpenRegistryKey WdfIoTargetQueryTargetProperty
                WdfIoTargetAllocAndQueryTargetProperty;
            presentation: WdfObjectAcquireLock WdfObjectReleaseLock;
            queue: WdfIoQueueCreate WdfIoQueueGetDevice WdfIoQueueGetState WdfIoQueueStart WdfIoQueueStop
                WdfIoQueueStopSynchronously WdfIoQueueDrain WdfIoQueueDrainSynchronously WdfIoQueuePurge
                WdfIoQueuePurgeSynchronously WdfIoQueueReadyNotify WdfIoQueueRetrieveNextRequest WdfIoQueueRetrieveRequestByFileObject
                WdfIoQueueFindRequest WdfIoQueueRetrieveFoundRequest WdfRequestForwardToIoQueue WdfRequestRequeue WdfRequestStopAcknowledge;
            request: WdfRequestRetrieveUnsafeUserInputBuffer WdfRequestRetrieveUnsafeUserOutputBuffer
                WdfRequestRetrieveInputBuffer WdfRequestRetrieveOutputBuffer WdfRequestRetrieveInputWdmMdl
                WdfRequestRetrieveOutputWdmMdl WdfRequestRetrieveInputMemory WdfRequestRetrieveOutputMemory
                WdfRequestProbeAndLockUserBufferForRead WdfRequestProbeAndLockUserBufferForWrite
                WdfRequestGetParameters WdfRequestGetFileObject WdfRequestGetIoQueue
                WdfRequestWdmGetIrp WdfRequestGetRequestorMode WdfRequestIsFrom32BitProcess WdfRequestGetStatus
                WdfRequestSetInformation WdfRequestGetInformation WdfRequestIsCanceled WdfRequestMarkCancelable
                WdfRequestMarkCancelableEx WdfRequestUnmarkCancelable WdfRequestComplete
                WdfRequestCompleteWithInformation WdfRequestCompleteWithPriorityBoost;
            target: WdfDeviceGetIoTarget WdfIoTargetCreate WdfIoTargetOpen WdfIoTargetClose WdfIoTargetCloseForQueryRemove
                WdfIoTargetStart WdfIoTargetStop WdfIoTargetPurge WdfIoTargetGetState WdfIoTargetGetDevice
                WdfIoTargetWdmGetTargetDeviceObject WdfIoTargetWdmGetTargetFileObject WdfIoTargetWdmGetTargetFileHandle
                WdfIoTargetWdmGetTargetPhysicalDevice;
            format: WdfIoTargetFormatRequestForRead WdfIoTargetFormatRequestForWrite WdfIoTargetFormatRequestForIoctl
                WdfIoTargetFormatRequestForInternalIoctl WdfIoTargetFormatRequestForInternalIoctlOthers
                WdfRequestFormatRequestUsingCurrentType WdfRequestWdmFormatUsingStackLocation;
            send: WdfRequestSetCompletionRoutine WdfRequestGetCompletionParams
                WdfRequestCancelSentRequest WdfRequestSend WdfRequestCreate WdfRequestReuse WdfRequestChangeTarget
                WdfIoTargetSendReadSynchronously WdfIoTargetSendWriteSynchronously WdfIoTargetSendIoctlSynchronously
                WdfIoTargetSendInternalIoctlSynchronously;
            support: WdfWorkItemCreate WdfWorkItemEnqueue WdfWorkItemFlush WdfWorkItemGetParentObject WdfTimerCreate
                WdfTimerStart WdfTimerStop WdfTimerGetParentObject WdfSpinLockCreate WdfSpinLockAcquire
                WdfSpinLockRelease WdfWaitLockCreate WdfWaitLockAcquire WdfWaitLockRelease WdfMemoryCreate
                WdfMemoryCreatePreallocated WdfMemoryGetBuffer WdfLookasideListCreate WdfMemoryCreateFromLookaside;
            values: WdfStringCreate WdfStringGetUnicodeString WdfCollectionCreate WdfCollectionGetCount WdfCollectionAdd
                WdfCollectionRemove WdfCollectionRemoveItem WdfCollectionGetItem WdfCollectionGetFirstItem
                WdfCollectionGetLastItem WdfMemoryCopyToBuffer WdfMemoryCopyFromBuffer WdfMemoryAssignBuffer WdfDpcCreate
                WdfDpcEnqueue WdfDpcCancel WdfDpcGetParentObject WdfDpcWdmGetDpc;
            pnp: WdfDeviceInitSetPnpPowerEventCallbacks WdfDeviceInitSetPowerPolicyOwnership WdfFdoInitSetFilter
                WdfFdoInitWdmGetPhysicalDevice WdfDeviceWdmGetPhysicalDevice WdfDeviceWdmGetAttachedDevice
                WdfCmResourceListGetCount WdfCmResourceListGetDescriptor WdfDeviceCreateDeviceInterface
                WdfDeviceSetDeviceInterfaceState WdfDeviceRetrieveDeviceInterfaceString
                WdfDeviceAddQueryInterface WdfFdoQueryForInterface WdfIoTargetQueryForInterface WdfDeviceGetDeviceState
                WdfDeviceSetDeviceState WdfDeviceSetFailed WdfDeviceSetPnpCapabilities WdfDeviceSetPowerCapabilities
                WdfDeviceInitSetPowerPolicyEventCallbacks;
            power: WdfDeviceAssignS0IdleSettings WdfDeviceAssignSxWakeSettings WdfDeviceStopIdleNoTrack
                WdfDeviceStopIdleActual WdfDeviceResumeIdleNoTrack WdfDeviceResumeIdleActual;
        }
    })
}

/// Handle and type of every live object of a client.
fn objects_of(client: &Arc<bind::Client>) -> Vec<(types::HANDLE, &'static str)> {
    crate::thread::kernel().extension::<Framework>().objects.of(client)
}

/// An object is being deleted: what it has in the kernel goes.
fn dispose(object: &object::Object) {
    object.kind.dispose();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_is_in_the_table_of_the_headers() {
        let names: HashSet<_> = function_names().iter().copied().collect();
        assert_eq!(names.len(), bind::FUNCTIONS as usize);
        for (name, _) in functions() {
            assert!(names.contains(name), "{name}");
        }
    }

    #[test]
    fn the_table_is_read_by_index() {
        assert_eq!(function_names()[116], "WdfDriverCreate");
        assert_eq!(function_names()[265], "WdfRequestCompleteWithInformation");
    }
}
