//! Debian's and Ubuntu's packages, downloaded and unpacked for this project alone: nothing is installed, no root is needed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    output_root,
    progress::{run_quietly, say},
};

/// What the system itself lacks.
#[derive(Clone, Copy)]
pub(crate) struct Missing {
    pub(crate) rust: bool,
    pub(crate) llvm: bool,
    pub(crate) mingw_headers: bool,
}

/// The folder that packages are unpacked in.
pub(crate) struct PrivateRoot(PathBuf);

/// Whether this system has the tools that download and unpack packages.
pub(crate) fn is_debian_like() -> bool {
    ["/usr/bin/apt-get", "/usr/bin/apt-cache", "/usr/bin/dpkg"].iter().all(|tool| Path::new(tool).exists())
}

impl PrivateRoot {
    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    pub(crate) fn usr(&self) -> PathBuf {
        self.0.join("usr")
    }

    pub(crate) fn library_folders(&self) -> Vec<PathBuf> {
        let multiarch = format!("{}-linux-gnu", std::env::consts::ARCH);
        vec![self.usr().join("lib").join(multiarch), self.usr().join("lib")]
    }
}

pub(crate) fn set_up(_missing: Missing) -> Result<PrivateRoot> {
    bail!("private packages: not yet")
}
