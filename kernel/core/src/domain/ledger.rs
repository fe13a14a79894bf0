//! A Domain's accounts: what is used, what may be used, and what has been drawn from the parent.
//!
//! A charge is made against the Domain's own account; only when what it has drawn from its parent is used up does it draw again,
//! in batches, so that siblings rarely meet in their parent's account. Memory is counted in units of 64 bytes, so that small
//! objects are charged their share of a frame.
//!
//! Invariant: used ≤ drawn, and the parent's used contains every child's drawn.

use super::Domain;
use kernel_abi::{Error, PAGE_SIZE, resource::UNLIMITED};
use kernel_machine::object::Ref;

/// Units of memory in a frame.
pub const FRAME_UNITS: u64 = PAGE_SIZE / 64;
/// Resources with an account.
const RESOURCES: usize = 4;
/// What is drawn from the parent at least: 16 frames, 8 objects, 32 slots, one thread.
const BATCH: [u64; RESOURCES] = [16 * FRAME_UNITS, 8, 32, 1];

/// An amount of each resource, in the order of `Resource`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Memory in units of 64 bytes.
    pub units: u64,
    /// Objects.
    pub objects: u64,
    /// Occupied slots.
    pub slots: u64,
    /// Threads.
    pub threads: u64,
}

impl Amounts {
    /// Whole frames.
    #[must_use]
    pub const fn frames(count: u64) -> Self {
        Self { units: count.saturating_mul(FRAME_UNITS), objects: 0, slots: 0, threads: 0 }
    }
    /// One slot.
    #[must_use]
    pub const fn slot() -> Self {
        Self { units: 0, objects: 0, slots: 1, threads: 0 }
    }
    const fn array(self) -> [u64; RESOURCES] {
        [self.units, self.objects, self.slots, self.threads]
    }
    fn single(index: usize, amount: u64) -> Self {
        let of = |own| if index == own { amount } else { 0 };
        Self { units: of(0), objects: of(1), slots: of(2), threads: of(3) }
    }
}

#[derive(Clone, Copy, Debug)]
struct Account {
    used: u64,
    drawn: u64,
    limit: u64,
    peak: u64,
}

/// The accounts of one Domain.
pub(super) struct Ledger {
    accounts: [Account; RESOURCES],
}

impl Ledger {
    pub(super) fn new(limits: Amounts) -> Self {
        Self { accounts: limits.array().map(|limit| Account { used: 0, drawn: 0, limit, peak: 0 }) }
    }

    pub(super) fn charge(&mut self, amounts: Amounts, parent: Option<&Ref<Domain>>) -> Result<(), Error> {
        if let Err(error) = self.draw(amounts, parent) {
            // What was drawn for the resources before the one that failed goes back.
            self.discharge(Amounts::default(), parent);
            return Err(error);
        }
        for (account, amount) in self.accounts.iter_mut().zip(amounts.array()) {
            account.used += amount;
            account.peak = account.peak.max(account.used);
        }
        Ok(())
    }

    /// Charges a frame, if what was drawn has one left: the common case, without a look at the other accounts.
    pub(super) fn charge_drawn_frame(&mut self) -> bool {
        let [account, ..] = &mut self.accounts;
        let used = account.used.saturating_add(FRAME_UNITS);
        let is_there = used <= account.drawn.min(account.limit);
        if is_there {
            account.used = used;
            account.peak = account.peak.max(used);
        }
        is_there
    }

    /// Draws from the parent what is missing for a charge.
    fn draw(&mut self, amounts: Amounts, parent: Option<&Ref<Domain>>) -> Result<(), Error> {
        let amounts = amounts.array();
        for (index, (account, amount)) in self.accounts.iter_mut().zip(amounts).enumerate() {
            if amount == 0 {
                continue;
            }
            let error = if index == 0 { Error::OutOfFrames } else { Error::OutOfObjects };
            let used = account.used.checked_add(amount).filter(|used| *used <= account.limit).ok_or(error)?;
            if used > account.drawn {
                let need = used - account.drawn;
                let Some(parent) = parent else {
                    account.drawn = used;
                    continue;
                };
                let batch = need.max(BATCH.get(index).copied().unwrap_or(1));
                let draw = |amount| parent.charge(Amounts::single(index, amount)).map(|()| amount);
                account.drawn +=
                    draw(batch).or_else(|error| if batch > need { draw(need) } else { Err(error) })?;
            }
        }
        Ok(())
    }

    pub(super) fn discharge(&mut self, amounts: Amounts, parent: Option<&Ref<Domain>>) {
        for (index, (account, amount)) in self.accounts.iter_mut().zip(amounts.array()).enumerate() {
            // Without any amount, what was drawn for nothing goes back.
            if amount == 0 && amounts != Amounts::default() {
                continue;
            }
            debug_assert!(account.used >= amount, "more given back than was charged");
            account.used = account.used.saturating_sub(amount);
            let slack = account.drawn.saturating_sub(account.used);
            let batch = BATCH.get(index).copied().unwrap_or(1);
            let keep = if account.used == 0 { 0 } else { batch };
            if slack > 2 * keep {
                account.drawn -= slack - keep;
                if let Some(parent) = parent {
                    parent.discharge(Amounts::single(index, slack - keep));
                }
            }
        }
    }

    pub(super) fn account(&self, index: usize) -> (u64, u64, u64) {
        let Some(account) = self.accounts.get(index) else { return (0, 0, 0) };
        if index == 0 {
            let limit = if account.limit == UNLIMITED { UNLIMITED } else { account.limit / FRAME_UNITS };
            return (account.used.div_ceil(FRAME_UNITS), limit, account.peak.div_ceil(FRAME_UNITS));
        }
        (account.used, account.limit, account.peak)
    }

    pub(super) fn set_limit(&mut self, index: usize, limit: u64) {
        if let Some(account) = self.accounts.get_mut(index) {
            account.limit = if index == 0 { limit.saturating_mul(FRAME_UNITS) } else { limit };
        }
    }
}
