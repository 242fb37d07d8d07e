//! The images mapped in this process, by address. Signal handlers search it, so it is a fixed table of atomics.
#![allow(unsafe_code)] // turns a registered address back into the image

use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::{io, ptr};

use super::Mapped;

/// Images that can be mapped at once.
const CAPACITY: usize = 256;

struct Entry {
    start: AtomicUsize,
    end: AtomicUsize,
    image: AtomicPtr<Mapped>,
}

static ENTRIES: [Entry; CAPACITY] =
    [const { Entry { start: AtomicUsize::new(0), end: AtomicUsize::new(0), image: AtomicPtr::new(ptr::null_mut()) } };
        CAPACITY];
/// One more than the highest entry ever used.
static USED: AtomicUsize = AtomicUsize::new(0);

/// Enters an image, which stays where it is until `remove`.
pub(super) fn add(image: &Mapped) -> io::Result<()> {
    let address = ptr::from_ref(image).cast_mut();
    for (index, entry) in ENTRIES.iter().enumerate() {
        if entry.image.compare_exchange(ptr::null_mut(), address, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            USED.fetch_max(index + 1, Ordering::AcqRel);
            entry.start.store(image.base(), Ordering::Release);
            entry.end.store(image.base() + image.size(), Ordering::Release);
            return Ok(());
        }
    }
    Err(io::Error::other("too many images are mapped"))
}

pub(super) fn remove(image: &Mapped) {
    let address = ptr::from_ref(image).cast_mut();
    for entry in &ENTRIES[..USED.load(Ordering::Acquire)] {
        if entry.image.load(Ordering::Acquire) == address {
            entry.end.store(0, Ordering::Release);
            entry.start.store(0, Ordering::Release);
            entry.image.store(ptr::null_mut(), Ordering::Release);
        }
    }
}

/// The image that an address lies in.
pub(crate) fn find<'a>(address: usize) -> Option<&'a Mapped> {
    ENTRIES[..USED.load(Ordering::Acquire)].iter().find_map(|entry| {
        let inside = address >= entry.start.load(Ordering::Acquire) && address < entry.end.load(Ordering::Acquire);
        let image = if inside { entry.image.load(Ordering::Acquire) } else { ptr::null_mut() };
        // SAFETY: an image takes itself out before it is unmapped, and it is unmapped only when no thread runs in it.
        (!image.is_null()).then(|| unsafe { &*image })
    })
}
