//! A file system for drivers that read and write files: the volume `C:`, which is a temporary folder of the machine, gone at its end.
//!
//! It is a driver of the kernel's own, whose device the I/O manager opens files on; names are found without regard to case.
#![allow(unsafe_code)] // copies between the caller's buffers and the files

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::device::IoCreateDevice;
use super::directory::{Class, Scan};
use super::{device, driver_object, file_object};
use crate::kernel::Kernel;
use crate::nt::irp::{self, IofCompleteRequest};
use crate::nt::mdl;
use crate::nt::object::{self, Kind};
use crate::nt::status::{
    STATUS_ACCESS_DENIED, STATUS_BUFFER_OVERFLOW, STATUS_CANNOT_DELETE, STATUS_DELETE_PENDING,
    STATUS_DIRECTORY_NOT_EMPTY, STATUS_DISK_FULL, STATUS_END_OF_FILE, STATUS_FILE_IS_A_DIRECTORY,
    STATUS_INFO_LENGTH_MISMATCH, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_REQUEST,
    STATUS_INVALID_INFO_CLASS, STATUS_INVALID_PARAMETER, STATUS_NOT_A_DIRECTORY, STATUS_OBJECT_NAME_COLLISION,
    STATUS_OBJECT_NAME_INVALID, STATUS_OBJECT_NAME_NOT_FOUND, STATUS_OBJECT_PATH_NOT_FOUND, STATUS_SHARING_VIOLATION,
    STATUS_SUCCESS, nt_success,
};
use crate::nt::strings::text;
use crate::nt::types::{
    ACCESS_MASK, DELETE, DEVICE_OBJECT, DO_DEVICE_INITIALIZING, DRIVER_OBJECT, FILE_APPEND_DATA, FILE_EXECUTE,
    FILE_OBJECT, FILE_READ_DATA, FILE_WRITE_DATA, FO_SYNCHRONOUS_IO, IO_TYPE_DRIVER, IRP, IRP_MJ_CLEANUP, IRP_MJ_CLOSE,
    IRP_MJ_CREATE, IRP_MJ_DIRECTORY_CONTROL, IRP_MJ_FLUSH_BUFFERS, IRP_MJ_QUERY_INFORMATION, IRP_MJ_READ,
    IRP_MJ_SET_INFORMATION, IRP_MJ_WRITE, IRP_MN_QUERY_DIRECTORY, NTSTATUS, SL_RESTART_SCAN, SL_RETURN_SINGLE_ENTRY,
    UNICODE_STRING, Zeroed,
};
use crate::thread::current;

const DEVICE_NAME: &str = r"\Device\HarddiskVolume1";
/// What names of files begin with; the volume's root is behind all of them.
const PREFIXES: [&str; 7] =
    [r"\??\c:", r"\dosdevices\c:", r"\global??\c:", r"\??\global\c:", r"\device\harddiskvolume1", r"\\?\c:", r"\\.\c:"];
const SYSTEM_ROOT: &str = r"\systemroot";
/// The folders that drivers expect.
const FOLDERS: [&str; 4] = ["Windows/System32/drivers", "Windows/System32/LogFiles", "Windows/Temp", "ProgramData"];
const FILE_DEVICE_DISK_FILE_SYSTEM: u32 = 8;
/// How long a file may become.
const LONGEST: u64 = 256 << 20;

/// Create dispositions.
const FILE_SUPERSEDE: u32 = 0;
const FILE_OPEN: u32 = 1;
const FILE_CREATE: u32 = 2;
const FILE_OPEN_IF: u32 = 3;
const FILE_OVERWRITE: u32 = 4;
const FILE_OVERWRITE_IF: u32 = 5;
/// Create options.
const FILE_DIRECTORY_FILE: u32 = 0x0001;
const FILE_NON_DIRECTORY_FILE: u32 = 0x0040;
const FILE_DELETE_ON_CLOSE: u32 = 0x1000;
/// What Information says of an open.
const FILE_SUPERSEDED: usize = 0;
const FILE_OPENED: usize = 1;
const FILE_CREATED: usize = 2;
const FILE_OVERWRITTEN: usize = 3;

const FILE_ATTRIBUTE_DIRECTORY: u32 = 0x10;
const FILE_ATTRIBUTE_ARCHIVE: u32 = 0x20;

const FILE_SHARE_READ: u16 = 1;
const FILE_SHARE_WRITE: u16 = 2;
const FILE_SHARE_DELETE: u16 = 4;

/// An open file or directory.
struct Open {
    /// None of a directory.
    file: Option<File>,
    path: PathBuf,
    /// Its name on the volume.
    name: String,
    access: ACCESS_MASK,
    share: u16,
    delete: bool,
    /// Of a directory whose entries have been asked for.
    scan: Option<Scan>,
}

#[derive(Default)]
struct State {
    root: Option<PathBuf>,
    driver: usize,
    device: usize,
    /// By the file object's address.
    open: HashMap<usize, Open>,
}

/// The volume of a machine, made when a file is first named.
#[derive(Default)]
pub(crate) struct Volume(Mutex<State>);

impl Drop for Volume {
    fn drop(&mut self) {
        if let Some(root) = self.0.get_mut().root.take() {
            // A folder in the system's temporary one that cannot be removed is no failure of a machine that has gone.
            let _ = fs::remove_dir_all(root);
        }
    }
}

/// The name on the volume, if a path names one.
pub(super) fn name_on(path: &str) -> Option<String> {
    let behind = |prefix: &str| {
        let (start, rest) = path.split_at_checked(prefix.len())?;
        let is_it = start.eq_ignore_ascii_case(prefix) && (rest.is_empty() || rest.starts_with('\\'));
        is_it.then_some(rest)
    };
    let on_volume = PREFIXES.into_iter().find_map(behind).map(str::to_owned);
    on_volume.or_else(|| Some(format!(r"\Windows{}", behind(SYSTEM_ROOT)?)))
}

fn make_folder() -> std::io::Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let root = loop {
        let name = format!("test-harness-volume-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let root = std::env::temp_dir().join(name);
        match fs::create_dir(&root) {
            Ok(()) => break root,
            // A process of this number was killed, and has left its own.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    };
    for folder in FOLDERS {
        fs::create_dir_all(root.join(folder))?;
    }
    Ok(root)
}

/// The volume's device object.
///
/// # Errors
/// STATUS_INSUFFICIENT_RESOURCES.
pub(super) fn device_of(kernel: &Kernel) -> Result<*mut DEVICE_OBJECT, NTSTATUS> {
    let volume = kernel.extension::<Volume>();
    let known = volume.0.lock().device;
    if known != 0 {
        return Ok(known as *mut DEVICE_OBJECT);
    }
    let root = make_folder().map_err(|_| STATUS_INSUFFICIENT_RESOURCES)?;
    let body = object::create(kernel, Kind::Driver, size_of::<DRIVER_OBJECT>()).ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
    let driver = driver_object(body.cast());
    driver.Type.set(IO_TYPE_DRIVER);
    driver.Size.set(const { size_of::<DRIVER_OBJECT>() as i16 });
    for entry in &driver.MajorFunction {
        entry.set(Some(dispatch));
    }
    let (mut units, name, made) =
        (DEVICE_NAME.encode_utf16().collect::<Vec<_>>(), UNICODE_STRING::zeroed(), Cell::new(ptr::null_mut()));
    name.Length.set(u16::try_from(units.len() * 2).unwrap_or(0));
    name.MaximumLength.set(name.Length.get());
    name.Buffer.set(units.as_mut_ptr());
    let status = IoCreateDevice(driver, 0, Some(&name), FILE_DEVICE_DISK_FILE_SYSTEM, 0, 0, &made);
    if !nt_success(status) {
        object::dereference(kernel, body as usize);
        // Nothing was in it.
        let _ = fs::remove_dir_all(root);
        return Err(status);
    }
    let flags = &device(made.get()).Flags;
    flags.set(flags.get() & !DO_DEVICE_INITIALIZING);
    let mut state = volume.0.lock();
    (state.root, state.driver, state.device) = (Some(root), body as usize, made.get() as usize);
    Ok(made.get())
}

/// Whether a device is the volume's.
pub(super) fn is_device(kernel: &Kernel, device: *mut DEVICE_OBJECT) -> bool {
    kernel.extension::<Volume>().0.lock().device == device as usize
}

/// What a file operation of the host's failed with.
fn host(error: &std::io::Error) -> NTSTATUS {
    match error.kind() {
        std::io::ErrorKind::NotFound => STATUS_OBJECT_NAME_NOT_FOUND,
        std::io::ErrorKind::AlreadyExists => STATUS_OBJECT_NAME_COLLISION,
        std::io::ErrorKind::DirectoryNotEmpty => STATUS_DIRECTORY_NOT_EMPTY,
        std::io::ErrorKind::StorageFull => STATUS_DISK_FULL,
        _ => STATUS_ACCESS_DENIED,
    }
}

/// The entry of that name, without regard to case; the name itself if there is none.
fn entry(folder: &Path, name: &str) -> PathBuf {
    let exact = folder.join(name);
    if exact.symlink_metadata().is_ok() {
        return exact;
    }
    let lower = name.to_lowercase();
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let same = entries.map(|entry| entry.file_name()).find(|entry| entry.to_string_lossy().to_lowercase() == lower);
    same.map_or(exact, |entry| folder.join(entry))
}

/// Where a name on the volume lies.
fn resolve(root: &Path, name: &str) -> Result<PathBuf, NTSTATUS> {
    let parts: Vec<_> = name.split('\\').filter(|part| !part.is_empty()).collect();
    let invalid = |part: &&str| {
        matches!(*part, "." | "..") || part.chars().any(|unit| unit < ' ' || r#"/<>:"|?*"#.contains(unit))
    };
    if parts.iter().any(invalid) {
        return Err(STATUS_OBJECT_NAME_INVALID);
    }
    let mut path = root.to_owned();
    for (index, part) in parts.iter().enumerate() {
        path = entry(&path, part);
        if index + 1 < parts.len() && !path.is_dir() {
            return Err(STATUS_OBJECT_PATH_NOT_FOUND);
        }
    }
    Ok(path)
}

/// What an access uses of a file, in FILE_SHARE_*.
fn used(access: ACCESS_MASK) -> u16 {
    let of = |rights: ACCESS_MASK, share: u16| if access & rights == 0 { 0 } else { share };
    of(FILE_READ_DATA | FILE_EXECUTE, FILE_SHARE_READ)
        | of(FILE_WRITE_DATA | FILE_APPEND_DATA, FILE_SHARE_WRITE)
        | of(DELETE, FILE_SHARE_DELETE)
}

/// Opens what the packet names; what Information says of it.
fn create(state: &mut State, irp: &IRP) -> Result<usize, NTSTATUS> {
    let location = irp.current();
    let (asked, object) = (location.Parameters.create(), file_object(location.FileObject.get()));
    // SAFETY: the I/O manager's own structure, which lives as long as the packet.
    let access = unsafe { (*asked.SecurityContext).DesiredAccess };
    let (disposition, options) = (asked.Options >> 24, asked.Options & 0x00ff_ffff);
    let root = state.root.clone().ok_or(STATUS_INVALID_DEVICE_REQUEST)?;
    let mut name = text(&object.FileName);
    if let Some(related) = state.open.get(&(object.RelatedFileObject.get() as usize)) {
        name = format!(r"{}\{name}", related.name);
    }
    let path = resolve(&root, &name)?;
    let metadata = path.metadata().ok();
    let is_directory = metadata.as_ref().map_or(options & FILE_DIRECTORY_FILE != 0, fs::Metadata::is_dir);
    match (metadata.is_some(), disposition) {
        (false, FILE_OPEN | FILE_OVERWRITE) => return Err(STATUS_OBJECT_NAME_NOT_FOUND),
        (true, FILE_CREATE) => return Err(STATUS_OBJECT_NAME_COLLISION),
        (_, FILE_SUPERSEDE | FILE_OPEN | FILE_CREATE | FILE_OPEN_IF | FILE_OVERWRITE | FILE_OVERWRITE_IF) => {}
        _ => return Err(STATUS_INVALID_PARAMETER),
    }
    if is_directory && options & FILE_NON_DIRECTORY_FILE != 0 {
        return Err(STATUS_FILE_IS_A_DIRECTORY);
    }
    if !is_directory && options & FILE_DIRECTORY_FILE != 0 {
        return Err(STATUS_NOT_A_DIRECTORY);
    }
    if options & FILE_DELETE_ON_CLOSE != 0 && access & DELETE == 0 {
        return Err(STATUS_INVALID_PARAMETER);
    }
    for other in state.open.values().filter(|open| open.path == path) {
        if other.delete {
            return Err(STATUS_DELETE_PENDING);
        }
        if used(access) & !other.share != 0 || used(other.access) & !asked.ShareAccess != 0 && used(access) != 0 {
            return Err(STATUS_SHARING_VIOLATION);
        }
    }
    let empties = matches!(disposition, FILE_SUPERSEDE | FILE_OVERWRITE | FILE_OVERWRITE_IF);
    let file = if is_directory {
        if metadata.is_none() {
            fs::create_dir(&path).map_err(|error| host(&error))?;
        }
        None
    } else {
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(empties).open(&path);
        Some(opened.map_err(|error| host(&error))?)
    };
    let delete = options & FILE_DELETE_ON_CLOSE != 0;
    let open = Open { file, path, name, access, share: asked.ShareAccess, delete, scan: None };
    state.open.insert(ptr::from_ref(object) as usize, open);
    Ok(match (metadata.is_some(), disposition) {
        (false, _) => FILE_CREATED,
        (true, FILE_SUPERSEDE) => FILE_SUPERSEDED,
        (true, FILE_OVERWRITE | FILE_OVERWRITE_IF) => FILE_OVERWRITTEN,
        (true, _) => FILE_OPENED,
    })
}

/// Where the packet's data lies: in the system's buffer, in locked pages, or where the caller said.
fn buffer_of(irp: &IRP) -> *mut u8 {
    match mdl::at(irp.MdlAddress.get()) {
        Some(list) => {
            mdl::map(list);
            mdl::described_address(list).cast()
        }
        None if !irp.SystemBuffer.get().is_null() => irp.SystemBuffer.get().cast(),
        None => irp.UserBuffer.get().cast(),
    }
}

fn move_on(object: &FILE_OBJECT, to: i64) {
    if object.Flags.get() & FO_SYNCHRONOUS_IO != 0 {
        object.CurrentByteOffset.set(to);
    }
}

fn read(open: &Open, irp: &IRP, object: &FILE_OBJECT) -> Result<usize, NTSTATUS> {
    let asked = irp.current().Parameters.read_write();
    let file = open.file.as_ref().ok_or(STATUS_INVALID_DEVICE_REQUEST)?;
    let offset = u64::try_from(asked.ByteOffset).map_err(|_| STATUS_INVALID_PARAMETER)?;
    let length = file.metadata().map_err(|error| host(&error))?.len();
    let left = usize::try_from(length.saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; left.min(asked.Length as usize)];
    if asked.Length != 0 && bytes.is_empty() {
        return Err(STATUS_END_OF_FILE);
    }
    file.read_exact_at(&mut bytes, offset).map_err(|error| host(&error))?;
    // SAFETY: the caller gives as many bytes; a bad buffer faults, which the guard reports.
    unsafe { ptr::copy(bytes.as_ptr(), buffer_of(irp), bytes.len()) };
    move_on(object, asked.ByteOffset + bytes.len() as i64);
    Ok(bytes.len())
}

fn write(open: &Open, irp: &IRP, object: &FILE_OBJECT) -> Result<usize, NTSTATUS> {
    /// FILE_WRITE_TO_END_OF_FILE with -1 above it.
    const END: i64 = -1;
    let asked = irp.current().Parameters.read_write();
    let file = open.file.as_ref().ok_or(STATUS_INVALID_DEVICE_REQUEST)?;
    let offset = match asked.ByteOffset {
        END => file.metadata().map_err(|error| host(&error))?.len(),
        offset => u64::try_from(offset).map_err(|_| STATUS_INVALID_PARAMETER)?,
    };
    let end = offset.saturating_add(u64::from(asked.Length));
    if end > LONGEST {
        return Err(STATUS_DISK_FULL);
    }
    let mut bytes = vec![0; asked.Length as usize];
    // SAFETY: the caller gives as many bytes; a bad buffer faults, which the guard reports.
    unsafe { ptr::copy(buffer_of(irp), bytes.as_mut_ptr(), bytes.len()) };
    file.write_all_at(&bytes, offset).map_err(|error| host(&error))?;
    move_on(object, end.cast_signed());
    Ok(bytes.len())
}

/// Hundreds of nanoseconds between 1601 and 1970.
const EPOCH: i64 = 116_444_736_000_000_000;

fn nt_time(time: std::io::Result<SystemTime>) -> i64 {
    let since = time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    EPOCH + i64::try_from(since.as_nanos() / 100).unwrap_or(0)
}

/// What is told of files in several classes.
pub(super) struct Facts {
    /// Created, last accessed, last written, last changed.
    pub(super) times: [i64; 4],
    pub(super) allocation: u64,
    pub(super) length: u64,
    pub(super) attributes: u32,
}

impl Facts {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        let written = nt_time(metadata.modified());
        let created = metadata.created().map_or(written, |time| nt_time(Ok(time)));
        let length = if metadata.is_dir() { 0 } else { metadata.len() };
        Self {
            times: [created, nt_time(metadata.accessed()), written, written],
            allocation: length.next_multiple_of(4096),
            length,
            attributes: if metadata.is_dir() { FILE_ATTRIBUTE_DIRECTORY } else { FILE_ATTRIBUTE_ARCHIVE },
        }
    }
}

/// 0 and -1 leave a time as it is.
fn host_time(time: i64) -> Option<SystemTime> {
    let since = u64::try_from(time.checked_sub(EPOCH)?).ok().filter(|_| time > 0)?;
    Some(UNIX_EPOCH + Duration::from_micros(since / 10) + Duration::from_nanos(since % 10 * 100))
}

/// FILE_INFORMATION_CLASS, what this file system tells and takes of it.
const BASIC: usize = 4;
const STANDARD: usize = 5;
const INTERNAL: usize = 6;
const EA: usize = 7;
const NAME: usize = 9;
const RENAME: usize = 10;
const DISPOSITION: usize = 13;
const ALLOCATION: usize = 19;
const END_OF_FILE: usize = 20;
const NETWORK_OPEN: usize = 34;
const ATTRIBUTE_TAG: usize = 35;
const DISPOSITION_EX: usize = 64;

/// FILE_*_INFORMATION of a class, and the length that its structure has at least.
fn information(open: &Open, class: usize) -> Result<(Vec<u8>, usize), NTSTATUS> {
    let metadata = open.path.metadata().map_err(|error| host(&error))?;
    let Facts { times, allocation, length, attributes } = Facts::of(&metadata);
    let times = times.into_iter().flat_map(i64::to_le_bytes);
    let sizes = [allocation, length].into_iter().flat_map(u64::to_le_bytes);
    let all: Vec<u8> = match class {
        BASIC => times.chain(u64::from(attributes).to_le_bytes()).collect(),
        STANDARD => {
            let flags = [u8::from(open.delete), u8::from(metadata.is_dir()), 0, 0];
            sizes.chain(1_u32.to_le_bytes()).chain(flags).collect()
        }
        INTERNAL => metadata.ino().to_le_bytes().to_vec(),
        EA => vec![0; 4],
        NAME => {
            let name: Vec<_> = open.name.encode_utf16().flat_map(u16::to_le_bytes).collect();
            return Ok((u32::try_from(name.len()).unwrap_or(0).to_le_bytes().into_iter().chain(name).collect(), 8));
        }
        NETWORK_OPEN => times.chain(sizes).chain(u64::from(attributes).to_le_bytes()).collect(),
        ATTRIBUTE_TAG => u64::from(attributes).to_le_bytes().to_vec(),
        _ => return Err(STATUS_INVALID_INFO_CLASS),
    };
    let length = all.len();
    Ok((all, length))
}

fn query(open: &Open, irp: &IRP) -> Result<(NTSTATUS, usize), NTSTATUS> {
    let parameters = &irp.current().Parameters.Argument;
    let (room, class) = (parameters[0].get(), parameters[1].get());
    let (all, least) = information(open, class)?;
    if room < least {
        return Err(STATUS_INFO_LENGTH_MISMATCH);
    }
    let told = all.len().min(room);
    // SAFETY: the caller gives `room` bytes; a bad buffer faults, which the guard reports.
    unsafe { ptr::copy(all.as_ptr(), buffer_of(irp), told) };
    Ok((if told < all.len() { STATUS_BUFFER_OVERFLOW } else { STATUS_SUCCESS }, told))
}

/// The name behind FILE_RENAME_INFORMATION's ReplaceIfExists, RootDirectory and FileNameLength.
fn new_name(open: &Open, data: &[u8]) -> Option<(bool, String)> {
    let length = u32::from_le_bytes(data.get(16..20)?.try_into().ok()?) as usize;
    let units = data.get(20..20 + length)?.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let name = String::from_utf16(&units.collect::<Vec<_>>()).ok()?;
    let above = open.name.rsplit_once('\\').map_or("", |(above, _)| above);
    let full = name_on(&name).unwrap_or_else(|| if name.starts_with('\\') { name } else { format!(r"{above}\{name}") });
    Some((data[0] != 0, full))
}

fn set(root: &Path, open: &mut Open, class: usize, data: &[u8]) -> Result<(), NTSTATUS> {
    let number = |at: usize| data.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(i64::from_le_bytes);
    let first = number(0);
    match class {
        BASIC => {
            let mut times = FileTimes::new();
            if let Some(time) = host_time(number(8).ok_or(STATUS_INFO_LENGTH_MISMATCH)?) {
                times = times.set_accessed(time);
            }
            if let Some(time) = host_time(number(16).ok_or(STATUS_INFO_LENGTH_MISMATCH)?) {
                times = times.set_modified(time);
            }
            open.file.as_ref().map_or(Ok(()), |file| file.set_times(times)).map_err(|error| host(&error))
        }
        DISPOSITION | DISPOSITION_EX => {
            let delete = data.first().ok_or(STATUS_INFO_LENGTH_MISMATCH)? & 1 != 0;
            if delete && open.path == root {
                return Err(STATUS_CANNOT_DELETE);
            }
            if delete
                && open.file.is_none()
                && fs::read_dir(&open.path).is_ok_and(|mut entries| entries.next().is_some())
            {
                return Err(STATUS_DIRECTORY_NOT_EMPTY);
            }
            open.delete = delete;
            Ok(())
        }
        END_OF_FILE | ALLOCATION => {
            let asked =
                u64::try_from(first.ok_or(STATUS_INFO_LENGTH_MISMATCH)?).map_err(|_| STATUS_INVALID_PARAMETER)?;
            let file = open.file.as_ref().ok_or(STATUS_INVALID_PARAMETER)?;
            let now = file.metadata().map_err(|error| host(&error))?.len();
            let length = if class == ALLOCATION { now.min(asked) } else { asked };
            if length > LONGEST {
                return Err(STATUS_DISK_FULL);
            }
            file.set_len(length).map_err(|error| host(&error))
        }
        RENAME => {
            let (replace, name) = new_name(open, data).ok_or(STATUS_INFO_LENGTH_MISMATCH)?;
            let path = resolve(root, &name)?;
            if !replace && path.exists() && path != open.path {
                return Err(STATUS_OBJECT_NAME_COLLISION);
            }
            fs::rename(&open.path, &path).map_err(|error| host(&error))?;
            (open.path, open.name) = (path, name);
            Ok(())
        }
        _ => Err(STATUS_INVALID_INFO_CLASS),
    }
}

fn set_information(volume: &Volume, irp: &IRP) -> Result<(), NTSTATUS> {
    let location = irp.current();
    let (length, class) = (location.Parameters.Argument[0].get(), location.Parameters.Argument[1].get());
    let mut data = vec![0; length];
    // SAFETY: the caller gives as many bytes; a bad buffer faults, which the guard reports.
    unsafe { ptr::copy(buffer_of(irp), data.as_mut_ptr(), length) };
    let mut state = volume.0.lock();
    let root = state.root.clone().ok_or(STATUS_INVALID_DEVICE_REQUEST)?;
    let open = state.open.get_mut(&(location.FileObject.get() as usize)).ok_or(STATUS_INVALID_DEVICE_REQUEST)?;
    set(&root, open, class, &data)
}

/// The next entries of a directory.
fn query_directory(volume: &Volume, irp: &IRP) -> Result<(NTSTATUS, usize), NTSTATUS> {
    let location = irp.current();
    if location.MinorFunction.get() != IRP_MN_QUERY_DIRECTORY {
        return Err(STATUS_INVALID_DEVICE_REQUEST);
    }
    let [length, expression, class, _] = &location.Parameters.Argument;
    let class = Class::of(class.get())?;
    // SAFETY: null, or the caller's string; a bad one faults, which the guard reports.
    let expression = unsafe { (expression.get() as *const UNICODE_STRING).as_ref() }.map(text).unwrap_or_default();
    let flags = location.Flags.get();
    let (status, entries) = {
        let mut state = volume.0.lock();
        let root = state.root.clone().ok_or(STATUS_INVALID_DEVICE_REQUEST)?;
        let open = state.open.get_mut(&(location.FileObject.get() as usize)).ok_or(STATUS_INVALID_DEVICE_REQUEST)?;
        if open.file.is_some() {
            return Err(STATUS_INVALID_PARAMETER);
        }
        let is_root = open.path == root;
        let scan = match &mut open.scan {
            Some(scan) if flags & SL_RESTART_SCAN != 0 => {
                scan.restart(&open.path, is_root).map_err(|error| host(&error))?;
                scan
            }
            Some(scan) => scan,
            none => none.insert(Scan::begin(&open.path, is_root, &expression).map_err(|error| host(&error))?),
        };
        scan.read(&open.path, class, length.get(), flags & SL_RETURN_SINGLE_ENTRY != 0)?
    };
    // SAFETY: the caller gives so many bytes; a bad buffer faults, which the guard reports.
    unsafe { ptr::copy(entries.as_ptr(), buffer_of(irp), entries.len()) };
    Ok((status, entries.len()))
}

/// The last handle of a file has gone: so does the file, if it was to be deleted.
fn cleanup(state: &mut State, object: *mut FILE_OBJECT) {
    if let Some(open) = state.open.get(&(object as usize)).filter(|open| open.delete) {
        // What is gone already need not go.
        let _ = if open.file.is_some() { fs::remove_file(&open.path) } else { fs::remove_dir(&open.path) };
    }
}

/// Every entry of the volume's MajorFunction.
extern "win64" fn dispatch(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let irp = irp::at(irp);
    let location = irp.current();
    let file = location.FileObject.get();
    let volume = current().kernel.extension::<Volume>();
    let opened = || volume.0.lock().open.get(&(file as usize)).map(Open::clone_handle);
    let outcome = match location.MajorFunction.get() {
        IRP_MJ_CREATE => create(&mut volume.0.lock(), irp).map(|done| (STATUS_SUCCESS, done)),
        // The caller's buffer is touched without the lock: a bad one ends in a violation.
        IRP_MJ_READ => opened()
            .ok_or(STATUS_INVALID_DEVICE_REQUEST)
            .and_then(|open| read(&open, irp, file_object(file)).map(|done| (STATUS_SUCCESS, done))),
        IRP_MJ_WRITE => opened()
            .ok_or(STATUS_INVALID_DEVICE_REQUEST)
            .and_then(|open| write(&open, irp, file_object(file)).map(|done| (STATUS_SUCCESS, done))),
        IRP_MJ_QUERY_INFORMATION => opened().ok_or(STATUS_INVALID_DEVICE_REQUEST).and_then(|open| query(&open, irp)),
        IRP_MJ_DIRECTORY_CONTROL => query_directory(&volume, irp),
        IRP_MJ_SET_INFORMATION => set_information(&volume, irp).map(|()| (STATUS_SUCCESS, 0)),
        IRP_MJ_FLUSH_BUFFERS => Ok((STATUS_SUCCESS, 0)),
        IRP_MJ_CLEANUP => {
            cleanup(&mut volume.0.lock(), file);
            Ok((STATUS_SUCCESS, 0))
        }
        IRP_MJ_CLOSE => {
            volume.0.lock().open.remove(&(file as usize));
            Ok((STATUS_SUCCESS, 0))
        }
        _ => Err(STATUS_INVALID_DEVICE_REQUEST),
    };
    let (status, information) = outcome.unwrap_or_else(|status| (status, 0));
    irp.IoStatus.Information.set(information);
    irp.IoStatus.Status.set(status);
    IofCompleteRequest(irp, 0);
    status
}

impl Open {
    /// The same open file, to be used without the volume's lock.
    fn clone_handle(&self) -> Self {
        Self {
            file: self.file.as_ref().and_then(|file| file.try_clone().ok()),
            path: self.path.clone(),
            name: self.name.clone(),
            // The lock is held for every step of a scan.
            scan: None,
            ..*self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_the_volume_are_what_is_behind_its_prefix_whatever_their_letters() {
        assert_eq!(name_on(r"\??\C:\Temp\a.txt").as_deref(), Some(r"\Temp\a.txt"));
        assert_eq!(name_on(r"\DosDevices\c:").as_deref(), Some(""));
        assert_eq!(name_on(r"\SystemRoot\Temp").as_deref(), Some(r"\Windows\Temp"));
        // Letters that are longer in lower case.
        assert_eq!(name_on("\\??\\C:\\\u{130}\u{130}").as_deref(), Some("\\\u{130}\u{130}"));
        for other in [r"\??\C:x", r"\??\D:\a", r"\Device\SanWsk", "", "\u{130}\u{130}\u{130}\u{130}"] {
            assert_eq!(name_on(other), None, "{other}");
        }
    }

    #[test]
    fn names_do_not_lead_out_of_the_volume() {
        let root = make_folder().expect("a temporary folder");
        for name in [r"\..\..\etc\passwd", r"\Windows\..\..\x", r"\a/../../b", r"\.\x", "\\a\0b", r"\x:stream"] {
            assert_eq!(resolve(&root, name), Err(STATUS_OBJECT_NAME_INVALID), "{name:?}");
        }
        assert_eq!(resolve(&root, r"\no such folder\x"), Err(STATUS_OBJECT_PATH_NOT_FOUND));
        assert_eq!(resolve(&root, r"\WINDOWS\temp\x"), Ok(root.join("Windows/Temp/x")));
        fs::remove_dir_all(root).expect("it goes");
    }
}
