//! The four message operations: call, receive, reply, and reply with receive.

use super::{Endpoint, Gate, Notification, Reply, endpoint::Servers, message::Message, notification};
use crate::{
    counter::{self, Counter},
    sched,
    thread::{
        Thread,
        wait::{self, Receiving, Wait},
    },
};
use kernel_abi::Error;
use kernel_machine::{
    Reg,
    object::{Borrow, Entry, Guard, Ref},
};

/// What a receiver brings along.
pub struct Reception {
    /// Where calls come from.
    pub endpoint: Ref<Endpoint>,
    /// Bits that end the wait too.
    pub notification: Option<Ref<Notification>>,
    /// Where the call is kept.
    pub reply: Ref<Reply>,
    /// When to give up.
    pub deadline: u64,
}

/// Sends the current thread's message through a Gate; its wait for the answer begins.
///
/// # Errors
/// `BadArgument`, `PeerDead`, `WouldBlock`; on success the result comes with the answer.
pub fn call(caller: &Ref<Thread>, gate: &Ref<Gate>, entry: &Entry) -> Result<(), Error> {
    let message = Message::read(caller)?;
    let endpoint = gate.endpoint();
    loop {
        let mut servers = endpoint.lock();
        check_gate(endpoint, gate, &servers)?;
        let receiver = loop {
            match servers.receivers.pop() {
                Some(thread) => {
                    if let Some(claim) = thread.waiting.claim() {
                        break Some((thread, claim));
                    }
                }
                None => break None,
            }
        };
        let Some((server, claim)) = receiver else {
            queue(caller, gate, servers)?;
            return Ok(());
        };
        let word = join_served(caller, gate, &servers);
        drop(servers);
        let Wait::Receive(receiving) = wait::settle(&server, claim) else {
            // Only receivers are in that queue, and they are described before they join it.
            abandon(caller, word);
            return Ok(());
        };
        if receiving.reply.borrow().is_dead() {
            server.context.set(Reg::Rax, wait::encode(Err(Error::PeerDead)));
            sched::ready(server);
            if !take_back(caller, word) {
                sched::block();
                return Ok(());
            }
            continue;
        }
        receiving.reply.hold(caller.clone(), word);
        message.deliver(caller.borrow(), &server, gate.badge, entry);
        Reply::check_alive(receiving.reply.borrow());
        counter::add(Counter::DirectCalls, 1);
        let waits = wait::commit(caller, word);
        if waits && sched::can_switch_to(&server) {
            sched::switch_to(server, entry);
        } else {
            sched::ready(server);
            if waits {
                sched::block();
            }
        }
        return Ok(());
    }
}

fn check_gate(endpoint: &Ref<Endpoint>, gate: &Ref<Gate>, servers: &Servers) -> Result<(), Error> {
    if endpoint.borrow().is_dead() || gate.borrow().is_dead() {
        return Err(Error::PeerDead);
    }
    if gate.lock(servers).in_flight >= gate.limit { Err(Error::WouldBlock) } else { Ok(()) }
}

/// The caller waits in line.
fn queue(caller: &Ref<Thread>, gate: &Ref<Gate>, mut servers: Guard<'_, Servers>) -> Result<(), Error> {
    let mut callers = gate.lock(&servers);
    wait::describe(caller, Wait::Queued(gate.clone()));
    if callers.queued.push(caller.clone()).is_err() {
        return Err(Error::WrongState);
    }
    callers.in_flight += 1;
    drop(callers);
    // A Gate that is in line already keeps its place.
    let _ = servers.ready.push(gate.clone());
    let word = caller.waiting.block();
    drop(servers);
    counter::add(Counter::QueuedCalls, 1);
    if wait::commit(caller, word) {
        sched::block();
    }
    Ok(())
}

/// The caller waits for its answer; the word of that wait.
fn join_served(caller: &Ref<Thread>, gate: &Ref<Gate>, servers: &Servers) -> u64 {
    let mut callers = gate.lock(servers);
    wait::describe(caller, Wait::Served(gate.clone()));
    if callers.served.push(caller.clone()).is_ok() {
        callers.in_flight += 1;
    }
    caller.waiting.block()
}

/// Ends the caller's own wait because the server vanished; whether it was still its own.
fn take_back(caller: &Ref<Thread>, word: u64) -> bool {
    let Some(claim) = caller.waiting.claim_exact(word) else { return false };
    drop(wait::settle(caller, claim));
    true
}

fn abandon(caller: &Ref<Thread>, word: u64) {
    if take_back(caller, word) {
        caller.context.set(Reg::Rax, wait::encode(Err(Error::PeerDead)));
    } else {
        sched::block();
    }
}

/// Receives a call, or bits, into the current thread's registers, or publishes its wait. Whether it waits: then another thread must run.
///
/// # Errors
/// `WrongState`, `PeerDead`, `TimedOut`, `WouldBlock`.
pub fn receive(server: &Ref<Thread>, reception: Reception, entry: &Entry) -> Result<bool, Error> {
    reception.reply.reserve()?;
    let reply = reception.reply.clone();
    let result = receive_reserved(server, reception, entry);
    if result.is_err() {
        reply.unreserve();
    }
    result
}

fn receive_reserved(server: &Ref<Thread>, reception: Reception, entry: &Entry) -> Result<bool, Error> {
    let endpoint = reception.endpoint.clone();
    let mut servers = endpoint.lock();
    if endpoint.borrow().is_dead() {
        return Err(Error::PeerDead);
    }
    if let Some((caller, gate, word)) = next_caller(&mut servers) {
        drop(servers);
        reception.reply.hold(caller.clone(), word);
        match Message::read(&caller) {
            Ok(message) => message.deliver(caller.borrow(), server, gate.badge, entry),
            // The message was checked when it was sent, and its registers have not changed since.
            Err(error) => return Err(error),
        }
        wait::recheck(&caller, word);
        Reply::check_alive(reception.reply.borrow());
        return Ok(false);
    }
    let notification = reception.notification.clone();
    let mut bits = notification.as_ref().map(|notification| notification.lock());
    let taken = bits.as_mut().map_or(0, |state| state.take(u64::MAX));
    if taken != 0 {
        drop(bits);
        drop(servers);
        notification::received(server, taken);
        reception.reply.unreserve();
        return Ok(false);
    }
    if reception.deadline == 0 {
        return Err(Error::TimedOut);
    }
    if let Some(state) = &mut bits {
        state.join(server.clone())?;
    }
    let deadline = reception.deadline;
    wait::describe(
        server,
        Wait::Receive(Receiving {
            endpoint: reception.endpoint,
            notification: reception.notification,
            reply: reception.reply,
        }),
    );
    // A thread that runs is in no queue.
    let _ = servers.receivers.push(server.clone());
    sched::timer::arm(server, deadline);
    let word = server.waiting.block();
    drop(bits);
    drop(servers);
    Ok(wait::commit(server, word))
}

/// The next caller in turn: it waits for its answer from now on.
fn next_caller(servers: &mut Servers) -> Option<(Ref<Thread>, Ref<Gate>, u64)> {
    while let Some(gate) = servers.ready.pop() {
        let mut callers = gate.lock(servers);
        let Some(caller) = callers.queued.pop() else { continue };
        let Some(_claim) = caller.waiting.claim() else {
            // Whoever has claimed it ends the call and finds it in no queue.
            callers.in_flight = callers.in_flight.saturating_sub(1);
            let more = !callers.queued.is_empty();
            drop(callers);
            if more {
                let _ = servers.ready.push(gate);
            }
            continue;
        };
        wait::describe(&caller, Wait::Served(gate.clone()));
        let _ = callers.served.push(caller.clone());
        let word = caller.waiting.block();
        let more = !callers.queued.is_empty();
        drop(callers);
        if more {
            let _ = servers.ready.push(gate.clone());
        }
        return Some((caller, gate, word));
    }
    None
}

/// Answers the call that a Reply holds with the current thread's message: the caller, ready to be run.
fn answer(server: &Ref<Thread>, reply: &Reply, entry: &Entry) -> Result<Ref<Thread>, Error> {
    let message = Message::read(server)?;
    let (caller, word) = reply.take().ok_or(Error::WrongState)?;
    let claim = caller.waiting.claim_exact(word).ok_or(Error::PeerDead)?;
    drop(wait::settle(&caller, claim));
    message.deliver(server.borrow(), &caller, 0, entry);
    Ok(caller)
}

/// Answers a call.
///
/// # Errors
/// `BadArgument`, `WrongState`, `PeerDead`.
pub fn reply(server: &Ref<Thread>, reply: &Reply, entry: &Entry) -> Result<(), Error> {
    answer(server, reply, entry).map(sched::ready)
}

/// Answers a call, if its caller still waits, and receives the next one; while there is none, another thread runs.
///
/// # Errors
/// As [`receive`].
pub fn reply_receive(server: Borrow<'_, Thread>, reception: Reception, entry: &Entry) -> Result<(), Error> {
    let server = server.to_ref().ok_or(Error::NoCapability)?;
    let caller = answer(&server, &reception.reply, entry).ok();
    let result = receive(&server, reception, entry);
    let waits = matches!(result, Ok(true));
    match caller {
        Some(caller) if waits && sched::can_switch_to(&caller) => sched::switch_to(caller, entry),
        caller => {
            caller.into_iter().for_each(sched::ready);
            if waits {
                sched::block();
            }
        }
    }
    result.map(|_| ())
}
