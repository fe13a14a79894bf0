//! Waking a thread while its CPU is still on the way out of the kernel.

use kernel_abi::Rights;
use kernel_core::{
    ipc::{self, Notification},
    sched,
    thread::wait::{self, Wait},
};
use kernel_machine::{object::epoch, on_cpu};
use models::world::{World, is_current};

/// The waker has ended the wait but not yet written its result when the blocked thread's CPU chooses anew: the thread must not run on.
#[test]
fn a_thread_that_has_blocked_runs_only_after_its_waker_is_done() {
    let world = World::boot(1024, 2);
    let domain = world.domain();
    let actor = world.actor(&domain, 0);
    let notification = Notification::create(&domain).unwrap();
    world.grant(&domain, 30, notification.clone().into_any(), Rights::ALL);
    world.make_current(&actor);
    let entry = epoch::enter();
    on_cpu(0, || assert_eq!(ipc::wait(&actor.thread, &notification, 1, u64::MAX), Ok(None)));
    let claim = actor.thread.waiting.claim().unwrap();
    assert!(matches!(on_cpu(1, || wait::settle(&actor.thread, claim)), Wait::Notification(_, 1)));
    on_cpu(0, || sched::leave_kernel(&entry));
    assert!(on_cpu(0, || !is_current(&actor.thread)));
    on_cpu(1, || sched::ready(actor.thread.clone()));
    drop(entry);
    world.make_current(&actor);
}
