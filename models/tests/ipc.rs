//! Calls, answers and Notifications between actors on the fake machine: who waits, who is told what, what is left.

use kernel_abi::{Error, Operation, Rights, cap::Slot, message::Tag};
use kernel_core::{
    domain::Domain,
    ipc::{Endpoint, Gate, Notification, Reply},
    thread::Thread,
};
use kernel_machine::{Reg, object::Ref};
use models::world::{Actor, Outcome, World};

const ENDPOINT: Slot = 10;
const REPLY: Slot = 11;
const NOTIFICATION: Slot = 12;
const GATE: Slot = 20;
const WINDOW: Slot = 100;

/// A server on CPU 0 and clients, each of its own Domain and Gate, on the others.
struct Session {
    server: Actor,
    server_domain: Ref<Domain>,
    endpoint: Ref<Endpoint>,
    reply: Ref<Reply>,
    notification: Ref<Notification>,
    clients: Vec<Client>,
    world: World,
}

struct Client {
    actor: Actor,
    domain: Ref<Domain>,
    gate: Ref<Gate>,
}

impl Session {
    fn new(clients: usize, limit: u32) -> Self {
        let world = World::boot(4096, clients + 1);
        let server_domain = world.domain();
        let server = world.actor(&server_domain, 0);
        let endpoint = Endpoint::create(&server_domain).unwrap();
        let reply = Reply::create(&server_domain).unwrap();
        let notification = Notification::create(&server_domain).unwrap();
        world.grant(&server_domain, ENDPOINT, endpoint.clone().into_any(), Rights::ALL);
        world.grant(&server_domain, REPLY, reply.clone().into_any(), Rights::ALL);
        world.grant(&server_domain, NOTIFICATION, notification.clone().into_any(), Rights::ALL);
        let clients = (0..clients)
            .map(|index| {
                let domain = world.domain();
                let actor = world.actor(&domain, index + 1);
                let gate =
                    Gate::create(&domain, endpoint.clone(), 100 + index as u64, limit).unwrap();
                world.grant(&domain, GATE, gate.clone().into_any(), Rights::ALL);
                Client { actor, domain, gate }
            })
            .collect();
        Self { server, server_domain, endpoint, reply, notification, clients, world }
    }
    fn window(&self) {
        self.server.thread.context.set(Reg::R15, u64::from(REPLY) << 32 | u64::from(WINDOW));
    }
    fn receive(&self, deadline: u64, notification: Slot) -> Outcome {
        self.window();
        self.world.operate(
            &self.server,
            Operation::Receive,
            &[u64::from(ENDPOINT), deadline, u64::from(notification)],
        )
    }
    fn reply_receive(&self, word: u64) -> Outcome {
        self.window();
        self.world.operate(
            &self.server,
            Operation::ReplyReceive,
            &[u64::from(ENDPOINT), Tag::new(9, 0).0, word],
        )
    }
    fn reply(&self, word: u64) -> Outcome {
        self.world.operate(
            &self.server,
            Operation::Reply,
            &[u64::from(REPLY), Tag::new(9, 0).0, word],
        )
    }
    fn call(&self, client: usize, word: u64) -> Outcome {
        let tag = Tag::new(7, 0).0;
        self.world.operate(
            &self.clients[client].actor,
            Operation::Call,
            &[u64::from(GATE), tag, word, 1, 2, 3],
        )
    }
    fn outcome(&self, client: usize) -> Outcome {
        self.world.outcome(&self.clients[client].actor)
    }
    fn received(&self) -> (u64, u64) {
        let context = &self.server.thread.context;
        (context.get(Reg::Rdi), context.get(Reg::Rdx))
    }
}

#[test]
fn a_call_is_received_and_answered_whoever_comes_first() {
    for server_first in [true, false] {
        let session = Session::new(1, 1);
        if server_first {
            assert_eq!(session.receive(u64::MAX, 0), Outcome::Waits);
            assert_eq!(session.call(0, 42), Outcome::Waits);
            assert_eq!(session.world.outcome(&session.server).value(), 0);
        } else {
            assert_eq!(session.call(0, 42), Outcome::Waits);
            assert_eq!(session.receive(u64::MAX, 0).value(), 0);
        }
        assert_eq!(session.received(), (100, 42));
        assert_eq!(Tag(session.server.thread.context.get(Reg::Rsi)), Tag::new(7, 0));
        assert_eq!(session.reply(43).value(), 0);
        assert_eq!(session.outcome(0).value(), 0);
        let client = &session.clients[0].actor.thread.context;
        assert_eq!((client.get(Reg::Rdx), client.get(Reg::Rsi)), (43, Tag::new(9, 0).0));
        assert_eq!(
            session.reply(44),
            Outcome::Done(Err(Error::WrongState)),
            "a Reply answers once"
        );
    }
}

#[test]
fn capabilities_travel_with_no_more_rights_than_were_sent() {
    let session = Session::new(1, 1);
    let client = &session.clients[0];
    let given = Notification::create(&client.domain).unwrap();
    session.world.grant(&client.domain, 30, given.clone().into_any(), Rights::SEND | Rights::COPY);
    session.world.grant(&client.domain, 31, given.into_any(), Rights::SEND);
    let context = &client.actor.thread.context;
    context.set(Reg::R12, 30 | u64::from((Rights::SEND | Rights::RECEIVE).bits()) << 32);
    context.set(Reg::R13, 31 | u64::from(Rights::SEND.bits()) << 32);
    let outcome =
        session.world.operate(&client.actor, Operation::Call, &[u64::from(GATE), Tag::new(7, 2).0]);
    assert_eq!(outcome, Outcome::Waits);
    assert_eq!(session.receive(u64::MAX, 0).value(), 0);
    assert_eq!(Tag(session.server.thread.context.get(Reg::Rsi)), Tag::new(7, 1), "one lacked COPY");
    let entry = kernel_machine::object::epoch::enter();
    let held = session.server_domain.lookup(u64::from(WINDOW), &entry).unwrap();
    assert_eq!(held.rights, Rights::SEND);
    assert!(session.server_domain.lookup(u64::from(WINDOW) + 1, &entry).is_err());
}

#[test]
fn a_gate_limits_its_calls_in_flight() {
    let session = Session::new(2, 1);
    let second = &session.clients[1];
    session.world.grant(
        &second.domain,
        GATE + 1,
        session.clients[0].gate.clone().into_any(),
        Rights::SEND,
    );
    assert_eq!(session.call(0, 1), Outcome::Waits);
    let call = [u64::from(GATE) + 1, Tag::new(7, 0).0];
    assert_eq!(
        session.world.operate(&second.actor, Operation::Call, &call),
        Outcome::Done(Err(Error::WouldBlock))
    );
    assert_eq!(session.receive(u64::MAX, 0).value(), 0);
    assert_eq!(
        session.world.operate(&second.actor, Operation::Call, &call),
        Outcome::Done(Err(Error::WouldBlock))
    );
    assert_eq!(session.reply(1).value(), 0);
    assert_eq!(
        session.world.operate(&second.actor, Operation::Call, &call),
        Outcome::Waits,
        "the place is free again"
    );
}

#[test]
fn gates_take_turns() {
    let session = Session::new(3, 4);
    for client in [2, 0, 1] {
        assert_eq!(session.call(client, 0), Outcome::Waits);
    }
    let mut badges = Vec::new();
    assert_eq!(session.receive(u64::MAX, 0).value(), 0);
    for round in 0..6 {
        badges.push(session.received().0);
        let client = usize::try_from(session.received().0 - 100).unwrap();
        assert_eq!(session.reply(0).value(), 0);
        if round < 3 {
            assert_eq!(session.call(client, 0), Outcome::Waits, "it calls again at once");
        }
        if round < 5 {
            assert_eq!(session.receive(u64::MAX, 0).value(), 0);
        }
    }
    assert_eq!(badges, [102, 100, 101, 102, 100, 101]);
}

#[test]
fn a_receiver_takes_bits_that_are_there() {
    let session = Session::new(1, 1);
    session.notification.signal(0b101);
    assert_eq!(session.receive(u64::MAX, NOTIFICATION).value(), 0);
    assert_eq!(session.received(), (u64::MAX, 0b101));
    assert_eq!(
        session.receive(u64::MAX, NOTIFICATION),
        Outcome::Waits,
        "the Reply is free for the next receive"
    );
    session.notification.signal(0b10);
    assert_eq!(session.world.outcome(&session.server).value(), 0);
    assert_eq!(session.received(), (u64::MAX, 0b10));
}

#[test]
fn reply_receive_waits_also_when_there_was_nothing_to_answer() {
    let session = Session::new(1, 1);
    assert_eq!(session.reply_receive(0), Outcome::Waits);
    assert!(
        !kernel_machine::on_cpu(0, || models::world::is_current(&session.server.thread)),
        "a thread that waits does not run on"
    );
    assert_eq!(session.call(0, 5), Outcome::Waits);
    assert_eq!(session.received(), (100, 5));
    // The caller's CPU has not left it when the answer comes, so that it cannot be switched to directly.
    assert_eq!(session.reply_receive(6), Outcome::Waits);
    assert!(!kernel_machine::on_cpu(0, || models::world::is_current(&session.server.thread)));
    assert_eq!(session.outcome(0).value(), 0);
}

#[test]
fn calls_and_answers_switch_directly_on_one_cpu() {
    let world = World::boot(4096, 1);
    let domain = world.domain();
    let (server, client) = (world.actor(&domain, 0), world.actor(&domain, 0));
    let endpoint = Endpoint::create(&domain).unwrap();
    world.grant(&domain, ENDPOINT, endpoint.clone().into_any(), Rights::ALL);
    world.grant(&domain, REPLY, Reply::create(&domain).unwrap().into_any(), Rights::ALL);
    world.grant(
        &domain,
        GATE,
        Gate::create(&domain, endpoint, 1, 1).unwrap().into_any(),
        Rights::ALL,
    );
    server.thread.context.set(Reg::R15, u64::from(REPLY) << 32);
    assert_eq!(
        world.operate(&server, Operation::ReplyReceive, &[u64::from(ENDPOINT)]),
        Outcome::Waits
    );
    for round in 0..3 {
        assert_eq!(
            world.operate(&client, Operation::Call, &[u64::from(GATE), 0, round]),
            Outcome::Waits
        );
        assert!(models::world::is_current(&server.thread));
        assert_eq!(server.thread.context.get(Reg::Rdx), round);
        assert_eq!(
            world.operate(&server, Operation::ReplyReceive, &[u64::from(ENDPOINT), 0, round + 1]),
            Outcome::Waits
        );
        assert!(models::world::is_current(&client.thread));
        assert_eq!(client.thread.context.get(Reg::Rdx), round + 1);
    }
}

#[test]
fn receive_ends_at_its_deadline() {
    let session = Session::new(1, 1);
    assert_eq!(session.receive(0, 0), Outcome::Done(Err(Error::TimedOut)));
    let deadline = kernel_machine::now() + 1_000_000;
    assert_eq!(session.receive(deadline, 0), Outcome::Waits);
    session.world.machine.advance(900_000);
    session.world.settle();
    assert_eq!(session.world.outcome(&session.server), Outcome::Waits);
    session.world.machine.advance(110_000);
    session.world.settle();
    assert_eq!(session.world.outcome(&session.server), Outcome::Done(Err(Error::TimedOut)));
    assert_eq!(session.receive(u64::MAX, 0), Outcome::Waits, "the Reply is free again");
}

#[test]
fn a_kick_ends_a_call_only_while_no_server_has_it() {
    let session = Session::new(1, 2);
    let client = &session.clients[0].actor.thread;
    assert_eq!(session.call(0, 1), Outcome::Waits);
    Thread::kick(client.borrow());
    assert_eq!(session.outcome(0), Outcome::Done(Err(Error::Kicked)));
    assert_eq!(session.call(0, 1), Outcome::Waits, "the kick was consumed");
    assert_eq!(session.receive(u64::MAX, 0).value(), 0);
    Thread::kick(client.borrow());
    assert_eq!(session.outcome(0), Outcome::Waits, "a server works on it");
    assert_eq!(session.reply(2).value(), 0);
    assert_eq!(session.outcome(0).value(), 0);
    let park = session.world.operate(&session.clients[0].actor, Operation::ThreadPark, &[u64::MAX]);
    assert_eq!(park, Outcome::Done(Err(Error::Kicked)), "the kick was kept");
}

#[test]
fn a_destroyed_gate_ends_its_calls() {
    let session = Session::new(2, 1);
    assert_eq!(session.call(0, 1), Outcome::Waits);
    assert_eq!(session.receive(u64::MAX, 0).value(), 0);
    assert_eq!(session.call(1, 1), Outcome::Waits);
    for client in &session.clients {
        Gate::destroy(client.gate.borrow());
    }
    session.world.settle();
    assert_eq!(session.outcome(0), Outcome::Done(Err(Error::PeerDead)));
    assert_eq!(session.outcome(1), Outcome::Done(Err(Error::PeerDead)));
    assert_eq!(
        session.reply(1),
        Outcome::Done(Err(Error::PeerDead)),
        "nobody waits for this answer"
    );
    assert_eq!(session.receive(0, 0), Outcome::Done(Err(Error::TimedOut)), "nobody is in line");
}

#[test]
fn clients_of_a_dead_server_are_told() {
    let session = Session::new(2, 1);
    assert_eq!(session.call(0, 1), Outcome::Waits);
    assert_eq!(session.receive(u64::MAX, 0).value(), 0);
    assert_eq!(session.call(1, 1), Outcome::Waits);
    Domain::destroy(session.server_domain.borrow());
    session.world.settle();
    assert_eq!(session.world.outcome(&session.server), Outcome::Ended);
    assert_eq!(session.outcome(0), Outcome::Done(Err(Error::PeerDead)));
    assert_eq!(session.outcome(1), Outcome::Done(Err(Error::PeerDead)));
    assert_eq!(session.call(0, 1), Outcome::Done(Err(Error::PeerDead)));
}

#[test]
fn a_server_of_a_dead_client_is_told() {
    let session = Session::new(1, 1);
    assert_eq!(session.call(0, 1), Outcome::Waits);
    assert_eq!(session.receive(u64::MAX, 0).value(), 0);
    Domain::destroy(session.clients[0].domain.borrow());
    session.world.settle();
    assert_eq!(session.reply(1), Outcome::Done(Err(Error::PeerDead)));
    assert_eq!(session.receive(u64::MAX, 0), Outcome::Waits);
}

#[test]
fn a_destroyed_reply_tells_its_caller() {
    let session = Session::new(1, 1);
    assert_eq!(session.call(0, 1), Outcome::Waits);
    assert_eq!(session.receive(u64::MAX, 0).value(), 0);
    Reply::destroy(session.reply.borrow());
    assert_eq!(session.outcome(0), Outcome::Done(Err(Error::PeerDead)));
}

#[test]
fn a_receiver_of_a_destroyed_endpoint_is_told() {
    let session = Session::new(1, 1);
    assert_eq!(session.receive(u64::MAX, NOTIFICATION), Outcome::Waits);
    Endpoint::destroy(session.endpoint.borrow());
    session.world.settle();
    assert_eq!(session.world.outcome(&session.server), Outcome::Done(Err(Error::PeerDead)));
}

#[test]
fn a_notification_wakes_those_whose_mask_matches() {
    let session = Session::new(2, 1);
    for (client, mask) in session.clients.iter().zip([0b01, 0b10]) {
        session.world.grant(
            &client.domain,
            NOTIFICATION,
            session.notification.clone().into_any(),
            Rights::RECEIVE,
        );
        let wait = [u64::from(NOTIFICATION), mask, u64::MAX];
        assert_eq!(
            session.world.operate(&client.actor, Operation::NotificationWait, &wait),
            Outcome::Waits
        );
    }
    session.notification.signal(0b110);
    assert_eq!(session.outcome(0), Outcome::Waits);
    assert_eq!(session.outcome(1).value(), 0);
    assert_eq!(
        session.clients[1].actor.thread.context.get(Reg::Rdx),
        0b10,
        "only the bits of its mask"
    );
    Notification::destroy(session.notification.borrow());
    assert_eq!(session.outcome(0), Outcome::Done(Err(Error::PeerDead)));
    let wait = [u64::from(NOTIFICATION), 0b100, u64::MAX];
    let stale =
        session.world.operate(&session.clients[1].actor, Operation::NotificationWait, &wait);
    assert_eq!(stale, Outcome::Done(Err(Error::NoCapability)));
}

#[test]
fn parks_end_by_unpark_kick_and_deadline() {
    let world = World::boot(2048, 1);
    let domain = world.domain();
    let actor = world.actor(&domain, 0);
    Thread::unpark(actor.thread.borrow());
    assert_eq!(
        world.operate(&actor, Operation::ThreadPark, &[u64::MAX]).value(),
        0,
        "an unpark is kept"
    );
    assert_eq!(world.operate(&actor, Operation::ThreadPark, &[u64::MAX]), Outcome::Waits);
    Thread::unpark(actor.thread.borrow());
    assert_eq!(world.outcome(&actor).value(), 0);
    assert_eq!(world.operate(&actor, Operation::ThreadPark, &[u64::MAX]), Outcome::Waits);
    Thread::kick(actor.thread.borrow());
    assert_eq!(world.outcome(&actor), Outcome::Done(Err(Error::Kicked)));
    let deadline = kernel_machine::now() + 5_000;
    assert_eq!(world.operate(&actor, Operation::ThreadPark, &[deadline]), Outcome::Waits);
    world.machine.advance(10_000);
    world.settle();
    assert_eq!(world.outcome(&actor), Outcome::Done(Err(Error::TimedOut)));
}

/// Gates whose callers have given up are passed over, however many they are.
#[test]
fn a_call_behind_many_that_were_given_up_is_received() {
    let world = World::boot(8192, 2);
    let (serves, calls) = (world.domain(), world.domain());
    let endpoint = Endpoint::create(&serves).unwrap();
    world.grant(&serves, 10, endpoint.clone().into_any(), Rights::ALL);
    world.grant(&serves, 11, Reply::create(&serves).unwrap().into_any(), Rights::ALL);
    let home = world.home(&calls);
    let callers: Vec<_> = (0..70_u32)
        .map(|index| {
            let gate = Gate::create(&calls, endpoint.clone(), index.into(), 1).unwrap();
            world.grant(&calls, 20 + index, gate.into_any(), Rights::ALL);
            let actor = world.actor_in(&calls, home.clone(), 1);
            let slot = u64::from(20 + index);
            assert_eq!(world.operate(&actor, Operation::Call, &[slot]), Outcome::Waits);
            actor
        })
        .collect();
    callers[..69].iter().for_each(|actor| Thread::kick(actor.thread.borrow()));
    let server = world.actor(&serves, 0);
    server.thread.context.set(Reg::R15, 11 << 32);
    assert_eq!(world.operate(&server, Operation::Receive, &[10, u64::MAX]), Outcome::Done(Ok(0)));
    assert_eq!(server.thread.context.get(Reg::Rdi), 69, "the badge of the last Gate");
}
