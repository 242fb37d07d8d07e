//! What went wrong, and what the reader can do next.

use std::fmt::Display;
use std::io;
use std::path::Path;

/// A step that did not end as it should.
pub(crate) struct Failure {
    pub(crate) what: String,
    pub(crate) next: String,
}

impl Failure {
    pub(crate) fn new(what: impl Display, next: impl Display) -> Self {
        Self { what: what.to_string(), next: next.to_string() }
    }

    /// The driver or the harness did what it should not: nothing that the reader has set up.
    pub(crate) fn defect(what: impl Display) -> Self {
        Self::new(
            what,
            "run cargo demo again; if it fails again, this is a bug: cargo verify tells which scenario shows it",
        )
    }

    /// A file or folder of the demo's own.
    pub(crate) fn file(doing: &str, path: &Path, error: &io::Error) -> Self {
        let next = "see that the folder target/ can be written to, and that the disk is not full";
        Self::new(format!("cannot {doing} {}: {error}", path.display()), next)
    }
}

impl From<san_proxy::Error> for Failure {
    fn from(error: san_proxy::Error) -> Self {
        match error.hint() {
            Some(hint) => Self::new(error, hint),
            None => Self::defect(error),
        }
    }
}
