//! What `cargo harness run` does with a driver's device: it opens it as a program would, and writes, reads and controls it.

use std::io::{self, Write};
use std::str::FromStr;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::Machine;
use crate::machine::{Handle, Process};
use crate::nt::status;

/// How long a request may take before the next one is issued.
const PATIENCE: Duration = Duration::from_secs(15);
/// GENERIC_READ and GENERIC_WRITE.
const READ_WRITE: u32 = 0xC000_0000;
/// The output buffer of a control that names no size.
const OUTPUT: usize = 256;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Write(Vec<u8>),
    Read(usize),
    Control { code: u32, input: Vec<u8>, output: usize },
}

const FORM: &str = "write:TEXT, read:BYTES or control:CODE[:INPUT[:BYTES]]; TEXT and INPUT may be bytes, as 0x00ff";

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Text, or bytes in hexadecimal digits behind 0x.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let Some(digits) = text.strip_prefix("0x") else { return Some(text.as_bytes().to_vec()) };
    let digit = |index: usize| digits.get(index..index + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..digits.len()).step_by(2).map(digit).collect()
}

impl FromStr for Operation {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = match text.split_once(':') {
            Some(("write", what)) => bytes(what).map(Operation::Write),
            Some(("read", count)) => number(count).map(|count| Operation::Read(count as usize)),
            Some(("control", rest)) => {
                let mut parts = rest.splitn(3, ':');
                let code = parts.next().and_then(number);
                let input = parts.next().map_or(Some(Vec::new()), bytes);
                let output = parts.next().map_or(Some(OUTPUT), |size| number(size).map(|size| size as usize));
                let whole = code.zip(input).zip(output);
                whole.map(|((code, input), output)| Operation::Control { code, input, output })
            }
            Some(_) | None => None,
        };
        parsed.ok_or(FORM)
    }
}

/// Bytes as text where they are some, else in hexadecimal digits.
fn show(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && text.chars().all(|c| !c.is_control()) => format!("{text:?}"),
        _ => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "),
    }
}

/// What is said of a request that has ended.
fn ended(what: &str, result: (i32, usize), output: &[u8]) -> String {
    let (status, information) = result;
    let given = if output.is_empty() { String::new() } else { format!(": {}", show(output)) };
    format!("{what}: {}, {information} bytes{given}", status::name(status))
}

fn issue(process: &Process, handle: Handle, operation: &Operation) -> String {
    let (done, told) = channel();
    let (what, issued) = match operation.clone() {
        Operation::Write(bytes) => {
            let what = format!("write {} bytes", bytes.len());
            let done = move |(status, _): (crate::machine::IoStatus, _)| {
                let _ = done.send((status, Vec::new()));
            };
            (what, process.transfer_async(handle, true, bytes, done))
        }
        Operation::Read(count) => {
            let done = move |finished| {
                let _ = done.send(finished);
            };
            (format!("read {count} bytes"), process.transfer_async(handle, false, vec![0; count], done))
        }
        Operation::Control { code, input, output } => {
            let done = move |(status, _, output): (crate::machine::IoStatus, _, _)| {
                let _ = done.send((status, output));
            };
            (format!("control {code:#x}"), process.control_async(handle, code, input, vec![0; output], done))
        }
    };
    if let Err(refused) = issued {
        return format!("{what}: {}", status::name(refused));
    }
    match told.recv_timeout(PATIENCE) {
        Ok((status, mut output)) => {
            output.truncate(status.information);
            ended(&what, (status.status, status.information), &output)
        }
        Err(_) => format!("{what}: still pending after {} s", PATIENCE.as_secs()),
    }
}

/// Opens a device and issues requests, one after the other. The process that did exits then: what is pending is cancelled.
pub(super) fn exchange(
    machine: &Machine,
    path: &str,
    operations: &[Operation],
    output: &mut dyn Write,
) -> io::Result<Result<(), String>> {
    let process = machine.process();
    let handle = match process.open(path, READ_WRITE) {
        Ok(handle) => handle,
        Err(error) => return Ok(Err(format!("{path} cannot be opened: {}", status::name(error)))),
    };
    writeln!(output, "opened {path}")?;
    for operation in operations {
        writeln!(output, "  {}", issue(&process, handle, operation))?;
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_read() {
        assert_eq!("write:hello".parse(), Ok(Operation::Write(b"hello".to_vec())));
        assert_eq!("write:0x00fF".parse(), Ok(Operation::Write(vec![0, 0xff])));
        assert_eq!("read:16".parse(), Ok(Operation::Read(16)));
        let control = |input: &[u8], output| Operation::Control { code: 0x22_2004, input: input.to_vec(), output };
        assert_eq!("control:0x222004".parse(), Ok(control(b"", OUTPUT)));
        assert_eq!("control:0x222004:ab:8".parse(), Ok(control(b"ab", 8)));
        assert_eq!("control:2236420::0x10".parse(), Ok(control(b"", 16)));
        for wrong in ["", "read", "read:x", "write:0x0", "control:", "control:1::x", "open:1"] {
            assert_eq!(wrong.parse::<Operation>(), Err(FORM), "{wrong}");
        }
        assert_eq!((show(b"text"), show(&[0, 200])), ("\"text\"".to_owned(), "00 c8".to_owned()));
    }
}
