//! `mett image`.

use super::{Format, confirmed, each};
use crate::{client::ask, error::Result, output};
use clap::{Args, Subcommand};
use daemon::api::{Reply, Request};

#[derive(Subcommand, Debug)]
pub(crate) enum Image {
    Import(Import),
    Ls(Ls),
    Rm(Rm),
    Prune(Prune),
    Inspect(Inspect),
}

/// Import an image.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  mett image import oci-archive:busybox.tar busybox:latest")]
pub(crate) struct Import {
    /// oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:TAG] or rootfs:DIR.
    source: String,
    /// Name to give it.
    name: Option<String>,
}

/// List images.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  mett image ls\n  mett image ls --format json")]
pub(crate) struct Ls {
    /// Form of the output.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Remove images.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  mett image rm busybox")]
pub(crate) struct Rm {
    /// The images.
    #[arg(required = true)]
    images: Vec<String>,
}

/// Remove images without a name that no container uses.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  mett image prune\n  mett image prune --all --force")]
pub(crate) struct Prune {
    /// Also those with names.
    #[arg(short, long)]
    all: bool,
    /// Do not ask.
    #[arg(short, long)]
    force: bool,
}

/// Describe images as docker does.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  mett image inspect busybox")]
pub(crate) struct Inspect {
    /// The images.
    #[arg(required = true)]
    images: Vec<String>,
}

impl Image {
    pub(crate) fn run(self) -> Result<u8> {
        match self {
            Self::Import(import) => import.run(),
            Self::Ls(ls) => ls.run(),
            Self::Rm(rm) => each(&rm.images, |image| {
                ask(Request::RemoveImage(image.to_owned()))?;
                say!("{image}");
                Ok(())
            }),
            Self::Prune(prune) => prune.run(),
            Self::Inspect(inspect) => {
                if let Reply::Document(text) = ask(Request::InspectImages(inspect.images))? {
                    output::document(&text);
                }
                Ok(0)
            }
        }
    }
}

impl Import {
    fn run(self) -> Result<u8> {
        let directory = std::env::current_dir().unwrap_or_default();
        if let Reply::Name(id) =
            ask(Request::Import { source: self.source, directory, name: self.name })?
        {
            say!("{id}");
        }
        Ok(0)
    }
}

impl Prune {
    fn run(self) -> Result<u8> {
        let which = if self.all { "all images" } else { "all images without a name" };
        if !self.force && !confirmed(&format!("{which} that no container uses"))? {
            return Ok(1);
        }
        if let Reply::Names(names) = ask(Request::PruneImages { all: self.all })? {
            names.iter().for_each(|name| say!("{name}"));
        }
        Ok(0)
    }
}

impl Ls {
    fn run(self) -> Result<u8> {
        let Reply::Images(images) = ask(Request::Images)? else { return Ok(1) };
        if self.format == Format::Json {
            let list = images.iter().map(|i| serde_json::json!({"Id": i.id, "Names": i.names, "Imported": i.imported, "Size": i.size}));
            output::json(list);
            return Ok(0);
        }
        let rows: Vec<Vec<String>> = images
            .iter()
            .map(|image| {
                vec![
                    image.names.join(", "),
                    image.id.trim_start_matches("sha256:").chars().take(12).collect(),
                    output::ago(image.imported * 1_000_000_000),
                    output::bytes(image.size),
                ]
            })
            .collect();
        output::table(&["NAME", "IMAGE ID", "IMPORTED", "SIZE"], &rows);
        Ok(0)
    }
}
