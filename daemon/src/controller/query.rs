//! What is asked about containers: lists, use, processes, logs, capabilities.

use super::{Daemon, archive::answered, lock};
use crate::{
    api::{ContainerSummary, LogOptions, ProcessTable, Use},
    container::{
        Container,
        hub::now,
        log::{Entry, LogReader},
        record::{Phase, Record},
    },
    error::DaemonError,
    machine::{MachineError, service::ServiceError},
    time,
};
use contract::{
    compartment::{Answer, Question},
    compartments::{CapabilityRecord, Request, Response},
};
use std::{collections::VecDeque, sync::Arc, time::Duration};

/// How long a compartment may think about how many tasks it has.
const PATIENCE: Duration = Duration::from_secs(1);

/// A container's log, being read.
#[derive(Debug)]
pub struct Logs {
    container: Arc<Container>,
    reader: LogReader,
    /// Entries that were read ahead to find the last lines.
    ready: VecDeque<Entry>,
    options: LogOptions,
}

impl Logs {
    /// Begins to read.
    ///
    /// # Errors
    /// [`DaemonError::State`].
    pub fn open(container: Arc<Container>, options: LogOptions) -> Result<Self, DaemonError> {
        let reader = LogReader::new(container.directory());
        let mut logs = Self { container, reader, ready: VecDeque::new(), options };
        if let Some(lines) = options.tail {
            while let Some(entry) = logs.reader.next_entry()? {
                logs.ready.push_back(entry);
            }
            keep_last_lines(&mut logs.ready, lines);
        }
        Ok(logs)
    }

    /// The next entry; with `follow`, waits for it until the container has ended.
    ///
    /// # Errors
    /// [`DaemonError::State`].
    pub async fn next_entry(&mut self) -> Result<Option<Entry>, DaemonError> {
        loop {
            // Looked at before the log, so that nothing written in between is missed.
            let running = self.container.running();
            let mut logged = running.map(|running| running.hub.logged);
            if let Some(logged) = &mut logged {
                logged.mark_unchanged();
            }
            let mut phase = self.container.phase.subscribe();
            let ended = *phase.borrow_and_update() != Phase::Running;
            let entry = match self.ready.pop_front() {
                Some(entry) => Some(entry),
                None => self.reader.next_entry()?,
            };
            match (entry, logged) {
                (Some(entry), _) => {
                    if self.options.until.is_some_and(|until| entry.time > until) {
                        return Ok(None);
                    }
                    if self.options.since.is_none_or(|since| entry.time >= since) {
                        return Ok(Some(entry));
                    }
                }
                (None, Some(mut logged)) if self.options.follow && !ended => {
                    tokio::select! {
                        _ = logged.changed() => {}
                        _ = phase.changed() => {}
                    }
                }
                (None, _) => return Ok(None),
            }
        }
    }
}

/// Drops all but the last lines.
fn keep_last_lines(entries: &mut VecDeque<Entry>, lines: u64) {
    if lines == 0 {
        return entries.clear();
    }
    let mut left = lines;
    // A newline at the very end ends the last line and begins none.
    let mut last = true;
    for index in (0..entries.len()).rev() {
        let Some(entry) = entries.get_mut(index) else { continue };
        for offset in (0..entry.bytes.len()).rev() {
            if entry.bytes.get(offset) == Some(&b'\n') && !last {
                left -= 1;
            }
            if left == 0 {
                entry.bytes.drain(..=offset);
                entries.drain(..index);
                return;
            }
            last = false;
        }
    }
}

/// Docker's status phrase.
fn status(record: &Record, now: u64) -> String {
    let since = |then: u64| time::span(now.saturating_sub(then) / 1_000_000_000);
    match record.state.phase {
        Phase::Created => "Created".to_owned(),
        Phase::Running => format!("Up {}", since(record.state.started)),
        Phase::Exited => {
            format!("Exited ({}) {} ago", record.state.exit_code, since(record.state.finished))
        }
    }
}

impl Daemon {
    /// Lists containers, newest first.
    #[must_use]
    pub fn summaries(&self, all: bool) -> Vec<ContainerSummary> {
        let records = self.containers().into_iter().map(|container| container.record());
        records
            .filter(|record| all || record.state.phase == Phase::Running)
            .map(|record| ContainerSummary {
                command: record.arguments(),
                created: record.created,
                state: record.state.phase.word().to_owned(),
                status: status(&record, now()),
                id: record.id,
                name: record.name,
                image: record.image,
                labels: record.config.labels,
            })
            .collect()
    }

    /// Resource use of a container; zeros when it does not run.
    ///
    /// # Errors
    /// Those of the machine.
    pub async fn usage(&self, container: &Arc<Container>) -> Result<Use, DaemonError> {
        let record = container.record();
        let mut found = Use {
            id: record.id.clone(),
            name: record.name.clone(),
            tenant: record.config.tenant.clone(),
            ..Use::default()
        };
        let (Some(running), Some(machine)) = (container.running(), self.machine.running().await)
        else {
            return Ok(found);
        };
        match machine.compartments.call(&Request::Stat { id: running.compartment }).await? {
            Response::Stat(stat) => {
                found.cpu_nanoseconds = stat.cpu_nanoseconds;
                (found.memory, found.memory_peak, found.memory_limit) = stat.memory;
                // A personality that does not say is counted by its threads.
                let counted = tokio::time::timeout(PATIENCE, running.hub.ask(Question::TaskCount));
                found.threads = match counted.await {
                    Ok(Some(Answer::TaskCount(count))) => count,
                    _ => stat.threads.0,
                };
                Ok(found)
            }
            // It has ended in the meantime.
            Response::Refused(_) => Ok(found),
            _ => Err(ServiceError::UnexpectedAnswer.into()),
        }
    }

    /// Processes of a running container.
    ///
    /// # Errors
    /// [`DaemonError::NotRunning`] and [`DaemonError::Inside`].
    pub async fn processes(&self, container: &Arc<Container>) -> Result<ProcessTable, DaemonError> {
        let not_running = || DaemonError::NotRunning(container.record().name);
        let running = container.running().ok_or_else(not_running)?;
        match answered(running.hub.ask(Question::Processes).await)? {
            Answer::Processes(processes) => Ok(ProcessTable { processes }),
            _ => Err(DaemonError::UnexpectedMessage),
        }
    }

    /// Unsupported Linux features that a running container tried.
    ///
    /// # Errors
    /// [`DaemonError::NotRunning`] and [`DaemonError::Inside`].
    pub async fn gaps(
        &self,
        container: &Arc<Container>,
    ) -> Result<Vec<(String, u64)>, DaemonError> {
        let not_running = || DaemonError::NotRunning(container.record().name);
        let running = container.running().ok_or_else(not_running)?;
        match answered(running.hub.ask(Question::Gaps).await)? {
            Answer::Gaps(gaps) => Ok(gaps),
            _ => Err(DaemonError::UnexpectedMessage),
        }
    }

    /// Every capability a running container holds.
    ///
    /// # Errors
    /// [`DaemonError::NotRunning`] and those of the machine.
    pub async fn capabilities(
        &self,
        container: &Arc<Container>,
    ) -> Result<Vec<CapabilityRecord>, DaemonError> {
        let not_running = || DaemonError::NotRunning(container.record().name);
        let running = container.running().ok_or_else(not_running)?;
        let machine = self.machine.running().await.ok_or(MachineError::NotRunning)?;
        let mut all: Vec<CapabilityRecord> = Vec::new();
        loop {
            let from = all.last().map_or(0, |last| last.slot.saturating_add(1));
            let request = Request::Capabilities { id: running.compartment, from };
            match machine.compartments.call(&request).await? {
                Response::Capabilities(records) if records.is_empty() => return Ok(all),
                // Slots that do not go up would never end.
                Response::Capabilities(records)
                    if records.iter().all(|record| record.slot >= from) =>
                {
                    all.extend(records);
                }
                Response::Refused(refusal) => return Err(DaemonError::Refused(refusal)),
                _ => return Err(ServiceError::UnexpectedAnswer.into()),
            }
        }
    }

    /// Waits until a container does not run; gives its exit status.
    pub async fn wait(&self, container: &Arc<Container>) -> u8 {
        let mut phase = container.phase.subscribe();
        // The sender lives as long as the container.
        let _ = phase.wait_for(|phase| *phase != Phase::Running).await;
        container.record().state.exit_code
    }

    /// The number of containers that run.
    #[must_use]
    pub fn running_containers(&self) -> u32 {
        let running = lock(&self.containers).values().filter(|c| c.running().is_some()).count();
        u32::try_from(running).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(parts: &[&str], lines: u64, expected: &str) {
        let entry = |text: &&str| Entry { time: 0, stream: 1, bytes: text.as_bytes().to_vec() };
        let mut entries: VecDeque<_> = parts.iter().map(entry).collect();
        keep_last_lines(&mut entries, lines);
        let kept: Vec<u8> = entries.into_iter().flat_map(|entry| entry.bytes).collect();
        assert_eq!(String::from_utf8(kept).unwrap(), expected, "{parts:?} {lines}");
    }

    #[test]
    fn the_last_lines_are_kept_however_they_were_written() {
        check(&["a\nb\nc\n"], 2, "b\nc\n");
        check(&["a\nb\nc"], 2, "b\nc");
        check(&["a\n", "b", "c\n", "d\n"], 2, "bc\nd\n");
        check(&["a\nb", "c\n"], 1, "bc\n");
        check(&["a\nb\n"], 5, "a\nb\n");
        check(&["a\nb\n"], 0, "");
        check(&["a\nb"], 0, "");
        check(&["a", "b"], 1, "ab");
        check(&[], 3, "");
    }
}
