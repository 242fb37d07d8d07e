//! Two futures beside each other, and where something is not as it should be.

use core::future::poll_fn;
use core::panic::Location;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use sanwsk_client::NtStatus;

/// The line where something is not as it should be.
#[derive(Clone, Copy)]
pub(crate) struct Line(u32);

impl Line {
    #[track_caller]
    fn here() -> Self {
        Self(Location::caller().line())
    }

    /// As a status of nobody else's.
    pub(crate) fn status(self) -> NtStatus {
        NtStatus((0xE000_0000 | self.0).cast_signed())
    }
}

/// An error becomes the line at which it came up.
pub(crate) trait OrLine<T> {
    #[track_caller]
    fn here(self) -> Result<T, Line>;
}

impl<T> OrLine<T> for Result<T, NtStatus> {
    #[track_caller]
    fn here(self) -> Result<T, Line> {
        // `map_err` would name its own line.
        match self {
            Ok(value) => Ok(value),
            Err(_) => Err(Line::here()),
        }
    }
}

#[track_caller]
pub(crate) fn check(holds: bool) -> Result<(), Line> {
    if holds { Ok(()) } else { Err(Line::here()) }
}

/// Both results, or the first failure: what the other one waits for may not come then.
pub(crate) async fn both<A, B>(
    first: impl Future<Output = Result<A, NtStatus>>,
    second: impl Future<Output = Result<B, NtStatus>>,
) -> Result<(A, B), NtStatus> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut of_first, mut of_second) = (None, None);
    poll_fn(|context| {
        if of_first.is_none()
            && let Poll::Ready(result) = first.as_mut().poll(context)
        {
            of_first = Some(result?);
        }
        if of_second.is_none()
            && let Poll::Ready(result) = second.as_mut().poll(context)
        {
            of_second = Some(result?);
        }
        match (of_first.take(), of_second.take()) {
            (Some(first), Some(second)) => Poll::Ready(Ok((first, second))),
            (first, second) => {
                (of_first, of_second) = (first, second);
                Poll::Pending
            }
        }
    })
    .await
}

/// The first result; or the second, if that fails before.
pub(crate) async fn unless<A, B>(
    wanted: impl Future<Output = Result<A, NtStatus>>,
    failing: impl Future<Output = Result<B, NtStatus>>,
) -> Result<A, NtStatus> {
    let (mut wanted, mut failing) = (pin!(wanted), pin!(failing));
    let mut is_over = false;
    poll_fn(|context| {
        if !is_over && let Poll::Ready(result) = failing.as_mut().poll(context) {
            result?;
            is_over = true;
        }
        wanted.as_mut().poll(context)
    })
    .await
}

/// Begins a future, and drops it: whether it pended.
pub(crate) fn is_pending(future: impl Future) -> bool {
    pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_pending()
}
