//! Operations of the kernel with any numbers in the registers.

use crate::driver::Numbers;
use kernel_abi::{Operation, Rights, space::SpaceUse};
use kernel_core::{domain::Domain, space::Space};
use models::world::{Outcome, World};

/// Operations of one input.
const MAX_OPERATIONS: usize = 64;

/// Takes a number of an argument: mostly a slot, a page or a bit word that may mean something, now and then anything.
fn argument(selector: u8, value: u8) -> u64 {
    let value = u64::from(value);
    match selector % 8 {
        0..=2 => value % 16,
        3 => value << 12,
        4 => value << 16 | 7,
        5 => 1 << (value % 64),
        6 => u64::MAX - value,
        _ => Numbers::new(value).number(),
    }
}

/// Performs a program: of each operation one byte its number and twelve its arguments. Whatever it did, everything comes back when its Domain is destroyed.
pub(crate) fn operations(bytes: &[u8]) {
    let world = World::boot(2048, 1);
    let before = world.ledger();
    let domain = world.limited(256, 64);
    let actor = world.actor(&domain, 0);
    let hold = Space::create(&domain, SpaceUse::Hold, None, false).expect("a Space");
    world.grant(&domain, 1, domain.clone().into_any(), Rights::ALL);
    world.grant(&domain, 2, hold.into_any(), Rights::ALL);
    world.grant(&domain, 3, actor.thread.clone().into_any(), Rights::ALL);
    world.make_current(&actor);
    for step in bytes.chunks(13).take(MAX_OPERATIONS) {
        let Some((number, arguments)) = step.split_first() else { break };
        let arguments: Vec<u64> =
            arguments.chunks_exact(2).map(|pair| argument(pair[0], pair[1])).collect();
        let Some(operation) = Operation::from_number(u64::from(*number)) else { continue };
        if !matches!(world.try_operate(&actor, operation, &arguments), Outcome::Done(_)) {
            break;
        }
    }
    Domain::destroy(domain.borrow());
    drop((actor, domain));
    assert_eq!(world.ledger(), before, "something did not come back");
}
