//! A progress bar on standard error, where that is a terminal.

use super::Streams;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Columns that the bar is drawn for: every terminal has them.
const COLUMNS: u16 = 79;

/// Times a second that it is drawn at most.
const REDRAWS: u8 = 10;

/// How far something has come.
pub(super) struct Progress {
    shown: Option<(ProgressBar, Canvas)>,
}

/// What was drawn and is not on the terminal yet: the bar keeps no stream that is borrowed.
#[derive(Clone, Debug, Default)]
struct Canvas(Arc<Mutex<String>>);

impl Progress {
    /// Of `total` bytes. Nothing is drawn if that is not wanted, or standard error is no terminal.
    pub(super) fn new(streams: &Streams<'_>, total: u64, quiet: bool) -> Self {
        const TEMPLATE: &str = "{bytes:>10} of {total_bytes} [{bar:24}] {percent:>3} %  {bytes_per_sec}  {eta} left";
        if quiet || !streams.terminals.errors {
            return Self { shown: None };
        }
        let canvas = Canvas::default();
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(canvas.clone()), REDRAWS);
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let style = ProgressStyle::with_template(TEMPLATE).map(|style| style.progress_chars("=> "));
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { shown: Some((bar, canvas)) }
    }

    /// So many more bytes.
    pub(super) fn advance(&self, bytes: u64, streams: &mut Streams<'_>) {
        if let Some((bar, canvas)) = &self.shown {
            bar.inc(bytes);
            canvas.show(streams.errors);
        }
    }

    /// It is over, well or not: what follows begins on a line of its own.
    pub(super) fn end(self, streams: &mut Streams<'_>) {
        if let Some((bar, canvas)) = self.shown {
            bar.abandon();
            canvas.show(streams.errors);
            // A terminal that is gone is no reason to fail.
            let _ = writeln!(streams.errors);
        }
    }
}

impl Canvas {
    fn draw(&self, draw: impl FnOnce(&mut String) -> std::fmt::Result) -> io::Result<()> {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)).map_err(io::Error::other)
    }

    fn show(&self, errors: &mut dyn Write) {
        let drawn = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        // As above.
        let _ = errors.write_all(drawn.as_bytes()).and_then(|()| errors.flush());
    }
}

/// The control sequences of ECMA-48.
impl TermLike for Canvas {
    fn width(&self) -> u16 {
        COLUMNS
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        self.draw(|drawn| if lines == 0 { Ok(()) } else { write!(drawn, "\x1b[{lines}A") })
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        self.draw(|drawn| if lines == 0 { Ok(()) } else { write!(drawn, "\x1b[{lines}B") })
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        self.draw(|drawn| if columns == 0 { Ok(()) } else { write!(drawn, "\x1b[{columns}C") })
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        self.draw(|drawn| if columns == 0 { Ok(()) } else { write!(drawn, "\x1b[{columns}D") })
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.draw(|drawn| writeln!(drawn, "{text}"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.draw(|drawn| drawn.write_str(text))
    }

    fn clear_line(&self) -> io::Result<()> {
        self.draw(|drawn| drawn.write_str("\r\x1b[2K"))
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}
