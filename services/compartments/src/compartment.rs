//! One compartment: from a request to a running personality.

use crate::{budget, named};
use alloc::{borrow::Cow, format, string::ToString, vec::Vec};
use contract::{
    compartments::{Budget, Create, Refusal},
    images,
};
use rt::{
    Domain, Error, Gate, Notification,
    abi::Rights,
    launch::Launch,
    message::{Message, Received},
    module::Module,
    object::Limits,
    template::{Memory, Preparing},
};

/// Most layers.
const MAX_LAYERS: usize = 128;
/// Longest encoded spec: it shares the start-up block with the rest.
const MAX_SPEC: usize = 56 * 1024;
/// Bit of a compartment's Notification that its port's other side rings.
const PORT_BIT: u64 = 1;

/// Capabilities that a compartment is handed, usually.
const USUAL_NAMES: usize = 8;

/// What a personality that becomes a template may take: 4 MiB.
const TEMPLATE: Limits = Limits { frames: 1024, objects: 64, slots: 256, threads: 1 };
/// Thousandths of a CPU that it gets.
const TEMPLATE_CPU: u64 = 250;

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
    pub(crate) names: Vec<Cow<'static, str>>,
    /// The tenant it is in; 0: none.
    pub(crate) tenant: u64,
    /// Its limits.
    pub(crate) budget: Budget,
    /// It was destroyed on request.
    pub(crate) is_destroyed: bool,
    /// Its threads have stopped.
    pub(crate) is_dead: bool,
    /// A native client made it: its end is not the daemon's to be told of.
    pub(crate) is_native: bool,
    /// Who else is told of its death.
    pub(crate) watcher: Option<(Notification, u64)>,
}

/// The name of a layer's capability, and of its length. Those that most images have are not made anew at every start.
fn layer_name(index: usize) -> Cow<'static, str> {
    const FIRST: [&str; 8] =
        ["layer.0", "layer.1", "layer.2", "layer.3", "layer.4", "layer.5", "layer.6", "layer.7"];
    match FIRST.get(index) {
        Some(name) => Cow::Borrowed(name),
        None => format!("layer.{index}").into(),
    }
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

    /// Makes a compartment under a Domain, perhaps with a template's memory; its death signals `bit` of a Notification.
    pub(crate) fn create(
        &self,
        create: &Create,
        memory: Option<&Memory>,
        parent: Domain,
        notification: Notification,
        bit: u64,
    ) -> Result<Compartment, Refusal> {
        if create.layers.len() > MAX_LAYERS {
            return Err(Refusal::BadSpec(format!("more than {MAX_LAYERS} layers")));
        }
        budget::check(&create.budget)?;
        let limits = budget::limits(&create.budget)?;
        if create.spec.len() > MAX_SPEC {
            let length = create.spec.len();
            return Err(Refusal::BadSpec(format!("it has {length} bytes, more than {MAX_SPEC}")));
        }
        let domain = parent.create(limits).map_err(refused)?;
        let mut names = Vec::with_capacity(USUAL_NAMES);
        let made = self.furnish(create, memory, domain, &mut names, notification, bit);
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
        memory: Option<&Memory>,
        domain: Domain,
        names: &mut Vec<Cow<'static, str>>,
        notification: Notification,
        bit: u64,
    ) -> Result<(), Refusal> {
        budget::schedule(domain, &create.budget)?;
        let mut note = |name| names.push(name);
        let mut launch = self.launch(domain, &create.layers, &mut note)?;
        if let Some(memory) = memory {
            launch.begin_with(memory);
        }
        if create.channel != 0 {
            self.connect(create.channel, &mut launch, &mut note)?;
        }
        launch.payload(create.spec.clone());
        let begun = domain.watch(notification, bit).and_then(|()| launch.start()).map_err(refused);
        if begun.is_err() && create.channel != 0 {
            self.close(create.channel);
        }
        begun
    }

    /// Lets a personality prepare itself from the layers of a compartment, to become a template.
    pub(crate) fn prepare(&self, create: &Create) -> Result<Preparing, Refusal> {
        let domain = self.domain.create(TEMPLATE).map_err(refused)?;
        let budget = Budget { cpu_millis: Some(TEMPLATE_CPU), ..Budget::default() };
        let begun = budget::schedule(domain, &budget)
            .and_then(|()| self.launch(domain, &create.layers, &mut |_| ()));
        match begun {
            Ok(launch) => launch.prepare().map_err(refused),
            Err(refusal) => {
                let _ = domain.destroy();
                Err(refusal)
            }
        }
    }

    /// A personality that holds the layers.
    fn launch(
        &self,
        domain: Domain,
        layers: &[images::Digest],
        note: &mut impl FnMut(Cow<'static, str>),
    ) -> Result<Launch<'_>, Refusal> {
        let image = self
            .module
            .program("personality")
            .ok_or(Refusal::BadSpec("there is no personality".to_string()))?;
        let mut launch = Launch::new(domain, "personality", image);
        ["domain", "home", "thread"].into_iter().map(Cow::Borrowed).for_each(&mut *note);
        for (index, digest) in layers.iter().enumerate() {
            let (slot, length) = self.open_layer(digest)?;
            let name = layer_name(index);
            let granted = launch.grant(name.clone(), slot, Rights::MAP_READ | Rights::MAP_EXECUTE);
            rt::object::delete_received(slot);
            granted.map_err(refused)?;
            launch.value(name.clone(), length);
            note(name);
        }
        launch.value("layers", layers.len() as u64);
        Ok(launch)
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
        note: &mut impl FnMut(Cow<'static, str>),
    ) -> Result<(), Refusal> {
        let control = self
            .control
            .ok_or(Refusal::BadSpec("this machine has no control service".to_string()))?;
        let own = launch
            .grant_notification("port.notification", Rights::RECEIVE | Rights::SEND)
            .map_err(refused)?;
        note("port.notification".into());
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
        note("port.space".into());
        note("port.doorbell".into());
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
