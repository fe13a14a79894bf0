//! The desk: serves the channels of the compartments that this program creates, where the control service serves the daemon's.
//!
//! A compartment cannot tell the difference: it gets the same port, made at the same moment of its creation, and says the same messages. What it says
//! stays in this program, so that no device and no host is part of a figure. The desk's thread answers calls and doorbells while the main thread
//! waits for the compartments service.

use crate::sample;
use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
use contract::{
    channel::well_known::FIRST_COMPARTMENT,
    compartment::{ExitStatus, FromCompartment, StartFailure, ToCompartment, WINDOW_STEP},
    control::call,
    ring::PORT_PAGES,
    wire::{self, Decoder},
};
use rt::{
    Domain, Endpoint, Notification, Space,
    abi::{
        Rights,
        space::{Access, SpaceUse},
    },
    clock,
    message::{Message, Received, Server},
    port::{Port, Side},
    sync::Mutex,
};

/// Bits of the Notification that ports share.
const BITS: u32 = 63;
/// Bytes read from a port at once.
const CHUNK: usize = 4096;

/// What a compartment has said.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Standard output, unless it is relayed.
    pub(crate) output: Vec<u8>,
    /// Standard error.
    pub(crate) errors: Vec<u8>,
    /// How its first process ended.
    pub(crate) status: Option<ExitStatus>,
    /// When this program heard that.
    pub(crate) exited_at: Option<u64>,
    /// Why its first process did not begin.
    pub(crate) failure: Option<StartFailure>,
    /// Its first process has begun.
    pub(crate) has_started: bool,
    /// It is gone: the compartments service has closed its channel.
    pub(crate) is_closed: bool,
    /// Whole lines of its output go to the log at once.
    relays: bool,
    /// Bytes of its window that are not given back yet; a measured program writes to one stream or little.
    owed: u32,
}

/// A port and the state of what comes through it.
struct Conversation {
    channel: u32,
    port: Port,
    space: Space,
    doorbell: Notification,
    decoder: Decoder,
    out: Vec<u8>,
}

#[derive(Default)]
struct State {
    heard: BTreeMap<u32, Heard>,
    /// By the bit that they ring.
    open: BTreeMap<u32, Vec<Conversation>>,
    /// Channels that were closed, until somebody looks.
    closed: Vec<u32>,
    buffer: Vec<u8>,
    next: u32,
}

/// The desk.
#[derive(Clone)]
pub(crate) struct Desk {
    state: Arc<Mutex<State>>,
}

impl Desk {
    /// Begins to serve, on a thread of its own.
    pub(crate) fn open(endpoint: Endpoint) -> rt::Result<Self> {
        let desk = Self { state: Arc::new(Mutex::new(State::default())) };
        let notification = Notification::create(Domain::OWN)?;
        let server = Server::new(endpoint, Some(notification))?;
        let own = desk.clone();
        rt::thread::spawn(false, move || own.serve(server, notification))?;
        Ok(desk)
    }

    /// A new channel.
    pub(crate) fn expect(&self, relays: bool) -> u32 {
        let mut state = self.state.lock();
        let channel = FIRST_COMPARTMENT + state.next;
        state.next += 1;
        state.heard.insert(channel, Heard { relays, ..Heard::default() });
        channel
    }

    /// Whether the compartment behind a channel is gone.
    pub(crate) fn is_closed(&self, channel: u32) -> bool {
        self.state.lock().heard.get(&channel).is_none_or(|heard| heard.is_closed)
    }

    /// A channel that was closed and not yet told of.
    pub(crate) fn take_closed(&self) -> Option<u32> {
        self.state.lock().closed.pop()
    }

    /// Whether the first process of the compartment behind a channel has begun.
    pub(crate) fn has_started(&self, channel: u32) -> bool {
        self.state.lock().heard.get(&channel).is_some_and(|heard| heard.has_started)
    }

    /// What came through a channel, which is then free.
    pub(crate) fn take(&self, channel: u32) -> Heard {
        self.state.lock().heard.remove(&channel).unwrap_or_default()
    }

    fn serve(&self, server: Server, notification: Notification) {
        loop {
            let received = match server.receive(rt::object::FOREVER) {
                Ok(received) => received,
                Err(rt::Error::Kicked) => continue,
                Err(error) => {
                    rt::log!("WARN bench: the desk cannot receive: {error:?}");
                    return;
                }
            };
            let mut state = self.state.lock();
            if received.badge == u64::MAX {
                let [bits, ..] = received.words;
                state.hear(bits);
            } else {
                let answer = state.call(&received, notification);
                received.drop_caps();
                let _ = server.reply(answer);
            }
        }
    }
}

impl State {
    fn call(&mut self, received: &Received, notification: Notification) -> Message {
        let [channel, bits, ..] = received.words;
        let channel = u32::try_from(channel).unwrap_or(0);
        match (received.label, received.cap(0)) {
            // A channel that nobody expects is the daemon's, and there is no daemon.
            (call::OPEN_PORT, _) if !self.heard.contains_key(&channel) => {
                Message::new(call::TAKEN, [0; 4])
            }
            (call::OPEN_PORT, Some(doorbell)) => match self.open_port(channel, doorbell, bits) {
                Ok((space, bit)) => {
                    let rights = Rights::MAP_READ | Rights::MAP_WRITE | Rights::COPY;
                    let message = Message::new(0, [1 << bit, 0, 0, 0]).with(space.slot(), rights);
                    message.with(notification.slot(), Rights::SEND | Rights::COPY)
                }
                Err(_) => Message::new(call::OUT_OF_MEMORY, [0; 4]),
            },
            (call::CLOSE_PORT, _) => {
                self.close(channel);
                Message::new(0, [0; 4])
            }
            _ => Message::new(call::UNKNOWN, [0; 4]),
        }
    }

    fn open_port(&mut self, channel: u32, received: u32, bits: u64) -> rt::Result<(Space, u32)> {
        let slot = rt::slots::take()?;
        rt::object::copy(received, Domain::OWN, slot, Rights::SEND)?;
        let doorbell = Notification(slot);
        let space = Space::create(Domain::OWN, SpaceUse::Hold, None)?;
        space.zero(0, PORT_PAGES, Access::READ | Access::WRITE, 0)?;
        let port = Port::open(space, Side::Control, doorbell, bits)?;
        let bit = channel % BITS;
        let (decoder, out) = (Decoder::new(), Vec::new());
        let conversation = Conversation { channel, port, space, doorbell, decoder, out };
        self.open.entry(bit).or_default().push(conversation);
        Ok((space, bit))
    }

    /// Reads what has come through the ports whose bits are set.
    fn hear(&mut self, bits: u64) {
        let mut left = bits;
        while left != 0 {
            let bit = left.trailing_zeros();
            left &= left - 1;
            let ringers = self.open.get_mut(&bit).into_iter().flatten();
            // The bit is rung by idle ones too, which cost no more than this look.
            for conversation in ringers.filter(|conversation| conversation.has_work()) {
                if let Some(heard) = self.heard.get_mut(&conversation.channel) {
                    conversation.listen(heard, &mut self.buffer);
                }
            }
        }
    }

    fn close(&mut self, channel: u32) {
        let Some(heard) = self.heard.get_mut(&channel) else { return };
        heard.is_closed = true;
        self.closed.push(channel);
        let Some(ringers) = self.open.get_mut(&(channel % BITS)) else { return };
        let place = ringers.iter().position(|conversation| conversation.channel == channel);
        if let Some(mut conversation) = place.map(|place| ringers.swap_remove(place)) {
            conversation.listen(heard, &mut self.buffer);
            drop(conversation.port);
            let _ = conversation.space.destroy();
            conversation.doorbell.forget();
        }
    }
}

impl Conversation {
    /// Whether something has come, or waits for room.
    fn has_work(&self) -> bool {
        !self.out.is_empty() || self.port.readable() != Ok(0)
    }

    fn listen(&mut self, heard: &mut Heard, buffer: &mut Vec<u8>) {
        buffer.resize(CHUNK, 0);
        while let Ok(count @ 1..) = self.port.read(buffer) {
            self.decoder.feed(buffer.get(..count).unwrap_or_default());
            while let Ok(Some(message)) = self.decoder.next::<FromCompartment>() {
                self.note(message, heard);
            }
        }
        if let Ok(count) = self.port.write(&self.out) {
            self.out.drain(..count);
        }
    }

    fn note(&mut self, message: FromCompartment, heard: &mut Heard) {
        match message {
            FromCompartment::Output { process, stream, bytes } => {
                heard.owed += u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                if heard.owed >= WINDOW_STEP {
                    let bytes = core::mem::take(&mut heard.owed);
                    // A window is small enough to be encoded.
                    let _ = wire::encode(
                        &ToCompartment::Window { process, stream, bytes },
                        &mut self.out,
                    );
                }
                if stream == 1 { &mut heard.output } else { &mut heard.errors }.extend(bytes);
                if heard.relays {
                    sample::relay(&mut heard.output);
                }
            }
            FromCompartment::Started { .. } => heard.has_started = true,
            FromCompartment::NotStarted { failure, .. } => heard.failure = Some(failure),
            FromCompartment::Exited { status, .. } => {
                heard.status = Some(status);
                heard.exited_at = Some(clock::now());
            }
            FromCompartment::Log(line) => rt::log!("I {line}"),
            _ => {}
        }
    }
}
