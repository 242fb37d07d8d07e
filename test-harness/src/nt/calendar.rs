//! System time as a date, and as seconds since 1970 or 1980. The time zone is UTC.

use std::cell::Cell;

use super::irql::called;
use super::types::HIGH_LEVEL;
use crate::image::Export;

/// TIME_FIELDS of wdm.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TIME_FIELDS {
    pub(crate) Year: i16,
    pub(crate) Month: i16,
    pub(crate) Day: i16,
    pub(crate) Hour: i16,
    pub(crate) Minute: i16,
    pub(crate) Second: i16,
    pub(crate) Milliseconds: i16,
    /// 0 is Sunday.
    pub(crate) Weekday: i16,
}

const TICKS_A_SECOND: i64 = 10_000_000;
const SECONDS_A_DAY: i64 = 86_400;
/// 1601 to 1970 and to 1980, in seconds.
const TO_1970: i64 = 11_644_473_600;
const TO_1980: i64 = 11_960_006_400;
/// Days of 400 years of the calendar, and before each month of a common year.
const DAYS_OF_400_YEARS: i64 = 146_097;
const DAYS_BEFORE: [i64; 13] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days before a month (0 to 12) of a year.
fn days_before(year: i64, month: usize) -> i64 {
    DAYS_BEFORE[month] + i64::from(month >= 2 && is_leap(year))
}

/// Days from 1601, when a period of 400 years begins, to a year.
fn days_to(year: i64) -> i64 {
    let years = year - 1601;
    years * 365 + years / 4 - years / 100 + years / 400
}

fn fields(time: i64) -> TIME_FIELDS {
    let seconds = time / TICKS_A_SECOND;
    let (days, of_day) = (seconds / SECONDS_A_DAY, seconds % SECONDS_A_DAY);
    let mut year = 1601 + days * 400 / DAYS_OF_400_YEARS;
    while days_to(year) > days {
        year -= 1;
    }
    while days_to(year + 1) <= days {
        year += 1;
    }
    let of_year = days - days_to(year);
    let month = (1..12).take_while(|month| days_before(year, *month) <= of_year).count();
    TIME_FIELDS {
        Year: year as i16,
        Month: month as i16 + 1,
        Day: (of_year - days_before(year, month)) as i16 + 1,
        Hour: (of_day / 3600) as i16,
        Minute: (of_day / 60 % 60) as i16,
        Second: (of_day % 60) as i16,
        Milliseconds: (time % TICKS_A_SECOND / 10_000) as i16,
        // The first day of 1601 was a Monday.
        Weekday: ((days + 1) % 7) as i16,
    }
}

/// `None` if it is no time of any day.
fn time(fields: &TIME_FIELDS) -> Option<i64> {
    let (year, month) = (i64::from(fields.Year), usize::try_from(fields.Month).ok()?);
    let inside = year >= 1601
        && (1..=12).contains(&month)
        && (1..=days_before(year, month) - days_before(year, month - 1)).contains(&i64::from(fields.Day))
        && (0..24).contains(&fields.Hour)
        && (0..60).contains(&fields.Minute)
        && (0..60).contains(&fields.Second)
        && (0..1000).contains(&fields.Milliseconds);
    if !inside {
        return None;
    }
    let days = days_to(year) + days_before(year, month - 1) + i64::from(fields.Day) - 1;
    let of_day = (i64::from(fields.Hour) * 60 + i64::from(fields.Minute)) * 60 + i64::from(fields.Second);
    Some((days * SECONDS_A_DAY + of_day) * TICKS_A_SECOND + i64::from(fields.Milliseconds) * 10_000)
}

pub(crate) extern "win64" fn RtlTimeToTimeFields(time: &i64, to: &mut TIME_FIELDS) {
    called("RtlTimeToTimeFields", HIGH_LEVEL);
    *to = fields((*time).max(0));
}

pub(crate) extern "win64" fn RtlTimeFieldsToTime(fields: &TIME_FIELDS, to: &Cell<i64>) -> u8 {
    called("RtlTimeFieldsToTime", HIGH_LEVEL);
    let time = time(fields);
    if let Some(time) = time {
        to.set(time);
    }
    u8::from(time.is_some())
}

fn seconds_since(time: i64, epoch: i64, to: &Cell<u32>) -> u8 {
    let seconds = u32::try_from(time.div_euclid(TICKS_A_SECOND) - epoch);
    if let Ok(seconds) = seconds {
        to.set(seconds);
    }
    u8::from(seconds.is_ok())
}

pub(crate) extern "win64" fn RtlTimeToSecondsSince1970(time: &i64, to: &Cell<u32>) -> u8 {
    called("RtlTimeToSecondsSince1970", HIGH_LEVEL);
    seconds_since(*time, TO_1970, to)
}

pub(crate) extern "win64" fn RtlTimeToSecondsSince1980(time: &i64, to: &Cell<u32>) -> u8 {
    called("RtlTimeToSecondsSince1980", HIGH_LEVEL);
    seconds_since(*time, TO_1980, to)
}

pub(crate) extern "win64" fn RtlSecondsSince1970ToTime(seconds: u32, to: &Cell<i64>) {
    called("RtlSecondsSince1970ToTime", HIGH_LEVEL);
    to.set((i64::from(seconds) + TO_1970) * TICKS_A_SECOND);
}

pub(crate) extern "win64" fn ExSystemTimeToLocalTime(system: &i64, local: &Cell<i64>) {
    called("ExSystemTimeToLocalTime", HIGH_LEVEL);
    local.set(*system);
}

pub(crate) extern "win64" fn ExLocalTimeToSystemTime(local: &i64, system: &Cell<i64>) {
    called("ExLocalTimeToSystemTime", HIGH_LEVEL);
    system.set(*local);
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    RtlTimeToTimeFields,
    RtlTimeFieldsToTime,
    RtlTimeToSecondsSince1970,
    RtlTimeToSecondsSince1980,
    RtlSecondsSince1970ToTime,
    ExSystemTimeToLocalTime,
    ExLocalTimeToSystemTime,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let date = |year, month, day, weekday| TIME_FIELDS {
            Year: year,
            Month: month,
            Day: day,
            Hour: 23,
            Minute: 59,
            Second: 58,
            Milliseconds: 7,
            Weekday: weekday,
        };
        for expected in [
            date(1601, 1, 1, 1),
            date(1970, 1, 1, 4),
            date(2000, 2, 29, 2),
            date(1900, 3, 1, 4),
            date(2024, 12, 31, 2),
            date(2026, 11, 21, 6),
        ] {
            assert_eq!(fields(time(&expected).unwrap()), expected);
        }
        for wrong in [date(1600, 1, 1, 0), date(2023, 2, 29, 0), date(2023, 13, 1, 0), date(2023, 0, 1, 0)] {
            assert_eq!(time(&wrong), None, "{wrong:?}");
        }
        // Every day of 400 years begins where the one before ends.
        for day in 0..DAYS_OF_400_YEARS {
            let at = day * SECONDS_A_DAY * TICKS_A_SECOND;
            assert_eq!(time(&fields(at)), Some(at));
        }
        assert_eq!(time(&date(1970, 1, 1, 4)).unwrap() / TICKS_A_SECOND, TO_1970 + SECONDS_A_DAY - 2);
        assert_eq!(time(&date(1980, 1, 1, 2)).unwrap() / TICKS_A_SECOND, TO_1980 + SECONDS_A_DAY - 2);
    }
}
