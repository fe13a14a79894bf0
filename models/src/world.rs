//! The portable kernel on the fake machine, with actors: threads pinned to a CPU each, whose operations a test writes down.
//!
//! An actor's operation is performed as the machine would: registers are filled, the kernel is entered on the actor's CPU, registers are read. A test
//! that wants to know what is left of a destroyed Domain compares [`World::ledger`] before and after, with [`World::settle`] in between.

use kernel_abi::{
    Error, Operation, Rights,
    cap::Slot,
    layout::{HOME_BASE, home},
    resource::UNLIMITED,
    space::SpaceUse,
};
use kernel_core::{
    domain::{Amounts, Domain, FRAME_UNITS},
    entry::{self, IdleStep},
    frames, sched,
    space::Space,
    thread::Thread,
};
use kernel_machine::{
    CpuId, Interrupt, Machine, Reg,
    object::{AnyRef, Ref, epoch},
    on_cpu,
};

/// Registers of an operation's arguments.
pub const ARGUMENTS: [Reg; 6] = [Reg::Rdi, Reg::Rsi, Reg::Rdx, Reg::R10, Reg::R8, Reg::R9];
/// Rounds of deferred work after which a test gives up.
const ROUNDS: usize = 100_000;

/// A booted kernel without a root program. Declare it before everything that refers to its objects.
pub struct World {
    /// The root Domain.
    pub root: Ref<Domain>,
    cpus: usize,
    frames: u64,
    /// The machine; other tests wait while it exists.
    pub machine: Machine,
}

/// What a Domain uses: frames, objects, slots, threads.
pub type Use = [u64; 4];

/// Everything that must be as before when what was created is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerState {
    /// What the root Domain uses, its children's included.
    pub used: Use,
}

/// A thread that a test plays.
#[derive(Clone)]
pub struct Actor {
    /// The thread.
    pub thread: Ref<Thread>,
    /// The CPU it runs on, alone.
    pub cpu: CpuId,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With this result.
    Done(Result<u64, Error>),
    /// Not yet: the thread waits.
    Waits,
    /// Not at all: the thread is no more.
    Ended,
}

impl Outcome {
    /// The value of an operation that must have succeeded.
    ///
    /// # Panics
    /// If it has not.
    #[must_use]
    pub fn value(self) -> u64 {
        match self {
            Self::Done(Ok(value)) => value,
            other => panic!("the operation was to succeed: {other:?}"),
        }
    }
}

impl World {
    /// Boots a kernel on a machine with some frames and CPUs.
    ///
    /// # Panics
    /// If the machine is too small.
    #[must_use]
    pub fn boot(frames: u32, cpus: usize) -> Self {
        let machine = Machine::start(frames, cpus);
        entry::prepare().expect("the kernel boots");
        let root = Domain::root(u64::from(frames::total())).expect("the root Domain");
        Self { root, cpus, frames: u64::from(frames), machine }
    }

    /// A child of the root Domain without limits.
    ///
    /// # Panics
    /// If the kernel refuses.
    #[must_use]
    pub fn domain(&self) -> Ref<Domain> {
        self.limited(self.frames, UNLIMITED)
    }

    /// A child of the root Domain with limits on frames and on objects, slots and threads each.
    ///
    /// # Panics
    /// If the kernel refuses.
    #[must_use]
    pub fn limited(&self, frames: u64, others: u64) -> Ref<Domain> {
        Domain::child(&self.root, limits(frames, others)).expect("a Domain")
    }

    /// A home Space.
    ///
    /// # Panics
    /// If the kernel refuses.
    #[must_use]
    pub fn home(&self, domain: &Ref<Domain>) -> Ref<Space> {
        Space::create(domain, SpaceUse::Home, None, false).expect("a home Space")
    }

    /// A started thread in a new home Space that runs on one CPU only.
    ///
    /// # Panics
    /// If the kernel refuses.
    #[must_use]
    pub fn actor(&self, domain: &Ref<Domain>, cpu: CpuId) -> Actor {
        self.actor_in(domain, self.home(domain), cpu)
    }

    /// The same in a certain home Space.
    ///
    /// # Panics
    /// If the kernel refuses.
    #[must_use]
    pub fn actor_in(&self, domain: &Ref<Domain>, space: Ref<Space>, cpu: CpuId) -> Actor {
        assert!(cpu < self.cpus, "no such CPU");
        let thread = Thread::create(domain, space, None).expect("a thread");
        thread.sched.cpus.store(1 << cpu, std::sync::atomic::Ordering::Relaxed);
        start(&thread).expect("the thread starts");
        Actor { thread, cpu }
    }

    /// Puts a capability with all rights into a Domain's slot.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn grant(&self, domain: &Ref<Domain>, slot: Slot, object: AnyRef, rights: Rights) {
        let entry = epoch::enter();
        Domain::install(domain.borrow(), u64::from(slot), object, rights, &entry)
            .expect("an empty slot");
    }

    /// Makes an actor the current thread of its CPU.
    ///
    /// # Panics
    /// If it cannot run.
    pub fn make_current(&self, actor: &Actor) {
        on_cpu(actor.cpu, || {
            for _ in 0..ROUNDS {
                if is_current(&actor.thread) {
                    return;
                }
                self.turn();
            }
            panic!("the actor does not get to run");
        });
    }

    /// Performs an operation of an actor that is not waiting.
    pub fn operate(&self, actor: &Actor, operation: Operation, arguments: &[u64]) -> Outcome {
        self.operate_raw(actor, operation as u64, arguments)
    }

    /// The same if the actor is its CPU's current thread; `Ended` if it is not.
    pub fn try_operate(&self, actor: &Actor, operation: Operation, arguments: &[u64]) -> Outcome {
        let is_current = on_cpu(actor.cpu, || is_current(&actor.thread));
        if is_current { self.perform(actor, operation as u64, arguments) } else { Outcome::Ended }
    }

    /// The same by number.
    pub fn operate_raw(&self, actor: &Actor, number: u64, arguments: &[u64]) -> Outcome {
        self.make_current(actor);
        self.perform(actor, number, arguments)
    }

    fn perform(&self, actor: &Actor, number: u64, arguments: &[u64]) -> Outcome {
        let context = &actor.thread.context;
        context.set(Reg::Rax, number);
        for (index, register) in ARGUMENTS.into_iter().enumerate() {
            context.set(register, arguments.get(index).copied().unwrap_or(0));
        }
        on_cpu(actor.cpu, entry::on_operation);
        self.outcome(actor)
    }

    /// What has become of an actor's last operation.
    #[must_use]
    pub fn outcome(&self, actor: &Actor) -> Outcome {
        match actor.thread.waiting.number() {
            1 if !actor.thread.is_doomed() => {
                let rax = actor.thread.context.get(Reg::Rax);
                Outcome::Done(Error::from_result(rax.cast_signed()).map_or(Ok(rax), Err))
            }
            2 => Outcome::Waits,
            _ => Outcome::Ended,
        }
    }

    /// Lets a CPU enter the kernel once without an operation: an interrupt that is pending, a timer, or an idle CPU's work.
    fn turn(&self) -> bool {
        if let Some(interrupt) = self.machine.take_interrupt() {
            entry::on_interrupt(interrupt);
            return true;
        }
        if self.machine.current().is_some() {
            entry::on_interrupt(Interrupt::Reschedule);
            entry::on_interrupt(Interrupt::Timer);
            return false;
        }
        entry::idle_step() != IdleStep::Nothing
    }

    /// Lets every CPU work until nothing that was deferred is left.
    ///
    /// # Panics
    /// If it does not end.
    pub fn settle(&self) {
        let mut quiet = 0;
        for _ in 0..ROUNDS {
            let mut worked = false;
            for cpu in 0..self.cpus {
                worked |= on_cpu(cpu, || self.turn() | entry::is_work_pending());
            }
            quiet = if worked { 0 } else { quiet + 1 };
            if quiet > 2 {
                return;
            }
        }
        panic!("deferred work does not end");
    }

    /// Settles, and tells what is in use.
    #[must_use]
    pub fn ledger(&self) -> LedgerState {
        self.settle();
        LedgerState { used: use_of(&self.root) }
    }
}

/// Starts a stopped thread.
///
/// # Errors
/// As `ThreadStart`.
pub fn start(thread: &Ref<Thread>) -> Result<(), Error> {
    Thread::start(thread.borrow(), HOME_BASE + home::PROGRAM, HOME_BASE + home::STACK_TOP, 0)
}

/// Whether a thread is the current one of the calling CPU.
#[must_use]
pub fn is_current(thread: &Ref<Thread>) -> bool {
    let entry = epoch::enter();
    sched::current(&entry).is_some_and(|current| current.is(thread.borrow()))
}

/// What a Domain uses.
#[must_use]
pub fn use_of(domain: &Ref<Domain>) -> Use {
    [0, 1, 2, 3].map(|index| domain.account(index).0)
}

/// Limits of a Domain.
#[must_use]
pub const fn limits(frames: u64, others: u64) -> Amounts {
    Amounts {
        units: frames.saturating_mul(FRAME_UNITS),
        objects: others,
        slots: others,
        threads: others,
    }
}
