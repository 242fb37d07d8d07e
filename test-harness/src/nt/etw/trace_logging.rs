//! Events that describe themselves: the metadata of TraceLogging, as evntprov.h and TraceLoggingProvider.h lay it out.
//!
//! The provider's metadata is its size, its name and traits; an event's is its size, tags, its name, and for each field a
//! name, the type that its bytes have, and perhaps how they are to be shown. Everything is read with its bounds checked.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::Event;

/// An event, taken apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The provider's name.
    pub provider: String,
    /// The event's name.
    pub name: String,
    /// Its fields, in order.
    pub fields: Vec<(String, Field)>,
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    /// Text, in whatever way it was encoded.
    Text(String),
    /// A number with a sign.
    Signed(i64),
    /// A number without one.
    Unsigned(u64),
    /// The same, to be shown in hexadecimal.
    Hex(u64),
    /// A floating-point number.
    Float(f64),
    /// Yes or no.
    Boolean(bool),
    /// An NTSTATUS.
    Status(i32),
    /// A SOCKADDR_IN or SOCKADDR_IN6.
    Address(SocketAddr),
    /// Bytes without a meaning that is known here; a GUID, a SID, a point in time.
    Bytes(Vec<u8>),
    /// Several values of one type.
    List(Vec<Field>),
    /// Fields of its own.
    Struct(Vec<(String, Field)>),
}

/// Why an event could not be taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It does not describe itself.
    NoMetadata,
    /// The description ends in the middle of something, or says another size than it has.
    Metadata,
    /// The data are shorter than the description says, or longer.
    Data,
    /// A type that there is not.
    Type(u8),
}

impl Decoded {
    /// The field of this name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find_map(|(own, field)| (own == name).then_some(field))
    }

    /// The number in this field.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.field(name)? {
            Field::Unsigned(number) | Field::Hex(number) => Some(*number),
            Field::Signed(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The text in this field.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.field(name)? {
            Field::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// What is left of a description, or of data.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn half(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// A string that a zero ends.
    fn string(&mut self) -> Option<String> {
        let end = self.0.iter().position(|&byte| byte == 0)?;
        let text = self.take(end + 1)?;
        Some(String::from_utf8_lossy(&text[..end]).into_owned())
    }

    /// Bytes, of which each but the last has its highest bit set.
    fn tag(&mut self) -> Option<()> {
        while self.byte()? & 0x80 != 0 {}
        Some(())
    }
}

/// Types of fields (TlgIn).
mod input {
    pub(super) const UNICODE_STRING: u8 = 1;
    pub(super) const ANSI_STRING: u8 = 2;
    pub(super) const INT8: u8 = 3;
    pub(super) const UINT8: u8 = 4;
    pub(super) const INT16: u8 = 5;
    pub(super) const UINT16: u8 = 6;
    pub(super) const INT32: u8 = 7;
    pub(super) const UINT32: u8 = 8;
    pub(super) const INT64: u8 = 9;
    pub(super) const UINT64: u8 = 10;
    pub(super) const FLOAT: u8 = 11;
    pub(super) const DOUBLE: u8 = 12;
    pub(super) const BOOL32: u8 = 13;
    pub(super) const BINARY: u8 = 14;
    pub(super) const GUID: u8 = 15;
    pub(super) const FILETIME: u8 = 17;
    pub(super) const SYSTEMTIME: u8 = 18;
    pub(super) const SID: u8 = 19;
    pub(super) const HEXINT32: u8 = 20;
    pub(super) const HEXINT64: u8 = 21;
    pub(super) const COUNTED_UTF16: u8 = 22;
    pub(super) const COUNTED_ANSI: u8 = 23;
    pub(super) const STRUCT: u8 = 24;
    pub(super) const COUNTED_BINARY: u8 = 25;
    pub(super) const TYPE: u8 = 0x1f;
    pub(super) const COUNT: u8 = 0x60;
    pub(super) const FIXED_COUNT: u8 = 0x20;
    pub(super) const VARIABLE_COUNT: u8 = 0x40;
    pub(super) const CHAIN: u8 = 0x80;
}

/// How fields are shown (TlgOut): those that change what a value means here.
mod output {
    pub(super) const BOOLEAN: u8 = 3;
    pub(super) const HEX: u8 = 4;
    pub(super) const SOCKET_ADDRESS: u8 = 10;
    pub(super) const NTSTATUS: u8 = 14;
}

/// How many values a field has.
enum Count {
    One,
    Fixed(u16),
    /// The data begin with it.
    Variable,
}

struct Description {
    name: String,
    input: u8,
    output: u8,
    count: Count,
}

impl Description {
    fn read(metadata: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut read = || {
            let name = metadata.string()?;
            let first = metadata.byte()?;
            let output = if first & input::CHAIN == 0 { 0 } else { metadata.byte()? };
            if output & input::CHAIN != 0 {
                metadata.tag()?;
            }
            let count = match first & input::COUNT {
                0 => Count::One,
                input::FIXED_COUNT => Count::Fixed(metadata.half()?),
                input::VARIABLE_COUNT => Count::Variable,
                _ => return None,
            };
            Some(Self { name, input: first & input::TYPE, output: output & !input::CHAIN, count })
        };
        read().ok_or(Malformed::Metadata)
    }

    fn value(&self, metadata: &mut Reader<'_>, data: &mut Reader<'_>) -> Result<Field, Malformed> {
        let count = match self.count {
            Count::One => return self.one(metadata, data),
            Count::Fixed(count) => count,
            Count::Variable => data.half().ok_or(Malformed::Data)?,
        };
        if self.input == input::STRUCT {
            // Each has the same description.
            let begin = metadata.0;
            let mut list = Vec::new();
            for _ in 0..count {
                metadata.0 = begin;
                list.push(self.one(metadata, data)?);
            }
            if count == 0 {
                skip(self.output, metadata)?;
            }
            return Ok(Field::List(list));
        }
        (0..count).map(|_| self.one(metadata, data)).collect::<Result<_, _>>().map(Field::List)
    }

    fn one(&self, metadata: &mut Reader<'_>, data: &mut Reader<'_>) -> Result<Field, Malformed> {
        if self.input == input::STRUCT {
            let fields = (0..self.output).map(|_| named(metadata, data)).collect::<Result<_, _>>()?;
            return Ok(Field::Struct(fields));
        }
        let (known, field) = (self.input, self.plain(data));
        field.ok_or(match known {
            1..=15 | 17..=25 => Malformed::Data,
            other => Malformed::Type(other),
        })
    }

    /// A value that is no structure; none if the data are too short, or there is no such type.
    fn plain(&self, data: &mut Reader<'_>) -> Option<Field> {
        Some(match self.input {
            input::UNICODE_STRING => Field::Text(utf16_to_zero(data)?),
            input::ANSI_STRING => Field::Text(data.string()?),
            input::INT8 => Field::Signed(i8::from_le_bytes(data.array()?).into()),
            input::INT16 => Field::Signed(i16::from_le_bytes(data.array()?).into()),
            input::INT32 => Field::Signed(i32::from_le_bytes(data.array()?).into()),
            input::INT64 => Field::Signed(i64::from_le_bytes(data.array()?)),
            input::UINT8 => self.number(data.byte()?.into()),
            input::UINT16 => self.number(data.half()?.into()),
            input::UINT32 => self.number(u32::from_le_bytes(data.array()?).into()),
            input::UINT64 => self.number(u64::from_le_bytes(data.array()?)),
            input::HEXINT32 => match self.output {
                output::NTSTATUS => Field::Status(i32::from_le_bytes(data.array()?)),
                _ => Field::Hex(u32::from_le_bytes(data.array()?).into()),
            },
            input::HEXINT64 => Field::Hex(u64::from_le_bytes(data.array()?)),
            input::FLOAT => Field::Float(f32::from_le_bytes(data.array()?).into()),
            input::DOUBLE => Field::Float(f64::from_le_bytes(data.array()?)),
            input::BOOL32 => Field::Boolean(data.array::<4>()? != [0; 4]),
            input::BINARY | input::COUNTED_BINARY => {
                let length = data.half()?;
                let bytes = data.take(length.into())?;
                match self.output {
                    output::SOCKET_ADDRESS => Field::Address(socket_address(bytes)?),
                    _ => Field::Bytes(bytes.to_vec()),
                }
            }
            input::GUID | input::SYSTEMTIME => Field::Bytes(data.take(16)?.to_vec()),
            input::FILETIME => Field::Bytes(data.take(8)?.to_vec()),
            input::SID => {
                // Revision, number of sub-authorities, six bytes of authority, and four for each sub-authority.
                let length = 8 + 4 * usize::from(*data.0.get(1)?);
                Field::Bytes(data.take(length)?.to_vec())
            }
            input::COUNTED_UTF16 => {
                let length = data.half()?;
                let units =
                    data.take(length.into())?.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
                Field::Text(char::decode_utf16(units).map(|one| one.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
            }
            input::COUNTED_ANSI => {
                let length = data.half()?;
                Field::Text(String::from_utf8_lossy(data.take(length.into())?).into_owned())
            }
            _ => return None,
        })
    }

    fn number(&self, number: u64) -> Field {
        match self.output {
            output::BOOLEAN => Field::Boolean(number != 0),
            output::HEX => Field::Hex(number),
            _ => Field::Unsigned(number),
        }
    }
}

fn utf16_to_zero(data: &mut Reader<'_>) -> Option<String> {
    let mut units = Vec::new();
    loop {
        match data.half()? {
            0 => return Some(String::from_utf16_lossy(&units)),
            unit => units.push(unit),
        }
    }
}

fn socket_address(bytes: &[u8]) -> Option<SocketAddr> {
    const AF_INET: u16 = 2;
    const AF_INET6: u16 = 23;
    let mut bytes = Reader(bytes);
    let (family, port) = (bytes.half()?, u16::from_be_bytes(bytes.array()?));
    match family {
        AF_INET => Some(SocketAddr::from((Ipv4Addr::from(bytes.array::<4>()?), port))),
        AF_INET6 => {
            let flow = u32::from_le_bytes(bytes.array()?);
            let address = Ipv6Addr::from(bytes.array::<16>()?);
            Some(SocketAddrV6::new(address, port, flow, u32::from_le_bytes(bytes.array()?)).into())
        }
        _ => None,
    }
}

/// Passes over the descriptions of so many fields.
fn skip(fields: u8, metadata: &mut Reader<'_>) -> Result<(), Malformed> {
    for _ in 0..fields {
        let description = Description::read(metadata)?;
        if description.input == input::STRUCT {
            skip(description.output, metadata)?;
        }
    }
    Ok(())
}

fn named(metadata: &mut Reader<'_>, data: &mut Reader<'_>) -> Result<(String, Field), Malformed> {
    let description = Description::read(metadata)?;
    let field = description.value(metadata, data)?;
    Ok((description.name, field))
}

/// The description behind its own size.
fn sized(metadata: &[u8]) -> Result<Reader<'_>, Malformed> {
    let mut reader = Reader(metadata);
    let size = reader.half().ok_or(Malformed::NoMetadata)?;
    if usize::from(size) == metadata.len() { Ok(reader) } else { Err(Malformed::Metadata) }
}

/// Takes an event apart.
///
/// # Errors
/// Its description or its data are not what the format allows, or do not fit each other.
pub fn decode(event: &Event) -> Result<Decoded, Malformed> {
    let provider = sized(&event.provider_metadata)?.string().ok_or(Malformed::Metadata)?;
    let mut metadata = sized(&event.metadata)?;
    metadata.tag().ok_or(Malformed::Metadata)?;
    let name = metadata.string().ok_or(Malformed::Metadata)?;
    let mut data = Reader(&event.data);
    let mut fields = Vec::new();
    while !metadata.0.is_empty() {
        fields.push(named(&mut metadata, &mut data)?);
    }
    if data.0.is_empty() { Ok(Decoded { provider, name, fields }) } else { Err(Malformed::Data) }
}

impl fmt::Display for Decoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.provider, self.name)?;
        self.fields.iter().try_for_each(|(name, field)| write!(f, " {name}={field}"))
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::Text(text) => write!(f, "{text:?}"),
            Field::Signed(number) => write!(f, "{number}"),
            Field::Unsigned(number) => write!(f, "{number}"),
            Field::Hex(number) => write!(f, "{number:#x}"),
            Field::Float(number) => write!(f, "{number}"),
            Field::Boolean(yes) => write!(f, "{yes}"),
            Field::Status(status) => write!(f, "{}", crate::nt::status::name(*status)),
            Field::Address(address) => write!(f, "{address}"),
            Field::Bytes(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Field::List(list) => f.debug_list().entries(list.iter().map(ToString::to_string)).finish(),
            Field::Struct(fields) => {
                write!(f, "{{")?;
                fields.iter().try_for_each(|(name, field)| write!(f, " {name}={field}"))?;
                write!(f, " }}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nt::types::GUID;
    use std::time::Duration;

    /// Puts the size in front of a description.
    fn described(text: &[u8]) -> Vec<u8> {
        let size = u16::try_from(text.len() + 2).expect("short");
        [&size.to_le_bytes(), text].concat()
    }

    fn event(metadata: &[u8], data: &[u8]) -> Event {
        Event {
            provider: GUID { Data1: 1, Data2: 2, Data3: 3, Data4: [4; 8] },
            id: 0,
            channel: 11,
            level: 4,
            opcode: 0,
            keyword: 1,
            time: Duration::ZERO,
            data: data.to_vec(),
            metadata: described(metadata),
            provider_metadata: described(b"P\0"),
        }
    }

    #[test]
    fn fields_of_each_shape_are_read() {
        let metadata =
            b"\x80\x00Name\0Number\0\x08Hex\0\x86\x04Text\0\x97\x23Status\0\x94\x0eAddress\0\x8e\x0aList\0\x46\
                         Pair\0\x98\x02A\0\x04B\0\x84\x03Three\0\x23\x03\x00Tagged\0\x84\x83\x81\x00";
        let address = [2, 0, 0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        let data = [
            &7_u32.to_le_bytes()[..],
            &[0xff, 0x00],
            &[2, 0],
            b"hi",
            &0xC000_0236_u32.to_le_bytes(),
            &[16, 0],
            &address,
            &[2, 0, 5, 0, 6, 0],
            &[1, 1],
            &[1, 2, 0xff],
            &[1],
        ]
        .concat();
        let decoded = decode(&event(metadata, &data)).expect("well formed");
        let unsigned = |list: &[u64]| list.iter().map(|&number| Field::Unsigned(number)).collect::<Vec<_>>();
        assert_eq!((decoded.provider.as_str(), decoded.name.as_str()), ("P", "Name"));
        assert_eq!(decoded.number("Number"), Some(7));
        assert_eq!(decoded.field("Hex"), Some(&Field::Hex(0xff)));
        assert_eq!(decoded.text("Text"), Some("hi"));
        assert_eq!(decoded.field("Status"), Some(&Field::Status(0xC000_0236_u32.cast_signed())));
        assert_eq!(decoded.field("Address"), Some(&Field::Address("127.0.0.1:8080".parse().expect("an address"))));
        assert_eq!(decoded.field("List"), Some(&Field::List(unsigned(&[5, 6]))));
        let pair = vec![("A".to_owned(), Field::Unsigned(1)), ("B".to_owned(), Field::Boolean(true))];
        assert_eq!(decoded.field("Pair"), Some(&Field::Struct(pair)));
        assert_eq!(
            decoded.field("Three"),
            Some(&Field::List(vec![Field::Signed(1), Field::Signed(2), Field::Signed(-1)]))
        );
        assert_eq!(decoded.field("Tagged"), Some(&Field::Boolean(true)));
    }

    #[test]
    fn what_is_too_short_or_too_long_or_unknown_is_refused() {
        let whole = event(b"\0Name\0Number\0\x08", &[1, 0, 0, 0]);
        assert!(decode(&whole).is_ok());
        for length in 0..whole.metadata.len() {
            let mut cut = whole.clone();
            cut.metadata.truncate(length);
            assert!(decode(&cut).is_err(), "{length} bytes of metadata");
            cut.metadata = described(&whole.metadata[2..length.max(2)]);
            assert!(decode(&cut).is_err(), "{length} bytes of metadata that say so");
        }
        for data in [&[1, 0, 0][..], &[1, 0, 0, 0, 0]] {
            assert_eq!(decode(&Event { data: data.to_vec(), ..whole.clone() }), Err(Malformed::Data));
        }
        assert_eq!(decode(&event(b"\0Name\0Number\0\x1f", &[0; 8])), Err(Malformed::Type(31)));
        assert_eq!(decode(&event(b"\0Name\0Number\0\x10", &[0; 8])), Err(Malformed::Type(16)));
        assert_eq!(decode(&Event { metadata: Vec::new(), ..whole }), Err(Malformed::NoMetadata));
    }
}
