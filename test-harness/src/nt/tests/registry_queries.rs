//! RtlQueryRegistryValues, with the table that a driver gives it.

use std::cell::RefCell;
use std::ptr;

use super::*;
use crate::nt::registry::Value;
use crate::nt::registry_query::{RTL_QUERY_REGISTRY_TABLE, RtlQueryRegistryValues};

const KEY: &str = r"\Registry\Machine\System\CurrentControlSet\Services\test";
const SERVICES: u32 = 1;
const SUBKEY: u32 = 0x01;
const REQUIRED: u32 = 0x04;
const DIRECT: u32 = 0x20;
const DELETE: u32 = 0x40;
const TYPECHECK: u32 = 0x100;
const REG_SZ: u32 = 1;
const REG_DWORD: u32 = 4;

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

fn prepare() {
    let registry = &current().kernel.registry;
    registry.set(KEY, "Number", Value::Number(7));
    registry.set(KEY, "Long", Value::Long(8));
    registry.set(KEY, "Text", Value::Text("ab".to_owned()));
    registry.set(&format!(r"{KEY}\Below"), "List", Value::List(vec!["one".to_owned(), "two".to_owned()]));
}

/// Queries with entries of name, flags, where to, and default type; the routine is `note`.
fn query(entries: &[(Option<&str>, u32, PVOID, u32)], routine: bool) -> NTSTATUS {
    let names: Vec<_> = entries.iter().map(|(name, ..)| name.map(wide)).collect();
    let mut table: Vec<_> = entries
        .iter()
        .zip(&names)
        .map(|((_, flags, context, default), name)| RTL_QUERY_REGISTRY_TABLE {
            QueryRoutine: (routine && flags & (DIRECT | SUBKEY) == 0).then_some(note as _),
            Flags: *flags,
            Name: name.as_ref().map_or(ptr::null(), Vec::as_ptr),
            EntryContext: *context,
            DefaultType: *default,
            DefaultData: ptr::null(),
            DefaultLength: 0,
        })
        .collect();
    table.push(RTL_QUERY_REGISTRY_TABLE {
        QueryRoutine: None,
        Flags: 0,
        Name: ptr::null(),
        EntryContext: ptr::null_mut(),
        DefaultType: 0,
        DefaultData: ptr::null(),
        DefaultLength: 0,
    });
    RtlQueryRegistryValues(SERVICES, wide("test").as_ptr() as usize, table.as_ptr(), ptr::null_mut(), ptr::null_mut())
}

thread_local! {
    static NOTED: RefCell<Vec<(String, u32, Vec<u8>)>> = const { RefCell::new(Vec::new()) };
}

extern "win64" fn note(name: *const u16, kind: u32, data: *const u8, length: u32, _c: PVOID, _e: PVOID) -> NTSTATUS {
    let name = String::from_utf16_lossy(&crate::nt::strings::units(name, 100));
    // SAFETY: the system passes the value's data.
    let data = unsafe { std::slice::from_raw_parts(data, length as usize) };
    NOTED.with_borrow_mut(|noted| noted.push((name, kind, data.to_vec())));
    STATUS_SUCCESS
}

#[test]
fn values_are_stored_where_the_entry_says_if_their_type_is_the_expected_one() {
    sound(|| {
        prepare();
        let typed = |kind: u32| kind << 24;
        let (mut number, mut absent) = (0_u32, 5_u32);
        let mut long = [0_u8; 16];
        long[..4].copy_from_slice(&(-12_i32).to_le_bytes());
        let text = UNICODE_STRING { Length: 0.into(), MaximumLength: 0.into(), Buffer: ptr::null_mut::<u16>().into() };
        let status = query(
            &[
                (Some("Number"), DIRECT | TYPECHECK, (&raw mut number).cast(), typed(REG_DWORD)),
                (Some("Absent"), DIRECT | TYPECHECK, (&raw mut absent).cast(), typed(REG_DWORD)),
                (Some("Long"), DIRECT, (&raw mut long).cast(), 0),
                (Some("Text"), DIRECT | TYPECHECK, ptr::from_ref(&text).cast_mut().cast(), typed(REG_SZ)),
            ],
            false,
        );
        assert_eq!((status, number, absent, long[0]), (STATUS_SUCCESS, 7, 5, 8));
        assert_eq!(crate::nt::strings::text(&text), "ab");
        ExFreePool(text.Buffer.get().cast());
        let wrong = (Some("Text"), DIRECT | TYPECHECK, (&raw mut number).cast(), typed(REG_DWORD));
        assert_eq!(query(&[wrong], false), STATUS_OBJECT_TYPE_MISMATCH);
        let required = (Some("Absent"), DIRECT | REQUIRED, (&raw mut number).cast(), 0);
        assert_eq!(query(&[required], false), STATUS_OBJECT_NAME_NOT_FOUND);
    });
}

#[test]
fn a_routine_is_told_of_each_value_and_of_each_part_of_a_list() {
    sound(|| {
        prepare();
        let entries = [
            (Some("Number"), DELETE, ptr::null_mut(), 0),
            (Some("Below"), SUBKEY, ptr::null_mut(), 0),
            (Some("List"), 0, ptr::null_mut(), 0),
        ];
        assert_eq!(query(&entries, true), STATUS_SUCCESS);
        let bytes = |text: &str| wide(text).into_iter().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        let expected = [
            ("Number".to_owned(), REG_DWORD, vec![7, 0, 0, 0]),
            ("List".to_owned(), REG_SZ, bytes("one")),
            ("List".to_owned(), REG_SZ, bytes("two")),
        ];
        NOTED.with_borrow(|noted| assert_eq!(noted[..], expected));
        assert!(current().kernel.registry.get(KEY, "Number").is_none(), "it was deleted behind the query");
    });
}
