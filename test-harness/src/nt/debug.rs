//! Debug output: DbgPrint and its kin, and C's printf formats in the kernel's dialect.
#![allow(unsafe_code)] // varargs, and strings by pointer

use std::arch::naked_asm;
use std::fmt::Write as _;

use parking_lot::Mutex;

use super::irql::called;
use super::strings::{narrow, units};
use super::types::{DISPATCH_LEVEL, UNICODE_STRING};
use crate::image::Export;

/// What drivers printed, and whether it is also written to standard error.
#[derive(Default)]
pub(crate) struct DebugLog {
    lines: Mutex<Vec<String>>,
    echo: std::sync::atomic::AtomicBool,
}

/// Messages kept; older ones go first.
const KEPT: usize = 10_000;

impl DebugLog {
    pub(super) fn print(&self, text: String) {
        if self.echo.load(std::sync::atomic::Ordering::Relaxed) {
            eprint!("{text}");
        }
        let mut lines = self.lines.lock();
        if lines.len() == KEPT {
            lines.remove(0);
        }
        lines.push(text);
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    pub(crate) fn set_echo(&self, echo: bool) {
        self.echo.store(echo, std::sync::atomic::Ordering::Relaxed);
    }
}

/// The arguments of a variadic call: each takes eight bytes, whatever its type.
pub(super) struct Arguments(pub(super) *const u64);

impl Arguments {
    fn next(&mut self) -> u64 {
        // SAFETY: the format asks for no more arguments than its caller passed; a wrong one reads the caller's stack.
        let value = unsafe { self.0.read() };
        self.0 = self.0.wrapping_add(1);
        value
    }
}

#[derive(Default)]
#[allow(clippy::struct_excessive_bools)] // printf's flags, as they are
struct Conversion {
    zero: bool,
    left: bool,
    sign: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
    /// Eight-byte integers, or wide characters.
    long: bool,
    wide: bool,
    narrow: bool,
}

/// Formats as the kernel's `_vsnprintf` does: C's conversions, `I64`, `wZ`, `Z`, `ws`, `S`, `C`.
fn format(format: &[u8], arguments: &mut Arguments) -> String {
    format_as(format, arguments, false)
}

/// As [`format`]; in the functions for wide text (`_vsnwprintf`), `%s` and `%c` are wide, and `%S` and `%C` are not.
pub(super) fn format_as(format: &[u8], arguments: &mut Arguments, wide_text: bool) -> String {
    let mut out = String::new();
    let mut rest = format.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            out.push(char::from(byte));
            continue;
        }
        let mut c = Conversion::default();
        let mut in_precision = false;
        let kind = loop {
            let Some(byte) = rest.next() else { return out };
            match byte {
                b'0' if c.width == 0 && !in_precision => c.zero = true,
                b'0'..=b'9' => {
                    let number = if in_precision { c.precision.get_or_insert(0) } else { &mut c.width };
                    *number = *number * 10 + usize::from(byte - b'0');
                }
                b'-' => c.left = true,
                b'+' => c.sign = true,
                b'#' => c.alternate = true,
                b' ' => {}
                b'*' => {
                    let value = usize::try_from(arguments.next() & 0x7fff_ffff).unwrap_or(0);
                    if in_precision { c.precision = Some(value) } else { c.width = value }
                }
                b'.' => {
                    in_precision = true;
                    c.precision = Some(0);
                }
                b'l' => {
                    c.long = rest.next_if_eq(&b'l').is_some();
                    c.wide = true;
                }
                b'h' => c.narrow = true,
                b'w' => c.wide = true,
                b'z' | b'j' | b't' => c.long = true,
                b'I' => {
                    if rest.next_if_eq(&b'6').is_some() {
                        rest.next_if_eq(&b'4');
                        c.long = true;
                    } else if rest.next_if_eq(&b'3').is_some() {
                        rest.next_if_eq(&b'2');
                    } else {
                        c.long = true;
                    }
                }
                other => break other,
            }
        };
        let kind = match kind {
            b's' | b'c' if wide_text && !c.wide && !c.narrow => kind.to_ascii_uppercase(),
            b'S' | b'C' if wide_text => kind.to_ascii_lowercase(),
            other => other,
        };
        let text = convert(kind, &c, arguments);
        let width = c.width;
        let _ = match (c.left, c.zero && !matches!(kind, b's' | b'S' | b'c')) {
            (true, _) => write!(out, "{text:<width$}"),
            (false, true) => write!(out, "{text:0>width$}"),
            (false, false) => write!(out, "{text:>width$}"),
        };
    }
    out
}

fn convert(kind: u8, c: &Conversion, arguments: &mut Arguments) -> String {
    let mut unsigned = || if c.long { arguments.next() } else { arguments.next() & 0xffff_ffff };
    let digits = c.precision.unwrap_or(1);
    match kind {
        b'd' | b'i' => {
            let value = unsigned();
            let value = if c.long { value.cast_signed() } else { i64::from((value & 0xffff_ffff) as u32 as i32) };
            let sign = if value < 0 {
                "-"
            } else if c.sign {
                "+"
            } else {
                ""
            };
            format!("{sign}{:0digits$}", value.unsigned_abs())
        }
        b'u' => format!("{:0digits$}", unsigned()),
        b'x' => format!("{}{:0digits$x}", if c.alternate { "0x" } else { "" }, unsigned()),
        b'X' => format!("{}{:0digits$X}", if c.alternate { "0X" } else { "" }, unsigned()),
        b'o' => format!("{:0digits$o}", unsigned()),
        b'p' => format!("{:016X}", arguments.next()),
        b'c' if c.wide => String::from_utf16_lossy(&[arguments.next() as u16]),
        b'c' => char::from(arguments.next() as u8).to_string(),
        b'C' => String::from_utf16_lossy(&[arguments.next() as u16]),
        b's' | b'S' => {
            let wide = (kind == b'S') != c.wide && !c.narrow;
            let limit = c.precision.unwrap_or(usize::MAX);
            let address = arguments.next() as usize;
            match (address, wide) {
                (0, _) => "(null)".to_owned(),
                (_, true) => String::from_utf16_lossy(&units(address as *const u16, limit)),
                (_, false) => String::from_utf8_lossy(&narrow(address as *const u8, limit)).into_owned(),
            }
        }
        b'Z' if c.wide => {
            let string = arguments.next() as usize as *const UNICODE_STRING;
            // SAFETY: the format says that the argument is a PUNICODE_STRING; a bad one faults, which the guard reports.
            unsafe { string.as_ref() }.map_or_else(|| "(null)".to_owned(), super::strings::text)
        }
        b'Z' => {
            let string = arguments.next() as usize as *const super::types::ANSI_STRING;
            // SAFETY: as above, for a PANSI_STRING.
            let string = unsafe { string.as_ref() };
            let bytes = string.map(|string| narrow(string.Buffer.get(), string.Length.get().into()));
            bytes.map_or_else(|| "(null)".to_owned(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
        }
        b'%' => "%".to_owned(),
        other => format!("%{}", char::from(other)),
    }
}

/// Spills the register arguments into their home slots, so that all arguments lie in one array, and passes its address.
macro_rules! variadic {
    ($name:ident => $body:ident) => {
        #[unsafe(naked)]
        pub(crate) extern "win64" fn $name() -> u32 {
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
    };
}

variadic!(DbgPrint => print);
variadic!(DbgPrintEx => print_ex);

extern "win64" fn print(arguments: *const u64) -> u32 {
    let mut arguments = Arguments(arguments);
    let template = arguments.next();
    print_formatted("DbgPrint", "", template, arguments)
}

extern "win64" fn print_ex(arguments: *const u64) -> u32 {
    let mut arguments = Arguments(arguments);
    let (_component, _level, template) = (arguments.next(), arguments.next(), arguments.next());
    print_formatted("DbgPrintEx", "", template, arguments)
}

pub(crate) extern "win64" fn vDbgPrintExWithPrefix(
    prefix: *const u8,
    _component: u32,
    _level: u32,
    template: *const u8,
    arguments: *const u64,
) -> u32 {
    let prefix = if prefix.is_null() { Vec::new() } else { narrow(prefix, usize::MAX) };
    let prefix = String::from_utf8_lossy(&prefix);
    print_formatted("vDbgPrintExWithPrefix", &prefix, template as u64, Arguments(arguments))
}

pub(crate) extern "win64" fn vDbgPrintEx(
    component: u32,
    level: u32,
    template: *const u8,
    arguments: *const u64,
) -> u32 {
    vDbgPrintExWithPrefix(std::ptr::null(), component, level, template, arguments)
}

fn print_formatted(call: &'static str, prefix: &str, template: u64, mut arguments: Arguments) -> u32 {
    // Wide conversions need PASSIVE_LEVEL on Windows; the plain ones are for any level that drivers print at.
    let current = called(call, DISPATCH_LEVEL);
    let template = narrow(template as usize as *const u8, usize::MAX);
    let text = format!("{prefix}{}", format(&template, &mut arguments));
    current.kernel.debug.print(text);
    0
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![DbgPrint, DbgPrintEx, vDbgPrintEx, vDbgPrintExWithPrefix];

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(template: &str, arguments: &[u64]) -> String {
        format(template.as_bytes(), &mut Arguments(arguments.as_ptr()))
    }

    #[test]
    fn conversions_are_those_of_the_kernel() {
        let minus_five = u64::from((-5_i32).cast_unsigned());
        assert_eq!(
            formatted("a %d|%5u|%-4x|%08X|%I64d", &[minus_five, 7, 0xab, 0xcd, u64::MAX]),
            "a -5|    7|ab  |000000CD|-1"
        );
        assert_eq!(formatted("%s %.2s %c%%", &[c"one".as_ptr() as u64, c"three".as_ptr() as u64, 65]), "one th A%");
        let wide: Vec<u16> = "wide\0".encode_utf16().collect();
        assert_eq!(formatted("%ws %S %ls", &[wide.as_ptr() as u64; 3]), "wide wide wide");
        assert_eq!(formatted("%p %llx %#x %s", &[16, 1 << 40, 3, 0]), "0000000000000010 10000000000 0x3 (null)");
        assert_eq!(formatted("%*d|%-*d|%.3d", &[4, 1, 3, 2, 5]), "   1|2  |005");
    }
}
