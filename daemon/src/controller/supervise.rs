//! Watches one running container until its compartment is gone, and writes down how it ended.

use super::{Daemon, lifecycle::death_words, lock};
use crate::{
    container::{
        Container,
        hub::{self, FirstProcess, Hub, HubEnd},
        record::Phase,
    },
    error::{self, DaemonError},
};
use contract::{compartment::ExitStatus, compartments::Death};
use std::{sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// Exit code of a container that was killed from outside.
const KILLED: u8 = 128 + 9;
/// Exit code of a container whose personality failed.
const CRASHED: u8 = 128 + 6;
/// How long a compartment whose first process has ended may take to follow it.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(10);

/// The status a shell would tell.
#[must_use]
pub fn code(status: ExitStatus) -> u8 {
    match status {
        ExitStatus::Code(code) => code,
        ExitStatus::Signal { signal, .. } => 128u8.saturating_add(signal),
    }
}

/// What ended first.
enum Ending {
    First(FirstProcess),
    Hub(HubEnd),
    Death(Death),
    Machine(String),
}

impl Daemon {
    pub(super) async fn supervise(
        self: Arc<Self>,
        container: Arc<Container>,
        hub: Hub,
        mut end: oneshot::Receiver<HubEnd>,
        mut death: oneshot::Receiver<Death>,
        compartment: u64,
    ) {
        let ended = |state: &FirstProcess| {
            matches!(state, FirstProcess::Exited(_) | FirstProcess::NotStarted(_))
        };
        let mut first = hub.first.clone();
        let lost = async {
            match self.machine.running().await {
                Some(machine) => machine.connection.ended().await,
                None => "the machine has ended".to_owned(),
            }
        };
        tokio::pin!(lost);
        let ending = tokio::select! {
            biased;
            Ok(state) = first.wait_for(ended) => Ending::First(state.clone()),
            reason = &mut end => Ending::Hub(reason.unwrap_or(HubEnd::Closed)),
            Ok(how) = &mut death => Ending::Death(how),
            reason = &mut lost => Ending::Machine(reason),
        };
        let mut known_death = None;
        let mut state = match ending {
            Ending::First(state) => Self::ended_state(&state),
            Ending::Hub(HubEnd::Breach(reason)) => {
                let reason = format!("the personality broke the protocol: {reason}");
                Some((CRASHED, false, reason))
            }
            Ending::Hub(HubEnd::Closed) => {
                // A machine that ends closes its channels too, and may be seen to have ended only after them.
                tokio::select! {
                    how = &mut death => {
                        known_death = Some(how);
                        None
                    }
                    reason = &mut lost => {
                        Some((KILLED, false, format!("the machine has ended: {reason}")))
                    }
                    () = tokio::time::sleep(FOLLOW_TIMEOUT) => None,
                }
            }
            Ending::Death(how) => {
                known_death = Some(Ok(how));
                // What it said last is still on its way.
                let _ = tokio::time::timeout(FOLLOW_TIMEOUT, &mut end).await;
                None
            }
            Ending::Machine(reason) => {
                Some((KILLED, false, format!("the machine has ended: {reason}")))
            }
        };
        if state.is_none() {
            state = Self::ended_state(&hub.first.borrow());
        }
        let state = state.unwrap_or_else(|| match &known_death {
            Some(Ok(Death::Destroyed)) => (KILLED, false, String::new()),
            Some(Ok(how)) => (CRASHED, false, death_words(how)),
            _ => (CRASHED, false, "the compartment closed its channel".to_owned()),
        });
        let not_started = matches!(*hub.first.borrow(), FirstProcess::NotStarted(_));
        self.finish(&container, state, not_started);
        drop(hub);
        if known_death.is_none() {
            self.follow(compartment, death).await;
        }
        lock(&self.deaths).remove(&compartment);
    }

    /// Makes sure that the compartment follows its first process.
    async fn follow(&self, compartment: u64, death: oneshot::Receiver<Death>) {
        if tokio::time::timeout(FOLLOW_TIMEOUT, death).await.is_err()
            && let Err(error) = self.destroy_compartment(compartment).await
        {
            tracing::warn!(%error, compartment, "a compartment cannot be destroyed");
        }
    }

    /// How the first process ended: exit code, out of memory, reason.
    fn ended_state(first: &FirstProcess) -> Option<(u8, bool, String)> {
        match first {
            FirstProcess::Exited(status) => {
                let killed = matches!(status, ExitStatus::Signal { out_of_memory: true, .. });
                Some((code(*status), killed, String::new()))
            }
            FirstProcess::NotStarted(failure) => {
                let error = DaemonError::NotStarted(failure.clone());
                Some((error::exit_code(&error), false, error.to_string()))
            }
            _ => None,
        }
    }

    /// Writes down that a container has ended; removes it if it wants that.
    fn finish(&self, container: &Container, state: (u8, bool, String), not_started: bool) {
        let (exit_code, out_of_memory, error) = state;
        tracing::info!(container = container.id, exit_code, error, "a container has ended");
        let phase = if not_started { Phase::Created } else { Phase::Exited };
        self.note_end(container, |state| {
            state.phase = phase;
            state.exit_code = exit_code;
            state.out_of_memory = out_of_memory;
            state.error.clone_from(&error);
            state.pid = 0;
            state.finished = hub::now();
        });
    }
}
