//! Clocks: system time in units of 100 ns since 1601, interrupt time since the machine began, the performance counter.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::irql::called;
use super::types::HIGH_LEVEL;
use crate::image::Export;
use crate::simulation;

/// 1601 to 1970, in units of 100 ns.
const UNIX_EPOCH_TICKS: i64 = 116_444_736_000_000_000;
/// The first moment of 2020.
const SIMULATIONS_BEGIN: i64 = 132_223_104_000_000_000;
/// Ticks of the performance counter a second: as current Windows has it.
const PERFORMANCE_FREQUENCY: i64 = 10_000_000;
/// 15.625 ms, the clock interrupt's usual period.
pub(super) const TIME_INCREMENT: u32 = 156_250;

/// System time now. A simulation begins with the year 2020.
pub(crate) fn system_time() -> i64 {
    if let Some(elapsed) = simulation::elapsed() {
        return SIMULATIONS_BEGIN + i64::try_from(elapsed.as_nanos() / 100).unwrap_or(i64::MAX / 2);
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH_TICKS + i64::try_from(since.as_nanos() / 100).unwrap_or(i64::MAX / 2)
}

/// Units of 100 ns since this process first asked, or its simulation began.
pub(super) fn interrupt_time() -> i64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = simulation::elapsed().unwrap_or_else(|| START.get_or_init(Instant::now).elapsed());
    i64::try_from(elapsed.as_nanos() / 100).unwrap_or(i64::MAX)
}

/// How long this process has had a clock.
pub(crate) fn uptime() -> Duration {
    Duration::from_nanos(u64::try_from(interrupt_time()).unwrap_or(0) * 100)
}

pub(crate) extern "win64" fn KeQueryPerformanceCounter(frequency: Option<&Cell<i64>>) -> i64 {
    called("KeQueryPerformanceCounter", HIGH_LEVEL);
    if let Some(frequency) = frequency {
        frequency.set(PERFORMANCE_FREQUENCY);
    }
    interrupt_time()
}

pub(crate) extern "win64" fn KeQuerySystemTimePrecise(time: &Cell<i64>) {
    called("KeQuerySystemTimePrecise", HIGH_LEVEL);
    time.set(system_time());
}

pub(crate) extern "win64" fn KeQueryInterruptTimePrecise(counter: &Cell<i64>) -> i64 {
    called("KeQueryInterruptTimePrecise", HIGH_LEVEL);
    counter.set(interrupt_time());
    interrupt_time()
}

pub(crate) extern "win64" fn KeQueryInterruptTime() -> i64 {
    called("KeQueryInterruptTime", HIGH_LEVEL);
    interrupt_time()
}

/// The machine does not sleep: unbiased time is interrupt time.
pub(crate) extern "win64" fn KeQueryUnbiasedInterruptTime() -> i64 {
    called("KeQueryUnbiasedInterruptTime", HIGH_LEVEL);
    interrupt_time()
}

pub(crate) extern "win64" fn KeQueryTimeIncrement() -> u32 {
    called("KeQueryTimeIncrement", HIGH_LEVEL);
    TIME_INCREMENT
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    KeQueryPerformanceCounter,
    KeQuerySystemTimePrecise,
    KeQueryInterruptTimePrecise,
    KeQueryInterruptTime,
    KeQueryUnbiasedInterruptTime,
    KeQueryTimeIncrement,
];
