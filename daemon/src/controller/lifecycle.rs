//! Starting, stopping and removing containers.

use super::{Daemon, create::Report, lock, machine::starting};
use crate::{
    api::Progress,
    container::{
        Container, Running,
        hub::{self, Command, Event, FIRST_PROCESS, FirstProcess, Hub},
        log::LogWriter,
        record::{Phase, Record, State},
        spec,
    },
    error::{self, DaemonError},
    machine::{Machine, service::ServiceError},
    signal,
};
use contract::{
    compartment::WindowSize,
    compartments::{Budget, Create, Death, Refusal, Request, Response},
    images::Digest,
    wire,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot};

/// How long a compartment that was destroyed may take to be gone. The host's clock, so generous.
const DESTROY_TIMEOUT: Duration = Duration::from_secs(60);

/// Who is attached to a container from its start.
#[derive(Debug, Default)]
pub struct StartClient {
    /// Where events go.
    pub events: Option<mpsc::UnboundedSender<Event>>,
    /// The client's terminal.
    pub size: Option<WindowSize>,
}

impl Daemon {
    /// Starts a container; returns when its first process has begun. A container that runs already is left alone.
    ///
    /// # Errors
    /// Those of the machine, [`DaemonError::Refused`], [`DaemonError::NotStarted`] and [`DaemonError::DiedAtStart`].
    pub async fn start(
        self: &Arc<Self>,
        container: &Arc<Container>,
        client: StartClient,
        report: &mut Report<'_>,
    ) -> Result<(), DaemonError> {
        let _lifecycle = container.lifecycle.lock().await;
        if lock(&self.containers).get(&container.id).is_none() {
            return Err(DaemonError::UnknownContainer(container.id.clone()));
        }
        if let Some(running) = container.running() {
            if let Some(events) = client.events {
                let _ = running.hub.command(Command::Attach { process: FIRST_PROCESS, events });
            }
            return Ok(());
        }
        let record = container.record();
        let prepared = async {
            let machine = self.machine.get(|| starting(report)).await?;
            check_cpus(&record.config.budget.budget(), machine.configuration.cpus)?;
            let layers = self.provide(&machine, &record, report).await?;
            let tenant = self.enter_tenant(&machine, &record.config.tenant).await?;
            Ok((machine, layers, tenant))
        };
        match prepared.await {
            Ok((machine, layers, tenant)) => {
                self.launch(container, &machine, (layers, tenant), client).await
            }
            Err(failure) => {
                self.not_started(container, &failure);
                Err(failure)
            }
        }
    }

    /// Makes sure the machine has the layers of a container's image.
    async fn provide(
        &self,
        machine: &Arc<Machine>,
        record: &Record,
        report: &mut Report<'_>,
    ) -> Result<Vec<Digest>, DaemonError> {
        let mut layers = Vec::new();
        for (number, blob) in record.layers.iter().enumerate() {
            let Some(digest) = blob.sha256() else { continue };
            let what = format!("loading layer {}/{}", number + 1, record.layers.len());
            let tell = |done, total| report(Progress { what: what.clone(), done, total });
            machine.provide(digest, &self.images.blob_path(blob), tell).await?;
            layers.push(digest);
        }
        Ok(layers)
    }

    async fn launch(
        self: &Arc<Self>,
        container: &Arc<Container>,
        machine: &Arc<Machine>,
        (layers, tenant): (Vec<Digest>, u64),
        client: StartClient,
    ) -> Result<(), DaemonError> {
        let record = container.record();
        let mut spec = Vec::new();
        wire::encode(&spec::personality(&record, client.size), &mut spec)
            .map_err(ServiceError::from)?;
        let compartment = self.new_compartment();
        let channel = machine.new_channel();
        let (begin, begun) = oneshot::channel();
        let halves = machine.connection.channel(channel);
        let log = LogWriter::new(container.directory());
        let (hub, end) = Hub::start(halves, begun, log, client.events);
        let (died, death) = oneshot::channel();
        lock(&self.deaths).insert(compartment, died);
        container.update(|record| {
            let exited = std::mem::take(&mut record.state);
            record.state.phase = Phase::Running;
            record.state.started = hub::now();
            record.state.finished = exited.finished;
        })?;
        container.set_running(Some(Running { compartment, hub: hub.clone() }));
        let request = Request::Create(Create {
            id: compartment,
            channel,
            layers,
            tenant,
            budget: record.config.budget.budget(),
            spec,
        });
        let answer = machine.compartments.call(&request).await;
        let failure = match answer {
            Ok(Response::Created { nanoseconds }) => {
                tracing::info!(container = record.name, nanoseconds, "a compartment was created");
                None
            }
            Ok(Response::Refused(refusal)) => Some(DaemonError::Refused(refusal)),
            Ok(_) => Some(ServiceError::UnexpectedAnswer.into()),
            Err(error) => Some(error.into()),
        };
        if let Some(failure) = failure {
            lock(&self.deaths).remove(&compartment);
            self.not_started(container, &failure);
            return Err(failure);
        }
        // The hub ends only by itself.
        let _ = begin.send(());
        let mut first = hub.first.clone();
        tokio::spawn(Arc::clone(self).supervise(
            Arc::clone(container),
            hub,
            end,
            death,
            compartment,
        ));
        let state = first.wait_for(|state| *state != FirstProcess::Waiting).await;
        match state.map(|state| state.clone()) {
            Ok(FirstProcess::NotStarted(failure)) => {
                // The supervisor writes down that it ended.
                self.until_ended(container).await?;
                Err(DaemonError::NotStarted(failure))
            }
            Ok(FirstProcess::Running(pid)) => {
                container.note(|record| record.state.pid = pid);
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(_) => {
                self.until_ended(container).await?;
                let error = container.record().state.error;
                let error = if error.is_empty() { error } else { format!(": {error}") };
                Err(DaemonError::DiedAtStart(error))
            }
        }
    }

    /// Writes down that a container could not be started.
    fn not_started(&self, container: &Container, failure: &DaemonError) {
        let (message, exit_code) = (failure.to_string(), error::exit_code(failure));
        self.note_end(container, |state| {
            state.phase = Phase::Created;
            state.exit_code = exit_code;
            state.error.clone_from(&message);
        });
    }

    /// Writes down that a container does not run; removes it if it wants that.
    pub(super) fn note_end(&self, container: &Container, change: impl Fn(&mut State)) {
        container.set_running(None);
        if !container.record().config.auto_remove {
            return container.note(|record| change(&mut record.state));
        }
        lock(&self.containers).remove(&container.id);
        if let Err(error) = container.remove_files() {
            tracing::warn!(%error, container = container.id, "files cannot be removed");
        }
        container.forget(|record| change(&mut record.state));
    }

    /// Waits until a container does not run.
    ///
    /// # Errors
    /// [`DaemonError::DoesNotEnd`].
    pub async fn until_ended(&self, container: &Container) -> Result<(), DaemonError> {
        let mut phase = container.phase.subscribe();
        let ended = phase.wait_for(|phase| *phase != Phase::Running);
        match tokio::time::timeout(DESTROY_TIMEOUT, ended).await {
            Ok(_) => Ok(()),
            Err(_) => Err(DaemonError::DoesNotEnd(container.record().name)),
        }
    }

    /// Asks a container to end, and kills it after a while. One that does not run is left alone.
    ///
    /// # Errors
    /// Those of the machine and [`DaemonError::DoesNotEnd`].
    pub async fn stop(
        &self,
        container: &Arc<Container>,
        timeout: Option<u64>,
    ) -> Result<(), DaemonError> {
        let Some(running) = container.running() else { return Ok(()) };
        let config = container.record().config;
        let patience = Duration::from_secs(timeout.unwrap_or(config.stop_timeout));
        let _ = running.hub.command(Command::Signal(FIRST_PROCESS, config.stop_signal));
        let mut phase = container.phase.subscribe();
        let ended = phase.wait_for(|phase| *phase != Phase::Running);
        if tokio::time::timeout(patience, ended).await.is_ok() {
            return Ok(());
        }
        self.destroy(container).await
    }

    /// Sends a signal; `KILL` ends the whole compartment, whatever state it is in.
    ///
    /// # Errors
    /// [`DaemonError::NotRunning`] and those of [`Self::destroy`].
    pub async fn kill(&self, container: &Arc<Container>, number: u8) -> Result<(), DaemonError> {
        let name = container.record().name;
        let running = container.running().ok_or(DaemonError::NotRunning(name))?;
        if number == signal::KILL {
            return self.destroy(container).await;
        }
        let _ = running.hub.command(Command::Signal(FIRST_PROCESS, number));
        Ok(())
    }

    /// Destroys a container's compartment and waits until it is gone.
    ///
    /// # Errors
    /// Those of the machine and [`DaemonError::DoesNotEnd`].
    pub async fn destroy(&self, container: &Arc<Container>) -> Result<(), DaemonError> {
        let Some(running) = container.running() else { return Ok(()) };
        self.destroy_compartment(running.compartment).await?;
        self.until_ended(container).await
    }

    /// Destroys a compartment, if there is a machine and a compartment.
    pub(super) async fn destroy_compartment(&self, id: u64) -> Result<(), DaemonError> {
        let Some(machine) = self.machine.running().await else { return Ok(()) };
        match machine.compartments.call(&Request::Destroy { id }).await {
            Ok(Response::Done | Response::Refused(Refusal::UnknownCompartment)) => Ok(()),
            Ok(Response::Refused(refusal)) => Err(DaemonError::Refused(refusal)),
            Ok(_) => Err(ServiceError::UnexpectedAnswer.into()),
            // With the connection the compartment is gone as well.
            Err(ServiceError::Connection(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a container.
    ///
    /// # Errors
    /// [`DaemonError::IsRunning`], those of [`Self::destroy`], and [`DaemonError::State`].
    pub async fn remove(&self, container: &Arc<Container>, force: bool) -> Result<(), DaemonError> {
        if container.running().is_some() {
            if !force {
                return Err(DaemonError::IsRunning(container.record().name));
            }
            self.destroy(container).await?;
        }
        let _lifecycle = container.lifecycle.lock().await;
        if container.running().is_some() {
            return Err(DaemonError::IsRunning(container.record().name));
        }
        // One that removes itself may have done so by now.
        if lock(&self.containers).remove(&container.id).is_some() {
            container.remove_files()?;
        }
        Ok(())
    }

    /// Removes all containers that do not run; gives their identities.
    ///
    /// # Errors
    /// Those of [`Self::remove`].
    pub async fn prune(&self) -> Result<Vec<String>, DaemonError> {
        let mut removed = Vec::new();
        for container in self.containers() {
            match self.remove(&container, false).await {
                Ok(()) => removed.push(container.id.clone()),
                Err(DaemonError::IsRunning(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }

    /// Changes limits.
    ///
    /// # Errors
    /// [`DaemonError::Refused`], those of the machine, and [`DaemonError::State`].
    pub async fn update(
        &self,
        container: &Arc<Container>,
        budget: Budget,
    ) -> Result<(), DaemonError> {
        if let (Some(running), Some(machine)) = (container.running(), self.machine.running().await)
        {
            check_cpus(&budget, machine.configuration.cpus)?;
            let request = Request::Update { id: running.compartment, budget: budget.clone() };
            match machine.compartments.call(&request).await? {
                Response::Done => {}
                Response::Refused(refusal) => return Err(DaemonError::Refused(refusal)),
                _ => return Err(ServiceError::UnexpectedAnswer.into()),
            }
            let _ = running.hub.command(Command::Budget(budget.clone()));
        }
        Ok(container.update(|record| record.config.budget.update(&budget))?)
    }
}

/// Refuses more bandwidth than the machine's CPUs have, as docker does.
fn check_cpus(budget: &Budget, cpus: u32) -> Result<(), DaemonError> {
    match budget.cpu_millis {
        Some(millis) if millis > u64::from(cpus) * 1000 => Err(DaemonError::BadLimit(format!(
            "--cpus must be from 0.001 to {cpus}: the machine has {cpus} CPUs \
             (`mett machine start --cpus` sets how many)"
        ))),
        _ => Ok(()),
    }
}

/// Words how a compartment died.
pub(super) fn death_words(death: &Death) -> String {
    match death {
        Death::Ended | Death::Destroyed => String::new(),
        Death::Crashed(reason) => format!("the personality crashed: {reason}"),
    }
}
