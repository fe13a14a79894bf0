//! Tenants: budgets that several containers share.
//!
//! A tenant's record outlives machines; a machine learns of it when the first of its containers starts there. The lock of the tenants is
//! held during requests to the machine, so that what is written down and what the machine does stay the same; it is taken after a container's `lifecycle`.

use super::Daemon;
use crate::{
    api::TenantSummary,
    container::{Container, names, record::SavedBudget},
    error::DaemonError,
    home::{self, Home},
    machine::{Machine, MachineError, service::ServiceError},
};
use contract::compartments::{Budget, LEAST_MEMORY, Refusal, Request, Response, Stat};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc, time::Duration};

/// File in the home that lists tenants.
const FILE: &str = "tenants.json";
/// How often a tenant whose last compartments are being given back is tried to be removed, and the time between.
const REMOVALS: (usize, Duration) = (100, Duration::from_millis(50));

/// What is written down about a tenant.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Tenant {
    /// Its number on machines.
    id: u64,
    budget: SavedBudget,
}

/// All tenants of a home, by name.
#[derive(Debug)]
pub(super) struct Tenants {
    path: PathBuf,
    all: tokio::sync::Mutex<BTreeMap<String, Tenant>>,
}

impl Tenants {
    /// Reads the tenants of a home.
    pub(super) fn load(home: &Home) -> io::Result<Self> {
        let path = home.join(FILE);
        let all = match home::read_json(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            result => result?,
        };
        Ok(Self { path, all: tokio::sync::Mutex::new(all) })
    }

    /// Changes the tenants; nothing has changed when that cannot be written down.
    fn commit(
        &self,
        all: &mut BTreeMap<String, Tenant>,
        change: impl FnOnce(&mut BTreeMap<String, Tenant>),
    ) -> io::Result<()> {
        let mut changed = all.clone();
        change(&mut changed);
        home::write_json(&self.path, &changed)?;
        *all = changed;
        Ok(())
    }
}

/// Asks the machine for something that it does or refuses.
async fn ask(machine: &Machine, request: &Request) -> Result<Option<Stat>, DaemonError> {
    match machine.compartments.call(request).await.map_err(MachineError::from)? {
        Response::Done => Ok(None),
        Response::Stat(stat) => Ok(Some(stat)),
        Response::Refused(refusal) => Err(DaemonError::Refused(refusal)),
        _ => Err(ServiceError::UnexpectedAnswer.into()),
    }
}

/// Refuses a limit that no machine would take: a tenant may be made or changed while none runs to say so.
fn check(budget: &Budget) -> Result<(), DaemonError> {
    match budget.memory {
        Some(memory) if memory < LEAST_MEMORY => {
            Err(DaemonError::Refused(Refusal::TooLittleMemory(LEAST_MEMORY)))
        }
        _ => Ok(()),
    }
}

/// Makes sure that a machine knows a tenant.
async fn settle(machine: &Machine, tenant: &Tenant) -> Result<(), DaemonError> {
    let request = Request::CreateTenant { id: tenant.id, budget: tenant.budget.budget() };
    match ask(machine, &request).await {
        Err(DaemonError::Refused(Refusal::IdentityTaken)) => Ok(()),
        result => result.map(|_| ()),
    }
}

impl Daemon {
    /// Makes a tenant.
    ///
    /// # Errors
    /// [`DaemonError::BadName`], [`DaemonError::TenantTaken`], [`DaemonError::Refused`], those of the machine, and [`DaemonError::State`].
    pub async fn create_tenant(&self, name: &str, budget: &Budget) -> Result<(), DaemonError> {
        if !names::is_valid(name) {
            return Err(DaemonError::BadName(name.to_owned()));
        }
        check(budget)?;
        let mut all = self.tenants.all.lock().await;
        if all.contains_key(name) {
            return Err(DaemonError::TenantTaken(name.to_owned()));
        }
        let id = all.values().map(|tenant| tenant.id).max().unwrap_or(0).saturating_add(1);
        let tenant = Tenant { id, budget: budget.clone().into() };
        let machine = self.machine.running().await;
        if let Some(machine) = &machine {
            settle(machine, &tenant).await?;
        }
        let result = self.tenants.commit(&mut all, |all| {
            all.insert(name.to_owned(), tenant);
        });
        if let (Err(_), Some(machine)) = (&result, &machine) {
            // The number will be another tenant's.
            forget(machine, id).await?;
        }
        Ok(result?)
    }

    /// Whether a container may be made in a tenant.
    pub(super) async fn check_tenant(&self, name: Option<&str>) -> Result<(), DaemonError> {
        match name {
            Some(name) if !self.tenants.all.lock().await.contains_key(name) => {
                Err(DaemonError::UnknownTenant(name.to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// The number of a container's tenant on a machine, which knows it from here on; 0 for none.
    pub(super) async fn enter_tenant(
        &self,
        machine: &Machine,
        name: &str,
    ) -> Result<u64, DaemonError> {
        if name.is_empty() {
            return Ok(0);
        }
        let all = self.tenants.all.lock().await;
        let tenant = all.get(name).ok_or_else(|| DaemonError::UnknownTenant(name.to_owned()))?;
        settle(machine, tenant).await?;
        Ok(tenant.id)
    }

    /// Changes limits of a tenant, at once.
    ///
    /// # Errors
    /// [`DaemonError::UnknownTenant`], [`DaemonError::Refused`], those of the machine, and [`DaemonError::State`].
    pub async fn update_tenant(&self, name: &str, budget: &Budget) -> Result<(), DaemonError> {
        check(budget)?;
        let mut all = self.tenants.all.lock().await;
        let before =
            all.get(name).cloned().ok_or_else(|| DaemonError::UnknownTenant(name.to_owned()))?;
        let mut after = before.clone();
        after.budget.update(budget);
        self.tenants.commit(&mut all, |all| {
            all.insert(name.to_owned(), after);
        })?;
        let Some(machine) = self.machine.running().await else { return Ok(()) };
        let result = match settle(&machine, &before).await {
            Ok(()) => {
                ask(&machine, &Request::UpdateTenant { id: before.id, budget: budget.clone() })
                    .await
                    .map(|_| ())
            }
            Err(error) => Err(error),
        };
        if result.is_err() {
            // What the machine refuses is not written down either.
            self.tenants.commit(&mut all, |all| {
                all.insert(name.to_owned(), before);
            })?;
        }
        result
    }

    /// Removes a tenant, with `force` its containers too.
    ///
    /// # Errors
    /// [`DaemonError::UnknownTenant`], [`DaemonError::TenantInUse`], those of removing containers and of the machine, and [`DaemonError::State`].
    pub async fn remove_tenant(&self, name: &str, force: bool) -> Result<(), DaemonError> {
        self.check_tenant(Some(name)).await?;
        if force {
            for container in self.members(name) {
                self.remove(&container, true).await?;
            }
        }
        // Held to the end: no container can enter meanwhile.
        let mut all = self.tenants.all.lock().await;
        let tenant = all.get(name).ok_or_else(|| DaemonError::UnknownTenant(name.to_owned()))?;
        let count = self.members(name).len();
        if count > 0 {
            return Err(DaemonError::TenantInUse { name: name.to_owned(), count });
        }
        if let Some(machine) = self.machine.running().await {
            forget(&machine, tenant.id).await?;
        }
        // A machine that has forgotten it learns of it again with its next container.
        Ok(self.tenants.commit(&mut all, |all| {
            all.remove(name);
        })?)
    }

    fn members(&self, name: &str) -> Vec<Arc<Container>> {
        let mut all = self.containers();
        all.retain(|container| container.record().config.tenant == name);
        all
    }

    /// Describes tenants: those that are named, or all.
    ///
    /// # Errors
    /// [`DaemonError::UnknownTenant`] and those of the machine.
    pub async fn tenants(&self, names: &[String]) -> Result<Vec<TenantSummary>, DaemonError> {
        let all = self.tenants.all.lock().await;
        if let Some(unknown) = names.iter().find(|name| !all.contains_key(*name)) {
            return Err(DaemonError::UnknownTenant(unknown.clone()));
        }
        let machine = self.machine.running().await;
        let mut summaries = Vec::new();
        for (name, tenant) in &*all {
            if !names.is_empty() && !names.contains(name) {
                continue;
            }
            let stat = match &machine {
                Some(machine) => ask(machine, &Request::StatTenant { id: tenant.id }).await,
                None => Ok(None),
            };
            let stat = match stat {
                // None of its containers has run in this machine.
                Err(DaemonError::Refused(Refusal::UnknownTenant)) => None,
                result => result?,
            };
            let stat = stat.unwrap_or_default();
            summaries.push(TenantSummary {
                name: name.clone(),
                budget: tenant.budget.budget(),
                containers: self.members(name).iter().map(|c| c.record().name).collect(),
                memory: (stat.memory.0, stat.memory.1),
                cpu_nanoseconds: stat.cpu_nanoseconds,
                threads: stat.threads.0,
            });
        }
        Ok(summaries)
    }
}

/// Removes a tenant from a machine; compartments that have ended may still be on their way out of it.
async fn forget(machine: &Machine, id: u64) -> Result<(), DaemonError> {
    let (mut tries, pause) = REMOVALS;
    loop {
        match ask(machine, &Request::RemoveTenant { id }).await {
            Err(DaemonError::Refused(Refusal::TenantInUse(_))) if tries > 0 => {
                tries -= 1;
                tokio::time::sleep(pause).await;
            }
            Ok(_) | Err(DaemonError::Refused(Refusal::UnknownTenant)) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
