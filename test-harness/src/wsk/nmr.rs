//! The Network Module Registrar: clients and providers of one NPI find each other by it. WSK is a provider of its own NPI
//! that is always there; drivers may register others.
//!
//! The layouts are those of netioddk.h, as `wsk-bindings` has them.
#![allow(unsafe_code)] // calls through the modules' characteristics

use std::collections::BTreeMap;
use std::ptr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use wsk_bindings::{
    GUID, MIT_GUID, NPI_CLIENT_CHARACTERISTICS, NPI_MODULEID, NPI_MODULEID_ID, NPI_PROVIDER_CHARACTERISTICS,
    NPI_REGISTRATION_INSTANCE, NPI_WSK_INTERFACE_ID, WSK_PROVIDER_CHARACTERISTICS,
};

use super::registration::{self, VERSION};
use super::wsk;
use crate::guard::{callout, escape, violate, violate_returned};
use crate::image::Export;
use crate::kernel::Kernel;
use crate::nt::irql::called;
use crate::nt::status::{
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER, STATUS_NOINTERFACE, STATUS_PENDING, STATUS_SUCCESS, name,
};
use crate::nt::types::{APC_LEVEL, DISPATCH_LEVEL, HANDLE, NTSTATUS, PASSIVE_LEVEL, PVOID};
use crate::simulation::{self, Condvar};
use crate::thread::kernel;
use crate::violation::Rule;

/// How long a deregistration may take to complete.
const PATIENCE: Duration = Duration::from_secs(15);
const MOMENT: Duration = Duration::from_millis(10);

type AttachProvider = extern "win64" fn(HANDLE, PVOID, usize) -> NTSTATUS;
type AttachClient = extern "win64" fn(HANDLE, PVOID, usize, PVOID, PVOID, *mut PVOID, *mut PVOID) -> NTSTATUS;
type Detach = extern "win64" fn(PVOID) -> NTSTATUS;
type Cleanup = extern "win64" fn(PVOID);

/// One of the two sides of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Provider,
}

impl Side {
    /// The names of its routines: attach, detach, cleanup.
    const fn routines(self) -> [&'static str; 3] {
        match self {
            Side::Client => ["ClientAttachProvider", "ClientDetachProvider", "ClientCleanupBindingContext"],
            Side::Provider => ["ProviderAttachClient", "ProviderDetachClient", "ProviderCleanupBindingContext"],
        }
    }

    /// The wait that a deregistration ends with.
    const fn wait(self) -> &'static str {
        match self {
            Side::Client => "NmrWaitForClientDeregisterComplete",
            Side::Provider => "NmrWaitForProviderDeregisterComplete",
        }
    }
}

/// A registered module: what its characteristics say.
#[derive(Clone, Copy)]
struct Module {
    side: Side,
    npi: GUID,
    context: usize,
    /// Its NPI_REGISTRATION_INSTANCE.
    instance: usize,
    attach: usize,
    detach: usize,
    cleanup: usize,
    is_leaving: bool,
}

/// How far one side of a binding has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Offered,
    Attached { context: usize },
    Detaching { context: usize },
    Detached { context: usize },
}

#[derive(Clone, Copy)]
struct Binding {
    client: usize,
    /// The handle of a provider; `None` for WSK.
    provider: Option<usize>,
    client_end: End,
    provider_end: End,
}

impl Binding {
    fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Client => &mut self.client_end,
            Side::Provider => &mut self.provider_end,
        }
    }

    fn involves(&self, module: usize) -> bool {
        self.client == module || self.provider == Some(module)
    }
}

#[derive(Default)]
struct State {
    modules: BTreeMap<usize, Module>,
    bindings: BTreeMap<usize, Binding>,
    last_handle: usize,
}

impl State {
    fn new_handle(&mut self) -> usize {
        self.last_handle += 8;
        self.last_handle
    }
}

/// The registrar of a machine.
#[derive(Default)]
struct Registrar {
    state: Mutex<State>,
    changed: Condvar,
}

fn registrar() -> Arc<Registrar> {
    kernel().extension()
}

/// What WSK registers. Windows does not document its module identifier: here it is the NPI's.
struct WskInstance {
    instance: NPI_REGISTRATION_INSTANCE,
    _module: Box<NPI_MODULEID>,
    _characteristics: Box<WSK_PROVIDER_CHARACTERISTICS>,
}

// SAFETY: written once, and the boxes that it points to stay where they are.
unsafe impl Send for WskInstance {}
// SAFETY: as above; nothing writes to it.
unsafe impl Sync for WskInstance {}

static WSK_INSTANCE: LazyLock<WskInstance> = LazyLock::new(|| {
    let module = Box::new(NPI_MODULEID {
        Length: size_of::<NPI_MODULEID>() as u16,
        Type: MIT_GUID,
        Id: NPI_MODULEID_ID { Guid: NPI_WSK_INTERFACE_ID },
    });
    let characteristics = Box::new(WSK_PROVIDER_CHARACTERISTICS { HighestVersion: VERSION, LowestVersion: VERSION });
    let instance = NPI_REGISTRATION_INSTANCE {
        Version: 0,
        Size: size_of::<NPI_REGISTRATION_INSTANCE>() as u16,
        NpiId: &raw const NPI_WSK_INTERFACE_ID,
        ModuleId: &raw const *module,
        Number: 0,
        NpiSpecificCharacteristics: (&raw const *characteristics).cast(),
    };
    WskInstance { instance, _module: module, _characteristics: characteristics }
});

/// A routine in a module's characteristics, as what it is.
fn routine<F: Copy>(address: usize) -> F {
    const { assert!(size_of::<F>() == size_of::<usize>()) };
    // SAFETY: the module registered it as a routine of this type; null was excluded.
    unsafe { ptr::read((&raw const address).cast()) }
}

impl Registrar {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The module behind a handle; one that is not there is a violation.
    fn module(&self, handle: usize) -> Option<Module> {
        self.lock().modules.get(&handle).copied()
    }

    fn binding(&self, handle: usize, call: &str) -> Binding {
        let found = self.lock().bindings.get(&handle).copied();
        found.unwrap_or_else(|| violate(Rule::Object, format!("{call}: {handle:#x} is no binding")))
    }

    /// Offers a provider to a client, which may attach to it.
    fn offer(&self, client: usize, provider: Option<usize>) {
        let instance = match provider.map(|provider| self.module(provider)) {
            Some(Some(provider)) => provider.instance,
            Some(None) => return,
            None => &raw const WSK_INSTANCE.instance as usize,
        };
        let Some(module) = self.module(client) else { return };
        let handle = {
            let mut state = self.lock();
            let handle = state.new_handle();
            let binding = Binding { client, provider, client_end: End::Offered, provider_end: End::Offered };
            state.bindings.insert(handle, binding);
            handle
        };
        let [attach, ..] = Side::Client.routines();
        let attach_provider: AttachProvider = routine(module.attach);
        let status = callout(attach, || attach_provider(handle, module.context as PVOID, instance));
        let is_attached = {
            let mut state = self.lock();
            let is_attached = state.bindings.get(&handle).is_some_and(|binding| binding.client_end != End::Offered);
            if !is_attached {
                state.bindings.remove(&handle);
            }
            is_attached
        };
        if is_attached != (status == STATUS_SUCCESS) {
            let what = if is_attached { "has attached" } else { "has not attached (NmrClientAttachProvider)" };
            violate_returned(Rule::Object, format!("{attach} returned {}, and {what}", name(status)));
        }
    }

    /// Has both sides of a binding detach.
    fn detach(&self, handle: usize) {
        for side in [Side::Client, Side::Provider] {
            let (module, context) = {
                let mut state = self.lock();
                let Some(binding) = state.bindings.get_mut(&handle) else { return };
                let End::Attached { context } = *binding.end(side) else { continue };
                *binding.end(side) = End::Detaching { context };
                let module = match side {
                    Side::Client => Some(binding.client),
                    Side::Provider => binding.provider,
                };
                (module.and_then(|module| state.modules.get(&module).copied()), context)
            };
            // WSK has detached when the client's sockets are closed.
            let Some(module) = module else { continue };
            let [_, name_of_detach, _] = side.routines();
            let detach: Detach = routine(module.detach);
            match callout(name_of_detach, || detach(context as PVOID)) {
                STATUS_SUCCESS => self.has_detached(handle, side),
                STATUS_PENDING => {}
                other => violate_returned(Rule::Object, format!("{name_of_detach} returned {}", name(other))),
            }
        }
    }

    /// One side is done; after the other, both clean up.
    fn has_detached(&self, handle: usize, side: Side) {
        let binding = {
            let mut state = self.lock();
            let Some(binding) = state.bindings.get_mut(&handle) else { return };
            if let End::Detaching { context } = *binding.end(side) {
                *binding.end(side) = End::Detached { context };
            }
            *binding
        };
        let (End::Detached { context: client }, End::Detached { context: provider }) =
            (binding.client_end, binding.provider_end)
        else {
            return;
        };
        for (side, module, context) in
            [(Side::Client, Some(binding.client), client), (Side::Provider, binding.provider, provider)]
        {
            let cleanup = module.and_then(|module| self.module(module)).map_or(0, |module| module.cleanup);
            if cleanup != 0 {
                let [.., name_of_cleanup] = side.routines();
                let cleanup: Cleanup = routine(cleanup);
                callout(name_of_cleanup, || cleanup(context as PVOID));
            }
        }
        if binding.provider.is_none() {
            registration::detach(&wsk(), provider);
        }
        self.lock().bindings.remove(&handle);
        self.changed.notify_all();
    }

    /// Bindings to WSK whose client has detached, and has closed its sockets.
    fn detach_from_wsk(&self) {
        let done = |binding: &Binding| {
            let is_detached = matches!(binding.client_end, End::Detached { .. });
            let context = match (binding.provider, binding.provider_end) {
                (None, End::Detaching { context }) if is_detached => context,
                _ => return false,
            };
            registration::sockets_of(&wsk(), context) == 0
        };
        let handles: Vec<usize> = {
            let state = self.lock();
            state.bindings.iter().filter(|(_, binding)| done(binding)).map(|(handle, _)| *handle).collect()
        };
        for handle in handles {
            self.has_detached(handle, Side::Provider);
        }
    }
}

/// Registers a module, and offers it the modules on the other side.
fn register(call: &'static str, mut module: Module, handle: *mut HANDLE) -> NTSTATUS {
    let current = called(call, PASSIVE_LEVEL);
    if module.attach == 0 || module.detach == 0 || module.instance == 0 {
        return STATUS_INVALID_PARAMETER;
    }
    if current.kernel.faults.allocation_fails() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    // SAFETY: the module's registration instance, which stays until it is deregistered; a bad pointer faults.
    let npi = unsafe { (*(module.instance as *const NPI_REGISTRATION_INSTANCE)).NpiId };
    // SAFETY: likewise, the identifier that it points to.
    module.npi = unsafe { npi.read() };
    let registrar = registrar();
    let (new, others) = {
        let mut state = registrar.lock();
        let new = state.new_handle();
        let matches = |other: &Module| other.side != module.side && other.npi == module.npi && !other.is_leaving;
        let others: Vec<usize> =
            state.modules.iter().filter(|(_, other)| matches(other)).map(|(handle, _)| *handle).collect();
        state.modules.insert(new, module);
        (new, others)
    };
    // SAFETY: the module gives it for its handle, which its callbacks may need already.
    unsafe { handle.write(new) };
    match module.side {
        Side::Client => {
            if module.npi == NPI_WSK_INTERFACE_ID {
                registrar.offer(new, None);
            }
            for provider in others {
                registrar.offer(new, Some(provider));
            }
        }
        Side::Provider => {
            for client in others {
                registrar.offer(client, Some(new));
            }
        }
    }
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn NmrRegisterClient(
    characteristics: &NPI_CLIENT_CHARACTERISTICS,
    context: PVOID,
    handle: *mut HANDLE,
) -> NTSTATUS {
    let module = Module {
        side: Side::Client,
        npi: NPI_WSK_INTERFACE_ID,
        context: context as usize,
        instance: &raw const characteristics.ClientRegistrationInstance as usize,
        attach: characteristics.ClientAttachProvider.map_or(0, |routine| routine as usize),
        detach: characteristics.ClientDetachProvider.map_or(0, |routine| routine as usize),
        cleanup: characteristics.ClientCleanupBindingContext.map_or(0, |routine| routine as usize),
        is_leaving: false,
    };
    register("NmrRegisterClient", module, handle)
}

pub(crate) extern "win64" fn NmrRegisterProvider(
    characteristics: &NPI_PROVIDER_CHARACTERISTICS,
    context: PVOID,
    handle: *mut HANDLE,
) -> NTSTATUS {
    let module = Module {
        side: Side::Provider,
        npi: NPI_WSK_INTERFACE_ID,
        context: context as usize,
        instance: &raw const characteristics.ProviderRegistrationInstance as usize,
        attach: characteristics.ProviderAttachClient.map_or(0, |routine| routine as usize),
        detach: characteristics.ProviderDetachClient.map_or(0, |routine| routine as usize),
        cleanup: characteristics.ProviderCleanupBindingContext.map_or(0, |routine| routine as usize),
        is_leaving: false,
    };
    register("NmrRegisterProvider", module, handle)
}

pub(crate) extern "win64" fn NmrClientAttachProvider(
    handle: HANDLE,
    context: PVOID,
    dispatch: PVOID,
    provider_context: *mut PVOID,
    provider_dispatch: *mut PVOID,
) -> NTSTATUS {
    called("NmrClientAttachProvider", PASSIVE_LEVEL);
    let registrar = registrar();
    let binding = registrar.binding(handle, "NmrClientAttachProvider");
    if binding.client_end != End::Offered {
        violate(Rule::Object, "NmrClientAttachProvider: the client has attached to this provider already");
    }
    let (mut its_context, mut its_dispatch) = (ptr::null_mut(), ptr::null_mut());
    let status = match binding.provider {
        None => match registration::attach(&wsk(), dispatch) {
            Ok((client, table)) => {
                (its_context, its_dispatch) = (client, table);
                STATUS_SUCCESS
            }
            Err(status) => status,
        },
        Some(provider) => match (registrar.module(provider), registrar.module(binding.client)) {
            (Some(provider), Some(client)) => {
                let attach: AttachClient = routine(provider.attach);
                let [name_of_attach, ..] = Side::Provider.routines();
                let of_provider = provider.context as PVOID;
                callout(name_of_attach, || {
                    let (new_context, new_dispatch) = (&raw mut its_context, &raw mut its_dispatch);
                    attach(handle, of_provider, client.instance, context, dispatch, new_context, new_dispatch)
                })
            }
            _ => STATUS_NOINTERFACE,
        },
    };
    if status == STATUS_SUCCESS {
        if let Some(binding) = registrar.lock().bindings.get_mut(&handle) {
            binding.client_end = End::Attached { context: context as usize };
            binding.provider_end = End::Attached { context: its_context as usize };
        }
        // SAFETY: the client gives both for the call; a bad pointer faults.
        unsafe { provider_context.write(its_context) };
        // SAFETY: as above.
        unsafe { provider_dispatch.write(its_dispatch) };
    }
    status
}

fn complete(call: &'static str, side: Side, handle: HANDLE) {
    called(call, DISPATCH_LEVEL);
    let registrar = registrar();
    let mut binding = registrar.binding(handle, call);
    if !matches!(binding.end(side), End::Detaching { .. }) {
        let [_, detach, _] = side.routines();
        violate(Rule::Object, format!("{call}, and {detach} has not returned STATUS_PENDING"));
    }
    registrar.has_detached(handle, side);
}

pub(crate) extern "win64" fn NmrClientDetachProviderComplete(handle: HANDLE) {
    complete("NmrClientDetachProviderComplete", Side::Client, handle);
}

pub(crate) extern "win64" fn NmrProviderDetachClientComplete(handle: HANDLE) {
    complete("NmrProviderDetachClientComplete", Side::Provider, handle);
}

fn deregister(call: &'static str, side: Side, handle: HANDLE) -> NTSTATUS {
    called(call, DISPATCH_LEVEL);
    let registrar = registrar();
    let bindings: Vec<usize> = {
        let mut state = registrar.lock();
        match state.modules.get_mut(&handle) {
            Some(module) if module.side == side && !module.is_leaving => module.is_leaving = true,
            _ => return STATUS_INVALID_PARAMETER,
        }
        let its = |binding: &Binding| binding.involves(handle);
        state.bindings.iter().filter(|(_, binding)| its(binding)).map(|(handle, _)| *handle).collect()
    };
    for binding in bindings {
        registrar.detach(binding);
    }
    STATUS_PENDING
}

pub(crate) extern "win64" fn NmrDeregisterClient(handle: HANDLE) -> NTSTATUS {
    deregister("NmrDeregisterClient", Side::Client, handle)
}

pub(crate) extern "win64" fn NmrDeregisterProvider(handle: HANDLE) -> NTSTATUS {
    deregister("NmrDeregisterProvider", Side::Provider, handle)
}

fn wait(side: Side, handle: HANDLE) -> NTSTATUS {
    let call = side.wait();
    let current = called(call, APC_LEVEL);
    let registrar = registrar();
    let is_leaving = registrar.module(handle).is_some_and(|module| module.side == side && module.is_leaving);
    if !is_leaving {
        return STATUS_INVALID_PARAMETER;
    }
    let deadline = simulation::now() + PATIENCE;
    loop {
        registrar.detach_from_wsk();
        let mut state = registrar.lock();
        let left = state.bindings.values().filter(|binding| binding.involves(handle)).count();
        if left == 0 {
            state.modules.remove(&handle);
            return STATUS_SUCCESS;
        }
        if current.kernel.is_stopped() {
            drop(state);
            drop(registrar);
            escape();
        }
        if simulation::now() >= deadline {
            drop(state);
            violate(Rule::Hang, format!("{call} waits for ever: {left} bindings are not detached"));
        }
        registrar.changed.wait_for(&mut state, MOMENT);
    }
}

pub(crate) extern "win64" fn NmrWaitForClientDeregisterComplete(handle: HANDLE) -> NTSTATUS {
    wait(Side::Client, handle)
}

pub(crate) extern "win64" fn NmrWaitForProviderDeregisterComplete(handle: HANDLE) -> NTSTATUS {
    wait(Side::Provider, handle)
}

/// Modules that a driver which is being unloaded has left registered.
pub(super) fn left_behind(kernel: &Kernel) -> Option<(Rule, String)> {
    let registrar: Arc<Registrar> = kernel.extension();
    let modules = registrar.lock().modules.len();
    (modules != 0).then(|| (Rule::Leak, format!("{modules} network modules that are registered (NmrDeregister…)")))
}

pub(super) const EXPORTS: &[(&str, Export)] = crate::nt::exports![
    NmrRegisterClient,
    NmrDeregisterClient,
    NmrWaitForClientDeregisterComplete,
    NmrClientAttachProvider,
    NmrClientDetachProviderComplete,
    NmrRegisterProvider,
    NmrDeregisterProvider,
    NmrWaitForProviderDeregisterComplete,
    NmrProviderDetachClientComplete,
];
