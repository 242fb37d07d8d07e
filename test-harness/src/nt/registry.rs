//! The registry: keys and values in memory, paths without regard to case.
#![allow(unsafe_code)] // writes value information into the caller's buffer

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;

use super::irql::called;
use super::object::{self, Kind};
use super::status::{
    STATUS_BUFFER_OVERFLOW, STATUS_BUFFER_TOO_SMALL, STATUS_CANNOT_DELETE, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_HANDLE, STATUS_INVALID_PARAMETER, STATUS_OBJECT_NAME_NOT_FOUND, STATUS_SUCCESS,
};
use super::strings::text;
use super::types::{HANDLE, NTSTATUS, OBJECT_ATTRIBUTES, PASSIVE_LEVEL, PVOID, UNICODE_STRING};
use crate::image::Export;
use crate::kernel::Kernel;
use crate::thread::kernel;

/// A registry value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// REG_SZ.
    Text(String),
    /// REG_MULTI_SZ.
    List(Vec<String>),
    /// REG_DWORD.
    Number(u32),
    /// REG_QWORD.
    Long(u64),
    /// REG_BINARY.
    Bytes(Vec<u8>),
}

impl Value {
    pub(super) fn kind(&self) -> u32 {
        match self {
            Value::Text(_) => 1,
            Value::Bytes(_) => 3,
            Value::Number(_) => 4,
            Value::List(_) => 7,
            Value::Long(_) => 11,
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let wide = |text: &str| text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        match self {
            Value::Text(text) => wide(text),
            Value::List(texts) => texts.iter().flat_map(|text| wide(text)).chain([0, 0]).collect(),
            Value::Number(number) => number.to_le_bytes().to_vec(),
            Value::Long(number) => number.to_le_bytes().to_vec(),
            Value::Bytes(bytes) => bytes.clone(),
        }
    }

    fn from_bytes(kind: u32, bytes: &[u8]) -> Self {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        let text = |units: &[u16]| String::from_utf16_lossy(units);
        match (kind, bytes) {
            (1 | 2, _) => Value::Text(text(&units).trim_end_matches('\0').to_owned()),
            (4, &[a, b, c, d]) => Value::Number(u32::from_le_bytes([a, b, c, d])),
            (7, _) => Value::List(units.split(|unit| *unit == 0).filter(|part| !part.is_empty()).map(text).collect()),
            (11, long) => match long.try_into() {
                Ok(long) => Value::Long(u64::from_le_bytes(long)),
                Err(_) => Value::Bytes(bytes.to_vec()),
            },
            _ => Value::Bytes(bytes.to_vec()),
        }
    }
}

type Values = BTreeMap<String, (String, Value)>;

#[derive(Default)]
struct Store {
    /// Keys by their path in lower case.
    keys: BTreeMap<String, Values>,
    /// Paths of open key objects, by the object's body.
    open: HashMap<usize, String>,
}

/// The registry of a machine.
#[derive(Default)]
pub(crate) struct Registry(Mutex<Store>);

fn folded(path: &str) -> String {
    path.trim_end_matches('\\').to_lowercase()
}

impl Registry {
    /// Makes a key, and those above it.
    pub(crate) fn create_key(&self, path: &str) {
        let path = folded(path);
        let mut store = self.0.lock();
        for (index, _) in path.match_indices('\\').skip(1) {
            store.keys.entry(path[..index].to_owned()).or_default();
        }
        store.keys.entry(path).or_default();
    }

    pub(crate) fn set(&self, path: &str, name: &str, value: Value) {
        self.create_key(path);
        let mut store = self.0.lock();
        store.keys.entry(folded(path)).or_default().insert(name.to_lowercase(), (name.to_owned(), value));
    }

    pub(crate) fn get(&self, path: &str, name: &str) -> Option<Value> {
        let store = self.0.lock();
        store.keys.get(&folded(path))?.get(&name.to_lowercase()).map(|(_, value)| value.clone())
    }

    /// All values of a key, by name.
    pub(super) fn values(&self, path: &str) -> Vec<(String, Value)> {
        self.0.lock().keys.get(&folded(path)).map(|values| values.values().cloned().collect()).unwrap_or_default()
    }

    /// Deletes a value; false if there is none.
    pub(super) fn delete_value(&self, path: &str, name: &str) -> bool {
        let mut store = self.0.lock();
        store.keys.get_mut(&folded(path)).and_then(|values| values.remove(&name.to_lowercase())).is_some()
    }

    /// Deletes a key with its values, and those under it.
    pub(crate) fn delete_key(&self, path: &str) {
        let path = folded(path);
        let below = format!("{path}\\");
        self.0.lock().keys.retain(|key, _| *key != path && !key.starts_with(&below));
    }

    /// Deletes a key with its values; false if there are keys below it.
    fn delete_leaf(&self, path: &str) -> bool {
        let path = folded(path);
        let below = format!("{path}\\");
        let mut store = self.0.lock();
        let leaf = !store.keys.keys().any(|key| key.starts_with(&below));
        if leaf {
            store.keys.remove(&path);
        }
        leaf
    }

    pub(crate) fn has_key(&self, path: &str) -> bool {
        self.0.lock().keys.contains_key(&folded(path))
    }

    fn path_of(&self, body: usize) -> Option<String> {
        self.0.lock().open.get(&body).cloned()
    }
}

/// The object of an open key is being deleted.
pub(super) fn forget(kernel: &Kernel, body: usize) {
    kernel.registry.0.lock().open.remove(&body);
}

/// The path of an open key.
pub(super) fn path(kernel: &Kernel, handle: HANDLE) -> Option<String> {
    let entry = object::look_up(kernel, handle).filter(|entry| entry.kind == Kind::Key)?;
    kernel.registry.path_of(entry.body)
}

/// Opens a key for the kernel. A handle, which ZwClose closes.
pub(crate) fn open_key(kernel: &Kernel, path: &str) -> Result<HANDLE, NTSTATUS> {
    if kernel.faults.allocation_fails() {
        return Err(STATUS_INSUFFICIENT_RESOURCES);
    }
    if !kernel.registry.has_key(path) {
        return Err(STATUS_OBJECT_NAME_NOT_FOUND);
    }
    let body = object::create(kernel, Kind::Key, 16).ok_or(STATUS_INSUFFICIENT_RESOURCES)? as usize;
    kernel.registry.0.lock().open.insert(body, folded(path));
    let handle = object::open_kernel_handle(kernel, body);
    object::dereference(kernel, body);
    Ok(handle)
}

#[allow(clippy::unnecessary_wraps)]
fn named(kernel: &Kernel, attributes: &OBJECT_ATTRIBUTES) -> Result<String, NTSTATUS> {
    // SAFETY: OBJECT_ATTRIBUTES name a UNICODE_STRING; a bad one faults, which the guard reports.
    let name = unsafe { attributes.ObjectName.as_ref() }.map(text).unwrap_or_default();
    if attributes.RootDirectory == 0 {
        return Ok(name);
    }
    let root = path(kernel, attributes.RootDirectory).ok_or(STATUS_INVALID_HANDLE)?;
    Ok(if name.is_empty() { root } else { format!("{root}\\{name}") })
}

pub(crate) extern "win64" fn ZwOpenKey(
    handle: &Cell<HANDLE>,
    _access: u32,
    attributes: &OBJECT_ATTRIBUTES,
) -> NTSTATUS {
    called("ZwOpenKey", PASSIVE_LEVEL);
    let opened = named(kernel(), attributes).and_then(|path| open_key(kernel(), &path));
    match opened {
        Ok(opened) => {
            handle.set(opened);
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

pub(crate) extern "win64" fn ZwCreateKey(
    handle: &Cell<HANDLE>,
    access: u32,
    attributes: &OBJECT_ATTRIBUTES,
    _index: u32,
    _class: Option<&UNICODE_STRING>,
    _options: u32,
    disposition: Option<&Cell<u32>>,
) -> NTSTATUS {
    called("ZwCreateKey", PASSIVE_LEVEL);
    /// REG_CREATED_NEW_KEY and REG_OPENED_EXISTING_KEY.
    const DISPOSITIONS: [u32; 2] = [1, 2];
    let path = match named(kernel(), attributes) {
        Ok(path) => path,
        Err(status) => return status,
    };
    if let Some(disposition) = disposition {
        disposition.set(DISPOSITIONS[usize::from(kernel().registry.has_key(&path))]);
    }
    kernel().registry.create_key(&path);
    ZwOpenKey(handle, access, attributes)
}

pub(crate) extern "win64" fn ZwSetValueKey(
    key: HANDLE,
    name: &UNICODE_STRING,
    _index: u32,
    kind: u32,
    data: *const u8,
    size: u32,
) -> NTSTATUS {
    called("ZwSetValueKey", PASSIVE_LEVEL);
    let Some(path) = path(kernel(), key) else { return STATUS_INVALID_HANDLE };
    // SAFETY: the caller names `size` bytes; a bad range faults, which the guard reports.
    let bytes = unsafe { std::slice::from_raw_parts(data, size as usize) };
    kernel().registry.set(&path, &text(name), Value::from_bytes(kind, bytes));
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn ZwDeleteValueKey(key: HANDLE, name: &UNICODE_STRING) -> NTSTATUS {
    called("ZwDeleteValueKey", PASSIVE_LEVEL);
    let Some(path) = path(kernel(), key) else { return STATUS_INVALID_HANDLE };
    if kernel().registry.delete_value(&path, &text(name)) { STATUS_SUCCESS } else { STATUS_OBJECT_NAME_NOT_FOUND }
}

/// The handle stays open, and names nothing any more. A key with keys below it stays.
pub(crate) extern "win64" fn ZwDeleteKey(key: HANDLE) -> NTSTATUS {
    called("ZwDeleteKey", PASSIVE_LEVEL);
    let Some(path) = path(kernel(), key) else { return STATUS_INVALID_HANDLE };
    if !kernel().registry.delete_leaf(&path) {
        return STATUS_CANNOT_DELETE;
    }
    STATUS_SUCCESS
}

/// KEY_VALUE_INFORMATION_CLASS.
const BASIC: u32 = 0;
const FULL: u32 = 1;
const PARTIAL: u32 = 2;

pub(crate) extern "win64" fn ZwQueryValueKey(
    key: HANDLE,
    name: &UNICODE_STRING,
    class: u32,
    buffer: PVOID,
    length: u32,
    needed: &Cell<u32>,
) -> NTSTATUS {
    called("ZwQueryValueKey", PASSIVE_LEVEL);
    let Some(path) = path(kernel(), key) else { return STATUS_INVALID_HANDLE };
    let name = text(name);
    let Some(value) = kernel().registry.get(&path, &name) else { return STATUS_OBJECT_NAME_NOT_FOUND };
    let (data, wide) = (value.bytes(), name.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>());
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
    // KEY_VALUE_*_INFORMATION: TitleIndex, Type, then what the class adds.
    let mut all = vec![0; 4];
    all.extend(value.kind().to_le_bytes());
    let fixed = match class {
        BASIC => {
            all.extend(number(wide.len()));
            all.extend(&wide);
            12
        }
        FULL => {
            let offset = (20 + wide.len()).next_multiple_of(8);
            for part in [offset, data.len(), wide.len()] {
                all.extend(number(part));
            }
            all.extend(&wide);
            all.resize(offset, 0);
            all.extend(&data);
            20
        }
        PARTIAL => {
            all.extend(number(data.len()));
            all.extend(&data);
            12
        }
        _ => return STATUS_INVALID_PARAMETER,
    };
    needed.set(u32::try_from(all.len()).unwrap_or(u32::MAX));
    let room = length as usize;
    if room < fixed {
        return STATUS_BUFFER_TOO_SMALL;
    }
    let copied = all.len().min(room);
    // SAFETY: the caller gives `length` bytes; a bad buffer faults, which the guard reports.
    unsafe { std::ptr::copy_nonoverlapping(all.as_ptr(), buffer.cast(), copied) };
    if copied < all.len() { STATUS_BUFFER_OVERFLOW } else { STATUS_SUCCESS }
}

pub(super) const EXPORTS: &[(&str, Export)] =
    super::exports![ZwOpenKey, ZwCreateKey, ZwDeleteKey, ZwSetValueKey, ZwDeleteValueKey, ZwQueryValueKey];
