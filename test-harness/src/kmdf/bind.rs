//! The framework's clients: how each gets the function table, and takes leave.
#![allow(unsafe_code)] // fills the client's variables through the pointers of its bind information

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::object;
use super::types::{
    DriverObject, HANDLE, WDF_DRIVER_CONFIG, WdfDriverInitNoDispatchOverride, WdfDriverInitNonPnpDriver,
};
use crate::guard::{escape, violate};
use crate::image::{Sealed, Thunks};
use crate::nt::registry::Value;
use crate::nt::runtime::missing_import;
use crate::nt::status::STATUS_INVALID_PARAMETER;
use crate::nt::strings::text;
use crate::nt::types::{NTSTATUS, UNICODE_STRING};
use crate::thread::kernel;
use crate::violation::Rule;
use crate::wdfldr::{WDF_BIND_INFO2, WDF_DRIVER_GLOBALS};

/// Functions of the KMDF 1.31 table, and of every later one so far.
pub(crate) const FUNCTIONS: u32 = 458;
/// How many functions the tables of released versions have, from 1.0 to 1.31.
const TABLE_SIZES: [u32; 13] = [383, 386, 387, 396, 432, 438, 444, 446, 448, 451, 453, 454, FUNCTIONS];

/// A driver that is bound to the framework.
pub(crate) struct Client {
    globals: Box<Mutex<()>>,
    /// The client's own `WDF_DRIVER_GLOBALS`, which it reads.
    shared: *mut WDF_DRIVER_GLOBALS,
    tag: AtomicU32,
    driver: AtomicUsize,
    pub(crate) driver_object: DriverObject,
    pub(crate) registry_path: String,
    /// The same, as the client gets it.
    pub(super) registry_units: Vec<u16>,
    /// DbgBreakOnError of the driver's Parameters\Wdf key.
    pub(super) breaks_on_errors: bool,
    pub(crate) config: Mutex<Option<WDF_DRIVER_CONFIG>>,
}

// SAFETY: `shared` is written under `globals` and read by the client; the driver object outlives its client.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

impl Client {
    pub(crate) fn tag(&self) -> u32 {
        self.tag.load(Ordering::Relaxed)
    }

    /// The WDFDRIVER; 0 before WdfDriverCreate.
    pub(crate) fn driver(&self) -> HANDLE {
        self.driver.load(Ordering::Acquire)
    }

    /// Stores the client's WDFDRIVER and configuration, once.
    pub(crate) fn set_driver(&self, handle: HANDLE, config: &WDF_DRIVER_CONFIG) {
        self.driver.store(handle, Ordering::Release);
        if config.DriverPoolTag != 0 {
            self.tag.store(config.DriverPoolTag, Ordering::Relaxed);
        }
        *self.config.lock() = Some(*config);
        let _guard = self.globals.lock();
        // SAFETY: the globals live until the client unbinds, and the framework alone writes them.
        let globals = unsafe { &mut *self.shared };
        globals.Driver = handle;
        globals.DriverFlags = config.DriverInitFlags;
        globals.DriverTag = self.tag();
        // The client's entry stub then unbinds when the driver is unloaded.
        let legacy = config.DriverInitFlags & (WdfDriverInitNoDispatchOverride | WdfDriverInitNonPnpDriver) != 0;
        globals.DisplaceDriverUnload = u8::from(!legacy || config.EvtDriverUnload.is_some());
    }

    /// Forgets the WDFDRIVER, which is being deleted.
    pub(crate) fn clear_driver(&self) {
        self.driver.store(0, Ordering::Release);
    }

    fn address(&self) -> usize {
        self.shared as usize
    }
}

/// The client whose globals a framework call passes first.
pub(crate) fn client(globals: usize) -> Arc<Client> {
    match kernel().extension::<super::Framework>().clients.lock().get(&globals) {
        Some(client) => client.clone(),
        None => violate(Rule::Framework, format!("{globals:#x} are no driver's globals: the client is not bound")),
    }
}

/// The function table, the same for every client.
fn table() -> *const usize {
    static TABLE: OnceLock<(Vec<usize>, Sealed)> = OnceLock::new();
    let (table, _) = TABLE.get_or_init(|| {
        let mut thunks = Thunks::new(FUNCTIONS as usize).expect("there is memory for the function table");
        let names = super::function_names();
        let table = (0..FUNCTIONS as usize)
            .map(|index| {
                let name = names.get(index).copied().unwrap_or("a function of no KMDF version");
                match super::function(name) {
                    Some(address) => thunks.entry(address),
                    None => thunks.missing(name, missing_import),
                }
            })
            .collect();
        (table, thunks.seal().expect("the function table can be made executable"))
    });
    table.as_ptr()
}

/// Whether the driver's key asks for break points.
fn breaks_on_errors(registry_path: &str) -> bool {
    let asked = kernel().registry.get(&format!(r"{registry_path}\Parameters\Wdf"), "DbgBreakOnError");
    matches!(asked, Some(Value::Number(value)) if value != 0)
}

/// Gives a client the function table and globals of its own.
pub(crate) fn register_client(
    driver: DriverObject,
    registry_path: &UNICODE_STRING,
    info: &WDF_BIND_INFO2,
) -> Result<*mut WDF_DRIVER_GLOBALS, NTSTATUS> {
    if !TABLE_SIZES.contains(&info.FuncCount) {
        return Err(STATUS_INVALID_PARAMETER);
    }
    let shared = Box::into_raw(Box::new(WDF_DRIVER_GLOBALS {
        Driver: 0,
        DriverFlags: 0,
        DriverTag: object::DEFAULT_TAG,
        DriverName: [0; 32],
        DisplaceDriverUnload: 0,
    }));
    let registry_path = text(registry_path);
    let client = Arc::new(Client {
        globals: Box::default(),
        shared,
        tag: AtomicU32::new(object::DEFAULT_TAG),
        driver: AtomicUsize::new(0),
        driver_object: driver,
        registry_units: registry_path.encode_utf16().chain([0]).collect(),
        breaks_on_errors: breaks_on_errors(&registry_path),
        registry_path,
        config: Mutex::new(None),
    });
    kernel().extension::<super::Framework>().clients.lock().insert(client.address(), client);
    // SAFETY: the variable of the client's image that its entry stub names; a bad pointer faults, which the guard reports.
    unsafe { info.FuncTable.write(table()) };
    Ok(shared)
}

/// Takes leave of a client: what it has not deleted is a leak.
pub(crate) fn unregister_client(globals: usize) {
    let client = client(globals);
    // A DriverEntry that failed leaves its objects to the framework.
    if let Some(driver) = object::try_find(client.driver()) {
        super::driver::delete(&client, &driver);
    }
    let framework = kernel().extension::<super::Framework>();
    let left = super::objects_of(&client);
    framework.clients.lock().remove(&globals);
    if let Some((handle, name)) = left.first() {
        let text = format!("{} framework objects outlive the driver, the first is {name} {handle:#x}", left.len());
        let site = framework.objects.site_of(*handle);
        kernel().report_at(Rule::Leak, text, "WdfVersionUnbind", &site);
        escape();
    }
}
