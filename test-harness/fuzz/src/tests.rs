//! What the fuzzer calls wrong, provoked.

use san_protocol::{ControlCode, EndpointKind, NtStatus};

use crate::bed::{Bed, Failure, Settled};
use crate::client::Answer;
use crate::target::Target;
use crate::worker::try_input;

fn bed() -> Bed {
    let image = driver_build::build(&driver_build::Options::default()).expect("`cargo driver` builds the driver").image;
    Bed::new(&image).expect("the driver loads")
}

fn endpoint(answer: Option<Answer>) -> u64 {
    answer.and_then(|answer| answer.endpoint()).expect("an endpoint")
}

#[test]
fn an_endpoint_that_is_left_is_found() {
    let mut bed = bed();
    let client = bed.client(true, false).expect("a client");
    endpoint(client.create(EndpointKind::StreamConnection).answer());
    let left = bed.settle();
    assert!(matches!(&left, Err(Failure::Wrong(what)) if what.starts_with("1 endpoints are left")), "it is found");
    client.finish().expect("nothing is wrong with its requests");
    assert!(matches!(bed.settle(), Ok(Settled::AsBefore)), "and nothing is left then");
    bed.finish().expect("unloads");
}

#[test]
fn what_an_input_uses_each_time_anew_is_found() {
    let mut bed = bed();
    let mut kept = Vec::new();
    for _ in 0..2 {
        // A process that is not ended, as a driver might keep one.
        kept.push(bed.client(true, false).expect("a client"));
        assert!(matches!(bed.settle(), Ok(Settled::Changed(_))), "a handle more is in use");
    }
    drop(kept);
    assert!(matches!(bed.settle(), Ok(Settled::Changed(_))), "and now fewer");
    bed.finish().expect("unloads");
}

#[test]
fn an_answer_that_is_not_documented_is_found() {
    let mut bed = bed();
    let client = bed.client(true, false).expect("a client");
    // Nothing cancels this: the status is of the device's own making, as it were.
    let request = client.request(ControlCode::QueryVersion, &[0_u8; 0], vec![0; 20]);
    request.pretend(NtStatus::CONNECTION_REFUSED);
    let failure = client.finish().expect_err("it is found").to_string();
    assert!(failure.contains("docs/ioctl.md does not know"), "{failure}");
    assert!(bed.settle().is_ok());
    bed.finish().expect("unloads");
}

#[test]
fn an_input_of_any_bytes_is_tried() {
    let mut bed = bed();
    for target in Target::ALL {
        for input in [&[][..], &[0], &[0xFF; 64], b"Any bytes."] {
            try_input(&mut bed, target, input).unwrap_or_else(|failure| panic!("{target:?}, {input:?}: {failure}"));
        }
    }
    bed.finish().expect("unloads");
}

#[test]
fn a_file_names_its_target() {
    let target = |file: &str| Target::of_file(file.as_ref());
    assert_eq!(target("corpus/wire/0123"), Some(Target::Wire));
    assert_eq!(target("findings/raw-0123456789abcdef"), Some(Target::Raw));
    assert_eq!(target("findings/0123456789abcdef"), None);
}
