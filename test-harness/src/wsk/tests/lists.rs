//! What WSK is told to send from and receive into: chains, partial lists, parts of lists; and what must stay while it does.

use std::net::Shutdown;

use super::*;
use crate::nt::mdl::{IoBuildPartialMdl, MmProbeAndLockPages, MmUnlockPages, MmUnmapLockedPages};
use crate::nt::types::{MDL_PARTIAL_HAS_BEEN_MAPPED, PAGE_SIZE, USER_MODE};

/// Longer than a page, and not at the start of one.
const SIZE: usize = 3 * PAGE_SIZE;

/// A user's locked buffer, which is no pool.
struct UserBuffer {
    memory: Vec<u8>,
    list: &'static MDL,
}

fn described(memory: &[u8]) -> &'static MDL {
    let address = memory.as_ptr().cast_mut().cast();
    mdl::at(IoAllocateMdl(address, u32::try_from(memory.len()).unwrap(), 0, 0, None)).unwrap()
}

impl UserBuffer {
    fn new() -> Self {
        let memory: Vec<u8> = (0..SIZE).map(|index| index.to_le_bytes()[0] ^ index.to_le_bytes()[1]).collect();
        let list = described(&memory);
        MmProbeAndLockPages(list, USER_MODE, 1);
        Self { memory, list }
    }

    /// A partial list over some of it.
    fn part(&self, offset: usize, length: usize) -> &'static MDL {
        let part = described(&self.memory);
        let start = self.memory.as_ptr().wrapping_add(offset).cast_mut().cast();
        IoBuildPartialMdl(self.list, part, start, u32::try_from(length).unwrap());
        part
    }

    fn free(self) {
        MmUnlockPages(self.list);
        IoFreeMdl(self.list);
    }
}

fn buffer(list: &MDL, offset: usize, length: usize) -> WSK_BUF {
    let offset = u32::try_from(offset).unwrap();
    WSK_BUF { Mdl: ptr::from_ref(list).cast_mut().cast(), Offset: offset, Length: length }
}

/// A socket, and the peer that it is connected to.
fn connected(client: &Client) -> (Sock, TcpStream) {
    let (listener, address) = listener();
    let socket = connect_to(client, address).unwrap();
    (socket, listener.accept().unwrap().0)
}

fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_header_and_parts_of_a_users_buffer_are_sent_as_one_chain() {
    sound(|client| {
        let (socket, mut peer) = connected(client);
        let user = UserBuffer::new();
        let header = Buffer::new(b"sixteen bytes...");
        let (first, second) = (user.part(1000, 5000), user.part(7000, 100));
        let head = mdl::at(header.list).unwrap();
        head.Next.set(ptr::from_ref(first).cast_mut());
        first.Next.set(ptr::from_ref(second).cast_mut());
        let expected = [b"sixteen bytes...", &user.memory[1000..6000], &user.memory[7000..7100]].concat();
        for offset in [0, 7, 16] {
            // What is behind the length is not sent.
            let length = expected.len() - offset - 9;
            assert_eq!(run(|irp| WskSend(socket, &buffer(head, offset, length), 0, irp)), (STATUS_SUCCESS, length));
            assert_eq!(read(&mut peer, length), expected[offset..expected.len() - 9], "{offset}");
        }
        // The transport has mapped what it read, and the driver uses its partial list for something else.
        assert_ne!(first.MdlFlags.get() & MDL_PARTIAL_HAS_BEEN_MAPPED, 0);
        MmUnmapLockedPages(first.MappedSystemVa.get(), first);
        IoBuildPartialMdl(user.list, first, user.memory.as_ptr().cast_mut().cast(), 10);
        assert_eq!(run(|irp| WskSend(socket, &buffer(first, 0, 10), 0, irp)), (STATUS_SUCCESS, 10));
        assert_eq!(read(&mut peer, 10), user.memory[..10]);
        close(socket);
        IoFreeMdl(first);
        IoFreeMdl(second);
        user.free();
        header.free();
    });
}

#[test]
fn bytes_are_received_into_the_middle_of_a_users_buffer() {
    sound(|client| {
        let (socket, mut peer) = connected(client);
        let user = UserBuffer::new();
        let before = user.memory.clone();
        let sent = vec![0xEE; 6000];
        let waiting = Request::new();
        let part = user.part(6100, 3000);
        assert_eq!(
            WskReceive(socket, &buffer(user.list, 100, 3000), WSK_FLAG_WAITALL, waiting.packet()),
            STATUS_PENDING
        );
        peer.write_all(&sent[..1500]).unwrap();
        assert!(!waiting.is_done() || waiting.irp.IoStatus.Information.get() == 3000, "all, or nothing yet");
        peer.write_all(&sent[1500..]).unwrap();
        assert_eq!(waiting.wait(), (STATUS_SUCCESS, 3000));
        let second = run(|irp| WskReceive(socket, &buffer(part, 0, 3000), WSK_FLAG_WAITALL, irp));
        assert_eq!(second, (STATUS_SUCCESS, 3000));
        for range in [0..100, 3100..6100, 9100..SIZE] {
            assert_eq!(user.memory[range.clone()], before[range]);
        }
        for range in [100..3100, 6100..9100] {
            assert!(user.memory[range].iter().all(|byte| *byte == 0xEE));
        }
        close(socket);
        waiting.free();
        IoFreeMdl(part);
        user.free();
    });
}

#[test]
fn waiting_for_all_ends_short_only_by_the_peers_end_or_a_cancel() {
    sound(|client| {
        let (socket, mut peer) = connected(client);
        let bytes = Buffer::new(&[0; 8]);
        let waiting = Request::new();
        assert_eq!(WskReceive(socket, &bytes.all(), WSK_FLAG_WAITALL, waiting.packet()), STATUS_PENDING);
        peer.write_all(b"abc").unwrap();
        until("three bytes are in place", || bytes.bytes().starts_with(b"abc"));
        assert!(!waiting.is_done());
        IoCancelIrp(waiting.irp);
        assert_eq!(waiting.wait(), (STATUS_CANCELLED, 3), "what has arrived is counted, and does not come again");
        waiting.free();
        peer.write_all(b"defgh").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(run(|irp| WskReceive(socket, &bytes.all(), WSK_FLAG_WAITALL, irp)), (STATUS_SUCCESS, 5));
        assert_eq!(&bytes.bytes()[..5], b"defgh");
        close(socket);
        bytes.free();
    });
}

#[test]
fn memory_that_goes_while_an_operation_uses_it_is_found() {
    /// A receive that waits, into a part of a user's buffer.
    fn pending(client: &Client) -> (UserBuffer, &'static MDL) {
        let (socket, peer) = connected(client);
        std::mem::forget(peer);
        let user = UserBuffer::new();
        let part = user.part(10, 20);
        assert_eq!(WskReceive(socket, &buffer(part, 0, 20), 0, Request::new().packet()), STATUS_PENDING);
        (user, part)
    }
    breaks(Rule::Wsk(29), |client| MmUnlockPages(pending(client).0.list));
    breaks(Rule::Wsk(29), |client| IoFreeMdl(pending(client).1));
    breaks(Rule::Wsk(29), |client| {
        let (user, part) = pending(client);
        MmUnmapLockedPages(part.MappedSystemVa.get(), part);
        IoBuildPartialMdl(user.list, part, user.memory.as_ptr().cast_mut().cast(), 5);
    });
    breaks(Rule::Wsk(29), |client| {
        let (socket, _peer) = connected(client);
        let bytes = Buffer::new(&[0; 4]);
        WskReceive(socket, &bytes.all(), 0, Request::new().packet());
        IoFreeMdl(mdl::at(bytes.list).unwrap());
    });
    breaks(Rule::Wsk(29), |client| {
        let (socket, _peer) = connected(client);
        let user = UserBuffer::new();
        let part = user.part(10, 20);
        MmUnlockPages(user.list);
        run(|irp| WskSend(socket, &buffer(part, 0, 20), 0, irp));
    });
}
