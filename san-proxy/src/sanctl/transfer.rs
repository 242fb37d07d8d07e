//! `sanctl send` and `sanctl receive`: a file, and the proof that it is the same.
//!
//! What goes over the connection, numbers little-endian:
//!
//! | from | what | bytes |
//! | --- | --- | ---: |
//! | sender | `SANFILE1` | 8 |
//! | sender | length of the file's name, 1 to 255 | 2 |
//! | sender | length of the file | 8 |
//! | sender | the name in UTF-8, without folders | |
//! | receiver | a [`Verdict`]: whether it wants the file | 1 |
//! | sender | the file | |
//! | sender | SHA-256 of the file | 32 |
//! | receiver | a [`Verdict`]: whether it has the file | 1 |

use super::failure::{Failure, cannot_write};
use super::path::{Connection, Path};
use super::progress::Progress;
use super::{Streams, report, seconds, socket_address};
use crate::error::Error;
use crate::provider::Provider;
use indicatif::HumanBytes;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path as FilePath, PathBuf};
use std::time::{Duration, Instant};

pub(super) const SEND_EXAMPLES: &str = "\
Examples:
  sanctl send backup.vhdx 10.77.0.9:5000
  sanctl send --san report.pdf 192.0.2.7:5000

On the other machine: sanctl receive 0.0.0.0:5000. The receiver compares SHA-256 sums before the file gets its name,
and this end waits for its word.";

pub(super) const RECEIVE_EXAMPLES: &str = "\
Examples:
  sanctl receive 0.0.0.0:5000                    into this folder, under the sender's name
  sanctl receive 0.0.0.0:5000 D:\\in\\            into that folder
  sanctl receive 0.0.0.0:5000 copy.bin --force   under this name, in place of what has it

The file has a temporary name (.NAME.part) until all of it has come and its SHA-256 sum is the sender's.";

const MAGIC: [u8; 8] = *b"SANFILE1";
const MAX_NAME: usize = 255;
/// Bytes that are read and sent at once.
const CHUNK: usize = 64 * 1024;
const SUM_LENGTH: usize = 32;

/// Names that are devices of Windows in every folder, with any extension.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "com", "lpt"];

#[derive(clap::Args)]
pub(super) struct SendArguments {
    /// The file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where sanctl receive listens.
    #[arg(value_name = "ADDR:PORT", value_parser = socket_address)]
    address: SocketAddr,
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Args)]
pub(super) struct ReceiveArguments {
    /// Local IP address and port to listen at.
    #[arg(value_name = "ADDR:PORT", value_parser = socket_address)]
    address: SocketAddr,
    /// File or folder to receive into; without it, this folder and the sender's name.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Replace a file that has the name already.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Args)]
struct Common {
    /// Give up when nothing moves for so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "30")]
    timeout: Duration,
    /// No progress bar, and nothing said if all is well.
    #[arg(long, short)]
    quiet: bool,
    /// Print what was moved as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    path: Path,
}

/// What the receiver says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Go on, or: it is here and its sum is right.
    Good = 0,
    /// There is a file of that name.
    Exists = 1,
    /// The receiver cannot write it.
    CannotWrite = 2,
    /// The name is none that a file may have there.
    BadName = 3,
    /// What has come is not what was sent.
    SumDiffers = 4,
}

impl Verdict {
    const ALL: [Self; 5] = [Self::Good, Self::Exists, Self::CannotWrite, Self::BadName, Self::SumDiffers];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| *verdict as u8 == byte)
    }

    /// As the sender tells it.
    fn into_result(self) -> Result<(), Failure> {
        let (what, hint) = match self {
            Self::Good => return Ok(()),
            Self::Exists => ("there is a file of that name", "receive it under another name, or with --force"),
            Self::CannotWrite => ("it cannot write the file", "see what sanctl receive says there"),
            Self::BadName => {
                ("it takes no file of that name", "rename it, or name a file after sanctl receive ADDR:PORT")
            }
            Self::SumDiffers => {
                ("what has come is not what was sent", "send it again; if it stays so, test the memory and the network")
            }
        };
        Err(Failure::Peer { what: format!("the receiver refuses: {what}"), hint: Some(hint) })
    }
}

/// What was moved.
struct Summary<'a> {
    what: &'a str,
    file: &'a FilePath,
    length: u64,
    time: Duration,
    sum: [u8; SUM_LENGTH],
    connection: &'a Connection,
}

impl Summary<'_> {
    fn print(&self, common: &Common, streams: &mut Streams<'_>) -> Result<(), Failure> {
        let Self { what, file, length, time, sum, connection } = self;
        let sum = hex(sum);
        let seconds = time.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = if seconds > 0.0 { *length as f64 / seconds } else { 0.0 };
        if common.json {
            let value = json!({
                "file": file.display().to_string(),
                "bytes": length,
                "seconds": seconds,
                "bytes_per_second": rate,
                "sha256": sum,
                "path": connection.path_name(),
                "peer": connection.peer.to_string(),
            });
            return writeln!(streams.output, "{value:#}").map_err(cannot_write);
        }
        if common.quiet {
            return Ok(());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive rate for people")]
        let rate = HumanBytes(rate as u64);
        let (file, length) = (file.display(), HumanBytes(*length));
        writeln!(
            streams.output,
            "{what} {file}: {length} in {seconds:.2} s, {rate}/s\nSHA-256 {sum}, the same at both ends"
        )
        .map_err(cannot_write)
    }
}

/// As sums are written.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A string takes everything.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn cannot_send(error: io::Error) -> Failure {
    Failure::network("send", None, error)
}

/// Reads as much as there has to be. A peer that ends before is said to be cut short.
fn receive_exact(mut connection: &Connection, buffer: &mut [u8], what: &str) -> Result<(), Failure> {
    connection.read_exact(buffer).map_err(|error| {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Failure::peer(format!("the connection ended before {what} had come"))
        } else {
            Failure::network("receive", None, error)
        }
    })
}

fn receive_verdict(connection: &Connection) -> Result<(), Failure> {
    let mut byte = [0];
    receive_exact(connection, &mut byte, "the receiver's answer")?;
    match Verdict::from_byte(byte[0]) {
        Some(verdict) => verdict.into_result(),
        None => Err(not_sanctl("receive")),
    }
}

fn not_sanctl(expected: &'static str) -> Failure {
    let hint = Some("run sanctl of the same version at both ends, sanctl send and sanctl receive");
    Failure::Peer { what: format!("the other side is no sanctl {expected}"), hint }
}

impl SendArguments {
    pub(super) fn run(
        &self,
        open: impl FnOnce() -> Result<Provider, Error>,
        streams: &mut Streams<'_>,
    ) -> Result<(), Failure> {
        let shown = self.file.display();
        let mut file = File::open(&self.file).map_err(|error| Failure::io(format!("open {shown}"), error))?;
        let metadata = file.metadata().map_err(|error| Failure::io(format!("read {shown}"), error))?;
        let name = self.file.file_name().and_then(|name| name.to_str()).filter(|name| name.len() <= MAX_NAME);
        let (Some(name), true) = (name, metadata.is_file()) else {
            let hint = "give a file whose name is Unicode of at most 255 bytes; pack a folder first";
            return Err(Failure::Other { what: format!("cannot send {shown}: it is no such file"), hint });
        };
        let mut connection = self.common.path.open(open)?.connect(self.address, Some(self.common.timeout))?;
        connection.set_timeout(self.common.timeout)?;
        if !self.common.quiet {
            report(streams.errors, &connection);
        }
        let started = Instant::now();
        let progress = Progress::new(streams, metadata.len(), self.common.quiet);
        let sent = self.send(&connection, &mut file, name, metadata.len(), &progress, streams);
        progress.end(streams);
        let (sum, time) = (sent?, started.elapsed());
        let what =
            Summary { what: "sent", file: &self.file, length: metadata.len(), time, sum, connection: &connection };
        what.print(&self.common, streams)?;
        connection.finish();
        Ok(())
    }

    fn send(
        &self,
        mut connection: &Connection,
        file: &mut File,
        name: &str,
        length: u64,
        progress: &Progress,
        streams: &mut Streams<'_>,
    ) -> Result<[u8; SUM_LENGTH], Failure> {
        let mut header = MAGIC.to_vec();
        header.extend(u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes());
        header.extend(length.to_le_bytes());
        header.extend(name.as_bytes());
        connection.write_all(&header).map_err(cannot_send)?;
        receive_verdict(connection)?;
        let (mut sum, mut left, mut buffer) = (Sha256::new(), length, vec![0; CHUNK]);
        while left > 0 {
            let part = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let shown = self.file.display();
            file.read_exact(&mut buffer[..part]).map_err(|error| Failure::io(format!("read {shown}"), error))?;
            sum.update(&buffer[..part]);
            connection.write_all(&buffer[..part]).map_err(cannot_send)?;
            left -= part as u64;
            progress.advance(part as u64, streams);
        }
        let sum: [u8; SUM_LENGTH] = sum.finalize().into();
        connection.write_all(&sum).map_err(cannot_send)?;
        receive_verdict(connection)?;
        Ok(sum)
    }
}

impl ReceiveArguments {
    pub(super) fn run(
        &self,
        open: impl FnOnce() -> Result<Provider, Error>,
        streams: &mut Streams<'_>,
    ) -> Result<(), Failure> {
        let network = self.common.path.open(open)?;
        let listener = network.listen(self.address, None)?;
        if !self.common.quiet {
            report(streams.errors, &format_args!("listening on {listener}"));
        }
        let mut connection = listener.accept()?;
        drop(listener);
        connection.set_timeout(self.common.timeout)?;
        if !self.common.quiet {
            report(streams.errors, &connection);
        }
        let started = Instant::now();
        let received = self.receive(&connection, streams);
        let time = started.elapsed();
        let verdict = match &received {
            Ok(_) => Some(Verdict::Good),
            Err(Refusal { verdict, .. }) => *verdict,
        };
        if let Some(verdict) = verdict {
            // What failed here is told whether the sender hears of it or not.
            let _ = (&connection).write_all(&[verdict as u8]);
        }
        let told = match received {
            Ok((file, length, sum)) => {
                let what = Summary { what: "received", file: &file, length, time, sum, connection: &connection };
                what.print(&self.common, streams)
            }
            Err(Refusal { failure, .. }) => Err(failure),
        };
        connection.finish();
        told
    }

    fn receive(
        &self,
        connection: &Connection,
        streams: &mut Streams<'_>,
    ) -> Result<(PathBuf, u64, [u8; SUM_LENGTH]), Refusal> {
        let (name, length) = receive_header(connection)?;
        let file = self.target(&name)?;
        if !self.force && fs::symlink_metadata(&file).is_ok() {
            return Err(exists(&file));
        }
        let mut temporary = Temporary::create(&file)?;
        (&*connection).write_all(&[Verdict::Good as u8]).map_err(cannot_send)?;
        let progress = Progress::new(streams, length, self.common.quiet);
        let received = temporary.fill(connection, length, &progress, streams);
        progress.end(streams);
        let sum = received?;
        let mut expected = [0; SUM_LENGTH];
        receive_exact(connection, &mut expected, "the file's SHA-256 sum")?;
        if sum != expected {
            let hint = Some("have it sent again; if it stays so, test the memory and the network");
            let what = "what has come is not what was sent: the SHA-256 sums differ, and the file is dropped".into();
            return Err(Refusal { verdict: Some(Verdict::SumDiffers), failure: Failure::Peer { what, hint } });
        }
        temporary.keep(&file, self.force)?;
        Ok((file, length, sum))
    }

    /// Where the file is to be.
    fn target(&self, name: &str) -> Result<PathBuf, Refusal> {
        match &self.file {
            Some(file) if !file.is_dir() => Ok(file.clone()),
            folder if is_plain(name) => Ok(folder.clone().unwrap_or_default().join(name)),
            _ => Err(Refusal {
                verdict: Some(Verdict::BadName),
                failure: Failure::Peer {
                    what: format!("the sender's name for the file is not taken: {name:?}"),
                    hint: Some("name the file here: sanctl receive ADDR:PORT FILE"),
                },
            }),
        }
    }
}

/// Why nothing was received, and what the sender is told of it, if it can be told.
struct Refusal {
    verdict: Option<Verdict>,
    failure: Failure,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let verdict = match &failure {
            Failure::Io { .. } | Failure::Other { .. } => Some(Verdict::CannotWrite),
            Failure::San(_) | Failure::Tcp { .. } | Failure::Config(_) | Failure::Peer { .. } => None,
        };
        Self { verdict, failure }
    }
}

fn exists(file: &FilePath) -> Refusal {
    let hint = "give another name, or --force to replace it";
    let what = format!("{} is there already", file.display());
    Refusal { verdict: Some(Verdict::Exists), failure: Failure::Other { what, hint } }
}

fn receive_header(connection: &Connection) -> Result<(String, u64), Failure> {
    let (mut magic, mut name_length, mut length) = ([0; MAGIC.len()], [0; 2], [0; 8]);
    receive_exact(connection, &mut magic, "the header")?;
    if magic != MAGIC {
        return Err(not_sanctl("send"));
    }
    receive_exact(connection, &mut name_length, "the header")?;
    receive_exact(connection, &mut length, "the header")?;
    let name_length = usize::from(u16::from_le_bytes(name_length));
    if !(1..=MAX_NAME).contains(&name_length) {
        return Err(not_sanctl("send"));
    }
    let mut name = vec![0; name_length];
    receive_exact(connection, &mut name, "the file's name")?;
    let name = String::from_utf8(name).map_err(|_| not_sanctl("send"))?;
    Ok((name, u64::from_le_bytes(length)))
}

/// Whether a file of this name lies in the folder it is put in, on Windows and elsewhere, and is a file.
fn is_plain(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_lowercase();
    let device = stem.trim_end_matches(|last: char| last.is_ascii_digit());
    let is_device = DEVICES.contains(&device) && stem.len() <= device.len() + 1;
    let reserved = |letter: char| letter.is_control() || r#"/\:*?"<>|"#.contains(letter);
    !is_device && !name.contains(reserved) && !name.ends_with(['.', ' ']) && !name.starts_with('.')
}

/// A file that has not come whole yet: it goes when it is dropped.
struct Temporary {
    file: File,
    name: PathBuf,
    kept: bool,
}

impl Temporary {
    fn create(target: &FilePath) -> Result<Self, Failure> {
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(target.file_name().unwrap_or_default());
        hidden.push(format!(".{}.part", std::process::id()));
        let name = target.with_file_name(hidden);
        match File::create_new(&name) {
            Ok(file) => Ok(Self { file, name, kept: false }),
            Err(error) => Err(Failure::io(format!("create {}", name.display()), error)),
        }
    }

    /// Takes the file. Its sum.
    fn fill(
        &mut self,
        mut connection: &Connection,
        length: u64,
        progress: &Progress,
        streams: &mut Streams<'_>,
    ) -> Result<[u8; SUM_LENGTH], Failure> {
        let (mut sum, mut left, mut buffer) = (Sha256::new(), length, vec![0; CHUNK]);
        while left > 0 {
            let part = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let received = connection.read(&mut buffer[..part]);
            let received = received.map_err(|error| Failure::network("receive", None, error))?;
            if received == 0 {
                let have = length - left;
                return Err(Failure::peer(format!("the connection ended early: {have} of {length} bytes have come")));
            }
            sum.update(&buffer[..received]);
            self.file.write_all(&buffer[..received]).map_err(|error| self.cannot_write(error))?;
            left -= received as u64;
            progress.advance(received as u64, streams);
        }
        Ok(sum.finalize().into())
    }

    fn cannot_write(&self, error: io::Error) -> Failure {
        Failure::io(format!("write {}", self.name.display()), error)
    }

    /// Gives it its name. Without `force` that takes no other file's place, even one that has come meanwhile.
    fn keep(mut self, target: &FilePath, force: bool) -> Result<(), Refusal> {
        self.file.sync_all().map_err(|error| self.cannot_write(error))?;
        if !force {
            match File::create_new(target) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(exists(target)),
                Err(error) => return Err(Failure::io(format!("create {}", target.display()), error).into()),
            }
        }
        fs::rename(&self.name, target)
            .map_err(|error| Failure::io(format!("rename {} to {}", self.name.display(), target.display()), error))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            // There is nobody to tell; the name says what it is.
            let _ = fs::remove_file(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_or_to_a_device_are_not_taken() {
        for good in
            ["a", "a.txt", "Grüße 1.tar.gz", "console.txt", "com10", "lpt", "nulls"].map(|name| (name, name != "lpt"))
        {
            assert_eq!(is_plain(good.0), good.1, "{}", good.0);
        }
        for bad in [
            "", ".", "..", "../a", "a/b", "a\\b", "C:a", "a:stream", "a*", "a?", "nul", "NUL.txt", "Con", "com1",
            "LPT9.log", "aux .x", "a.", "a ", ".hidden", "a\nb", "a\"", "a|b",
        ] {
            assert!(bad.is_empty() || !is_plain(bad), "{bad:?}");
        }
    }

    #[test]
    fn sums_are_written_as_others_write_them() {
        // FIPS 180-4's example.
        let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(&Sha256::digest(b"abc")), sum);
    }

    #[test]
    fn every_verdict_has_its_byte() {
        for verdict in Verdict::ALL {
            assert_eq!(Verdict::from_byte(verdict as u8), Some(verdict));
            assert_eq!(verdict.into_result().is_ok(), verdict == Verdict::Good);
        }
        assert_eq!(Verdict::from_byte(9), None);
    }
}
