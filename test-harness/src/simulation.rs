//! Deterministic simulation: one scheduler hands a token round the threads of all machines, and time passes when none can run.
//!
//! A thread of a simulation runs alone until it waits, or comes to a kernel call at which its [`Schedule`] says that another one
//! goes on.
//! Waits of the harness go through its `Condvar`, its clock is [`now`]. On threads outside any simulation both are the host's.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use crate::thread::try_current;

/// A seeded sequence (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// A number below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// At one of so many kernel calls another thread may go on, in a [`Schedule::Random`] one.
const PREEMPTION: u64 = 12;

/// How often, at most, a thread loses its priority, in a [`Schedule::Priorities`]: at one of 2 to the power of so many kernel calls.
const LOSSES: u64 = 11;

/// Who goes on where several threads can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Any of them, and now and then another one in the middle.
    Random,
    /// The one of the highest priority. Priorities are drawn when threads start, and a thread loses its own, now and then, in the
    /// middle: it goes on when no other can. So one thread may stand still at an unlucky place for as long as others have
    /// anything to do (probabilistic concurrency testing, Burckhardt and others, 2010).
    Priorities,
}

impl Schedule {
    /// The one that goes with a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        if seed.is_multiple_of(2) { Self::Priorities } else { Self::Random }
    }
}

/// A thread of a simulation.
struct Task {
    name: String,
    /// Higher ones go first; of a [`Schedule::Priorities`].
    priority: i64,
    turn: Arc<parking_lot::Condvar>,
    status: Status,
    timed_out: bool,
}

enum Status {
    Ready,
    /// For the condition variable of this address, or until the time has come.
    Waiting {
        on: usize,
        until: Option<Duration>,
    },
}

/// What a thread did: its number, and the kernel function that it called.
pub type Step = (u64, &'static str);

struct State {
    random: Random,
    schedule: Schedule,
    /// Of a [`Schedule::Priorities`]: a thread loses its priority at one of so many kernel calls.
    loss: u64,
    /// Below all priorities that there are.
    lowest: i64,
    now: Duration,
    tasks: BTreeMap<u64, Task>,
    next: u64,
    running: Option<u64>,
    trace: Vec<Step>,
    hung: bool,
}

struct Scheduler {
    seed: u64,
    /// The moment at which its time begins.
    base: Instant,
    state: Mutex<State>,
}

thread_local! {
    static TASK: RefCell<Option<(Arc<Scheduler>, u64)>> = const { RefCell::new(None) };
}

fn task() -> Option<(Arc<Scheduler>, u64)> {
    TASK.with_borrow(Clone::clone)
}

impl State {
    fn add(&mut self, name: &str) -> u64 {
        let id = self.next;
        self.next += 1;
        let turn = Arc::new(parking_lot::Condvar::new());
        let priority = match self.schedule {
            Schedule::Random => 0,
            Schedule::Priorities => (self.random.next() >> 1).cast_signed(),
        };
        let name = name.to_owned();
        self.tasks.insert(id, Task { name, priority, turn, status: Status::Ready, timed_out: false });
        id
    }

    /// A thread goes on after all others.
    fn demote(&mut self, id: u64) {
        if let Some(task) = self.tasks.get_mut(&id) {
            self.lowest -= 1;
            task.priority = self.lowest;
        }
    }

    /// Whether another thread may go on, at a kernel call of `me`.
    fn preempts(&mut self, me: u64) -> bool {
        match self.schedule {
            Schedule::Random => self.random.below(PREEMPTION) == 0,
            Schedule::Priorities => {
                if self.random.below(self.loss) == 0 {
                    self.demote(me);
                }
                let own = self.tasks.get(&me).map(|task| task.priority);
                self.tasks.values().any(|task| matches!(task.status, Status::Ready) && Some(task.priority) > own)
            }
        }
    }

    /// Who runs next; time passes if nobody can. None if nobody ever will.
    fn choose(&mut self) -> Option<u64> {
        loop {
            let is_ready = |task: &Task| matches!(task.status, Status::Ready);
            let ready: Vec<u64> = self.tasks.iter().filter(|(_, task)| is_ready(task)).map(|(id, _)| *id).collect();
            if !ready.is_empty() {
                return match self.schedule {
                    Schedule::Random => Some(ready[self.random.below(ready.len() as u64) as usize]),
                    Schedule::Priorities => {
                        ready.into_iter().max_by_key(|id| self.tasks.get(id).map(|task| task.priority))
                    }
                };
            }
            let due = |task: &Task| match task.status {
                Status::Waiting { until, .. } => until,
                Status::Ready => None,
            };
            self.now = self.tasks.values().filter_map(due).min()?.max(self.now);
            let now = self.now;
            for task in self.tasks.values_mut().filter(|task| due(task).is_some_and(|until| until <= now)) {
                task.status = Status::Ready;
                task.timed_out = true;
            }
        }
    }

    /// Wakes who waits for a condition variable: all, or one that the seed chooses.
    fn wake(&mut self, address: usize, all: bool) {
        let waits = |task: &Task| matches!(task.status, Status::Waiting { on, .. } if on == address);
        let mut waiting: Vec<u64> = self.tasks.iter().filter(|(_, task)| waits(task)).map(|(id, _)| *id).collect();
        if !all && waiting.len() > 1 {
            let index = self.random.below(waiting.len() as u64) as usize;
            waiting = vec![waiting[index]];
        }
        for id in waiting {
            if let Some(task) = self.tasks.get_mut(&id) {
                task.status = Status::Ready;
            }
        }
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        for (id, task) in &self.tasks {
            let status = match task.status {
                Status::Ready => "can run".to_owned(),
                Status::Waiting { until: Some(until), .. } => format!("waits until {until:?}"),
                Status::Waiting { until: None, .. } => "waits".to_owned(),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "    {id} {}: {status}", task.name);
        }
        text
    }
}

impl Scheduler {
    /// Gives the token to whoever is chosen, and waits for it to come back if `me` is still a thread of the simulation.
    fn pass(&self, mut state: MutexGuard<'_, State>, me: u64) {
        let chosen = state.choose().or_else(|| {
            // The program that began it tells of it.
            state.hung = true;
            state.tasks.keys().next().copied()
        });
        let Some(chosen) = chosen else {
            state.running = None;
            return;
        };
        state.running = Some(chosen);
        if chosen != me {
            if let Some(task) = state.tasks.get(&chosen) {
                task.turn.notify_one();
            }
            Self::await_turn(&mut state, me);
        }
        let hung = state.hung && state.running == Some(me) && state.tasks.contains_key(&me);
        if hung {
            state.hung = false;
            if let Some(task) = state.tasks.get_mut(&me) {
                task.status = Status::Ready;
            }
            let text = format!(
                "seed {}: after {:?} no thread can ever run again:\n{}",
                self.seed,
                state.now,
                state.describe()
            );
            drop(state);
            if try_current().is_some() {
                // A driver's frames cannot be unwound.
                eprintln!("{text}");
                std::process::abort();
            }
            panic!("{text}");
        }
    }

    fn await_turn(state: &mut MutexGuard<'_, State>, me: u64) {
        let Some(turn) = state.tasks.get(&me).map(|task| task.turn.clone()) else { return };
        while state.running != Some(me) {
            turn.wait(state);
        }
    }

    /// Waits to be woken. True if the time came first.
    fn wait(&self, me: u64, on: usize, until: Option<Duration>) -> bool {
        let mut state = self.state.lock();
        if let Some(task) = state.tasks.get_mut(&me) {
            task.status = Status::Waiting { on, until };
            task.timed_out = false;
        }
        self.pass(state, me);
        self.state.lock().tasks.get(&me).is_some_and(|task| task.timed_out)
    }

    fn end(&self, me: u64) {
        let mut state = self.state.lock();
        state.tasks.remove(&me);
        let joining = ended_key(me);
        state.wake(joining, true);
        self.pass(state, me);
    }

    fn until(&self, deadline: Instant) -> Duration {
        deadline.saturating_duration_since(self.base)
    }
}

/// What waits for a thread's end wait on: no address of a condition variable, which are even.
fn ended_key(id: u64) -> usize {
    (id as usize) << 1 | 1
}

/// The time: the simulation's on its threads, else the host's.
#[must_use]
pub fn now() -> Instant {
    match task() {
        Some((scheduler, _)) => scheduler.base + scheduler.state.lock().now,
        None => Instant::now(),
    }
}

/// The simulation's time since it began. None on threads outside of one.
#[must_use]
pub fn elapsed() -> Option<Duration> {
    task().map(|(scheduler, _)| scheduler.state.lock().now)
}

/// The seed of the calling thread's simulation. None on threads outside of one.
#[must_use]
pub fn seed() -> Option<u64> {
    task().map(|(scheduler, _)| scheduler.seed)
}

/// Sleeps, in the time of [`now`].
pub fn sleep(time: Duration) {
    match task() {
        Some((scheduler, me)) => {
            let until = scheduler.state.lock().now + time;
            scheduler.wait(me, 0, Some(until));
        }
        None => std::thread::sleep(time),
    }
}

/// Lets others run: the thread waits for something that they do, and is not told when.
pub(crate) fn pause() {
    match task() {
        Some((scheduler, me)) => {
            let mut state = scheduler.state.lock();
            // Else it would wait for one that its own priority keeps from going on.
            state.demote(me);
            scheduler.pass(state, me);
        }
        None => std::thread::yield_now(),
    }
}

/// A kernel call: others may go on here. The thread holds nothing of the harness's.
#[inline]
pub(crate) fn point(name: &'static str) {
    let Some((scheduler, me)) = task() else { return };
    let mut state = scheduler.state.lock();
    state.trace.push((me, name));
    if state.preempts(me) {
        scheduler.pass(state, me);
    }
}

/// Whether the calling thread belongs to a simulation.
pub(crate) fn is_simulated() -> bool {
    TASK.with_borrow(Option::is_some)
}

/// How a wait with a time-out ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waited {
    timed_out: bool,
}

impl Waited {
    pub(crate) fn timed_out(self) -> bool {
        self.timed_out
    }
}

/// A condition variable, in the simulation of the threads that wait: all who use one belong to the same, or to none.
#[derive(Debug, Default)]
pub(crate) struct Condvar {
    host: parking_lot::Condvar,
}

impl Condvar {
    pub(crate) const fn new() -> Self {
        Self { host: parking_lot::Condvar::new() }
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        match task() {
            Some((scheduler, me)) => {
                MutexGuard::unlocked(guard, || scheduler.wait(me, self.address(), None));
            }
            None => self.host.wait(guard),
        }
    }

    pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Instant) -> Waited {
        let timed_out = match task() {
            Some((scheduler, me)) => {
                let until = scheduler.until(deadline);
                MutexGuard::unlocked(guard, || scheduler.wait(me, self.address(), Some(until)))
            }
            None => self.host.wait_until(guard, deadline).timed_out(),
        };
        Waited { timed_out }
    }

    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, timeout: Duration) -> Waited {
        self.wait_until(guard, now() + timeout)
    }

    pub(crate) fn notify_one(&self) {
        match task() {
            Some((scheduler, _)) => scheduler.state.lock().wake(self.address(), false),
            None => drop(self.host.notify_one()),
        }
    }

    pub(crate) fn notify_all(&self) {
        match task() {
            Some((scheduler, _)) => scheduler.state.lock().wake(self.address(), true),
            None => drop(self.host.notify_all()),
        }
    }
}

/// A thread, of the simulation of the thread that started it.
#[derive(Debug)]
pub(crate) struct JoinHandle<T> {
    host: std::thread::JoinHandle<T>,
    task: Option<u64>,
}

/// Starts a thread.
pub(crate) fn spawn<T: Send + 'static>(
    builder: std::thread::Builder,
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<JoinHandle<T>> {
    let builder = builder.name(name.to_owned());
    let Some((scheduler, _)) = task() else {
        return Ok(JoinHandle { host: builder.spawn(body)?, task: None });
    };
    let id = scheduler.state.lock().add(name);
    let of = scheduler.clone();
    let started = builder.spawn(move || {
        TASK.set(Some((of.clone(), id)));
        Scheduler::await_turn(&mut of.state.lock(), id);
        let result = panic::catch_unwind(AssertUnwindSafe(body));
        TASK.set(None);
        of.end(id);
        result.unwrap_or_else(|panic| panic::resume_unwind(panic))
    });
    if started.is_err() {
        scheduler.state.lock().tasks.remove(&id);
    }
    Ok(JoinHandle { host: started?, task: Some(id) })
}

impl<T> JoinHandle<T> {
    pub(crate) fn is_finished(&self) -> bool {
        match (self.task, task()) {
            (Some(id), Some((scheduler, _))) => !scheduler.state.lock().tasks.contains_key(&id),
            _ => self.host.is_finished(),
        }
    }

    /// Waits for its end.
    pub(crate) fn join(self) -> Result<T, Box<dyn Any + Send>> {
        if let (Some(id), Some((scheduler, me))) = (self.task, task()) {
            while scheduler.state.lock().tasks.contains_key(&id) {
                scheduler.wait(me, ended_key(id), None);
            }
        }
        self.host.join()
    }
}

/// A program of a simulation: a thread of a test that uses its machines.
#[derive(Debug)]
pub struct Program<T>(JoinHandle<T>);

impl<T> Program<T> {
    /// Waits for its end.
    ///
    /// # Panics
    /// If it did.
    #[allow(clippy::must_use_candidate)] // most programs have nothing to tell
    pub fn join(self) -> T {
        self.0.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

/// Starts a program in the calling thread's simulation.
///
/// # Panics
/// The host has no thread left.
pub fn start<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> Program<T> {
    Program(spawn(std::thread::Builder::new(), name, body).expect("a thread of the host"))
}

/// What a run has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The kernel calls of all threads, in their order.
    pub steps: Vec<Step>,
    /// The time that has passed in it.
    pub time: Duration,
}

/// Runs `body` as the first program of a simulation. Machines made in it, and programs started in it, belong to it, and are gone
/// when it returns. With the same seed and schedule the same happens in the same order.
///
/// # Panics
/// If no thread can ever run again, which is a hang; if `body` leaves threads behind; if it panics.
pub fn run<T>(seed: u64, schedule: Schedule, body: impl FnOnce() -> T) -> (T, Record) {
    assert!(!is_simulated(), "a simulation in a simulation");
    let mut random = Random::new(seed);
    let loss = 1 << (LOSSES - random.below(8));
    let state = State {
        random,
        schedule,
        loss,
        lowest: 0,
        now: Duration::ZERO,
        tasks: BTreeMap::new(),
        next: 0,
        running: None,
        trace: Vec::new(),
        hung: false,
    };
    let scheduler = Arc::new(Scheduler { seed, base: Instant::now(), state: Mutex::new(state) });
    let me = {
        let mut state = scheduler.state.lock();
        let me = state.add("first program");
        state.running = Some(me);
        me
    };
    TASK.set(Some((scheduler.clone(), me)));
    let result = panic::catch_unwind(AssertUnwindSafe(body));
    TASK.set(None);
    let mut state = scheduler.state.lock();
    let result = match result {
        Ok(result) => result,
        Err(panic) => {
            eprintln!("the simulation of seed {seed} ({schedule:?}) has failed after {:?}", state.now);
            panic::resume_unwind(panic)
        }
    };
    state.tasks.remove(&me);
    assert!(state.tasks.is_empty(), "seed {seed}: threads are left behind:\n{}", state.describe());
    (result, Record { steps: std::mem::take(&mut state.trace), time: state.now })
}
