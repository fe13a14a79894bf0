//! From options and an image's configuration to a container's configuration, and from that to what the personality is told.

use super::record::{Config, Record};
use crate::{
    api::{CreateOptions, ExecOptions},
    image::ImageConfig,
    signal,
};
use contract::compartment::{Mount, ProcessSpec, ResourceLimit, Spec, WindowSize};

/// Seconds between the stop signal and the kill.
const DEFAULT_STOP_TIMEOUT: u64 = 10;
/// Search path of a container whose image names none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a container cannot be configured.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SpecError {
    /// Neither the image nor the user says what to run.
    #[error("no command specified: the image has none, so name one")]
    NoCommand,
    /// An environment variable without a name.
    #[error("'{0}' is not an environment variable: expected NAME=value")]
    BadVariable(String),
    /// A working directory that is no absolute path.
    #[error("the working directory '{0}' is not an absolute path")]
    BadWorkingDirectory(String),
    /// A text contains a zero byte.
    #[error("'{0}' contains a zero byte")]
    ZeroByte(String),
    /// A mount point that is no absolute path.
    #[error("the mount point '{0}' is not an absolute path")]
    BadMountPoint(String),
    /// The image's stop signal does not exist.
    #[error("the image's stop signal '{0}' does not exist")]
    BadStopSignal(String),
    /// A host name that no host can have.
    #[error("'{0}' is not a host name")]
    BadHostname(String),
}

/// Adds variables; later ones replace earlier ones of the same name.
fn merge_environment<'a>(lists: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut merged: Vec<String> = Vec::new();
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    for variable in lists {
        match merged.iter_mut().find(|present| name(present) == name(variable)) {
            Some(present) => present.clone_from(variable),
            None => merged.push(variable.clone()),
        }
    }
    merged
}

fn check_environment(environment: &[String]) -> Result<(), SpecError> {
    match environment.iter().find(|v| v.find('=').is_none_or(|at| at == 0)) {
        Some(variable) => Err(SpecError::BadVariable(variable.clone())),
        None => Ok(()),
    }
}

fn check_zero_bytes<'a>(texts: impl Iterator<Item = &'a String>) -> Result<(), SpecError> {
    for text in texts {
        if text.contains('\0') {
            return Err(SpecError::ZeroByte(text.replace('\0', "\\0")));
        }
    }
    Ok(())
}

/// The configuration of a new container.
///
/// # Errors
/// Every variant of [`SpecError`].
pub fn configure(
    options: &CreateOptions,
    image: &ImageConfig,
    id: &str,
) -> Result<Config, SpecError> {
    check_environment(&options.environment)?;
    let entrypoint = match &options.entrypoint {
        None => image.entrypoint.clone(),
        Some(program) if program.is_empty() => Vec::new(),
        Some(program) => vec![program.clone()],
    };
    // An entrypoint of the user's own does not get the image's arguments.
    let command = if options.command.is_empty() && options.entrypoint.is_none() {
        image.cmd.clone()
    } else {
        options.command.clone()
    };
    if entrypoint.is_empty() && command.is_empty() {
        return Err(SpecError::NoCommand);
    }
    let working_directory = match &options.working_directory {
        Some(path) => path.clone(),
        None if image.working_dir.is_empty() => "/".to_owned(),
        None => image.working_dir.clone(),
    };
    if !working_directory.starts_with('/') {
        return Err(SpecError::BadWorkingDirectory(working_directory));
    }
    if let Some(mount) = options.tmpfs.iter().find(|mount| !mount.path.starts_with('/')) {
        return Err(SpecError::BadMountPoint(mount.path.clone()));
    }
    let hostname = options.hostname.clone();
    let hostname = hostname.unwrap_or_else(|| id.get(..12).unwrap_or(id).to_owned());
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if hostname.is_empty() || hostname.len() > 64 || !hostname.bytes().all(good) {
        return Err(SpecError::BadHostname(hostname));
    }
    let stop_signal = match options.stop_signal {
        Some(signal) => signal,
        None if image.stop_signal.is_empty() => signal::TERM,
        None => signal::parse(&image.stop_signal)
            .ok_or_else(|| SpecError::BadStopSignal(image.stop_signal.clone()))?,
    };
    let image_labels = image.labels.iter().map(|(name, value)| (name.clone(), value.clone()));
    let mut labels: Vec<(String, String)> = image_labels.collect();
    labels.retain(|(name, _)| options.labels.iter().all(|(other, _)| other != name));
    labels.extend(options.labels.iter().cloned());
    let config = Config {
        entrypoint,
        command,
        environment: environment(options, image, &hostname),
        working_directory,
        user: options.user.clone().unwrap_or_else(|| image.user.clone()),
        groups: options.groups.clone(),
        hostname,
        interactive: options.interactive,
        terminal: options.terminal,
        read_only: options.read_only,
        volumes: image.volumes.keys().cloned().collect(),
        tmpfs: options.tmpfs.clone(),
        ulimits: options.ulimits.clone(),
        init: options.init,
        budget: options.budget.clone().into(),
        tenant: options.tenant.clone().unwrap_or_default(),
        auto_remove: options.auto_remove,
        labels,
        stop_signal,
        stop_timeout: options.stop_timeout.unwrap_or(DEFAULT_STOP_TIMEOUT),
    };
    let texts = config.entrypoint.iter().chain(&config.command).chain(&config.environment);
    let texts = texts.chain(&config.volumes);
    check_zero_bytes(texts.chain([&config.working_directory, &config.user]))?;
    Ok(config)
}

/// What docker sets, what the image says, what the user says.
fn environment(options: &CreateOptions, image: &ImageConfig, hostname: &str) -> Vec<String> {
    let mut defaults = vec![format!("PATH={DEFAULT_PATH}"), format!("HOSTNAME={hostname}")];
    if options.terminal {
        defaults.push("TERM=xterm".to_owned());
    }
    merge_environment(defaults.iter().chain(&image.env).chain(&options.environment))
}

fn bytes(texts: &[String]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.clone().into_bytes()).collect()
}

/// What the personality of a container is told.
#[must_use]
pub fn personality(record: &Record, size: Option<WindowSize>) -> Spec {
    let config = &record.config;
    let hosts = format!(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{}\n",
        config.hostname
    );
    let file = |path: &str, text: String| (path.as_bytes().to_vec(), text.into_bytes());
    let mounts = config.tmpfs.iter().map(|mount| Mount {
        destination: mount.path.clone().into_bytes(),
        size: mount.size,
        mode: mount.mode,
        read_only: mount.read_only,
        no_exec: !mount.exec,
        no_set_id: !mount.suid,
    });
    let limits = config.ulimits.iter().map(|limit| ResourceLimit {
        resource: limit.resource,
        soft: limit.soft,
        hard: limit.hard,
    });
    Spec {
        hostname: config.hostname.clone(),
        read_only: config.read_only,
        mounts: mounts.collect(),
        directories: bytes(&config.volumes),
        files: vec![
            file("/etc/hostname", format!("{}\n", config.hostname)),
            file("/etc/hosts", hosts),
            file("/etc/resolv.conf", String::new()),
        ],
        limits: limits.collect(),
        init: config.init,
        budget: config.budget.budget(),
        process: ProcessSpec {
            arguments: bytes(&record.arguments()),
            environment: bytes(&config.environment),
            working_directory: config.working_directory.clone().into_bytes(),
            user: config.user.clone(),
            groups: config.groups.clone(),
            terminal: config.terminal.then(|| size.unwrap_or_default()),
            stdin: config.interactive,
        },
        wait_for_start: false,
        epoch_nanoseconds: crate::home::now_nanoseconds(),
    }
}

/// What a further process of a container is.
///
/// # Errors
/// [`SpecError::NoCommand`], [`SpecError::BadVariable`], [`SpecError::BadWorkingDirectory`] and [`SpecError::ZeroByte`].
pub fn further(record: &Record, options: &ExecOptions) -> Result<ProcessSpec, SpecError> {
    check_environment(&options.environment)?;
    if options.command.is_empty() {
        return Err(SpecError::NoCommand);
    }
    let config = &record.config;
    let directory = options.working_directory.as_ref().unwrap_or(&config.working_directory);
    if !directory.starts_with('/') {
        return Err(SpecError::BadWorkingDirectory(directory.clone()));
    }
    let terminal = options.terminal.map(|_| "TERM=xterm".to_owned());
    let all = terminal.iter().chain(&config.environment).chain(&options.environment);
    let environment = merge_environment(all);
    check_zero_bytes(options.command.iter().chain(&environment).chain([directory]))?;
    Ok(ProcessSpec {
        arguments: bytes(&options.command),
        environment: bytes(&environment),
        working_directory: directory.clone().into_bytes(),
        user: options.user.clone().unwrap_or_else(|| config.user.clone()),
        groups: config.groups.clone(),
        terminal: options.terminal,
        stdin: options.interactive,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ImageConfig {
        ImageConfig {
            env: vec!["A=image".to_owned(), "PATH=/bin".to_owned()],
            entrypoint: vec!["/entry".to_owned()],
            cmd: vec!["default".to_owned()],
            stop_signal: "SIGQUIT".to_owned(),
            ..ImageConfig::default()
        }
    }

    fn check(change: impl FnOnce(&mut CreateOptions)) -> Result<Config, SpecError> {
        let mut options = CreateOptions::default();
        change(&mut options);
        configure(&options, &image(), "0123456789abcdef")
    }

    #[test]
    fn the_image_speaks_where_the_user_is_silent() {
        let config = check(|_| {}).unwrap();
        assert_eq!(
            (config.entrypoint, config.command),
            (vec!["/entry".into()], vec!["default".into()])
        );
        assert_eq!(config.stop_signal, 3);
        assert_eq!(config.hostname, "0123456789ab");
        assert_eq!(config.working_directory, "/");
    }

    #[test]
    fn the_user_overrides_the_image() {
        let config = check(|options| options.command = vec!["x".into()]).unwrap();
        assert_eq!((config.entrypoint, config.command), (vec!["/entry".into()], vec!["x".into()]));
        let config = check(|options| options.entrypoint = Some("/other".into())).unwrap();
        assert_eq!((config.entrypoint, config.command), (vec!["/other".into()], vec![]));
        let config = check(|options| options.environment = vec!["A=user".into()]).unwrap();
        assert_eq!(config.environment, ["PATH=/bin", "HOSTNAME=0123456789ab", "A=user"]);
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let refused = check(|options| options.entrypoint = Some(String::new()));
        assert_eq!(refused.unwrap_err(), SpecError::NoCommand);
        let refused = check(|options| options.environment = vec!["=x".into()]);
        assert_eq!(refused.unwrap_err(), SpecError::BadVariable("=x".into()));
        let refused = check(|options| options.working_directory = Some("x".into()));
        assert_eq!(refused.unwrap_err(), SpecError::BadWorkingDirectory("x".into()));
        let refused = check(|options| options.command = vec!["a\0b".into()]);
        assert_eq!(refused.unwrap_err(), SpecError::ZeroByte("a\\0b".into()));
    }
}
