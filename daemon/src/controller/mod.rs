//! The daemon's verbs, independent of who asks: one file per group.
//!
//! Owns: the registry of containers and the order in which their parts are changed. Must not know: sockets, options, how replies look.
//! Invariants: names are unique; a container in phase Running has a hub and a compartment; whatever ends a compartment, its container's
//! record says so before any client is told. Lock order: `creation`, a container's `lifecycle`, the tenants, the registry.

mod archive;
mod create;
mod exec;
mod lifecycle;
mod machine;
mod query;
mod supervise;
mod tenant;

pub use archive::{ArchiveIn, ArchiveOut};
pub use exec::Attachment;
pub use lifecycle::StartClient;
pub use query::Logs;
pub use supervise::code as exit_code;

use crate::{
    container::Container,
    error::DaemonError,
    home::Home,
    image::{ImageError, ImageStore},
    machine::{Died, MachineManager},
};
use contract::compartments::Death;
use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::{mpsc, oneshot};

/// The daemon.
#[derive(Debug)]
pub struct Daemon {
    home: Home,
    images: ImageStore,
    /// Held while the set of images changes.
    imports: tokio::sync::Mutex<()>,
    tenants: tenant::Tenants,
    /// Held while a container gets its name.
    creation: tokio::sync::Mutex<()>,
    containers: Mutex<HashMap<String, Arc<Container>>>,
    /// Who waits for the death of a compartment.
    deaths: Mutex<HashMap<u64, oneshot::Sender<Death>>>,
    next_compartment: AtomicU64,
    /// The machine.
    pub machine: MachineManager,
}

/// Why the daemon cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The images.
    #[error(transparent)]
    Images(#[from] ImageError),
    /// The containers or the tenants.
    #[error("the containers' records cannot be read: {0}")]
    Containers(#[from] io::Error),
}

impl Daemon {
    /// A daemon for a prepared home. Only one at a time, which the caller's lock ensures.
    ///
    /// # Errors
    /// Every variant of [`BeginError`].
    pub fn begin(home: Home) -> Result<Arc<Self>, BeginError> {
        let (died, mut dead) = mpsc::unbounded_channel::<Died>();
        let (lost, mut lost_machines) = mpsc::unbounded_channel::<String>();
        let images = ImageStore::open(&home.join("images"))?;
        let containers = load(&home.join("containers"))?;
        let tenants = tenant::Tenants::load(&home)?;
        let machine = MachineManager::new(&home, died, lost);
        let daemon = Arc::new(Self {
            images,
            tenants,
            imports: tokio::sync::Mutex::new(()),
            creation: tokio::sync::Mutex::new(()),
            containers: Mutex::new(containers),
            deaths: Mutex::default(),
            next_compartment: AtomicU64::new(1),
            machine,
            home,
        });
        let weak = Arc::downgrade(&daemon);
        tokio::spawn(async move {
            while let Some((id, death)) = dead.recv().await {
                let Some(daemon) = weak.upgrade() else { return };
                let waiting = lock(&daemon.deaths).remove(&id);
                if let Some(waiting) = waiting {
                    // Whoever supervised the compartment has ended already.
                    let _ = waiting.send(death);
                }
            }
        });
        let weak = Arc::downgrade(&daemon);
        tokio::spawn(async move {
            while let Some(reason) = lost_machines.recv().await {
                tracing::warn!(reason, "the connection with the machine has ended");
                let Some(daemon) = weak.upgrade() else { return };
                daemon.machine.clear().await;
            }
        });
        Ok(daemon)
    }

    /// The home.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// All containers, newest first.
    #[must_use]
    pub fn containers(&self) -> Vec<Arc<Container>> {
        let mut all: Vec<_> = lock(&self.containers).values().cloned().collect();
        all.sort_by_key(|container| std::cmp::Reverse(container.record().created));
        all
    }

    /// Finds a container by name, identity or the beginning of its identity.
    ///
    /// # Errors
    /// [`DaemonError::UnknownContainer`] and [`DaemonError::AmbiguousContainer`].
    pub fn find(&self, text: &str) -> Result<Arc<Container>, DaemonError> {
        let all = self.containers();
        let name = text.strip_prefix('/').unwrap_or(text);
        if let Some(named) = all.iter().find(|c| c.id == text || c.record().name == name) {
            return Ok(Arc::clone(named));
        }
        let mut matching = all.iter().filter(|c| !text.is_empty() && c.id.starts_with(text));
        match (matching.next(), matching.next()) {
            (Some(container), None) => Ok(Arc::clone(container)),
            (Some(_), Some(_)) => Err(DaemonError::AmbiguousContainer(text.to_owned())),
            (None, _) => Err(DaemonError::UnknownContainer(text.to_owned())),
        }
    }

    fn containers_path(&self) -> PathBuf {
        self.home.join("containers")
    }

    fn new_compartment(&self) -> u64 {
        self.next_compartment.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether the daemon has nothing to do and would not be missed.
    pub async fn is_idle(&self) -> bool {
        self.machine.running().await.is_none()
    }
}

/// Reads the records of all containers. Those that should have been removed when they ended are removed now.
fn load(directory: &std::path::Path) -> io::Result<HashMap<String, Arc<Container>>> {
    let mut containers = HashMap::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        match Container::load(&path) {
            Ok(container) if container.record().config.auto_remove => container.remove_files()?,
            Ok(container) => {
                containers.insert(container.id.clone(), Arc::new(container));
            }
            Err(error) => {
                // A container that was being made when the daemon was killed has no record.
                tracing::warn!(%error, path = %path.display(), "removes what is no container");
                std::fs::remove_dir_all(&path)?;
            }
        }
    }
    Ok(containers)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
