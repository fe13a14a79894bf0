//! `mett update`.

use super::{each, tenant::Limits};
use crate::{
    client::ask,
    error::{CliError, Result},
    units,
};
use clap::Args;
use contract::compartments::Budget;
use daemon::api::Request;

/// Change the limits of containers while they run.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  mett update --memory 128m --cpus 0.5 web")]
pub(crate) struct Update {
    #[command(flatten)]
    limits: Limits,
    /// CPUs they may run on.
    #[arg(long, value_name = "SET")]
    cpuset_cpus: Option<String>,
    /// Most processes and threads.
    #[arg(long, value_name = "NUMBER")]
    pids_limit: Option<u64>,
    /// The containers.
    #[arg(required = true)]
    containers: Vec<String>,
}

impl Update {
    pub(crate) fn run(self) -> Result<u8> {
        let budget = Budget {
            cpu_set: self.cpuset_cpus.as_deref().map(units::cpu_set).transpose()?,
            threads: self.pids_limit,
            ..self.limits.budget()?
        };
        if budget == Budget::default() {
            return Err(CliError::Usage("update: no limit is given that is to change".to_owned()));
        }
        each(&self.containers, |container| {
            ask(Request::Update { container: container.to_owned(), budget: budget.clone() })?;
            say!("{container}");
            Ok(())
        })
    }
}
