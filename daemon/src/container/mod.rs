//! Containers: what is known of them, what they say, and how the daemon talks to those that run.

pub mod hub;
pub mod inspect;
pub mod log;
pub mod names;
pub mod record;
pub mod spec;
mod window;

use crate::home;
use hub::Hub;
use record::{Phase, Record};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// A container.
#[derive(Debug)]
pub struct Container {
    /// Identity.
    pub id: String,
    directory: PathBuf,
    record: Mutex<Record>,
    running: Mutex<Option<Running>>,
    /// Held while the container is started or removed.
    pub lifecycle: tokio::sync::Mutex<()>,
    /// Tells of every change of phase. Sent while the record is locked, so that the last that is told is the last that was written.
    pub phase: watch::Sender<Phase>,
}

/// What a running container has.
#[derive(Clone, Debug)]
pub struct Running {
    /// Identity of its compartment.
    pub compartment: u64,
    /// The way to it.
    pub hub: Hub,
}

impl Container {
    /// A new container, written down.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(containers: &Path, record: Record) -> io::Result<Self> {
        let directory = containers.join(&record.id);
        home::make_private_directory(&directory)?;
        let container = Self::with(directory, record);
        container.save(&container.record())?;
        Ok(container)
    }

    /// A container that was written down; one that ran when the daemon was killed has ended.
    ///
    /// # Errors
    /// What the file system says, and malformed records.
    pub fn load(directory: &Path) -> io::Result<Self> {
        let mut record: Record = home::read_json(&directory.join("record.json"))?;
        let ran = record.state.phase == Phase::Running;
        if ran {
            record.state.phase = Phase::Exited;
            record.state.exit_code = 137;
            record.state.finished = hub::now();
            record.state.error = "the daemon was killed while the container ran".to_owned();
        }
        let container = Self::with(directory.to_owned(), record);
        if ran {
            container.save(&container.record())?;
        }
        Ok(container)
    }

    fn with(directory: PathBuf, record: Record) -> Self {
        Self {
            id: record.id.clone(),
            directory,
            phase: watch::Sender::new(record.state.phase),
            record: Mutex::new(record),
            running: Mutex::new(None),
            lifecycle: tokio::sync::Mutex::new(()),
        }
    }

    fn save(&self, record: &Record) -> io::Result<()> {
        home::write_json(&self.directory.join("record.json"), record)
    }

    /// Where its files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A copy of the record.
    #[must_use]
    pub fn record(&self) -> Record {
        lock(&self.record).clone()
    }

    /// Changes the record, on disk first.
    ///
    /// # Errors
    /// What the file system says; nothing has changed then.
    pub fn update(&self, change: impl FnOnce(&mut Record)) -> io::Result<()> {
        let mut current = lock(&self.record);
        let mut record = current.clone();
        change(&mut record);
        self.save(&record)?;
        self.phase.send_replace(record.state.phase);
        *current = record;
        Ok(())
    }

    /// Changes the record even if it cannot be written: what has happened has happened.
    pub fn note(&self, change: impl Fn(&mut Record)) {
        if let Err(error) = self.update(&change) {
            tracing::error!(%error, container = self.id, "a record cannot be written");
            let mut current = lock(&self.record);
            change(&mut current);
            self.phase.send_replace(current.state.phase);
        }
    }

    /// Changes the record in memory only: the container has been removed.
    pub fn forget(&self, change: impl FnOnce(&mut Record)) {
        let mut current = lock(&self.record);
        change(&mut current);
        self.phase.send_replace(current.state.phase);
    }

    /// What it has while it runs.
    #[must_use]
    pub fn running(&self) -> Option<Running> {
        lock(&self.running).clone()
    }

    /// Sets what it has while it runs.
    pub fn set_running(&self, running: Option<Running>) {
        *lock(&self.running) = running;
    }

    /// Removes its files.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove_files(&self) -> io::Result<()> {
        std::fs::remove_dir_all(&self.directory)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
