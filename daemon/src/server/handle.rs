//! From a request to the daemon's verbs and back.

use super::client::Conversation;
use crate::{
    api::{AttachOptions, FromDaemon, Progress, Reply, Request, ToDaemon, Use},
    container::inspect,
    controller::{Daemon, StartClient},
    error::DaemonError,
    image::{ImageError, Source},
};
use serde_json::{Value, json};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// Time between two readings of statistics.
const STATISTICS_INTERVAL: Duration = Duration::from_secs(1);

type Result<T> = std::result::Result<T, DaemonError>;

/// Carries out one request.
pub(super) async fn handle(
    daemon: &Arc<Daemon>,
    client: &mut Conversation,
    request: Request,
) -> Result<Reply> {
    match request {
        Request::Version => Ok(Reply::Document(version(daemon).await.to_string())),
        Request::Import { source, directory, name } => {
            import(daemon, client, &source, &directory, name).await
        }
        Request::Images => daemon.images().map(Reply::Images),
        Request::RemoveImage(image) => daemon.remove_image(&image).await.map(Reply::Names),
        Request::PruneImages { all } => daemon.prune_images(all).await.map(Reply::Names),
        Request::InspectImages(images) => {
            let records = images.iter().map(|image| daemon.find_image(image));
            let records = records.collect::<Result<Vec<_>>>()?;
            document(records.iter().map(inspect::image).collect())
        }
        Request::Create(options) => {
            let outgoing = client.outgoing.clone();
            let report = move |progress| outgoing.progress(progress);
            let container = daemon.create(&options, Box::new(report)).await?;
            if options.starts_next && options.auto_remove {
                client.unstarted = Some(Arc::clone(&container));
            }
            Ok(Reply::Name(container.id.clone()))
        }
        Request::Start { container, attach } => {
            client.unstarted = None;
            start(daemon, client, &container, attach).await
        }
        Request::Attach { container, options } => {
            let container = daemon.find(&container)?;
            let attachment = daemon.attach(&container)?;
            client.stream(Some(&container), attachment, options).await
        }
        Request::Exec { container, options } => {
            let container = daemon.find(&container)?;
            let attachment = daemon.exec(&container, &options).await?;
            client.exec(attachment, &options).await
        }
        Request::Logs { container, options } => {
            let container = daemon.find(&container)?;
            client.logs(container, options).await
        }
        Request::MachineLogs { follow, tail } => {
            client.machine_logs(&daemon.machine.log, follow, tail).await
        }
        Request::CopyOut { container, path } => {
            let container = daemon.find(&container)?;
            client.copy_out(daemon.copy_out(&container, &path)?).await
        }
        Request::CopyIn { container, path } => {
            let container = daemon.find(&container)?;
            client.copy_in(daemon.copy_in(&container, &path).await?).await
        }
        Request::Stats { containers, stream } => stats(daemon, client, &containers, stream).await,
        Request::Wait(container) => {
            let container = daemon.find(&container)?;
            tokio::select! {
                code = daemon.wait(&container) => Ok(Reply::Status(code)),
                () = client.outgoing.gone() => Ok(Reply::Nothing),
            }
        }
        Request::MachineStart(settings) => {
            let outgoing = client.outgoing.clone();
            let mut report = move |progress| outgoing.progress(progress);
            daemon.start_machine(settings, &mut report).await.map(|()| Reply::Nothing)
        }
        Request::Shutdown => {
            client.ends_daemon = true;
            Ok(Reply::Nothing)
        }
        other => handle_at_once(daemon, other).await,
    }
}

/// Carries out a request that does not stream.
async fn handle_at_once(daemon: &Arc<Daemon>, request: Request) -> Result<Reply> {
    let nothing = |()| Reply::Nothing;
    match request {
        Request::Containers { all } => Ok(Reply::Containers(daemon.summaries(all))),
        Request::Stop { container, timeout, restart } => {
            let container = daemon.find(&container)?;
            daemon.stop(&container, timeout).await?;
            if restart {
                daemon.start(&container, StartClient::default(), &mut |_| true).await?;
            }
            Ok(Reply::Nothing)
        }
        Request::Kill { container, signal } => {
            daemon.kill(&daemon.find(&container)?, signal).await.map(nothing)
        }
        Request::Remove { container, force } => {
            daemon.remove(&daemon.find(&container)?, force).await.map(nothing)
        }
        Request::Rename { container, name } => {
            daemon.rename(&*daemon.find(&container)?, &name).await.map(nothing)
        }
        Request::Prune => daemon.prune().await.map(Reply::Names),
        Request::PathStat { container, path } => {
            let stat = daemon.path_stat(&daemon.find(&container)?, &path).await?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            document(json!({
                "name": text(&stat.name), "size": stat.size, "mode": stat.mode,
                "linkTarget": text(&stat.link_target),
            }))
        }
        Request::Inspect(names) => {
            let found = names.iter().map(|name| {
                let container = daemon.find(name).map(|c| inspect::container(&c.record()));
                // As docker does, a name that is no container may be an image.
                container.or_else(|error| {
                    daemon.find_image(name).map(|image| inspect::image(&image)).map_err(|_| error)
                })
            });
            document(Value::Array(found.collect::<Result<_>>()?))
        }
        Request::Capabilities(container) => {
            let records = daemon.capabilities(&daemon.find(&container)?).await?;
            document(json!(records))
        }
        Request::Gaps(container) => {
            let gaps = daemon.gaps(&daemon.find(&container)?).await?;
            let gap = |(what, count)| json!({ "gap": what, "count": count });
            document(gaps.into_iter().map(gap).collect())
        }
        Request::Top(container) => {
            daemon.processes(&daemon.find(&container)?).await.map(Reply::Processes)
        }
        Request::Update { container, budget } => {
            daemon.update(&daemon.find(&container)?, budget).await.map(nothing)
        }
        Request::CreateTenant { name, budget } => {
            daemon.create_tenant(&name, &budget).await.map(nothing)
        }
        Request::Tenants(names) => daemon.tenants(&names).await.map(Reply::Tenants),
        Request::UpdateTenant { name, budget } => {
            daemon.update_tenant(&name, &budget).await.map(nothing)
        }
        Request::RemoveTenant { name, force } => {
            daemon.remove_tenant(&name, force).await.map(nothing)
        }
        Request::MachineStop { force } => {
            let stopped = daemon.stop_machine(force).await?;
            Ok(Reply::Status(u8::from(!stopped)))
        }
        Request::MachineStatus => daemon.machine_status().await.map(Reply::Machine),
        Request::SystemCapabilities => document(json!(daemon.authority().await?)),
        Request::Diagnose => Ok(Reply::Files(daemon.diagnose().await)),
        // Everything else is taken by `handle`.
        _ => Err(DaemonError::UnexpectedMessage),
    }
}

fn document(value: Value) -> Result<Reply> {
    Ok(Reply::Document(value.to_string()))
}

async fn version(daemon: &Daemon) -> Value {
    let machine = daemon.machine_status().await.ok().filter(|status| status.running);
    json!({
        "daemon": crate::api::PROGRAM_VERSION,
        "api": crate::api::VERSION,
        "contract": contract::VERSION,
        "machine": machine.map(|status| status.version),
    })
}

async fn import(
    daemon: &Arc<Daemon>,
    client: &Conversation,
    source: &str,
    directory: &Path,
    name: Option<String>,
) -> Result<Reply> {
    let parsed = Source::parse(source, directory);
    let source = parsed.ok_or_else(|| ImageError::NotASource(source.to_owned()))?;
    let outgoing = client.outgoing.clone();
    let report = move |progress| outgoing.progress(progress);
    let record = daemon.import(source, name, Box::new(report)).await?;
    let id = record.id.to_string();
    Ok(Reply::Name(record.names.into_iter().next().unwrap_or(id)))
}

async fn start(
    daemon: &Arc<Daemon>,
    client: &mut Conversation,
    container: &str,
    attach: Option<AttachOptions>,
) -> Result<Reply> {
    let container = daemon.find(container)?;
    let outgoing = client.outgoing.clone();
    let mut report = |progress: Progress| outgoing.progress(progress);
    let Some(options) = attach else {
        daemon.start(&container, StartClient::default(), &mut report).await?;
        return Ok(Reply::Nothing);
    };
    let (own, events) = mpsc::unbounded_channel();
    let starting = StartClient { events: Some(own.clone()), size: options.size };
    daemon.start(&container, starting, &mut report).await?;
    if client.outgoing.is_gone() {
        // Nobody will ever see what this container does.
        tracing::info!(container = container.id, "the client left while its container started");
        daemon.destroy(&container).await?;
        return Ok(Reply::Nothing);
    }
    client.stream_started(&container, events, own, options).await
}

/// Readings of resource use, with the share of the CPU between two of them.
async fn stats(
    daemon: &Arc<Daemon>,
    client: &mut Conversation,
    names: &[String],
    stream: bool,
) -> Result<Reply> {
    let mut before: Vec<Use> = Vec::new();
    let mut read = tokio::time::Instant::now();
    for round in 0u64.. {
        let containers = if names.is_empty() {
            daemon.containers().into_iter().filter(|c| c.running().is_some()).collect()
        } else {
            names.iter().map(|name| daemon.find(name)).collect::<Result<Vec<_>>>()?
        };
        let elapsed = u64::try_from(read.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1);
        read = tokio::time::Instant::now();
        let mut now = Vec::new();
        for container in containers {
            let mut reading = daemon.usage(&container).await?;
            let earlier = before.iter().find(|earlier| earlier.id == reading.id);
            let earlier = earlier.map_or(reading.cpu_nanoseconds, |e| e.cpu_nanoseconds);
            let used = u128::from(reading.cpu_nanoseconds.saturating_sub(earlier));
            let share = used * 10_000 / u128::from(elapsed);
            reading.cpu_share = u64::try_from(share).unwrap_or(u64::MAX);
            now.push(reading);
        }
        before.clone_from(&now);
        if round > 0 && !stream {
            return Ok(Reply::Use(now));
        }
        if stream && !client.item(Reply::Use(now)).await? {
            return Ok(Reply::Nothing);
        }
        tokio::select! {
            () = tokio::time::sleep(STATISTICS_INTERVAL) => {}
            message = client.incoming.recv() => {
                if matches!(message, None | Some(ToDaemon::Detach)) {
                    return Ok(Reply::Nothing);
                }
            }
        }
    }
    Ok(Reply::Nothing)
}

/// A message about output, for those who only read.
pub(super) fn output(stream: u8, time: u64, bytes: Vec<u8>) -> FromDaemon {
    FromDaemon::Output { stream, time, bytes }
}
