//! Structures that cross the system-call boundary (x86-64).
#![expect(missing_docs, reason = "the names are Linux's")]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! layouts {
    ($( $(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? } )*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name { $(pub $field: $type),* }
    )* };
}

layouts! {
    /// stat(2).
    Stat {
        dev: u64, ino: u64, nlink: u64, mode: u32, uid: u32, gid: u32, padding: u32, rdev: u64, size: i64, blksize: i64, blocks: i64,
        atime: i64, atime_nsec: i64, mtime: i64, mtime_nsec: i64, ctime: i64, ctime_nsec: i64, unused: [i64; 3],
    }
    StatxTimestamp { seconds: i64, nanoseconds: u32, reserved: i32 }
    /// statx(2).
    Statx {
        mask: u32, blksize: u32, attributes: u64, nlink: u32, uid: u32, gid: u32, mode: u16, padding: u16, ino: u64, size: u64, blocks: u64,
        attributes_mask: u64, atime: StatxTimestamp, btime: StatxTimestamp, ctime: StatxTimestamp, mtime: StatxTimestamp,
        rdev_major: u32, rdev_minor: u32, dev_major: u32, dev_minor: u32, mnt_id: u64, dio: [u32; 2], spare: [u64; 12],
    }
    /// statfs(2).
    Statfs {
        kind: i64, bsize: i64, blocks: u64, bfree: u64, bavail: u64, files: u64, ffree: u64, fsid: [i32; 2], namelen: i64, frsize: i64,
        flags: i64, spare: [i64; 4],
    }
    Timespec { seconds: i64, nanoseconds: i64 }
    Timeval { seconds: i64, microseconds: i64 }
    Itimerval { interval: Timeval, value: Timeval }
    Itimerspec { interval: Timespec, value: Timespec }
    Iovec { base: u64, length: u64 }
    /// rt_sigaction(2), as the kernel has it.
    Sigaction { handler: u64, flags: u64, restorer: u64, mask: u64 }
    Sigaltstack { sp: u64, flags: i32, padding: i32, size: u64 }
    /// siginfo_t: 128 bytes.
    Siginfo { signo: i32, errno: i32, code: i32, padding: i32, fields: [u64; 14] }
    Rlimit { soft: u64, hard: u64 }
    Pollfd { fd: i32, events: u16, revents: u16 }
    Winsize { rows: u16, columns: u16, xpixel: u16, ypixel: u16 }
    /// The kernel's termios.
    Termios { iflag: u32, oflag: u32, cflag: u32, lflag: u32, line: u8, cc: [u8; 19] }
    Rusage { utime: Timeval, stime: Timeval, maxrss: i64, rest: [i64; 13] }
    Tms { utime: i64, stime: i64, cutime: i64, cstime: i64 }
    Sysinfo {
        uptime: i64, loads: [u64; 3], totalram: u64, freeram: u64, sharedram: u64, bufferram: u64, totalswap: u64, freeswap: u64,
        procs: u16, pad: u16, pad_more: u32, totalhigh: u64, freehigh: u64, mem_unit: u32, pad_last: u32,
    }
    /// clone3(2).
    CloneArgs {
        flags: u64, pidfd: u64, child_tid: u64, parent_tid: u64, exit_signal: u64, stack: u64, stack_size: u64, tls: u64,
        set_tid: u64, set_tid_size: u64, cgroup: u64,
    }
    Flock { kind: i16, whence: i16, padding: i32, start: i64, length: i64, pid: i32, padding_last: i32 }
}

/// The little-endian number of so many bytes (at most 8) of a file's structure; 0 where the bytes end before it.
#[must_use]
pub fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    let field = at.checked_add(length).and_then(|end| bytes.get(at..end)).unwrap_or_default();
    field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}
