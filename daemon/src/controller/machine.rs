//! The machine as the user sees it: its state, its authority graph, its end.

use super::{Daemon, create::Report};
use crate::{
    api::{MachineSettings, MachineStatus, Progress},
    error::DaemonError,
    machine::{Machine, MachineError, log, service::ServiceError},
};
use contract::system::{Holder, Request, Response};
use serde_json::json;
use std::{sync::Arc, time::Duration};

/// Bytes of each log in a bundle for a bug report.
const LOG_TAIL: u64 = 1 << 20;

/// Tells that the machine is being started. That cannot be interrupted: others may wait for it.
pub(super) fn starting(report: &mut Report<'_>) {
    report(Progress { what: "starting the machine".to_owned(), done: 0, total: 0 });
}

impl Daemon {
    /// Starts the machine.
    ///
    /// # Errors
    /// Those of the machine.
    pub async fn start_machine(
        &self,
        settings: MachineSettings,
        report: &mut Report<'_>,
    ) -> Result<(), DaemonError> {
        self.machine.start(settings, || starting(report)).await?;
        Ok(())
    }

    /// Stops the machine. Containers get the time to end by themselves unless `force`.
    ///
    /// # Errors
    /// Those of stopping containers.
    pub async fn stop_machine(self: &Arc<Self>, force: bool) -> Result<bool, DaemonError> {
        if !force {
            let running = self.containers().into_iter().filter(|c| c.running().is_some());
            let mut stops = tokio::task::JoinSet::new();
            for container in running {
                let daemon = Arc::clone(self);
                stops.spawn(async move { daemon.stop(&container, None).await });
            }
            while let Some(stopped) = stops.join_next().await {
                if let Ok(Err(error)) = stopped {
                    tracing::warn!(%error, "a container did not stop with the machine");
                }
            }
        }
        let stopped = self.machine.stop().await;
        for container in self.containers() {
            self.until_ended(&container).await?;
        }
        Ok(stopped)
    }

    /// What the machine is doing.
    ///
    /// # Errors
    /// Those of the machine.
    pub async fn machine_status(&self) -> Result<MachineStatus, DaemonError> {
        let Some(machine) = self.machine.running().await else {
            return Ok(MachineStatus::default());
        };
        let status = machine.status().await?;
        Ok(MachineStatus {
            running: true,
            pid: machine.pid,
            accelerator: machine.configuration.accelerator.name().to_owned(),
            version: status.version,
            cpus: status.cpus,
            memory: status.memory.0,
            memory_free: status.memory.1,
            uptime_nanoseconds: status.uptime_nanoseconds,
            objects: status.objects,
            services: status.services,
            containers: self.running_containers(),
        })
    }

    async fn current(&self) -> Result<Arc<Machine>, DaemonError> {
        Ok(self.machine.running().await.ok_or(MachineError::NotRunning)?)
    }

    /// Who holds what in the running machine.
    ///
    /// # Errors
    /// Those of the machine.
    pub async fn authority(&self) -> Result<Vec<Holder>, DaemonError> {
        match self.current().await?.system.call(&Request::Authority).await? {
            Response::Authority(holders) => Ok(holders),
            Response::Refused(reason) => Err(DaemonError::BadLimit(reason)),
            Response::Status(_) => Err(ServiceError::UnexpectedAnswer.into()),
        }
    }

    /// Files for a bug report. Environments, arguments and labels are left out: they may hold secrets.
    pub async fn diagnose(&self) -> Vec<(String, Vec<u8>)> {
        let mut containers = Vec::new();
        for container in self.containers() {
            let record = container.record();
            let gaps = tokio::time::timeout(Duration::from_secs(2), self.gaps(&container)).await;
            containers.push(json!({
                "id": record.id,
                "image": record.image_id,
                "state": record.state,
                "budget": record.config.budget,
                "terminal": record.config.terminal,
                "gaps": gaps.ok().and_then(Result::ok),
            }));
        }
        let status = tokio::time::timeout(Duration::from_secs(5), self.machine_status()).await;
        let status = match status {
            Ok(Ok(status)) => json!(status),
            Ok(Err(error)) => json!(error.to_string()),
            Err(_) => json!("the machine does not answer"),
        };
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu.lines().find(|line| line.starts_with("model name")).unwrap_or_default();
        let kernel = std::fs::read_to_string("/proc/version").unwrap_or_default();
        let summary = json!({
            "version": crate::api::PROGRAM_VERSION,
            "contract": contract::VERSION,
            "host": { "kernel": kernel.trim(), "cpu": cpu },
            "machine": status,
            "containers": containers,
        });
        let summary = serde_json::to_vec_pretty(&summary).unwrap_or_default();
        vec![
            ("summary.json".to_owned(), summary),
            ("machine.log".to_owned(), self.machine.named_log(LOG_TAIL)),
            ("daemon.log".to_owned(), log::file_tail(&self.home.join("daemon.log"), LOG_TAIL)),
        ]
    }
}
