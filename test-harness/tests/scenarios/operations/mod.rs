//! What administrators and their tools ask of the driver: routes at run time, limits, lists of endpoints, counters.

mod counters;
mod endpoints;
mod package;
mod parameters;
mod routes;

use crate::support::Bed;
use san_proxy::Provider;
use std::sync::Arc;
use test_harness::device::HarnessDevice;

/// A handle of a process that is no administrator's, where `AllowUsers` lets it in.
fn ordinary(bed: &Bed) -> Provider {
    let process = bed.process_of(false, false);
    Provider::new(Arc::new(HarnessDevice::open(&process).expect("users may")))
}
