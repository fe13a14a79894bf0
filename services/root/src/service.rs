//! Starting one service with exactly what its description says.

use crate::describe::find;
use alloc::{collections::BTreeMap, string::String, vec::Vec};
use contract::system::{Description, Grant, GrantKind, Service};
use rt::{
    Domain, Endpoint, Error, Hardware, Notification,
    abi::{
        Rights,
        cap::root,
        resource::{DEFAULT_WEIGHT, UNLIMITED},
    },
    launch::Launch,
    module::Module,
    object::Limits,
};

/// Starts of one service after its death, before root gives up on it.
pub(crate) const MAX_RESTARTS: u32 = 5;
/// Services that root can watch: two bits each, two more for its own port.
const MAX_SERVICES: usize = 30;
/// Frames kept from the compartments for the services.
const RESERVED_FRAMES: u64 = 2048;

/// The bit that tells of a service's death.
pub(crate) const fn death_bit(index: usize) -> u64 {
    1 << (2 * index)
}

/// A service that runs.
#[derive(Debug)]
pub(crate) struct Running {
    /// Its Domain.
    pub(crate) domain: Domain,
    /// Times it was started again.
    pub(crate) restarts: u32,
    /// What its slots were handed for.
    pub(crate) names: Vec<String>,
}

/// What root has to give.
pub(crate) struct Authority<'a> {
    hardware: Hardware,
    module: &'a Module,
    /// Endpoints by service and name; they outlive the services.
    endpoints: BTreeMap<(String, String), Endpoint>,
    /// Domains by the service that holds them and the name it has for them.
    domains: BTreeMap<(String, String), Domain>,
    /// The time of root's first instructions, which every service is told.
    begun: u64,
}

impl<'a> Authority<'a> {
    /// Creates every Endpoint of the description.
    pub(crate) fn new(
        hardware: Hardware,
        module: &'a Module,
        description: &'a Description,
        begun: u64,
    ) -> rt::Result<Self> {
        if description.services.len() > MAX_SERVICES {
            return Err(Error::BadArgument);
        }
        let mut endpoints = BTreeMap::new();
        for service in &description.services {
            for grant in service.grants.iter().filter(|grant| grant.what == GrantKind::Endpoint) {
                endpoints.insert(
                    (service.name.clone(), grant.name.clone()),
                    Endpoint::create(Domain::OWN)?,
                );
            }
        }
        Ok(Self { hardware, module, endpoints, domains: BTreeMap::new(), begun })
    }

    /// An Endpoint by service and name.
    pub(crate) fn endpoint(&self, service: &str, name: &str) -> Option<Endpoint> {
        find(&self.endpoints, service, name).copied()
    }

    /// Starts a service.
    pub(crate) fn start(
        &mut self,
        index: usize,
        service: &Service,
        notification: Notification,
    ) -> rt::Result<Running> {
        let image = self.module.program(&service.program).ok_or(Error::NotPresent)?;
        let domain = Domain::OWN.create(limits(service))?;
        domain.schedule(100, UNLIMITED, 1, 0, u64::from(service.latency))?;
        domain.watch(notification, 2 * index as u64)?;
        self.domains.insert((service.name.clone(), "domain".into()), domain);
        let mut launch = Launch::new(domain, &service.name, image);
        let mut names = Vec::new();
        for grant in &service.grants {
            self.grant(&mut launch, domain, grant, service)?;
            if !matches!(grant.what, GrantKind::Domain | GrantKind::Home) {
                names.push(grant.name.clone());
            }
        }
        launch.value("root.first_instruction", self.begun);
        launch.start()?;
        Ok(Running { domain, restarts: 0, names })
    }

    fn grant<'l>(
        &mut self,
        launch: &mut Launch<'l>,
        domain: Domain,
        grant: &'l Grant,
        service: &Service,
    ) -> rt::Result<()> {
        let name = grant.name.as_str();
        match &grant.what {
            // Every program gets its own Domain, home and thread.
            GrantKind::Domain | GrantKind::Home => Ok(()),
            GrantKind::Endpoint => {
                let endpoint = self.endpoint(&service.name, name).ok_or(Error::NotPresent)?;
                launch.grant(name, endpoint.slot(), Rights::RECEIVE | Rights::SEND)
            }
            GrantKind::Gate { service: other, endpoint, badge, limit } => {
                let endpoint = self.endpoint(other, endpoint).ok_or(Error::NotPresent)?;
                let gate = endpoint.gate(domain, *badge, *limit)?;
                let granted = launch.grant(name, gate.slot(), Rights::SEND | Rights::COPY);
                gate.forget();
                granted
            }
            GrantKind::Notification => {
                launch
                    .grant_notification(name, Rights::RECEIVE | Rights::SEND | Rights::COPY)?
                    .forget();
                Ok(())
            }
            GrantKind::Hardware => launch.grant(
                name,
                self.hardware.slot(),
                Rights::SEND | Rights::INSPECT | end_right(service),
            ),
            GrantKind::Module => {
                launch.grant(name, root::MODULE, Rights::MAP_READ | Rights::MAP_EXECUTE)
            }
            GrantKind::CompartmentsDomain { memory_pages } => {
                let free = self
                    .hardware
                    .fact(rt::abi::operation::HardwareFact::FreeFrames)?
                    .saturating_sub(RESERVED_FRAMES);
                let frames = if *memory_pages == 0 { free } else { *memory_pages };
                let limits =
                    Limits { frames, objects: UNLIMITED, slots: UNLIMITED, threads: UNLIMITED };
                let compartments = Domain::OWN.create(limits)?;
                // Nothing runs in it: it is a service's, so that compartments compete with each other and not as one.
                compartments.schedule(DEFAULT_WEIGHT, UNLIMITED, 1, 0, 1)?;
                let rights = Rights::CREATE
                    | Rights::GRANT
                    | Rights::INSPECT
                    | Rights::BUDGET
                    | Rights::DESTROY;
                let granted = launch.grant(name, compartments.slot(), rights);
                self.domains.insert((service.name.clone(), grant.name.clone()), compartments);
                granted
            }
            GrantKind::Accounts { service, domain } => {
                let domain = find(&self.domains, service, domain).ok_or(Error::NotPresent)?;
                launch.grant(name, domain.slot(), Rights::INSPECT | Rights::BUDGET)
            }
        }
    }
}

/// A service whose end ends the machine with status 0 (a test suite) may also end it with another status.
fn end_right(service: &Service) -> Rights {
    if service.on_death == contract::system::OnDeath::Finish {
        Rights::DESTROY
    } else {
        Rights::empty()
    }
}

fn limits(service: &Service) -> Limits {
    let or_unlimited = |amount: u64| if amount == 0 { UNLIMITED } else { amount };
    Limits {
        frames: or_unlimited(service.memory_pages),
        objects: or_unlimited(service.objects),
        slots: or_unlimited(service.slots),
        threads: or_unlimited(service.threads),
    }
}
