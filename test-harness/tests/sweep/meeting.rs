//! Waiting for what two sides do, when either may fail and the other then waits in vain.

use san_protocol::{ControlCode, NtStatus};
use san_proxy::{
    Error, Operation, Pending, Receive, SanEndpoint, StreamConnection, StreamListener, Transfer, Undecided,
};
use std::time::Duration;
use test_harness::simulation;

/// Nothing here takes so long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_micros(100);

/// Waits until `done` gives something.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = simulation::now() + PATIENCE;
    loop {
        if let Some(result) = done() {
            return result;
        }
        assert!(simulation::now() < deadline, "{what} does not end");
        simulation::sleep(LOOK);
    }
}

/// Waits for one request.
#[track_caller]
pub(crate) fn end_of<T>(pending: Pending<T>) -> T {
    until("a request", || pending.has_ended().then_some(()));
    pending.wait()
}

/// A request of whichever kind.
pub(crate) trait Request {
    fn status(&self) -> Option<NtStatus>;
}

impl<T> Request for Pending<T> {
    fn status(&self) -> Option<NtStatus> {
        self.has_ended().then(|| Pending::status(self))
    }
}

/// Waits until all have ended, or one has failed: then the others may wait in vain, and go with their [`Pending`].
#[track_caller]
pub(crate) fn settle(requests: &[&dyn Request]) {
    until("none of the requests", || {
        let over = requests.iter().all(|request| request.status().is_some());
        let failed = || requests.iter().filter_map(|request| request.status()).any(|status| !status.is_success());
        (over || failed()).then_some(())
    });
}

/// The result of a request that has ended.
pub(crate) fn now<T>(request: Pending<Result<T, Error>>) -> Result<Option<T>, Error> {
    if request.has_ended() { request.wait().map(Some) } else { Ok(None) }
}

/// Both results, or the first failure.
#[track_caller]
pub(crate) fn both<A, B>(first: Pending<Result<A, Error>>, second: Pending<Result<B, Error>>) -> Result<(A, B), Error> {
    settle(&[&first, &second]);
    let (first, second) = (now(first)?, now(second)?);
    Ok(first.zip(second).expect("neither has failed"))
}

/// A connection that has arrived, and its connect, which goes on; or why the connect has failed.
#[track_caller]
pub(crate) fn arrival(
    listener: &SanEndpoint,
    connect: Pending<Result<(), Error>>,
) -> Result<(Undecided, Pending<Result<(), Error>>), Error> {
    let accept = listener.start_accept();
    until("neither the connect nor the accept", || (accept.has_ended() || connect.has_ended()).then_some(()));
    if !accept.has_ended() {
        connect.wait()?;
        panic!("connected, and nobody has accepted");
    }
    Ok((accept.wait()?, connect))
}

/// A stream that has been accepted, and a receive of a byte at its connected end, which goes on; or why either has failed.
#[track_caller]
pub(crate) fn accepted(
    listener: &StreamListener,
    connection: &StreamConnection,
) -> Result<(StreamConnection, Pending<Transfer>), Error> {
    let accept = listener.start_accept();
    // A connection that the listener had no memory for is reset.
    let receive = connection.start_receive(vec![0], Receive::Some);
    until("neither the receive nor the accept", || (accept.has_ended() || receive.has_ended()).then_some(()));
    if !accept.has_ended() {
        let length = receive.wait().result?;
        assert_eq!(length, 0, "nobody has sent anything");
        return Err(Error::new(Operation::Request(ControlCode::Accept), NtStatus::CONNECTION_ABORTED));
    }
    Ok((accept.wait()?.connection, receive))
}
