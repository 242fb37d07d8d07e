//! Lines a person can follow, and progress bars.

use std::env;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::failure::Failure;

/// What the steps tell whoever watches over their time.
pub(crate) enum News {
    /// A step begins, and may take so long.
    Step(&'static str, Duration),
    /// All steps are done, or one failed.
    End(Result<(), Failure>),
}

/// Writes to standard output; bars go to standard error, where it is a terminal.
pub(crate) struct Console {
    colour: bool,
    steps: AtomicUsize,
}

/// An escape sequence of ECMA-48.
#[derive(Clone, Copy)]
enum Style {
    Bold,
    Green,
    Red,
    Dim,
}

impl Console {
    pub(crate) fn new() -> Self {
        let no_colour = env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
        let dumb = env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        Self { colour: io::stdout().is_terminal() && !no_colour && !dumb, steps: AtomicUsize::new(0) }
    }

    /// A step begins.
    pub(crate) fn step(&self, news: &Sender<News>, title: &'static str, limit: Duration) {
        let number = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        line(format_args!("\n{}", self.styled(Style::Bold, format_args!("{number}. {title}"))));
        // The watcher is gone only when the demo has been given up.
        let _ = news.send(News::Step(title, limit));
    }

    /// Something was shown to hold.
    pub(crate) fn done(&self, what: impl Display) {
        line(format_args!("   {} {what}", self.styled(Style::Green, "ok")));
    }

    /// Something worth knowing.
    pub(crate) fn note(&self, what: impl Display) {
        line(format_args!("      {}", self.styled(Style::Dim, what)));
    }

    /// The last line of a demo that went well.
    pub(crate) fn good_end(&self, what: impl Display) {
        line(format_args!("\n{}", self.styled(Style::Green, what)));
    }

    /// The last lines of one that did not.
    pub(crate) fn bad_end(&self, failure: &Failure) {
        line(format_args!("\n{} {}", self.styled(Style::Red, "failed:"), failure.what));
        line(format_args!("{} {}", self.styled(Style::Bold, "next:"), failure.next));
    }

    fn styled(&self, style: Style, text: impl Display) -> String {
        let code = match style {
            Style::Bold => 1,
            Style::Dim => 2,
            Style::Red => 31,
            Style::Green => 32,
        };
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() }
    }
}

/// Nobody is left to tell that standard output cannot be written.
fn line(what: impl Display) {
    let _ = writeln!(io::stdout(), "{what}");
}

/// Bytes on their way: a bar on a terminal, and how long they took.
pub(crate) struct Progress {
    bar: ProgressBar,
    started: Instant,
}

impl Progress {
    pub(crate) fn new(what: &'static str, total: u64) -> Self {
        let style =
            ProgressStyle::with_template("      {msg} [{bar:40}] {bytes:>10} of {total_bytes}, {bytes_per_sec}")
                .expect("a template without errors")
                .progress_chars("=> ");
        let bar = ProgressBar::new(total).with_style(style).with_message(what);
        Self { bar, started: Instant::now() }
    }

    pub(crate) fn advance(&self, bytes: usize) {
        self.bar.inc(bytes as u64);
    }

    /// Takes the bar away; what is to be said in its place.
    pub(crate) fn finish(self) -> String {
        self.bar.finish_and_clear();
        let (bytes, time) = (self.bar.position(), self.started.elapsed());
        format!("{} in {} ({:.0} MiB/s)", size(bytes), duration(time), mebibytes(bytes) / time.as_secs_f64())
    }
}

#[allow(clippy::cast_precision_loss)] // for people
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..0x0010_0000 => format!("{:.1} KiB", mebibytes(bytes) * 1024.0),
        _ => format!("{:.0} MiB", mebibytes(bytes)),
    }
}

/// A time for people.
pub(crate) fn duration(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 0.01 => format!("{:.1} ms", seconds * 1000.0),
        seconds if seconds < 1.0 => format!("{:.0} ms", seconds * 1000.0),
        seconds => format!("{seconds:.1} s"),
    }
}
