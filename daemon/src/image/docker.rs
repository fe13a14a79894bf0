//! Docker archives (`docker save`): `manifest.json` names a configuration and the layers' files.

use super::{
    config::{self, ArchivedImage},
    digest::Digest,
    error::ImageError,
    files::Files,
    source::{Found, Layer, OpenLayer},
    store,
};
use std::rc::Rc;

const FORM: &str = "a docker archive";

/// Finds an image in an archive.
pub(crate) fn find(files: Files, tag: Option<&str>) -> Result<Found, ImageError> {
    let not_an_image = |reason: String| ImageError::NotAnImage {
        path: files.path().to_owned(),
        form: FORM,
        reason,
    };
    let manifest = files
        .read("manifest.json")?
        .ok_or_else(|| not_an_image("it has no manifest.json".to_owned()))?;
    let images: Vec<ArchivedImage> = config::parse(&manifest, "manifest.json")?;
    let image = choose(&files, images, tag)?;
    let config = files
        .read(&image.config)?
        .ok_or_else(|| not_an_image(format!("its configuration {} is missing", image.config)))?;
    verify_config(&image.config, &config)?;
    let files = Rc::new(files);
    let layers = image.layers.into_iter().enumerate().map(|(number, name)| {
        let what = format!("layer {} ({name})", number + 1);
        let files = Rc::clone(&files);
        let open: OpenLayer = Box::new(move || {
            files.open(&name)?.ok_or_else(|| ImageError::MissingBlob(name.clone()))
        });
        Layer { what, digest: None, size: None, open }
    });
    Ok(Found { config, layers: layers.collect(), names: image.repo_tags })
}

fn choose(
    files: &Files,
    images: Vec<ArchivedImage>,
    tag: Option<&str>,
) -> Result<ArchivedImage, ImageError> {
    let path = files.path().to_owned();
    let present: Vec<_> = images.iter().flat_map(|image| image.repo_tags.clone()).collect();
    let present = if present.is_empty() { "none".to_owned() } else { present.join(", ") };
    let mut images = images.into_iter();
    match tag {
        Some(tag) => {
            let wanted = store::normal_name(tag).ok();
            let fits = |name: &String| {
                wanted.is_some() && store::normal_name(name).ok() == wanted
                    || name.rsplit_once(':').is_some_and(|(_, last)| last == tag)
            };
            images.find(|image| image.repo_tags.iter().any(fits)).ok_or(ImageError::UnknownTag {
                path,
                tag: tag.to_owned(),
                present,
            })
        }
        None => match (images.next(), images.next()) {
            (Some(image), None) => Ok(image),
            (Some(_), Some(_)) => Err(ImageError::TagNeeded { path, present }),
            (None, _) => Err(ImageError::NotAnImage {
                path,
                form: FORM,
                reason: "its manifest.json lists no image".to_owned(),
            }),
        },
    }
}

/// The configuration's file is named by its SHA-256, as `HEX.json` or `blobs/sha256/HEX`.
fn verify_config(name: &str, bytes: &[u8]) -> Result<(), ImageError> {
    let stem = name.rsplit('/').next().unwrap_or(name);
    let stem = stem.strip_suffix(".json").unwrap_or(stem);
    let Ok(expected) = format!("sha256:{stem}").parse::<Digest>() else { return Ok(()) };
    let actual = Digest::of(bytes);
    if actual == expected {
        return Ok(());
    }
    let what = "the image's configuration".to_owned();
    Err(ImageError::WrongDigest { what, expected, actual })
}
