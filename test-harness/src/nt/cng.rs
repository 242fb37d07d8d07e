//! Cryptography Next Generation: what `cng.sys` exports, and `ksecdd.sys` passes on to it. Hashes, HMACs and random numbers.
//!
//! A handle is the address of a block that the driver has to give back, so that one which is left is a leak.
#![allow(unsafe_code)] // buffers and names by address

use std::collections::HashMap;
use std::ptr;

use md5::Md5;
use parking_lot::Mutex;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::irql::called;
use super::pool::{self, Owner};
use super::status::{
    STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_HANDLE, STATUS_INVALID_PARAMETER, STATUS_NO_MEMORY, STATUS_NOT_FOUND,
    STATUS_NOT_SUPPORTED, STATUS_SUCCESS,
};
use super::strings::units;
use super::types::{DISPATCH_LEVEL, NTSTATUS, PASSIVE_LEVEL, PVOID};
use crate::guard::violate;
use crate::image::Export;
use crate::kernel::Kernel;
use crate::thread::{Current, kernel};
use crate::violation::Rule;

const TAG: u32 = pool::tag(*b"Bcry");

const BCRYPT_PROV_DISPATCH: u32 = 0x01;
const BCRYPT_ALG_HANDLE_HMAC_FLAG: u32 = 0x08;
const BCRYPT_HASH_REUSABLE_FLAG: u32 = 0x20;
const BCRYPT_RNG_USE_ENTROPY_IN_BUFFER: u32 = 0x01;
const BCRYPT_USE_SYSTEM_PREFERRED_RNG: u32 = 0x02;
const MS_PRIMITIVE_PROVIDER: &str = "Microsoft Primitive Provider";

/// What a hash object takes of its caller's memory (BCRYPT_OBJECT_LENGTH).
const OBJECT_LENGTH: u32 = 512;
/// The longest name of an algorithm, a provider or a property.
const NAME_MAXIMUM: usize = 64;

macro_rules! hashes {
    ($($kind:ident = $name:literal, $block:literal;)*) => {
        /// A hash algorithm.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum HashAlgorithm {
            $($kind,)*
        }

        /// What has come of the data so far.
        #[derive(Clone)]
        enum Digestion {
            $($kind($kind),)*
        }

        impl HashAlgorithm {
            fn named(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$kind),)*
                    _ => None,
                }
            }

            fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// Bytes of a block.
            fn block(self) -> usize {
                match self {
                    $(Self::$kind => $block,)*
                }
            }

            /// Bytes of a hash.
            fn length(self) -> usize {
                match self {
                    $(Self::$kind => <$kind as Digest>::output_size(),)*
                }
            }

            fn start(self) -> Digestion {
                match self {
                    $(Self::$kind => Digestion::$kind($kind::new()),)*
                }
            }
        }

        impl Digestion {
            fn update(&mut self, bytes: &[u8]) {
                match self {
                    $(Self::$kind(state) => state.update(bytes),)*
                }
            }

            fn finish(self) -> Vec<u8> {
                match self {
                    $(Self::$kind(state) => state.finalize().to_vec(),)*
                }
            }
        }
    };
}

hashes! {
    Md5 = "MD5", 64;
    Sha1 = "SHA1", 64;
    Sha256 = "SHA256", 64;
    Sha384 = "SHA384", 128;
    Sha512 = "SHA512", 128;
}

/// What a provider is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Hash(HashAlgorithm),
    RandomNumbers,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Hash(hash) => hash.name(),
            Self::RandomNumbers => "RNG",
        }
    }
}

/// An open provider.
#[derive(Clone, Copy)]
struct Provider {
    algorithm: Algorithm,
    is_hmac: bool,
    /// Whether it may be used at DISPATCH_LEVEL.
    at_dispatch: bool,
    reusable: bool,
    /// Hash objects that were made with it and not destroyed.
    objects: usize,
}

/// A computation, of a hash or (with a key) of an HMAC.
#[derive(Clone)]
struct Computation {
    algorithm: HashAlgorithm,
    /// Of a block's length.
    key: Option<Vec<u8>>,
    state: Digestion,
}

impl Computation {
    fn new(algorithm: HashAlgorithm, key: Option<&[u8]>) -> Self {
        let padded = |key: &[u8]| {
            let mut padded = key.to_vec();
            if padded.len() > algorithm.block() {
                let mut state = algorithm.start();
                state.update(key);
                padded = state.finish();
            }
            padded.resize(algorithm.block(), 0);
            padded
        };
        let mut new = Self { algorithm, key: key.map(padded), state: algorithm.start() };
        new.restart();
        new
    }

    /// The key as one of RFC 2104's two pads.
    fn pad(&self, value: u8) -> Option<Vec<u8>> {
        self.key.as_ref().map(|key| key.iter().map(|byte| byte ^ value).collect())
    }

    fn restart(&mut self) {
        self.state = self.algorithm.start();
        if let Some(inner) = self.pad(0x36) {
            self.state.update(&inner);
        }
    }

    /// The result; the computation is as at its start.
    fn finish(&mut self) -> Vec<u8> {
        let hash = std::mem::replace(&mut self.state, self.algorithm.start()).finish();
        let result = match self.pad(0x5c) {
            Some(outer) => {
                let mut state = self.algorithm.start();
                state.update(&outer);
                state.update(&hash);
                state.finish()
            }
            None => hash,
        };
        self.restart();
        result
    }
}

/// Whose memory a hash object is in.
#[derive(Clone, Copy)]
enum Memory {
    /// Its caller's, who keeps it until the object is destroyed.
    Lent,
    Own,
}

/// A hash object.
#[derive(Clone)]
struct HashObject {
    provider: usize,
    computation: Computation,
    reusable: bool,
    finished: bool,
    at_dispatch: bool,
    memory: Memory,
}

#[derive(Default)]
struct State {
    providers: HashMap<usize, Provider>,
    hashes: HashMap<usize, HashObject>,
}

/// The open providers and hash objects of a machine, by their handles.
#[derive(Default)]
struct Handles(Mutex<State>);

/// What is wrong with a handle that names nothing: memory that was one is misused.
fn unknown(kernel: &Kernel, handle: usize) -> NTSTATUS {
    if kernel.pool.contains(handle) {
        violate(Rule::Object, format!("{handle:#x} is no handle of CNG, or it has been closed"));
    }
    STATUS_INVALID_HANDLE
}

fn check_irql(current: &Current, at_dispatch: bool) {
    if current.irql.get() == DISPATCH_LEVEL && !at_dispatch {
        let call = current.call.get();
        violate(Rule::Irql, format!("{call} at DISPATCH_LEVEL, of a provider without BCRYPT_PROV_DISPATCH"));
    }
}

fn provider(current: &Current, handle: usize) -> Result<Provider, NTSTATUS> {
    let found = current.kernel.extension::<Handles>().0.lock().providers.get(&handle).copied();
    let provider = found.ok_or_else(|| unknown(&current.kernel, handle))?;
    check_irql(current, provider.at_dispatch);
    Ok(provider)
}

/// Does something with a hash object.
fn with_hash<T>(
    current: &Current,
    handle: usize,
    body: impl FnOnce(&mut HashObject) -> Result<T, NTSTATUS>,
) -> Result<T, NTSTATUS> {
    let handles = current.kernel.extension::<Handles>();
    let known = handles.0.lock().hashes.get(&handle).map(|hash| hash.at_dispatch);
    let Some(at_dispatch) = known else { return Err(unknown(&current.kernel, handle)) };
    check_irql(current, at_dispatch);
    let mut state = handles.0.lock();
    body(state.hashes.get_mut(&handle).ok_or(STATUS_INVALID_HANDLE)?)
}

fn bytes(at: *const u8, length: u32) -> Vec<u8> {
    let mut copy = vec![0; length as usize];
    // SAFETY: the caller gives as many bytes; a bad buffer faults, which the guard reports.
    unsafe { ptr::copy(at, copy.as_mut_ptr(), copy.len()) };
    copy
}

fn put(at: *mut u8, bytes: &[u8]) {
    // SAFETY: the caller has room for as many bytes; a bad buffer faults, which the guard reports.
    unsafe { ptr::copy(bytes.as_ptr(), at, bytes.len()) };
}

fn name(at: *const u16) -> String {
    String::from_utf16_lossy(&units(at, NAME_MAXIMUM))
}

fn status(outcome: Result<(), NTSTATUS>) -> NTSTATUS {
    outcome.err().unwrap_or(STATUS_SUCCESS)
}

/// A block whose address is a handle.
fn allocate(kernel: &Kernel) -> Result<usize, NTSTATUS> {
    if kernel.faults.allocation_fails() {
        return Err(STATUS_NO_MEMORY);
    }
    let block = kernel.pool.allocate(OBJECT_LENGTH as usize, TAG, Owner::Driver, true);
    block.map(|block| block as usize).ok_or(STATUS_NO_MEMORY)
}

fn open(algorithm: *const u16, implementation: *const u16, flags: u32) -> Result<usize, NTSTATUS> {
    const KNOWN: u32 = BCRYPT_PROV_DISPATCH | BCRYPT_ALG_HANDLE_HMAC_FLAG | BCRYPT_HASH_REUSABLE_FLAG;
    let kernel = kernel();
    if algorithm.is_null() || flags & !KNOWN != 0 {
        return Err(STATUS_INVALID_PARAMETER);
    }
    if !implementation.is_null() && name(implementation) != MS_PRIMITIVE_PROVIDER {
        return Err(STATUS_NOT_FOUND);
    }
    let wanted = name(algorithm).to_ascii_uppercase();
    let algorithm = match HashAlgorithm::named(&wanted) {
        Some(hash) => Algorithm::Hash(hash),
        None if wanted == Algorithm::RandomNumbers.name() => Algorithm::RandomNumbers,
        None => return Err(STATUS_NOT_FOUND),
    };
    let for_hashes = BCRYPT_ALG_HANDLE_HMAC_FLAG | BCRYPT_HASH_REUSABLE_FLAG;
    if algorithm == Algorithm::RandomNumbers && flags & for_hashes != 0 {
        return Err(STATUS_INVALID_PARAMETER);
    }
    let provider = Provider {
        algorithm,
        is_hmac: flags & BCRYPT_ALG_HANDLE_HMAC_FLAG != 0,
        at_dispatch: flags & BCRYPT_PROV_DISPATCH != 0,
        reusable: flags & BCRYPT_HASH_REUSABLE_FLAG != 0,
        objects: 0,
    };
    let handle = allocate(kernel)?;
    kernel.extension::<Handles>().0.lock().providers.insert(handle, provider);
    Ok(handle)
}

pub(crate) extern "win64" fn BCryptOpenAlgorithmProvider(
    handle: &mut usize,
    algorithm: *const u16,
    implementation: *const u16,
    flags: u32,
) -> NTSTATUS {
    called("BCryptOpenAlgorithmProvider", PASSIVE_LEVEL);
    status(open(algorithm, implementation, flags).map(|opened| *handle = opened))
}

pub(crate) extern "win64" fn BCryptCloseAlgorithmProvider(handle: usize, flags: u32) -> NTSTATUS {
    let kernel = &called("BCryptCloseAlgorithmProvider", PASSIVE_LEVEL).kernel;
    if flags != 0 {
        return STATUS_INVALID_PARAMETER;
    }
    let closed = kernel.extension::<Handles>().0.lock().providers.remove(&handle);
    let Some(closed) = closed else { return unknown(kernel, handle) };
    if closed.at_dispatch && closed.objects != 0 {
        violate(Rule::Object, format!("a provider is closed before {} hash objects of its", closed.objects));
    }
    pool::free(kernel, handle as PVOID, TAG);
    STATUS_SUCCESS
}

/// The provider's hash algorithm, and the key for it.
fn keyed(provider: &Provider, secret: *const u8, length: u32) -> Result<Computation, NTSTATUS> {
    let algorithm = match provider.algorithm {
        Algorithm::Hash(algorithm) => algorithm,
        Algorithm::RandomNumbers => return Err(STATUS_NOT_SUPPORTED),
    };
    if !provider.is_hmac && length != 0 {
        return Err(STATUS_INVALID_PARAMETER);
    }
    let key = provider.is_hmac.then(|| bytes(secret, length));
    Ok(Computation::new(algorithm, key.as_deref()))
}

/// Enters a hash object, in the caller's memory if there is some: its handle.
fn enter(current: &Current, buffer: *mut u8, length: u32, hash: HashObject) -> Result<usize, NTSTATUS> {
    let kernel = &current.kernel;
    let (handle, memory) = match (buffer.is_null(), length) {
        (true, 0) => (allocate(kernel)?, Memory::Own),
        (true, _) => return Err(STATUS_INVALID_PARAMETER),
        (false, ..OBJECT_LENGTH) => return Err(STATUS_BUFFER_TOO_SMALL),
        (false, _) => {
            put(buffer, &[0; OBJECT_LENGTH as usize]);
            kernel.lent.lend(buffer as usize, Rule::UseAfterFree, "a hash object (BCryptDestroyHash)");
            (buffer as usize, Memory::Lent)
        }
    };
    let handles = kernel.extension::<Handles>();
    let mut state = handles.0.lock();
    if let Some(provider) = state.providers.get_mut(&hash.provider) {
        provider.objects += 1;
    }
    state.hashes.insert(handle, HashObject { memory, ..hash });
    Ok(handle)
}

pub(crate) extern "win64" fn BCryptCreateHash(
    algorithm: usize,
    handle: &mut usize,
    buffer: *mut u8,
    buffer_length: u32,
    secret: *const u8,
    secret_length: u32,
    flags: u32,
) -> NTSTATUS {
    let current = called("BCryptCreateHash", DISPATCH_LEVEL);
    let created = provider(current, algorithm).and_then(|provider| {
        if flags & !BCRYPT_HASH_REUSABLE_FLAG != 0 {
            return Err(STATUS_INVALID_PARAMETER);
        }
        let hash = HashObject {
            provider: algorithm,
            computation: keyed(&provider, secret, secret_length)?,
            reusable: provider.reusable || flags != 0,
            finished: false,
            at_dispatch: provider.at_dispatch,
            memory: Memory::Own,
        };
        enter(current, buffer, buffer_length, hash)
    });
    status(created.map(|created| *handle = created))
}

pub(crate) extern "win64" fn BCryptDuplicateHash(
    source: usize,
    handle: &mut usize,
    buffer: *mut u8,
    buffer_length: u32,
    flags: u32,
) -> NTSTATUS {
    let current = called("BCryptDuplicateHash", DISPATCH_LEVEL);
    let copied = with_hash(current, source, |hash| match flags {
        0 => Ok(hash.clone()),
        _ => Err(STATUS_INVALID_PARAMETER),
    });
    let made = copied.and_then(|hash| enter(current, buffer, buffer_length, hash));
    status(made.map(|made| *handle = made))
}

pub(crate) extern "win64" fn BCryptHashData(handle: usize, input: *const u8, length: u32, flags: u32) -> NTSTATUS {
    let current = called("BCryptHashData", DISPATCH_LEVEL);
    if flags != 0 {
        return STATUS_INVALID_PARAMETER;
    }
    let input = bytes(input, length);
    let hashed = with_hash(current, handle, |hash| {
        if hash.finished {
            return Err(STATUS_INVALID_HANDLE);
        }
        hash.computation.state.update(&input);
        Ok(())
    });
    status(hashed)
}

pub(crate) extern "win64" fn BCryptFinishHash(handle: usize, output: *mut u8, length: u32, flags: u32) -> NTSTATUS {
    let current = called("BCryptFinishHash", DISPATCH_LEVEL);
    let finished = with_hash(current, handle, |hash| {
        if hash.finished {
            return Err(STATUS_INVALID_HANDLE);
        }
        if flags != 0 || length as usize != hash.computation.algorithm.length() {
            return Err(STATUS_INVALID_PARAMETER);
        }
        hash.finished = !hash.reusable;
        Ok(hash.computation.finish())
    });
    status(finished.map(|result| put(output, &result)))
}

pub(crate) extern "win64" fn BCryptDestroyHash(handle: usize) -> NTSTATUS {
    let current = called("BCryptDestroyHash", DISPATCH_LEVEL);
    if let Err(status) = with_hash(current, handle, |_| Ok(())) {
        return status;
    }
    let kernel = &current.kernel;
    let handles = kernel.extension::<Handles>();
    let mut state = handles.0.lock();
    let Some(hash) = state.hashes.remove(&handle) else { return STATUS_INVALID_HANDLE };
    if let Some(provider) = state.providers.get_mut(&hash.provider) {
        provider.objects -= 1;
    }
    drop(state);
    match hash.memory {
        Memory::Lent => kernel.lent.give_back(handle),
        Memory::Own => pool::free(kernel, handle as PVOID, TAG),
    }
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn BCryptHash(
    algorithm: usize,
    secret: *const u8,
    secret_length: u32,
    input: *const u8,
    input_length: u32,
    output: *mut u8,
    output_length: u32,
) -> NTSTATUS {
    let current = called("BCryptHash", DISPATCH_LEVEL);
    let hashed = provider(current, algorithm).and_then(|provider| {
        let mut computation = keyed(&provider, secret, secret_length)?;
        if output_length as usize != computation.algorithm.length() {
            return Err(STATUS_INVALID_PARAMETER);
        }
        computation.state.update(&bytes(input, input_length));
        Ok(computation.finish())
    });
    status(hashed.map(|result| put(output, &result)))
}

/// What a handle says of itself under a name, of a provider or of a hash object.
fn property(current: &Current, handle: usize, name: &str) -> Result<Vec<u8>, NTSTATUS> {
    let known = current.kernel.extension::<Handles>().0.lock().hashes.get(&handle).map(|hash| hash.provider);
    if name == "ProviderHandle" {
        let provider = known.ok_or(STATUS_NOT_SUPPORTED)?;
        return with_hash(current, handle, |_| Ok(provider.to_le_bytes().to_vec()));
    }
    let algorithm = match known {
        Some(_) => Algorithm::Hash(with_hash(current, handle, |hash| Ok(hash.computation.algorithm))?),
        None => provider(current, handle)?.algorithm,
    };
    let number = |value: usize| Ok(u32::try_from(value).unwrap_or(0).to_le_bytes().to_vec());
    match (name, algorithm) {
        ("AlgorithmName", _) => Ok(algorithm.name().encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()),
        ("ObjectLength", Algorithm::Hash(_)) => number(OBJECT_LENGTH as usize),
        ("HashDigestLength", Algorithm::Hash(hash)) => number(hash.length()),
        ("HashBlockLength", Algorithm::Hash(hash)) => number(hash.block()),
        _ => Err(STATUS_NOT_SUPPORTED),
    }
}

pub(crate) extern "win64" fn BCryptGetProperty(
    handle: usize,
    property_name: *const u16,
    output: *mut u8,
    length: u32,
    told: Option<&mut u32>,
    flags: u32,
) -> NTSTATUS {
    let current = called("BCryptGetProperty", DISPATCH_LEVEL);
    let Some(told) = told.filter(|_| !property_name.is_null() && flags == 0) else { return STATUS_INVALID_PARAMETER };
    let found = property(current, handle, &name(property_name)).and_then(|value| {
        *told = u32::try_from(value.len()).unwrap_or(u32::MAX);
        if output.is_null() {
            return Ok(());
        }
        if length < *told {
            return Err(STATUS_BUFFER_TOO_SMALL);
        }
        put(output, &value);
        Ok(())
    });
    status(found)
}

/// Nothing that these algorithms have can be set.
pub(crate) extern "win64" fn BCryptSetProperty(
    handle: usize,
    property_name: *const u16,
    _input: *const u8,
    _length: u32,
    flags: u32,
) -> NTSTATUS {
    let current = called("BCryptSetProperty", DISPATCH_LEVEL);
    if property_name.is_null() || flags != 0 {
        return STATUS_INVALID_PARAMETER;
    }
    let is_hash = current.kernel.extension::<Handles>().0.lock().hashes.contains_key(&handle);
    let checked = if is_hash { with_hash(current, handle, |_| Ok(())) } else { provider(current, handle).map(|_| ()) };
    checked.err().unwrap_or(STATUS_NOT_SUPPORTED)
}

pub(crate) extern "win64" fn BCryptGenRandom(algorithm: usize, buffer: *mut u8, length: u32, flags: u32) -> NTSTATUS {
    let current = called("BCryptGenRandom", DISPATCH_LEVEL);
    let generated = if flags & !(BCRYPT_RNG_USE_ENTROPY_IN_BUFFER | BCRYPT_USE_SYSTEM_PREFERRED_RNG) != 0 {
        Err(STATUS_INVALID_PARAMETER)
    } else if flags & BCRYPT_USE_SYSTEM_PREFERRED_RNG != 0 {
        if current.irql.get() > PASSIVE_LEVEL {
            violate(Rule::Irql, "BCryptGenRandom with BCRYPT_USE_SYSTEM_PREFERRED_RNG above PASSIVE_LEVEL");
        }
        if algorithm == 0 { Ok(()) } else { Err(STATUS_INVALID_PARAMETER) }
    } else {
        provider(current, algorithm).and_then(|provider| match provider.algorithm {
            Algorithm::RandomNumbers => Ok(()),
            Algorithm::Hash(_) => Err(STATUS_INVALID_HANDLE),
        })
    };
    status(generated.map(|()| {
        let mut random = vec![0; length as usize];
        super::random::fill(&current.kernel, &mut random);
        put(buffer, &random);
    }))
}

pub(crate) const EXPORTS: &[(&str, Export)] = super::exports![
    BCryptOpenAlgorithmProvider,
    BCryptCloseAlgorithmProvider,
    BCryptCreateHash,
    BCryptDuplicateHash,
    BCryptHashData,
    BCryptFinishHash,
    BCryptDestroyHash,
    BCryptHash,
    BCryptGetProperty,
    BCryptSetProperty,
    BCryptGenRandom,
];

/// The export of that name.
pub(crate) fn find(name: &str) -> Option<Export> {
    EXPORTS.iter().find(|(known, _)| *known == name).map(|(_, export)| *export)
}
