//! Threads: their modes, flags and what they wait for.
//!
//! Owns: the thread object and the one arbiter of waking ([`wait`]). Must not know: which CPU runs it when (`sched`), what messages mean
//! (`ipc`).
//!
//! ```text
//! stopped --start--> ready <--> running --block--> blocked --claim--> ready ...
//!    \________________________ kill / exit _____________________________/---> dead
//! ```

pub mod wait;

use crate::{
    domain::{self, Domain, Owner},
    lock, sched,
    space::{Space, page},
};
use kernel_abi::{Error, Kind, PAGE_SHIFT, guest::Exit, resource::DEFAULT_WEIGHT, space::SpaceUse};
use kernel_machine::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use kernel_machine::{
    Context, Frame, Ipi, Roots,
    object::{Borrow, Link, Linked, Object, Ref, SpinLock, Work},
};
use wait::{Wait, WaitWord};

/// `on_cpu` of a thread that no CPU runs.
pub const NO_CPU: usize = usize::MAX;
/// A kick that nobody has consumed.
pub const KICKED: u32 = 1 << 0;
/// An unpark that nobody has consumed.
pub const UNPARKED: u32 = 1 << 1;
/// The thread must end.
pub const KILLED: u32 = 1 << 2;
/// A fault in home mode is being handled.
pub const HANDLING: u32 = 1 << 3;

/// Link in an endpoint's or gate's queue or a notification's.
pub const WAIT_LINK: usize = 0;
/// Link among a Notification's waiters.
pub const NOTIFY_LINK: usize = 1;
/// Link in a timer wheel.
pub const TIMER_LINK: usize = 2;
/// Link in a run queue.
pub const RUN_LINK: usize = 3;

/// A thread.
pub struct Thread {
    owner: Owner,
    /// Its user registers.
    pub context: Context,
    home: Ref<Space>,
    guest: SpinLock<Option<Ref<Space>>>,
    vector_area: Frame,
    /// Its wait, if it waits; see [`wait`].
    pub waiting: WaitWord,
    wait: SpinLock<Wait>,
    links: [Link; 4],
    flags: AtomicU32,
    fault_handler: [AtomicU64; 2],
    /// What the scheduler knows of it.
    pub sched: Scheduling,
}

/// What the scheduler knows of a thread.
pub struct Scheduling {
    /// The CPU whose queue it is in or goes to.
    pub cpu: AtomicUsize,
    /// The CPU that runs it or has not yet left it.
    pub on_cpu: AtomicUsize,
    /// CPUs it may run on, within its Domain's.
    pub cpus: AtomicU64,
    /// Weight within its Domain.
    pub weight: AtomicU64,
    /// The weight it counts with while it is runnable.
    pub counted_weight: AtomicU64,
    /// Virtual time it has used.
    pub virtual_time: AtomicU64,
    /// Ticks it has used.
    pub used: AtomicU64,
    /// Ticks of those in guest mode, as far as it was seen there.
    pub used_in_guest: AtomicU64,
    /// Its wait's deadline, and the CPU whose wheel it is in.
    pub deadline: AtomicU64,
    /// See `deadline`.
    pub timer_cpu: AtomicUsize,
    /// Bucket of the wheel it is in.
    pub timer_bucket: AtomicUsize,
}

macro_rules! linked {
    ($($number:expr),*) => { $(
        impl Linked<{ $number }> for Thread {
            fn link(&self) -> &Link {
                &self.links[$number]
            }
        }
    )* };
}
linked!(WAIT_LINK, NOTIFY_LINK, TIMER_LINK, RUN_LINK);

impl Thread {
    /// Creates a stopped thread; `state_page` is the home page of its state page, if it may run guests.
    ///
    /// # Errors
    /// As [`domain::create`]; `BadArgument` for a wrong Space or state page.
    pub fn create(
        domain: &Ref<Domain>,
        home: Ref<Space>,
        state_page: Option<u64>,
    ) -> Result<Ref<Self>, Error> {
        if home.used_for() != SpaceUse::Home || home.roots(None).is_none() {
            return Err(Error::BadArgument);
        }
        let vector_area = page::allocate_zeroed(domain)?;
        let state = state_page.map(|offset| home.writable_frame(offset >> PAGE_SHIFT)).transpose();
        let state = state.inspect_err(|_| page::release(vector_area))?;
        let context = Context::new();
        context.set_vector_area(vector_area);
        if let Some(frame) = state {
            context.set_state_page(frame);
        }
        let made = domain::create(domain, |owner| Self {
            owner,
            context,
            home,
            guest: SpinLock::new(lock::THREAD, None),
            vector_area,
            waiting: WaitWord::new(),
            wait: SpinLock::new(lock::THREAD, Wait::None),
            links: [const { Link::new() }; 4],
            flags: AtomicU32::new(0),
            fault_handler: [const { AtomicU64::new(0) }; 2],
            sched: Scheduling::new(),
        });
        made.inspect_err(|_| {
            page::release(vector_area);
            if let Some(frame) = state {
                page::release(frame);
            }
        })
    }

    /// Starts a stopped thread.
    ///
    /// # Errors
    /// `WrongState`; `DomainDead`.
    pub fn start(this: Borrow<'_, Self>, entry: u64, stack: u64, argument: u64) -> Result<(), Error> {
        let thread = this.to_ref().ok_or(Error::NoCapability)?;
        if this.domain().borrow().is_dead() {
            return Err(Error::DomainDead);
        }
        if !this.waiting.start() {
            return Err(Error::WrongState);
        }
        this.context.start(entry, stack, argument);
        this.domain().count_thread(true);
        sched::ready(thread);
        Ok(())
    }

    /// Makes the thread end at the next occasion.
    pub fn kill(this: Borrow<'_, Self>) {
        this.flags.fetch_or(KILLED, Ordering::SeqCst);
        // Its turn has come, however far it is ahead.
        this.sched.virtual_time.store(0, Ordering::Relaxed);
        if this.waiting.stop_unstarted() {
            return;
        }
        let Some(thread) = this.to_ref() else { return };
        if let Some(claim) = this.waiting.claim() {
            wait::wake(&thread, claim, Err(Error::Kicked));
        } else {
            this.interrupt_where_it_runs();
        }
    }

    /// Makes its guest, park or wait return; latched until one does.
    pub fn kick(this: Borrow<'_, Self>) {
        this.flags.fetch_or(KICKED, Ordering::SeqCst);
        this.context.set_attention(true);
        let Some(thread) = this.to_ref() else { return };
        if let Some(word) = this.waiting.blocked() {
            if this.wait.lock().is_kickable()
                && let Some(claim) = this.waiting.claim_exact(word)
            {
                this.take_kick();
                wait::wake(&thread, claim, Err(Error::Kicked));
            }
        } else {
            this.interrupt_where_it_runs();
        }
    }

    /// Ends a park, or lets the next one return at once.
    pub fn unpark(this: Borrow<'_, Self>) {
        this.flags.fetch_or(UNPARKED, Ordering::SeqCst);
        let Some(word) = this.waiting.blocked() else { return };
        if !matches!(*this.wait.lock(), Wait::Park) {
            return;
        }
        let Some(thread) = this.to_ref() else { return };
        if let Some(claim) = this.waiting.claim_exact(word) {
            this.take_flag(UNPARKED);
            wait::wake(&thread, claim, Ok(()));
        }
    }

    fn interrupt_where_it_runs(&self) {
        let cpu = self.sched.on_cpu.load(Ordering::SeqCst);
        if cpu == kernel_machine::cpu() {
            sched::request_reschedule();
        } else if cpu != NO_CPU {
            kernel_machine::interrupt(cpu, Ipi::Reschedule);
        }
    }

    /// The Domain that pays for it.
    #[must_use]
    pub const fn domain(&self) -> &Ref<Domain> {
        self.owner.domain()
    }
    /// Its home Space.
    #[must_use]
    pub const fn home(&self) -> &Ref<Space> {
        &self.home
    }
    /// Its wait.
    #[must_use]
    pub const fn wait(&self) -> &SpinLock<Wait> {
        &self.wait
    }
    /// Whether a flag is set.
    #[must_use]
    pub fn has_flag(&self, flag: u32) -> bool {
        self.flags.load(Ordering::SeqCst) & flag != 0
    }
    /// Sets a flag; whether it was set before.
    pub fn set_flag(&self, flag: u32) -> bool {
        self.flags.fetch_or(flag, Ordering::SeqCst) & flag != 0
    }
    /// Clears a flag; whether it was set.
    pub fn take_flag(&self, flag: u32) -> bool {
        self.flags.fetch_and(!flag, Ordering::SeqCst) & flag != 0
    }
    /// Consumes a kick, if there is one.
    pub fn take_kick(&self) -> bool {
        let kicked = self.take_flag(KICKED);
        if kicked {
            self.context.set_attention(false);
            // A kick that came in between must not lose its mark.
            if self.has_flag(KICKED) {
                self.context.set_attention(true);
            }
        }
        kicked
    }
    /// Whether it must not run any more.
    #[must_use]
    pub fn is_doomed(&self) -> bool {
        self.has_flag(KILLED) || self.domain().schedule.is_dying() || self.home.borrow().is_dead()
    }
    /// CPUs it may run on.
    #[must_use]
    pub fn cpus(&self) -> u64 {
        self.sched.cpus.load(Ordering::Relaxed) & self.domain().cpus()
    }

    /// Registers where faults in home mode continue.
    pub fn set_fault_handler(&self, entry: u64, stack: u64) {
        self.fault_handler[1].store(stack, Ordering::Relaxed);
        self.fault_handler[0].store(entry, Ordering::Relaxed);
    }
    /// The handler's entry and stack.
    #[must_use]
    pub fn fault_handler(&self) -> Option<(u64, u64)> {
        let entry = self.fault_handler[0].load(Ordering::Relaxed);
        (entry != 0).then(|| (entry, self.fault_handler[1].load(Ordering::Relaxed)))
    }

    /// Makes another guest Space the lower half.
    pub fn attach(&self, guest: Option<Ref<Space>>) {
        let before = core::mem::replace(&mut *self.guest.lock(), guest);
        drop(before);
    }
    /// The attached guest Space.
    #[must_use]
    pub fn guest(&self) -> Option<Ref<Space>> {
        self.guest.lock().clone()
    }

    /// The roots to run on and the identities of their Spaces; a guest Space that was destroyed is left first.
    #[must_use]
    pub fn prepare_roots(&self) -> Option<(Roots, u64, u64)> {
        let mut guest = self.guest.lock();
        if guest.as_ref().is_some_and(|guest| guest.borrow().is_dead()) {
            *guest = None;
        }
        if self.context.in_guest() && (guest.is_none() || self.take_kick()) {
            self.context.leave_guest(Exit::Kick, 0, 0);
        }
        let roots = self.home.roots(guest.as_deref())?;
        Some((roots, self.home.identity(), guest.as_ref().map_or(0, |guest| guest.identity())))
    }

    /// Ends the thread for good; the scheduler has left it or is about to.
    pub fn end(&self) {
        if self.waiting.end() {
            self.attach(None);
            self.domain().count_thread(false);
        }
    }
}

impl Scheduling {
    const fn new() -> Self {
        Self {
            cpu: AtomicUsize::new(NO_CPU),
            on_cpu: AtomicUsize::new(NO_CPU),
            cpus: AtomicU64::new(u64::MAX),
            weight: AtomicU64::new(DEFAULT_WEIGHT),
            counted_weight: AtomicU64::new(DEFAULT_WEIGHT),
            virtual_time: AtomicU64::new(0),
            used: AtomicU64::new(0),
            used_in_guest: AtomicU64::new(0),
            deadline: AtomicU64::new(0),
            timer_cpu: AtomicUsize::new(NO_CPU),
            timer_bucket: AtomicUsize::new(0),
        }
    }
}

impl Object for Thread {
    const KIND: Kind = Kind::Thread;
    fn reclaim(this: &Borrow<'_, Self>, _work: &mut Work) -> bool {
        [Some(this.vector_area), this.context.state_page()].into_iter().flatten().for_each(page::release);
        // A parked thread that nobody can reach any more ends here.
        if this.waiting.blocked().is_some() {
            this.domain().count_thread(false);
        }
        this.owner.leave(*this);
        true
    }
}
