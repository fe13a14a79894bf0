//! Sessions: a server that mixes its clients up, and one that answers as it must not.

use crate::{Attempt, Breach, board::Board, denied, hold, rounds};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use rt::{
    Domain, Endpoint, Error, Gate, Reply, Thread,
    abi::Operation,
    arch::{self, MessageRegisters},
    clock,
    message::{Message, Server},
    object,
};

/// Clients of the server beside the one whose sessions come and go.
const CLIENTS: u64 = 4;
/// Calls of each.
const CALLS: u64 = 800;
/// Sessions that come and go meanwhile.
const SESSIONS: u64 = 300;
/// Badge of those.
const FLEETING: u64 = 99;
/// What the server does with a word.
const KEY: u64 = 0x5eed_5eed_5eed_5eed;
/// Nanoseconds within which what must come comes.
const PATIENCE: u64 = 30_000_000_000;

fn failed(line: u32) -> impl Fn(Error) -> Breach {
    move |error| Breach(line, error as u64)
}

/// Waits until a condition holds.
fn until(holds: impl Fn() -> bool) -> Attempt {
    let end = clock::since_boot() + PATIENCE;
    while !holds() {
        hold!(clock::since_boot() < end, 0);
        rt::thread::yield_now();
    }
    Ok(())
}

/// What clients and their server know together.
#[derive(Default)]
struct Shared {
    /// A word that was answered wrongly.
    wrong: AtomicU64,
    /// Clients that have made their calls.
    done: AtomicU64,
    /// The Gate of the session that is to be ended.
    fleeting: AtomicU32,
}

/// Serves an Endpoint: each answer tells the badge and the word that it answers.
fn serve(endpoint: Endpoint) {
    let Ok(server) = Server::new(endpoint, None) else { return };
    loop {
        if let Ok(received) = server.receive(object::FOREVER) {
            let [word, ..] = received.words;
            // Its caller may be gone.
            let _ = server.reply(Message::new(1, [received.badge, word ^ KEY, 0, 0]));
        }
    }
}

/// One call; an answer that is somebody else's is noted.
fn ask(gate: Gate, badge: u64, word: u64, shared: &Shared) -> rt::Result<()> {
    let answer = gate.call(Message::new(1, [word, 0, 0, 0]), 0)?;
    if answer.label != 1 || answer.words != [badge, word ^ KEY, 0, 0] {
        shared.wrong.store(word | 1, Ordering::Release);
    }
    Ok(())
}

/// Several clients call two servers, each through a Gate of its own, while a session comes and goes with its calls in flight: every answer is its caller's.
pub(crate) fn mixed(board: &Board) -> Attempt {
    let endpoint = Endpoint::create(Domain::OWN).map_err(failed(line!()))?;
    let shared = Arc::new(Shared::default());
    for _ in 0..2 {
        rt::thread::spawn(false, move || serve(endpoint)).map_err(failed(line!()))?;
    }
    for badge in 1..=CLIENTS {
        let gate = endpoint.gate(Domain::OWN, badge, 1).map_err(failed(line!()))?;
        let shared = Arc::clone(&shared);
        let calls = move || {
            for number in 0..CALLS {
                let word = badge << 32 | number << 1;
                if ask(gate, badge, word, &shared).is_err() {
                    shared.wrong.store(word | 1, Ordering::Release);
                }
            }
            shared.done.fetch_add(1, Ordering::AcqRel);
        };
        rt::thread::spawn(false, calls).map_err(failed(line!()))?;
    }
    let of_guest = Arc::clone(&shared);
    rt::thread::spawn(false, move || visit(endpoint, &of_guest)).map_err(failed(line!()))?;
    let mut ended = 0;
    for _ in rounds(board, u64::MAX) {
        let slot = shared.fleeting.swap(0, Ordering::AcqRel);
        if slot != 0 {
            let _ = arch::call(Operation::ObjectDestroy, [slot.into(), 0, 0, 0, 0, 0]);
            ended += 1;
        }
        if ended == SESSIONS && shared.done.load(Ordering::Acquire) == CLIENTS {
            break;
        }
        rt::thread::yield_now();
    }
    let wrong = shared.wrong.load(Ordering::Acquire);
    hold!(wrong == 0, wrong);
    Ok(())
}

/// The client whose sessions end while it calls.
fn visit(endpoint: Endpoint, shared: &Shared) {
    for number in 0..SESSIONS {
        let Ok(gate) = endpoint.gate(Domain::OWN, FLEETING, 2) else { return };
        shared.fleeting.store(gate.slot(), Ordering::Release);
        while ask(gate, FLEETING, FLEETING << 32 | number << 1, shared).is_ok() {}
        // Until it is destroyed: the slot must not be another's by then.
        while shared.fleeting.load(Ordering::Acquire) != 0 {
            rt::thread::yield_now();
        }
        gate.forget();
    }
}

/// An Endpoint with a Gate, and a Reply that is used wrongly.
struct Stage {
    endpoint: Endpoint,
    gate: Gate,
    reply: Reply,
}

impl Stage {
    fn new() -> rt::Result<Self> {
        let endpoint = Endpoint::create(Domain::OWN)?;
        let gate = endpoint.gate(Domain::OWN, 7, 8)?;
        Ok(Self { endpoint, gate, reply: Reply::create(Domain::OWN)? })
    }

    /// Somebody who calls, and where its outcome will be: the answer's word, or an error's number and a mark.
    fn caller(&self) -> rt::Result<(Thread, Arc<AtomicU64>)> {
        let (gate, outcome) = (self.gate, Arc::new(AtomicU64::new(0)));
        let place = Arc::clone(&outcome);
        let call = move || {
            let word = match gate.call(Message::new(1, [1, 0, 0, 0]), 0) {
                Ok(answer) => answer.words[0],
                Err(error) => error as u64 | MARK,
            };
            place.store(word, Ordering::Release);
        };
        Ok((rt::thread::spawn(false, call)?, outcome))
    }

    fn receive(&self, deadline: u64) -> rt::Result<()> {
        let registers = MessageRegisters {
            rdi: self.endpoint.slot().into(),
            rsi: deadline,
            words: [0; 4],
            caps: [0; 3],
            r15: u64::from(self.reply.slot()) << 32,
        };
        arch::message(Operation::Receive, registers).map(|_| ())
    }

    fn answer(&self, word: u64) -> rt::Result<()> {
        let registers = MessageRegisters {
            rdi: self.reply.slot().into(),
            rsi: 0,
            words: [word, 0, 0, 0],
            caps: [0; 3],
            r15: 0,
        };
        arch::message(Operation::Reply, registers).map(|_| ())
    }

    /// Receives what a caller is about to send.
    fn take(&self) -> Attempt {
        self.receive(clock::deadline_in(PATIENCE)).map_err(failed(line!()))
    }
}

/// An outcome that is an error.
const MARK: u64 = 1 << 32;

/// Answers to nobody, twice, to callers that are gone, with a Reply that is in use or gone: each is an error of the server's, and each caller hears the truth.
pub(crate) fn replies(_: &Board) -> Attempt {
    let stage = Stage::new().map_err(failed(line!()))?;
    denied!(stage.answer(1), WrongState);
    denied!(stage.receive(0), TimedOut);
    denied!(stage.answer(1), WrongState);
    // Once, and not again.
    let (_, outcome) = stage.caller().map_err(failed(line!()))?;
    stage.take()?;
    denied!(stage.receive(0), WrongState);
    hold!(stage.answer(41).is_ok(), 0);
    denied!(stage.answer(42), WrongState);
    until(|| outcome.load(Ordering::Acquire) != 0)?;
    hold!(outcome.load(Ordering::Acquire) == 41, outcome.load(Ordering::Acquire));
    // To a caller that has been killed meanwhile; the next one is served as ever.
    let (thread, outcome) = stage.caller().map_err(failed(line!()))?;
    stage.take()?;
    hold!(thread.destroy().is_ok(), 0);
    denied!(stage.answer(43), PeerDead);
    hold!(outcome.load(Ordering::Acquire) == 0, outcome.load(Ordering::Acquire));
    let (_, outcome) = stage.caller().map_err(failed(line!()))?;
    stage.take()?;
    hold!(stage.answer(44).is_ok(), 0);
    until(|| outcome.load(Ordering::Acquire) == 44)?;
    // The Reply goes while it holds a caller: there is no answer, and the caller is told.
    let (_, outcome) = stage.caller().map_err(failed(line!()))?;
    stage.take()?;
    let gone = stage.reply.slot();
    hold!(arch::call(Operation::ObjectDestroy, [gone.into(), 0, 0, 0, 0, 0]).is_ok(), gone);
    until(|| outcome.load(Ordering::Acquire) == Error::PeerDead as u64 | MARK)?;
    denied!(stage.answer(45), NoCapability);
    denied!(stage.receive(0), NoCapability);
    // Something that is no Reply.
    let wrong = Stage { reply: Reply(stage.gate.slot()), ..stage };
    denied!(wrong.answer(46), WrongKind);
    denied!(wrong.receive(0), WrongKind);
    Ok(())
}
