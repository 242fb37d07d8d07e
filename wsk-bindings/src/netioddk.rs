//! netioddk.h: the Network Module Registrar (NMR), which attaches clients and providers of a network programming
//! interface (NPI) to one another.
//!
//! [`WskRegister`](crate::WskRegister) does all of this for a WSK client. A driver calls the registrar itself where it
//! offers or uses another interface, such as a WSK extension.
//!
//! Page: <https://learn.microsoft.com/windows-hardware/drivers/network/introduction-to-the-network-module-registrar>
#![allow(unsafe_code)] // Imports from netio.sys.
#![allow(non_camel_case_types, non_snake_case)] // C spelling.

use crate::netiodef::{PNPI_MODULEID, PNPIID};
use crate::nt::{HANDLE, NTSTATUS, PCVOID, PHANDLE, PVOID, ULONG, USHORT};

/// One side's registration of one interface.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/netioddk/ns-netioddk-_npi_registration_instance>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NPI_REGISTRATION_INSTANCE {
    /// Zero.
    pub Version: USHORT,
    /// Bytes of this structure.
    pub Size: USHORT,
    /// The interface.
    pub NpiId: PNPIID,
    /// The module that registers.
    pub ModuleId: PNPI_MODULEID,
    /// Tells several registrations of one interface by one module apart.
    pub Number: ULONG,
    /// What the interface wants to be known before modules attach, or null.
    pub NpiSpecificCharacteristics: PCVOID,
}

/// Points to a constant [`NPI_REGISTRATION_INSTANCE`].
pub type PNPI_REGISTRATION_INSTANCE = *const NPI_REGISTRATION_INSTANCE;

/// One side of an interface in general: each interface has a structure like it, such as
/// [`WSK_CLIENT_NPI`](crate::WSK_CLIENT_NPI).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NPI {
    /// Represents the caller of the functions.
    pub Handle: HANDLE,
    /// The functions.
    pub Dispatch: PCVOID,
}

/// `ClientAttachProvider`: there is a provider of the client's interface. The client looks at its registration and
/// returns what [`NmrClientAttachProvider`] returns, or `STATUS_NOINTERFACE` where it does not want it.
///
/// IRQL: called at `PASSIVE_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/netioddk/nc-netioddk-npi_client_attach_provider_fn>
pub type PNPI_CLIENT_ATTACH_PROVIDER_FN = Option<
    unsafe extern "system" fn(
        NmrBindingHandle: HANDLE,
        ClientContext: PVOID,
        ProviderRegistrationInstance: PNPI_REGISTRATION_INSTANCE,
    ) -> NTSTATUS,
>;

/// `ClientDetachProvider`: one side deregisters. The client makes no new call to the provider and returns
/// `STATUS_SUCCESS`, or `STATUS_PENDING` while calls are in progress, and then
/// [`NmrClientDetachProviderComplete`] after the last.
///
/// IRQL: called at up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/netioddk/nc-netioddk-npi_client_detach_provider_fn>
pub type PNPI_CLIENT_DETACH_PROVIDER_FN = Option<unsafe extern "system" fn(ClientBindingContext: PVOID) -> NTSTATUS>;

/// `ClientCleanupBindingContext`: both sides have detached; the client frees its binding context.
///
/// IRQL: called at up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/netioddk/nc-netioddk-npi_client_cleanup_binding_context_fn>
pub type PNPI_CLIENT_CLEANUP_BINDING_CONTEXT_FN = Option<unsafe extern "system" fn(ClientBindingContext: PVOID)>;

/// `ProviderAttachClient`: a client wants to attach. The provider keeps the binding handle, the client's context and its
/// table, stores its own context and table through the last two arguments, and returns `STATUS_SUCCESS`; or
/// `STATUS_NOINTERFACE`.
///
/// IRQL: called at `PASSIVE_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/netioddk/nc-netioddk-npi_provider_attach_client_fn>
pub type PNPI_PROVIDER_ATTACH_CLIENT_FN = Option<
    unsafe extern "system" fn(
        NmrBindingHandle: HANDLE,
        ProviderContext: PVOID,
        ClientRegistrationInstance: PNPI_REGISTRATION_INSTANCE,
        ClientBindingContext: PVOID,
        ClientDispatch: PCVOID,
        ProviderBindingContext: *mut PVOID,
        ProviderDispatch: *mut PCVOID,
    ) -> NTSTATUS,
>;

/// `ProviderDetachClient`: one side deregisters. The provider makes no new call to the client and returns
/// `STATUS_SUCCESS`, or `STATUS_PENDING` while calls are in progress, and then
/// [`NmrProviderDetachClientComplete`] after the last.
///
/// IRQL: called at up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/netioddk/nc-netioddk-npi_provider_detach_client_fn>
pub type PNPI_PROVIDER_DETACH_CLIENT_FN = Option<unsafe extern "system" fn(ProviderBindingContext: PVOID) -> NTSTATUS>;

/// `ProviderCleanupBindingContext`: both sides have detached; the provider frees its binding context.
///
/// IRQL: called at up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/netioddk/nc-netioddk-npi_provider_cleanup_binding_context_fn>
pub type PNPI_PROVIDER_CLEANUP_BINDING_CONTEXT_FN = Option<unsafe extern "system" fn(ProviderBindingContext: PVOID)>;

/// What a client registers. It stays valid until the deregistration is complete.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/netioddk/ns-netioddk-_npi_client_characteristics>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NPI_CLIENT_CHARACTERISTICS {
    /// Zero.
    pub Version: USHORT,
    /// Bytes of this structure.
    pub Length: USHORT,
    /// Required.
    pub ClientAttachProvider: PNPI_CLIENT_ATTACH_PROVIDER_FN,
    /// Required.
    pub ClientDetachProvider: PNPI_CLIENT_DETACH_PROVIDER_FN,
    /// May be null.
    pub ClientCleanupBindingContext: PNPI_CLIENT_CLEANUP_BINDING_CONTEXT_FN,
    /// What the client is and wants.
    pub ClientRegistrationInstance: NPI_REGISTRATION_INSTANCE,
}

/// Points to a constant [`NPI_CLIENT_CHARACTERISTICS`].
pub type PNPI_CLIENT_CHARACTERISTICS = *const NPI_CLIENT_CHARACTERISTICS;

/// What a provider registers. It stays valid until the deregistration is complete.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/netioddk/ns-netioddk-_npi_provider_characteristics>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NPI_PROVIDER_CHARACTERISTICS {
    /// Zero.
    pub Version: USHORT,
    /// Bytes of this structure.
    pub Length: USHORT,
    /// Required.
    pub ProviderAttachClient: PNPI_PROVIDER_ATTACH_CLIENT_FN,
    /// Required.
    pub ProviderDetachClient: PNPI_PROVIDER_DETACH_CLIENT_FN,
    /// May be null.
    pub ProviderCleanupBindingContext: PNPI_PROVIDER_CLEANUP_BINDING_CONTEXT_FN,
    /// What the provider is and offers.
    pub ProviderRegistrationInstance: NPI_REGISTRATION_INSTANCE,
}

/// Points to a constant [`NPI_PROVIDER_CHARACTERISTICS`].
pub type PNPI_PROVIDER_CHARACTERISTICS = *const NPI_PROVIDER_CHARACTERISTICS;

#[cfg_attr(all(target_os = "windows", feature = "wdk-sys"), link(name = "netio"))]
unsafe extern "system" {
    /// Registers a client of an interface. Its attach callback is called for each provider, now and later.
    ///
    /// Returns `STATUS_SUCCESS`, `STATUS_INSUFFICIENT_RESOURCES` or another error.
    ///
    /// IRQL: `PASSIVE_LEVEL`.
    ///
    /// # Safety
    ///
    /// `ClientCharacteristics` and what it points to stay valid until the deregistration is complete;
    /// `NmrClientHandle` is writable.
    ///
    /// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/netioddk/nf-netioddk-nmrregisterclient>
    pub fn NmrRegisterClient(
        ClientCharacteristics: PNPI_CLIENT_CHARACTERISTICS,
        ClientContext: PVOID,
        NmrClientHandle: PHANDLE,
    ) -> NTSTATUS;

    /// Begins to deregister a client. Returns `STATUS_PENDING`: wait with [`NmrWaitForClientDeregisterComplete`].
    ///
    /// IRQL: up to `DISPATCH_LEVEL`.
    ///
    /// # Safety
    ///
    /// The handle is from [`NmrRegisterClient`] and has not been deregistered.
    ///
    /// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/netioddk/nf-netioddk-nmrderegisterclient>
    pub fn NmrDeregisterClient(NmrClientHandle: HANDLE) -> NTSTATUS;

    /// Waits until a client is deregistered. The driver does not unload before that.
    ///
    /// Returns `STATUS_SUCCESS`, or `STATUS_INVALID_PARAMETER` without a prior [`NmrDeregisterClient`].
    ///
    /// IRQL: below `DISPATCH_LEVEL`.
    ///
    /// # Safety
    ///
    /// The handle is one that [`NmrDeregisterClient`] was called with.
    ///
    /// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/netioddk/nf-netioddk-nmrwaitforclientderegistercomplete>
    pub fn NmrWaitForClientDeregisterComplete(NmrClientHandle: HANDLE) -> NTSTATUS;

    /// Attaches a client to a provider, from its attach callback.
    ///
    /// Returns what the provider's attach callback returned: `STATUS_SUCCESS`, `STATUS_NOINTERFACE` or an error, after
    /// which the client frees its binding context.
    ///
    /// IRQL: `PASSIVE_LEVEL`.
    ///
    /// # Safety
    ///
    /// The handle is that of the attach callback in progress; context and table stay valid while attached; the last two
    /// arguments are writable.
    ///
    /// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/netioddk/nf-netioddk-nmrclientattachprovider>
    pub fn NmrClientAttachProvider(
        NmrBindingHandle: HANDLE,
        ClientBindingContext: PVOID,
        ClientDispatch: PCVOID,
        ProviderBindingContext: *mut PVOID,
        ProviderDispatch: *mut PCVOID,
    ) -> NTSTATUS;

    /// Says that a client has detached, after its detach callback returned `STATUS_PENDING`.
    ///
    /// IRQL: up to `DISPATCH_LEVEL`.
    ///
    /// # Safety
    ///
    /// The client makes no more calls to the provider of this binding.
    ///
    /// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/netioddk/nf-netioddk-nmrclientdetachprovidercomplete>
    pub fn NmrClientDetachProviderComplete(NmrBindingHandle: HANDLE);

    /// Registers a provider of an interface. Its attach callback is called for each client, now and later.
    ///
    /// Returns `STATUS_SUCCESS`, `STATUS_INSUFFICIENT_RESOURCES` or another error.
    ///
    /// IRQL: `PASSIVE_LEVEL`.
    ///
    /// # Safety
    ///
    /// `ProviderCharacteristics` and what it points to stay valid until the deregistration is complete;
    /// `NmrProviderHandle` is writable.
    ///
    /// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/netioddk/nf-netioddk-nmrregisterprovider>
    pub fn NmrRegisterProvider(
        ProviderCharacteristics: PNPI_PROVIDER_CHARACTERISTICS,
        ProviderContext: PVOID,
        NmrProviderHandle: PHANDLE,
    ) -> NTSTATUS;

    /// Begins to deregister a provider. Returns `STATUS_PENDING`: wait with
    /// [`NmrWaitForProviderDeregisterComplete`].
    ///
    /// IRQL: up to `DISPATCH_LEVEL`.
    ///
    /// # Safety
    ///
    /// The handle is from [`NmrRegisterProvider`] and has not been deregistered.
    ///
    /// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/netioddk/nf-netioddk-nmrderegisterprovider>
    pub fn NmrDeregisterProvider(NmrProviderHandle: HANDLE) -> NTSTATUS;

    /// Waits until a provider is deregistered. The driver does not unload before that.
    ///
    /// Returns `STATUS_SUCCESS`, or `STATUS_INVALID_PARAMETER` without a prior [`NmrDeregisterProvider`].
    ///
    /// IRQL: below `DISPATCH_LEVEL`.
    ///
    /// # Safety
    ///
    /// The handle is one that [`NmrDeregisterProvider`] was called with.
    ///
    /// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/netioddk/nf-netioddk-nmrwaitforproviderderegistercomplete>
    pub fn NmrWaitForProviderDeregisterComplete(NmrProviderHandle: HANDLE) -> NTSTATUS;

    /// Says that a provider has detached, after its detach callback returned `STATUS_PENDING`.
    ///
    /// IRQL: up to `DISPATCH_LEVEL`.
    ///
    /// # Safety
    ///
    /// The provider makes no more calls to the client of this binding.
    ///
    /// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/netioddk/nf-netioddk-nmrproviderdetachclientcomplete>
    pub fn NmrProviderDetachClientComplete(NmrBindingHandle: HANDLE);
}
