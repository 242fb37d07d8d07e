//! Bitmaps (RtlInitializeBitMap): bits of the driver's memory, in ULONGs from the lowest bit on.
//!
//! All of it may be called at any IRQL, if bitmap and header are not pageable: that is for the memory itself to tell.
#![allow(unsafe_code)] // reads and writes the driver's memory

use std::cell::Cell;
use std::ops::Range;

use super::irql::called;
use super::types::HIGH_LEVEL;
use crate::guard::violate;
use crate::image::Export;
use crate::violation::Rule;

/// A bitmap (wdm.h).
#[repr(C)]
pub(crate) struct RTL_BITMAP {
    SizeOfBitMap: Cell<u32>,
    Buffer: Cell<*mut u32>,
}

/// A run of equal bits (wdm.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RTL_BITMAP_RUN {
    StartingIndex: u32,
    NumberOfBits: u32,
}

/// Bits of a ULONG.
const WORD: u32 = u32::BITS;
/// What a search that finds nothing returns.
const NOTHING: u32 = u32::MAX;

/// What a bit can be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bit {
    Clear,
    Set,
}

impl Bit {
    const fn other(self) -> Self {
        match self {
            Self::Clear => Self::Set,
            Self::Set => Self::Clear,
        }
    }
}

/// The bits of a word from `from` up to, and without, `end`, both counted from the word's start.
const fn mask(from: u32, end: u32) -> u32 {
    let below = if end >= WORD { u32::MAX } else { (1 << end) - 1 };
    below & (u32::MAX << from)
}

impl RTL_BITMAP {
    fn size(&self) -> u32 {
        self.SizeOfBitMap.get()
    }

    fn word_at(&self, index: u32) -> *mut u32 {
        self.Buffer.get().wrapping_add(index as usize)
    }

    fn word(&self, index: u32) -> u32 {
        // SAFETY: a word of the bitmap, which its owner says is there; a bad address faults, which the guard reports.
        unsafe { self.word_at(index).read_unaligned() }
    }

    /// A word in which a one is a bit like the given one.
    fn like(&self, index: u32, bit: Bit) -> u32 {
        match bit {
            Bit::Set => self.word(index),
            Bit::Clear => !self.word(index),
        }
    }

    fn put(&self, index: u32, word: u32) {
        // SAFETY: as for `word`.
        unsafe { self.word_at(index).write_unaligned(word) };
    }

    /// The words of a range of bits, each with the mask of those in it.
    fn words(range: Range<u32>) -> impl Iterator<Item = (u32, u32)> {
        let last = range.end.div_ceil(WORD);
        (range.start / WORD..last).map(move |word| {
            let first = word * WORD;
            (word, mask(range.start.saturating_sub(first), range.end - first))
        })
    }

    /// The first bit of that kind in a range, or the range's end.
    fn next(&self, range: Range<u32>, bit: Bit) -> u32 {
        let end = range.end;
        let of = |(word, mask): (u32, u32)| {
            let found = self.like(word, bit) & mask;
            (found != 0).then(|| word * WORD + found.trailing_zeros())
        };
        if range.is_empty() { end } else { Self::words(range).find_map(of).unwrap_or(end) }
    }

    /// The run of such bits that comes first in a range.
    fn next_run(&self, range: Range<u32>, bit: Bit) -> Option<Range<u32>> {
        let start = self.next(range.clone(), bit);
        (start < range.end).then(|| start..self.next(start..range.end, bit.other()))
    }

    /// All runs of such bits.
    fn runs(&self, bit: Bit) -> impl Iterator<Item = Range<u32>> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let run = self.next_run(from..self.size(), bit)?;
            from = run.end;
            Some(run)
        })
    }

    /// Where so many such bits begin in a range.
    fn find_in(&self, mut range: Range<u32>, count: u32, bit: Bit) -> Option<u32> {
        while let Some(run) = self.next_run(range.clone(), bit) {
            if run.end - run.start >= count {
                return Some(run.start);
            }
            range.start = run.end;
        }
        None
    }

    /// As [`Self::find_in`], from the hint on, and then from the start back to it.
    fn find(&self, count: u32, hint: u32, bit: Bit) -> u32 {
        let size = self.size();
        let hint = if hint < size { hint } else { 0 };
        if count > size {
            return NOTHING;
        }
        if count == 0 {
            // The byte of the hint.
            return hint & !7;
        }
        let behind = self.find_in(hint..size, count, bit);
        // What begins before the hint may end behind it.
        behind.or_else(|| self.find_in(0..size.min(hint.saturating_add(count - 1)), count, bit)).unwrap_or(NOTHING)
    }

    fn change(&self, range: Range<u32>, bit: Bit) {
        if range.is_empty() {
            return;
        }
        for (index, mask) in Self::words(range) {
            let word = self.word(index);
            self.put(
                index,
                match bit {
                    Bit::Set => word | mask,
                    Bit::Clear => word & !mask,
                },
            );
        }
    }

    fn change_all(&self, bit: Bit) {
        let word = match bit {
            Bit::Set => u32::MAX,
            Bit::Clear => 0,
        };
        // Whole ULONGs, with what is behind the last bit.
        (0..self.size().div_ceil(WORD)).for_each(|index| self.put(index, word));
    }

    fn count(&self, bit: Bit) -> u32 {
        Self::words(0..self.size()).map(|(word, mask)| (self.like(word, bit) & mask).count_ones()).sum()
    }

    /// A range of the bitmap that a caller gives; one that is not inside it is a violation.
    fn inside(&self, call: &str, start: u32, count: u32) -> Range<u32> {
        match start.checked_add(count).filter(|end| *end <= self.size()) {
            Some(end) => start..end,
            None => {
                violate(Rule::Fault, format!("{call}: {count} bits from {start} on, of a bitmap of {}", self.size()))
            }
        }
    }

    /// Whether all bits of a range are such, which is neither empty nor beyond the bitmap.
    fn are(&self, start: u32, count: u32, bit: Bit) -> bool {
        let end = start.checked_add(count).filter(|end| *end <= self.size());
        count != 0 && end.is_some_and(|end| self.next(start..end, bit.other()) == end)
    }

    fn find_and_change(&self, count: u32, hint: u32, from: Bit) -> u32 {
        let found = self.find(count, hint, from);
        if found != NOTHING {
            self.change(found..found + count, from.other());
        }
        found
    }

    /// The first run of clear bits from an index on, whose start is told: its length, or 0.
    fn tell_run(&self, from: u32, start: &Cell<u32>) -> u32 {
        let run = self.next_run(from..self.size(), Bit::Clear).unwrap_or(from..from);
        start.set(run.start);
        run.end - run.start
    }
}

pub(crate) extern "win64" fn RtlInitializeBitMap(bitmap: &RTL_BITMAP, buffer: *mut u32, size: u32) {
    called("RtlInitializeBitMap", HIGH_LEVEL);
    bitmap.SizeOfBitMap.set(size);
    bitmap.Buffer.set(buffer);
}

pub(crate) extern "win64" fn RtlClearAllBits(bitmap: &RTL_BITMAP) {
    called("RtlClearAllBits", HIGH_LEVEL);
    bitmap.change_all(Bit::Clear);
}

pub(crate) extern "win64" fn RtlSetAllBits(bitmap: &RTL_BITMAP) {
    called("RtlSetAllBits", HIGH_LEVEL);
    bitmap.change_all(Bit::Set);
}

pub(crate) extern "win64" fn RtlClearBit(bitmap: &RTL_BITMAP, bit: u32) {
    called("RtlClearBit", HIGH_LEVEL);
    bitmap.change(bitmap.inside("RtlClearBit", bit, 1), Bit::Clear);
}

pub(crate) extern "win64" fn RtlSetBit(bitmap: &RTL_BITMAP, bit: u32) {
    called("RtlSetBit", HIGH_LEVEL);
    bitmap.change(bitmap.inside("RtlSetBit", bit, 1), Bit::Set);
}

pub(crate) extern "win64" fn RtlTestBit(bitmap: &RTL_BITMAP, bit: u32) -> u8 {
    called("RtlTestBit", HIGH_LEVEL);
    let range = bitmap.inside("RtlTestBit", bit, 1);
    u8::from(bitmap.next(range, Bit::Set) == bit)
}

pub(crate) extern "win64" fn RtlClearBits(bitmap: &RTL_BITMAP, start: u32, count: u32) {
    called("RtlClearBits", HIGH_LEVEL);
    if count != 0 {
        bitmap.change(bitmap.inside("RtlClearBits", start, count), Bit::Clear);
    }
}

pub(crate) extern "win64" fn RtlSetBits(bitmap: &RTL_BITMAP, start: u32, count: u32) {
    called("RtlSetBits", HIGH_LEVEL);
    if count != 0 {
        bitmap.change(bitmap.inside("RtlSetBits", start, count), Bit::Set);
    }
}

pub(crate) extern "win64" fn RtlAreBitsClear(bitmap: &RTL_BITMAP, start: u32, count: u32) -> u8 {
    called("RtlAreBitsClear", HIGH_LEVEL);
    u8::from(bitmap.are(start, count, Bit::Clear))
}

pub(crate) extern "win64" fn RtlAreBitsSet(bitmap: &RTL_BITMAP, start: u32, count: u32) -> u8 {
    called("RtlAreBitsSet", HIGH_LEVEL);
    u8::from(bitmap.are(start, count, Bit::Set))
}

pub(crate) extern "win64" fn RtlFindClearBits(bitmap: &RTL_BITMAP, count: u32, hint: u32) -> u32 {
    called("RtlFindClearBits", HIGH_LEVEL);
    bitmap.find(count, hint, Bit::Clear)
}

pub(crate) extern "win64" fn RtlFindSetBits(bitmap: &RTL_BITMAP, count: u32, hint: u32) -> u32 {
    called("RtlFindSetBits", HIGH_LEVEL);
    bitmap.find(count, hint, Bit::Set)
}

pub(crate) extern "win64" fn RtlFindClearBitsAndSet(bitmap: &RTL_BITMAP, count: u32, hint: u32) -> u32 {
    called("RtlFindClearBitsAndSet", HIGH_LEVEL);
    bitmap.find_and_change(count, hint, Bit::Clear)
}

pub(crate) extern "win64" fn RtlFindSetBitsAndClear(bitmap: &RTL_BITMAP, count: u32, hint: u32) -> u32 {
    called("RtlFindSetBitsAndClear", HIGH_LEVEL);
    bitmap.find_and_change(count, hint, Bit::Set)
}

pub(crate) extern "win64" fn RtlNumberOfClearBits(bitmap: &RTL_BITMAP) -> u32 {
    called("RtlNumberOfClearBits", HIGH_LEVEL);
    bitmap.count(Bit::Clear)
}

pub(crate) extern "win64" fn RtlNumberOfSetBits(bitmap: &RTL_BITMAP) -> u32 {
    called("RtlNumberOfSetBits", HIGH_LEVEL);
    bitmap.count(Bit::Set)
}

pub(crate) extern "win64" fn RtlNumberOfSetBitsUlongPtr(value: usize) -> u32 {
    called("RtlNumberOfSetBitsUlongPtr", HIGH_LEVEL);
    value.count_ones()
}

/// The first runs that there are, in their order; or the longest, longest first.
pub(crate) extern "win64" fn RtlFindClearRuns(
    bitmap: &RTL_BITMAP,
    array: *mut RTL_BITMAP_RUN,
    room: u32,
    longest: u8,
) -> u32 {
    called("RtlFindClearRuns", HIGH_LEVEL);
    let mut runs: Vec<_> = match longest {
        0 => bitmap.runs(Bit::Clear).take(room as usize).collect(),
        _ => bitmap.runs(Bit::Clear).collect(),
    };
    if longest != 0 {
        runs.sort_by_key(|run| std::cmp::Reverse(run.len()));
        runs.truncate(room as usize);
    }
    for (index, run) in runs.iter().enumerate() {
        let run = RTL_BITMAP_RUN { StartingIndex: run.start, NumberOfBits: run.end - run.start };
        // SAFETY: the caller has room for so many; a bad array faults, which the guard reports.
        unsafe { array.wrapping_add(index).write(run) };
    }
    runs.len() as u32
}

pub(crate) extern "win64" fn RtlFindLongestRunClear(bitmap: &RTL_BITMAP, start: &Cell<u32>) -> u32 {
    called("RtlFindLongestRunClear", HIGH_LEVEL);
    let longest = bitmap.runs(Bit::Clear).reduce(|best, run| if run.len() > best.len() { run } else { best });
    let run = longest.unwrap_or(0..0);
    start.set(run.start);
    run.end - run.start
}

pub(crate) extern "win64" fn RtlFindFirstRunClear(bitmap: &RTL_BITMAP, start: &Cell<u32>) -> u32 {
    called("RtlFindFirstRunClear", HIGH_LEVEL);
    bitmap.tell_run(0, start)
}

pub(crate) extern "win64" fn RtlFindNextForwardRunClear(bitmap: &RTL_BITMAP, from: u32, start: &Cell<u32>) -> u32 {
    called("RtlFindNextForwardRunClear", HIGH_LEVEL);
    bitmap.tell_run(from, start)
}

/// The run that ends at the index, or as little before it as there is one.
pub(crate) extern "win64" fn RtlFindLastBackwardRunClear(bitmap: &RTL_BITMAP, from: u32, start: &Cell<u32>) -> u32 {
    called("RtlFindLastBackwardRunClear", HIGH_LEVEL);
    let end = bitmap.size().min(from.saturating_add(1));
    let is_clear = |index: &u32| bitmap.next(*index..*index + 1, Bit::Clear) == *index;
    let Some(last) = (0..end).rev().find(is_clear) else {
        start.set(from);
        return 0;
    };
    let first = (0..last).rev().take_while(is_clear).last().unwrap_or(last);
    start.set(first);
    last - first + 1
}

pub(crate) extern "win64" fn RtlFindLeastSignificantBit(value: u64) -> i8 {
    called("RtlFindLeastSignificantBit", HIGH_LEVEL);
    if value == 0 { -1 } else { value.trailing_zeros() as i8 }
}

pub(crate) extern "win64" fn RtlFindMostSignificantBit(value: u64) -> i8 {
    called("RtlFindMostSignificantBit", HIGH_LEVEL);
    if value == 0 { -1 } else { 63 - value.leading_zeros() as i8 }
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    RtlInitializeBitMap,
    RtlClearAllBits,
    RtlSetAllBits,
    RtlClearBit,
    RtlSetBit,
    RtlTestBit,
    RtlClearBits,
    RtlSetBits,
    RtlAreBitsClear,
    RtlAreBitsSet,
    RtlFindClearBits,
    RtlFindSetBits,
    RtlFindClearBitsAndSet,
    RtlFindSetBitsAndClear,
    RtlNumberOfClearBits,
    RtlNumberOfSetBits,
    RtlNumberOfSetBitsUlongPtr,
    RtlFindClearRuns,
    RtlFindLongestRunClear,
    RtlFindFirstRunClear,
    RtlFindNextForwardRunClear,
    RtlFindLastBackwardRunClear,
    RtlFindLeastSignificantBit,
    RtlFindMostSignificantBit,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::Random;

    /// A bitmap of random bits, in random runs, and the model of it: a bit each.
    fn random(random: &mut Random) -> (Vec<u32>, RTL_BITMAP, Vec<bool>) {
        let size = random.below(200) as usize;
        let mut bits = Vec::new();
        while bits.len() < size {
            let longest = 1 << random.below(7);
            let (length, value) = (random.below(longest) as usize, random.below(2) != 0);
            bits.extend(std::iter::repeat_n(value, length + 1));
        }
        bits.truncate(size);
        // What is behind the last bit belongs to nobody.
        let mut words = vec![random.next() as u32; size.div_ceil(32) + 1];
        for (index, bit) in bits.iter().enumerate() {
            let word = &mut words[index / 32];
            *word = *word & !(1 << (index % 32)) | u32::from(*bit) << (index % 32);
        }
        let bitmap = RTL_BITMAP { SizeOfBitMap: Cell::new(size as u32), Buffer: Cell::new(words.as_mut_ptr()) };
        (words, bitmap, bits)
    }

    fn runs(bits: &[bool]) -> Vec<Range<u32>> {
        let mut all: Vec<Range<u32>> = Vec::new();
        for index in (0..bits.len()).filter(|index| !bits[*index]).map(|index| index as u32) {
            match all.last_mut().filter(|run| run.end == index) {
                Some(run) => run.end += 1,
                None => all.push(index..index + 1),
            }
        }
        all
    }

    /// Every place at which so many bits are such.
    fn places(bits: &[bool], count: usize, value: bool) -> Vec<u32> {
        let fits = |start: &usize| bits[*start..start + count].iter().all(|bit| *bit == value);
        (0..=bits.len().saturating_sub(count))
            .filter(|start| start + count <= bits.len())
            .filter(fits)
            .map(|start| start as u32)
            .collect()
    }

    #[test]
    fn searches_find_what_a_search_of_each_bit_finds() {
        let mut sequence = Random::new(1);
        for _ in 0..4000 {
            let (_words, bitmap, bits) = random(&mut sequence);
            let size = bits.len() as u32;
            let (count, hint) = (1 + sequence.below(40) as u32, sequence.below(220) as u32);
            for (bit, value) in [(Bit::Clear, false), (Bit::Set, true)] {
                let all = places(&bits, count as usize, value);
                let start = if hint < size { hint } else { 0 };
                let expected = all.iter().find(|place| **place >= start).or(all.first());
                assert_eq!(
                    bitmap.find(count, hint, bit),
                    expected.copied().unwrap_or(NOTHING),
                    "{count} at {hint} of {bits:?}"
                );
                assert_eq!(bitmap.count(bit), bits.iter().filter(|bit| **bit == value).count() as u32);
                let inside = start.checked_add(count).is_some_and(|end| end <= size);
                assert_eq!(bitmap.are(start, count, bit), inside && all.contains(&start));
                assert!(!bitmap.are(start, 0, bit));
            }
            let all = runs(&bits);
            assert_eq!(bitmap.runs(Bit::Clear).collect::<Vec<_>>(), all);
            let next = all.iter().find(|run| run.end > hint).map_or(0, |run| run.end - run.start.max(hint));
            let begin = Cell::new(0);
            assert_eq!(bitmap.tell_run(hint, &begin), next, "from {hint} of {bits:?}");
        }
    }

    #[test]
    fn changes_reach_the_bits_that_are_meant_and_no_other() {
        let mut sequence = Random::new(2);
        for _ in 0..2000 {
            let (words, bitmap, mut bits) = random(&mut sequence);
            let size = bits.len() as u64;
            let start = sequence.below(size + 1);
            let count = sequence.below(size + 1 - start);
            let (bit, value) = if sequence.below(2) == 0 { (Bit::Clear, false) } else { (Bit::Set, true) };
            let behind =
                |words: &[u32]| (words[bits.len() / 32] >> (bits.len() % 32), words[size as usize / 32 + 1..].to_vec());
            let before = behind(&words);
            bitmap.change(start as u32..(start + count) as u32, bit);
            let after = behind(&words);
            assert_eq!(before, after);
            bits[start as usize..(start + count) as usize].fill(value);
            let now: Vec<bool> = (0..bits.len()).map(|index| words[index / 32] >> (index % 32) & 1 != 0).collect();
            assert_eq!(now, bits);
        }
    }
}
