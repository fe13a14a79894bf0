//! Endpoints and their Gates: the queues of servers and callers.

use crate::{
    domain::{self, Domain, Owner},
    lock, reaper,
    thread::{Thread, WAIT_LINK, wait},
};
use kernel_abi::{Error, Kind};
use kernel_machine::object::{Borrow, Guard, Link, Linked, Object, Queue, Ref, SpinLock, Work};

/// Link of a Gate among those with waiting callers.
const READY_LINK: usize = 0;
/// Cost of ending one wait.
const WAKE_COST: u32 = 32;

/// What an Endpoint's lock guards.
pub(super) struct Servers {
    /// Threads that wait for a call.
    pub receivers: Queue<Thread, WAIT_LINK>,
    /// Gates with waiting callers, in turn.
    pub ready: Queue<Gate, READY_LINK>,
}

/// An Endpoint.
pub struct Endpoint {
    owner: Owner,
    servers: SpinLock<Servers>,
}

/// What a Gate's lock guards; it is taken while its Endpoint's is held.
pub(super) struct Callers {
    /// Callers that no server has received.
    pub queued: Queue<Thread, WAIT_LINK>,
    /// Callers that wait for their answer.
    pub served: Queue<Thread, WAIT_LINK>,
    /// Members of both.
    pub in_flight: u32,
}

/// A Gate.
pub struct Gate {
    owner: Owner,
    endpoint: Ref<Endpoint>,
    pub(super) badge: u64,
    pub(super) limit: u32,
    callers: SpinLock<Callers>,
    link: Link,
}

impl Linked<READY_LINK> for Gate {
    fn link(&self) -> &Link {
        &self.link
    }
}

impl Endpoint {
    /// Creates one.
    ///
    /// # Errors
    /// As [`domain::create`].
    pub fn create(domain: &Ref<Domain>) -> Result<Ref<Self>, Error> {
        domain::create(domain, |owner| Self {
            owner,
            servers: SpinLock::new(lock::SESSION, Servers { receivers: Queue::new(), ready: Queue::new() }),
        })
    }

    pub(super) fn lock(&self) -> Guard<'_, Servers> {
        self.servers.lock()
    }

    /// Takes a receiver out of line.
    pub fn forget(&self, thread: &Ref<Thread>) {
        let removed = self.servers.lock().receivers.remove(thread);
        drop(removed);
    }

    /// Destroys it: receivers and waiting callers are told.
    pub fn destroy(this: Borrow<'_, Self>) {
        if this.mark_dead()
            && let Some(endpoint) = this.to_ref()
        {
            reaper::add(endpoint.into_any());
        }
    }

    /// One slice of telling everybody who waits: whether all know.
    pub fn reap(&self, work: &mut Work) -> bool {
        while work.spend(WAKE_COST) {
            let mut servers = self.servers.lock();
            if let Some(thread) = servers.receivers.pop() {
                end_wait(&thread, servers);
                continue;
            }
            let Some(gate) = servers.ready.pop() else { return true };
            let mut callers = gate.callers.lock_second();
            let Some(thread) = callers.queued.pop() else { continue };
            callers.in_flight = callers.in_flight.saturating_sub(1);
            drop(callers);
            // There may be more in this Gate.
            let _ = servers.ready.push(gate);
            end_wait(&thread, servers);
        }
        false
    }
}

/// Ends a wait because what was waited for is gone. The locks of the queue that the thread was in are held until the wait is claimed: no later one is.
pub(super) fn end_wait<G>(thread: &Ref<Thread>, guards: G) {
    let claim = thread.waiting.claim();
    drop(guards);
    if let Some(claim) = claim {
        wait::wake(thread, claim, Err(Error::PeerDead));
    }
}

impl Gate {
    /// Creates one with a badge and a limit of calls in flight.
    ///
    /// # Errors
    /// As [`domain::create`].
    pub fn create(
        domain: &Ref<Domain>,
        endpoint: Ref<Endpoint>,
        badge: u64,
        limit: u32,
    ) -> Result<Ref<Self>, Error> {
        domain::create(domain, |owner| Self {
            owner,
            endpoint,
            badge,
            limit,
            callers: SpinLock::new(
                lock::SESSION,
                Callers { queued: Queue::new(), served: Queue::new(), in_flight: 0 },
            ),
            link: Link::new(),
        })
    }

    pub(super) const fn endpoint(&self) -> &Ref<Endpoint> {
        &self.endpoint
    }

    /// Locks the callers; the Endpoint is locked.
    pub(super) fn lock(&self, _endpoint: &Servers) -> Guard<'_, Callers> {
        self.callers.lock_second()
    }

    /// Takes a caller out: its call is over.
    pub fn forget(&self, thread: &Ref<Thread>) {
        let servers = self.endpoint.servers.lock();
        let mut callers = self.lock(&servers);
        let removed = callers.served.remove(thread).or_else(|| callers.queued.remove(thread));
        if removed.is_some() {
            callers.in_flight = callers.in_flight.saturating_sub(1);
        }
        drop(callers);
        drop(servers);
        drop(removed);
    }

    /// Destroys it: the session is over, calls in flight end.
    pub fn destroy(this: Borrow<'_, Self>) {
        if this.mark_dead()
            && let Some(gate) = this.to_ref()
        {
            reaper::add(gate.into_any());
        }
    }

    /// One slice of ending the calls in flight: whether none is left.
    pub fn reap(&self, work: &mut Work) -> bool {
        while work.spend(WAKE_COST) {
            let servers = self.endpoint.servers.lock();
            let mut callers = self.lock(&servers);
            let Some(thread) = callers.queued.pop().or_else(|| callers.served.pop()) else {
                return true;
            };
            callers.in_flight = callers.in_flight.saturating_sub(1);
            end_wait(&thread, (callers, servers));
        }
        false
    }
}

impl Object for Endpoint {
    const KIND: Kind = Kind::Endpoint;
    fn reclaim(this: &Borrow<'_, Self>, work: &mut Work) -> bool {
        if !this.reap(work) {
            return false;
        }
        this.owner.leave(*this);
        true
    }
}

impl Object for Gate {
    const KIND: Kind = Kind::Gate;
    fn reclaim(this: &Borrow<'_, Self>, work: &mut Work) -> bool {
        if !this.reap(work) {
            return false;
        }
        this.owner.leave(*this);
        true
    }
}
