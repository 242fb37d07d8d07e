//! What is fuzzed.

mod operations;
mod raw;
mod wire;

use std::path::{Path, PathBuf};

use crate::bed::{Bed, Failure};

/// A surface of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Target {
    /// Requests as bytes: any control code, input and length of output
    Raw,
    /// Sequences of operations that make sense, or do not, held against a model
    Operations,
    /// What a foreign peer sends to an acceptor and to a connector
    Wire,
}

impl Target {
    pub(crate) const ALL: [Self; 3] = [Self::Raw, Self::Operations, Self::Wire];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Operations => "operations",
            Self::Wire => "wire",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.name() == name)
    }

    /// The target of a file: its folder is named after the target, or its name begins with that name.
    pub(crate) fn of_file(file: &Path) -> Option<Self> {
        let folder = file.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        let prefix = file.file_name().and_then(|name| name.to_str()).and_then(|name| name.split('-').next());
        folder.and_then(Self::named).or_else(|| prefix.and_then(Self::named))
    }

    /// The inputs that are kept with the project.
    pub(crate) fn corpus(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(self.name())
    }

    /// Tries an input. Whatever it makes of the driver, the driver has to stand; the bed looks at that afterwards.
    pub(crate) fn run(self, bed: &Bed, input: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Raw => raw::run(bed, input),
            Self::Operations => operations::run(bed, input),
            Self::Wire => wire::run(bed, input),
        }
    }
}
