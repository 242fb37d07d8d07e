//! One program, over std's sockets and over the switch's: only the names of the types differ.

use crate::bed::{bed, config, switch};
use crate::support::pattern;
use san_proxy::Switch;
use std::net::SocketAddr;

/// Sent both ways.
const SIZE: usize = 8 << 20;

macro_rules! echo_program {
    ($name:ident, $listener:path, $stream:path) => {
        mod $name {
            use std::io::{self, Read, Write};
            use std::net::{Shutdown, SocketAddr};
            use std::thread;
            use $listener as Listener;
            use $stream as Stream;

            /// Sends everything back that the first client sends.
            fn serve(listener: &Listener) -> io::Result<()> {
                let (mut stream, _) = listener.accept()?;
                let mut buffer = vec![0; 100_000];
                loop {
                    match stream.read(&mut buffer)? {
                        0 => return Ok(()),
                        length => stream.write_all(&buffer[..length])?,
                    }
                }
            }

            /// Sends `data`, and gives back what comes.
            fn ask(server: SocketAddr, data: &[u8]) -> io::Result<Vec<u8>> {
                let stream = Stream::connect(server)?;
                stream.set_nodelay(true)?;
                let mut answer = Vec::new();
                thread::scope(|scope| {
                    let sending = scope.spawn(|| {
                        (&stream).write_all(data)?;
                        stream.shutdown(Shutdown::Write)
                    });
                    (&stream).read_to_end(&mut answer)?;
                    sending.join().expect("does not panic")
                })?;
                Ok(answer)
            }

            /// The whole program: both ends, and what came back.
            pub(super) fn run(at: SocketAddr, data: &[u8]) -> io::Result<Vec<u8>> {
                let listener = Listener::bind(at)?;
                let address = listener.local_addr()?;
                thread::scope(|scope| {
                    let server = scope.spawn(|| serve(&listener));
                    let answer = ask(address, data)?;
                    server.join().expect("does not panic")?;
                    Ok(answer)
                })
            }
        }
    };
}

echo_program!(over_std, std::net::TcpListener, std::net::TcpStream);
echo_program!(over_the_switch, san_proxy::SanListener, san_proxy::SanStream);

/// The only test that uses the program's own switch.
#[test]
fn the_same_program_runs_over_both() {
    let bed = bed();
    let data = pattern(7, SIZE);
    let counting = bed.open();
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let address: SocketAddr = address.parse().expect("an address");
        assert!(over_std::run(address, &data).expect("runs") == data, "{address}");

        assert!(switch(&bed, config()).install().is_none());
        let before = counting.statistics().expect("statistics");
        assert!(over_the_switch::run(address, &data).expect("runs") == data, "{address}");
        let after = counting.statistics().expect("statistics");
        assert_eq!(after.connects - before.connects, 1);
        assert!(after.bytes_received - before.bytes_received >= 2 * SIZE as u64, "over the SAN, both ways");
        drop(Switch::uninstall().expect("it was installed"));
    }
    drop(counting);
    bed.finish();
}
