//! Standard input to the peer and the peer to standard output, at once.

use super::failure::{Failure, cannot_write};
use super::path::Connection;
use std::io::{self, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Bytes that are read or received at once.
const CHUNK: usize = 64 * 1024;

/// Standard input, read by a thread of its own, since a read from a terminal cannot be cancelled.
pub(super) struct Input {
    desk: Arc<Desk>,
}

#[derive(Default)]
struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What was read, and nobody has taken.
    chunk: Option<io::Result<Vec<u8>>>,
    /// There will be no other chunk.
    ended: bool,
    /// The connection that is being served has failed.
    hung_up: bool,
    /// Nobody will take a chunk any more.
    dropped: bool,
}

/// What comes next.
enum Next {
    Chunk(io::Result<Vec<u8>>),
    End,
    HungUp,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn wait_while(&self, condition: impl FnMut(&mut State) -> bool) -> MutexGuard<'_, State> {
        self.changed.wait_while(self.lock(), condition).unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads all of `stdin`, a chunk ahead.
    fn fill(&self, stdin: &mut dyn Read) {
        loop {
            let mut buffer = vec![0; CHUNK];
            let read = stdin.read(&mut buffer);
            let (chunk, ended) = match read {
                Ok(0) => (None, true),
                Ok(length) => {
                    buffer.truncate(length);
                    (Some(Ok(buffer)), false)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => (Some(Err(error)), true),
            };
            let mut state = self.wait_while(|state| state.chunk.is_some() && !state.dropped);
            if state.dropped {
                return;
            }
            (state.chunk, state.ended) = (chunk, ended);
            drop(state);
            self.changed.notify_all();
            if ended {
                return;
            }
        }
    }
}

impl Input {
    /// Starts to read.
    pub(super) fn start(mut stdin: Box<dyn Read + Send>) -> Self {
        let desk = Arc::<Desk>::default();
        thread::spawn({
            let desk = desk.clone();
            move || desk.fill(&mut stdin)
        });
        Self { desk }
    }

    fn next(&self) -> Next {
        let mut state = self.desk.wait_while(|state| !state.hung_up && state.chunk.is_none() && !state.ended);
        if state.hung_up {
            return Next::HungUp;
        }
        let chunk = state.chunk.take();
        drop(state);
        self.desk.changed.notify_all();
        chunk.map_or(Next::End, Next::Chunk)
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.desk.change(|state| state.dropped = true);
    }
}

/// The failure that came first: it ends the other direction too, whose failure then tells nothing.
struct FirstFailure<'a> {
    connection: &'a Connection,
    desk: &'a Desk,
    failure: Mutex<Option<Failure>>,
}

impl FirstFailure<'_> {
    fn keep(&self, result: Result<(), Failure>) {
        let Err(failure) = result else { return };
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        self.connection.abort();
        self.desk.change(|state| state.hung_up = true);
    }
}

/// Relays until both directions have ended, or one has failed.
pub(super) fn relay(connection: &Connection, input: &Input, output: &mut dyn Write) -> Result<(), Failure> {
    input.desk.change(|state| state.hung_up = false);
    let first = FirstFailure { connection, desk: &input.desk, failure: Mutex::default() };
    thread::scope(|scope| {
        scope.spawn(|| first.keep(send(connection, input)));
        first.keep(receive(connection, output));
    });
    first.failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

fn send(mut connection: &Connection, input: &Input) -> Result<(), Failure> {
    let cannot_send = |error| Failure::network("send", None, error);
    loop {
        match input.next() {
            Next::Chunk(Ok(chunk)) => connection.write_all(&chunk).map_err(cannot_send)?,
            Next::Chunk(Err(error)) => return Err(Failure::io("read from standard input", error)),
            Next::End => return connection.end_writing().map_err(cannot_send),
            Next::HungUp => return Ok(()),
        }
    }
}

fn receive(mut connection: &Connection, output: &mut dyn Write) -> Result<(), Failure> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match connection.read(&mut buffer).map_err(|error| Failure::network("receive", None, error))? {
            0 => return Ok(()),
            length => output.write_all(&buffer[..length]).and_then(|()| output.flush()).map_err(cannot_write)?,
        }
    }
}
