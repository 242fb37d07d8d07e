//! The images mapped in this process, by address. Signal handlers search it, so it is a fixed table of atomics.
#![allow(unsafe_code)] // turns a registered address back into the image

use std::ops::Deref;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{io, ptr, thread};

use super::Mapped;

/// Images that can be mapped at once.
const CAPACITY: usize = 256;

struct Entry {
    /// Stored before `end`, and read after it: no image's end is ever seen with another's start.
    start: AtomicUsize,
    /// 0 while there is no image to be found here.
    end: AtomicUsize,
    image: AtomicPtr<Mapped>,
    /// How many [`Found`] there are of it; it is not unmapped before they are gone.
    readers: AtomicUsize,
}

impl Entry {
    const fn new() -> Self {
        Self {
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            image: AtomicPtr::new(ptr::null_mut()),
            readers: AtomicUsize::new(0),
        }
    }

    fn holds(&self, address: usize) -> bool {
        address < self.end.load(Ordering::SeqCst) && address >= self.start.load(Ordering::SeqCst)
    }

    /// The image, if the address lies in it.
    fn read(&'static self, address: usize) -> Option<Found> {
        if !self.holds(address) {
            return None;
        }
        self.readers.fetch_add(1, Ordering::SeqCst);
        let found = Found(self);
        // It may have been taken out before it was known that somebody reads it.
        self.holds(address).then_some(found)
    }
}

/// An image that was found, and stays mapped until this is dropped.
pub(crate) struct Found(&'static Entry);

impl Deref for Found {
    type Target = Mapped;

    fn deref(&self) -> &Mapped {
        // SAFETY: the entry held the image when it was known already that somebody reads it, and so `remove` waits.
        unsafe { &*self.0.image.load(Ordering::SeqCst) }
    }
}

impl Drop for Found {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// How long a reader may take: far longer than a stack's walk does.
const PATIENCE: Duration = Duration::from_secs(2);

static ENTRIES: [Entry; CAPACITY] = [const { Entry::new() }; CAPACITY];
/// One more than the highest entry ever used.
static USED: AtomicUsize = AtomicUsize::new(0);

/// Enters an image, which stays where it is until `remove`.
pub(super) fn add(image: &Mapped) -> io::Result<()> {
    let address = ptr::from_ref(image).cast_mut();
    for (index, entry) in ENTRIES.iter().enumerate() {
        if entry.image.compare_exchange(ptr::null_mut(), address, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
            USED.fetch_max(index + 1, Ordering::SeqCst);
            entry.start.store(image.base(), Ordering::SeqCst);
            entry.end.store(image.base() + image.size(), Ordering::SeqCst);
            return Ok(());
        }
    }
    Err(io::Error::other("too many images are mapped"))
}

/// Takes an image out, and waits for those who look at it: stacks are full of addresses of other machines' images.
pub(super) fn remove(image: &Mapped) {
    let address = ptr::from_ref(image).cast_mut();
    for entry in &ENTRIES[..USED.load(Ordering::SeqCst)] {
        if entry.image.load(Ordering::SeqCst) == address {
            entry.end.store(0, Ordering::SeqCst);
            // One whose call was ended by a violation never says that it has done.
            let since = Instant::now();
            while entry.readers.load(Ordering::SeqCst) != 0 && since.elapsed() < PATIENCE {
                thread::yield_now();
            }
            entry.image.store(ptr::null_mut(), Ordering::SeqCst);
        }
    }
}

/// The image that an address lies in.
pub(crate) fn find(address: usize) -> Option<Found> {
    ENTRIES[..USED.load(Ordering::SeqCst)].iter().find_map(|entry| entry.read(address))
}
