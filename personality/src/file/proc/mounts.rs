//! The table of mounts (/proc/PID/mounts and mountinfo, proc(5)): what every container has over its image, and what `--tmpfs` adds.

use crate::{
    file::{
        layers::ROOT_DEVICE,
        lower::{self, DEV, SHARED_MEMORY, SHARED_MEMORY_PAGES},
        node::Directory,
    },
    system::System,
};
use alloc::{format, string::String, vec::Vec};
use core::fmt::Write;

/// A mounted file system.
struct Mounted<'a> {
    device: u64,
    path: &'a [u8],
    kind: &'static str,
    is_read_only: bool,
    /// Options of the mount after `rw` or `ro`.
    flags: &'static str,
    /// Options of the file system.
    options: String,
}

/// Everything that is mounted; the root first, and whatever covers something after it.
fn all(system: &System) -> Vec<Mounted<'_>> {
    let fixed = |device, path: &'static str, kind, is_read_only, flags| Mounted {
        device,
        path: path.as_bytes(),
        kind,
        is_read_only,
        flags,
        options: String::new(),
    };
    let mut all = Vec::from([
        fixed(
            ROOT_DEVICE,
            "/",
            "overlay",
            system.root.directory().is_some_and(Directory::is_read_only),
            "",
        ),
        fixed(super::DEVICE, "/proc", "proc", false, ",nosuid,nodev,noexec"),
        fixed(DEV, "/dev", "tmpfs", false, ",nosuid"),
        fixed(DEV, "/dev/pts", "devpts", false, ",nosuid,noexec"),
        Mounted {
            options: format!(",size={}k", SHARED_MEMORY_PAGES * 4),
            ..fixed(SHARED_MEMORY, "/dev/shm", "tmpfs", false, ",nosuid,nodev,noexec")
        },
        fixed(super::DEVICE, "/sys", "sysfs", true, ",nosuid,nodev,noexec"),
    ]);
    for (index, mount) in system.mounts.iter().enumerate() {
        let mut options = String::new();
        if let Some(size) = mount.size.filter(|size| *size > 0) {
            let _ = write!(options, ",size={}k", size.div_ceil(4096) * 4);
        }
        if let Some(mode) = mount.mode.filter(|mode| *mode != 0o1777) {
            let _ = write!(options, ",mode={mode:o}");
        }
        all.push(Mounted {
            device: lower::mount_number(index, mount.no_exec, mount.no_set_id),
            path: mount.destination.strip_suffix(b"/").unwrap_or(&mount.destination),
            kind: "tmpfs",
            is_read_only: mount.read_only,
            flags: match (mount.no_set_id, mount.no_exec) {
                (true, true) => ",nosuid,nodev,noexec",
                (true, false) => ",nosuid,nodev",
                (false, true) => ",nodev,noexec",
                (false, false) => ",nodev",
            },
            options,
        });
    }
    all
}

/// A path with what would end a field as octal numbers.
fn escape(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in path {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => {
                out.extend([b'\\', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)]);
            }
            _ => out.push(*byte),
        }
    }
    out
}

const fn access(is_read_only: bool) -> &'static str {
    if is_read_only { "ro" } else { "rw" }
}

/// /proc/PID/mounts.
pub(super) fn mounts(system: &System) -> Vec<u8> {
    let mut out = Vec::new();
    for Mounted { path, kind, is_read_only, flags, options, .. } in all(system) {
        let access = access(is_read_only);
        out.extend(kind.as_bytes());
        out.push(b' ');
        out.extend(escape(path));
        out.extend(format!(" {kind} {access}{flags}{options} 0 0\n").into_bytes());
    }
    out
}

/// /proc/PID/mountinfo.
pub(super) fn mountinfo(system: &System) -> Vec<u8> {
    let mut out = Vec::new();
    let all = all(system);
    for (index, Mounted { device, path, kind, is_read_only, flags, options }) in
        all.iter().enumerate()
    {
        let (id, access) = (index + 1, access(*is_read_only));
        // What it is mounted in: the last one before it that its path is below.
        let parent = all.iter().take(index).rposition(|above| is_below(path, above.path));
        let parent = parent.map_or(0, |above| above + 1);
        out.extend(format!("{id} {parent} 0:{device} / ").into_bytes());
        out.extend(escape(path));
        out.extend(format!(" {access}{flags} - {kind} {kind} {access}{options}\n").into_bytes());
    }
    out
}

/// Whether a path is below a mount's.
fn is_below(path: &[u8], mount: &[u8]) -> bool {
    mount == b"/" || path.strip_prefix(mount).is_some_and(|rest| rest.first() == Some(&b'/'))
}
