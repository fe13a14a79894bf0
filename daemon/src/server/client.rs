//! One connection: framing, the exchange of versions, and the order of requests.

use super::handle;
use crate::{
    api::{FromDaemon, Hello, Progress, Reply, ToDaemon},
    container::Container,
    controller::Daemon,
    error::DaemonError,
};
use contract::wire::{self, Decoder};
use serde::Serialize;
use std::{io, sync::Arc};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
};

/// Messages to a client that wait to be written.
const OUTGOING: usize = 4;
/// Messages of a client that wait to be taken.
const INCOMING: usize = 16;

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
}

/// What handlers of requests see of a client.
#[derive(Debug)]
pub(super) struct Conversation {
    /// What the client sends; ends when it goes away.
    pub(super) incoming: mpsc::Receiver<ToDaemon>,
    /// What it is sent.
    pub(super) outgoing: Outgoing,
    /// The request was to end the daemon.
    pub(super) ends_daemon: bool,
    /// A container that removes itself, which the client is about to start.
    pub(super) unstarted: Option<Arc<Container>>,
}

/// The way to a client; clones lead to the same client.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    queue: mpsc::Sender<FromDaemon>,
    gone: watch::Receiver<bool>,
}

impl Outgoing {
    /// Sends a message; false when the client has gone.
    pub(super) async fn send(&self, message: FromDaemon) -> bool {
        self.queue.send(message).await.is_ok()
    }

    /// Whether the client has gone.
    pub(super) fn is_gone(&self) -> bool {
        *self.gone.borrow()
    }

    /// Waits until the client has gone.
    pub(super) async fn gone(&mut self) {
        // The sender that is dropped has gone as well.
        let _ = self.gone.wait_for(|gone| *gone).await;
    }

    /// Tells of progress if the client keeps up; false when it has gone.
    pub(super) fn progress(&self, progress: Progress) -> bool {
        // A client that is busy misses a step of many.
        let _ = self.queue.try_send(FromDaemon::Progress(progress));
        !self.is_gone()
    }
}

impl Client {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream }
    }

    /// Serves the client until it goes away; true when the daemon is to end.
    pub(super) async fn serve(self, daemon: &Arc<Daemon>) -> bool {
        match self.try_serve(daemon).await {
            Ok(ends) => ends,
            Err(error) => {
                tracing::debug!(%error, "a connection has failed");
                false
            }
        }
    }

    async fn try_serve(self, daemon: &Arc<Daemon>) -> io::Result<bool> {
        let (mut reader, mut writer) = self.stream.into_split();
        let mut decoder = Decoder::new();
        write(&mut writer, &Hello::own()).await?;
        let hello: Option<Hello> = read(&mut reader, &mut decoder).await?;
        // A client of another version has learnt what it needs from our hello.
        if hello.is_none_or(|hello| hello.api != crate::api::VERSION) {
            return Ok(false);
        }
        let (queue, written) = mpsc::channel(OUTGOING);
        let (taken, incoming) = mpsc::channel(INCOMING);
        let (left, gone) = watch::channel(false);
        let writing = tokio::spawn(write_all(writer, written));
        let reading = tokio::spawn(async move {
            while let Ok(Some(message)) = read(&mut reader, &mut decoder).await {
                if taken.send(message).await.is_err() {
                    break;
                }
            }
            left.send_replace(true);
        });
        let outgoing = Outgoing { queue, gone };
        let mut conversation =
            Conversation { incoming, outgoing, ends_daemon: false, unstarted: None };
        conversation.run(daemon).await;
        conversation.remove_unstarted(daemon).await;
        let ends_daemon = conversation.ends_daemon;
        drop(conversation);
        reading.abort();
        // What was answered last is written before the connection is closed.
        let _ = writing.await;
        Ok(ends_daemon)
    }
}

impl Conversation {
    async fn run(&mut self, daemon: &Arc<Daemon>) {
        while let Some(message) = self.incoming.recv().await {
            // Input that was on its way when a process ended belongs to nobody.
            let ToDaemon::Request(request) = message else { continue };
            let answer = match handle::handle(daemon, self, *request).await {
                Ok(reply) => FromDaemon::Done(reply),
                Err(error) => FromDaemon::Failed(error.failure()),
            };
            if !self.outgoing.send(answer).await || self.ends_daemon {
                return;
            }
        }
    }

    /// Removes what the client wanted to start and did not.
    async fn remove_unstarted(&mut self, daemon: &Arc<Daemon>) {
        let Some(container) = self.unstarted.take() else { return };
        if let Err(error) = daemon.remove(&container, false).await {
            tracing::warn!(%error, container = container.id, "it was not started and stays");
        }
    }

    /// Sends one of many replies.
    pub(super) async fn item(&self, reply: Reply) -> Result<bool, DaemonError> {
        Ok(self.outgoing.send(FromDaemon::Item(reply)).await)
    }
}

async fn write<T: Serialize>(writer: &mut OwnedWriteHalf, message: &T) -> io::Result<()> {
    let mut bytes = Vec::new();
    wire::encode(message, &mut bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{error:?}")))?;
    writer.write_all(&bytes).await
}

async fn write_all(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<FromDaemon>) {
    while let Some(message) = queue.recv().await {
        if let Err(error) = write(&mut writer, &message).await {
            tracing::debug!(%error, "a client cannot be written to");
            return;
        }
    }
}

async fn read<T: serde::de::DeserializeOwned>(
    reader: &mut OwnedReadHalf,
    decoder: &mut Decoder,
) -> io::Result<Option<T>> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let message = decoder
            .next()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{error:?}")))?;
        if message.is_some() {
            return Ok(message);
        }
        let length = reader.read(&mut buffer).await?;
        if length == 0 {
            return Ok(None);
        }
        decoder.feed(buffer.get(..length).unwrap_or_default());
    }
}
