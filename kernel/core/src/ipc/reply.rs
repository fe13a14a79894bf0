//! Replies: the place for the answer to one call.

use crate::{
    domain::{self, Domain, Owner},
    lock,
    thread::{Thread, wait},
};
use kernel_abi::{Error, Kind};
use kernel_machine::object::{Borrow, Object, Ref, SpinLock, Work};

/// What a Reply is used for.
enum State {
    /// Nothing.
    Idle,
    /// A receiver waits with it.
    Reserved,
    /// A caller waits for the answer, in the wait with this word.
    Holds(Ref<Thread>, u64),
}

/// A Reply.
pub struct Reply {
    owner: Owner,
    state: SpinLock<State>,
}

impl Reply {
    /// Creates an idle one.
    ///
    /// # Errors
    /// As [`domain::create`].
    pub fn create(domain: &Ref<Domain>) -> Result<Ref<Self>, Error> {
        domain::create(domain, |owner| Self { owner, state: SpinLock::new(lock::REPLY, State::Idle) })
    }

    /// Reserves it for the next call.
    ///
    /// # Errors
    /// `WrongState` if it is in use.
    pub fn reserve(&self) -> Result<(), Error> {
        let mut state = self.state.lock();
        if !matches!(*state, State::Idle) {
            return Err(Error::WrongState);
        }
        *state = State::Reserved;
        Ok(())
    }

    /// The receiver has given up.
    pub fn unreserve(&self) {
        let mut state = self.state.lock();
        if matches!(*state, State::Reserved) {
            *state = State::Idle;
        }
    }

    /// Keeps a caller.
    pub(super) fn hold(&self, caller: Ref<Thread>, word: u64) {
        *self.state.lock() = State::Holds(caller, word);
    }

    /// Takes the caller out.
    pub(super) fn take(&self) -> Option<(Ref<Thread>, u64)> {
        let mut state = self.state.lock();
        match core::mem::replace(&mut *state, State::Idle) {
            State::Holds(caller, word) => Some((caller, word)),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Destroys it: a caller that waits is told.
    pub fn destroy(this: Borrow<'_, Self>) {
        if this.mark_dead() {
            this.abandon();
        }
    }

    /// Whoever has just put a caller in looks whether the Reply was destroyed meanwhile: then the caller is told.
    pub(super) fn check_alive(this: Borrow<'_, Self>) {
        if this.is_dead() {
            this.abandon();
        }
    }

    /// Tells a caller that waits that there is no answer.
    pub(super) fn abandon(&self) {
        if let Some((caller, word)) = self.take()
            && let Some(claim) = caller.waiting.claim_exact(word)
        {
            wait::wake(&caller, claim, Err(Error::PeerDead));
        }
    }
}

impl Object for Reply {
    const KIND: Kind = Kind::Reply;
    fn reclaim(this: &Borrow<'_, Self>, _work: &mut Work) -> bool {
        this.abandon();
        this.owner.leave(*this);
        true
    }
}
