//! A program in the personality's place: the victim, or whatever an attacker may think of with full control of its own compartment.
//!
//! The first argument of the spec says which. Owns: the attempts, each of which says on the board whether something gave way. Must not know: what else
//! runs on the machine.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod authority;
#[path = "../board.rs"]
mod board;
#[path = "../../../kernel/src/check.rs"]
#[expect(dead_code, reason = "the kernel's suite uses all of it")]
mod check;
mod exhaustion;
#[path = "../../../kernel/src/gadget.rs"]
#[expect(dead_code, reason = "the kernel's suite uses all of it")]
mod gadget;
#[path = "../../../kernel/src/guest.rs"]
#[expect(dead_code, reason = "the kernel's suite uses all of it")]
mod guest;
mod hardware;
mod lives;
mod memory;
mod sessions;
mod storms;
mod victim;

use alloc::string::String;
use board::{Board, SEEN, STATE, WHERE};
use contract::{compartment::Spec, wire::Decoder};
use rt::{Space, startup};

rt::entry!(main);

/// What gave way: where, and what was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Breach(pub(crate) u32, pub(crate) u64);

/// Whether an attempt got anywhere.
pub(crate) type Attempt = Result<(), Breach>;

/// One attempt; the board is what it reports to.
type Attack = fn(&Board) -> Attempt;

/// The attempts by name.
const ATTACKS: &[(&str, Attack)] = &[
    ("forge_capabilities", authority::forge),
    ("every_operation_with_garbage", authority::garbage),
    ("more_authority", authority::more),
    ("malformed_messages", authority::messages),
    ("mixed_up_sessions", sessions::mixed),
    ("confusing_replies", sessions::replies),
    ("use_after_free", authority::freed),
    ("race_destroy_against_use", authority::race),
    ("map_what_is_not_shared", memory::not_shared),
    ("write_image_memory", memory::image),
    ("recycled_frames", memory::recycled),
    ("huge_ranges", memory::huge),
    ("deadlock_by_lock_order", memory::lock_order),
    ("alias_the_state_page", hardware::alias),
    ("registers_of_others", hardware::registers),
    ("privileged_instructions", hardware::privileged),
    ("exhaust_memory", exhaustion::memory),
    ("exhaust_objects", exhaustion::objects),
    ("exhaust_threads", exhaustion::threads),
    ("nest_domains", exhaustion::nest),
    ("flood_the_log", storms::log),
    ("spin_everywhere", storms::spin),
    ("weights_of_children", storms::weights),
    ("storm_of_interrupts", storms::interrupts),
    ("storm_of_timers", storms::timers),
    ("flood_the_doorbell", storms::doorbell),
    ("die_by_fault", lives::fault),
    ("die_in_a_guest", lives::guest),
    ("die_waiting", lives::waiting),
    ("die_in_operations", lives::operating),
    ("die_with_children", lives::with_children),
    ("end_by_itself", lives::end),
    ("destroy_oneself", lives::destroy),
    ("hoard_capabilities", authority::hoard),
    ("keep_all_memory", exhaustion::keep),
];

/// Pages that an attacker keeps for itself.
const RESERVE: u64 = 16;

fn main() {
    let Some(role) = role() else { return };
    let Some(board) = port() else { return };
    if board.get(STATE) != board::NOTHING {
        return;
    }
    // As a personality does: who takes all there is must live on to say what came of it. Where that fails, so would the attack.
    let _ = rt::heap::keep_reserve(RESERVE);
    board.set(STATE, board::BEGUN);
    if role == "victim" {
        victim::work(&board);
    }
    let Some((_, attack)) = ATTACKS.iter().find(|(name, _)| *name == role) else { return };
    match attack(&board) {
        Ok(()) => board.set(STATE, board::HELD),
        Err(Breach(place, seen)) => {
            board.set(WHERE, place.into());
            board.set(SEEN, seen);
            board.set(STATE, board::BROKEN);
        }
    }
    // The referee decides when it is over.
    loop {
        rt::thread::park();
    }
}

/// The board in the port.
pub(crate) fn port() -> Option<Board> {
    Board::open(Space(startup::capability("port.space")?)).ok()
}

/// What this compartment was asked to be.
fn role() -> Option<String> {
    let mut decoder = Decoder::new();
    decoder.feed(startup::block()?.payload);
    let spec = decoder.next::<Spec>().ok()??;
    String::from_utf8(spec.process.arguments.into_iter().next()?).ok()
}

/// Fails the attempt unless a condition holds: `hold!(condition, what was seen)`.
#[macro_export]
macro_rules! hold {
    ($condition:expr, $seen:expr) => {
        if !$condition {
            return Err($crate::Breach(core::line!(), $seen as u64));
        }
    };
}

/// A capability that this compartment was handed.
pub(crate) fn handed(name: &str) -> u32 {
    startup::capability(name).unwrap_or(0)
}

/// Random words that begin anew in every compartment.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new() -> Self {
        Self(startup::block().map_or(1, |block| {
            block.seed.iter().fold(1, |seed: u64, byte| seed.rotate_left(8) ^ u64::from(*byte))
        }))
    }
    /// The next word.
    pub(crate) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word ^ word >> 27
    }
    /// One that an interface may mistake for something: small, a boundary, a bit, or anything.
    pub(crate) fn garbage(&mut self) -> u64 {
        let word = self.word();
        match word >> 61 {
            0 => word & 7,
            1 => word & 0xff,
            2 => 1 << (word & 63),
            3 => (1_u64 << (word & 63)).wrapping_sub(1),
            4 => u64::MAX - (word & 0xffff),
            5 => word & !0xfff,
            6 => 0x7fff_ffff_f000_u64.wrapping_add(word & 0x1fff),
            _ => word,
        }
    }
}

/// Attempts of an attack that repeats itself.
pub(crate) fn rounds(board: &Board, count: u64) -> impl Iterator<Item = u64> {
    (0..count).inspect(|round| board.set(board::ROUNDS, *round))
}

/// An operation's error as a number for the board, 0 for success.
pub(crate) fn code<T>(result: &rt::Result<T>) -> u64 {
    result.as_ref().err().map_or(0, |error| *error as u64)
}

/// Fails the attempt unless an operation is refused with a certain error.
#[macro_export]
macro_rules! denied {
    ($operation:expr, $error:ident) => {
        let result = $operation;
        $crate::hold!(matches!(result, Err(rt::Error::$error)), $crate::code(&result));
    };
}
