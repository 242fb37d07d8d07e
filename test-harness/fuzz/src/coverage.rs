//! The counters of the driver's edges, in the loaded image.
#![allow(unsafe_code)] // reads the image's counters, and hands them to libFuzzer

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result, ensure};
use driver_build::{COUNTERS_SECTION, PCS_SECTION};
use test_harness::Driver;

unsafe extern "C" {
    /// Tells libFuzzer of counters that are mapped as long as the process lives.
    fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8);
    /// Tells it of the addresses and flags of the edges of these counters.
    fn __sanitizer_cov_pcs_init(start: *const usize, stop: *const usize);
}

/// Bytes of a counter's address and flags.
const PC_SIZE: usize = 16;

/// The counters, and which of them have ever been more than 0.
pub(crate) struct Coverage {
    counters: &'static [AtomicU8],
    taken: Vec<bool>,
}

impl Coverage {
    /// Finds the counters of an image, which stays loaded from now on, and has libFuzzer go by them.
    pub(crate) fn of(driver: &Driver) -> Result<Self> {
        let section = |name| driver.section(name).with_context(|| format!("the image has no section {name}"));
        let (Range { start, end }, pcs) = (section(COUNTERS_SECTION)?, section(PCS_SECTION)?);
        let (counters, pcs) = (start + 8..end - 1, pcs.start + 8..pcs.end - 8);
        ensure!(counters.len() * PC_SIZE == pcs.len(), "{} counters, {} bytes of addresses", counters.len(), pcs.len());
        // SAFETY: a writable section of an image that stays mapped; the driver, libFuzzer and this crate read and write its
        // bytes one by one.
        let shared = unsafe { std::slice::from_raw_parts(counters.start as *const AtomicU8, counters.len()) };
        // SAFETY: the same range.
        unsafe { __sanitizer_cov_8bit_counters_init(counters.start as *mut u8, counters.end as *mut u8) };
        // SAFETY: a read-only section of the same image; for each counter it has two words.
        unsafe { __sanitizer_cov_pcs_init(pcs.start as *const usize, pcs.end as *const usize) };
        Ok(Self { counters: shared, taken: vec![false; shared.len()] })
    }

    /// Notes what has been taken since the counters were cleared.
    pub(crate) fn note(&mut self) {
        for (counter, taken) in self.counters.iter().zip(&mut self.taken) {
            *taken |= counter.load(Ordering::Relaxed) != 0;
        }
    }

    /// Edges that were ever taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.iter().filter(|taken| **taken).count()
    }

    /// Edges that there are.
    pub(crate) fn total(&self) -> usize {
        self.taken.len()
    }
}
