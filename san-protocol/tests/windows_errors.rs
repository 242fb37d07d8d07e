//! Statuses and errors against the values in the Windows headers.

use san_protocol::{NtStatus, WsaError};

/// The value of a name in the headers' table.
fn in_headers(name: &str) -> i32 {
    let table = include_str!("windows_errors.tsv");
    let mut rows = table.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_once('\t').expect("two"));
    let (_, value) = rows.find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no {name} in the headers"));
    match value.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).expect("a number").cast_signed(),
        None => value.parse().expect("a number"),
    }
}

#[test]
fn every_status_has_its_value_in_ntstatus_h() {
    for status in NtStatus::NAMED {
        let name = status.name().expect("it has a name");
        assert_eq!(status.0, in_headers(name), "{name}");
    }
}

#[test]
fn every_error_has_its_value_in_winerror_h() {
    for error in WsaError::NAMED {
        let name = error.name().expect("it has a name");
        assert_eq!(error.0, in_headers(name), "{name}");
    }
}

#[test]
fn names_and_values_are_one_to_one() {
    for (index, status) in NtStatus::NAMED.iter().enumerate() {
        assert!(!NtStatus::NAMED[..index].contains(status), "{status}");
    }
    for (index, error) in WsaError::NAMED.iter().enumerate() {
        assert!(!WsaError::NAMED[..index].contains(error), "{error}");
    }
}
