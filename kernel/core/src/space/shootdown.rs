//! Which Spaces each CPU may still have translations of, and how stale ones are flushed.
//!
//! A CPU publishes the Spaces it is about to run beside those it has run, passes a full barrier, loads the root, and only then
//! takes the old ones back. Whoever changes a table does so first, passes a full barrier, then looks at what CPUs have published:
//! a CPU that was seen is asked to flush and waited for; one that was not seen loads its root after the change. The waiter holds no lock and
//! serves requests made to it meanwhile, so two CPUs that wait for each other both go on.

use super::Space;
use crate::counter::{self, Counter};
use kernel_machine::atomic::{AtomicU64, Ordering, fence};
use kernel_machine::{self as machine, CpuId, Ipi, MAX_CPUS};

/// Most pages that are flushed one by one.
const SINGLE: u64 = 8;

/// What one CPU has published, and its flushes.
#[repr(align(64))]
struct Published {
    /// Identities of the home and the guest Space, and of those about to be loaded. 0 is none.
    spaces: [AtomicU64; 4],
    /// Flushes asked for.
    wanted: AtomicU64,
    /// Flushes done.
    done: AtomicU64,
}

static CPUS: [Published; MAX_CPUS] = [const {
    Published { spaces: [const { AtomicU64::new(0) }; 4], wanted: AtomicU64::new(0), done: AtomicU64::new(0) }
}; MAX_CPUS];

/// Announces the Spaces that this CPU is about to load (0: none).
pub fn publish(home: u64, guest: u64) {
    let spaces = &CPUS[machine::cpu() % MAX_CPUS].spaces;
    spaces[2].store(home, Ordering::Relaxed);
    spaces[3].store(guest, Ordering::Relaxed);
    // ORDERING: pairs with the fence in `flush`.
    fence(Ordering::SeqCst);
}

/// Notes that what was announced is loaded and nothing else.
pub fn settle() {
    let spaces = &CPUS[machine::cpu() % MAX_CPUS].spaces;
    for index in 0..2 {
        // ORDERING: Release: the root was loaded before the old Space is taken back.
        spaces[index].store(spaces[index + 2].load(Ordering::Relaxed), Ordering::Release);
    }
}

fn may_use(cpu: CpuId, space: u64) -> bool {
    CPUS[cpu % MAX_CPUS].spaces.iter().any(|published| published.load(Ordering::Acquire) == space)
}

/// Whether another CPU may have translations of a Space.
#[must_use]
pub fn is_used_elsewhere(space: &Space) -> bool {
    fence(Ordering::SeqCst);
    (0..machine::cpu_count()).any(|cpu| cpu != machine::cpu() && may_use(cpu, space.identity()))
}

/// Whether any CPU may have translations of a Space.
#[must_use]
pub fn is_used(space: &Space) -> bool {
    users(space).next().is_some()
}

/// The CPUs that may have translations of a Space. One that is about to run in it looks at the Space's mark of death after it has
/// published it.
pub fn users(space: &Space) -> impl Iterator<Item = CpuId> {
    fence(Ordering::SeqCst);
    let identity = space.identity();
    (0..machine::cpu_count()).filter(move |cpu| may_use(*cpu, identity))
}

/// Flushes a range of a Space's pages on every CPU that may have translations of it, and waits until they have.
pub fn flush(space: &Space, first: u64, last: u64) {
    fence(Ordering::SeqCst);
    let me = machine::cpu();
    if may_use(me, space.identity()) {
        if last - first < SINGLE {
            (first..=last).for_each(|page| machine::flush_page(space.address_of(page)));
        } else {
            machine::flush_all();
        }
    }
    let mut tickets = [0_u64; MAX_CPUS];
    let mut any = false;
    for (cpu, ticket) in tickets.iter_mut().enumerate().take(machine::cpu_count()) {
        if cpu != me && may_use(cpu, space.identity()) {
            *ticket = CPUS[cpu].wanted.fetch_add(1, Ordering::SeqCst) + 1;
            machine::interrupt(cpu, Ipi::Shootdown);
            any = true;
        }
    }
    if !any {
        return;
    }
    counter::add(Counter::Shootdowns, 1);
    for (cpu, ticket) in tickets.iter().enumerate() {
        while CPUS[cpu].done.load(Ordering::Acquire) < *ticket {
            serve();
            machine::relax();
        }
    }
}

/// Does the flushes that other CPUs have asked this one for.
pub fn serve() {
    let cpu = &CPUS[machine::cpu() % MAX_CPUS];
    let wanted = cpu.wanted.load(Ordering::SeqCst);
    if cpu.done.load(Ordering::Relaxed) < wanted {
        machine::flush_all();
        cpu.done.store(wanted, Ordering::Release);
    }
}

/// Forgets everything, for a kernel that boots again in a host test.
#[cfg(not(target_os = "none"))]
pub fn reset() {
    for cpu in &CPUS {
        cpu.spaces.iter().for_each(|space| space.store(0, Ordering::Relaxed));
        cpu.done.store(cpu.wanted.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}
