//! A machine for tests: speaks the contract like the real one and runs the "compartments" as processes of the host.
//!
//! It stands in for the emulator: started with the emulator's arguments, it connects to the control channel's socket that they name. It isolates
//! nothing and ignores images; what it shows is that daemon and command line keep their side of the contract. Only compiled for tests.

mod compartment;

use compartment::Compartment;
use contract::{
    channel::{Frame, HEADER_LENGTH, MAX_DATA, well_known},
    compartments::{self, CapabilityRecord, Death, Refusal, Stat},
    images, system,
    wire::{self, Decoder},
};
use serde::Serialize;
use sha2::Digest as _;
use std::{
    collections::HashMap,
    io::{self, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixStream, unix::OwnedReadHalf},
    sync::mpsc,
};

/// Bytes the daemon may send on a channel at once.
const WINDOW: u32 = 256 * 1024;
/// Least memory of a "compartment".
const LEAST_MEMORY: u64 = 8 << 20;

/// The sending side, shared by all tasks.
#[derive(Debug)]
struct Wire {
    queue: mpsc::UnboundedSender<Vec<u8>>,
    /// Credit, and bytes that wait for it, by channel.
    channels: Mutex<HashMap<u32, (u64, Vec<u8>)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wire {
    fn frame(&self, frame: Frame, data: &[u8]) {
        let mut bytes = frame.encode().to_vec();
        bytes.extend_from_slice(data);
        // The daemon may have gone.
        let _ = self.queue.send(bytes);
    }

    fn credit(&self, channel: u32, bytes: u32) {
        lock(&self.channels).entry(channel).or_default().0 += u64::from(bytes);
        self.flush(channel);
    }

    fn send<T: Serialize>(&self, channel: u32, message: &T) {
        let mut bytes = Vec::new();
        wire::encode(message, &mut bytes).expect("messages of the fake machine are short");
        lock(&self.channels).entry(channel).or_default().1.extend(bytes);
        self.flush(channel);
    }

    fn flush(&self, channel: u32) {
        let mut channels = lock(&self.channels);
        let Some((credit, waiting)) = channels.get_mut(&channel) else { return };
        while *credit > 0 && !waiting.is_empty() {
            let limit = (*credit).min(u64::from(MAX_DATA)).min(waiting.len() as u64);
            let part: Vec<u8> = waiting.drain(..limit as usize).collect();
            *credit -= limit;
            let length = limit as u32;
            self.frame(Frame::Data { channel, length }, &part);
        }
    }
}

/// The machine.
struct Machine {
    wire: Arc<Wire>,
    decoders: HashMap<u32, Decoder>,
    blobs: HashMap<images::Digest, u64>,
    /// A blob that is being received: digest, bytes missing, hash so far.
    receiving: Option<(images::Digest, u64, sha2::Sha256)>,
    compartments: HashMap<u64, Compartment>,
    died: mpsc::UnboundedSender<u64>,
}

/// Runs as the emulator until the daemon closes the connection or asks for the end. The socket is the one in `arguments`.
///
/// # Errors
/// What the connection says.
pub async fn run(arguments: &str) -> io::Result<()> {
    let path = arguments.split(['=', ',', ' ']).find(|part| part.ends_with(".sock"));
    let stream = UnixStream::connect(path.unwrap_or("control.sock")).await?;
    println!("fake machine: up");
    io::stdout().flush()?;
    let (mut reader, mut writer) = stream.into_split();
    let (queue, mut frames) = mpsc::unbounded_channel::<Vec<u8>>();
    tokio::spawn(async move {
        while let Some(frame) = frames.recv().await {
            if writer.write_all(&frame).await.is_err() {
                return;
            }
        }
    });
    let wire = Arc::new(Wire { queue, channels: Mutex::default() });
    wire.frame(Frame::Hello { version: contract::VERSION }, &[]);
    for channel in [well_known::IMAGES, well_known::COMPARTMENTS, well_known::SYSTEM] {
        wire.frame(Frame::Credit { channel, bytes: WINDOW }, &[]);
    }
    let (died, mut dead) = mpsc::unbounded_channel();
    let mut machine = Machine {
        wire,
        decoders: HashMap::new(),
        blobs: HashMap::new(),
        receiving: None,
        compartments: HashMap::new(),
        died,
    };
    loop {
        tokio::select! {
            frame = read(&mut reader) => match frame {
                Ok((frame, data)) => {
                    if !machine.frame(frame, &data) {
                        return Ok(());
                    }
                }
                Err(_) => return Ok(()),
            },
            Some(id) = dead.recv() => machine.end(id, Death::Ended),
        }
    }
}

async fn read(reader: &mut OwnedReadHalf) -> io::Result<(Frame, Vec<u8>)> {
    let mut header = [0; HEADER_LENGTH];
    reader.read_exact(&mut header).await?;
    let frame = Frame::decode(header).expect("the daemon sends well-formed frames");
    let mut data = Vec::new();
    if let Frame::Data { length, .. } = frame {
        data.resize(length as usize, 0);
        reader.read_exact(&mut data).await?;
    }
    Ok((frame, data))
}

impl Machine {
    /// Acts on a frame; false at the end of the machine.
    fn frame(&mut self, frame: Frame, data: &[u8]) -> bool {
        match frame {
            Frame::Hello { version } => assert_eq!(version, contract::VERSION),
            Frame::Credit { channel, bytes } => self.wire.credit(channel, bytes),
            Frame::Close { .. } => {}
            Frame::Data { channel, length } => {
                self.wire.frame(Frame::Credit { channel, bytes: length }, &[]);
                self.decoders.entry(channel).or_default().feed(data);
                return match channel {
                    well_known::IMAGES => self.images(),
                    well_known::COMPARTMENTS => self.compartments(),
                    well_known::SYSTEM => self.system(),
                    _ => self.compartment(channel),
                };
            }
        }
        true
    }

    fn next<T: serde::de::DeserializeOwned>(&mut self, channel: u32) -> Option<T> {
        let decoder = self.decoders.entry(channel).or_default();
        decoder.next().expect("the daemon sends well-formed messages")
    }

    fn images(&mut self) -> bool {
        loop {
            if let Some((digest, missing, hasher)) = &mut self.receiving {
                let decoder = self.decoders.entry(well_known::IMAGES).or_default();
                let part = decoder.take_raw(*missing as usize);
                *missing -= part.len() as u64;
                hasher.update(&part);
                if *missing > 0 {
                    return true;
                }
                let actual: [u8; 32] = hasher.clone().finalize().into();
                let right = actual == *digest;
                if right {
                    self.blobs.insert(*digest, 0);
                }
                self.receiving = None;
                let wrong = images::Response::WrongDigest { actual };
                let answer = if right { images::Response::Done } else { wrong };
                self.wire.send(well_known::IMAGES, &answer);
            }
            match self.next(well_known::IMAGES) {
                None => return true,
                Some(images::Request::Put { digest, length }) => {
                    self.receiving = Some((digest, length, sha2::Sha256::new()));
                }
                Some(images::Request::List) => {
                    let blobs = self.blobs.iter().map(|(digest, length)| (*digest, *length));
                    let answer = images::Response::Blobs(blobs.collect());
                    self.wire.send(well_known::IMAGES, &answer);
                }
                Some(images::Request::Remove { digest }) => {
                    let known = self.blobs.remove(&digest).is_some();
                    let done = images::Response::Done;
                    let answer = if known { done } else { images::Response::Unknown };
                    self.wire.send(well_known::IMAGES, &answer);
                }
            }
        }
    }

    fn system(&mut self) -> bool {
        while let Some(request) = self.next(well_known::SYSTEM) {
            let answer = match request {
                system::Request::Status => system::Response::Status(system::Status {
                    version: "fake".to_owned(),
                    cpus: 1,
                    memory: (1 << 30, 1 << 29),
                    uptime_nanoseconds: 1,
                    objects: 1,
                    services: vec![("images".to_owned(), 0)],
                }),
                system::Request::Authority => system::Response::Authority(vec![system::Holder {
                    name: "root".to_owned(),
                    capabilities: vec![capability()],
                }]),
                system::Request::PowerOff => return false,
            };
            self.wire.send(well_known::SYSTEM, &answer);
        }
        true
    }

    fn compartments(&mut self) -> bool {
        while let Some(request) = self.next(well_known::COMPARTMENTS) {
            let answer = self.answer(request);
            self.wire.send(well_known::COMPARTMENTS, &answer);
        }
        true
    }

    fn answer(&mut self, request: compartments::Request) -> compartments::Response {
        use compartments::{Request, Response};
        let unknown = Response::Refused(Refusal::UnknownCompartment);
        match request {
            Request::Create(create) => {
                if create.layers.iter().any(|layer| !self.blobs.contains_key(layer)) {
                    return Response::Refused(Refusal::UnknownLayer([0; 32]));
                }
                if create.budget.memory.is_some_and(|memory| memory < LEAST_MEMORY) {
                    return Response::Refused(Refusal::TooLittleMemory(LEAST_MEMORY));
                }
                let (id, channel) = (create.id, create.channel);
                self.wire.frame(Frame::Credit { channel, bytes: WINDOW }, &[]);
                let wire = Arc::clone(&self.wire);
                let compartment =
                    Compartment::start(id, channel, wire, create.spec, self.died.clone());
                self.compartments.insert(id, compartment);
                Response::Created { nanoseconds: 1 }
            }
            Request::Destroy { id } => {
                if !self.compartments.contains_key(&id) {
                    return unknown;
                }
                self.end(id, Death::Destroyed);
                Response::Done
            }
            Request::Update { id, .. } if self.compartments.contains_key(&id) => Response::Done,
            Request::Stat { id } if self.compartments.contains_key(&id) => Response::Stat(Stat {
                memory: (1 << 20, 2 << 20, Some(64 << 20)),
                cpu_nanoseconds: 1_000_000,
                threads: (1, 1, None),
                ..Stat::default()
            }),
            Request::Capabilities { id, from } if self.compartments.contains_key(&id) => {
                let listed = Some(capability()).filter(|record| record.slot >= from);
                Response::Capabilities(listed.into_iter().collect())
            }
            Request::List => Response::List(self.compartments.keys().copied().collect()),
            _ => unknown,
        }
    }

    fn compartment(&mut self, channel: u32) -> bool {
        while let Some(message) = self.next(channel) {
            if let Some(compartment) = self.compartments.values_mut().find(|c| c.channel == channel)
            {
                compartment.receive(message);
            }
        }
        true
    }

    /// Ends a compartment; the daemon sees the end of its channel and its death.
    fn end(&mut self, id: u64, death: Death) {
        let Some(compartment) = self.compartments.remove(&id) else { return };
        compartment.kill();
        let channel = compartment.channel;
        self.wire.frame(Frame::Close { channel }, &[]);
        let died = compartments::Response::Died { id, death };
        self.wire.send(well_known::COMPARTMENTS, &died);
    }
}

fn capability() -> CapabilityRecord {
    CapabilityRecord { slot: 1, kind: 1, rights: 3, object: 7, name: "domain".to_owned() }
}
