//! Waiting and waking: one word per thread decides who ends a wait.
//!
//! A wait has a sequence number. The thread describes what it waits for, joins the queues and then publishes the word as *blocked*. Whoever wants to
//! end the wait (a message, a signal, the deadline, a kick, death) must *claim* it by compare-and-swap; the one that succeeds takes the thread out of
//! its queues, writes the result into its registers and makes it ready. All others find the word changed and leave the thread alone.

use super::{KICKED, KILLED, Thread, UNPARKED};
use crate::{
    ipc::{Endpoint, Gate, Notification, Reply},
    sched,
};
use kernel_abi::Error;
use kernel_machine::atomic::{AtomicU64, Ordering};
use kernel_machine::{Reg, object::Ref};

const READY: u64 = 0;
const BLOCKED: u64 = 1;
const CLAIMED: u64 = 2;
const STOPPED: u64 = 3;
const DEAD: u64 = 4;
const PHASE: u64 = 7;
const STEP: u64 = 8;

/// What a thread waits for.
pub enum Wait {
    /// Nothing.
    None,
    /// An unpark.
    Park,
    /// The next period of its Domain's bandwidth.
    Throttled,
    /// Bits of a Notification.
    Notification(Ref<Notification>, u64),
    /// A call.
    Receive(Receiving),
    /// That a server receives its call.
    Queued(Ref<Gate>),
    /// The answer to its call.
    Served(Ref<Gate>),
}

/// What a receiver waits with.
pub struct Receiving {
    /// Where calls come from.
    pub endpoint: Ref<Endpoint>,
    /// Ends the wait too.
    pub notification: Option<Ref<Notification>>,
    /// Where the call is kept.
    pub reply: Ref<Reply>,
}

impl Wait {
    /// Whether a kick ends it.
    #[must_use]
    pub const fn is_kickable(&self) -> bool {
        !matches!(self, Self::None | Self::Throttled | Self::Served(_))
    }
}

/// A claimed wait: its holder alone wakes the thread.
#[must_use]
pub struct Claim(());

/// The word.
pub struct WaitWord(AtomicU64);

impl WaitWord {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(STOPPED))
    }
    fn change(&self, from: u64, to: u64) -> bool {
        let word = self.0.load(Ordering::SeqCst);
        word & PHASE == from
            && self.0.compare_exchange(word, word - from + to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
    /// Stopped becomes ready.
    pub(super) fn start(&self) -> bool {
        self.change(STOPPED, READY)
    }
    /// Stopped becomes dead.
    pub(super) fn stop_unstarted(&self) -> bool {
        self.change(STOPPED, DEAD)
    }
    /// Ready becomes dead.
    pub(super) fn end(&self) -> bool {
        self.change(READY, DEAD)
    }
    /// The state as `ThreadStat` tells it: stopped, runnable, blocked, dead.
    #[must_use]
    pub fn number(&self) -> u64 {
        match self.0.load(Ordering::Relaxed) & PHASE {
            STOPPED => 0,
            READY => 1,
            DEAD => 3,
            _ => 2,
        }
    }
    /// Whether it can still run.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::SeqCst) & PHASE == READY
    }
    /// Publishes the thread's next wait, by the thread itself or who has claimed it; the word to claim it by.
    pub fn block(&self) -> u64 {
        let word = (self.0.load(Ordering::Relaxed) & !PHASE).wrapping_add(STEP) | BLOCKED;
        self.0.store(word, Ordering::SeqCst);
        word
    }
    /// The word, if the thread is blocked.
    #[must_use]
    pub fn blocked(&self) -> Option<u64> {
        let word = self.0.load(Ordering::SeqCst);
        (word & PHASE == BLOCKED).then_some(word)
    }
    /// Claims whatever wait there is.
    pub fn claim(&self) -> Option<Claim> {
        self.claim_exact(self.blocked()?)
    }
    /// Claims one certain wait.
    pub fn claim_exact(&self, word: u64) -> Option<Claim> {
        let claimed = word - BLOCKED + CLAIMED;
        self.0
            .compare_exchange(word, claimed, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
            .then_some(Claim(()))
    }
    /// A claimed wait is over.
    fn release(&self) {
        let word = self.0.load(Ordering::Relaxed);
        self.0.store(word & !PHASE | READY, Ordering::SeqCst);
    }
}

/// Looks whether something came between the thread's decision to wait and the publication of the wait; whether it still waits.
/// The caller then runs another thread.
pub fn commit(thread: &Ref<Thread>, word: u64) -> bool {
    let is_killed = thread.has_flag(KILLED);
    let result = match &*thread.wait.lock() {
        _ if is_killed => Err(Error::Kicked),
        Wait::Park if thread.has_flag(UNPARKED) => Ok(()),
        wait if wait.is_kickable() && thread.has_flag(KICKED) => Err(Error::Kicked),
        _ => return true,
    };
    let Some(claim) = thread.waiting.claim_exact(word) else { return true };
    if result.is_ok() {
        thread.take_flag(UNPARKED);
    } else if !is_killed {
        thread.take_kick();
    }
    finish(thread, claim, result);
    false
}

/// As [`commit`] for a thread that another one has moved from one wait to the next.
pub fn recheck(thread: &Ref<Thread>, word: u64) {
    if thread.has_flag(KILLED)
        && let Some(claim) = thread.waiting.claim_exact(word)
    {
        wake(thread, claim, Err(Error::Kicked));
    }
}

/// Describes the wait that the thread is about to publish.
pub fn describe(thread: &Thread, wait: Wait) {
    let before = core::mem::replace(&mut *thread.wait.lock(), wait);
    drop(before);
}

/// Ends a claimed wait without making the thread ready: takes it out of every queue. What it waited for.
pub fn settle(thread: &Ref<Thread>, _claim: Claim) -> Wait {
    let wait = core::mem::replace(&mut *thread.wait.lock(), Wait::None);
    sched::timer::cancel(thread);
    match &wait {
        Wait::None | Wait::Park | Wait::Throttled => {}
        Wait::Notification(notification, _) => notification.forget(thread),
        Wait::Receive(receiving) => {
            receiving.endpoint.forget(thread);
            if let Some(notification) = &receiving.notification {
                notification.forget(thread);
            }
        }
        Wait::Queued(gate) | Wait::Served(gate) => gate.forget(thread),
    }
    thread.waiting.release();
    wait
}

/// Ends a claimed wait with a result in `rax` and makes the thread ready.
pub fn wake(thread: &Ref<Thread>, claim: Claim, result: Result<(), Error>) {
    finish(thread, claim, result);
    sched::ready(thread.clone());
}

/// As [`wake`], but the thread is left to the caller to run.
pub fn finish(thread: &Ref<Thread>, claim: Claim, result: Result<(), Error>) {
    let wait = settle(thread, claim);
    if let Wait::Receive(receiving) = &wait {
        receiving.reply.unreserve();
    }
    if !matches!(wait, Wait::Throttled) {
        thread.context.set(Reg::Rax, encode(result));
    }
}

/// A result as `rax` shows it.
#[must_use]
pub const fn encode(result: Result<(), Error>) -> u64 {
    match result {
        Ok(()) => 0,
        Err(error) => (error as i64).wrapping_neg().cast_unsigned(),
    }
}
