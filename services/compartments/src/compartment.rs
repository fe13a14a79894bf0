//! One compartment: from a request to a running personality.

use crate::{budget, named};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use contract::{
    compartments::{Create, Refusal},
    images, wire,
};
use rt::{
    Domain, Error, Gate, Notification,
    abi::Rights,
    launch::Launch,
    message::{Message, Received},
    module::Module,
};

/// Most layers.
const MAX_LAYERS: usize = 128;
/// Longest encoded spec: it shares the start-up block with the rest.
const MAX_SPEC: usize = 56 * 1024;
/// Bit of a compartment's Notification that its port's other side rings.
const PORT_BIT: u64 = 1;

/// What compartments are made with.
pub(crate) struct Workshop {
    domain: Domain,
    module: Module,
    images: Gate,
    control: Option<Gate>,
    window: u32,
}

/// A compartment that lives.
#[derive(Debug)]
pub(crate) struct Compartment {
    /// Its Domain.
    pub(crate) domain: Domain,
    /// Its channel, 0 for none.
    pub(crate) channel: u32,
    /// What its slots were handed for, from slot 1.
    pub(crate) names: Vec<String>,
    /// The tenant it is in; 0: none.
    pub(crate) tenant: u64,
    /// Its limits.
    pub(crate) budget: contract::compartments::Budget,
    /// It was destroyed on request.
    pub(crate) is_destroyed: bool,
    /// Its threads have stopped.
    pub(crate) is_dead: bool,
    /// A native client made it: its end is not the daemon's to be told of.
    pub(crate) is_native: bool,
    /// Who else is told of its death.
    pub(crate) watcher: Option<(Notification, u64)>,
}

pub(crate) fn refused(error: Error) -> Refusal {
    match error {
        Error::OutOfFrames | Error::OutOfObjects => Refusal::OutOfMemory,
        error => Refusal::BadSpec(format!("the kernel refused: {error:?}")),
    }
}

impl Workshop {
    pub(crate) fn new() -> rt::Result<Self> {
        Ok(Self {
            domain: Domain(named("domain.compartments")?),
            module: Module::read(rt::Space(named("module")?))?,
            images: Gate(named("images")?),
            control: named("control").ok().map(Gate),
            window: rt::slots::take_window()?,
        })
    }

    /// The Domain that all compartments and tenants are under.
    pub(crate) const fn domain(&self) -> Domain {
        self.domain
    }

    /// Makes a compartment under a Domain; its death signals `bit` of a Notification.
    pub(crate) fn create(
        &self,
        create: &Create,
        parent: Domain,
        notification: Notification,
        bit: u64,
    ) -> Result<Compartment, Refusal> {
        if create.layers.len() > MAX_LAYERS {
            return Err(Refusal::BadSpec(format!("more than {MAX_LAYERS} layers")));
        }
        budget::check(&create.budget)?;
        let limits = budget::limits(&create.budget)?;
        let mut spec = Vec::new();
        wire::encode(&create.spec, &mut spec)
            .map_err(|_| Refusal::BadSpec("it cannot be encoded".to_string()))?;
        if spec.len() > MAX_SPEC {
            return Err(Refusal::BadSpec(format!(
                "it has {} bytes, more than {MAX_SPEC}",
                spec.len()
            )));
        }
        let domain = parent.create(limits).map_err(refused)?;
        let mut names = Vec::new();
        let made = self.furnish(create, domain, spec, &mut names, notification, bit);
        if let Err(refusal) = made {
            let _ = domain.destroy();
            return Err(refusal);
        }
        Ok(Compartment {
            domain,
            channel: create.channel,
            names,
            tenant: create.tenant,
            budget: create.budget.clone(),
            is_destroyed: false,
            is_dead: false,
            is_native: false,
            watcher: None,
        })
    }

    fn furnish(
        &self,
        create: &Create,
        domain: Domain,
        spec: Vec<u8>,
        names: &mut Vec<String>,
        notification: Notification,
        bit: u64,
    ) -> Result<(), Refusal> {
        budget::schedule(domain, &create.budget)?;
        let image = self
            .module
            .program("personality")
            .ok_or(Refusal::BadSpec("there is no personality".to_string()))?;
        let mut launch = Launch::new(domain, "personality", image);
        let mut note = |name: &str| names.push(name.to_string());
        ["domain", "home", "thread"].into_iter().for_each(&mut note);
        for (index, digest) in create.layers.iter().enumerate() {
            let (slot, length) = self.open_layer(digest)?;
            let name = format!("layer.{index}");
            let granted = launch.grant(&name, slot, Rights::MAP_READ | Rights::MAP_EXECUTE);
            rt::object::delete_received(slot);
            granted.map_err(refused)?;
            note(&name);
            launch.value(&name, length);
        }
        launch.value("layers", create.layers.len() as u64);
        if create.channel != 0 {
            self.connect(create.channel, &mut launch, &mut note)?;
        }
        launch.payload(spec);
        let begun = domain.watch(notification, bit).and_then(|()| launch.start()).map_err(refused);
        if begun.is_err() && create.channel != 0 {
            self.close(create.channel);
        }
        begun
    }

    /// A layer's frozen Space and its length in bytes.
    fn open_layer(&self, digest: &images::Digest) -> Result<(u32, u64), Refusal> {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(digest.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        let answer = self
            .images
            .call(Message::new(images::call::OPEN, words), self.window)
            .map_err(refused)?;
        let [length, ..] = answer.words;
        match answer.cap(0) {
            Some(slot) if answer.label == 0 => Ok((slot, length)),
            _ => {
                answer.drop_caps();
                Err(Refusal::UnknownLayer(*digest))
            }
        }
    }

    /// Gives the compartment its port.
    fn connect(
        &self,
        channel: u32,
        launch: &mut Launch<'_>,
        note: &mut impl FnMut(&str),
    ) -> Result<(), Refusal> {
        let control = self
            .control
            .ok_or(Refusal::BadSpec("this machine has no control service".to_string()))?;
        let own = launch
            .grant_notification("port.notification", Rights::RECEIVE | Rights::SEND)
            .map_err(refused)?;
        note("port.notification");
        let message =
            Message::new(contract::control::call::OPEN_PORT, [channel.into(), PORT_BIT, 0, 0]);
        let answer =
            control.call(message.with(own.slot(), Rights::SEND), self.window).map_err(refused);
        own.forget();
        let answer: Received = answer?;
        let [bits, ..] = answer.words;
        let granted = match (answer.label, answer.cap(0), answer.cap(1)) {
            (0, Some(space), Some(doorbell)) => launch
                .grant("port.space", space, Rights::MAP_READ | Rights::MAP_WRITE)
                .and_then(|()| launch.grant("port.doorbell", doorbell, Rights::SEND))
                // Only a channel that was opened here is closed here: another number may be somebody else's.
                .inspect_err(|_| self.close(channel))
                .map_err(refused),
            (0, ..) => {
                self.close(channel);
                Err(Refusal::OutOfMemory)
            }
            (contract::control::call::TAKEN, ..) => {
                Err(Refusal::BadSpec(format!("channel {channel} is taken")))
            }
            _ => Err(Refusal::OutOfMemory),
        };
        answer.drop_caps();
        granted?;
        note("port.space");
        note("port.doorbell");
        launch.value("port.bits", bits);
        Ok(())
    }

    /// The compartment behind a channel is gone.
    pub(crate) fn close(&self, channel: u32) {
        if let Some(control) = self.control {
            let _ = control.call(
                Message::new(contract::control::call::CLOSE_PORT, [channel.into(), 0, 0, 0]),
                0,
            );
        }
    }
}
