//! The reaper: deferred work on destroyed objects, in slices, off everybody's path.
//!
//! Destroyed Domains, Spaces, Endpoints and Gates lie in one queue; a slice takes the first, works on it for a bounded time and puts it back if there is
//! more. Idle CPUs do nothing else; a busy CPU does a slice at every tick of its timer and when a charge has failed, so that what dead
//! Domains hold comes back also under load.

use crate::{
    counter::{self, Counter},
    domain::Domain,
    frames,
    ipc::{Endpoint, Gate},
    lock,
    space::Space,
};
use kernel_abi::Kind;
use kernel_machine::atomic::{AtomicBool, Ordering};
use kernel_machine::object::{AnyRef, Entry, ReapQueue, SpinLock, Work, epoch};

/// Units of work of one slice.
const SLICE: u32 = 4096;

static QUEUE: SpinLock<ReapQueue> = SpinLock::new(lock::REAPER, ReapQueue::new());
/// Whether the queue has something, without its lock.
static PENDING: AtomicBool = AtomicBool::new(false);

/// Hands an object over.
pub(crate) fn add(object: AnyRef) {
    let mut queue = QUEUE.lock();
    queue.push(object);
    PENDING.store(true, Ordering::Release);
}

/// Takes the first object; the flag follows the queue under its lock, so that nothing is added unseen.
fn take() -> Option<AnyRef> {
    let mut queue = QUEUE.lock();
    let next = queue.pop();
    if next.is_none() {
        PENDING.store(false, Ordering::Release);
    }
    next
}

/// Whether there is work for this CPU.
#[must_use]
pub(crate) fn is_pending() -> bool {
    PENDING.load(Ordering::Acquire) || epoch::is_pending()
}

/// Does one slice.
pub(crate) fn work(entry: &Entry) {
    let mut work = Work::new(SLICE);
    counter::add(Counter::ReaperSlices, 1);
    epoch::collect(entry, &mut work, frames::free);
    if let Some(object) = take() {
        if reap(&object, entry, &mut work) {
            // The last reference may be this one: what it retires is work for this CPU.
            drop(object);
        } else {
            add(object);
        }
    }
}

fn reap(object: &AnyRef, entry: &Entry, work: &mut Work) -> bool {
    let object = object.borrow();
    match object.kind() {
        Kind::Domain => object.downcast::<Domain>().is_none_or(|domain| Domain::reap(domain, entry, work)),
        Kind::Space => object.downcast::<Space>().is_none_or(|space| Space::reap(space, work)),
        Kind::Endpoint => object.downcast::<Endpoint>().is_none_or(|endpoint| endpoint.reap(work)),
        Kind::Gate => object.downcast::<Gate>().is_none_or(|gate| gate.reap(work)),
        _ => true,
    }
}

/// Forgets everything, for a kernel that boots again in a host test.
#[cfg(not(target_os = "none"))]
pub(crate) fn reset() {
    *QUEUE.lock() = Default::default();
    PENDING.store(false, Ordering::Release);
}
