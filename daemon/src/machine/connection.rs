//! The control channel from the daemon's side: many flow-controlled channels over one byte stream.
//!
//! Owns: framing and credit. Must not know: what the channels carry. Invariants: no more is sent on a channel than the machine granted; the
//! machine that sends more than it was granted, or anything malformed, loses the connection; memory held for a channel is bounded by its
//! window; frames about the connection go before data.

use contract::channel::{Frame, FrameError, HEADER_LENGTH, MAX_DATA, well_known};
use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    sync::{Notify, mpsc, watch},
};

/// Bytes the machine may send on a channel before the daemon has taken them.
const WINDOW: u32 = 256 * 1024;
/// Bytes read from the machine at once.
const READ_BUFFER: usize = 64 * 1024;
/// Data frames waiting to be written.
const WRITE_QUEUE: usize = 4;

/// Why a connection ended or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The machine closed it, or died.
    #[error("the machine has ended")]
    Ended,
    /// Reading or writing failed.
    #[error("the connection with the machine failed: {0}")]
    Io(#[from] io::Error),
    /// The machine sent something malformed.
    #[error("the machine sent a malformed frame ({0:?})")]
    Malformed(FrameError),
    /// The machine speaks another version.
    #[error(
        "the machine's system image speaks version {machine} of the control channel, this daemon \
         version {daemon}: use a system image and a mett of one build (`cargo xtask build` makes \
         both; METT_SYSTEM_IMAGE_DIR names the image, if it is set)"
    )]
    OtherVersion {
        /// The machine's.
        machine: u32,
        /// The daemon's.
        daemon: u32,
    },
    /// The machine did not begin with its version.
    #[error("the machine did not say hello")]
    NoHello,
    /// The machine sent more than it was granted.
    #[error("the machine sent more on channel {0} than it was granted")]
    Overrun(u32),
}

/// A connection. Clones are the same connection.
#[derive(Clone, Debug)]
pub struct Connection {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    channels: Mutex<HashMap<u32, Arc<Peer>>>,
    /// Credit for services' channels that nobody serves yet: a service opens its channel when it likes, which may be before the daemon asks for it.
    /// Bounded, because services' numbers are.
    early: Mutex<HashMap<u32, u64>>,
    control: mpsc::UnboundedSender<[u8; HEADER_LENGTH]>,
    data: mpsc::Sender<Vec<u8>>,
    /// Why the connection ended; none while it lives.
    end: watch::Sender<Option<String>>,
}

/// A channel as the reading side sees it.
#[derive(Debug)]
struct Peer {
    state: Mutex<PeerState>,
    credit_came: Notify,
}

#[derive(Debug)]
struct PeerState {
    /// Where received bytes go; none when the machine has closed the channel.
    inbound: Option<mpsc::UnboundedSender<Vec<u8>>>,
    /// Bytes the daemon may send.
    credit: u64,
    /// Bytes the machine may still send.
    granted: u32,
}

impl Peer {
    /// The machine will send no more and take no more.
    fn close(&self) {
        lock(&self.state).inbound = None;
        self.credit_came.notify_waiters();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    /// Exchanges versions and begins to serve channels.
    ///
    /// # Errors
    /// Every variant of [`ConnectionError`].
    pub async fn open<S>(stream: S) -> Result<Self, ConnectionError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (reader, mut writer) = tokio::io::split(stream);
        let mut reader = BufReader::with_capacity(READ_BUFFER, reader);
        let own = Frame::Hello { version: contract::VERSION };
        writer.write_all(&own.encode()).await.map_err(ended)?;
        match read_frame(&mut reader).await? {
            Some(Frame::Hello { version }) if version == contract::VERSION => {}
            Some(Frame::Hello { version: machine }) => {
                return Err(ConnectionError::OtherVersion { machine, daemon: contract::VERSION });
            }
            Some(_) => return Err(ConnectionError::NoHello),
            None => return Err(ConnectionError::Ended),
        }
        let (control, control_queue) = mpsc::unbounded_channel();
        let (data, data_queue) = mpsc::channel(WRITE_QUEUE);
        let channels = Mutex::new(HashMap::new());
        let (early, end) = (Mutex::default(), watch::Sender::new(None));
        let shared = Arc::new(Shared { channels, early, control, data, end });
        tokio::spawn(write(writer, control_queue, data_queue));
        tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                let reason = read(&shared, reader).await.unwrap_or_else(|error| error);
                shared.end.send_replace(Some(reason.to_string()));
                // Whoever waits for data or credit learns that there will be none.
                for (_, peer) in lock(&shared.channels).drain() {
                    peer.close();
                }
            }
        });
        Ok(Self { shared })
    }

    /// Waits until the connection has ended and says why.
    pub async fn ended(&self) -> String {
        let mut end = self.shared.end.subscribe();
        match end.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => ConnectionError::Ended.to_string(),
        }
    }

    /// Whether the connection lives.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.shared.end.borrow().is_none()
    }

    /// Begins to serve a channel. The machine may send on it after [`Receiver::begin`].
    #[must_use]
    pub fn channel(&self, number: u32) -> (Sender, Receiver) {
        let (inbound, queue) = mpsc::unbounded_channel();
        // Held until the channel is known, so that no credit falls between.
        let mut channels = lock(&self.shared.channels);
        let credit = lock(&self.shared.early).remove(&number).unwrap_or_default();
        let state = PeerState { inbound: Some(inbound), credit, granted: WINDOW };
        let peer = Arc::new(Peer { state: Mutex::new(state), credit_came: Notify::new() });
        if self.is_alive() {
            channels.insert(number, Arc::clone(&peer));
        } else {
            peer.close();
        }
        drop(channels);
        let sender = Sender { shared: Arc::clone(&self.shared), peer: Arc::clone(&peer), number };
        let shared = Arc::clone(&self.shared);
        (sender, Receiver { shared, peer: Arc::downgrade(&peer), number, queue, taken: 0 })
    }
}

impl Shared {
    fn send_control(&self, frame: Frame) {
        // The writer ends only with the connection, and then the reader tells.
        let _ = self.control.send(frame.encode());
    }

    /// The machine lets the daemon send.
    fn add_credit(&self, channel: u32, bytes: u64) {
        let channels = lock(&self.channels);
        if let Some(peer) = channels.get(&channel) {
            let mut state = lock(&peer.state);
            state.credit = state.credit.saturating_add(bytes);
            drop(state);
            peer.credit_came.notify_waiters();
        } else if (1..well_known::FIRST_COMPARTMENT).contains(&channel) {
            let mut early = lock(&self.early);
            let credit = early.entry(channel).or_default();
            *credit = credit.saturating_add(bytes);
        }
    }
}

/// The sending half of a channel.
#[derive(Debug)]
pub struct Sender {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    number: u32,
}

impl Sender {
    /// Sends bytes, as fast as the machine takes them.
    ///
    /// # Errors
    /// [`ConnectionError::Ended`] when the channel or the connection is gone.
    pub async fn send(&self, mut bytes: &[u8]) -> Result<(), ConnectionError> {
        while !bytes.is_empty() {
            let length = self.take_credit(bytes.len()).await?;
            let (part, rest) = bytes.split_at(length);
            // At most MAX_DATA, which fits.
            let length = u32::try_from(length).unwrap_or(MAX_DATA);
            let mut frame = Frame::Data { channel: self.number, length }.encode().to_vec();
            frame.extend_from_slice(part);
            self.shared.data.send(frame).await.map_err(|_| ConnectionError::Ended)?;
            bytes = rest;
        }
        Ok(())
    }

    /// Waits for credit and takes as much as one frame can use.
    async fn take_credit(&self, wanted: usize) -> Result<usize, ConnectionError> {
        loop {
            let came = self.peer.credit_came.notified();
            tokio::pin!(came);
            came.as_mut().enable();
            {
                let mut state = lock(&self.peer.state);
                if state.inbound.is_none() {
                    return Err(ConnectionError::Ended);
                }
                let length = state.credit.min(wanted as u64).min(u64::from(MAX_DATA));
                if length > 0 {
                    state.credit -= length;
                    return Ok(usize::try_from(length).unwrap_or_default());
                }
            }
            came.await;
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let channels = lock(&self.shared.channels);
        if channels.get(&self.number).is_some_and(|peer| Arc::ptr_eq(peer, &self.peer)) {
            // It must not overtake the data before it.
            let (data, frame) = (self.shared.data.clone(), Frame::Close { channel: self.number });
            // Without a runtime the daemon is ending, and the connection with it.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { data.send(frame.encode().to_vec()).await });
            }
        }
    }
}

/// The receiving half of a channel.
#[derive(Debug)]
pub struct Receiver {
    shared: Arc<Shared>,
    peer: std::sync::Weak<Peer>,
    number: u32,
    queue: mpsc::UnboundedReceiver<Vec<u8>>,
    /// Bytes taken that the machine was not told of.
    taken: u32,
}

impl Receiver {
    /// Lets the machine send. The channel has to exist there: a credit for one that does not is lost.
    pub fn begin(&self) {
        self.shared.send_control(Frame::Credit { channel: self.number, bytes: WINDOW });
    }

    /// The next bytes; none when the machine has closed the channel or ended.
    pub async fn receive(&mut self) -> Option<Vec<u8>> {
        let bytes = self.queue.recv().await?;
        // A frame is shorter than a window, so this fits.
        self.taken += u32::try_from(bytes.len()).unwrap_or_default();
        if self.taken >= WINDOW / 4 {
            if let Some(peer) = self.peer.upgrade() {
                lock(&peer.state).granted += self.taken;
            }
            let bytes = self.taken;
            self.shared.send_control(Frame::Credit { channel: self.number, bytes });
            self.taken = 0;
        }
        Some(bytes)
    }
}

async fn read_frame(
    reader: &mut (impl AsyncRead + Unpin),
) -> Result<Option<Frame>, ConnectionError> {
    let mut header = [0; HEADER_LENGTH];
    match reader.read_exact(&mut header).await {
        Ok(_) => Frame::decode(header).map(Some).map_err(ConnectionError::Malformed),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(ended(error)),
    }
}

/// What a failure of the connection means: one that the other side has cut has ended like one that it has closed.
fn ended(error: io::Error) -> ConnectionError {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ConnectionError::Ended,
        _ => error.into(),
    }
}

/// Serves what the machine sends, until the connection ends.
async fn read(
    shared: &Shared,
    mut reader: impl AsyncRead + Unpin,
) -> Result<ConnectionError, ConnectionError> {
    while let Some(frame) = read_frame(&mut reader).await? {
        match frame {
            Frame::Hello { .. } => return Ok(ConnectionError::NoHello),
            Frame::Credit { channel, bytes } => {
                shared.add_credit(channel, u64::from(bytes));
            }
            Frame::Close { channel } => {
                lock(&shared.early).remove(&channel);
                let peer = lock(&shared.channels).remove(&channel);
                if let Some(peer) = peer {
                    peer.close();
                }
            }
            Frame::Data { channel, length } => {
                let mut bytes = vec![0; length as usize];
                reader.read_exact(&mut bytes).await?;
                let peer = lock(&shared.channels).get(&channel).cloned();
                // What comes for a channel that nobody serves any more is dropped.
                let Some(peer) = peer else { continue };
                let mut state = lock(&peer.state);
                let left = state.granted.checked_sub(length);
                state.granted = left.ok_or(ConnectionError::Overrun(channel))?;
                if let Some(inbound) = &state.inbound {
                    // The receiving half may have been dropped.
                    let _ = inbound.send(bytes);
                }
            }
        }
    }
    Ok(ConnectionError::Ended)
}

/// Writes frames, those about the connection first.
async fn write(
    mut writer: impl AsyncWrite + Unpin,
    mut control: mpsc::UnboundedReceiver<[u8; HEADER_LENGTH]>,
    mut data: mpsc::Receiver<Vec<u8>>,
) {
    loop {
        let result = tokio::select! {
            biased;
            Some(frame) = control.recv() => writer.write_all(&frame).await,
            Some(frame) = data.recv() => writer.write_all(&frame).await,
            else => return,
        };
        if result.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::DuplexStream;

    async fn send(stream: &mut DuplexStream, frame: Frame) {
        stream.write_all(&frame.encode()).await.unwrap();
    }

    async fn open() -> (Connection, DuplexStream) {
        let (own, mut machine) = tokio::io::duplex(1 << 20);
        send(&mut machine, Frame::Hello { version: contract::VERSION }).await;
        let connection = Connection::open(own).await.unwrap();
        let hello = read_frame(&mut machine).await.unwrap();
        assert_eq!(hello, Some(Frame::Hello { version: contract::VERSION }));
        (connection, machine)
    }

    #[tokio::test]
    async fn nothing_is_sent_without_credit() {
        let (connection, mut machine) = open().await;
        let (sender, receiver) = connection.channel(5);
        receiver.begin();
        let task = tokio::spawn(async move { sender.send(&[1; 100]).await.map(|()| sender) });
        let granted = read_frame(&mut machine).await.unwrap();
        assert_eq!(granted, Some(Frame::Credit { channel: 5, bytes: WINDOW }));
        send(&mut machine, Frame::Credit { channel: 5, bytes: 60 }).await;
        let first = read_frame(&mut machine).await.unwrap();
        assert_eq!(first, Some(Frame::Data { channel: 5, length: 60 }));
        machine.read_exact(&mut [0; 60]).await.unwrap();
        send(&mut machine, Frame::Credit { channel: 5, bytes: 1000 }).await;
        let second = read_frame(&mut machine).await.unwrap();
        assert_eq!(second, Some(Frame::Data { channel: 5, length: 40 }));
        task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn credit_that_comes_before_the_channel_is_served_is_kept() {
        let (connection, mut machine) = open().await;
        let number = well_known::SYSTEM;
        send(&mut machine, Frame::Credit { channel: number, bytes: 60 }).await;
        // The reader takes it before anybody asks for the channel.
        tokio::task::yield_now().await;
        let (sender, _receiver) = connection.channel(number);
        let sent = tokio::time::timeout(std::time::Duration::from_secs(5), sender.send(&[1; 60]));
        sent.await.expect("the credit was lost").unwrap();
        let data = read_frame(&mut machine).await.unwrap();
        assert_eq!(data, Some(Frame::Data { channel: number, length: 60 }));
    }

    #[tokio::test]
    async fn a_machine_that_overruns_its_window_loses_the_connection() {
        let (connection, mut machine) = open().await;
        let (_sender, _receiver) = connection.channel(5);
        for _ in 0..=WINDOW / MAX_DATA {
            send(&mut machine, Frame::Data { channel: 5, length: MAX_DATA }).await;
            machine.write_all(&[0; MAX_DATA as usize]).await.unwrap();
        }
        assert!(connection.ended().await.contains("more on channel 5"));
    }

    #[tokio::test]
    async fn another_version_is_refused() {
        let (own, mut machine) = tokio::io::duplex(1 << 20);
        send(&mut machine, Frame::Hello { version: 99 }).await;
        let refused = Connection::open(own).await.unwrap_err();
        assert!(matches!(refused, ConnectionError::OtherVersion { machine: 99, .. }));
    }

    #[tokio::test]
    async fn the_end_of_the_machine_ends_every_wait() {
        let (connection, machine) = open().await;
        let (sender, mut receiver) = connection.channel(5);
        drop(machine);
        assert_eq!(receiver.receive().await, None);
        assert!(sender.send(b"x").await.is_err());
        let (late, mut receiver) = connection.channel(6);
        assert!(late.send(b"x").await.is_err());
        drop(late);
        assert_eq!(receiver.receive().await, None);
    }
}
