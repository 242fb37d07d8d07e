//! The C runtime that ntoskrnl.exe exports: strings, characters, numbers, sorting, and printf into buffers.
#![allow(unsafe_code)] // strings by address, variadic functions, the caller's comparisons

use std::arch::naked_asm;
use std::cmp::Ordering;
use std::ptr;

use super::debug::{Arguments, format_as};
use super::irql::called;
use super::strings::{byte, narrow, put, put_byte, unit, units};
use super::types::HIGH_LEVEL;
use crate::image::Export;

/// A character of either width.
trait Unit: Copy + Ord + Default + Into<u32> + 'static {
    fn get(at: *const Self) -> Self;
    fn set(at: *mut Self, value: Self);
    fn of(value: u32) -> Self;

    /// As `tolower` has it, in the C locale.
    fn lower(self) -> Self {
        let value: u32 = self.into();
        if (65..=90).contains(&value) { Self::of(value + 32) } else { self }
    }

    fn upper(self) -> Self {
        let value: u32 = self.into();
        if (97..=122).contains(&value) { Self::of(value - 32) } else { self }
    }
}

impl Unit for u8 {
    fn get(at: *const Self) -> Self {
        byte(at)
    }

    fn set(at: *mut Self, value: Self) {
        put_byte(at, value);
    }

    fn of(value: u32) -> Self {
        value.to_le_bytes()[0]
    }
}

impl Unit for u16 {
    fn get(at: *const Self) -> Self {
        unit(at)
    }

    fn set(at: *mut Self, value: Self) {
        put(at, value);
    }

    fn of(value: u32) -> Self {
        value as Self
    }
}

fn length<T: Unit>(text: *const T, limit: usize) -> usize {
    (0..limit).find(|index| T::get(text.wrapping_add(*index)) == T::default()).unwrap_or(limit)
}

fn sign(ordering: Ordering) -> i32 {
    ordering as i32
}

fn compare<T: Unit>(first: *const T, second: *const T, limit: usize, fold: fn(T) -> T) -> i32 {
    for index in 0..limit {
        let (one, other) = (fold(T::get(first.wrapping_add(index))), fold(T::get(second.wrapping_add(index))));
        if one != other || one == T::default() {
            return sign(one.cmp(&other));
        }
    }
    0
}

fn copy<T: Unit>(to: *mut T, from: *const T) -> *mut T {
    let mut index = 0;
    loop {
        let value = T::get(from.wrapping_add(index));
        T::set(to.wrapping_add(index), value);
        if value == T::default() {
            return to;
        }
        index += 1;
    }
}

/// As `strncpy`: what is left of the room is filled with zeros, and a long string gets no terminator.
fn copy_within<T: Unit>(to: *mut T, from: *const T, count: usize) -> *mut T {
    let copied = length(from, count);
    for index in 0..count {
        let value = if index < copied { T::get(from.wrapping_add(index)) } else { T::default() };
        T::set(to.wrapping_add(index), value);
    }
    to
}

fn append<T: Unit>(to: *mut T, from: *const T, count: usize) -> *mut T {
    let (end, copied) = (length(to, usize::MAX), length(from, count));
    for index in 0..copied {
        T::set(to.wrapping_add(end + index), T::get(from.wrapping_add(index)));
    }
    T::set(to.wrapping_add(end + copied), T::default());
    to
}

fn find_first<T: Unit>(text: *const T, wanted: T) -> *const T {
    let mut at = text;
    loop {
        let value = T::get(at);
        if value == wanted {
            return at;
        }
        if value == T::default() {
            return ptr::null();
        }
        at = at.wrapping_add(1);
    }
}

fn find_text<T: Unit>(text: *const T, wanted: *const T) -> *const T {
    let (all, part) = (length(text, usize::MAX), length(wanted, usize::MAX));
    let fits = |start: &usize| {
        (0..part).all(|index| T::get(text.wrapping_add(start + index)) == T::get(wanted.wrapping_add(index)))
    };
    let found = (0..=all.saturating_sub(part)).take_while(|start| start + part <= all).find(fits);
    found.map_or(ptr::null(), |start| text.wrapping_add(start))
}

/// How many characters from the start are among the given ones.
fn span<T: Unit>(text: *const T, set: *const T) -> usize {
    let members = length(set, usize::MAX);
    let is_member = |value: T| (0..members).any(|index| T::get(set.wrapping_add(index)) == value);
    (0..length(text, usize::MAX)).take_while(|index| is_member(T::get(text.wrapping_add(*index)))).count()
}

fn change<T: Unit>(text: *mut T, change: fn(T) -> T) -> *mut T {
    for index in 0..length(text, usize::MAX) {
        let at = text.wrapping_add(index);
        T::set(at, change(T::get(at)));
    }
    text
}

/// The functions of both widths, by their shapes.
macro_rules! text {
    ($($name:ident: fn($($argument:ident: $kind:ty),*) -> $result:ty = $body:expr;)*) => {
        $(
            pub(crate) extern "win64" fn $name($($argument: $kind),*) -> $result {
                called(stringify!($name), HIGH_LEVEL);
                $body
            }
        )*
    };
}

const ALL: usize = usize::MAX;

text! {
    strcmp: fn(a: *const u8, b: *const u8) -> i32 = compare(a, b, ALL, |value| value);
    strncmp: fn(a: *const u8, b: *const u8, count: usize) -> i32 = compare(a, b, count, |value| value);
    _stricmp: fn(a: *const u8, b: *const u8) -> i32 = compare(a, b, ALL, Unit::lower);
    _strnicmp: fn(a: *const u8, b: *const u8, count: usize) -> i32 = compare(a, b, count, Unit::lower);
    strcpy: fn(to: *mut u8, from: *const u8) -> *mut u8 = copy(to, from);
    strncpy: fn(to: *mut u8, from: *const u8, count: usize) -> *mut u8 = copy_within(to, from, count);
    strcat: fn(to: *mut u8, from: *const u8) -> *mut u8 = append(to, from, ALL);
    strncat: fn(to: *mut u8, from: *const u8, count: usize) -> *mut u8 = append(to, from, count);
    strchr: fn(text: *const u8, wanted: i32) -> *const u8 = find_first(text, wanted.to_le_bytes()[0]);
    strstr: fn(text: *const u8, wanted: *const u8) -> *const u8 = find_text(text, wanted);
    strspn: fn(text: *const u8, set: *const u8) -> usize = span(text, set);
    strnlen: fn(text: *const u8, limit: usize) -> usize = length(text, limit);
    _strlwr: fn(text: *mut u8) -> *mut u8 = change(text, Unit::lower);
    _strupr: fn(text: *mut u8) -> *mut u8 = change(text, Unit::upper);
    wcscmp: fn(a: *const u16, b: *const u16) -> i32 = compare(a, b, ALL, |value| value);
    wcsncmp: fn(a: *const u16, b: *const u16, count: usize) -> i32 = compare(a, b, count, |value| value);
    _wcsicmp: fn(a: *const u16, b: *const u16) -> i32 = compare(a, b, ALL, Unit::lower);
    _wcsnicmp: fn(a: *const u16, b: *const u16, count: usize) -> i32 = compare(a, b, count, Unit::lower);
    wcscpy: fn(to: *mut u16, from: *const u16) -> *mut u16 = copy(to, from);
    wcsncpy: fn(to: *mut u16, from: *const u16, count: usize) -> *mut u16 = copy_within(to, from, count);
    wcscat: fn(to: *mut u16, from: *const u16) -> *mut u16 = append(to, from, ALL);
    wcsncat: fn(to: *mut u16, from: *const u16, count: usize) -> *mut u16 = append(to, from, count);
    wcschr: fn(text: *const u16, wanted: u16) -> *const u16 = find_first(text, wanted);
    wcsstr: fn(text: *const u16, wanted: *const u16) -> *const u16 = find_text(text, wanted);
    wcsspn: fn(text: *const u16, set: *const u16) -> usize = span(text, set);
    wcsnlen: fn(text: *const u16, limit: usize) -> usize = length(text, limit);
    _wcslwr: fn(text: *mut u16) -> *mut u16 = change(text, Unit::lower);
    _wcsupr: fn(text: *mut u16) -> *mut u16 = change(text, Unit::upper);
    tolower: fn(value: i32) -> i32 = if (65..=90).contains(&value) { value + 32 } else { value };
    toupper: fn(value: i32) -> i32 = if (97..=122).contains(&value) { value - 32 } else { value };
    towlower: fn(value: u16) -> u16 = value.lower();
    towupper: fn(value: u16) -> u16 = value.upper();
    isdigit: fn(value: i32) -> i32 = class(value, u8::is_ascii_digit);
    isxdigit: fn(value: i32) -> i32 = class(value, u8::is_ascii_hexdigit);
    islower: fn(value: i32) -> i32 = class(value, u8::is_ascii_lowercase);
    isupper: fn(value: i32) -> i32 = class(value, u8::is_ascii_uppercase);
    isspace: fn(value: i32) -> i32 = class(value, |value| matches!(value, b'\t'..=b'\r' | b' '));
    isprint: fn(value: i32) -> i32 = class(value, |value| (b' '..=b'~').contains(value));
    atoi: fn(text: *const u8) -> i32 = number(text) as i32;
    atol: fn(text: *const u8) -> i32 = number(text) as i32;
    _atoi64: fn(text: *const u8) -> i64 = number(text);
}

pub(crate) extern "win64" fn strrchr(text: *const u8, wanted: i32) -> *const u8 {
    called("strrchr", HIGH_LEVEL);
    let (end, wanted) = (length(text, ALL), wanted.to_le_bytes()[0]);
    let found = (0..=end).rev().find(|index| byte(text.wrapping_add(*index)) == wanted);
    found.map_or(ptr::null(), |index| text.wrapping_add(index))
}

fn class(value: i32, is: fn(&u8) -> bool) -> i32 {
    i32::from(u8::try_from(value).is_ok_and(|value| is(&value)))
}

/// The decimal number at a text's start.
fn number(text: *const u8) -> i64 {
    let all = narrow(text, 64);
    let rest = all.trim_ascii_start();
    let (minus, digits) = match rest {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] | rest => (false, rest),
    };
    let value = digits
        .iter()
        .take_while(|digit| digit.is_ascii_digit())
        .fold(0_i64, |value, digit| value.wrapping_mul(10).wrapping_add(i64::from(digit - b'0')));
    if minus { value.wrapping_neg() } else { value }
}

type Compare = extern "win64" fn(*const u8, *const u8) -> i32;

/// Sorts in place, stably: the runtime does not say how it orders what compares equal.
pub(crate) extern "win64" fn qsort(base: *mut u8, count: usize, size: usize, order: Compare) {
    called("qsort", HIGH_LEVEL);
    for next in 1..count {
        let mut at = next;
        while at > 0 {
            let (before, here) = (base.wrapping_add((at - 1) * size), base.wrapping_add(at * size));
            if order(before, here) <= 0 {
                break;
            }
            // SAFETY: two different elements of the caller's array; a bad one faults, which the guard reports.
            unsafe { ptr::swap_nonoverlapping(before, here, size) };
            at -= 1;
        }
    }
}

pub(crate) extern "win64" fn bsearch(
    key: *const u8,
    base: *const u8,
    count: usize,
    size: usize,
    order: Compare,
) -> *const u8 {
    called("bsearch", HIGH_LEVEL);
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        let at = base.wrapping_add(middle * size);
        match order(key, at) {
            0 => return at,
            ..=-1 => high = middle,
            1.. => low = middle + 1,
        }
    }
    ptr::null()
}

/// What a printf function does with a text that does not fit.
#[derive(Clone, Copy)]
enum Overflow {
    /// The buffer holds the first characters, without a terminator; -1.
    Cut,
    /// There is always room (`sprintf`).
    Never,
    /// The buffer holds the first characters and a terminator; -1.
    Terminated,
}

fn store<T: Unit>(text: &str, to: *mut T, room: usize, overflow: Overflow) -> i32 {
    let values: Vec<T> = if size_of::<T>() == 1 {
        text.chars().map(|value| T::of(u32::from(u8::try_from(value).unwrap_or(b'?')))).collect()
    } else {
        text.encode_utf16().map(|value| T::of(value.into())).collect()
    };
    let fits = match overflow {
        Overflow::Never => true,
        // A text that fills the buffer has no terminator.
        Overflow::Cut => values.len() <= room,
        Overflow::Terminated => values.len() < room,
    };
    let copied = match overflow {
        Overflow::Never => values.len(),
        Overflow::Cut => values.len().min(room),
        Overflow::Terminated => values.len().min(room.saturating_sub(1)),
    };
    if to.is_null() {
        return i32::try_from(values.len()).unwrap_or(i32::MAX);
    }
    for (index, value) in values[..copied].iter().enumerate() {
        T::set(to.wrapping_add(index), *value);
    }
    if copied < room {
        T::set(to.wrapping_add(copied), T::default());
    }
    if fits { i32::try_from(values.len()).unwrap_or(i32::MAX) } else { -1 }
}

fn print(template: *const u8, arguments: *const u64) -> String {
    format_as(&narrow(template, ALL), &mut Arguments(arguments), false)
}

fn print_wide(template: *const u16, arguments: *const u64) -> String {
    let template: Vec<u8> = units(template, ALL).iter().map(|unit| u8::try_from(*unit).unwrap_or(b'?')).collect();
    format_as(&template, &mut Arguments(arguments), true)
}

/// `_TRUNCATE`, of the `_s` functions: as much as there is room for.
const TRUNCATE: usize = usize::MAX;

text! {
    _vsnprintf: fn(to: *mut u8, room: usize, template: *const u8, arguments: *const u64) -> i32 =
        store(&print(template, arguments), to, room, Overflow::Cut);
    _vsnwprintf: fn(to: *mut u16, room: usize, template: *const u16, arguments: *const u64) -> i32 =
        store(&print_wide(template, arguments), to, room, Overflow::Cut);
    vsprintf_s: fn(to: *mut u8, room: usize, template: *const u8, arguments: *const u64) -> i32 =
        store(&print(template, arguments), to, room, Overflow::Terminated);
    vswprintf_s: fn(to: *mut u16, room: usize, template: *const u16, arguments: *const u64) -> i32 =
        store(&print_wide(template, arguments), to, room, Overflow::Terminated);
    _vsnprintf_s: fn(to: *mut u8, room: usize, count: usize, template: *const u8, arguments: *const u64) -> i32 =
        store(&print(template, arguments), to, bounded(room, count), Overflow::Terminated);
    _vsnwprintf_s: fn(to: *mut u16, room: usize, count: usize, template: *const u16, arguments: *const u64) -> i32 =
        store(&print_wide(template, arguments), to, bounded(room, count), Overflow::Terminated);
}

fn bounded(room: usize, count: usize) -> usize {
    if count == TRUNCATE { room } else { room.min(count.saturating_add(1)) }
}

/// Functions with `...`: their arguments lie in one array once those in registers are spilled into their home slots.
macro_rules! variadic {
    ($($name:ident => $body:ident;)*) => {
        $(
            #[unsafe(naked)]
            pub(crate) extern "win64" fn $name() -> i32 {
                naked_asm!(
                    ".cfi_startproc",
                    "mov [rsp + 8], rcx",
                    "mov [rsp + 16], rdx",
                    "mov [rsp + 24], r8",
                    "mov [rsp + 32], r9",
                    "lea rcx, [rsp + 8]",
                    "sub rsp, 40",
                    ".cfi_adjust_cfa_offset 40",
                    "call {body}",
                    "add rsp, 40",
                    ".cfi_adjust_cfa_offset -40",
                    "ret",
                    ".cfi_endproc",
                    body = sym $body,
                )
            }
        )*
    };
}

variadic! {
    sprintf => print_unbounded;
    swprintf => print_unbounded_wide;
    _snprintf => print_cut;
    _snwprintf => print_cut_wide;
    sprintf_s => print_terminated;
    swprintf_s => print_terminated_wide;
    _snprintf_s => print_counted;
    _snwprintf_s => print_counted_wide;
}

/// The argument of an index, and the address of those after it.
fn argument(arguments: *const u64, index: usize) -> u64 {
    // SAFETY: the caller's home slots and stack.
    unsafe { arguments.wrapping_add(index).read() }
}

extern "win64" fn print_unbounded(arguments: *const u64) -> i32 {
    called("sprintf", HIGH_LEVEL);
    let text = print(argument(arguments, 1) as *const u8, arguments.wrapping_add(2));
    store(&text, argument(arguments, 0) as *mut u8, usize::MAX, Overflow::Never)
}

extern "win64" fn print_unbounded_wide(arguments: *const u64) -> i32 {
    called("swprintf", HIGH_LEVEL);
    let text = print_wide(argument(arguments, 1) as *const u16, arguments.wrapping_add(2));
    store(&text, argument(arguments, 0) as *mut u16, usize::MAX, Overflow::Never)
}

extern "win64" fn print_cut(arguments: *const u64) -> i32 {
    let (to, room) = (argument(arguments, 0) as *mut u8, argument(arguments, 1) as usize);
    _vsnprintf(to, room, argument(arguments, 2) as *const u8, arguments.wrapping_add(3))
}

extern "win64" fn print_cut_wide(arguments: *const u64) -> i32 {
    let (to, room) = (argument(arguments, 0) as *mut u16, argument(arguments, 1) as usize);
    _vsnwprintf(to, room, argument(arguments, 2) as *const u16, arguments.wrapping_add(3))
}

extern "win64" fn print_terminated(arguments: *const u64) -> i32 {
    let (to, room) = (argument(arguments, 0) as *mut u8, argument(arguments, 1) as usize);
    vsprintf_s(to, room, argument(arguments, 2) as *const u8, arguments.wrapping_add(3))
}

extern "win64" fn print_terminated_wide(arguments: *const u64) -> i32 {
    let (to, room) = (argument(arguments, 0) as *mut u16, argument(arguments, 1) as usize);
    vswprintf_s(to, room, argument(arguments, 2) as *const u16, arguments.wrapping_add(3))
}

extern "win64" fn print_counted(arguments: *const u64) -> i32 {
    let (to, room) = (argument(arguments, 0) as *mut u8, argument(arguments, 1) as usize);
    let count = argument(arguments, 2) as usize;
    _vsnprintf_s(to, room, count, argument(arguments, 3) as *const u8, arguments.wrapping_add(4))
}

extern "win64" fn print_counted_wide(arguments: *const u64) -> i32 {
    let (to, room) = (argument(arguments, 0) as *mut u16, argument(arguments, 1) as usize);
    let count = argument(arguments, 2) as usize;
    _vsnwprintf_s(to, room, count, argument(arguments, 3) as *const u16, arguments.wrapping_add(4))
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    strcmp,
    strncmp,
    _stricmp,
    _strnicmp,
    strcpy,
    strncpy,
    strcat,
    strncat,
    strchr,
    strrchr,
    strstr,
    strspn,
    strnlen,
    _strlwr,
    _strupr,
    wcscmp,
    wcsncmp,
    _wcsicmp,
    _wcsnicmp,
    wcscpy,
    wcsncpy,
    wcscat,
    wcsncat,
    wcschr,
    wcsstr,
    wcsspn,
    wcsnlen,
    _wcslwr,
    _wcsupr,
    tolower,
    toupper,
    towlower,
    towupper,
    isdigit,
    isxdigit,
    islower,
    isupper,
    isspace,
    isprint,
    atoi,
    atol,
    _atoi64,
    qsort,
    bsearch,
    _vsnprintf,
    _vsnwprintf,
    vsprintf_s,
    vswprintf_s,
    _vsnprintf_s,
    _vsnwprintf_s,
    sprintf,
    swprintf,
    _snprintf,
    _snwprintf,
    sprintf_s,
    swprintf_s,
    _snprintf_s,
    _snwprintf_s,
];
