//! Links the driver as a KMDF driver, the way wdk-build says for the installed WDK (or the stand-in for it), with a version
//! resource that says of the image what Cargo.toml says of the crates.

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let resource = Path::new(&env::var("OUT_DIR")?).join("version.res");
    fs::write(&resource, version_resource()?)?;
    println!("cargo::rustc-cdylib-link-arg={}", resource.display());
    println!("cargo::rerun-if-changed=build.rs");
    wdk_build::configure_wdk_binary_build()?;
    Ok(())
}

const RT_VERSION: u16 = 16;

/// A resource file with a VS_VERSIONINFO, which both linkers take as they take what a resource compiler makes.
fn version_resource() -> Result<Vec<u8>, Box<dyn Error>> {
    let text = |name| env::var(format!("CARGO_PKG_{name}"));
    let part = |name| -> Result<u16, Box<dyn Error>> { Ok(text(name)?.parse()?) };
    let version = [part("VERSION_MAJOR")?, part("VERSION_MINOR")?, part("VERSION_PATCH")?, 0];
    let in_words = version.map(|part| part.to_string()).join(".");
    let (name, description) = (text("NAME")?, text("DESCRIPTION")?);
    let file = format!("{name}.sys");
    let strings = [
        ("CompanyName", name.as_str()),
        ("FileDescription", &description),
        ("FileVersion", &in_words),
        ("InternalName", &file),
        ("LegalCopyright", &env::var("CARGO_PKG_LICENSE").unwrap_or_else(|_| "MIT OR Apache-2.0".to_owned())),
        ("OriginalFilename", &file),
        ("ProductName", &name),
        ("ProductVersion", &in_words),
    ];
    let strings = strings.map(|(key, value)| block(key, &Value::Text(value), &[])).concat();
    // English (United States), Unicode.
    let table = block("040904B0", &Value::None, &strings);
    let translation = block("Translation", &Value::Bytes(&[0x09, 0x04, 0xB0, 0x04]), &[]);
    let children = [block("StringFileInfo", &Value::None, &table), block("VarFileInfo", &Value::None, &translation)];
    let info = block("VS_VERSION_INFO", &Value::Bytes(&fixed_file_info(version)), &children.concat());

    let empty = entry(0, 0, &[]);
    Ok([empty, entry(RT_VERSION, 1, &info)].concat())
}

/// A resource with its header, of a numbered type and name.
fn entry(kind: u16, name: u16, data: &[u8]) -> Vec<u8> {
    const HEADER: u32 = 32;
    const MOVEABLE_PURE: u16 = 0x30;
    const ENGLISH: u16 = 0x0409;
    const NUMBER: u16 = 0xFFFF;
    let (flags, language) = if data.is_empty() { (0, 0) } else { (MOVEABLE_PURE, ENGLISH) };
    let sizes = [u32::try_from(data.len()).unwrap_or(0), HEADER].map(u32::to_le_bytes).concat();
    let names = [NUMBER, kind, NUMBER, name].map(u16::to_le_bytes).concat();
    // Version of the data, then flags and language, version and characteristics.
    let rest = [&[0; 4][..], &flags.to_le_bytes(), &language.to_le_bytes(), &[0; 8]].concat();
    padded([sizes, names, rest, data.to_vec()].concat())
}

enum Value<'a> {
    None,
    Bytes(&'a [u8]),
    Text(&'a str),
}

/// A block of the version information: lengths, type, key, value, and the blocks inside it.
fn block(key: &str, value: &Value<'_>, children: &[u8]) -> Vec<u8> {
    let wide = |text: &str| text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let (bytes, count, kind) = match value {
        Value::None => (Vec::new(), 0, 1_u16),
        Value::Bytes(bytes) => (bytes.to_vec(), bytes.len(), 0),
        // Counted in characters.
        Value::Text(text) => (wide(text), wide(text).len() / 2, 1),
    };
    let after_key = padded([vec![0; 6], wide(key)].concat());
    let whole = [padded([after_key, bytes].concat()), children.to_vec()].concat();
    let mut block = whole;
    let [length, count] = [block.len(), count].map(|number| u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes());
    block[..6].copy_from_slice(&[length, count, kind.to_le_bytes()].concat());
    block
}

/// VS_FIXEDFILEINFO of a driver.
fn fixed_file_info([major, minor, patch, build]: [u16; 4]) -> Vec<u8> {
    const SIGNATURE: u32 = 0xFEEF_04BD;
    const STRUCTURE_VERSION: u32 = 0x1_0000;
    const FLAGS_MASK: u32 = 0x3F;
    const VOS_NT_WINDOWS32: u32 = 0x4_0004;
    const VFT_DRV: u32 = 3;
    const VFT2_DRV_SYSTEM: u32 = 7;
    let pair = |high: u16, low: u16| (u32::from(high) << 16) | u32::from(low);
    let (high, low) = (pair(major, minor), pair(patch, build));
    let words = [
        SIGNATURE,
        STRUCTURE_VERSION,
        high,
        low,
        high,
        low,
        FLAGS_MASK,
        0,
        VOS_NT_WINDOWS32,
        VFT_DRV,
        VFT2_DRV_SYSTEM,
        0,
        0,
    ];
    words.map(u32::to_le_bytes).concat()
}

/// As many zeros more as a multiple of four takes.
fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
