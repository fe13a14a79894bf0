//! A client of one of the machine's services: requests over a channel, answered in their order.

use super::connection::{Connection, ConnectionError, Receiver, Sender};
use contract::wire::{self, Decoder, WireError};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// Why a service did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The machine has gone.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The request is too long for one message.
    #[error("the request is too large for the machine")]
    RequestTooLarge,
    /// The service sent what it must not send.
    #[error("the machine gave an answer that does not fit the question")]
    UnexpectedAnswer,
}

impl From<WireError> for ServiceError {
    fn from(_: WireError) -> Self {
        Self::RequestTooLarge
    }
}

type Waiting<A> = Arc<Mutex<VecDeque<oneshot::Sender<A>>>>;

/// A client.
#[derive(Debug)]
pub struct ServiceClient<A> {
    /// Held while a request is sent, so that requests and waiters have the same order.
    sender: tokio::sync::Mutex<Sender>,
    waiting: Waiting<A>,
}

impl<A: DeserializeOwned + Send + 'static> ServiceClient<A> {
    /// A client on a channel. `event` takes what the service sends unasked and gives back what answers a request.
    pub fn new(
        connection: &Connection,
        channel: u32,
        event: impl FnMut(A) -> Option<A> + Send + 'static,
    ) -> Self {
        let (sender, receiver) = connection.channel(channel);
        receiver.begin();
        let waiting = Waiting::default();
        tokio::spawn(receive(receiver, Arc::clone(&waiting), event));
        Self { sender: tokio::sync::Mutex::new(sender), waiting }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// Every variant of [`ServiceError`].
    pub async fn call<Q: Serialize>(&self, request: &Q) -> Result<A, ServiceError> {
        self.call_with(request, async |_| Ok(())).await
    }

    /// Sends a request and the raw bytes that belong to it, and waits for the answer.
    ///
    /// # Errors
    /// Every variant of [`ServiceError`], and what `payload` gives.
    pub async fn call_with<Q: Serialize>(
        &self,
        request: &Q,
        payload: impl AsyncFnOnce(&Sender) -> Result<(), ServiceError>,
    ) -> Result<A, ServiceError> {
        let mut bytes = Vec::new();
        wire::encode(request, &mut bytes)?;
        let (answer, answered) = oneshot::channel();
        {
            let sender = self.sender.lock().await;
            lock(&self.waiting).push_back(answer);
            sender.send(&bytes).await?;
            payload(&sender).await?;
        }
        answered.await.map_err(|_| ConnectionError::Ended.into())
    }
}

fn lock<A>(waiting: &Waiting<A>) -> std::sync::MutexGuard<'_, VecDeque<oneshot::Sender<A>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn receive<A: DeserializeOwned>(
    mut receiver: Receiver,
    waiting: Waiting<A>,
    mut event: impl FnMut(A) -> Option<A>,
) {
    let mut decoder = Decoder::new();
    'connection: while let Some(bytes) = receiver.receive().await {
        decoder.feed(&bytes);
        loop {
            match decoder.next::<A>() {
                Ok(None) => break,
                Ok(Some(message)) => {
                    if let Some(answer) = event(message)
                        && let Some(waiter) = lock(&waiting).pop_front()
                    {
                        // Whoever asked may have lost interest.
                        let _ = waiter.send(answer);
                    }
                }
                Err(error) => {
                    tracing::error!(?error, "a service sent a malformed message");
                    break 'connection;
                }
            }
        }
    }
    // Dropping the waiters tells them that no answer will come.
    lock(&waiting).clear();
}
