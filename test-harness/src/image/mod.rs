//! The loader: maps a driver image (PE32+, x64), relocates it, binds its imports and protects its sections.
#![allow(unsafe_code)] // patches relocated words and import slots in mapped memory

pub(crate) mod frame;
pub(crate) mod registry;
mod symbols;
mod thunks;
pub(crate) mod unwind;

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, fs, io};

use object::LittleEndian as LE;
use object::pe;
use object::read::pe::{ImageNtHeaders, ImageOptionalHeader, Import, PeFile64};

pub use symbols::Frame;
pub(crate) use symbols::resolve;
pub(crate) use thunks::{Sealed, Thunks};

use crate::memory::{Access, Mapping, page_up};
use crate::nt::types::PAGE_SIZE;

/// Why an image cannot be loaded.
#[derive(Debug)]
pub enum ImageError {
    /// The file cannot be read, or memory cannot be mapped.
    Io(io::Error),
    /// The file is no PE32+ image, or a damaged one.
    Format(String),
    /// The image is for another processor.
    Machine(u16),
    /// A section is both writable and executable.
    WritableCode(String),
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageError::Io(error) => write!(f, "{error}"),
            ImageError::Format(what) => write!(f, "not a loadable image: {what}"),
            ImageError::Machine(machine) => write!(f, "the image is for machine {machine:#06x}, not x64 (0x8664)"),
            ImageError::WritableCode(section) => write!(f, "section {section} is both writable and executable"),
        }
    }
}

impl std::error::Error for ImageError {}

impl From<io::Error> for ImageError {
    fn from(error: io::Error) -> Self {
        ImageError::Io(error)
    }
}

impl From<object::read::Error> for ImageError {
    fn from(error: object::read::Error) -> Self {
        ImageError::Format(error.to_string())
    }
}

/// The address of a function that a driver may call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FunctionAddress(pub(crate) *const ());
// SAFETY: the address of code, which is the same for all threads.
unsafe impl Send for FunctionAddress {}
// SAFETY: as above.
unsafe impl Sync for FunctionAddress {}

/// A function or variable that a system module exports.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Export {
    /// Called with the Windows x64 convention.
    Function(FunctionAddress),
    /// Called with a convention of its own (`__chkstk`): it must see every register as the driver left it.
    Bare(FunctionAddress),
    /// The address of a variable.
    Data(usize),
}

impl Export {
    /// The address of a function's code.
    #[cfg(test)]
    pub(crate) fn code(self) -> Option<usize> {
        match self {
            Export::Function(function) => Some(function.0 as usize),
            Export::Bare(_) | Export::Data(_) => None,
        }
    }
}

/// An import of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportName {
    /// The module, as the image spells it.
    pub module: String,
    /// The function, or `#` and its ordinal.
    pub name: String,
}

impl fmt::Display for ImportName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}!{}", self.module, self.name)
    }
}

#[derive(Debug)]
struct Section {
    rva: usize,
    size: usize,
    code: bool,
    /// What may be done with it, if its name says that it is pageable.
    pageable: Option<Access>,
}

/// An image in memory. It is unmapped when it is dropped.
#[derive(Debug)]
pub(crate) struct Mapped {
    memory: Mapping,
    /// The same as it was before it was relocated and bound: what a walk of a stack reads, also while the pages themselves are
    /// inaccessible.
    contents: Vec<u8>,
    path: PathBuf,
    is_system: bool,
    entry: usize,
    sections: Vec<Section>,
    /// The exception directory: RVA and entries.
    functions: (usize, usize),
    imports: Vec<ImportName>,
    missing: Vec<ImportName>,
    _thunks: Sealed,
}

impl Mapped {
    /// Loads a file, which is a driver or part of Windows. What `resolve(module, name)` does not know is bound to a thunk that calls `missing`
    /// with the name.
    pub(crate) fn load(
        path: &Path,
        is_system: bool,
        resolve: impl Fn(&str, &str) -> Option<Export>,
        missing: extern "win64" fn(*const u8, usize) -> !,
    ) -> Result<Arc<Self>, ImageError> {
        let data = fs::read(path)?;
        let file = PeFile64::parse(&*data)?;
        let machine = file.nt_headers().file_header().machine.get(LE);
        if machine != pe::IMAGE_FILE_MACHINE_AMD64 {
            return Err(ImageError::Machine(machine));
        }
        let header = file.nt_headers().optional_header();
        let contents = lay_out(&file, &data)?;
        let mut memory = Mapping::new(contents.len(), Access::ReadWrite)?;
        memory.write(0, &contents);
        relocate(&file, &data, &mut memory)?;
        set_security_cookie(&file, &mut memory);
        crate::nt::shared_data::prepare();
        let (imports, absent, thunks) = bind(&file, &mut memory, resolve, missing)?;
        let sections = protect(&file, &memory)?;
        let exceptions = file.data_directories().get(pe::IMAGE_DIRECTORY_ENTRY_EXCEPTION);
        let functions = exceptions.map_or((0, 0), |directory| {
            (directory.virtual_address.get(LE) as usize, directory.size.get(LE) as usize / 12)
        });
        if functions.0 + functions.1 * 12 > contents.len() {
            return Err(damaged("exception directory"));
        }
        let entry = memory.base() + header.address_of_entry_point() as usize;
        let path = path.to_owned();
        let image = Arc::new(Self {
            memory,
            contents,
            path,
            is_system,
            entry,
            sections,
            functions,
            imports,
            missing: absent,
            _thunks: thunks,
        });
        registry::add(&image)?;
        Ok(image)
    }

    pub(crate) fn base(&self) -> usize {
        self.memory.base()
    }

    pub(crate) fn size(&self) -> usize {
        self.memory.len()
    }

    pub(crate) fn entry(&self) -> usize {
        self.entry
    }

    /// Whether it is part of Windows.
    pub(crate) fn is_system(&self) -> bool {
        self.is_system
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the section of a name lies, which stays as long as the image is mapped.
    pub(crate) fn section(&self, name: &str) -> Option<Range<usize>> {
        let headers = PeFile64::parse(&*self.contents).ok()?;
        let named = |section: &&pe::ImageSectionHeader| {
            let raw = section.raw_name();
            raw.split(|byte| *byte == 0).next() == Some(name.as_bytes())
        };
        let table = headers.section_table();
        let section = table.iter().find(named)?;
        let start = self.base() + section.virtual_address.get(LE) as usize;
        Some(start..start + section.virtual_size.get(LE) as usize)
    }

    pub(crate) fn imports(&self) -> &[ImportName] {
        &self.imports
    }

    pub(crate) fn missing(&self) -> &[ImportName] {
        &self.missing
    }

    /// Start, size and access of the pageable sections.
    pub(crate) fn pageable(&self) -> impl Iterator<Item = (usize, usize, Access)> {
        let pageable = |section: &Section| Some((self.base() + section.rva, section.size, section.pageable?));
        self.sections.iter().filter_map(pageable)
    }

    /// Makes the image inaccessible, so that late calls into an unloaded driver fault.
    pub(crate) fn retire(&self) -> io::Result<()> {
        self.memory.protect(0, self.memory.len(), Access::None)
    }

    fn byte(&self, rva: u32) -> Option<u8> {
        self.contents.get(rva as usize).copied()
    }

    /// A byte at an address in the image.
    pub(crate) fn byte_at(&self, address: usize) -> Option<u8> {
        self.byte(u32::try_from(address.wrapping_sub(self.base())).ok()?)
    }

    /// A byte of code, if the address lies in a code section.
    fn code_byte(&self, address: usize) -> Option<u8> {
        let rva = address.wrapping_sub(self.base());
        self.sections.iter().find(|section| section.code && rva.wrapping_sub(section.rva) < section.size)?;
        self.byte(u32::try_from(rva).ok()?)
    }

    /// The RUNTIME_FUNCTION (begin, end, unwind information) that covers an RVA; leaf functions have none.
    fn runtime_function(&self, rva: u32) -> Option<[u32; 3]> {
        self.indexed_function(rva).map(|(_, function)| function)
    }

    /// Where the RUNTIME_FUNCTION lies that covers an address.
    pub(crate) fn function_entry(&self, address: usize) -> Option<usize> {
        let (index, _) = self.indexed_function(u32::try_from(address.wrapping_sub(self.base())).ok()?)?;
        Some(self.base() + self.functions.0 + index * 12)
    }

    fn indexed_function(&self, rva: u32) -> Option<(usize, [u32; 3])> {
        let (start, count) = self.functions;
        let (entries, _) = self.contents.get(start..start + count * 12)?.as_chunks::<12>();
        let word = |entry: &[u8; 12], at: usize| u32::from_le_bytes(std::array::from_fn(|byte| entry[4 * at + byte]));
        let after = entries.partition_point(|entry| word(entry, 0) <= rva);
        let index = after.checked_sub(1)?;
        let entry = entries.get(index)?;
        (rva < word(entry, 1)).then(|| (index, std::array::from_fn(|at| word(entry, at))))
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        registry::remove(self);
    }
}

fn damaged(what: &str) -> ImageError {
    ImageError::Format(format!("its {what} lie outside it"))
}

/// Whether an address lies in an image that is part of Windows.
pub(crate) fn is_of_the_system(address: usize) -> bool {
    registry::find(address).is_some_and(|image| image.is_system())
}

/// The headers and sections where they lie in memory.
fn lay_out(file: &PeFile64, data: &[u8]) -> Result<Vec<u8>, ImageError> {
    let header = file.nt_headers().optional_header();
    let mut contents = vec![0; page_up(header.size_of_image() as usize)];
    let headers = data.get(..header.size_of_headers() as usize).ok_or_else(|| damaged("headers"))?;
    let mut copy = |rva: usize, bytes: &[u8]| {
        let target = contents.get_mut(rva..).and_then(|rest| rest.get_mut(..bytes.len()));
        target.map(|target| target.copy_from_slice(bytes)).ok_or_else(|| damaged("sections"))
    };
    copy(0, headers)?;
    for section in file.section_table().iter() {
        copy(section.virtual_address.get(LE) as usize, section.pe_data(data)?)?;
    }
    Ok(contents)
}

fn place(memory: &mut Mapping, rva: usize, bytes: &[u8]) -> Result<(), ImageError> {
    if rva.checked_add(bytes.len()).is_none_or(|end| end > memory.len()) {
        return Err(damaged("sections"));
    }
    memory.write(rva, bytes);
    Ok(())
}

fn relocate(file: &PeFile64, data: &[u8], memory: &mut Mapping) -> Result<(), ImageError> {
    let delta = (memory.base() as u64).wrapping_sub(file.nt_headers().optional_header().image_base());
    let Some(mut blocks) = file.data_directories().relocation_blocks(data, &file.section_table())? else {
        // None are needed where no address was linked in, unless the linker has dropped those that were.
        let stripped = file.nt_headers().file_header().characteristics.get(LE) & pe::IMAGE_FILE_RELOCS_STRIPPED != 0;
        return if stripped { Err(ImageError::Format("its relocations are stripped".to_owned())) } else { Ok(()) };
    };
    while let Some(block) = blocks.next()? {
        for relocation in block {
            match relocation.typ {
                pe::IMAGE_REL_BASED_ABSOLUTE => {}
                pe::IMAGE_REL_BASED_DIR64 => {
                    let rva = relocation.virtual_address as usize;
                    if rva + 8 > memory.len() {
                        return Err(damaged("relocations"));
                    }
                    let at = (memory.base() + rva) as *mut u64;
                    // SAFETY: inside the mapping, which is still writable.
                    let word = unsafe { at.read_unaligned() };
                    // SAFETY: as above.
                    unsafe { at.write_unaligned(word.wrapping_add(delta)) };
                }
                other => return Err(ImageError::Format(format!("relocation type {other}"))),
            }
        }
    }
    Ok(())
}

/// Gives an image whose load configuration names its stack cookie a value for it that nobody guesses, as Windows' loader does: its
/// entry code stops if it finds the linker's.
fn set_security_cookie(file: &PeFile64, memory: &mut Mapping) {
    /// Where IMAGE_LOAD_CONFIG_DIRECTORY64 has the cookie's address.
    const SECURITY_COOKIE: usize = 88;
    const DEFAULT_COOKIE: u64 = 0x0000_2b99_2ddf_a232;
    /// The top bits stay clear, so that a string copied over the cookie ends in it.
    const COOKIE_BITS: u64 = 0x0000_ffff_ffff_ffff;
    let Some(directory) = file.data_directories().get(pe::IMAGE_DIRECTORY_ENTRY_LOAD_CONFIG) else { return };
    let (rva, base, len) = (directory.virtual_address.get(LE) as usize, memory.base(), memory.len());
    let word = |rva: usize| {
        let inside = rva.checked_add(8).is_some_and(|end| end <= len);
        // SAFETY: inside the mapping, which is readable.
        inside.then(|| unsafe { ((base + rva) as *const u64).read_unaligned() })
    };
    // The directory's own size comes first.
    let named = word(rva).filter(|size| (size & 0xffff_ffff) as usize >= SECURITY_COOKIE + 8);
    let Some(address) = named.and_then(|_| word(rva + SECURITY_COOKIE)) else { return };
    let cookie = (address as usize).wrapping_sub(base);
    if word(cookie) == Some(DEFAULT_COOKIE) {
        let random = RandomState::new().hash_one(base) & COOKIE_BITS;
        memory.write(cookie, &random.max(1).to_le_bytes());
    }
}

type Bound = (Vec<ImportName>, Vec<ImportName>, Sealed);

fn bind(
    file: &PeFile64,
    memory: &mut Mapping,
    resolve: impl Fn(&str, &str) -> Option<Export>,
    handler: extern "win64" fn(*const u8, usize) -> !,
) -> Result<Bound, ImageError> {
    let mut slots = Vec::new();
    if let Some(table) = file.import_table()? {
        let mut descriptors = table.descriptors()?;
        while let Some(descriptor) = descriptors.next()? {
            let module = String::from_utf8_lossy(table.name(descriptor.name.get(LE))?).into_owned();
            let mut slot = descriptor.first_thunk.get(LE) as usize;
            let mut names = table.thunks(descriptor.original_first_thunk.get(LE))?;
            while let Some(thunk) = names.next::<pe::ImageNtHeaders64>()? {
                let name = match table.import::<pe::ImageNtHeaders64>(thunk)? {
                    Import::Name(_, name) => String::from_utf8_lossy(name).into_owned(),
                    Import::Ordinal(ordinal) => format!("#{ordinal}"),
                };
                slots.push((slot, ImportName { module: module.clone(), name }));
                slot += 8;
            }
        }
    }
    let mut thunks = Thunks::new(slots.len())?;
    let mut missing = Vec::new();
    for (slot, import) in &slots {
        let address = match resolve(&import.module, &import.name) {
            Some(Export::Function(function)) => thunks.entry(function.0 as usize),
            Some(Export::Bare(function)) => thunks.jump(function.0 as usize),
            Some(Export::Data(variable)) => variable,
            None => {
                missing.push(import.clone());
                // The image may call it as long as the process lives.
                thunks.missing(import.to_string().leak(), handler)
            }
        };
        place(memory, *slot, &(address as u64).to_le_bytes())?;
    }
    Ok((slots.into_iter().map(|(_, import)| import).collect(), missing, thunks.seal()?))
}

fn protect(file: &PeFile64, memory: &Mapping) -> Result<Vec<Section>, ImageError> {
    memory.protect(0, PAGE_SIZE, Access::Read)?;
    let mut sections = Vec::new();
    for section in file.section_table().iter() {
        let flags = section.characteristics.get(LE);
        let (rva, size) = (section.virtual_address.get(LE) as usize, section.virtual_size.get(LE) as usize);
        let writable = flags & pe::IMAGE_SCN_MEM_WRITE != 0;
        let code = flags & pe::IMAGE_SCN_MEM_EXECUTE != 0;
        // Older linkers mark what is only needed at the entry as all of this; nobody writes to it.
        let discardable = flags & pe::IMAGE_SCN_MEM_DISCARDABLE != 0;
        let access = match (writable, code) {
            (true, true) if discardable => Access::ReadExecute,
            (true, true) => {
                return Err(ImageError::WritableCode(String::from_utf8_lossy(section.raw_name()).into_owned()));
            }
            (true, false) => Access::ReadWrite,
            (false, true) => Access::ReadExecute,
            (false, false) => Access::Read,
        };
        if rva + size > memory.len() {
            return Err(damaged("sections"));
        }
        memory.protect(rva, size, access)?;
        let pageable = section.raw_name().starts_with(b"PAGE").then_some(access);
        sections.push(Section { rva, size, code, pageable });
    }
    Ok(sections)
}
