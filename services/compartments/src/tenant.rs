//! Tenants: a Domain over some compartments, which together stay within its budget and compete with the others as one.

use crate::{budget, compartment::refused};
use contract::compartments::{Budget, Refusal};
use rt::Domain;

/// A tenant.
#[derive(Debug)]
pub(crate) struct Tenant {
    /// Its Domain.
    pub(crate) domain: Domain,
    /// Its limits.
    pub(crate) budget: Budget,
}

impl Tenant {
    /// Makes a tenant's Domain under another one.
    pub(crate) fn create(parent: Domain, budget: &Budget) -> Result<Self, Refusal> {
        budget::check(budget)?;
        let domain = parent.create(budget::limits(budget)?).map_err(refused)?;
        let tenant = Self { domain, budget: budget.clone() };
        match budget::schedule(domain, budget) {
            Ok(()) => Ok(tenant),
            Err(refusal) => {
                tenant.remove();
                Err(refusal)
            }
        }
    }

    /// Gives the Domain up; nobody may be in it.
    pub(crate) fn remove(self) {
        // The capability has the right, and nothing in the Domain can hold it up.
        let _ = self.domain.destroy();
    }
}
