//! What a slice has taken out of a Space and must not reuse before every TLB has forgotten it.

use super::{Space, page, shootdown};
use crate::{
    domain::{Amounts, Domain},
    frames,
};
use kernel_machine::{Frame, object::Ref};

/// Most frames that one slice takes out.
const LIMIT: usize = 64;
/// Mark of a table's frame in the list.
const TABLE: u32 = 1 << 31;

/// The changes of one slice.
pub struct Changes {
    frames: [u32; LIMIT],
    count: usize,
    /// First and last page whose translation was narrowed or removed.
    range: Option<(u64, u64)>,
}

impl Changes {
    /// Whether there is room for another frame and its table.
    #[must_use]
    pub const fn has_room(&self) -> bool {
        self.count + 4 < LIMIT
    }
    /// A translation of a page was narrowed or removed.
    pub fn narrowed(&mut self, page: u64) {
        self.range = Some(self.range.map_or((page, page), |(first, last)| (first.min(page), last.max(page))));
    }
    /// A reference to a user frame goes when the flush is over.
    pub fn release(&mut self, frame: Frame) {
        self.add(frame.number());
    }
    /// A table's frame is free when the flush is over.
    pub fn release_table(&mut self, frame: Frame) {
        self.add(frame.number() | TABLE);
    }
    fn add(&mut self, word: u32) {
        debug_assert!(self.count < LIMIT, "a slice took out more than it may");
        if let Some(place) = self.frames.get_mut(self.count) {
            *place = word;
            self.count += 1;
        }
    }
    /// Flushes, then releases. No lock may be held.
    pub fn finish(self, space: &Space) {
        if let Some((first, last)) = self.range {
            shootdown::flush(space, first, last);
        }
        let mut owed = Owed { domain: None, frames: 0 };
        for word in self.frames.iter().take(self.count) {
            let frame = Frame::new(word & !TABLE);
            if word & TABLE != 0 {
                frames::free(frame);
                owed.add(space.domain().clone());
            } else if let Some(domain) = page::release_unpaid(frame) {
                owed.add(domain);
            }
        }
    }
}

/// Frames that go back to one Domain's account in one step.
struct Owed {
    domain: Option<Ref<Domain>>,
    frames: u64,
}

impl Owed {
    fn add(&mut self, domain: Ref<Domain>) {
        if !self.domain.as_ref().is_some_and(|last| last.is(&domain)) {
            *self = Self { domain: Some(domain), frames: 0 };
        }
        self.frames += 1;
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if let Some(domain) = &self.domain {
            domain.discharge(Amounts::frames(self.frames));
        }
    }
}

impl Default for Changes {
    fn default() -> Self {
        Self { frames: [0; LIMIT], count: 0, range: None }
    }
}
