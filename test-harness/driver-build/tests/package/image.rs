//! What an image says of itself: the version resource, and the certificates behind the sections.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use object::LittleEndian as LE;
use object::pe::{IMAGE_DIRECTORY_ENTRY_RESOURCE, IMAGE_DIRECTORY_ENTRY_SECURITY, RT_VERSION};
use object::read::pe::{PeFile64, ResourceDirectoryEntryData};

/// The version resource of an image.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// Of VS_FIXEDFILEINFO: file and product.
    numbers: [[u16; 4]; 2],
    /// VFT_DRV, VFT2_DRV_SYSTEM.
    kind: (u32, u32),
    strings: BTreeMap<String, String>,
}

impl Version {
    /// What the image of this package has to say.
    pub(crate) fn of_package(version: &str) -> Self {
        let parts: Vec<u16> = version.split('.').map(|part| part.parse().expect("a number")).collect();
        let numbers: [u16; 4] = parts.try_into().expect("four numbers");
        let description = "A KMDF driver that is a WSK client and the kernel half of a SAN provider";
        let strings = [
            ("CompanyName", "sanwsk"),
            ("FileDescription", description),
            ("FileVersion", version),
            ("InternalName", "sanwsk.sys"),
            ("LegalCopyright", "MIT OR Apache-2.0"),
            ("OriginalFilename", "sanwsk.sys"),
            ("ProductName", "sanwsk"),
            ("ProductVersion", version),
        ];
        let strings = strings.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        Self { numbers: [numbers, numbers], kind: (3, 7), strings }
    }
}

/// A block of the version information.
struct Block<'a> {
    key: String,
    value: &'a [u8],
    children: Vec<Block<'a>>,
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from(half(bytes, at)) | u32::from(half(bytes, at + 2)) << 16
}

impl<'a> Block<'a> {
    /// The block at the beginning of `bytes`, and its length.
    fn read(bytes: &'a [u8]) -> (Self, usize) {
        let (length, count, kind) = (usize::from(half(bytes, 0)), usize::from(half(bytes, 2)), half(bytes, 4));
        let bytes = &bytes[..length];
        let key: Vec<u16> = (6..).step_by(2).map(|at| half(bytes, at)).take_while(|&unit| unit != 0).collect();
        let value_at = (6 + 2 * (key.len() + 1)).next_multiple_of(4);
        let value_length = if kind == 1 { 2 * count } else { count };
        let value = if count == 0 { &[] } else { &bytes[value_at..value_at + value_length] };
        let mut at = (value_at + value_length).next_multiple_of(4);
        let mut children = Vec::new();
        while at < bytes.len() {
            let (child, length) = Self::read(&bytes[at..]);
            children.push(child);
            at += length.next_multiple_of(4);
        }
        (Self { key: String::from_utf16_lossy(&key), value, children }, length)
    }

    fn text(&self) -> String {
        let units: Vec<u16> = self.value.chunks_exact(2).map(|pair| half(pair, 0)).collect();
        String::from_utf16_lossy(&units).trim_end_matches('\0').to_owned()
    }

    fn child(&self, key: &str) -> &Self {
        self.children.iter().find(|child| child.key == key).unwrap_or_else(|| panic!("no {key} in {}", self.key))
    }
}

/// Reads the version resource of an image, as GetFileVersionInfo does.
pub(crate) fn version_of(path: &Path) -> Version {
    let file = fs::read(path).expect("the image");
    let image = PeFile64::parse(&*file).expect("a PE32+ file");
    let sections = image.section_table();
    let resources =
        image.data_directories().resource_directory(&*file, &sections).expect("readable").expect("resources");
    let mut table = resources.root().expect("a directory");
    // Type, name, language.
    let data = loop {
        let entry = table.entries.first().expect("an entry");
        match entry.data(resources).expect("readable") {
            ResourceDirectoryEntryData::Table(next) => {
                if table.header.number_of_id_entries.get(LE) == 1 && table.header.number_of_named_entries.get(LE) == 0 {
                    table = next;
                } else {
                    panic!("more than one resource");
                }
            }
            ResourceDirectoryEntryData::Data(data) => break data,
        }
    };
    let root = resources.root().expect("a directory");
    assert_eq!(root.entries[0].name_or_id().id(), Some(RT_VERSION));
    let directory = image.data_directory(IMAGE_DIRECTORY_ENTRY_RESOURCE).expect("a resource directory");
    assert!(directory.size.get(LE) > 0);
    let bytes = sections.pe_data_at(&*file, data.offset_to_data.get(LE)).expect("in a section");
    let (root, _) = Block::read(&bytes[..data.size.get(LE) as usize]);
    assert_eq!(root.key, "VS_VERSION_INFO");
    let fixed = root.value;
    assert_eq!((fixed.len(), word(fixed, 0)), (52, 0xFEEF_04BD));
    let version = |at: usize| [half(fixed, at + 2), half(fixed, at), half(fixed, at + 6), half(fixed, at + 4)];
    let table = &root.child("StringFileInfo").children[0];
    let translation = root.child("VarFileInfo").child("Translation").value;
    assert_eq!(table.key, format!("{:04X}{:04X}", half(translation, 0), half(translation, 2)));
    Version {
        numbers: [version(8), version(16)],
        kind: (word(fixed, 36), word(fixed, 40)),
        strings: table.children.iter().map(|string| (string.key.clone(), string.text())).collect(),
    }
}

/// The certificates of a signed image.
pub(crate) fn certificate_table(file: &[u8]) -> Option<Vec<u8>> {
    let image = PeFile64::parse(file).expect("a PE32+ file");
    let directory = image.data_directory(IMAGE_DIRECTORY_ENTRY_SECURITY)?;
    let (at, size) = (directory.virtual_address.get(LE) as usize, directory.size.get(LE) as usize);
    (size != 0).then(|| file[at..at + size].to_vec())
}
