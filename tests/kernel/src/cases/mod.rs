//! The cases by subject.

mod capabilities;
mod domains;
mod guests;
mod home;
mod messages;
mod spaces;
mod threads;

use crate::{
    check::{Must, Outcome},
    run::Case,
    world::{PATIENCE, in_seconds},
};
use alloc::{string::String, sync::Arc};
use rt::{Domain, Notification, Thread, sync::SpinLock};

/// Every case in order.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    [
        capabilities::CASES,
        threads::CASES,
        domains::CASES,
        spaces::CASES,
        messages::CASES,
        home::CASES,
        guests::CASES,
    ]
    .into_iter()
    .flatten()
}

/// A place where one thread leaves a value for another.
pub(super) struct Sender<T>(Arc<(SpinLock<Option<T>>, Notification)>);
/// The other end.
pub(super) struct Answer<T>(Arc<(SpinLock<Option<T>>, Notification)>);

/// Makes both ends; panics never, waits with patience.
pub(super) fn channel<T>() -> (Sender<T>, Answer<T>) {
    // Without a Notification the wait fails, and with it the case.
    let notification = Notification::create(Domain::OWN).unwrap_or(Notification(0));
    let shared = Arc::new((SpinLock::new(None), notification));
    (Sender(Arc::clone(&shared)), Answer(shared))
}

impl<T> Sender<T> {
    /// Leaves the value.
    pub(super) fn send(self, value: T) {
        *self.0.0.lock() = Some(value);
        let _ = self.0.1.signal(1);
    }
}

impl<T> Answer<T> {
    /// Waits for the value.
    pub(super) fn wait(self) -> Result<T, String> {
        let waited = self.0.1.wait(1, in_seconds(PATIENCE));
        let _ = self.0.1.destroy();
        let value = self.0.0.lock().take();
        waited.must("wait for a thread")?;
        value.ok_or_else(|| "no value".into())
    }
}

/// Moves the calling thread to a CPU.
pub(super) fn pin_to(cpu: u64) -> Outcome {
    Thread(rt::thread::own_slot()).set_affinity(1 << cpu, 100).must("affinity")?;
    rt::thread::yield_now();
    Ok(())
}

/// Lets the calling thread run anywhere again.
pub(super) fn pin_anywhere() -> Outcome {
    Thread(rt::thread::own_slot()).set_affinity(u64::MAX, 100).must("affinity")
}
