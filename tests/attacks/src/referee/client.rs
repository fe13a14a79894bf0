//! A client of the compartments service, and the port that each compartment gets instead of the control service's.

use crate::board::{self, Board};
use alloc::{collections::BTreeMap, format, string::String, sync::Arc, vec::Vec};
use contract::{
    channel::well_known::FIRST_COMPARTMENT,
    compartment::{ProcessSpec, Spec},
    compartments::{
        Budget, CapabilityRecord, Create, LISTED_AT_ONCE, Request, Response, Stat, call,
    },
    control,
    ring::PORT_PAGES,
    wire::{self, Decoder},
};
use core::sync::atomic::{AtomicU64, Ordering};
use rt::{
    Domain, Endpoint, Gate, Notification, Space,
    abi::{
        Rights,
        space::{Access, SpaceUse},
    },
    clock,
    message::{Message, Received, Server},
    startup,
    sync::Mutex,
    view::View,
};

/// Pages of the Space that requests travel in.
const PAGES: u64 = 4;
/// Flag of `SpaceZero`: frames at once.
const POPULATE: u64 = 1 << 8;
const WRITE: Access = Access::READ.union(Access::WRITE);
/// Nanoseconds after which something that must come does not come any more.
const PATIENCE: u64 = 60_000_000_000;

/// A compartment's port: its board, and whether it is closed. A compartment may be gone before its creator has heard that it is there.
struct Port {
    space: Space,
    board: Arc<Board>,
    is_closed: bool,
}

/// What the control service would know, which the referee stands in for.
struct Control {
    ports: Mutex<BTreeMap<u32, Port>>,
    /// How it answers who wants a port, as a number of [`Manner`].
    manner: AtomicU64,
}

/// How the control service answers who wants a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// With the port.
    Right,
    /// It has no memory.
    OutOfMemory,
    /// The channel is somebody else's.
    Taken,
    /// It does not know such calls.
    Unknown,
    /// With nothing.
    Nothing,
    /// With a Space, but no doorbell.
    NoDoorbell,
    /// With a Space that has been destroyed.
    Destroyed,
    /// With a Space that may not be handed on.
    NotToCopy,
}

impl Manner {
    /// All that are wrong.
    pub(crate) const WRONG: [Self; 7] = [
        Self::OutOfMemory,
        Self::Taken,
        Self::Unknown,
        Self::Nothing,
        Self::NoDoorbell,
        Self::Destroyed,
        Self::NotToCopy,
    ];
}

/// A compartment of this client's.
pub(crate) struct Compartment {
    id: u64,
    channel: u32,
    /// Its board.
    pub(crate) board: Arc<Board>,
}

/// The client.
pub(crate) struct Client {
    control: Arc<Control>,
    gate: Gate,
    space: Space,
    view: View,
    next: AtomicU64,
}

fn named(name: &str) -> Result<u32, String> {
    startup::capability(name).ok_or_else(|| format!("there is no capability {name:?}"))
}

fn kernel(error: rt::Error) -> String {
    format!("the kernel refused: {error:?}")
}

impl Client {
    pub(crate) fn new() -> Result<Self, String> {
        let control = Arc::new(Control {
            ports: Mutex::new(BTreeMap::new()),
            manner: AtomicU64::new(Manner::Right as u64),
        });
        let notification = Notification::create(Domain::OWN).map_err(kernel)?;
        let server = Server::new(Endpoint(named("ports")?), Some(notification)).map_err(kernel)?;
        let served = Arc::clone(&control);
        rt::thread::spawn(false, move || serve(&server, &served, notification)).map_err(kernel)?;
        let space = Space::create(Domain::OWN, SpaceUse::Hold, None).map_err(kernel)?;
        space.zero(0, PAGES, WRITE, POPULATE).map_err(kernel)?;
        let view = View::map(space, 0, PAGES, WRITE).map_err(kernel)?;
        Ok(Self {
            control,
            gate: Gate(named("compartments")?),
            space,
            view,
            next: AtomicU64::new(1),
        })
    }

    /// Asks the service for something.
    pub(crate) fn say(&self, request: &Request) -> Result<Response, String> {
        let mut bytes = Vec::new();
        wire::encode(request, &mut bytes)
            .map_err(|_| String::from("a request cannot be encoded"))?;
        self.view.write(0, &bytes).map_err(kernel)?;
        let rights = Rights::MAP_READ | Rights::MAP_WRITE | Rights::COPY;
        let message = Message::new(call::REQUEST, [PAGES, 0, 0, 0]).with(self.space.slot(), rights);
        let answer = self.gate.call(message, 0).map_err(kernel)?;
        let [length, ..] = answer.words;
        let mut bytes = alloc::vec![0; usize::try_from(length).unwrap_or(0)];
        self.view.read(0, &mut bytes).map_err(kernel)?;
        let mut decoder = Decoder::new();
        decoder.feed(&bytes);
        match decoder.next() {
            Ok(Some(response)) if answer.label == 0 => Ok(response),
            _ => Err(format!("compartments answered with label {:#x}", answer.label)),
        }
    }

    /// What creates a compartment with a role.
    pub(crate) fn create_request(&self, role: &str, budget: Budget) -> Create {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let channel = FIRST_COMPARTMENT + u32::try_from(id).unwrap_or(0);
        let arguments = alloc::vec![role.as_bytes().to_vec()];
        let process = ProcessSpec { arguments, ..ProcessSpec::default() };
        let mut spec = Vec::new();
        // It is far shorter than a message may be.
        let _ = wire::encode(&Spec { process, ..Spec::default() }, &mut spec);
        Create { id, channel, layers: Vec::new(), budget, tenant: 0, spec }
    }

    /// Creates a compartment with a role.
    pub(crate) fn create(&self, role: &str, budget: Budget) -> Result<Compartment, String> {
        let made = self.attempt(self.create_request(role, budget))?;
        made.map_err(|why| format!("{role} was not created: {why}"))
    }

    /// Tries to create a compartment: why it was refused, if it was, or what is wrong with how it was.
    pub(crate) fn attempt(&self, create: Create) -> Result<Result<Compartment, String>, String> {
        let (id, channel) = (create.id, create.channel);
        match self.say(&Request::Create(create)) {
            Ok(Response::Created { .. }) => {
                let ports = self.control.ports.lock();
                let board = ports.get(&channel).map(|port| Arc::clone(&port.board));
                let board = board.ok_or_else(|| String::from("its port was not opened"))?;
                Ok(Ok(Compartment { id, channel, board }))
            }
            refused => match self.control.ports.lock().remove(&channel) {
                Some(port) if !port.is_closed => Err(format!("open port after {refused:?}")),
                _ => Ok(Err(format!("{refused:?}"))),
            },
        }
    }

    /// How ports are given from here on.
    pub(crate) fn behave(&self, manner: Manner) {
        self.control.manner.store(manner as u64, Ordering::Release);
    }

    /// Whether a compartment is gone.
    pub(crate) fn is_gone(&self, compartment: &Compartment) -> bool {
        self.control.ports.lock().get(&compartment.channel).is_none_or(|port| port.is_closed)
    }

    /// What a compartment uses.
    pub(crate) fn stat(&self, compartment: &Compartment) -> Result<Stat, String> {
        match self.say(&Request::Stat { id: compartment.id })? {
            Response::Stat(stat) => Ok(stat),
            response => Err(format!("no figures: {response:?}")),
        }
    }

    /// Every capability that a compartment holds, as the service lists them.
    pub(crate) fn capabilities(
        &self,
        compartment: &Compartment,
    ) -> Result<Vec<CapabilityRecord>, String> {
        let mut all: Vec<CapabilityRecord> = Vec::new();
        loop {
            let from = all.last().map_or(0, |last| last.slot.saturating_add(1));
            match self.say(&Request::Capabilities { id: compartment.id, from })? {
                Response::Capabilities(records) if records.is_empty() => return Ok(all),
                Response::Capabilities(records) if records.len() <= LISTED_AT_ONCE => {
                    all.extend(records);
                }
                response => return Err(format!("no list: {response:?}")),
            }
        }
    }

    /// Changes a compartment's limits.
    pub(crate) fn update(&self, compartment: &Compartment, budget: Budget) -> Result<(), String> {
        match self.say(&Request::Update { id: compartment.id, budget })? {
            Response::Done => Ok(()),
            response => Err(format!("not changed: {response:?}")),
        }
    }

    /// Destroys a compartment, if it lives, and waits until it is gone; its board goes too.
    pub(crate) fn destroy(&self, compartment: Compartment) -> Result<(), String> {
        let compartment = &compartment;
        if !self.is_gone(compartment) {
            let _ = self.say(&Request::Destroy { id: compartment.id })?;
        }
        if !self.wait(PATIENCE, || self.is_gone(compartment)) {
            let stat = self.stat(compartment);
            return Err(format!("a destroyed compartment is still there: {stat:?}"));
        }
        self.control.ports.lock().remove(&compartment.channel);
        Ok(())
    }

    /// Waits until a condition holds, some nanoseconds at most; whether it does.
    pub(crate) fn wait(&self, nanoseconds: u64, mut holds: impl FnMut() -> bool) -> bool {
        let end = clock::deadline_in(nanoseconds);
        while !holds() {
            if clock::now() > end {
                return false;
            }
            let _ = rt::thread::park_until(clock::deadline_in(500_000));
        }
        true
    }
}

fn serve(server: &Server, known: &Control, notification: Notification) {
    loop {
        match server.receive(rt::object::FOREVER) {
            // A doorbell says nothing here.
            Ok(received) if received.badge == u64::MAX => {}
            Ok(received) => {
                let answer = answer(&received, known, notification);
                received.drop_caps();
                let _ = server.reply(answer);
            }
            Err(rt::Error::Kicked) => {}
            Err(error) => {
                rt::log!("FAILED the referee cannot receive: {error:?}");
                return;
            }
        }
    }
}

fn answer(received: &Received, known: &Control, notification: Notification) -> Message {
    let [channel, ..] = received.words;
    let channel = u32::try_from(channel).unwrap_or(0);
    match received.label {
        // The service's own channel would need somebody who reads what it tells of every death.
        control::call::OPEN_PORT if channel < FIRST_COMPARTMENT => {
            Message::new(control::call::UNKNOWN, [0; 4])
        }
        control::call::OPEN_PORT => open_port(channel, known, notification),
        control::call::CLOSE_PORT => {
            if let Some(port) = known.ports.lock().get_mut(&channel).filter(|port| !port.is_closed)
            {
                port.is_closed = true;
                let space = port.space;
                // One that was destroyed before only leaves its slot.
                let _ = space.destroy().inspect_err(|_| space.forget());
            }
            Message::new(0, [0; 4])
        }
        _ => Message::new(control::call::UNKNOWN, [0; 4]),
    }
}

/// Opens a port, in whatever manner is the order of the day.
fn open_port(channel: u32, known: &Control, notification: Notification) -> Message {
    let number = known.manner.load(Ordering::Acquire);
    let manner = Manner::WRONG.into_iter().find(|manner| *manner as u64 == number);
    let manner = manner.unwrap_or(Manner::Right);
    match manner {
        Manner::OutOfMemory => return Message::new(control::call::OUT_OF_MEMORY, [0; 4]),
        Manner::Taken => return Message::new(control::call::TAKEN, [0; 4]),
        Manner::Unknown => return Message::new(control::call::UNKNOWN, [0; 4]),
        _ => {}
    }
    let Ok(port) = open() else {
        return Message::new(control::call::OUT_OF_MEMORY, [0; 4]);
    };
    let space = port.space;
    known.ports.lock().insert(channel, port);
    let message = Message::new(0, [1, 0, 0, 0]);
    let rights = Rights::MAP_READ | Rights::MAP_WRITE;
    let doorbell = Rights::SEND | Rights::COPY;
    match manner {
        Manner::Nothing => message,
        Manner::NoDoorbell => message.with(space.slot(), rights | Rights::COPY),
        Manner::NotToCopy => message.with(space.slot(), rights).with(notification.slot(), doorbell),
        Manner::Destroyed => {
            let answer = message.with(space.slot(), rights | Rights::COPY);
            let _ = rt::arch::call(
                rt::abi::Operation::ObjectDestroy,
                [space.slot().into(), 0, 0, 0, 0, 0],
            );
            answer.with(notification.slot(), doorbell)
        }
        _ => message.with(space.slot(), rights | Rights::COPY).with(notification.slot(), doorbell),
    }
}

fn open() -> rt::Result<Port> {
    let space = Space::create(Domain::OWN, SpaceUse::Hold, None)?;
    space.zero(0, PORT_PAGES, WRITE, POPULATE)?;
    let board = Arc::new(Board::open(space)?);
    board.set(board::STATE, board::NOTHING);
    Ok(Port { space, board, is_closed: false })
}
