//! Peers that are no drivers: plain sockets, which reset, stop in the middle, and speak nonsense.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt;

const PATIENCE: Duration = Duration::from_secs(2);

/// Listens at a port of 127.0.0.1 that the host chooses.
pub(crate) fn listen() -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// The connection that arrives, or none in time.
pub(crate) fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return patient(stream);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                thread::sleep(Duration::from_micros(200));
            }
            Err(error) => return Err(error),
        }
    }
}

fn patient(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends back what comes, so many bytes of it.
pub(crate) fn echo(mut stream: &TcpStream, mut bytes: usize) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    while bytes > 0 {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..length])?;
        bytes = bytes.saturating_sub(length);
    }
    Ok(())
}

/// Ends the connection with a reset.
pub(crate) fn reset(stream: TcpStream) {
    // Without the option it ends gracefully, which is as good.
    let _ = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
    drop(stream);
}

/// Connects, says something, and resets or leaves.
pub(crate) fn speak(to: SocketAddr, bytes: &[u8], resets: bool) {
    let Ok(mut stream) = TcpStream::connect_timeout(&to, PATIENCE).and_then(patient) else { return };
    // The driver may have ended it already.
    let _ = stream.write_all(bytes);
    if resets {
        reset(stream);
    }
}
