//! `mett cp`.

use crate::{
    client::Client,
    error::{CliError, Result},
};
use clap::Args;
use daemon::api::{FromDaemon, Request, ToDaemon};
use std::{
    io::{Read as _, Write as _},
    process::{Command, Stdio},
};

/// Bytes of an archive in one message.
const CHUNK: usize = 16 * 1024;

/// Copy files between a container and the host.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  mett cp web:/etc/hosts .\n  mett cp config.json web:/etc/\n  mett cp web:/var/log - > log.tar"
)]
pub(crate) struct Cp {
    /// CONTAINER:PATH, a path of the host, or - for a tar archive.
    source: String,
    /// CONTAINER:PATH, a path of the host, or - for a tar archive.
    target: String,
}

fn split(text: &str) -> Option<(&str, &str)> {
    text.split_once(':').filter(|(container, _)| !container.is_empty() && !container.contains('/'))
}

fn failed(what: &str) -> impl FnOnce(std::io::Error) -> CliError + '_ {
    move |cause| CliError::Io { what: what.to_owned(), cause }
}

impl Cp {
    pub(crate) fn run(self) -> Result<u8> {
        match (split(&self.source), split(&self.target)) {
            (Some((container, path)), None) => copy_out(container, path, &self.target),
            (None, Some((container, path))) => copy_in(&self.source, container, path),
            _ => Err(CliError::Usage("exactly one side must be CONTAINER:PATH".to_owned())),
        }
    }
}

fn copy_out(container: &str, path: &str, target: &str) -> Result<u8> {
    let mut client = Client::connect()?;
    client.request(Request::CopyOut { container: container.to_owned(), path: path.to_owned() })?;
    let mut archive = Vec::new();
    client.finish(|event| {
        if let FromDaemon::Archive(bytes) = event {
            archive.extend_from_slice(&bytes);
        }
        Ok(())
    })?;
    if target == "-" {
        std::io::stdout().write_all(&archive).map_err(failed("standard output"))?;
        return Ok(0);
    }
    let mut child = Command::new("tar")
        .args(["-x", "-f", "-", "-C", target])
        .stdin(Stdio::piped())
        .spawn()
        .map_err(failed("tar"))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(&archive).map_err(failed("tar"))?;
    }
    let status = child.wait().map_err(failed("tar"))?;
    Ok(if status.success() { 0 } else { 1 })
}

fn copy_in(source: &str, container: &str, path: &str) -> Result<u8> {
    let mut archive = Vec::new();
    if source == "-" {
        std::io::stdin().read_to_end(&mut archive).map_err(failed("standard input"))?;
    } else {
        let source = std::path::Path::new(source).canonicalize().map_err(failed(source))?;
        let directory = source.parent().unwrap_or(&source);
        let name = source.file_name().unwrap_or_default();
        let output = Command::new("tar")
            .args(["-c", "-f", "-", "-C"])
            .arg(directory)
            .arg(name)
            .output()
            .map_err(failed("tar"))?;
        if !output.status.success() {
            return Err(CliError::Usage(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        archive = output.stdout;
    }
    let mut client = Client::connect()?;
    client.request(Request::CopyIn { container: container.to_owned(), path: path.to_owned() })?;
    for chunk in archive.chunks(CHUNK) {
        client.send(&ToDaemon::Archive(chunk.to_vec()))?;
    }
    client.send(&ToDaemon::Archive(Vec::new()))?;
    client.finish(|_| Ok(()))?;
    Ok(0)
}
