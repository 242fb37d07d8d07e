//! A machine with the driver, and handles of its device through which every answer is looked at.

use crate::support::{Bed, MOMENT, PATIENCE, builder, eventually, image};
use san_proxy::{Error, Provider};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use test_harness::machine::Stats;
use test_harness::network::simulated::{Link, Simulated};
use test_harness::nt::registry::Value;
use test_harness::simulation;

/// What a machine's driver and its programs use.
#[derive(Debug, PartialEq)]
pub(crate) struct InUse {
    /// The driver's pool: blocks by their tags.
    blocks: BTreeMap<String, usize>,
    irps: usize,
    locked_mdls: usize,
    objects: BTreeMap<String, usize>,
    kernel_handles: usize,
}

impl InUse {
    /// Whether it is no more than `at_rest`. A table that the driver keeps may not be needed again after it was loaded anew.
    fn is_within(&self, at_rest: &Self) -> bool {
        self.blocks.iter().all(|(tag, count)| at_rest.blocks.get(tag).is_some_and(|most| count <= most))
            && self.irps <= at_rest.irps
            && (self.locked_mdls, &self.objects, self.kernel_handles)
                == (at_rest.locked_mdls, &at_rest.objects, at_rest.kernel_handles)
    }
}

/// A machine with the driver loaded.
pub(crate) struct World {
    pub(crate) bed: Bed,
    /// What waits for an event waits in vain.
    ended: AtomicBool,
}

impl World {
    pub(crate) fn new() -> Self {
        // A peer that says nothing is given up soon.
        let builder = builder().parameter("sanwsk", "HandshakeTimeout", Value::Number(2000));
        let machine = builder.build();
        if let Some(seed) = simulation::seed() {
            let network = Simulated::new(seed);
            let loopback = network.attach(&[Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
            network.set_link(&loopback, &loopback, Link { loss: 0, ..Link::SLOW });
            assert!(machine.network().attach(loopback));
        }
        let bed = Bed::on(machine);
        bed.wait_for_provider();
        Self { bed, ended: AtomicBool::new(false) }
    }

    /// The driver through a handle of its own.
    pub(crate) fn open(&self) -> Result<Provider, Error> {
        Ok(Provider::new(self.bed.watch.open(&self.bed.process)?))
    }

    /// Whether the handles of this run have been closed, as [`Self::end`] says.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(crate) fn end(&self, ended: bool) {
        self.ended.store(ended, Ordering::Release);
    }

    /// In place of the process that has ended.
    pub(crate) fn new_process(&mut self) {
        self.bed.process = Arc::new(self.bed.machine.process());
    }

    /// Loads the driver again, once it has gone.
    pub(crate) fn reload(&mut self) {
        let Bed { machine, driver, .. } = &mut self.bed;
        // It fails if it is on its way out already: the path may have been over before its end came.
        let _ = machine.unload(driver);
        assert!(machine.wait_unloaded(driver, PATIENCE), "nobody has the device open any more");
        *driver = machine.load(image(), "sanwsk").expect("the driver loads again");
        self.bed.wait_for_provider();
    }

    /// What is in use when nothing is under way: it stays the same for a while.
    #[track_caller]
    pub(crate) fn at_rest(&self) -> InUse {
        let mut last = self.in_use();
        eventually("the machine comes to rest", || {
            simulation::sleep(MOMENT);
            let now = self.in_use();
            let same = now == last;
            last = now;
            same
        });
        last
    }

    /// Waits until no more is in use than at rest.
    #[track_caller]
    pub(crate) fn settle(&self, what: &str, at_rest: &InUse) {
        self.check(what);
        let (machine, deadline) = (&self.bed.machine, simulation::now() + PATIENCE);
        while machine.violation().is_none() && !self.in_use().is_within(at_rest) {
            assert!(simulation::now() < deadline, "{what}: {:#?} is in use, at rest {at_rest:#?}", self.in_use());
            simulation::sleep(Duration::from_micros(200));
        }
        self.check(what);
    }

    fn in_use(&self) -> InUse {
        let Stats { driver_pool, irps, locked_mdls, mut objects, kernel_handles, .. } = self.bed.machine.stats();
        // Those of the test that have called the kernel count as well.
        objects.remove("Thread");
        // A table of the driver's that has grown keeps its size.
        let blocks = driver_pool.into_iter().map(|(tag, used)| (tag, used.blocks)).collect();
        InUse { blocks, irps, locked_mdls, objects, kernel_handles }
    }

    /// No rule was broken, and no answer given that the documentation does not know.
    #[track_caller]
    pub(crate) fn check(&self, what: &str) {
        if let Some(violation) = self.bed.machine.violation() {
            panic!("{what}: {violation}");
        }
        let undocumented = self.bed.watch.undocumented();
        assert!(undocumented.is_empty(), "{what}: docs/ioctl.md does not know {undocumented:#?}");
    }
}
