//! Functions and source lines of a driver, from the PDB that lies beside its image.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use pdb_addr2line::ContextPdbData;
use pdb_addr2line::pdb::PDB;

use super::registry;

/// A frame of a backtrace. One address gives several, where functions were inlined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The image's file name.
    pub image: String,
    /// The offset from the image's start.
    pub rva: u32,
    /// The function, where the PDB names it.
    pub function: Option<String>,
    /// The source file and line.
    pub source: Option<(String, u32)>,
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:#x}", self.image, self.rva)?;
        if let Some(function) = &self.function {
            write!(f, " {function}")?;
        }
        if let Some((file, line)) = &self.source {
            write!(f, " at {file}:{line}")?;
        }
        Ok(())
    }
}

/// Names the given addresses. The PDB is read anew: reports are rare.
pub(crate) fn resolve(addresses: &[usize]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut rest =
        addresses.iter().filter_map(|address| registry::find(*address).map(|image| (*address, image))).peekable();
    while let Some((first, image)) = rest.next() {
        let rva_of = |address| u32::try_from(address - image.base()).unwrap_or(u32::MAX);
        let mut rvas = vec![rva_of(first)];
        while let Some((address, _)) = rest.next_if(|(_, same)| std::ptr::eq(&raw const **same, &raw const *image)) {
            rvas.push(rva_of(address));
        }
        frames.extend(name(image.path(), &rvas));
    }
    frames
}

fn name(path: &Path, rvas: &[u32]) -> Vec<Frame> {
    let image = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let bare = |rva| Frame { image: image.clone(), rva, function: None, source: None };
    let data = pdb_of(path).and_then(|pdb| File::open(pdb).ok()).and_then(|file| PDB::open(file).ok());
    let Some(data) = data.and_then(|pdb| ContextPdbData::try_from_pdb(pdb).ok()) else {
        return rvas.iter().copied().map(bare).collect();
    };
    let Ok(context) = data.make_context() else { return rvas.iter().copied().map(bare).collect() };
    let mut frames = Vec::new();
    for rva in rvas.iter().copied() {
        match context.find_frames(rva) {
            Ok(Some(found)) => frames.extend(found.frames.iter().map(|frame| Frame {
                image: image.clone(),
                rva,
                function: frame.function.clone(),
                source: frame.file.as_ref().map(|file| (file.to_string(), frame.line.unwrap_or(0))),
            })),
            _ => frames.push(bare(rva)),
        }
    }
    frames
}

/// `name.pdb` beside `name.sys`; where Cargo built it, the PDB keeps the crate's name, which is the same.
fn pdb_of(image: &Path) -> Option<PathBuf> {
    let beside = image.with_extension("pdb");
    beside.is_file().then_some(beside)
}
