//! [`RateLimit`]: so many a second, and the rest counted.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use san_core::concurrent::RateLimit;

/// Units of 100 ns in a second.
const SECOND: u64 = 10_000_000;

#[test]
fn so_many_a_second_are_admitted_and_the_next_second_s_first_says_how_many_were_not() {
    let limit = RateLimit::new(3);
    let asked: Vec<_> = (0..5).map(|tick| limit.admit(7 * SECOND + tick)).collect();
    assert_eq!(asked, [Some(0), Some(0), Some(0), None, None]);
    assert_eq!(limit.admit(9 * SECOND), Some(2));
    assert_eq!(limit.admit(9 * SECOND), Some(0));
    assert_eq!(limit.admit(10 * SECOND), Some(0), "nothing was kept back in between");
}

#[test]
fn the_first_second_of_the_clock_is_a_second_too() {
    let limit = RateLimit::new(1);
    assert_eq!((limit.admit(0), limit.admit(1), limit.admit(SECOND)), (Some(0), None, Some(1)));
}

#[test]
fn many_threads_get_no_more_together_and_none_is_lost() {
    const THREADS: u32 = 8;
    const EACH: u32 = 10_000;
    let (limit, admitted) = (RateLimit::new(100), AtomicU32::new(0));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..EACH {
                    if limit.admit(SECOND).is_some() {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(admitted.into_inner(), 100);
    assert_eq!(limit.admit(2 * SECOND), Some(THREADS * EACH - 100));
}

#[test]
fn who_looked_at_the_clock_before_another_began_a_second_asks_in_that_one() {
    let limit = RateLimit::new(2);
    assert_eq!(limit.admit(8 * SECOND), Some(0));
    assert_eq!((limit.admit(8 * SECOND - 1), limit.admit(8 * SECOND - 1)), (Some(0), None));
    assert_eq!(limit.admit(9 * SECOND), Some(1));
}
