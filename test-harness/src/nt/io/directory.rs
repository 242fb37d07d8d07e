//! What a directory of the volume holds (IRP_MN_QUERY_DIRECTORY): entries that match an expression, as far as a buffer has room.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::volume::Facts;
use crate::nt::status::{
    STATUS_BUFFER_OVERFLOW, STATUS_INFO_LENGTH_MISMATCH, STATUS_INVALID_INFO_CLASS, STATUS_NO_MORE_FILES,
    STATUS_NO_SUCH_FILE, STATUS_SUCCESS,
};
use crate::nt::types::NTSTATUS;

/// What is told of an entry (FILE_INFORMATION_CLASS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Directory,
    FullDirectory,
    BothDirectory,
    Names,
    IdBothDirectory,
    IdFullDirectory,
}

impl Class {
    pub(super) fn of(number: usize) -> Result<Self, NTSTATUS> {
        match number {
            1 => Ok(Self::Directory),
            2 => Ok(Self::FullDirectory),
            3 => Ok(Self::BothDirectory),
            12 => Ok(Self::Names),
            37 => Ok(Self::IdBothDirectory),
            38 => Ok(Self::IdFullDirectory),
            _ => Err(STATUS_INVALID_INFO_CLASS),
        }
    }

    /// Where the name begins: all before it is of fixed length.
    const fn fixed(self) -> usize {
        match self {
            Self::Directory => 64,
            Self::FullDirectory => 68,
            Self::BothDirectory => 94,
            Self::Names => 12,
            Self::IdBothDirectory => 104,
            Self::IdFullDirectory => 80,
        }
    }

    /// An entry with its name; where the next one is, is not in it yet.
    fn entry(self, name: &[u16], metadata: &Metadata) -> Vec<u8> {
        let name_length = (name.len() * 2) as u32;
        let mut entry = vec![0; 8];
        if self == Self::Names {
            entry.extend(name_length.to_le_bytes());
        } else {
            let facts = Facts::of(metadata);
            entry.extend(facts.times.into_iter().flat_map(i64::to_le_bytes));
            entry.extend([facts.length, facts.allocation].into_iter().flat_map(u64::to_le_bytes));
            entry.extend(facts.attributes.to_le_bytes());
            entry.extend(name_length.to_le_bytes());
        }
        // Neither extended attributes nor short names.
        entry.resize(self.fixed(), 0);
        match self {
            Self::IdBothDirectory | Self::IdFullDirectory => {
                let at = self.fixed() - 8;
                entry[at..].copy_from_slice(&metadata.ino().to_le_bytes());
            }
            Self::Directory | Self::FullDirectory | Self::BothDirectory | Self::Names => {}
        }
        entry.extend(name.iter().copied().flat_map(u16::to_le_bytes));
        entry
    }
}

/// Whether a name matches an expression (FsRtlIsNameInExpression), both in upper case.
fn matches(expression: &[char], name: &[char]) -> bool {
    let Some((first, rest)) = expression.split_first() else { return name.is_empty() };
    let skipping = |limit: usize| (0..=limit).any(|count| matches(rest, &name[count..]));
    match (first, name.split_first()) {
        ('*', _) => skipping(name.len()),
        // DOS_STAR: as far as the last period, or to the end.
        ('<', _) => {
            let period = name.iter().rposition(|unit| *unit == '.');
            skipping(period.unwrap_or(name.len()))
        }
        // DOS_QM is nothing before a period and at the end, and DOS_DOT is nothing at the end.
        ('>', Some(('.', _)) | None) | ('"', None) => matches(rest, name),
        ('?' | '>', Some((_, others))) | ('"', Some(('.', others))) => matches(rest, others),
        (exact, Some((unit, others))) if exact == unit => matches(rest, others),
        (_, Some(_) | None) => false,
    }
}

fn upper(text: &str) -> Vec<char> {
    text.chars().flat_map(char::to_uppercase).collect()
}

/// The scan of an open directory, which the first query begins.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    expression: Vec<char>,
    names: Vec<String>,
    next: usize,
    /// No query of it has returned anything yet.
    is_first: bool,
}

impl Scan {
    /// Of a directory; the root has no entries for itself and for what is above.
    pub(super) fn begin(folder: &Path, is_root: bool, expression: &str) -> std::io::Result<Self> {
        let expression = if expression.is_empty() { vec!['*'] } else { upper(expression) };
        let mut scan = Self { expression, names: Vec::new(), next: 0, is_first: true };
        scan.restart(folder, is_root)?;
        Ok(scan)
    }

    /// From the first entry on, with what is there now.
    pub(super) fn restart(&mut self, folder: &Path, is_root: bool) -> std::io::Result<()> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        if !is_root {
            names.extend([".".to_owned(), "..".to_owned()]);
        }
        names.retain(|name| matches(&self.expression, &upper(name)));
        names.sort_by_cached_key(|name| upper(name));
        (self.names, self.next) = (names, 0);
        Ok(())
    }

    /// The next entries for a buffer, and whether they are whole.
    pub(super) fn read(
        &mut self,
        folder: &Path,
        class: Class,
        room: usize,
        single: bool,
    ) -> Result<(NTSTATUS, Vec<u8>), NTSTATUS> {
        let is_first = std::mem::replace(&mut self.is_first, false);
        if is_first && room < class.fixed() {
            self.is_first = true;
            return Err(STATUS_INFO_LENGTH_MISMATCH);
        }
        let (mut buffer, mut last) = (Vec::new(), None);
        while let Some(name) = self.names.get(self.next) {
            // What has gone since the scan began is no entry any more.
            let Ok(metadata) = folder.join(name).metadata() else {
                self.next += 1;
                continue;
            };
            let mut entry = class.entry(&name.encode_utf16().collect::<Vec<_>>(), &metadata);
            let start = buffer.len().next_multiple_of(8);
            if start + entry.len() > room {
                if is_first && last.is_none() {
                    entry.truncate(room);
                    self.next += 1;
                    return Ok((STATUS_BUFFER_OVERFLOW, entry));
                }
                return Ok((STATUS_SUCCESS, buffer));
            }
            if let Some(last) = last.replace(start) {
                let offset = (start - last) as u32;
                buffer[last..last + 4].copy_from_slice(&offset.to_le_bytes());
            }
            buffer.resize(start, 0);
            buffer.extend(entry);
            self.next += 1;
            if single {
                break;
            }
        }
        match last {
            Some(_) => Ok((STATUS_SUCCESS, buffer)),
            None => Err(if is_first { STATUS_NO_SUCH_FILE } else { STATUS_NO_MORE_FILES }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_expressions_as_file_systems_have_them() {
        for (expression, name, is_match) in [
            ("*", "anything.at.all", true),
            ("*.LOG", "Driver.log", true),
            ("*.log", "driver.log.1", false),
            ("*.*", "without", false),
            ("*.*", "with.dot", true),
            ("a?c", "ABC", true),
            ("a?c", "ac", false),
            ("a*b*c", "a-b-b-c", true),
            ("<.txt", "one.two.txt", true),
            ("<.txt", "txt", false),
            ("a>>", "a", true),
            ("a>>.b", "ax.b", true),
            ("a>>", "abcd", false),
            ("name\"", "name", true),
            ("name\"x", "name.x", true),
            ("exact", "exactly", false),
        ] {
            assert_eq!(matches(&upper(expression), &upper(name)), is_match, "{expression} and {name}");
        }
    }
}
