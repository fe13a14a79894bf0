//! Images and new containers.

use super::{Daemon, lock};
use crate::{
    api::{CreateOptions, ImageSummary, Progress},
    container::{
        Container, hub, names,
        record::{Record, State},
        spec,
    },
    error::DaemonError,
    home,
    image::{self, ImageError, ImageRecord, Limits, Source, digest::hex, store},
};
use std::{path::Path, sync::Arc};

/// Told of progress; false ends the work.
pub(super) type Report<'a> = dyn FnMut(Progress) -> bool + Send + 'a;

impl Daemon {
    /// Imports an image.
    ///
    /// # Errors
    /// Those of imports.
    pub async fn import(
        self: &Arc<Self>,
        source: Source,
        name: Option<String>,
        mut report: Box<Report<'static>>,
    ) -> Result<ImageRecord, DaemonError> {
        let _imports = self.imports.lock().await;
        let daemon = Arc::clone(self);
        let work = move || {
            let mut last = None;
            let mut tell = |progress: &image::Progress| {
                // Every 64 KiB is often enough.
                let step = (progress.layer, progress.done >> 16);
                if last == Some(step) {
                    return Ok(());
                }
                last = Some(step);
                let what = format!("importing layer {}/{}", progress.layer, progress.layers);
                let told = Progress { what, done: progress.done, total: progress.total };
                if report(told) { Ok(()) } else { Err(ImageError::Interrupted) }
            };
            image::import(&daemon.images, &source, name.as_deref(), Limits::default(), &mut tell)
        };
        let imported = tokio::task::spawn_blocking(work).await;
        Ok(imported.map_err(std::io::Error::other)??)
    }

    /// The image a user named: imported already, or imported now.
    async fn image(
        self: &Arc<Self>,
        text: &str,
        directory: &Path,
        report: Box<Report<'static>>,
    ) -> Result<ImageRecord, DaemonError> {
        if let Some(source) = Source::parse(text, directory) {
            return self.import(source, None, report).await;
        }
        match self.images.find(text) {
            Err(ImageError::UnknownImage(_)) if store::normal_name(text).is_err() => {
                Err(ImageError::NotASource(text.to_owned()).into())
            }
            other => Ok(other?),
        }
    }

    /// All images.
    ///
    /// # Errors
    /// Those of the store.
    pub fn images(&self) -> Result<Vec<ImageSummary>, DaemonError> {
        let records = self.images.list()?;
        Ok(records
            .into_iter()
            .map(|record| ImageSummary {
                size: record.size(),
                id: record.id.to_string(),
                names: record.names,
                imported: record.imported,
            })
            .collect())
    }

    /// An image's record.
    ///
    /// # Errors
    /// Those of the store.
    pub fn find_image(&self, text: &str) -> Result<ImageRecord, DaemonError> {
        Ok(self.images.find(text)?)
    }

    /// Removes an image, or one of its names; says what is gone.
    ///
    /// # Errors
    /// Those of the store, and [`ImageError::InUse`].
    pub async fn remove_image(&self, text: &str) -> Result<Vec<String>, DaemonError> {
        let _imports = self.imports.lock().await;
        let record = self.images.find(text)?;
        let user = self.containers().into_iter().find(|c| c.record().image_id == record.id);
        let one_of_many = record.names.len() > 1 && !record.id.hex().starts_with(text);
        if let Some(container) = user.filter(|_| !one_of_many) {
            let container = container.record().name;
            return Err(ImageError::InUse { image: text.to_owned(), container }.into());
        }
        let removed = self.images.remove(text)?;
        if let (Some(machine), Some(_)) = (self.machine.running().await, &removed.deleted) {
            for layer in &record.layers {
                let used = self.images.blob_path(&layer.blob).exists();
                if let Some(digest) = layer.blob.sha256().filter(|_| !used) {
                    machine.forget(digest).await?;
                }
            }
        }
        let untagged = removed.untagged.iter().map(|name| format!("Untagged: {name}"));
        let deleted = removed.deleted.iter().map(|id| format!("Deleted: {id}"));
        Ok(untagged.chain(deleted).collect())
    }

    /// Removes the images that no container uses: those without a name, or all. What was removed.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn prune_images(&self, all: bool) -> Result<Vec<String>, DaemonError> {
        let mut removed = Vec::new();
        for image in self.images()?.into_iter().filter(|image| all || image.names.is_empty()) {
            match self.remove_image(&image.id).await {
                Ok(names) => removed.extend(names),
                // In use, or just removed by somebody else.
                Err(DaemonError::Image(ImageError::InUse { .. } | ImageError::UnknownImage(_))) => {
                }
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }

    /// Makes a container.
    ///
    /// # Errors
    /// Those of images and configurations, [`DaemonError::NameTaken`] and [`DaemonError::BadName`].
    pub async fn create(
        self: &Arc<Self>,
        options: &CreateOptions,
        report: Box<Report<'static>>,
    ) -> Result<Arc<Container>, DaemonError> {
        // Checked before the image is imported, which may take long.
        if let Some(name) = &options.name {
            self.check_name(name)?;
        }
        self.check_tenant(options.tenant.as_deref()).await?;
        let image = self.image(&options.image, &options.directory, report).await?;
        let id = hex(&home::random::<32>()?);
        let config = spec::configure(options, &image.config, &id)?;
        let _creation = self.creation.lock().await;
        let name = match &options.name {
            Some(name) => {
                self.check_name(name)?;
                name.clone()
            }
            None => names::make(|name| self.find(name).is_ok()),
        };
        let record = Record {
            id: id.clone(),
            name,
            created: hub::now(),
            image: options.image.clone(),
            image_id: image.id,
            layers: image.layers.into_iter().map(|layer| layer.blob).collect(),
            config,
            state: State::default(),
        };
        let container = Arc::new(Container::create(&self.containers_path(), record)?);
        lock(&self.containers).insert(id, Arc::clone(&container));
        Ok(container)
    }

    fn check_name(&self, name: &str) -> Result<(), DaemonError> {
        if !names::is_valid(name) {
            return Err(DaemonError::BadName(name.to_owned()));
        }
        match self.containers().into_iter().find(|c| c.record().name == name) {
            None => Ok(()),
            Some(container) => {
                let id = container.record().short_id().to_owned();
                Err(DaemonError::NameTaken { name: name.to_owned(), id })
            }
        }
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// [`DaemonError::NameTaken`], [`DaemonError::BadName`] and [`DaemonError::State`].
    pub async fn rename(&self, container: &Container, name: &str) -> Result<(), DaemonError> {
        let _creation = self.creation.lock().await;
        self.check_name(name)?;
        Ok(container.update(|record| name.clone_into(&mut record.name))?)
    }
}
