//! The versions of the kernel interface, each as drivers in the field were built for it: a file of a version is never changed.

use san_protocol::kernel::{INTERFACE_VERSION, Interface, OLDEST_INTERFACE_VERSION, interface_size};

/// The tables of all versions, oldest first.
const VERSIONS: [&str; INTERFACE_VERSION as usize] = [include_str!("kernel_interface_version_1.txt")];

/// The fields that lie in the first `size` bytes.
fn fields(size: usize) -> String {
    let fields = Interface::LAYOUT.fields.iter().zip(Interface::KINDS);
    let lines = fields.take_while(|(field, _)| field.offset + field.size <= size).map(|(field, kind)| {
        let kind = kind.split_whitespace().collect::<Vec<_>>().join(" ");
        format!("{:3} {}: {kind}\n", field.offset, field.name)
    });
    lines.collect()
}

#[test]
fn a_later_table_begins_with_each_earlier_one() {
    for (version, expected) in (1..).zip(VERSIONS) {
        let size = interface_size(version).expect("a version");
        assert_eq!(fields(size), expected, "version {version}");
    }
    assert_eq!(interface_size(INTERFACE_VERSION.into()), Some(size_of::<Interface>()));
}

#[test]
fn a_version_has_a_size_if_there_is_one() {
    let offered = u32::from(OLDEST_INTERFACE_VERSION)..=u32::from(INTERFACE_VERSION);
    for version in [0, 1, 2, 3, 100, u32::MAX] {
        assert_eq!(interface_size(version).is_some(), offered.contains(&version), "version {version}");
    }
}
