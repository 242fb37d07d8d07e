//! The registry: keys and values in memory, paths without regard to case.
#![allow(unsafe_code)] // writes value information into the caller's buffer

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;

use super::irql::called;
use super::object::{self, Kind};
use super::status::{
    STATUS_BUFFER_OVERFLOW, STATUS_BUFFER_TOO_SMALL, STATUS_CANNOT_DELETE, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_HANDLE, STATUS_INVALID_PARAMETER, STATUS_KEY_DELETED, STATUS_NO_MORE_ENTRIES,
    STATUS_OBJECT_NAME_NOT_FOUND, STATUS_SUCCESS,
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

    pub(super) fn from_bytes(kind: u32, bytes: &[u8]) -> Self {
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
struct Key {
    /// The last part of its path, as it was created.
    name: String,
    values: Values,
}

#[derive(Default)]
struct Store {
    /// Keys by their path in lower case.
    keys: BTreeMap<String, Key>,
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
        let path = path.trim_end_matches('\\');
        let mut store = self.0.lock();
        let above = path.match_indices('\\').skip(1).map(|(index, _)| index);
        for end in above.chain([path.len()]) {
            let name = path[..end].rsplit('\\').next().unwrap_or_default().to_owned();
            store.keys.entry(folded(&path[..end])).or_insert(Key { name, values: Values::new() });
        }
    }

    /// The names of the keys right below one, in the order of the alphabet.
    fn names_below(&self, path: &str) -> Vec<String> {
        let below = format!("{}\\", folded(path));
        let store = self.0.lock();
        let keys = store.keys.range(below.clone()..).take_while(|(path, _)| path.starts_with(&below));
        keys.filter(|(path, _)| !path[below.len()..].contains('\\')).map(|(_, key)| key.name.clone()).collect()
    }

    pub(crate) fn set(&self, path: &str, name: &str, value: Value) {
        self.create_key(path);
        let mut store = self.0.lock();
        let key = store.keys.entry(folded(path)).or_default();
        key.values.insert(name.to_lowercase(), (name.to_owned(), value));
    }

    pub(crate) fn get(&self, path: &str, name: &str) -> Option<Value> {
        let store = self.0.lock();
        store.keys.get(&folded(path))?.values.get(&name.to_lowercase()).map(|(_, value)| value.clone())
    }

    /// All values of a key, by name.
    pub(super) fn values(&self, path: &str) -> Vec<(String, Value)> {
        self.0.lock().keys.get(&folded(path)).map(|key| key.values.values().cloned().collect()).unwrap_or_default()
    }

    /// Deletes a value; false if there is none.
    pub(super) fn delete_value(&self, path: &str, name: &str) -> bool {
        let mut store = self.0.lock();
        store.keys.get_mut(&folded(path)).and_then(|key| key.values.remove(&name.to_lowercase())).is_some()
    }

    /// Deletes a key with its values, and those under it.
    pub(crate) fn delete_key(&self, path: &str) {
        let path = folded(path);
        let below = format!("{path}\\");
        self.0.lock().keys.retain(|key, _| *key != path && !key.starts_with(&below));
    }

    /// The last part of a key's path, as it was created.
    fn name_of(&self, path: &str) -> String {
        self.0.lock().keys.get(&folded(path)).map(|key| key.name.clone()).unwrap_or_default()
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
    let entry = object::reference_by_handle(kernel, handle)?;
    let path = if entry.kind == Kind::Key { kernel.registry.path_of(entry.body) } else { None };
    object::dereference(kernel, entry.body);
    path
}

/// The path of an open key that has not been deleted.
///
/// # Errors
/// STATUS_INVALID_HANDLE, STATUS_KEY_DELETED.
fn open_path(kernel: &Kernel, handle: HANDLE) -> Result<String, NTSTATUS> {
    let path = path(kernel, handle).ok_or(STATUS_INVALID_HANDLE)?;
    if kernel.registry.has_key(&path) { Ok(path) } else { Err(STATUS_KEY_DELETED) }
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
    let path = match open_path(kernel(), key) {
        Ok(path) => path,
        Err(status) => return status,
    };
    // SAFETY: the caller names `size` bytes; a bad range faults, which the guard reports.
    let bytes = unsafe { std::slice::from_raw_parts(data, size as usize) };
    kernel().registry.set(&path, &text(name), Value::from_bytes(kind, bytes));
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn ZwDeleteValueKey(key: HANDLE, name: &UNICODE_STRING) -> NTSTATUS {
    called("ZwDeleteValueKey", PASSIVE_LEVEL);
    let path = match open_path(kernel(), key) {
        Ok(path) => path,
        Err(status) => return status,
    };
    if kernel().registry.delete_value(&path, &text(name)) { STATUS_SUCCESS } else { STATUS_OBJECT_NAME_NOT_FOUND }
}

pub(crate) extern "win64" fn ZwDeleteKey(key: HANDLE) -> NTSTATUS {
    called("ZwDeleteKey", PASSIVE_LEVEL);
    let path = match open_path(kernel(), key) {
        Ok(path) => path,
        Err(status) => return status,
    };
    if !kernel().registry.names_below(&path).is_empty() {
        return STATUS_CANNOT_DELETE;
    }
    kernel().registry.delete_key(&path);
    STATUS_SUCCESS
}

/// What is in memory is what there is: nothing is left to be written.
pub(crate) extern "win64" fn ZwFlushKey(key: HANDLE) -> NTSTATUS {
    called("ZwFlushKey", PASSIVE_LEVEL);
    open_path(kernel(), key).map_or_else(|status| status, |_| STATUS_SUCCESS)
}

/// KEY_VALUE_INFORMATION_CLASS.
const BASIC: u32 = 0;
const FULL: u32 = 1;
const PARTIAL: u32 = 2;

fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn number(value: usize) -> [u8; 4] {
    u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes()
}

/// Stores as much of a structure as there is room for. `fixed` is the size of what comes before its variable part.
fn store(all: &[u8], fixed: usize, buffer: PVOID, length: u32, needed: &Cell<u32>) -> NTSTATUS {
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

/// KEY_VALUE_*_INFORMATION, and the size of its fixed part.
fn value_information(class: u32, name: &str, value: &Value) -> Option<(Vec<u8>, usize)> {
    let (data, wide) = (value.bytes(), wide(name));
    // TitleIndex, Type, then what the class adds.
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
        _ => return None,
    };
    Some((all, fixed))
}

pub(crate) extern "win64" fn ZwQueryValueKey(
    key: HANDLE,
    name: &UNICODE_STRING,
    class: u32,
    buffer: PVOID,
    length: u32,
    needed: &Cell<u32>,
) -> NTSTATUS {
    called("ZwQueryValueKey", PASSIVE_LEVEL);
    let path = match open_path(kernel(), key) {
        Ok(path) => path,
        Err(status) => return status,
    };
    let name = text(name);
    let Some(value) = kernel().registry.get(&path, &name) else { return STATUS_OBJECT_NAME_NOT_FOUND };
    match value_information(class, &name, &value) {
        Some((all, fixed)) => store(&all, fixed, buffer, length, needed),
        None => STATUS_INVALID_PARAMETER,
    }
}

pub(crate) extern "win64" fn ZwEnumerateValueKey(
    key: HANDLE,
    index: u32,
    class: u32,
    buffer: PVOID,
    length: u32,
    needed: &Cell<u32>,
) -> NTSTATUS {
    called("ZwEnumerateValueKey", PASSIVE_LEVEL);
    let path = match open_path(kernel(), key) {
        Ok(path) => path,
        Err(status) => return status,
    };
    let Some((name, value)) = kernel().registry.values(&path).into_iter().nth(index as usize) else {
        return STATUS_NO_MORE_ENTRIES;
    };
    match value_information(class, &name, &value) {
        Some((all, fixed)) => store(&all, fixed, buffer, length, needed),
        None => STATUS_INVALID_PARAMETER,
    }
}

/// KEY_INFORMATION_CLASS.
const KEY_BASIC: u32 = 0;
const KEY_NODE: u32 = 1;
const KEY_FULL: u32 = 2;
const KEY_NAME: u32 = 3;

/// KEY_*_INFORMATION, and the size of its fixed part. Keys have no class, and nobody has noted when they were written.
fn key_information(class: u32, path: &str, name: &str) -> Option<(Vec<u8>, usize)> {
    const NO_CLASS: usize = 0xffff_ffff;
    let (mut all, units) = (vec![0; 12], wide(name));
    let fixed = match class {
        KEY_BASIC => {
            all.extend(number(units.len()));
            all.extend(&units);
            16
        }
        KEY_NODE => {
            for part in [NO_CLASS, 0, units.len()] {
                all.extend(number(part));
            }
            all.extend(&units);
            24
        }
        KEY_FULL => {
            let registry = &kernel().registry;
            let (names, values) = (registry.names_below(path), registry.values(path));
            let longest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
            for part in [
                NO_CLASS,
                0,
                names.len(),
                longest(&mut names.iter().map(|name| wide(name).len())),
                0,
                values.len(),
                longest(&mut values.iter().map(|(name, _)| wide(name).len())),
                longest(&mut values.iter().map(|(_, value)| value.bytes().len())),
            ] {
                all.extend(number(part));
            }
            44
        }
        KEY_NAME => {
            all = number(wide(path).len()).to_vec();
            all.extend(wide(path));
            4
        }
        _ => return None,
    };
    Some((all, fixed))
}

pub(crate) extern "win64" fn ZwQueryKey(
    key: HANDLE,
    class: u32,
    buffer: PVOID,
    length: u32,
    needed: &Cell<u32>,
) -> NTSTATUS {
    called("ZwQueryKey", PASSIVE_LEVEL);
    let path = match open_path(kernel(), key) {
        Ok(path) => path,
        Err(status) => return status,
    };
    let name = kernel().registry.name_of(&path);
    match key_information(class, &path, &name) {
        Some((all, fixed)) => store(&all, fixed, buffer, length, needed),
        None => STATUS_INVALID_PARAMETER,
    }
}

pub(crate) extern "win64" fn ZwEnumerateKey(
    key: HANDLE,
    index: u32,
    class: u32,
    buffer: PVOID,
    length: u32,
    needed: &Cell<u32>,
) -> NTSTATUS {
    called("ZwEnumerateKey", PASSIVE_LEVEL);
    let path = match open_path(kernel(), key) {
        Ok(path) => path,
        Err(status) => return status,
    };
    let Some(name) = kernel().registry.names_below(&path).into_iter().nth(index as usize) else {
        return STATUS_NO_MORE_ENTRIES;
    };
    match key_information(class, &format!("{path}\\{name}"), &name) {
        Some((all, fixed)) if class != KEY_NAME => store(&all, fixed, buffer, length, needed),
        Some(_) | None => STATUS_INVALID_PARAMETER,
    }
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    ZwOpenKey,
    ZwCreateKey,
    ZwSetValueKey,
    ZwDeleteValueKey,
    ZwQueryValueKey,
    ZwDeleteKey,
    ZwFlushKey,
    ZwEnumerateValueKey,
    ZwQueryKey,
    ZwEnumerateKey,
];
