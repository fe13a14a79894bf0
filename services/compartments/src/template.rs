//! Templates: what a personality has prepared from an image's layers, for the compartments of that image that come later.
//!
//! Layers that are started a second time get one: a personality prepares itself in a Domain of its own, beside the compartment that was asked for, and
//! what it has written is kept once it rests. Nobody ever waits for it. It sees the layers and nothing of a compartment. Owns: which layers have a
//! template. Must not know: what a personality prepares. Invariants: no template holds a layer, so that an image can be removed; what does not rest
//! in time is destroyed, and its layers get none.

use crate::compartment::Workshop;
use alloc::vec::Vec;
use contract::{compartments::Create, images::Digest};
use rt::{
    Domain, clock,
    object::FOREVER,
    template::{Memory, Preparing},
};

/// Most lists of layers that are remembered.
const REMEMBERED: usize = 64;
/// Most templates, those being prepared included.
const MOST: usize = 16;
/// Time to prepare one, in nanoseconds.
const PATIENCE: u64 = 2_000_000_000;

/// Every list of layers that was started, the latest last.
#[derive(Default)]
pub(crate) struct Templates {
    known: Vec<(Vec<Digest>, State)>,
}

enum State {
    /// Started once.
    Once,
    /// Being prepared since a time.
    Preparing(Preparing, u64),
    Ready(Memory),
    /// There is no template to be had of these layers.
    Never,
}

/// When (TSC) what is being prepared since a time has had its time.
fn end_of_patience(since: u64) -> u64 {
    since.saturating_add(clock::ticks(PATIENCE))
}

impl State {
    const fn is_template(&self) -> bool {
        matches!(self, Self::Preparing(..) | Self::Ready(_))
    }

    /// Goes on with what is being prepared, if it rests or has had its time.
    fn advance(&mut self, payer: Domain) {
        let Self::Preparing(preparing, since) = self else { return };
        if preparing.rests() {
            *self = preparing.keep(payer).map_or(Self::Never, Self::Ready);
        } else if clock::now() >= end_of_patience(*since) {
            *self = Self::Never;
        }
    }
}

impl Templates {
    fn place(&self, layers: &[Digest]) -> Option<usize> {
        self.known.iter().rposition(|(known, _)| known == layers)
    }

    /// What a compartment begins with, if its layers have a template.
    pub(crate) fn find(&mut self, layers: &[Digest], payer: Domain) -> Option<&Memory> {
        let place = self.place(layers)?;
        let (_, state) = self.known.get_mut(place)?;
        state.advance(payer);
        match state {
            State::Ready(memory) => Some(memory),
            _ => None,
        }
    }

    /// Notes that a compartment has begun: layers that are started the second time get a template for the third.
    pub(crate) fn note(&mut self, create: &Create, workshop: &Workshop) {
        match self.place(&create.layers) {
            Some(place) => {
                if let Some(later) = self.known.get_mut(place..) {
                    later.rotate_left(1);
                }
                if matches!(self.known.last(), Some((_, State::Once))) {
                    self.make_room();
                    let prepared = workshop.prepare(create);
                    if let Some((_, state)) = self.known.last_mut() {
                        *state =
                            prepared.map_or(State::Never, |it| State::Preparing(it, clock::now()));
                    }
                }
            }
            None if create.layers.is_empty() => {}
            None => {
                if self.known.len() >= REMEMBERED {
                    self.known.remove(0);
                }
                self.known.push((create.layers.clone(), State::Once));
            }
        }
    }

    /// Until when (TSC) one that is being prepared may take; [`FOREVER`] if none is.
    pub(crate) fn patience(&self) -> u64 {
        let until = |(_, state): &(_, State)| match state {
            State::Preparing(_, since) => Some(end_of_patience(*since)),
            _ => None,
        };
        self.known.iter().filter_map(until).min().unwrap_or(FOREVER)
    }

    /// Looks at those that are being prepared.
    pub(crate) fn advance(&mut self, payer: Domain) {
        self.known.iter_mut().for_each(|(_, state)| state.advance(payer));
    }

    /// Forgets the template that was not used for longest, if there are as many as may be.
    fn make_room(&mut self) {
        if self.known.iter().filter(|(_, state)| state.is_template()).count() < MOST {
            return;
        }
        if let Some((_, state)) = self.known.iter_mut().find(|(_, state)| state.is_template()) {
            *state = State::Once;
        }
    }
}
