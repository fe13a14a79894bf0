//! Calls: who may, what arrives, and what becomes of them when somebody dies.

use super::channel;
use crate::{
    check,
    check::{Must, Outcome},
    gadget::raw_message,
    refused,
    run::Case,
    same,
    world::{Sandbox, World, eventually, in_seconds},
};
use alloc::string::String;
use alloc::vec::Vec;
use rt::{
    Domain, Endpoint, Gate, Notification, Reply, Thread,
    abi::{Error, Kind, Operation, Rights, message::Tag},
    arch::{self, MessageRegisters},
    message::{Message, Server},
    object, slots, thread,
};

pub(super) const CASES: &[Case] = &[
    Case { name: "message.create_errors", run: create_errors },
    Case { name: "message.call_and_reply", run: call_and_reply },
    Case { name: "message.capabilities", run: capabilities },
    Case { name: "message.argument_errors", run: argument_errors },
    Case { name: "message.receive_errors", run: receive_errors },
    Case { name: "message.reply_errors", run: reply_errors },
    Case { name: "message.limit_and_kick", run: limit_and_kick },
    Case { name: "message.bits_while_receiving", run: bits_while_receiving },
    Case { name: "message.destroyed", run: destroyed },
    Case { name: "message.caller_dies", run: caller_dies },
    Case { name: "message.server_dies", run: server_dies },
    Case { name: "message.reply_receive", run: reply_receive },
    Case { name: "message.round_robin", run: round_robin },
];

/// An Endpoint with one Gate.
fn session(limit: u16) -> Result<(Endpoint, Gate), String> {
    let endpoint = Endpoint::create(Domain::OWN).must("endpoint")?;
    let gate = endpoint.gate(Domain::OWN, 0xbad9e, limit).must("gate")?;
    Ok((endpoint, gate))
}

/// Calls on another thread; its result.
fn call_elsewhere(
    gate: Gate,
    message: Message,
) -> Result<(Thread, super::Answer<rt::Result<rt::message::Received>>), String> {
    let (sender, answer) = channel();
    let caller = thread::spawn(false, move || sender.send(gate.call(message, 0))).must("thread")?;
    Ok((caller, answer))
}

fn create_errors(world: &'static World) -> Outcome {
    let endpoint = Endpoint::create(Domain::OWN).must("endpoint")?;
    refused!(endpoint.gate(Domain::OWN, 0, 0), BadArgument);
    let occupied = u64::from(endpoint.slot());
    let create =
        |operation, slot: u64| arch::call(operation, [0, slot, occupied, 0, 70_000, 0]).map(|_| ());
    refused!(create(Operation::EndpointCreate, occupied), SlotOccupied);
    refused!(create(Operation::ReplyCreate, occupied), SlotOccupied);
    refused!(create(Operation::NotificationCreate, occupied), SlotOccupied);
    refused!(create(Operation::GateCreate, 900_000), BadArgument);
    refused!(create(Operation::EndpointCreate, 0), BadArgument);
    let weak = slots::take().must("slot")?;
    object::copy(endpoint.slot(), Domain::OWN, weak, Rights::RECEIVE).must("copy")?;
    refused!(Endpoint(weak).gate(Domain::OWN, 0, 1), MissingRight);
    let dead = world.domain().must("domain")?;
    dead.destroy().must("destroy")?;
    refused!(Endpoint::create(dead), NoCapability);
    object::delete(weak);
    endpoint.destroy().must("destroy")
}

fn call_and_reply(_: &'static World) -> Outcome {
    let (endpoint, gate) = session(4)?;
    let server = Server::new(endpoint, None).must("server")?;
    for first in [true, false] {
        // Both orders: the call waits for the server, or the server for the call.
        let message = Message::new(77, [1, 2, u64::MAX, 4]);
        let (_, answer) = call_elsewhere(gate, message)?;
        if first {
            let _ = thread::park_until(rt::clock::deadline_in(1_000_000));
        }
        let call = server.receive(in_seconds(60)).must("receive")?;
        same!(
            (call.badge, call.label, call.words, call.caps),
            (0xbad9e, 77, [1, 2, u64::MAX, 4], 0)
        );
        server.reply(Message::new(u32::MAX, [9, 8, 7, 6])).must("reply")?;
        let answer = answer.wait()?.must("answer")?;
        same!((answer.badge, answer.label, answer.words), (0, u32::MAX, [9, 8, 7, 6]));
    }
    gate.destroy().must("gate")?;
    endpoint.destroy().must("endpoint")
}

fn capabilities(_: &'static World) -> Outcome {
    let (endpoint, gate) = session(4)?;
    let server = Server::new(endpoint, None).must("server")?;
    let notification = Notification::create(Domain::OWN).must("notification")?;
    let weak = slots::take().must("slot")?;
    object::copy(notification.slot(), Domain::OWN, weak, Rights::SEND).must("copy")?;
    // One that may not be copied, one that may with fewer rights, one that does not exist.
    let message = Message::new(1, [0; 4])
        .with(weak, Rights::ALL)
        .with(notification.slot(), Rights::SEND | Rights::COPY)
        .with(999_999, Rights::ALL);
    let (_, answer) = call_elsewhere(gate, message)?;
    let call = server.receive(in_seconds(60)).must("receive")?;
    same!(call.caps, 1);
    let slot = call.cap(0).unwrap_or(0);
    let found = Domain::OWN.next(slot).must("next")?;
    same!(
        (found.slot, found.kind, found.rights),
        (slot, Some(Kind::Notification), (Rights::SEND | Rights::COPY).bits())
    );
    Notification(slot).signal(2).must("signal")?;
    same!(notification.wait(2, 0), Ok(2));
    // The window is occupied now: the next one is dropped and not counted. The answer's capabilities have no window.
    server.reply(Message::new(1, [0; 4]).with(notification.slot(), Rights::ALL)).must("reply")?;
    same!(answer.wait()?.must("answer")?.caps, 0);
    let (_, answer) =
        call_elsewhere(gate, Message::new(1, [0; 4]).with(notification.slot(), Rights::ALL))?;
    same!(server.receive(in_seconds(60)).must("receive")?.caps, 0);
    server.reply(Message::default()).must("reply")?;
    answer.wait()?.must("answer")?;
    object::delete_received(slot);
    object::delete(weak);
    notification.destroy().must("notification")?;
    gate.destroy().must("gate")?;
    endpoint.destroy().must("endpoint")
}

fn argument_errors(_: &'static World) -> Outcome {
    let (endpoint, gate) = session(4)?;
    let call = |slot: u64, tag: u64| {
        Error::from_result(
            raw_message(Operation::Call as u64, [slot, tag, 0, 0, 0, 0], [0; 4]).cast_signed(),
        )
    };
    same!(call(gate.slot().into(), 4), Some(Error::BadArgument));
    same!(call(gate.slot().into(), 0xff), Some(Error::BadArgument));
    same!(call(endpoint.slot().into(), 0), Some(Error::WrongKind));
    same!(call(0, 0), Some(Error::NoCapability));
    same!(call(u64::MAX, 0), Some(Error::NoCapability));
    let weak = slots::take().must("slot")?;
    object::copy(gate.slot(), Domain::OWN, weak, Rights::COPY).must("copy")?;
    same!(call(weak.into(), 0), Some(Error::MissingRight));
    object::delete(weak);
    endpoint.destroy().must("endpoint")?;
    refused!(gate.call(Message::default(), 0), PeerDead);
    gate.destroy().must("gate")
}

fn receive(
    endpoint: Endpoint,
    deadline: u64,
    notification: u64,
    reply: Reply,
) -> rt::Result<MessageRegisters> {
    let registers = MessageRegisters {
        rdi: endpoint.slot().into(),
        rsi: deadline,
        words: [notification, 0, 0, 0],
        caps: [0; 3],
        r15: u64::from(reply.slot()) << 32,
    };
    arch::message(Operation::Receive, registers)
}

fn receive_errors(_: &'static World) -> Outcome {
    let (endpoint, gate) = session(4)?;
    let reply = Reply::create(Domain::OWN).must("reply")?;
    let soon = || rt::clock::deadline_in(500_000);
    refused!(receive(endpoint, 0, 0, reply), TimedOut);
    refused!(receive(endpoint, 1, 0, reply), TimedOut);
    refused!(receive(endpoint, soon(), 0, reply), TimedOut);
    refused!(receive(endpoint, soon(), 0, Reply(0)), NoCapability);
    refused!(receive(endpoint, soon(), 0, Reply(gate.slot())), WrongKind);
    refused!(receive(endpoint, soon(), gate.slot().into(), reply), WrongKind);
    refused!(receive(Endpoint(reply.slot()), soon(), 0, reply), WrongKind);
    Thread(thread::own_slot()).kick().must("kick")?;
    refused!(receive(endpoint, u64::MAX, 0, reply), Kicked);
    // Two receivers cannot wait with one Reply.
    let (sender, answer) = channel();
    let waiting = thread::spawn(false, move || {
        sender.send(receive(endpoint, u64::MAX, 0, reply).map(|_| ()));
    })
    .must("thread")?;
    check!(
        eventually(|| waiting.stat().is_ok_and(|(_, state, _)| state == 2)),
        "the receiver waits"
    );
    refused!(receive(endpoint, soon(), 0, reply), WrongState);
    endpoint.destroy().must("endpoint")?;
    refused!(answer.wait()?, PeerDead);
    refused!(receive(endpoint, soon(), 0, reply), NoCapability);
    gate.destroy().must("gate")?;
    reply.destroy().must("reply")
}

fn reply_errors(_: &'static World) -> Outcome {
    let (endpoint, gate) = session(4)?;
    let server = Server::new(endpoint, None).must("server")?;
    let reply = Reply::create(Domain::OWN).must("reply")?;
    let answer_with = |reply: Reply, tag: u64| {
        Error::from_result(
            raw_message(Operation::Reply as u64, [reply.slot().into(), tag, 0, 0, 0, 0], [0; 4])
                .cast_signed(),
        )
    };
    same!(answer_with(reply, 0), Some(Error::WrongState));
    let (_, answer) = call_elsewhere(gate, Message::default())?;
    server.receive(in_seconds(60)).must("receive")?;
    same!(answer_with(reply, 0), Some(Error::WrongState));
    // Anybody who holds the Reply may answer, from any thread: once.
    let (sender, done) = channel();
    thread::spawn(false, move || {
        sender.send((server.reply(Message::new(3, [0; 4])), server.reply(Message::default())));
    })
    .must("thread")?;
    let (first, second) = done.wait()?;
    same!(first, Ok(()));
    refused!(second, WrongState);
    same!(answer.wait()?.map(|answer| answer.label), Ok(3));
    // A bad answer leaves the call open.
    let (_, answer) = call_elsewhere(gate, Message::default())?;
    let registers = receive(endpoint, in_seconds(60), 0, reply).must("receive")?;
    same!(registers.rdi, 0xbad9e);
    same!(answer_with(reply, 9), Some(Error::BadArgument));
    same!(answer_with(reply, 0), None);
    answer.wait()?.must("answer")?;
    let weak = slots::take().must("slot")?;
    object::copy(reply.slot(), Domain::OWN, weak, Rights::RECEIVE).must("copy")?;
    same!(answer_with(Reply(weak), 0), Some(Error::MissingRight));
    object::delete(weak);
    // A Reply that is destroyed ends its call.
    let (_, answer) = call_elsewhere(gate, Message::default())?;
    receive(endpoint, in_seconds(60), 0, reply).must("receive")?;
    reply.destroy().must("reply")?;
    refused!(answer.wait()?, PeerDead);
    gate.destroy().must("gate")?;
    endpoint.destroy().must("endpoint")
}

fn limit_and_kick(_: &'static World) -> Outcome {
    let (endpoint, gate) = session(2)?;
    let server = Server::new(endpoint, None).must("server")?;
    let (first, first_answer) = call_elsewhere(gate, Message::default())?;
    let (second, second_answer) = call_elsewhere(gate, Message::default())?;
    let blocked = |thread: Thread| thread.stat().is_ok_and(|(_, state, _)| state == 2);
    check!(eventually(|| blocked(first) && blocked(second)), "both callers wait");
    refused!(gate.call(Message::default(), 0), WouldBlock);
    // A queued call can be kicked away, which makes room.
    second.kick().must("kick")?;
    refused!(second_answer.wait()?, Kicked);
    let (_, third_answer) = call_elsewhere(gate, Message::default())?;
    server.receive(in_seconds(60)).must("receive")?;
    // A call that a server has received cannot.
    first.kick().must("kick")?;
    check!(!eventually_dead(first), "a kick ended a call that is served");
    server.reply(Message::default()).must("reply")?;
    first_answer.wait()?.must("first")?;
    server.receive(in_seconds(60)).must("receive")?;
    server.reply(Message::default()).must("reply")?;
    third_answer.wait()?.must("third")?;
    gate.destroy().must("gate")?;
    endpoint.destroy().must("endpoint")
}

/// Whether a thread ends within some milliseconds.
fn eventually_dead(thread: Thread) -> bool {
    for _ in 0..20 {
        let _ = thread::park_until(rt::clock::deadline_in(500_000));
        if thread.stat().is_ok_and(|(_, state, _)| state == 3) {
            return true;
        }
    }
    false
}

fn bits_while_receiving(_: &'static World) -> Outcome {
    let (endpoint, gate) = session(1)?;
    let notification = Notification::create(Domain::OWN).must("notification")?;
    let server = Server::new(endpoint, Some(notification)).must("server")?;
    notification.signal(6).must("signal")?;
    let bits = server.receive(in_seconds(60)).must("receive")?;
    same!((bits.badge, bits.words[0]), (u64::MAX, 6));
    for round in 0..200_u64 {
        let word = round + 1;
        thread::spawn(false, move || {
            let _ = notification.signal(word);
        })
        .must("thread")?;
        let bits = server.receive(in_seconds(60)).must("receive")?;
        same!((bits.badge, bits.words[0]), (u64::MAX, word));
    }
    let (_, answer) = call_elsewhere(gate, Message::new(5, [0; 4]))?;
    same!(server.receive(in_seconds(60)).must("receive")?.label, 5);
    server.reply(Message::default()).must("reply")?;
    answer.wait()?.must("answer")?;
    notification.destroy().must("notification")?;
    endpoint.destroy().must("endpoint")?;
    gate.destroy().must("gate")
}

/// Gates and Endpoints are destroyed with calls queued and served.
fn destroyed(_: &'static World) -> Outcome {
    for what in 0..2 {
        let (endpoint, gate) = session(10)?;
        let server = Server::new(endpoint, None).must("server")?;
        let mut answers = Vec::new();
        for _ in 0..6 {
            let (caller, answer) = call_elsewhere(gate, Message::default())?;
            check!(
                eventually(|| caller.stat().is_ok_and(|(_, state, _)| state == 2)),
                "the caller waits"
            );
            answers.push(answer);
        }
        server.receive(in_seconds(60)).must("receive")?;
        if what == 0 {
            gate.destroy().must("gate")?;
            endpoint.destroy().must("endpoint")?;
            for answer in answers {
                refused!(answer.wait()?, PeerDead);
            }
            refused!(server.reply(Message::default()), PeerDead);
        } else {
            endpoint.destroy().must("endpoint")?;
            // The call that was received can still be answered.
            let _ = server.reply(Message::default());
            let results: Vec<_> =
                answers.into_iter().map(|answer| answer.wait()).collect::<Result<_, _>>()?;
            let dead =
                results.iter().filter(|result| matches!(result, Err(Error::PeerDead))).count();
            check!(dead >= 5, "{dead} of 6 callers were told");
            gate.destroy().must("gate")?;
        }
    }
    Ok(())
}

fn caller_dies(_: &'static World) -> Outcome {
    for served in [false, true] {
        let (endpoint, gate) = session(1)?;
        let server = Server::new(endpoint, None).must("server")?;
        let prepared = thread::prepare(false).must("prepare")?;
        let caller = prepared.thread();
        prepared
            .start(move || {
                let _ = gate.call(Message::default(), 0);
            })
            .must("start")?;
        check!(
            eventually(|| caller.stat().is_ok_and(|(_, state, _)| state == 2)),
            "the caller waits"
        );
        if served {
            server.receive(in_seconds(60)).must("receive")?;
        }
        caller.destroy().must("destroy")?;
        if served {
            refused!(server.reply(Message::default()), PeerDead);
            refused!(server.reply(Message::default()), WrongState);
        } else {
            refused!(server.receive(0), TimedOut);
        }
        // The place in the Gate is free again.
        let (_, answer) = call_elsewhere(gate, Message::default())?;
        server.receive(in_seconds(60)).must("receive")?;
        server.reply(Message::default()).must("reply")?;
        answer.wait()?.must("answer")?;
        gate.destroy().must("gate")?;
        endpoint.destroy().must("endpoint")?;
    }
    Ok(())
}

/// A server's Domain dies with calls queued, served and not yet made.
fn server_dies(world: &'static World) -> Outcome {
    use crate::act::{self, Act};
    let sandbox = Sandbox::new().must("sandbox")?;
    for act in [Act::ServeNothing, Act::ServeAndDie] {
        let endpoint = Endpoint::create(Domain::OWN).must("endpoint")?;
        let gate = endpoint.gate(Domain::OWN, 1, 10).must("gate")?;
        let assistant = world
            .assistant_in(sandbox.0, act, |launch| {
                launch.grant(act::ENDPOINT, endpoint.slot(), Rights::RECEIVE)
            })
            .must("assistant")?;
        assistant.wait(act::BEGUN).must("begin")?;
        let mut answers = Vec::new();
        for _ in 0..3 {
            answers.push(call_elsewhere(gate, Message::default())?.1);
        }
        assistant.wait(act::DONE).must("received")?;
        if act == Act::ServeAndDie {
            assistant.buried().must("death")?;
        } else {
            assistant.kill().must("kill")?;
        }
        // The Endpoint is the suite's: the call that was received ends, the others wait for the next server.
        let server = Server::new(endpoint, None).must("server")?;
        for _ in 0..2 {
            server.receive(in_seconds(60)).must("receive")?;
            server.reply(Message::default()).must("reply")?;
        }
        let results: Vec<_> =
            answers.into_iter().map(|answer| answer.wait()).collect::<Result<_, _>>()?;
        let dead = results.iter().filter(|result| matches!(result, Err(Error::PeerDead))).count();
        same!(dead, 1);
        gate.destroy().must("gate")?;
        endpoint.destroy().must("endpoint")?;
    }
    sandbox.close()
}

fn reply_receive(_: &'static World) -> Outcome {
    let (endpoint, gate) = session(8)?;
    let reply = Reply::create(Domain::OWN).must("reply")?;
    let (sender, answer) = channel();
    thread::spawn(false, move || {
        let mut sum = 0;
        for word in 0..1000 {
            sum +=
                gate.call(Message::new(0, [word, 0, 0, 0]), 0).map_or(0, |answer| answer.words[1]);
        }
        let last = gate.call(Message::new(9, [0; 4]), 0);
        sender.send((sum, last.map(|last| last.label)));
    })
    .must("thread")?;
    let mut registers = receive(endpoint, in_seconds(60), 0, reply).must("receive")?;
    while Tag(registers.rsi).label() != 9 {
        let word = registers.words[0];
        let next = MessageRegisters {
            rdi: endpoint.slot().into(),
            rsi: 0,
            words: [0, word * 2, 0, 0],
            caps: [0; 3],
            r15: u64::from(reply.slot()) << 32,
        };
        registers = arch::message(Operation::ReplyReceive, next).must("ReplyReceive")?;
    }
    let last = raw_message(
        Operation::Reply as u64,
        [reply.slot().into(), Tag::new(4, 0).0, 0, 0, 0, 0],
        [0; 4],
    );
    same!(last, 0);
    same!(answer.wait()?, (999_000, Ok(4)));
    Thread(thread::own_slot()).kick().must("kick")?;
    let next = MessageRegisters {
        rdi: endpoint.slot().into(),
        rsi: 0,
        words: [0; 4],
        caps: [0; 3],
        r15: u64::from(reply.slot()) << 32,
    };
    refused!(arch::message(Operation::ReplyReceive, next), Kicked);
    reply.destroy().must("reply")?;
    endpoint.destroy().must("endpoint")?;
    gate.destroy().must("gate")
}

/// One Gate with many callers does not starve another with one.
fn round_robin(_: &'static World) -> Outcome {
    let endpoint = Endpoint::create(Domain::OWN).must("endpoint")?;
    let (crowd, single) = (
        endpoint.gate(Domain::OWN, 1, 100).must("gate")?,
        endpoint.gate(Domain::OWN, 2, 1).must("gate")?,
    );
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.push(call_elsewhere(crowd, Message::default())?);
    }
    let blocked = |thread: Thread| thread.stat().is_ok_and(|(_, state, _)| state == 2);
    check!(eventually(|| answers.iter().all(|(thread, _)| blocked(*thread))), "the crowd waits");
    let one = call_elsewhere(single, Message::default())?;
    check!(eventually(|| blocked(one.0)), "the single one waits");
    answers.push(one);
    let server = Server::new(endpoint, None).must("server")?;
    let mut place = 0;
    for turn in 0..21 {
        if server.receive(in_seconds(60)).must("receive")?.badge == 2 {
            place = turn;
        }
        server.reply(Message::default()).must("reply")?;
    }
    check!(place <= 2, "the single caller was served as number {place}");
    for (_, answer) in answers {
        answer.wait()?.must("answer")?;
    }
    crowd.destroy().must("gate")?;
    single.destroy().must("gate")?;
    endpoint.destroy().must("endpoint")
}
