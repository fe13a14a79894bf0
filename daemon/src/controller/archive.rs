//! Copying files out of and into running containers, as tar archives.

use super::Daemon;
use crate::{
    container::{
        Container,
        hub::{self, Command, Hub},
    },
    error::DaemonError,
};
use contract::compartment::{Answer, PathStat, Question};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// An archive on its way out of a container.
#[derive(Debug)]
pub struct ArchiveOut {
    /// Its parts; the last is empty.
    pub parts: mpsc::Receiver<Vec<u8>>,
    /// Whether it is whole.
    pub answer: oneshot::Receiver<Answer>,
}

/// An archive on its way into a container.
#[derive(Debug)]
pub struct ArchiveIn {
    hub: Hub,
    question: u32,
    answer: oneshot::Receiver<Answer>,
}

impl ArchiveIn {
    /// Sends a part; an empty one is the end. False when the container has gone.
    #[must_use]
    pub fn part(&self, bytes: Vec<u8>) -> bool {
        self.hub.command(Command::Archive { question: self.question, bytes })
    }

    /// Waits until it is unpacked.
    ///
    /// # Errors
    /// [`DaemonError::Inside`] and [`DaemonError::EndedMeanwhile`].
    pub async fn finish(self) -> Result<(), DaemonError> {
        answered(self.answer.await.ok()).map(|_| ())
    }
}

/// Turns a refusal into an error.
///
/// # Errors
/// [`DaemonError::Inside`] and [`DaemonError::EndedMeanwhile`].
pub(super) fn answered(answer: Option<Answer>) -> Result<Answer, DaemonError> {
    match answer {
        None => Err(DaemonError::EndedMeanwhile),
        Some(Answer::Failed { errno, message }) => Err(DaemonError::Inside { errno, message }),
        Some(answer) => Ok(answer),
    }
}

impl ArchiveOut {
    /// Whether everything was sent.
    ///
    /// # Errors
    /// [`DaemonError::Inside`] and [`DaemonError::EndedMeanwhile`].
    pub async fn finish(self) -> Result<(), DaemonError> {
        answered(self.answer.await.ok()).map(|_| ())
    }
}

impl Daemon {
    fn hub(container: &Container) -> Result<Hub, DaemonError> {
        let not_running = || DaemonError::NotRunning(container.record().name);
        container.running().map(|running| running.hub).ok_or_else(not_running)
    }

    /// What a path in a container is.
    ///
    /// # Errors
    /// [`DaemonError::NotRunning`] and [`DaemonError::Inside`].
    pub async fn path_stat(
        &self,
        container: &Arc<Container>,
        path: &str,
    ) -> Result<PathStat, DaemonError> {
        let hub = Self::hub(container)?;
        let question = Question::PathStat(path.as_bytes().to_vec());
        match answered(hub.ask(question).await)? {
            Answer::PathStat(stat) => Ok(stat),
            _ => Err(DaemonError::UnexpectedMessage),
        }
    }

    /// Begins to copy a path out of a container.
    ///
    /// # Errors
    /// [`DaemonError::NotRunning`].
    pub fn copy_out(
        &self,
        container: &Arc<Container>,
        path: &str,
    ) -> Result<ArchiveOut, DaemonError> {
        let hub = Self::hub(container)?;
        let (sender, parts) = hub::archive_queue();
        let (answer, answered) = oneshot::channel();
        let what = Question::GetArchive(path.as_bytes().to_vec());
        let command = Command::Ask { what, parts: Some(sender), number: None, answer };
        if !hub.command(command) {
            return Err(DaemonError::NotRunning(container.record().name));
        }
        Ok(ArchiveOut { parts, answer: answered })
    }

    /// Begins to copy an archive into a directory of a container.
    ///
    /// # Errors
    /// [`DaemonError::NotRunning`].
    pub async fn copy_in(
        &self,
        container: &Arc<Container>,
        path: &str,
    ) -> Result<ArchiveIn, DaemonError> {
        let hub = Self::hub(container)?;
        let (number, numbered) = oneshot::channel();
        let (answer, answered) = oneshot::channel();
        let what = Question::PutArchive(path.as_bytes().to_vec());
        let command = Command::Ask { what, parts: None, number: Some(number), answer };
        let gone = || DaemonError::NotRunning(container.record().name);
        if !hub.command(command) {
            return Err(gone());
        }
        let question = numbered.await.map_err(|_| gone())?;
        Ok(ArchiveIn { hub, question, answer: answered })
    }
}
