//! Further processes of running containers, and attaching to them.

use super::Daemon;
use crate::{
    api::ExecOptions,
    container::{
        Container,
        hub::{Command, Event, FIRST_PROCESS, Hub},
        spec,
    },
    error::DaemonError,
};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// A process that a client is attached to.
#[derive(Debug)]
pub struct Attachment {
    /// The way to it.
    pub hub: Hub,
    /// Its number.
    pub process: u32,
    /// What happens to it.
    pub events: mpsc::UnboundedReceiver<Event>,
    /// For the client's input.
    pub own: mpsc::UnboundedSender<Event>,
}

impl Daemon {
    /// Attaches to the first process of a running container.
    ///
    /// # Errors
    /// [`DaemonError::NotRunning`].
    pub fn attach(&self, container: &Arc<Container>) -> Result<Attachment, DaemonError> {
        let not_running = || DaemonError::NotRunning(container.record().name);
        let running = container.running().ok_or_else(not_running)?;
        let (own, events) = mpsc::unbounded_channel();
        let command = Command::Attach { process: FIRST_PROCESS, events: own.clone() };
        if !running.hub.command(command) {
            return Err(not_running());
        }
        Ok(Attachment { hub: running.hub, process: FIRST_PROCESS, events, own })
    }

    /// Starts a further process and attaches to it.
    ///
    /// # Errors
    /// [`DaemonError::NotRunning`] and those of configurations.
    pub async fn exec(
        &self,
        container: &Arc<Container>,
        options: &ExecOptions,
    ) -> Result<Attachment, DaemonError> {
        let not_running = || DaemonError::NotRunning(container.record().name);
        let running = container.running().ok_or_else(not_running)?;
        let spec = spec::further(&container.record(), options)?;
        let (own, events) = mpsc::unbounded_channel();
        let (number, numbered) = oneshot::channel();
        let command = Command::Exec { spec, events: Some(own.clone()), number };
        if !running.hub.command(command) {
            return Err(not_running());
        }
        let process = numbered.await.map_err(|_| not_running())?;
        Ok(Attachment { hub: running.hub, process, events, own })
    }
}
