//! Framework objects: handles, the tree, contexts, reference counts, and deletion.
#![allow(unsafe_code)] // reads attributes and context types that the client points to

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::bind::Client;
use super::device::{Device, File};
use super::presentation::{PresentationLock, Scope};
use super::queue::Queue;
use super::request::Request;
use super::support::{Lookaside, Memory, Timer, WaitLock, WorkItem};
use super::target::Target;
use super::types::{
    HANDLE, PFN_OBJECT, WDF_OBJECT_ATTRIBUTES, WDF_OBJECT_CONTEXT_TYPE_INFO, WdfExecutionLevelDispatch,
    WdfExecutionLevelInheritFromParent, WdfExecutionLevelPassive, WdfSynchronizationScopeInheritFromParent,
    WdfSynchronizationScopeNone,
};
use super::values::{Collection, Dpc, Text};
use crate::guard::{callout, violate};
use crate::image::unwind::{Site, known, site};
use crate::nt::irql::called;
use crate::nt::pool::{self, ExFreePoolWithTag, Owner};
use crate::nt::status::{
    STATUS_DELETE_PENDING, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER, STATUS_OBJECT_NAME_EXISTS,
    STATUS_SUCCESS, STATUS_WDF_EXECUTION_LEVEL_INVALID, STATUS_WDF_OBJECT_ATTRIBUTES_INVALID,
    STATUS_WDF_PARENT_NOT_SPECIFIED, STATUS_WDF_SYNCHRONIZATION_SCOPE_INVALID,
};
use crate::nt::types::{DISPATCH_LEVEL, HIGH_LEVEL, KSPIN_LOCK, NTSTATUS, PVOID};
use crate::thread::{current, kernel};
use crate::violation::Rule;

/// What an object is.
pub(crate) enum Kind {
    Driver,
    Device(Box<Device>),
    File(File),
    Queue(Queue),
    Request(Request),
    WorkItem(WorkItem),
    Timer(Timer),
    SpinLock(Box<KSPIN_LOCK>, AtomicUsize),
    WaitLock(WaitLock),
    Memory(Memory),
    Lookaside(Lookaside),
    Target(Target),
    Key(usize),
    Text(Text),
    Collection(Collection),
    Dpc(Dpc),
    /// The resources of a root device: none.
    ResourceList,
    /// WdfObjectCreate: nothing but contexts.
    General,
}

impl Kind {
    /// Whether a client may say which of its callbacks wait for each other.
    const fn has_a_scope(&self) -> bool {
        matches!(self, Kind::Driver | Kind::Device(_) | Kind::File(_) | Kind::Queue(_))
    }

    /// Whether a client may say at which IRQL its callbacks come.
    const fn has_a_level(&self) -> bool {
        self.has_a_scope() || matches!(self, Kind::Timer(_) | Kind::General)
    }

    /// The handle type, as clients know it.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Kind::Driver => "WDFDRIVER",
            Kind::Device(_) => "WDFDEVICE",
            Kind::File(_) => "WDFFILEOBJECT",
            Kind::Queue(_) => "WDFQUEUE",
            Kind::Request(_) => "WDFREQUEST",
            Kind::WorkItem(_) => "WDFWORKITEM",
            Kind::Timer(_) => "WDFTIMER",
            Kind::SpinLock(..) => "WDFSPINLOCK",
            Kind::WaitLock(_) => "WDFWAITLOCK",
            Kind::Memory(_) => "WDFMEMORY",
            Kind::Lookaside(_) => "WDFLOOKASIDE",
            Kind::Target(_) => "WDFIOTARGET",
            Kind::Key(_) => "WDFKEY",
            Kind::Text(_) => "WDFSTRING",
            Kind::Collection(_) => "WDFCOLLECTION",
            Kind::Dpc(_) => "WDFDPC",
            Kind::ResourceList => "WDFCMRESLIST",
            Kind::General => "WDFOBJECT",
        }
    }
}

/// A context space: pool that the client reads and writes.
struct Space {
    unique: usize,
    memory: usize,
}

/// An object. The map of live handles holds it from creation until its last reference is gone.
pub(crate) struct Object {
    pub(crate) handle: HANDLE,
    pub(crate) kind: Kind,
    pub(crate) client: Arc<Client>,
    pub(crate) parent: HANDLE,
    /// Whether callbacks of this object and its children are made at PASSIVE_LEVEL only.
    pub(crate) passive: bool,
    /// Which of its callbacks are made one at a time.
    pub(super) scope: Scope,
    /// A device's lock, or a queue's: that of its device if they share one.
    pub(super) presentation: Option<Arc<PresentationLock>>,
    /// In the order of their creation, which is that of their handles.
    children: Mutex<BTreeSet<HANDLE>>,
    spaces: Mutex<Vec<Space>>,
    cleanup: Mutex<Vec<PFN_OBJECT>>,
    destroy: Mutex<Vec<PFN_OBJECT>>,
    references: AtomicUsize,
    deleted: AtomicBool,
    /// Where the client made it.
    pub(super) site: Site,
}

/// The live objects of a machine.
pub(crate) struct Objects {
    live: Mutex<HashMap<HANDLE, Arc<Object>>>,
    next: AtomicUsize,
}

impl Default for Objects {
    fn default() -> Self {
        // A number that is no address a program has, and is odd in no driver's eyes.
        Self { live: Mutex::default(), next: AtomicUsize::new(0x00DF_0000_0000_0010) }
    }
}

impl Objects {
    /// Handle and type of every live object of a client.
    pub(crate) fn of(&self, client: &Arc<Client>) -> Vec<(HANDLE, &'static str)> {
        let live = self.live.lock();
        let mut objects: Vec<_> = live
            .values()
            .filter(|object| Arc::ptr_eq(&object.client, client))
            .map(|object| (object.handle, object.kind.name()))
            .collect();
        objects.sort_unstable();
        objects
    }

    /// Where the client made an object.
    pub(crate) fn site_of(&self, handle: HANDLE) -> Vec<usize> {
        self.get(handle).map_or_else(Vec::new, |object| known(object.site))
    }

    fn get(&self, handle: HANDLE) -> Option<Arc<Object>> {
        self.live.lock().get(&handle).cloned()
    }
}

/// The machine's framework state.
fn objects() -> Arc<super::Framework> {
    kernel().extension::<super::Framework>()
}

/// The object behind a handle that the client passed; a violation if there is none.
pub(crate) fn find(handle: HANDLE) -> Arc<Object> {
    match objects().objects.get(handle) {
        Some(object) => object,
        None => violate(Rule::Framework, format!("{}: {handle:#x} is no handle (any more)", current().call.get())),
    }
}

/// The object behind a handle that the framework itself kept, if it is there still.
pub(crate) fn try_find(handle: HANDLE) -> Option<Arc<Object>> {
    objects().objects.get(handle)
}

/// A handle of the wrong type was passed.
pub(crate) fn wrong_type(object: &Object, expected: &str) -> ! {
    let call = current().call.get();
    violate(Rule::Framework, format!("{call}: the handle is a {}, not a {expected}", object.kind.name()))
}

/// The object's data, or the violation that the handle is of another type.
macro_rules! expect_kind {
    ($object:expr, $variant:ident) => {
        match &$object.kind {
            $crate::kmdf::object::Kind::$variant(data) => data,
            _ => $crate::kmdf::object::wrong_type(&$object, stringify!($variant)),
        }
    };
}
pub(crate) use expect_kind;

/// What a client asks of a new object.
#[derive(Clone, Copy)]
pub(crate) struct Attributes {
    cleanup: Option<PFN_OBJECT>,
    destroy: Option<PFN_OBJECT>,
    pub(crate) execution_level: u32,
    pub(super) synchronization_scope: u32,
    pub(crate) parent: HANDLE,
    size_override: usize,
    type_info: *const WDF_OBJECT_CONTEXT_TYPE_INFO,
}

// SAFETY: the type information is constant data of the driver's image.
unsafe impl Send for Attributes {}
// SAFETY: as above.
unsafe impl Sync for Attributes {}

impl Attributes {
    pub(crate) const NONE: Self = Self {
        cleanup: None,
        destroy: None,
        execution_level: WdfExecutionLevelInheritFromParent,
        synchronization_scope: WdfSynchronizationScopeInheritFromParent,
        parent: 0,
        size_override: 0,
        type_info: std::ptr::null(),
    };

    /// Reads what the client passed; null is none.
    pub(crate) fn read(attributes: *const WDF_OBJECT_ATTRIBUTES) -> Self {
        if attributes.is_null() {
            return Self::NONE;
        }
        // SAFETY: the client's structure; a bad pointer faults, which the guard reports.
        let attributes = unsafe { *attributes };
        if attributes.Size as usize != size_of::<WDF_OBJECT_ATTRIBUTES>() {
            let call = current().call.get();
            violate(Rule::Framework, format!("{call}: WDF_OBJECT_ATTRIBUTES.Size is {}, not 56", attributes.Size));
        }
        Self {
            cleanup: attributes.EvtCleanupCallback,
            destroy: attributes.EvtDestroyCallback,
            execution_level: attributes.ExecutionLevel,
            synchronization_scope: attributes.SynchronizationScope,
            parent: attributes.ParentObject,
            size_override: attributes.ContextSizeOverride,
            type_info: attributes.ContextTypeInfo,
        }
    }

    /// Whether an object of a kind may be made with them.
    fn check(&self, kind: &Kind) -> Result<(), NTSTATUS> {
        let levels = WdfExecutionLevelInheritFromParent..=WdfExecutionLevelDispatch;
        let scopes = WdfSynchronizationScopeInheritFromParent..=WdfSynchronizationScopeNone;
        if !levels.contains(&self.execution_level) || !scopes.contains(&self.synchronization_scope) {
            return Err(STATUS_WDF_OBJECT_ATTRIBUTES_INVALID);
        }
        let inherits = self.synchronization_scope == WdfSynchronizationScopeInheritFromParent;
        if !kind.has_a_scope() && !inherits && self.synchronization_scope != WdfSynchronizationScopeNone {
            return Err(STATUS_WDF_SYNCHRONIZATION_SCOPE_INVALID);
        }
        if !kind.has_a_level() && self.execution_level != WdfExecutionLevelInheritFromParent {
            return Err(STATUS_WDF_EXECUTION_LEVEL_INVALID);
        }
        Ok(())
    }
}

/// At which level an object's callbacks are made, and which of them one at a time.
pub(super) fn constraints(attributes: &Attributes, parent: Option<&Object>) -> (bool, Scope) {
    let passive = match attributes.execution_level {
        WdfExecutionLevelPassive => true,
        WdfExecutionLevelInheritFromParent => parent.is_some_and(|parent| parent.passive),
        _ => false,
    };
    (passive, Scope::of(attributes.synchronization_scope, parent.map_or(Scope::None, |parent| parent.scope)))
}

/// The presentation lock of a new object. A device has one, and a queue, whether it is asked for or not.
fn presentation_lock(
    kind: &Kind,
    (passive, scope): (bool, Scope),
    parent: Option<&Object>,
) -> Result<Option<Arc<PresentationLock>>, NTSTATUS> {
    match (kind, scope, parent) {
        (Kind::Queue(_), Scope::Device, Some(device)) if device.passive == passive => Ok(device.presentation.clone()),
        (Kind::Queue(_), Scope::Device, _) => Err(STATUS_INVALID_PARAMETER),
        (Kind::Device(_) | Kind::Queue(_), ..) => Ok(Some(Arc::new(PresentationLock::new(passive)))),
        _ => Ok(None),
    }
}

/// Makes an object. `parent` holds where the attributes name none.
///
/// # Errors
/// STATUS_INSUFFICIENT_RESOURCES; what attributes that do not suit the kind end with; STATUS_INVALID_PARAMETER for a queue that is to
/// share its device's lock, but not its level.
pub(crate) fn create(
    client: &Arc<Client>,
    kind: Kind,
    attributes: &Attributes,
    parent: HANDLE,
) -> Result<Arc<Object>, NTSTATUS> {
    attributes.check(&kind)?;
    if kernel().faults.allocation_fails() {
        return Err(STATUS_INSUFFICIENT_RESOURCES);
    }
    let framework = objects();
    let parent = if attributes.parent == 0 { parent } else { attributes.parent };
    let parent_object = (parent != 0).then(|| find(parent));
    let (passive, scope) = constraints(attributes, parent_object.as_deref());
    let presentation = presentation_lock(&kind, (passive, scope), parent_object.as_deref())?;
    let object = Arc::new(Object {
        handle: framework.objects.next.fetch_add(16, Ordering::Relaxed),
        kind,
        client: client.clone(),
        parent,
        passive,
        scope,
        presentation,
        children: Mutex::default(),
        spaces: Mutex::default(),
        cleanup: Mutex::new(attributes.cleanup.into_iter().collect()),
        destroy: Mutex::new(attributes.destroy.into_iter().collect()),
        references: AtomicUsize::new(1),
        deleted: AtomicBool::new(false),
        site: site(),
    });
    if !attributes.type_info.is_null() {
        add_space(&object, attributes.type_info, attributes.size_override)?;
    }
    framework.objects.live.lock().insert(object.handle, object.clone());
    if let Some(parent) = parent_object {
        parent.children.lock().insert(object.handle);
    }
    Ok(object)
}

fn add_space(
    object: &Object,
    info: *const WDF_OBJECT_CONTEXT_TYPE_INFO,
    size_override: usize,
) -> Result<PVOID, NTSTATUS> {
    // SAFETY: constant data of the client's image; a bad pointer faults, which the guard reports.
    let info = unsafe { &*info };
    let size = if size_override == 0 { info.ContextSize } else { size_override };
    if size < info.ContextSize {
        violate(Rule::Framework, "ContextSizeOverride is smaller than the context type");
    }
    let kernel = kernel();
    if kernel.faults.allocation_fails() {
        return Err(STATUS_INSUFFICIENT_RESOURCES);
    }
    let Some(memory) = kernel.pool.allocate(size.max(1), object.client.tag(), Owner::Driver, true) else {
        return Err(STATUS_INSUFFICIENT_RESOURCES);
    };
    object.spaces.lock().push(Space { unique: info.UniqueType as usize, memory: memory as usize });
    Ok(memory)
}

impl Object {
    fn space(&self, info: *const WDF_OBJECT_CONTEXT_TYPE_INFO) -> Option<PVOID> {
        // SAFETY: constant data of the client's image; a bad pointer faults, which the guard reports.
        let unique = unsafe { (*info).UniqueType } as usize;
        self.spaces.lock().iter().find(|space| space.unique == unique).map(|space| space.memory as PVOID)
    }

    /// Forgets the client's callbacks.
    pub(super) fn clear_callbacks(&self) {
        self.cleanup.lock().clear();
        self.destroy.lock().clear();
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// The handles of the children, oldest first.
    pub(crate) fn children(&self) -> Vec<HANDLE> {
        self.children.lock().iter().copied().collect()
    }

    pub(crate) fn reference(&self) {
        self.references.fetch_add(1, Ordering::AcqRel);
    }

    /// Gives a reference back; with the last one the object is destroyed.
    pub(crate) fn dereference(&self) {
        match self.references.fetch_sub(1, Ordering::AcqRel) {
            1 if !self.is_deleted() => violate(
                Rule::Framework,
                format!(
                    "{} {:#x} loses the framework's own reference; WdfObjectDelete ends it",
                    self.kind.name(),
                    self.handle
                ),
            ),
            1 => destroy(self),
            0 => {
                violate(Rule::Framework, format!("{} {:#x} was dereferenced too often", self.kind.name(), self.handle))
            }
            _ => {}
        }
    }
}

/// Deletes an object: disposes of it, and gives back the reference it was made with.
pub(crate) fn delete(object: &Arc<Object>) {
    dispose(object);
    object.dereference();
}

/// The first half of a deletion: the object's children go, then its cleanup callbacks are made. Whoever still refers to it may
/// reach its contexts.
pub(super) fn dispose(object: &Arc<Object>) {
    if object.deleted.swap(true, Ordering::AcqRel) {
        violate(Rule::Framework, format!("{} {:#x} is deleted twice", object.kind.name(), object.handle));
    }
    let children = std::mem::take(&mut *object.children.lock());
    for child in children.into_iter().rev() {
        if let Some(child) = try_find(child).filter(|child| !child.is_deleted()) {
            delete(&child);
        }
    }
    super::dispose(object);
    for callback in std::mem::take(&mut *object.cleanup.lock()) {
        callout("EvtCleanupCallback", || callback(object.handle));
    }
    if let Some(parent) = try_find(object.parent) {
        parent.children.lock().remove(&object.handle);
    }
}

fn destroy(object: &Object) {
    for callback in std::mem::take(&mut *object.destroy.lock()) {
        callout("EvtDestroyCallback", || callback(object.handle));
    }
    let gone = objects().objects.live.lock().remove(&object.handle);
    for space in std::mem::take(&mut *object.spaces.lock()) {
        ExFreePoolWithTag(space.memory as PVOID, object.client.tag());
    }
    drop(gone);
}

pub(crate) extern "win64" fn WdfObjectGetTypedContextWorker(
    _globals: usize,
    handle: HANDLE,
    info: *const WDF_OBJECT_CONTEXT_TYPE_INFO,
) -> PVOID {
    called("WdfObjectGetTypedContextWorker", HIGH_LEVEL);
    find(handle).space(info).unwrap_or(std::ptr::null_mut())
}

pub(crate) extern "win64" fn WdfObjectAllocateContext(
    _globals: usize,
    handle: HANDLE,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    context: *mut PVOID,
) -> NTSTATUS {
    called("WdfObjectAllocateContext", DISPATCH_LEVEL);
    let (object, attributes) = (find(handle), Attributes::read(attributes));
    if attributes.type_info.is_null() {
        violate(Rule::Framework, "WdfObjectAllocateContext: the attributes have no context type");
    }
    if object.is_deleted() {
        return STATUS_DELETE_PENDING;
    }
    let (status, memory) = match object.space(attributes.type_info) {
        Some(memory) => (STATUS_OBJECT_NAME_EXISTS, memory),
        None => match add_space(&object, attributes.type_info, attributes.size_override) {
            Ok(memory) => (STATUS_SUCCESS, memory),
            Err(status) => return status,
        },
    };
    if status == STATUS_SUCCESS {
        object.cleanup.lock().extend(attributes.cleanup);
        object.destroy.lock().extend(attributes.destroy);
    }
    if !context.is_null() {
        // SAFETY: the client's out parameter; a bad pointer faults, which the guard reports.
        unsafe { context.write(memory) };
    }
    status
}

pub(crate) extern "win64" fn WdfObjectContextGetObject(_globals: usize, context: PVOID) -> HANDLE {
    called("WdfObjectContextGetObject", HIGH_LEVEL);
    let framework = objects();
    let live = framework.objects.live.lock();
    let owner = live.values().find(|object| object.spaces.lock().iter().any(|space| space.memory == context as usize));
    owner.map_or(0, |object| object.handle)
}

pub(crate) extern "win64" fn WdfObjectReferenceActual(
    _globals: usize,
    handle: HANDLE,
    _tag: PVOID,
    _line: i32,
    _file: *const u8,
) {
    called("WdfObjectReferenceActual", DISPATCH_LEVEL);
    find(handle).reference();
}

pub(crate) extern "win64" fn WdfObjectDereferenceActual(
    _globals: usize,
    handle: HANDLE,
    _tag: PVOID,
    _line: i32,
    _file: *const u8,
) {
    called("WdfObjectDereferenceActual", DISPATCH_LEVEL);
    find(handle).dereference();
}

pub(crate) extern "win64" fn WdfObjectCreate(
    globals: usize,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfObjectCreate", DISPATCH_LEVEL);
    let client = super::bind::client(globals);
    create_into(&client, Kind::General, &Attributes::read(attributes), client.driver(), out)
}

/// Makes an object and stores its handle; the status says how it went.
pub(crate) fn create_into(
    client: &Arc<Client>,
    kind: Kind,
    attributes: &Attributes,
    parent: HANDLE,
    out: *mut HANDLE,
) -> NTSTATUS {
    match create(client, kind, attributes, parent) {
        Ok(object) => {
            if !out.is_null() {
                // SAFETY: the client's out parameter; a bad pointer faults, which the guard reports.
                unsafe { out.write(object.handle) };
            }
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

/// The parent of a timer or work item, which must be named, and be a device or a device's descendant.
///
/// # Errors
/// STATUS_WDF_PARENT_NOT_SPECIFIED.
pub(crate) fn named_parent(attributes: &Attributes) -> Result<Arc<Object>, NTSTATUS> {
    if attributes.parent == 0 {
        return Err(STATUS_WDF_PARENT_NOT_SPECIFIED);
    }
    let parent = find(attributes.parent);
    let mut ancestor = Some(parent.clone());
    while let Some(object) = ancestor {
        if matches!(object.kind, Kind::Device(_)) {
            return Ok(parent);
        }
        ancestor = try_find(object.parent);
    }
    let call = current().call.get();
    violate(Rule::Framework, format!("{call}: no device is the parent, a {}, or an ancestor of it", parent.kind.name()))
}

pub(crate) extern "win64" fn WdfObjectDelete(_globals: usize, handle: HANDLE) {
    called("WdfObjectDelete", DISPATCH_LEVEL);
    let object = find(handle);
    match &object.kind {
        Kind::Request(request) if request.is_drivers_own() => delete(&object),
        Kind::Driver | Kind::File(_) | Kind::Request(_) => {
            violate(Rule::Framework, format!("WdfObjectDelete: the framework itself deletes a {}", object.kind.name()))
        }
        Kind::Queue(queue) if queue.is_default() => {
            violate(Rule::Framework, "WdfObjectDelete: a default queue is deleted with its device")
        }
        _ => delete(&object),
    }
}

/// The pool tag's type, for the client.
pub(crate) const DEFAULT_TAG: u32 = pool::tag(*b"FxDr");
