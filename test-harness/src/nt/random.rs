//! Random numbers: those of a seed, those that no driver can foresee, and unique identifiers.
//!
//! In a simulation all of them follow from its seed.
#![allow(unsafe_code)] // getrandom

use std::cell::Cell;
use std::hash::{DefaultHasher, Hash, Hasher};

use parking_lot::Mutex;

use super::irql::called;
use super::status::STATUS_SUCCESS;
use super::types::{APC_LEVEL, GUID, NTSTATUS, PASSIVE_LEVEL};
use crate::image::Export;
use crate::kernel::Kernel;
use crate::simulation::{self, Random};

/// The sequence of a machine in a simulation.
#[derive(Default)]
struct Sequence(Mutex<Option<Random>>);

/// Bytes that are random: the host's, or a simulation's, which each machine has its own of.
pub(super) fn fill(kernel: &Kernel, bytes: &mut [u8]) {
    let Some(seed) = simulation::seed() else {
        for part in bytes.chunks_mut(256) {
            // SAFETY: the part is as long as it says; up to 256 bytes come whole.
            unsafe { libc::getrandom(part.as_mut_ptr().cast(), part.len(), 0) };
        }
        return;
    };
    let sequence = kernel.extension::<Sequence>();
    let mut sequence = sequence.0.lock();
    let random = sequence.get_or_insert_with(|| {
        let mut hasher = DefaultHasher::new();
        (seed, &kernel.options.name).hash(&mut hasher);
        Random::new(hasher.finish())
    });
    for part in bytes.chunks_mut(8) {
        part.copy_from_slice(&random.next().to_le_bytes()[..part.len()]);
    }
}

/// The next number of a seed, by D. H. Lehmer's method: below MAXLONG.
fn next(seed: &Cell<u32>) -> u32 {
    const MAXLONG: u64 = 0x7fff_ffff;
    let value = (u64::from(seed.get()) * 0x7fff_ffed + 0x7fff_ffc3) % MAXLONG;
    seed.set(value as u32);
    seed.get()
}

pub(crate) extern "win64" fn RtlRandom(seed: &Cell<u32>) -> u32 {
    called("RtlRandom", APC_LEVEL);
    next(seed)
}

pub(crate) extern "win64" fn RtlRandomEx(seed: &Cell<u32>) -> u32 {
    called("RtlRandomEx", APC_LEVEL);
    next(seed)
}

/// A random one (version 4 of RFC 9562).
pub(crate) extern "win64" fn ExUuidCreate(uuid: &mut GUID) -> NTSTATUS {
    let kernel = &called("ExUuidCreate", PASSIVE_LEVEL).kernel;
    let mut bytes = [0; 16];
    fill(kernel, &mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let number = u128::from_be_bytes(bytes);
    uuid.Data1 = (number >> 96) as u32;
    uuid.Data2 = (number >> 80) as u16;
    uuid.Data3 = (number >> 64) as u16;
    uuid.Data4 = (number as u64).to_be_bytes();
    STATUS_SUCCESS
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![RtlRandom, RtlRandomEx, ExUuidCreate];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;
    use crate::simulation::{Schedule, run};

    #[test]
    fn a_simulation_repeats_what_is_random_and_another_seed_or_machine_does_not() {
        let drawn = |seed| {
            let body = || {
                let machine = Machine::new();
                let mut bytes = [0; 21];
                fill(&machine.kernel, &mut bytes);
                bytes
            };
            run(seed, Schedule::of(seed), body).0
        };
        assert_eq!(drawn(3), drawn(3));
        assert_ne!(drawn(3), drawn(4));
        assert_ne!(drawn(3)[..8], drawn(3)[8..16]);
    }
}
