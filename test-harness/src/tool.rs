//! The harness as a tool, `cargo harness`: loads any driver, and runs `sanctl` against the real one.

mod exchange;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use san_protocol::{NtStatus, ProviderState};
use san_proxy::{Error, Operation, Provider, sanctl};

use self::exchange::{Operation as Request, exchange};
use crate::device::HarnessDevice;
use crate::image::{ImageError, ImportName, Mapped};
use crate::machine::Unload;
use crate::nt::etw::{Enabling, TraceSession};
use crate::nt::registry::Value;
use crate::nt::runtime::missing_import;
use crate::nt::status;
use crate::{Builder, Driver, LoadError, Machine};

/// Runs Windows kernel drivers on this machine.
#[derive(Parser)]
#[command(
    name = "cargo harness",
    bin_name = "cargo harness",
    version,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  cargo harness run target/driver/x64/sanwsk.sys
  cargo harness run --seconds 10 --parameter Port=5000 echosrv.sys
  cargo harness run --io write:hello --io read:16 echo.sys
  cargo harness run --open '\\\\.\\IoctlTest' --io control:0x9c402408:hello:100 sioctl.sys
  cargo harness sanctl status
  cargo harness sanctl --trace 4 selftest
  cargo harness sanctl connect 127.0.0.1:8000 < request.txt
  cargo harness sanctl --parameter 'Routes=10.77.0.0/16 127.0.0.0/16' route list

Exit status: 0 done, 1 something failed, 2 wrong arguments."
)]
enum Command {
    /// Load a WDM or KMDF driver, let it run, unload it, and report what it did wrong.
    ///
    /// Its entry point runs; a driver of Plug and Play gets a root-enumerated device, which is added and started. Then its threads,
    /// timers and sockets have some time, on the network of this machine. The device is removed, and the driver unloaded.
    ///
    /// Shows the imports that nothing here provides (calling one ends the run), what the driver prints, what its routines
    /// returned, the rule that it broke with the driver's source lines if its PDB lies beside it, and what it leaves behind.
    /// docs/testing.md lists what a driver may import.
    Run {
        /// The driver's image, for x64.
        #[arg(value_name = "FILE.sys")]
        file: PathBuf,
        /// Name of the service; the file's name without it.
        #[arg(long)]
        name: Option<String>,
        /// Show the events that it traces, up to this level: 2 errors, 3 warnings, 4 what is ordinary, 5 everything.
        #[arg(long, value_name = "LEVEL")]
        trace: Option<u8>,
        /// How long it may run before it is unloaded.
        #[arg(long, value_name = "SECONDS", default_value = "1")]
        seconds: f64,
        /// A request to the driver's device, once it is there: write:TEXT, read:BYTES or control:CODE[:INPUT[:BYTES]], one after
        /// the other. TEXT and INPUT may be bytes, as 0x00ff.
        #[arg(long = "io", value_name = "REQUEST")]
        requests: Vec<Request>,
        /// The path of the device to open for them; without it, the first that the driver has named.
        #[arg(long, value_name = "PATH")]
        open: Option<String>,
        /// Take what the documentation only advises against for a broken rule, too.
        #[arg(long)]
        strict: bool,
        /// A registry value under the service's Parameters key, as Port=5000. What is no number is a line of a REG_MULTI_SZ.
        #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = parameter)]
        parameters: Vec<(String, String)>,
        /// A host that the driver finds by its name, as example.com=127.0.0.1. No name service is asked.
        #[arg(long = "host", value_name = "NAME=ADDRESS", value_parser = host)]
        hosts: Vec<(String, IpAddr)>,
        /// Microsoft's Wdf01000.sys for KMDF drivers, in place of the harness' own framework; else what SANWSK_KMDF names.
        #[arg(long, value_name = "Wdf01000.sys", value_parser = existing_file)]
        kmdf: Option<PathBuf>,
    },

    /// Load sanwsk.sys and run sanctl against it, on the network of this machine.
    #[command(disable_help_flag = true)]
    Sanctl {
        /// The driver's image; without it, the one that cargo driver has built.
        #[arg(long, value_name = "FILE.sys")]
        driver: Option<PathBuf>,
        /// A registry value of the driver, as NativePort=28058. What is no number is a line of a REG_MULTI_SZ.
        #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = parameter)]
        parameters: Vec<(String, String)>,
        /// Show the driver's events on the error output at the end, up to this level: 2 errors, 3 warnings, 4 what is
        /// ordinary, 5 everything.
        #[arg(long, value_name = "LEVEL")]
        trace: Option<u8>,
        /// Microsoft's Wdf01000.sys for KMDF drivers, in place of the harness' own framework; else what SANWSK_KMDF names.
        #[arg(long, value_name = "Wdf01000.sys", value_parser = existing_file)]
        kmdf: Option<PathBuf>,
        /// What sanctl is to do; --help shows what it can.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

fn existing_file(path: &str) -> Result<PathBuf, &'static str> {
    Some(PathBuf::from(path)).filter(|path| path.is_file()).ok_or("there is no such file")
}

fn parameter(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("give a name and a value, as NativePort=28058")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn host(text: &str) -> Result<(String, IpAddr), &'static str> {
    let parts = text.split_once('=').and_then(|(name, address)| Some((name.to_owned(), address.parse().ok()?)));
    parts.ok_or("give a name and an address, as example.com=127.0.0.1")
}

/// Runs the tool. `arguments` begin with the program's name. The exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>, streams: sanctl::Streams<'_>) -> u8 {
    let outcome = match Command::try_parse_from(arguments) {
        Err(error) if error.use_stderr() => write!(streams.errors, "{}", error.render()).map(|()| sanctl::USAGE),
        Err(error) => write!(streams.output, "{}", error.render()).map(|()| sanctl::DONE),
        Ok(Command::Run { file, name, trace, seconds, parameters, requests, open, strict, hosts, kmdf }) => {
            let name = name.unwrap_or_else(|| file.file_stem().unwrap_or_default().to_string_lossy().into_owned());
            let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
            let builder = builder(&name, &parameters, kmdf.as_deref()).lenient(!strict);
            let machine = hosts.iter().fold(builder, |builder, (name, address)| builder.host(name, *address)).build();
            let run = Run { file: &file, name: &name, time, trace, requests, open };
            run_driver(&machine, &run, streams.output).map(|clean| if clean { sanctl::DONE } else { sanctl::FAILED })
        }
        Ok(Command::Sanctl { driver, parameters, trace, kmdf, arguments }) => {
            let machine = builder("sanwsk", &parameters, kmdf.as_deref()).build();
            Ok(run_sanctl(machine, driver.as_deref(), trace, arguments, streams))
        }
    };
    // Nobody is left to tell that output cannot be written.
    outcome.unwrap_or(sanctl::FAILED)
}

/// The imports of an image, and those of them that nothing provides.
///
/// # Errors
/// The file is no image that can be loaded.
pub fn imports(file: &Path) -> Result<(Vec<ImportName>, Vec<ImportName>), ImageError> {
    let image = Mapped::load(file, false, crate::nt::find, missing_import)?;
    Ok((image.imports().to_vec(), image.missing().to_vec()))
}

/// A machine to be, with registry values for a driver's service.
fn builder(service: &str, parameters: &[(String, String)], kmdf: Option<&Path>) -> Builder {
    let builder = if kmdf.is_some() { Machine::builder().kmdf(kmdf) } else { Machine::builder() };
    let values = registry_values(parameters).into_iter();
    values.fold(builder, |builder, (name, value)| builder.parameter(service, name, value))
}

/// What `run` is to do.
struct Run<'a> {
    file: &'a Path,
    name: &'a str,
    time: Duration,
    trace: Option<u8>,
    requests: Vec<Request>,
    open: Option<String>,
}

/// Whether all went well.
fn run_driver(machine: &Machine, run: &Run<'_>, output: &mut dyn Write) -> io::Result<bool> {
    let &Run { file, trace, .. } = run;
    let (all, missing) = match imports(file) {
        Ok(imports) => imports,
        Err(error) => {
            writeln!(output, "{}: {error}", file.display())?;
            return Ok(false);
        }
    };
    writeln!(output, "{}: {} imports, {} missing", file.display(), all.len(), missing.len())?;
    for import in &missing {
        writeln!(output, "  missing: {import}")?;
    }
    if !missing.is_empty() {
        writeln!(output, "it runs on until it calls one of them; docs/testing.md lists what there is")?;
    }
    let trace = trace.map(|level| tracing(machine, level));
    let (loaded, mut printed) = load(machine, run, output)?;
    let ended = match &loaded {
        Ok(driver) => {
            writeln!(output, "loaded: its entry point returned STATUS_SUCCESS")?;
            let used = use_driver(machine, driver, run, &mut printed, output)?;
            let ended = used.and_then(|()| unload(machine, driver));
            printed = print_debug(machine, printed, output)?;
            ended
        }
        Err(error) => Err(error.to_string()),
    };
    let clean = match ended {
        Ok(what) => {
            writeln!(output, "{what}")?;
            true
        }
        Err(why) => {
            writeln!(output, "{why}")?;
            false
        }
    };
    for note in machine.notes() {
        writeln!(output, "advised against: {note}")?;
    }
    if let Some(violation) = machine.violation() {
        writeln!(output, "{violation}")?;
        return Ok(false);
    }
    print_debug(machine, printed, output)?;
    print_events(trace.as_ref(), output)?;
    Ok(clean)
}

/// Loads the driver, and shows what it prints meanwhile; how much that was.
fn load(machine: &Machine, run: &Run<'_>, output: &mut dyn Write) -> io::Result<(Result<Driver, LoadError>, usize)> {
    /// How long an entry point may take before that is worth a line.
    const LONG: Duration = Duration::from_secs(5);
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| machine.load(run.file, run.name));
        let (begun, mut printed, mut told) = (Instant::now(), 0, false);
        while !loading.is_finished() {
            std::thread::sleep(Duration::from_millis(5));
            printed = print_debug(machine, printed, output)?;
            if begun.elapsed() > LONG && !std::mem::replace(&mut told, true) {
                writeln!(output, "its entry point has not returned yet")?;
            }
        }
        let loaded = loading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((loaded, print_debug(machine, printed, output)?))
    })
}

/// Lets a loaded driver run, on a device if it is one of Plug and Play; what went wrong.
fn use_driver(
    machine: &Machine,
    driver: &Driver,
    run: &Run<'_>,
    printed: &mut usize,
    output: &mut dyn Write,
) -> io::Result<Result<(), String>> {
    let device = if machine.adds_devices(driver) {
        let added = machine.add_device(driver);
        *printed = print_debug(machine, *printed, output)?;
        match added {
            Ok(device) => {
                writeln!(output, "a root device was added and started")?;
                Some(device)
            }
            Err(status) => return Ok(Err(format!("no device could be added: {}", status::name(status)))),
        }
    } else {
        None
    };
    let paths = machine.device_paths();
    for path in &paths {
        writeln!(output, "its device: {path}")?;
    }
    let path = run.open.as_ref().or(paths.first());
    let used = match path {
        Some(path) if run.open.is_some() || !run.requests.is_empty() => exchange(machine, path, &run.requests, output)?,
        Some(_) => Ok(()),
        None if run.requests.is_empty() => Ok(()),
        None => Err("it has no device that can be opened".to_owned()),
    };
    *printed = print_debug(machine, *printed, output)?;
    let end = Instant::now() + run.time;
    while Instant::now() < end && !machine.is_stopped() {
        std::thread::sleep(Duration::from_millis(10));
        *printed = print_debug(machine, *printed, output)?;
    }
    let Some(device) = device.filter(|_| !machine.is_stopped()) else { return Ok(used) };
    let removed = machine.remove_device(driver, device);
    *printed = print_debug(machine, *printed, output)?;
    match removed {
        Ok(()) => {
            writeln!(output, "the device was removed")?;
            Ok(used)
        }
        Err(status) => Ok(Err(format!("the device could not be removed: {}", status::name(status)))),
    }
}

/// A tracing session that has whatever drivers tell, up to a level.
fn tracing(machine: &Machine, level: u8) -> TraceSession {
    let session = machine.trace();
    session.enable_all(Enabling::level(level));
    session
}

/// Shows the events of a session.
fn print_events(trace: Option<&TraceSession>, output: &mut dyn Write) -> io::Result<()> {
    let Some(trace) = trace else { return Ok(()) };
    for event in trace.take_events() {
        writeln!(output, "{event}")?;
    }
    match trace.lost() {
        0 => Ok(()),
        lost => writeln!(output, "{lost} further events were lost"),
    }
}

fn unload(machine: &Machine, driver: &Driver) -> Result<&'static str, String> {
    match machine.unload(driver) {
        Ok(Unload::Done) => Ok("unloaded: nothing left behind"),
        Ok(Unload::Deferred) => Err("not unloaded: it has its own device open".to_owned()),
        Err(status::STATUS_INVALID_DEVICE_REQUEST) => Ok("it has no unload routine"),
        Err(error) => Err(format!("not unloaded: {}", status::name(error))),
    }
}

/// Shows what drivers have printed since `printed` messages; how many there are now.
fn print_debug(machine: &Machine, printed: usize, output: &mut dyn Write) -> io::Result<usize> {
    let messages = machine.debug_output();
    for line in messages.get(printed..).unwrap_or_default().concat().lines() {
        writeln!(output, "  debug: {line}")?;
    }
    Ok(messages.len())
}

/// How long the driver may take to capture the WSK provider NPI, and to be unloaded.
const PATIENCE: Duration = Duration::from_secs(5);

/// Values by their names: those that are given more than once, and those that are no numbers, are lines of a REG_MULTI_SZ.
fn registry_values(parameters: &[(String, String)]) -> BTreeMap<&str, Value> {
    let mut values = BTreeMap::<&str, Vec<String>>::new();
    for (name, value) in parameters {
        values.entry(name).or_default().push(value.clone());
    }
    let typed = |lines: Vec<String>| match &lines[..] {
        [line] => line.parse().map_or_else(|_| Value::List(lines.clone()), Value::Number),
        _ => Value::List(lines),
    };
    values.into_iter().map(|(name, lines)| (name, typed(lines))).collect()
}

/// A machine with the driver on it.
struct Bed {
    machine: Machine,
    driver: Driver,
    trace: Option<TraceSession>,
}

impl Bed {
    fn load(machine: Machine, file: &Path, trace: Option<u8>) -> Result<Self, String> {
        let trace = trace.map(|level| tracing(&machine, level));
        match machine.load(file, "sanwsk") {
            Ok(driver) => Ok(Self { machine, driver, trace }),
            Err(LoadError::Image(error @ ImageError::Io(_))) => {
                Err(format!("{}: {error}; cargo driver builds it", file.display()))
            }
            Err(error) => {
                let violation = machine.violation().map_or(String::new(), |violation| format!(": {violation}"));
                Err(format!("{}: {error}{violation}", file.display()))
            }
        }
    }

    /// The driver through a handle of a new process, once it has captured the WSK provider NPI, or has failed to.
    fn open(&self) -> Result<Provider, Error> {
        let provider = Provider::new(Arc::new(HarnessDevice::open(&Arc::new(self.machine.process()))?));
        let deadline = Instant::now() + PATIENCE;
        while provider.status()?.provider == ProviderState::Capturing && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(provider)
    }

    /// Unloads the driver, and shows its events; what it did wrong.
    fn finish(self, errors: &mut dyn Write) -> Result<(), String> {
        let unloaded = match unload(&self.machine, &self.driver) {
            // What ends behind a connection may have its handle still.
            Err(_) if self.machine.wait_unloaded(&self.driver, PATIENCE) => Ok(""),
            unloaded => unloaded,
        };
        // Nobody is left to tell if they cannot be written.
        let _ = print_events(self.trace.as_ref(), errors);
        match self.machine.violation() {
            Some(violation) => Err(violation.to_string()),
            None => unloaded.map(drop),
        }
    }
}

fn run_sanctl(
    machine: Machine,
    driver: Option<&Path>,
    trace: Option<u8>,
    arguments: Vec<OsString>,
    streams: sanctl::Streams<'_>,
) -> u8 {
    let built = driver_build::output_root().join("x64/sanwsk.sys");
    let file = driver.unwrap_or(&built);
    let mut bed = None;
    let open = || {
        // The driver is loaded only if sanctl needs it.
        bed.insert(Bed::load(machine, file, trace))
            .as_ref()
            .map_or(Err(Error::new(Operation::Open, NtStatus::UNSUCCESSFUL)), Bed::open)
    };
    let sanctl::Streams { input, output, errors, terminals } = streams;
    let arguments = std::iter::once("sanctl".into()).chain(arguments);
    let code = sanctl::run(arguments, open, sanctl::Streams { input, output, errors: &mut *errors, terminals });
    match bed.map(|bed| bed.and_then(|bed| bed.finish(errors))) {
        None | Some(Ok(())) => code,
        Some(Err(why)) => {
            report(errors, &why);
            sanctl::FAILED
        }
    }
}

fn report(errors: &mut dyn Write, what: &dyn fmt::Display) {
    // Nobody is left to tell if it cannot be written.
    let _ = writeln!(errors, "harness: {what}");
}
