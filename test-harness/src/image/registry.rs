//! The images mapped in this process, by address. Signal handlers search it, so it is a fixed table of atomics.
#![allow(unsafe_code)] // turns a registered address back into the image

use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::{io, ptr};

use super::Mapped;

/// Images that can be mapped at once.
const CAPACITY: usize = 256;

struct Entry {
    /// Odd while the rest changes: who reads it meanwhile must not mix one image's addresses with another's.
    version: AtomicUsize,
    start: AtomicUsize,
    end: AtomicUsize,
    image: AtomicPtr<Mapped>,
}

impl Entry {
    const fn new() -> Self {
        Self {
            version: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            image: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Says where the image lies; called only by who has taken the entry.
    fn set(&self, start: usize, end: usize) {
        self.version.fetch_add(1, Ordering::SeqCst);
        self.start.store(start, Ordering::SeqCst);
        self.end.store(end, Ordering::SeqCst);
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// The image, if the address lies in it; null otherwise, and while the entry changes.
    fn image_of(&self, address: usize) -> *mut Mapped {
        let version = self.version.load(Ordering::SeqCst);
        let inside = address >= self.start.load(Ordering::SeqCst) && address < self.end.load(Ordering::SeqCst);
        let image = self.image.load(Ordering::SeqCst);
        let is_whole = version.is_multiple_of(2) && version == self.version.load(Ordering::SeqCst);
        if inside && is_whole { image } else { ptr::null_mut() }
    }
}

static ENTRIES: [Entry; CAPACITY] = [const { Entry::new() }; CAPACITY];
/// One more than the highest entry ever used.
static USED: AtomicUsize = AtomicUsize::new(0);

/// Enters an image, which stays where it is until `remove`.
pub(super) fn add(image: &Mapped) -> io::Result<()> {
    let address = ptr::from_ref(image).cast_mut();
    for (index, entry) in ENTRIES.iter().enumerate() {
        if entry.image.compare_exchange(ptr::null_mut(), address, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            USED.fetch_max(index + 1, Ordering::AcqRel);
            entry.set(image.base(), image.base() + image.size());
            return Ok(());
        }
    }
    Err(io::Error::other("too many images are mapped"))
}

pub(super) fn remove(image: &Mapped) {
    let address = ptr::from_ref(image).cast_mut();
    for entry in &ENTRIES[..USED.load(Ordering::Acquire)] {
        if entry.image.load(Ordering::Acquire) == address {
            entry.set(0, 0);
            entry.image.store(ptr::null_mut(), Ordering::Release);
        }
    }
}

/// The image that an address lies in.
pub(crate) fn find<'a>(address: usize) -> Option<&'a Mapped> {
    ENTRIES[..USED.load(Ordering::Acquire)].iter().find_map(|entry| {
        let image = entry.image_of(address);
        // SAFETY: an image takes itself out before it is unmapped, and it is unmapped only when no thread runs in it.
        (!image.is_null()).then(|| unsafe { &*image })
    })
}
