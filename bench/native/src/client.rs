//! A native client of the compartments service: creates compartments and waits for their ends.

use crate::{
    desk::{Desk, Heard},
    mark, sample,
};
use alloc::{format, string::String, vec::Vec};
use contract::{
    compartment::{ExitStatus, ProcessSpec, Spec},
    compartments::{Budget, Create, Request, Response, Stat, call},
    images::Digest,
    wire::{self, Decoder},
};
use core::fmt;
use rt::{
    Domain, Endpoint, Gate, Notification, Space,
    abi::{
        Rights,
        space::{Access, SpaceUse},
    },
    clock,
    message::Message,
    startup,
    view::View,
};

/// Pages of the Space that requests travel in.
const PAGES: u64 = 4;
/// Flag of `SpaceZero`: frames at once.
const POPULATE: u64 = 1 << 8;
/// The bit that deaths set.
const DIED: u64 = 1;
/// Nanoseconds of the machine's time that a compartment may run: under icount waiting costs nothing, so only what does not end is cut.
const PATIENCE: u64 = 60_000_000_000;

/// Why a suite cannot go on.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl From<rt::Error> for Failure {
    fn from(error: rt::Error) -> Self {
        Self(format!("the kernel refused: {error:?}"))
    }
}

/// A compartment that was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Created {
    id: u64,
    channel: u32,
    /// The time just before the call.
    pub(crate) asked: u64,
}

/// A compartment that is gone.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The time just before the call that created it.
    pub(crate) asked: u64,
    /// When this client knew that it is gone and everything it held is given back.
    pub(crate) gone: u64,
    /// What it said.
    pub(crate) heard: Heard,
}

impl Ended {
    /// The time stamp that `nothing` sends; nothing if its compartment did not end as it should.
    pub(crate) fn first_instruction(&self) -> Option<u64> {
        let is_good =
            self.heard.status == Some(ExitStatus::Code(0)) && self.heard.errors.is_empty();
        let stamp: [u8; 8] = self.heard.output.as_slice().try_into().ok()?;
        Some(u64::from_le_bytes(stamp))
            .filter(|stamp| is_good && (self.asked..self.gone).contains(stamp))
    }

    /// How it ended, in words.
    pub(crate) fn account(&self) -> String {
        let heard = &self.heard;
        match (&heard.failure, heard.status) {
            (Some(failure), _) => format!("not started: {failure:?}"),
            (None, Some(status)) => {
                let (length, errors) = (heard.output.len(), sample::one_line(&heard.errors));
                let stamp = heard.output.as_slice().try_into().map_or(0, u64::from_le_bytes);
                let (asked, gone) = (self.asked, self.gone);
                format!(
                    "{status:?}; {errors}; {length} bytes of output: {stamp}, asked {asked}, gone {gone}"
                )
            }
            (None, None) => format!("its compartment died; {}", sample::one_line(&heard.errors)),
        }
    }
}

/// The client.
pub(crate) struct Client {
    desk: Desk,
    gate: Gate,
    layer: Digest,
    deaths: Notification,
    space: Space,
    view: View,
    next: u64,
    /// What the measured programs multiply ticks by, as a string of their environment.
    scale: String,
    /// The next request is what a profile begins with.
    pub(crate) is_profiled: bool,
}

fn named(name: &str) -> Result<u32, Failure> {
    startup::capability(name).ok_or_else(|| Failure(format!("there is no capability {name:?}")))
}

/// The environment's string for a machine whose ticks are no instructions.
fn nanoseconds_per_tick() -> String {
    let millionths = 1_000_000_000_000_000 / clock::ticks_per_second();
    format!("LP_SCALE={}.{:06}", millionths / 1_000_000, millionths % 1_000_000)
}

impl Client {
    pub(crate) fn new(layer: Digest, is_icount: bool) -> Result<Self, Failure> {
        let desk = Desk::open(Endpoint(named("ports")?))?;
        let space = Space::create(Domain::OWN, SpaceUse::Hold, None)?;
        let access = Access::READ | Access::WRITE;
        space.zero(0, PAGES, access, POPULATE)?;
        let view = View::map(space, 0, PAGES, access)?;
        let deaths = Notification::create(Domain::OWN)?;
        let gate = Gate(named("compartments")?);
        let scale = if is_icount { "LP_SCALE=1".into() } else { nanoseconds_per_tick() };
        Ok(Self { desk, gate, layer, deaths, space, view, next: 1, scale, is_profiled: false })
    }

    /// Says a request; the answer and the time just before the call.
    fn say(&self, request: &Request, is_watched: bool) -> Result<(Response, u64), Failure> {
        let mut bytes = Vec::new();
        wire::encode(request, &mut bytes)
            .map_err(|_| Failure("a request cannot be encoded".into()))?;
        self.view.write(0, &bytes)?;
        let label = if is_watched { call::REQUEST_WATCHED } else { call::REQUEST };
        let rights = Rights::MAP_READ | Rights::MAP_WRITE | Rights::COPY;
        let message = Message::new(label, [PAGES, DIED, 0, 0]).with(self.space.slot(), rights);
        let message = message.with(self.deaths.slot(), Rights::SEND | Rights::COPY);
        if self.is_profiled {
            mark::begin();
        }
        let asked = clock::now();
        let answer = self.gate.call(message, 0)?;
        let [length, ..] = answer.words;
        let mut bytes = alloc::vec![0; usize::try_from(length).unwrap_or(0)];
        self.view.read(0, &mut bytes)?;
        let mut decoder = Decoder::new();
        decoder.feed(&bytes);
        match decoder.next() {
            Ok(Some(response)) if answer.label == 0 => Ok((response, asked)),
            _ => Err(Failure(format!(
                "the compartments service answered with label {:#x}",
                answer.label
            ))),
        }
    }

    /// Creates a compartment that runs a program of the layer of measured programs.
    pub(crate) fn create(&mut self, arguments: &[&str], relays: bool) -> Result<Created, Failure> {
        self.create_of(self.layer, arguments, relays)
    }

    /// Creates a compartment that runs a program of a layer.
    pub(crate) fn create_of(
        &mut self,
        layer: Digest,
        arguments: &[&str],
        relays: bool,
    ) -> Result<Created, Failure> {
        let id = self.next;
        self.next += 1;
        let channel = self.desk.expect(relays);
        let bytes = |text: &&str| text.as_bytes().to_vec();
        let process = ProcessSpec {
            arguments: arguments.iter().map(bytes).collect(),
            environment: [&"PATH=/bin", &self.scale.as_str()].map(bytes).to_vec(),
            working_directory: b"/".to_vec(),
            ..ProcessSpec::default()
        };
        let mut spec = Vec::new();
        wire::encode(&Spec { hostname: "bench".into(), process, ..Spec::default() }, &mut spec)
            .map_err(|_| Failure("a spec cannot be encoded".into()))?;
        let create = Create {
            tenant: 0,
            id,
            channel,
            layers: alloc::vec![layer],
            budget: Budget::default(),
            spec,
        };
        match self.say(&Request::Create(create), true)? {
            (Response::Created { .. }, asked) => Ok(Created { id, channel, asked }),
            (response, _) => Err(Failure(format!("a compartment was not created: {response:?}"))),
        }
    }

    /// Waits until compartments are gone, each; those that do not end are destroyed.
    pub(crate) fn wait(&mut self, created: &[Created]) -> Result<Vec<Ended>, Failure> {
        let mut gone: Vec<Option<u64>> = alloc::vec![None; created.len()];
        let end = clock::deadline_in(PATIENCE);
        let mut is_late = false;
        // Some may have closed while another was waited for.
        for (place, compartment) in gone.iter_mut().zip(created) {
            *place = self.desk.is_closed(compartment.channel).then(clock::now);
        }
        let mut left = gone.iter().filter(|gone| gone.is_none()).count();
        while left > 0 {
            match self.deaths.wait(DIED, if is_late { u64::MAX } else { end }) {
                Ok(_) | Err(rt::Error::Kicked) => {}
                Err(rt::Error::TimedOut) => {
                    is_late = true;
                    for compartment in
                        created.iter().filter(|created| !self.desk.is_closed(created.channel))
                    {
                        rt::log!("I compartment {} does not end and is destroyed", compartment.id);
                        self.destroy(compartment)?;
                    }
                }
                Err(error) => return Err(error.into()),
            }
            // Only those that closed since the last look: what is measured is not how long the list of the others is.
            while let Some(channel) = self.desk.take_closed() {
                let place = created.iter().position(|created| created.channel == channel);
                if let Some(place @ None) = place.and_then(|place| gone.get_mut(place)) {
                    // Not a time from before the look: on another CPU one may begin and end meanwhile.
                    *place = Some(clock::now());
                    left -= 1;
                }
            }
        }
        let ended = gone.iter().flatten().zip(created);
        Ok(ended
            .map(|(gone, created)| Ended {
                asked: created.asked,
                gone: *gone,
                heard: self.desk.take(created.channel),
            })
            .collect())
    }

    /// Waits until the first process of a compartment has begun.
    pub(crate) fn wait_for_start(&self, created: &Created) -> Result<(), Failure> {
        let end = clock::deadline_in(PATIENCE);
        while !self.desk.has_started(created.channel) {
            if self.desk.is_closed(created.channel) || clock::now() > end {
                return Err(Failure(format!("compartment {} did not begin", created.id)));
            }
            let _ = rt::thread::park_until(clock::deadline_in(100_000));
        }
        Ok(())
    }

    /// Asks for a compartment's destruction.
    pub(crate) fn destroy(&self, created: &Created) -> Result<(), Failure> {
        self.say(&Request::Destroy { id: created.id }, false).map(|_| ())
    }

    /// What a compartment uses.
    pub(crate) fn stat(&self, created: &Created) -> Result<Stat, Failure> {
        match self.say(&Request::Stat { id: created.id }, false)? {
            (Response::Stat(stat), _) => Ok(stat),
            (response, _) => Err(Failure(format!("no use was told: {response:?}"))),
        }
    }
}
