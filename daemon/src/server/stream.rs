//! What streams to or from a client: attached processes, logs, archives.

use super::{client::Conversation, handle::output};
use crate::{
    api::{AttachOptions, ExecOptions, FromDaemon, LogOptions, Reply, ToDaemon},
    container::{
        Container,
        hub::{Command, Event, FIRST_PROCESS, Hub},
    },
    controller::{ArchiveIn, ArchiveOut, Attachment, Logs, exit_code},
    error::DaemonError,
    machine::log::MachineLog,
};
use contract::compartment::{ExitStatus, INITIAL_WINDOW};
use std::sync::Arc;
use tokio::sync::mpsc;

type Result<T> = std::result::Result<T, DaemonError>;

/// Bytes of a log that are sent at once.
const LOG_PART: usize = 16 * 1024;

impl Conversation {
    /// Streams a container that was just started for the client.
    pub(super) async fn stream_started(
        &mut self,
        container: &Arc<Container>,
        events: mpsc::UnboundedReceiver<Event>,
        own: mpsc::UnboundedSender<Event>,
        options: AttachOptions,
    ) -> Result<Reply> {
        let Some(running) = container.running() else {
            // It has ended already; what it said waits in the queue.
            let (hub, process) = (None, FIRST_PROCESS);
            return self.pump(Some(container), hub, process, events, own, options).await;
        };
        self.pump(Some(container), Some(running.hub), FIRST_PROCESS, events, own, options).await
    }

    /// Streams a process.
    pub(super) async fn stream(
        &mut self,
        container: Option<&Arc<Container>>,
        attachment: Attachment,
        options: AttachOptions,
    ) -> Result<Reply> {
        let Attachment { hub, process, events, own } = attachment;
        if let Some(size) = options.size {
            let _ = hub.command(Command::Resize(process, size));
        }
        self.pump(container, Some(hub), process, events, own, options).await
    }

    /// Waits until a further process has begun, and streams it.
    pub(super) async fn exec(
        &mut self,
        mut attachment: Attachment,
        options: &ExecOptions,
    ) -> Result<Reply> {
        match attachment.events.recv().await {
            Some(Event::Started { .. }) => {}
            Some(Event::NotStarted(failure)) => return Err(DaemonError::NotStarted(failure)),
            _ => return Err(DaemonError::DiedAtStart(String::new())),
        }
        if options.detach {
            return Ok(Reply::Nothing);
        }
        let attach = AttachOptions {
            stdin: options.interactive,
            stdout: true,
            stderr: true,
            size: options.terminal,
        };
        self.stream(None, attachment, attach).await
    }

    async fn pump(
        &mut self,
        container: Option<&Arc<Container>>,
        hub: Option<Hub>,
        process: u32,
        events: mpsc::UnboundedReceiver<Event>,
        own: mpsc::UnboundedSender<Event>,
        options: AttachOptions,
    ) -> Result<Reply> {
        let id = container.map(|container| container.id.clone()).unwrap_or_default();
        let outgoing = self.outgoing.clone();
        let mut told = outgoing.send(FromDaemon::Attached { id }).await;
        if options.stdin {
            told = told && outgoing.send(FromDaemon::InputWindow(INITIAL_WINDOW)).await;
        }
        if !told {
            return Ok(Reply::Nothing);
        }
        let to_client = to_client(&outgoing, container, events, options);
        let to_process = to_process(&mut self.incoming, hub.as_ref(), process, own, options);
        tokio::select! {
            reply = to_client => Ok(reply),
            () = to_process => Ok(Reply::Nothing),
        }
    }

    /// Streams a container's log.
    pub(super) async fn logs(
        &mut self,
        container: Arc<Container>,
        options: LogOptions,
    ) -> Result<Reply> {
        let mut logs = Logs::open(container, options)?;
        let outgoing = self.outgoing.clone();
        let sending = async {
            while let Some(entry) = logs.next_entry().await? {
                if !outgoing.send(output(entry.stream, entry.time, entry.bytes)).await {
                    break;
                }
            }
            Ok(Reply::Nothing)
        };
        tokio::select! {
            reply = sending => reply,
            () = until_detached(&mut self.incoming) => Ok(Reply::Nothing),
        }
    }

    /// Streams the machine's log.
    pub(super) async fn machine_logs(
        &mut self,
        log: &MachineLog,
        follow: bool,
        tail: Option<usize>,
    ) -> Result<Reply> {
        let outgoing = self.outgoing.clone();
        let sending = async {
            let mut watch = log.watch();
            let mut seen = *watch.borrow_and_update();
            let mut bytes = last_lines(log.read(), tail);
            loop {
                for part in bytes.chunks(LOG_PART) {
                    if !outgoing.send(output(1, 0, part.to_vec())).await {
                        return;
                    }
                }
                if !follow || watch.changed().await.is_err() {
                    return;
                }
                let total = *watch.borrow_and_update();
                bytes = log.tail(total - seen);
                seen = total;
            }
        };
        tokio::select! {
            () = sending => Ok(Reply::Nothing),
            () = until_detached(&mut self.incoming) => Ok(Reply::Nothing),
        }
    }

    /// Streams an archive to the client.
    pub(super) async fn copy_out(&mut self, mut archive: ArchiveOut) -> Result<Reply> {
        while let Some(bytes) = archive.parts.recv().await {
            if bytes.is_empty() {
                break;
            }
            if !self.outgoing.send(FromDaemon::Archive(bytes)).await {
                return Ok(Reply::Nothing);
            }
        }
        archive.finish().await?;
        Ok(Reply::Nothing)
    }

    /// Streams an archive from the client.
    pub(super) async fn copy_in(&mut self, archive: ArchiveIn) -> Result<Reply> {
        loop {
            match self.incoming.recv().await {
                Some(ToDaemon::Archive(bytes)) => {
                    let end = bytes.is_empty();
                    if !archive.part(bytes) || end {
                        break;
                    }
                }
                // A client that went away leaves the archive cut off, which the personality refuses.
                None | Some(ToDaemon::Detach) => {
                    let _ = archive.part(Vec::new());
                    break;
                }
                Some(_) => return Err(DaemonError::UnexpectedMessage),
            }
        }
        archive.finish().await?;
        Ok(Reply::Nothing)
    }
}

async fn until_detached(incoming: &mut mpsc::Receiver<ToDaemon>) {
    while let Some(message) = incoming.recv().await {
        if message == ToDaemon::Detach {
            return;
        }
    }
}

/// Sends a client what happens to its process.
async fn to_client(
    outgoing: &super::client::Outgoing,
    container: Option<&Arc<Container>>,
    mut events: mpsc::UnboundedReceiver<Event>,
    options: AttachOptions,
) -> Reply {
    while let Some(event) = events.recv().await {
        let message = match event {
            Event::Started { .. } => FromDaemon::Started,
            Event::InputWindow(bytes) => FromDaemon::InputWindow(bytes),
            Event::Output(chunk) => {
                let wanted = if chunk.stream == 2 { options.stderr } else { options.stdout };
                if !wanted {
                    continue;
                }
                output(chunk.stream, chunk.time, chunk.bytes.clone())
            }
            Event::Exited(status) => {
                let status = settled(container).await.unwrap_or(exit_code(status));
                return ended(outgoing, status).await;
            }
            Event::Gone => {
                let status = settled(container).await.unwrap_or(exit_code(KILLED));
                return ended(outgoing, status).await;
            }
            Event::NotStarted(_) => continue,
        };
        if !outgoing.send(message).await {
            return Reply::Nothing;
        }
    }
    Reply::Nothing
}

/// What a process of a compartment that was destroyed ends with.
const KILLED: ExitStatus = ExitStatus::Signal { signal: 9, out_of_memory: false };

/// Tells a client that its process has ended.
async fn ended(outgoing: &super::client::Outgoing, status: u8) -> Reply {
    // A client that has gone needs no status.
    let _ = outgoing.send(FromDaemon::Exited(ExitStatus::Code(status))).await;
    Reply::Status(status)
}

/// The exit status in a container's record, when the record says that it has ended.
async fn settled(container: Option<&Arc<Container>>) -> Option<u8> {
    let container = container?;
    let mut phase = container.phase.subscribe();
    // The sender lives as long as the container.
    let _ = phase.wait_for(|phase| *phase != crate::container::record::Phase::Running).await;
    Some(container.record().state.exit_code)
}

/// Gives a process what its client sends, until the client detaches or goes away.
async fn to_process(
    incoming: &mut mpsc::Receiver<ToDaemon>,
    hub: Option<&Hub>,
    process: u32,
    own: mpsc::UnboundedSender<Event>,
    options: AttachOptions,
) {
    let Some(hub) = hub else { return std::future::pending().await };
    // A hub that has ended says so through its events.
    let command = |command| {
        let _ = hub.command(command);
    };
    loop {
        match incoming.recv().await {
            Some(ToDaemon::Input(bytes)) if options.stdin => {
                command(Command::Input { process, bytes, from: own.clone() });
            }
            Some(ToDaemon::EndInput) if options.stdin => command(Command::EndInput(process)),
            Some(ToDaemon::Resize(size)) => command(Command::Resize(process, size)),
            Some(ToDaemon::Signal(signal)) => command(Command::Signal(process, signal)),
            Some(ToDaemon::Detach) => return,
            Some(_) => {}
            None => {
                if options.stdin {
                    command(Command::EndInput(process));
                }
                return;
            }
        }
    }
}

/// The last lines of a text, if not all are wanted.
fn last_lines(bytes: Vec<u8>, count: Option<usize>) -> Vec<u8> {
    let Some(count) = count else { return bytes };
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_cut_at_their_beginnings() {
        let text = || b"one\ntwo\nthree".to_vec();
        assert_eq!(last_lines(text(), None), text());
        assert_eq!(last_lines(text(), Some(2)), b"two\nthree");
        assert_eq!(last_lines(text(), Some(0)), b"");
        assert_eq!(last_lines(text(), Some(9)), text());
    }
}
