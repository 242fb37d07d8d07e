//! Requests as bytes: any control code, any input, any length of output.

use crate::bed::{Bed, Failure};
use crate::client::{Client, Request};
use san_protocol::ControlCode;
use std::time::Duration;

/// Requests of one input; what follows is left out.
const MOST_REQUESTS: usize = 48;

/// An input is read front to back: a byte of options, then requests.
///
/// | bytes | of a request |
/// | ---: | --- |
/// | 1 | its code: one of the protocol's, one of them with bits flipped, any; or no request but a cancel, or a moment's wait |
/// | 1 | what of the input is replaced by what an earlier request has answered |
/// | 2 | length of its output |
/// | 2 | length of its input, at most 511 |
/// | | its input |
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn word(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(*self.take(2)?.first_chunk()?))
    }

    fn long(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(*self.take(4)?.first_chunk()?))
    }
}

/// What comes next.
enum Step {
    Request { code: u32, replaced: u8, input: Vec<u8>, output: Vec<u8> },
    Cancel(u8),
    Moment,
}

fn step(bytes: &mut Reader<'_>) -> Option<Step> {
    let known = |selector: u8| ControlCode::ALL[usize::from(selector) % ControlCode::ALL.len()].value();
    let code = match bytes.byte()? {
        selector @ 0..0xE0 => known(selector),
        selector @ 0xE0..0xF0 => known(selector) ^ bytes.long()?,
        0xF0..0xF8 => bytes.long()?,
        0xF8..0xFC => return Some(Step::Cancel(bytes.byte()?)),
        0xFC..=0xFF => return Some(Step::Moment),
    };
    let replaced = bytes.byte()?;
    let output = vec![0xA5; bytes.word()?.into()];
    let length = usize::from(bytes.word()? & 0x1FF);
    let input = bytes.take(length.min(bytes.0.len()))?.to_vec();
    Some(Step::Request { code, replaced, input, output })
}

/// What requests have answered, for those that follow.
#[derive(Default)]
struct Answers {
    endpoints: Vec<[u8; 8]>,
    address: Option<[u8; 28]>,
}

/// Where a request about an endpoint has its id, and where one about an address has that.
const ENDPOINT_AT: usize = 8;
const ADDRESS_AT: usize = 16;

impl Answers {
    /// Takes from the requests that have ended what may be asked for next.
    fn learn(&mut self, pending: &mut Vec<(u32, Request)>) {
        pending.retain(|(code, request)| {
            let Some(answer) = request.answer() else { return true };
            let reply = answer.reply().unwrap_or_default();
            match ControlCode::from_value(*code) {
                Some(ControlCode::Create | ControlCode::Accept) => self.endpoints.extend(reply.first_chunk()),
                Some(ControlCode::Bind) => self.address = reply.first_chunk().copied().or(self.address),
                Some(_) | None => {}
            }
            false
        });
    }

    /// Puts an endpoint's id where one belongs, and with the highest bit the last address that was bound.
    fn replace(&self, replaced: u8, input: &mut [u8]) {
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(place) = input.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        let which = usize::from(replaced & 0x7F);
        if let Some(which) = which.checked_sub(1)
            && !self.endpoints.is_empty()
        {
            put(ENDPOINT_AT, &self.endpoints[which % self.endpoints.len()]);
        }
        if let (Some(address), true) = (&self.address, replaced & 0x80 != 0) {
            put(ADDRESS_AT, address);
        }
    }
}

/// Long enough for what a request has set going to get somewhere.
const MOMENT: Duration = Duration::from_micros(200);

pub(super) fn run(bed: &Bed, input: &[u8]) -> Result<(), Failure> {
    let mut bytes = Reader(input);
    let options = bytes.byte().unwrap_or(0);
    let client = bed.client(options & 1 == 0, options & 2 != 0)?;
    if options & 4 == 0 {
        // One that requests may name: the next handle after the device's.
        let _ = client.process().create_event(true);
    }
    issue(&client, &mut bytes);
    client.finish()
}

fn issue(client: &Client, bytes: &mut Reader<'_>) {
    let (mut answers, mut pending) = (Answers::default(), Vec::new());
    for _ in 0..MOST_REQUESTS {
        match step(bytes) {
            None => break,
            Some(Step::Moment) => std::thread::sleep(MOMENT),
            Some(Step::Cancel(which)) => {
                if let Some(request) = client.nth(which.into()) {
                    client.cancel(&request);
                }
            }
            Some(Step::Request { code, replaced, mut input, output }) => {
                answers.learn(&mut pending);
                answers.replace(replaced, &mut input);
                pending.push((code, client.issue(code, input, output)));
            }
        }
    }
}
