//! Describes containers and images as JSON with docker's keys.

use super::record::{Phase, Record};
use crate::{image::ImageRecord, signal, time};
use serde_json::{Map, Value, json};

/// A container, as `docker inspect` describes one.
#[must_use]
pub fn container(record: &Record) -> Value {
    let (config, state) = (&record.config, &record.state);
    let arguments = record.arguments();
    let labels: Map<String, Value> =
        config.labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let ulimits = config.ulimits.iter();
    let ulimits: Vec<_> = ulimits
        .map(|limit| json!({ "Name": limit.name, "Soft": limit.soft, "Hard": limit.hard }))
        .collect();
    let tmpfs: Map<String, Value> =
        config.tmpfs.iter().map(|mount| (mount.path.clone(), json!(""))).collect();
    let volumes: Map<String, Value> =
        config.volumes.iter().map(|path| (path.clone(), json!({}))).collect();
    let nano_cpus = config.budget.cpu_millis.unwrap_or_default().saturating_mul(1_000_000);
    json!({
        "Id": record.id,
        "Created": time::rfc3339(record.created),
        "Path": arguments.first(),
        "Args": arguments.get(1..).unwrap_or_default(),
        "State": {
            "Status": state.phase.word(),
            "Running": state.phase == Phase::Running,
            "Paused": false,
            "Restarting": false,
            "OOMKilled": state.out_of_memory,
            "Dead": false,
            "Pid": state.pid,
            "ExitCode": state.exit_code,
            "Error": state.error,
            "StartedAt": time::rfc3339(state.started),
            "FinishedAt": time::rfc3339(state.finished),
        },
        "Image": record.image_id,
        "Name": format!("/{}", record.name),
        "RestartCount": 0,
        "Platform": "linux",
        "HostConfig": {
            "AutoRemove": config.auto_remove,
            "Memory": config.budget.memory.unwrap_or_default(),
            "NanoCpus": nano_cpus,
            "CpuShares": config.budget.cpu_weight.map_or(0, shares),
            "CpusetCpus": config.budget.cpu_set.map(cpu_list).unwrap_or_default(),
            "PidsLimit": config.budget.threads,
            "Tenant": config.tenant,
            "Ulimits": ulimits,
            "ReadonlyRootfs": config.read_only,
            "Tmpfs": tmpfs,
            "Init": config.init,
            "NetworkMode": "none",
        },
        "Mounts": [],
        "Config": {
            "Hostname": config.hostname,
            "User": config.user,
            "Tty": config.terminal,
            "OpenStdin": config.interactive,
            "Env": config.environment,
            "Entrypoint": config.entrypoint,
            "Cmd": config.command,
            "Image": record.image,
            "WorkingDir": config.working_directory,
            "Volumes": volumes,
            "Labels": labels,
            "StopSignal": signal::name(config.stop_signal),
            "StopTimeout": config.stop_timeout,
        },
    })
}

/// An image, as `docker image inspect` describes one.
#[must_use]
pub fn image(record: &ImageRecord) -> Value {
    let diff_ids: Vec<_> = record.layers.iter().map(|layer| &layer.diff_id).collect();
    let blobs: Vec<_> = record
        .layers
        .iter()
        .map(|layer| json!({ "DiffId": layer.diff_id, "Blob": layer.blob, "Size": layer.length }))
        .collect();
    json!({
        "Id": record.id,
        "RepoTags": record.names,
        "Created": record.created,
        "Architecture": "amd64",
        "Os": "linux",
        "Size": record.size(),
        "Config": record.config,
        "RootFS": { "Type": "layers", "Layers": diff_ids },
        "Metadata": { "LastTagTime": time::rfc3339(record.imported.saturating_mul(1_000_000_000)) },
        "Source": record.source,
        "Blobs": blobs,
    })
}

/// Docker's CPU shares for a weight: 100 is docker's 1024.
fn shares(weight: u64) -> u64 {
    2 + weight.saturating_sub(1) * 262_142 / 9999
}

/// A list of CPUs such as `0-1,3`.
fn cpu_list(mask: u64) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut cpu = 0;
    while cpu < 64 {
        if mask >> cpu & 1 == 0 {
            cpu += 1;
            continue;
        }
        let first = cpu;
        while cpu < 64 && mask >> cpu & 1 == 1 {
            cpu += 1;
        }
        let last = cpu - 1;
        parts.push(if first == last { first.to_string() } else { format!("{first}-{last}") });
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_masks_are_written_as_ranges() {
        assert_eq!(cpu_list(0b1011), "0-1,3");
        assert_eq!(cpu_list(u64::MAX), "0-63");
        assert_eq!(cpu_list(0), "");
    }
}
