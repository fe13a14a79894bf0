//! Notifications: one word of bits that threads wait for.

use super::endpoint::end_wait;
use crate::{
    domain::{self, Domain, Owner},
    lock, sched,
    thread::{
        NOTIFY_LINK, Thread,
        wait::{self, Wait},
    },
};
use kernel_abi::{Error, Kind};
use kernel_machine::{
    Reg,
    object::{Borrow, Guard, Object, Queue, Ref, SpinLock, Work},
};

/// Most threads that wait for one Notification, which bounds the search of a signal.
const MAX_WAITERS: usize = 64;

/// Bits and who waits for them.
pub(super) struct State {
    bits: u64,
    waiters: Queue<Thread, NOTIFY_LINK>,
    count: usize,
}

/// A Notification.
pub struct Notification {
    owner: Owner,
    state: SpinLock<State>,
}

impl Notification {
    /// Creates one with all bits clear.
    ///
    /// # Errors
    /// As [`domain::create`].
    pub fn create(domain: &Ref<Domain>) -> Result<Ref<Self>, Error> {
        domain::create(domain, |owner| Self {
            owner,
            state: SpinLock::new(lock::NOTIFICATION, State { bits: 0, waiters: Queue::new(), count: 0 }),
        })
    }

    /// Sets bits and wakes those who wait for them, as long as bits are left.
    pub fn signal(&self, bits: u64) {
        let mut state = self.state.lock();
        state.bits |= bits;
        // Every turn takes at least one bit, so there are at most 64.
        while state.bits != 0 {
            let present = state.bits;
            let Some(thread) = state.waiters.take_first(MAX_WAITERS, |thread| mask_of(thread) & present != 0)
            else {
                return;
            };
            state.count = state.count.saturating_sub(1);
            let mask = mask_of(&thread);
            let Some(claim) = thread.waiting.claim() else { continue };
            let taken = state.bits & mask;
            state.bits &= !taken;
            drop(state);
            deliver(&thread, claim, taken);
            state = self.state.lock();
        }
    }

    pub(super) fn lock(&self) -> Guard<'_, State> {
        self.state.lock()
    }

    /// Takes a thread off the list, if it is on it.
    pub fn forget(&self, thread: &Ref<Thread>) {
        let mut state = self.state.lock();
        if state.waiters.remove(thread).is_some() {
            state.count = state.count.saturating_sub(1);
        }
    }

    /// Destroys it: everybody who waits is told.
    pub fn destroy(this: Borrow<'_, Self>) {
        if !this.mark_dead() {
            return;
        }
        loop {
            let mut state = this.state.lock();
            let Some(thread) = state.waiters.pop() else { return };
            end_wait(&thread, state);
        }
    }
}

impl State {
    /// Takes the bits of a mask that are set.
    pub(super) const fn take(&mut self, mask: u64) -> u64 {
        let taken = self.bits & mask;
        self.bits &= !mask;
        taken
    }

    /// Adds a waiter.
    ///
    /// # Errors
    /// `WouldBlock` if too many wait already.
    pub(super) fn join(&mut self, thread: Ref<Thread>) -> Result<(), Error> {
        if self.count >= MAX_WAITERS {
            return Err(Error::WouldBlock);
        }
        self.waiters.push(thread).map_err(|_| Error::WouldBlock)?;
        self.count += 1;
        Ok(())
    }
}

/// The bits a thread waits for.
fn mask_of(thread: &Thread) -> u64 {
    match &*thread.wait().lock() {
        Wait::Notification(_, mask) => *mask,
        Wait::Receive(_) => u64::MAX,
        _ => 0,
    }
}

/// Ends a claimed wait with bits.
fn deliver(thread: &Ref<Thread>, claim: wait::Claim, bits: u64) {
    let settled = wait::settle(thread, claim);
    if let Wait::Receive(receiving) = &settled {
        receiving.reply.unreserve();
        received(thread, bits);
    } else {
        thread.context.set(Reg::Rax, 0);
        thread.context.set(Reg::Rdx, bits);
    }
    sched::ready(thread.clone());
}

/// Bits as the result of `Receive`.
pub(super) fn received(thread: &Thread, bits: u64) {
    thread.context.set(Reg::Rax, 0);
    thread.context.set(Reg::Rdi, u64::MAX);
    thread.context.set(Reg::Rsi, 0);
    thread.context.set(Reg::Rdx, bits);
}

/// The operation `NotificationWait` of the current thread; bits that were there, or `None` when it waits.
///
/// # Errors
/// `TimedOut` if it must not wait, `PeerDead`, `WouldBlock` if too many threads wait.
pub fn wait(
    thread: &Ref<Thread>,
    notification: &Ref<Notification>,
    mask: u64,
    deadline: u64,
) -> Result<Option<u64>, Error> {
    let mut state = notification.lock();
    if notification.borrow().is_dead() {
        return Err(Error::PeerDead);
    }
    let taken = state.take(mask);
    if taken != 0 {
        return Ok(Some(taken));
    }
    if deadline == 0 {
        return Err(Error::TimedOut);
    }
    wait::describe(thread, Wait::Notification(notification.clone(), mask));
    state.join(thread.clone()).inspect_err(|_| wait::describe(thread, Wait::None))?;
    sched::timer::arm(thread, deadline);
    let word = thread.waiting.block();
    drop(state);
    if wait::commit(thread, word) {
        sched::block();
    }
    Ok(None)
}

impl Object for Notification {
    const KIND: Kind = Kind::Notification;
    fn reclaim(this: &Borrow<'_, Self>, _work: &mut Work) -> bool {
        this.owner.leave(*this);
        true
    }
}
