//! The compartments that live, by identity.

use crate::{
    budget,
    compartment::{Compartment, Workshop},
    template::Templates,
    tenant::Tenant,
};
use alloc::{collections::BTreeMap, string::ToString, vec::Vec};
use contract::compartments::{
    Budget, CapabilityRecord, Create, Death, LISTED_AT_ONCE, Refusal, Request, Response, Stat,
};
use rt::{
    Domain, Notification,
    abi::{
        PAGE_SIZE,
        resource::{Resource, UNLIMITED},
    },
    clock,
    object::Use,
};

/// Most compartments.
const MAX_COMPARTMENTS: usize = 4096;
/// Most tenants.
const MAX_TENANTS: usize = 1024;
/// Compartments share pairs of bits for their deaths by identity.
const GROUPS: u64 = 31;

/// All of them.
pub(crate) struct Registry {
    workshop: Workshop,
    notification: Notification,
    living: BTreeMap<u64, Compartment>,
    tenants: BTreeMap<u64, Tenant>,
    templates: Templates,
}

impl Registry {
    /// None yet; deaths are told to a Notification.
    pub(crate) fn new(notification: Notification) -> rt::Result<Self> {
        Ok(Self {
            workshop: Workshop::new()?,
            notification,
            living: BTreeMap::new(),
            tenants: BTreeMap::new(),
            templates: Templates::default(),
        })
    }

    /// Carries a request out.
    pub(crate) fn request(&mut self, request: &Request) -> Response {
        let result = match request {
            Request::Create(create) => self.create(create),
            Request::Destroy { id } => self.destroy(*id),
            Request::Update { id, budget } => self.find(*id).and_then(|compartment| {
                budget::update(compartment.domain, &mut compartment.budget, budget)
                    .map(|()| Response::Done)
            }),
            Request::Stat { id } => {
                self.find(*id).and_then(|compartment| stat(compartment.domain).map(Response::Stat))
            }
            Request::List => Ok(Response::List(self.living.keys().copied().collect())),
            Request::Capabilities { id, from } => self
                .find(*id)
                .map(|compartment| Response::Capabilities(capabilities(compartment, *from))),
            Request::CreateTenant { id, budget } => self.create_tenant(*id, budget),
            Request::UpdateTenant { id, budget } => self.find_tenant(*id).and_then(|tenant| {
                budget::update(tenant.domain, &mut tenant.budget, budget).map(|()| Response::Done)
            }),
            Request::StatTenant { id } => {
                self.find_tenant(*id).and_then(|tenant| stat(tenant.domain).map(Response::Stat))
            }
            Request::RemoveTenant { id } => self.remove_tenant(*id),
        };
        result.unwrap_or_else(Response::Refused)
    }

    fn find(&mut self, id: u64) -> Result<&mut Compartment, Refusal> {
        self.living
            .get_mut(&id)
            .filter(|compartment| !compartment.is_dead)
            .ok_or(Refusal::UnknownCompartment)
    }

    fn find_tenant(&mut self, id: u64) -> Result<&mut Tenant, Refusal> {
        self.tenants.get_mut(&id).ok_or(Refusal::UnknownTenant)
    }

    fn create_tenant(&mut self, id: u64, budget: &Budget) -> Result<Response, Refusal> {
        if id == 0 || self.tenants.contains_key(&id) {
            return Err(Refusal::IdentityTaken);
        }
        if self.tenants.len() >= MAX_TENANTS {
            return Err(Refusal::OutOfMemory);
        }
        let tenant = Tenant::create(self.workshop.domain(), budget)?;
        self.tenants.insert(id, tenant);
        Ok(Response::Done)
    }

    fn remove_tenant(&mut self, id: u64) -> Result<Response, Refusal> {
        let members = self.living.values().filter(|compartment| compartment.tenant == id).count();
        if members > 0 {
            return Err(Refusal::TenantInUse(members as u64));
        }
        self.tenants.remove(&id).ok_or(Refusal::UnknownTenant)?.remove();
        Ok(Response::Done)
    }

    /// The Domain that a compartment is made under.
    fn parent(&self, tenant: u64) -> Result<Domain, Refusal> {
        match tenant {
            0 => Ok(self.workshop.domain()),
            id => self.tenants.get(&id).map(|tenant| tenant.domain).ok_or(Refusal::UnknownTenant),
        }
    }

    fn create(&mut self, create: &Create) -> Result<Response, Refusal> {
        if self.living.contains_key(&create.id) {
            return Err(Refusal::IdentityTaken);
        }
        if self.living.len() >= MAX_COMPARTMENTS {
            return Err(Refusal::OutOfMemory);
        }
        let begun = clock::now();
        let (parent, bit) = (self.parent(create.tenant)?, 2 * (create.id % GROUPS));
        let memory = self.templates.find(&create.layers, self.workshop.domain());
        let made = self.workshop.create(create, memory, parent, self.notification, bit);
        let compartment = made.map_err(|refusal| match refusal {
            Refusal::OutOfMemory if create.tenant != 0 => Refusal::TenantExhausted,
            refusal => refusal,
        })?;
        self.living.insert(create.id, compartment);
        let nanoseconds = clock::nanoseconds(clock::now().saturating_sub(begun));
        self.templates.note(create, &self.workshop);
        Ok(Response::Created { nanoseconds })
    }

    fn destroy(&mut self, id: u64) -> Result<Response, Refusal> {
        let compartment = self.find(id)?;
        compartment.is_destroyed = true;
        // If it has just ended by itself there is nothing to destroy.
        let _ = rt::arch::call(
            rt::abi::Operation::ObjectDestroy,
            [compartment.domain.slot().into(), 0, 0, 0, 0, 0],
        );
        Ok(Response::Done)
    }

    /// A compartment is a native client's, and perhaps a Notification is told when it has died.
    pub(crate) fn made_natively(&mut self, id: u64, watcher: Option<(Notification, u64)>) {
        if let Some(compartment) = self.living.get_mut(&id) {
            compartment.is_native = true;
            compartment.watcher = watcher;
        }
    }

    /// Looks for compartments that have died, in the groups whose bits are set; those of the daemon's that are wholly gone.
    pub(crate) fn bury(&mut self, bits: u64) -> Vec<(u64, Death)> {
        let mut gone = Vec::new();
        for (id, compartment) in &mut self.living {
            let group = 2 * (id % GROUPS);
            if bits & 3 << group == 0 {
                continue;
            }
            if !compartment.is_dead && compartment.domain.stat(Resource::Frames).is_err() {
                compartment.is_dead = true;
            }
            if compartment.is_dead && bits & 2 << group != 0 {
                gone.push(*id);
            }
        }
        self.look_at_templates();
        gone.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Until when (TSC) to wait for what is asked before the templates are looked at.
    pub(crate) fn patience(&self) -> u64 {
        self.templates.patience()
    }

    /// Goes on with the templates that are being prepared.
    pub(crate) fn look_at_templates(&mut self) {
        self.templates.advance(self.workshop.domain());
    }

    fn remove(&mut self, id: u64) -> Option<(u64, Death)> {
        let compartment = self.living.remove(&id)?;
        if compartment.channel != 0 {
            self.workshop.close(compartment.channel);
        }
        compartment.domain.forget();
        if let Some((watcher, bits)) = compartment.watcher {
            let _ = watcher.signal(bits);
            watcher.forget();
        }
        if compartment.is_native {
            return None;
        }
        Some((id, if compartment.is_destroyed { Death::Destroyed } else { Death::Ended }))
    }
}

fn limit(of: Use, unit: u64) -> Option<u64> {
    (of.limit != UNLIMITED).then(|| of.limit.saturating_mul(unit))
}

fn stat(domain: Domain) -> Result<Stat, Refusal> {
    let read = |resource| domain.stat(resource).map_err(|_| Refusal::UnknownCompartment);
    let (frames, threads) = (read(Resource::Frames)?, read(Resource::Threads)?);
    Ok(Stat {
        memory: (frames.used * PAGE_SIZE, frames.peak * PAGE_SIZE, limit(frames, PAGE_SIZE)),
        cpu_nanoseconds: clock::nanoseconds(read(Resource::CpuTime)?.used),
        throttled: read(Resource::Throttled)?.used,
        threads: (threads.used, threads.peak, limit(threads, 1)),
        objects: read(Resource::Objects)?.used,
        slots: read(Resource::Slots)?.used,
    })
}

/// The next capabilities that the kernel finds in the compartment's table.
fn capabilities(compartment: &Compartment, mut from: u32) -> Vec<CapabilityRecord> {
    let mut records = Vec::new();
    while records.len() < LISTED_AT_ONCE
        && let Ok(found) = compartment.domain.next(from)
    {
        let name = compartment
            .names
            .get(found.slot.saturating_sub(1) as usize)
            .map(ToString::to_string)
            .unwrap_or_default();
        let kind = found.kind.map_or(0, |kind| kind as u8);
        records.push(CapabilityRecord {
            slot: found.slot,
            kind,
            rights: found.rights,
            object: found.object,
            name,
        });
        from = found.slot.saturating_add(1);
    }
    records
}

#[cfg(test)]
mod tests {
    use contract::compartments::{kind_name, right_names};
    use rt::abi::{Kind, Rights};

    #[test]
    fn the_contract_names_kinds_and_rights_as_the_kernel_does() {
        for number in 0..=u8::MAX {
            let name = Kind::from_number(number).map(|kind| alloc::format!("{kind:?}"));
            assert_eq!(kind_name(number), name.as_deref().unwrap_or("unknown"));
        }
        let names = |kind: Kind, rights: Rights| right_names(kind as u8, rights.bits()).join(" ");
        let domain = Rights::CREATE | Rights::GRANT | Rights::INSPECT | Rights::BUDGET;
        assert_eq!(
            names(Kind::Domain, domain | Rights::DESTROY),
            "create grant inspect budget destroy"
        );
        let space = Rights::RUN | Rights::EDIT | Rights::MAP_READ | Rights::MAP_WRITE;
        let space = space | Rights::MAP_EXECUTE | Rights::FREEZE | Rights::COPY;
        assert_eq!(
            names(Kind::Space, space),
            "run edit map-read map-write map-execute freeze copy"
        );
        assert_eq!(names(Kind::Thread, Rights::CONTROL), "control");
        assert_eq!(names(Kind::Endpoint, Rights::RECEIVE | Rights::SEND), "receive send");
        assert_eq!(names(Kind::Hardware, Rights::SEND | Rights::INSPECT), "send inspect");
    }
}
