//! Drivers: loaded with their service's key, unloaded when nobody has them open, and checked for what they leave behind.
#![allow(unsafe_code)] // calls entry points by address

use std::path::PathBuf;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::device;
use crate::guard::{callout, escape};
use crate::image::{Export, ImageError, Mapped};
use crate::kernel::Kernel;
use crate::nt::irql::called;
use crate::nt::notify::{self, Notifications};
use crate::nt::object::{self, Kind};
use crate::nt::pool::{self, Owner, tag_name};
use crate::nt::registry::Value;
use crate::nt::runtime::missing_import;
use crate::nt::status::{
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_REQUEST, STATUS_OBJECT_NAME_COLLISION, STATUS_SUCCESS,
    nt_success,
};
use crate::nt::strings;
use crate::nt::types::{
    DISPATCH_LEVEL, DO_DEVICE_INITIALIZING, DRIVER_EXTENSION, DRIVER_INITIALIZE, DRIVER_OBJECT, HANDLE, IO_TYPE_DRIVER,
    NTSTATUS, PASSIVE_LEVEL, PVOID, UNICODE_STRING,
};
use crate::nt::variables::find_on;
use crate::simulation;
use crate::thread::{current, kernel};
use crate::violation::Rule;

/// The key of a driver's service.
pub(crate) fn service_key(name: &str) -> String {
    format!(r"\Registry\Machine\System\CurrentControlSet\Services\{name}")
}

/// Where a driver stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its entry point runs.
    Starting,
    /// Its devices can be opened.
    Running,
    /// An unload was asked for; handles are open, or its unload routine runs.
    Unloading,
    /// It has gone.
    Unloaded,
}

/// A driver of a machine.
pub(crate) struct Record {
    pub(crate) name: String,
    /// None for a driver whose code is part of this program.
    pub(crate) image: Option<Arc<Mapped>>,
    object: usize,
    phase: Mutex<Phase>,
    /// Somebody runs its unload routine, or has.
    leaving: AtomicBool,
    extensions: Mutex<Vec<(usize, usize)>>,
}

impl Record {
    fn object(&self) -> &DRIVER_OBJECT {
        super::driver_object(self.object as *mut DRIVER_OBJECT)
    }

    /// Whether it is part of Windows.
    fn is_system(&self) -> bool {
        self.image.as_ref().is_some_and(|image| image.is_system())
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.lock()
    }

    fn set_phase(&self, phase: Phase) -> Phase {
        std::mem::replace(&mut *self.phase.lock(), phase)
    }

    /// Whether some device of the driver is open.
    fn is_open(&self) -> bool {
        let mut next = self.object().DeviceObject.get();
        while !next.is_null() {
            let object = device(next);
            if object.ReferenceCount.load(Ordering::Acquire) != 0 || !object.AttachedDevice.get().is_null() {
                return true;
            }
            next = object.NextDevice.get();
        }
        false
    }
}

/// Why a driver was not loaded.
#[derive(Debug)]
pub(crate) enum Failure {
    Image(ImageError),
    Status(NTSTATUS),
    /// The entry point's own status.
    Entry(NTSTATUS),
}

/// Whether a driver is being unloaded; its devices cannot be opened then.
pub(super) fn is_unloading(state: &super::State, driver: *mut DRIVER_OBJECT) -> bool {
    state
        .drivers
        .get(&(driver as usize))
        .is_none_or(|record| matches!(record.phase(), Phase::Unloading | Phase::Unloaded))
}

/// Where a driver's code comes from.
pub(crate) enum Source {
    /// An image file.
    File(PathBuf),
    /// An image file that is part of Windows: it stays, and what it keeps is its own business.
    System(PathBuf),
    /// An entry point in this program.
    Builtin(DRIVER_INITIALIZE),
}

/// Maps a driver and runs its entry point, on the calling system thread.
pub(crate) fn load(kernel: &Kernel, source: &Source, name: &str) -> Result<Arc<Record>, Failure> {
    if kernel.io.state.lock().drivers.values().any(|record| record.name.eq_ignore_ascii_case(name)) {
        return Err(Failure::Status(STATUS_OBJECT_NAME_COLLISION));
    }
    let (image, entry) = match source {
        Source::File(path) | Source::System(path) => {
            let is_system = matches!(source, Source::System(_));
            let image = Mapped::load(path, is_system, |module, name| find_on(kernel, module, name), missing_import)
                .map_err(Failure::Image)?;
            for (start, size, access) in image.pageable() {
                kernel.paging.add(start, size, access);
            }
            // SAFETY: the loader has mapped and bound the image; its entry point is a DRIVER_INITIALIZE.
            let entry = unsafe { std::mem::transmute::<usize, DRIVER_INITIALIZE>(image.entry()) };
            (Some(image), entry)
        }
        Source::Builtin(entry) => (None, *entry),
    };
    let key = service_key(name);
    kernel.registry.create_key(&format!(r"{key}\Parameters"));
    kernel.registry.set(&key, "ImagePath", Value::Text(format!(r"\SystemRoot\System32\drivers\{name}.sys")));
    kernel.registry.set(&key, "Type", Value::Number(1));
    let size = size_of::<DRIVER_OBJECT>() + size_of::<DRIVER_EXTENSION>();
    let body = object::create(kernel, Kind::Driver, size).ok_or(Failure::Status(STATUS_INSUFFICIENT_RESOURCES))?;
    let record = Arc::new(Record {
        name: name.to_owned(),
        image,
        object: body as usize,
        phase: Mutex::new(Phase::Starting),
        leaving: AtomicBool::new(false),
        extensions: Mutex::default(),
    });
    set_up(kernel, &record, &key);
    kernel.io.state.lock().drivers.insert(record.object, record.clone());
    if let Some(image) = &record.image {
        notify::driver_loaded(kernel, name, image.base(), image.size());
    }
    let path = UNICODE_STRING { Length: 0.into(), MaximumLength: 0.into(), Buffer: ptr::null_mut::<u16>().into() };
    strings::allocate(kernel, &key, &path);
    let status = {
        record.object().DriverInit.set(Some(entry));
        let (object, path) = (record.object as *mut DRIVER_OBJECT, ptr::from_ref(&path).cast_mut());
        // A driver that is being started may have another one loaded: the framework.
        let outer = kernel.io.starting.swap(current().thread.id, Ordering::AcqRel);
        let status = callout("the driver's entry point", || entry(object, path));
        kernel.io.starting.store(outer, Ordering::Release);
        status
    };
    strings::free(kernel, &path);
    if !nt_success(status) {
        discard(kernel, &record);
        return Err(Failure::Entry(status));
    }
    record.set_phase(Phase::Running);
    let mut next = record.object().DeviceObject.get();
    while !next.is_null() {
        let object = device(next);
        object.Flags.set(object.Flags.get() & !DO_DEVICE_INITIALIZING);
        next = object.NextDevice.get();
    }
    Ok(record)
}

fn set_up(kernel: &Kernel, record: &Record, key: &str) {
    let object = record.object();
    object.Type.set(IO_TYPE_DRIVER);
    object.Size.set(const { size_of::<DRIVER_OBJECT>() as i16 });
    if let Some(image) = &record.image {
        object.DriverStart.set(image.base() as PVOID);
        object.DriverSize.set(u32::try_from(image.size()).unwrap_or(u32::MAX));
    }
    strings::allocate(kernel, &format!(r"\Driver\{}", record.name), &object.DriverName);
    let extension = (record.object + size_of::<DRIVER_OBJECT>()) as *mut DRIVER_EXTENSION;
    object.DriverExtension.set(extension);
    // SAFETY: the body was allocated with the extension behind the driver object, zeroed, which is valid for it.
    let extension = unsafe { &*extension };
    extension.DriverObject.set(record.object as *mut DRIVER_OBJECT);
    strings::allocate(kernel, key.rsplit('\\').next().unwrap_or(key), &extension.ServiceKeyName);
    for entry in &object.MajorFunction {
        entry.set(Some(super::invalid_device_request));
    }
}

/// A root device appears for a driver of Plug and Play: it is started on it. The PDO.
pub(crate) fn add_device(kernel: &Kernel, record: &Record) -> Result<usize, NTSTATUS> {
    if record.phase() != Phase::Running {
        return Err(STATUS_INVALID_DEVICE_REQUEST);
    }
    super::pnp::add_device(kernel, record.object as *mut DRIVER_OBJECT)
}

/// Removes a root device of a driver's.
pub(crate) fn remove_device(kernel: &Kernel, record: &Record, pdo: usize) -> Result<(), NTSTATUS> {
    super::pnp::remove_device(kernel, record.object, pdo)
}

/// Pulls a root device of a driver's.
pub(crate) fn unplug(kernel: &Kernel, record: &Record, pdo: usize) -> Result<(), NTSTATUS> {
    super::pnp::unplug(kernel, record.object, pdo)
}

/// Whether a driver has a routine that adds devices of Plug and Play.
pub(crate) fn adds_devices(record: &Record) -> bool {
    // SAFETY: the extension lies in the driver object's own block.
    record.phase() == Phase::Running && unsafe { (*record.object().DriverExtension.get()).AddDevice.get().is_some() }
}

/// Asks for the unload of a driver (NtUnloadDriver): at once if nobody has it open, else when the last handle goes.
pub(crate) fn unload(kernel: &Kernel, record: &Arc<Record>) -> Result<(), NTSTATUS> {
    {
        let has_devices = super::pnp::has_devices(kernel, record.object);
        let mut phase = record.phase.lock();
        // Of a driver that has gone there is no object any more.
        if *phase != Phase::Running || has_devices || record.object().DriverUnload.get().is_none() {
            return Err(STATUS_INVALID_DEVICE_REQUEST);
        }
        *phase = Phase::Unloading;
    }
    if !record.is_open() {
        finish_unload(kernel, record);
    }
    Ok(())
}

/// A device was closed, or a work item ended: a driver that waits to be unloaded may now go.
pub(crate) fn retry_unload(kernel: &Kernel) {
    let waiting: Vec<_> = {
        let state = kernel.io.state.lock();
        let may_go = |record: &&Arc<Record>| {
            record.phase() == Phase::Unloading && !record.leaving.load(Ordering::Acquire) && !record.is_open()
        };
        state.drivers.values().filter(may_go).cloned().collect()
    };
    for record in waiting {
        let owner = current().kernel.clone();
        owner.workers.queue(&owner, move || finish_unload(&current().kernel, &record));
    }
}

/// Runs the unload routine once, and takes the driver out of the machine.
fn finish_unload(kernel: &Kernel, record: &Arc<Record>) {
    if record.leaving.swap(true, Ordering::AcqRel) {
        return;
    }
    let Some(routine) = record.object().DriverUnload.replace(None) else { return };
    let object = record.object as *mut DRIVER_OBJECT;
    callout("the driver's unload routine", || routine(object));
    discard(kernel, record);
}

/// How long a driver's work items and threads may run on after its unload routine.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is left of a driver that has been unloaded, or whose entry point failed.
fn discard(kernel: &Kernel, record: &Arc<Record>) {
    let since = simulation::now();
    while kernel.workers.pending_items() != 0 && simulation::now().duration_since(since) < PATIENCE {
        // Its work items hold its device objects, and these hold the image on Windows.
        simulation::sleep(Duration::from_millis(1));
        if kernel.is_stopped() {
            escape();
        }
    }
    for (_, extension) in std::mem::take(&mut *record.extensions.lock()) {
        pool::free(kernel, extension as PVOID, EXTENSION_TAG);
    }
    if let Some((rule, text, site)) = left_behind(kernel, record) {
        kernel.report_at(rule, text, "", &site);
        escape();
    }
    kernel.io.state.lock().drivers.remove(&record.object);
    let object = record.object();
    strings::free(kernel, &object.DriverName);
    // SAFETY: the extension lies in the driver object's own block.
    strings::free(kernel, unsafe { &(*object.DriverExtension.get()).ServiceKeyName });
    object::dereference(kernel, record.object);
    if let Some(image) = &record.image {
        for (start, ..) in image.pageable() {
            kernel.paging.remove(start);
        }
        // What the driver has in its static memory goes with it.
        pool::check_contents(kernel, &(image.base()..image.base() + image.size()));
        // Fails only if the system has no room for another mapping; then late calls go unnoticed.
        let _ = image.retire();
    }
    record.set_phase(Phase::Unloaded);
    kernel.io.unloaded.notify_all();
}

/// The first thing that a driver should have given back, and where it came from.
fn left_behind(kernel: &Kernel, record: &Record) -> Option<(Rule, String, Vec<usize>)> {
    let alone = kernel.io.state.lock().drivers.values().filter(|record| !record.is_system()).count() == 1;
    if alone && let Some((rule, what)) = crate::wsk::left_behind(kernel) {
        return Some((rule, format!("{} left {what}", record.name), vec![]));
    }
    left_in_kernel(kernel, record, alone).map(|(text, site)| (Rule::Leak, text, site))
}

/// What it left that this kernel itself gave out.
fn left_in_kernel(kernel: &Kernel, record: &Record, alone: bool) -> Option<(String, Vec<usize>)> {
    let inside =
        |address: &usize| record.image.as_ref().is_some_and(|image| address.wrapping_sub(image.base()) < image.size());
    let own = |site: &[usize]| site.first().map_or(alone, inside);
    let name = &record.name;
    if !record.object().DeviceObject.get().is_null() {
        return Some((format!("{name} was unloaded with a device that was not deleted"), vec![]));
    }
    if let Some((site, pages)) = crate::nt::pages::left(kernel).into_iter().find(|(site, _)| own(site)) {
        return Some((format!("{name} left {pages} pages that MmAllocatePagesForMdl gave it; they are from"), site));
    }
    let mut blocks: Vec<_> = kernel.pool.live(Owner::Driver).into_iter().filter(|block| own(&block.site)).collect();
    // The framework allocates for whose device it is, whoever's call that may be in.
    blocks.retain(|block| !crate::kmdf::is_of_another_driver(kernel, record.object, block.tag));
    if let Some(first) = blocks.first() {
        let bytes: usize = blocks.iter().map(|block| block.size).sum();
        let mut tags: Vec<String> = blocks.iter().map(|block| tag_name(block.tag)).collect();
        tags.sort();
        tags.dedup();
        let text = format!(
            "{name} left {} pool blocks of {bytes} bytes in all (tags {}); the first, of {}, is from",
            blocks.len(),
            tags.join(", "),
            first.size
        );
        return Some((text, first.site.clone()));
    }
    if !alone {
        return None;
    }
    let (timers, dpcs) = (kernel.timers.pending(), kernel.dpcs.pending());
    if timers + dpcs != 0 {
        return Some((format!("{name} left {timers} armed timers and {dpcs} queued DPCs"), vec![]));
    }
    if kernel.timers.allocated() != 0 {
        return Some((format!("{name} left {} timers that it has not deleted", kernel.timers.allocated()), vec![]));
    }
    if kernel.bug_check_callbacks.registered() != 0 {
        let registered = kernel.bug_check_callbacks.registered();
        return Some((format!("{name} left {registered} bug check callbacks registered"), vec![]));
    }
    if kernel.callback_objects.registered() != 0 {
        let registered = kernel.callback_objects.registered();
        return Some((format!("{name} left {registered} routines registered at callback objects"), vec![]));
    }
    if kernel.io.notifications.registered() != 0 {
        let registered = kernel.io.notifications.registered();
        return Some((format!("{name} left {registered} notifications of Plug and Play registered"), vec![]));
    }
    if kernel.power_framework.registered() != 0 {
        let registered = kernel.power_framework.registered();
        return Some((format!("{name} left {registered} devices registered with the power framework"), vec![]));
    }
    let routines = kernel.extension::<Notifications>().registered();
    if routines != 0 {
        return Some((format!("{name} left {routines} notify routines registered"), vec![]));
    }
    if let Some(link) = super::device::dangling_links(kernel).first() {
        return Some((format!("{name} left the symbolic link {link}"), vec![]));
    }
    if kernel.workers.pending_items() != 0 {
        return Some((format!("{name} left {} work items queued or running", kernel.workers.pending_items()), vec![]));
    }
    let (handles, site) = object::kernel_handles(kernel);
    if handles != 0 {
        return Some((format!("{name} left {handles} kernel handles open; the first is from"), site));
    }
    for kind in [Kind::File, Kind::Event, Kind::Key, Kind::Process, Kind::Thread, Kind::Callback] {
        let leaked = kernel.objects.referenced_without_handle(kind);
        if leaked != 0 {
            return Some((format!("{name} left {leaked} references to objects of type {kind:?}"), vec![]));
        }
    }
    if kernel.events.registered() != 0 {
        return Some((
            format!("{name} left {} event tracing providers registered", kernel.events.registered()),
            vec![],
        ));
    }
    None
}

/// Waits until a driver has been unloaded. False if it has not within the time, or the machine has stopped.
pub(crate) fn wait_unloaded(kernel: &Kernel, record: &Record, timeout: Duration) -> bool {
    let deadline = simulation::now() + timeout;
    let mut state = kernel.io.state.lock();
    while record.phase() != Phase::Unloaded {
        if kernel.is_stopped() || kernel.io.unloaded.wait_until(&mut state, deadline).timed_out() {
            return record.phase() == Phase::Unloaded;
        }
    }
    true
}

const EXTENSION_TAG: u32 = pool::tag(*b"DrvE");

fn record_of(driver: &DRIVER_OBJECT) -> Option<Arc<Record>> {
    kernel().io.state.lock().drivers.get(&(ptr::from_ref(driver) as usize)).cloned()
}

pub(crate) extern "win64" fn IoAllocateDriverObjectExtension(
    driver: &DRIVER_OBJECT,
    identifier: usize,
    size: u32,
    extension: &std::cell::Cell<PVOID>,
) -> NTSTATUS {
    let current = called("IoAllocateDriverObjectExtension", DISPATCH_LEVEL);
    let Some(record) = record_of(driver) else { return STATUS_INVALID_DEVICE_REQUEST };
    if record.extensions.lock().iter().any(|(known, _)| *known == identifier) {
        return STATUS_OBJECT_NAME_COLLISION;
    }
    let kernel = &current.kernel;
    let failed = kernel.faults.allocation_fails();
    let block = if failed { None } else { kernel.pool.allocate(size as usize, EXTENSION_TAG, Owner::Kernel, true) };
    let Some(block) = block else { return STATUS_INSUFFICIENT_RESOURCES };
    record.extensions.lock().push((identifier, block as usize));
    extension.set(block);
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn IoGetDriverObjectExtension(driver: &DRIVER_OBJECT, identifier: usize) -> PVOID {
    called("IoGetDriverObjectExtension", DISPATCH_LEVEL);
    let found = record_of(driver).and_then(|record| {
        record.extensions.lock().iter().find(|(known, _)| *known == identifier).map(|(_, block)| *block as PVOID)
    });
    found.unwrap_or(ptr::null_mut())
}

pub(crate) extern "win64" fn IoOpenDriverRegistryKey(
    driver: &DRIVER_OBJECT,
    kind: u32,
    _access: u32,
    _flags: u32,
    handle: &std::cell::Cell<HANDLE>,
) -> NTSTATUS {
    called("IoOpenDriverRegistryKey", PASSIVE_LEVEL);
    /// DriverRegKeyParameters of DRIVER_REGKEY_TYPE.
    const PARAMETERS: u32 = 0;
    let Some(record) = record_of(driver) else { return STATUS_INVALID_DEVICE_REQUEST };
    if kind != PARAMETERS {
        return crate::nt::status::STATUS_NOT_SUPPORTED;
    }
    match crate::nt::registry::open_key(kernel(), &format!(r"{}\Parameters", service_key(&record.name))) {
        Ok(opened) => {
            handle.set(opened);
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

pub(in crate::nt) const EXPORTS: &[(&str, Export)] =
    crate::nt::exports![IoAllocateDriverObjectExtension, IoGetDriverObjectExtension, IoOpenDriverRegistryKey];
