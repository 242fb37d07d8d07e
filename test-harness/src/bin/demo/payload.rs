//! The file that travels, and fingerprints of files.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::failure::Failure;

/// SHA-256 of something.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 32]);

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// Takes the fingerprint of what is written to it.
#[derive(Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Fingerprint {
        Fingerprint(self.0.finalize().into())
    }
}

/// Name of the big file in [`Folder`].
pub(crate) const DATA: &str = "data.bin";
/// Title of the page in [`Folder`].
pub(crate) const TITLE: &str = "A page for sanwsk.sys";

/// A folder with a page and a big file of random bytes, gone when this is dropped.
pub(crate) struct Folder {
    path: PathBuf,
    pub(crate) size: u64,
    pub(crate) fingerprint: Fingerprint,
}

impl Folder {
    pub(crate) fn create(size: u64) -> Result<Self, Failure> {
        let path = driver_build::workspace_root().join("target/demo").join(std::process::id().to_string());
        let mut folder = Self { path, size, fingerprint: Hasher::default().finish() };
        fs::create_dir_all(&folder.path).map_err(|error| Failure::file("create", &folder.path, &error))?;
        let page = folder.file("index.html");
        let text = format!("<!doctype html>\n<title>{TITLE}</title>\n<p>It came through WskReceive.</p>\n");
        fs::write(&page, text).map_err(|error| Failure::file("write", &page, &error))?;
        let data = folder.file(DATA);
        folder.fingerprint = generate(&data, size).map_err(|error| Failure::file("write", &data, &error))?;
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that stays is no harm; the next demo has another.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn generate(path: &Path, size: u64) -> io::Result<Fingerprint> {
    let mut file = File::create(path)?;
    through(File::open("/dev/urandom")?.take(size), |bytes| file.write_all(bytes))
}

/// The fingerprint of a file.
pub(crate) fn fingerprint(path: &Path) -> io::Result<Fingerprint> {
    through(File::open(path)?, |_| Ok(()))
}

fn through(mut source: impl Read, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<Fingerprint> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = source.read(&mut buffer)?;
        if length == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..length]);
        each(&buffer[..length])?;
    }
}
