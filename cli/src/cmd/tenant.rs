//! `mett tenant`.

use super::{Format, each};
use crate::{
    client::ask,
    error::{CliError, Result},
    output, units,
};
use clap::{Args, Subcommand};
use contract::compartments::Budget;
use daemon::api::{Reply, Request, TenantSummary};

/// Limits of a container, or of all the containers of a tenant together.
#[derive(Args, Debug)]
pub(crate) struct Limits {
    /// Memory (for example 512m).
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<String>,
    /// CPU bandwidth (for example 1.5).
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<String>,
    /// CPU weight (2..262144, normal 1024); tenants compete with containers without one.
    #[arg(short, long, value_name = "SHARES")]
    cpu_shares: Option<u64>,
}

impl Limits {
    pub(crate) fn budget(&self) -> Result<Budget> {
        Ok(Budget {
            memory: self.memory.as_deref().map(units::size).transpose()?,
            cpu_millis: self.cpus.as_deref().map(units::cpus).transpose()?,
            cpu_weight: self.cpu_shares.map(units::weight).transpose()?,
            ..Budget::default()
        })
    }
}

#[derive(Subcommand, Debug)]
pub(crate) enum Tenant {
    /// Make a tenant.
    #[command(
        after_help = "Example:\n  mett tenant create --memory 512m --cpus 1.5 shop\n  mett run -d --tenant shop busybox httpd -f"
    )]
    Create {
        #[command(flatten)]
        limits: Limits,
        /// Its name.
        name: String,
    },
    /// List tenants.
    Ls {
        /// Form of the output.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Describe tenants as a JSON array.
    Inspect {
        /// Their names.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Change the limits of a tenant while its containers run.
    Update {
        #[command(flatten)]
        limits: Limits,
        /// Its name.
        name: String,
    },
    /// Remove tenants.
    Rm {
        /// Remove their containers too, whether they run or not.
        #[arg(short, long)]
        force: bool,
        /// Their names.
        #[arg(required = true)]
        names: Vec<String>,
    },
}

impl Tenant {
    pub(crate) fn run(self) -> Result<u8> {
        match self {
            Self::Create { limits, name } => {
                let budget = limits.budget()?;
                ask(Request::CreateTenant { name: name.clone(), budget })?;
                say!("{name}");
                Ok(0)
            }
            Self::Ls { format } => {
                let tenants = summaries(Vec::new())?;
                match format {
                    Format::Json => output::json(tenants.iter().map(document)),
                    Format::Table => table(&tenants),
                }
                Ok(0)
            }
            Self::Inspect { names } => {
                let tenants: Vec<_> = summaries(names)?.iter().map(document).collect();
                say!("{:#}", serde_json::Value::Array(tenants));
                Ok(0)
            }
            Self::Update { limits, name } => {
                let budget = limits.budget()?;
                if budget == Budget::default() {
                    return Err(CliError::Usage("no limit to change was named".to_owned()));
                }
                ask(Request::UpdateTenant { name: name.clone(), budget })?;
                say!("{name}");
                Ok(0)
            }
            Self::Rm { force, names } => each(&names, |name| {
                ask(Request::RemoveTenant { name: name.to_owned(), force })?;
                say!("{name}");
                Ok(())
            }),
        }
    }
}

fn summaries(names: Vec<String>) -> Result<Vec<TenantSummary>> {
    match ask(Request::Tenants(names))? {
        Reply::Tenants(tenants) => Ok(tenants),
        other => Err(CliError::Cut(format!("unexpected answer {other:?}"))),
    }
}

fn document(tenant: &TenantSummary) -> serde_json::Value {
    serde_json::json!({
        "Name": tenant.name, "Containers": tenant.containers,
        "MemoryLimit": tenant.budget.memory, "CPUMillis": tenant.budget.cpu_millis, "CPUWeight": tenant.budget.cpu_weight,
        "Memory": tenant.memory.0, "MemoryPeak": tenant.memory.1, "CPUNanoseconds": tenant.cpu_nanoseconds, "PIDs": tenant.threads,
    })
}

fn table(tenants: &[TenantSummary]) {
    let or_none = |limit: Option<String>| limit.unwrap_or_else(|| "no limit".to_owned());
    let rows: Vec<Vec<String>> = tenants
        .iter()
        .map(|tenant| {
            let cpus = |millis: u64| format!("{}.{:03}", millis / 1000, millis % 1000);
            vec![
                tenant.name.clone(),
                tenant.containers.len().to_string(),
                format!(
                    "{} / {}",
                    output::bytes(tenant.memory.0),
                    or_none(tenant.budget.memory.map(output::bytes))
                ),
                output::bytes(tenant.memory.1),
                or_none(tenant.budget.cpu_millis.map(cpus)),
            ]
        })
        .collect();
    output::table(&["NAME", "CONTAINERS", "MEMORY / LIMIT", "PEAK", "CPUS"], &rows);
}
