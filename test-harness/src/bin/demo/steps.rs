//! The steps of the demo, one after the other, each within its time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use san_proxy::Provider;

use crate::bed::Bed;
use crate::console::{Console, News, duration, size};
use crate::failure::Failure;
use crate::neighbours::Neighbours;
use crate::payload::{DATA, Folder, TITLE, fingerprint};
use crate::programs::{Client, Server, end_all};
use crate::{http, refusals, san};

/// Shows the Windows driver sanwsk.sys at work on this Linux machine.
///
/// Builds the driver, loads the image in the harness (a simulated Windows kernel in this process), and has it exchange files with
/// programs of this machine over TCP on loopback; then loads it on two such machines and has them hold a SAN session. Needs python3 or busybox for an HTTP server, and curl, wget or python3 for a
/// client.
#[derive(Parser)]
#[command(
    name = "cargo demo",
    bin_name = "cargo demo",
    version,
    after_help = "\
Examples:
  cargo demo
  cargo demo --size 512
  NO_COLOR=1 cargo demo | tee demo.txt

Exit status: 0 all went well, 1 a step failed (the last lines say which, and what to do), 2 wrong arguments."
)]
struct Arguments {
    /// Size of the file that travels, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1024))]
    size: u64,
    /// An image that is built already; without it, the driver is built first.
    #[arg(long, value_name = "FILE.sys")]
    driver: Option<PathBuf>,
}

/// The first build on a machine may have to fetch compilers.
const BUILD_LIMIT: Duration = Duration::from_mins(30);
const TRAFFIC_LIMIT: Duration = Duration::from_mins(2);
const SHORT_LIMIT: Duration = Duration::from_secs(30);

/// Runs the demo.
pub(crate) fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let console = Arc::new(Console::new());
    let started = Instant::now();
    let (sender, news) = mpsc::channel();
    let shown = console.clone();
    thread::spawn(move || {
        let outcome = show(&arguments, &shown, &sender);
        // Nobody waits for the end of a demo that has been given up.
        let _ = sender.send(News::End(outcome));
    });
    let (mut step, mut limit) = ("start", SHORT_LIMIT);
    let outcome = loop {
        match news.recv_timeout(limit) {
            Ok(News::Step(title, within)) => (step, limit) = (title, within),
            Ok(News::End(outcome)) => break outcome,
            Err(RecvTimeoutError::Timeout) => {
                let what = format_args!("the step \"{step}\" did not end within {}", duration(limit));
                break Err(Failure::defect(what));
            }
            // The reason is on standard error.
            Err(RecvTimeoutError::Disconnected) => {
                break Err(Failure::defect(format_args!("the step \"{step}\" panicked")));
            }
        }
    };
    end_all();
    match outcome {
        Ok(()) => {
            console.good_end(format_args!("All went well, in {}.", duration(started.elapsed())));
            ExitCode::SUCCESS
        }
        Err(failure) => {
            console.bad_end(&failure);
            ExitCode::FAILURE
        }
    }
}

fn show(arguments: &Arguments, console: &Console, news: &Sender<News>) -> Result<(), Failure> {
    console.step(news, "What the demo needs", SHORT_LIMIT);
    let (server, client) = (Server::find()?, Client::find()?);
    console.done(format_args!("an HTTP server: {}", server.name()));
    console.done(format_args!("an HTTP client: {}", client.name()));
    let folder = Folder::create(arguments.size << 20)?;
    console.done(format_args!("a file of {} random bytes: SHA-256 {}", size(folder.size), folder.fingerprint));

    console.step(news, "The driver is built", BUILD_LIMIT);
    let image = build(arguments.driver.as_deref(), console)?;

    let bed = Bed::new();
    let outcome = with_driver(&bed, &image, server, client, &folder, console, news);
    bed.claim(outcome)?;

    console.step(news, "Two machines are neighbours on a SAN", SHORT_LIMIT);
    let neighbours = Neighbours::new()?;
    let outcome = with_neighbours(&neighbours, &image, &folder, console, news);
    neighbours.claim(outcome)
}

/// All that happens while the machine runs.
fn with_driver(
    bed: &Bed,
    image: &Path,
    server: Server,
    client: Client,
    folder: &Folder,
    console: &Console,
    news: &Sender<News>,
) -> Result<(), Failure> {
    console.step(news, "The image is loaded into a simulated Windows kernel", SHORT_LIMIT);
    let driver = bed.show_load(image, console)?;

    console.step(news, "It captures the WSK provider NPI", SHORT_LIMIT);
    let provider = bed.show_capture(console)?;

    console.step(news, "It fetches from an HTTP server that is not ours", TRAFFIC_LIMIT);
    fetch(&provider, server, folder, console)?;

    console.step(news, "It serves a file to an HTTP client that is not ours", TRAFFIC_LIMIT);
    serve(&provider, client, folder, console)?;

    console.step(news, "A connection is refused", SHORT_LIMIT);
    refusals::refused_connect(&provider, console)?;

    console.step(news, "A backlog is full", SHORT_LIMIT);
    refusals::full_backlog(&provider, console)?;

    console.step(news, "The driver is unloaded", SHORT_LIMIT);
    bed.show_unload(&driver, provider, console)
}

/// All that happens while both machines run.
fn with_neighbours(
    neighbours: &Neighbours,
    image: &Path,
    folder: &Folder,
    console: &Console,
    news: &Sender<News>,
) -> Result<(), Failure> {
    let drivers = neighbours.load(image, console)?;
    let providers = neighbours.open()?;
    let [here, there] = &providers;

    console.step(news, "A file goes through registered memory of a SAN session", TRAFFIC_LIMIT);
    let to = folder.file("sent.bin");
    san::send_file(here, there, &folder.file(DATA), &to, folder.size, console)?;
    let arrived = fingerprint(&to).map_err(|error| Failure::file("read", &to, &error))?;
    equal("what arrived on the other machine", arrived, folder, console)?;

    console.step(news, "A SAN connect meets a full backlog, and another one is rejected", SHORT_LIMIT);
    san::refused(here, there, console)?;

    console.step(news, "Both drivers are unloaded", SHORT_LIMIT);
    neighbours.unload(&drivers, providers, console)
}

fn build(built: Option<&Path>, console: &Console) -> Result<PathBuf, Failure> {
    let started = Instant::now();
    let image = match built {
        Some(image) => image.to_owned(),
        None => {
            let built = driver_build::build(&driver_build::Options::default()).map_err(|error| {
                let next = "the lines above say what is missing; cargo driver repeats this step alone";
                Failure::new(format_args!("the driver cannot be built: {error:#}"), next)
            })?;
            console.done(format_args!("built, or found up to date, in {}", duration(started.elapsed())));
            built.image
        }
    };
    let length = fs::metadata(&image).map_err(|error| {
        Failure::new(format_args!("cannot read {}: {error}", image.display()), "leave --driver out, or name a file.sys")
    })?;
    console.done(format_args!("{}, {}", image.display(), size(length.len())));
    Ok(image)
}

fn fetch(provider: &Provider, server: Server, folder: &Folder, console: &Console) -> Result<(), Failure> {
    let (_running, address) = server.start(folder.path())?;
    console.done(format_args!("{} serves {address}", server.name()));
    let page = http::get(provider, address, "/", 0)?;
    if !page.beginning.contains(TITLE) {
        return Err(Failure::defect(format_args!("GET / brought another page: {}", page.status_line())));
    }
    console.done(format_args!("GET / : {}, the page \"{TITLE}\"", page.status_line()));
    if let Some(name) = page.field("Server") {
        console.note(format_args!("the server calls itself {name}"));
    }
    let file = http::get(provider, address, &format!("/{DATA}"), folder.size)?;
    console.done(format_args!("GET /{DATA} : {}, {}", file.status_line(), file.pace));
    equal("what the driver received", file.fingerprint, folder, console)
}

fn serve(provider: &Provider, client: Client, folder: &Folder, console: &Console) -> Result<(), Failure> {
    let (listener, address) = http::listen(provider, 4)?;
    console.done(format_args!("an endpoint of the driver listens at {address}"));
    let to = folder.file("fetched.bin");
    let running = client.fetch(&format!("http://{address}/{DATA}"), &to)?;
    let served = http::serve(&listener, &folder.file(DATA), folder.size)?;
    console.done(format_args!("{} ({}) asks: {}", served.agent, served.peer, served.request));
    console.done(format_args!("served: {}", served.pace));
    match running.wait(SHORT_LIMIT) {
        Some(status) if status.success() => {}
        Some(status) => return Err(Failure::defect(format_args!("{} failed: {status}", client.name()))),
        None => return Err(Failure::defect(format_args!("{} does not end", client.name()))),
    }
    let fetched = fingerprint(&to).map_err(|error| Failure::file("read", &to, &error))?;
    equal(&format!("what {} wrote to disk", client.name()), fetched, folder, console)
}

fn equal(what: &str, found: crate::payload::Fingerprint, folder: &Folder, console: &Console) -> Result<(), Failure> {
    if found != folder.fingerprint {
        let wanted = folder.fingerprint;
        return Err(Failure::defect(format_args!("{what} has the SHA-256 {found}, and not {wanted}")));
    }
    console.done(format_args!("{what}: SHA-256 {found}, the same"));
    Ok(())
}
