//! The table: every x86-64 system call, how far it is supported, and its handler.
//!
//! Source of the numbers: Linux `arch/x86/entry/syscalls/syscall_64.tbl`. The coverage page (`docs/linux-coverage.md`) is generated from it.

use super::{
    Call, Outcome, descriptors, files, futexes, identity, io, ioctl, limits, memory, messages,
    metadata, notify, opening, poll, process, scheduling, signals, sizes, socket_options, sockets,
    splice, system_information, time, xattr,
};
use crate::{gap, linux::Errno, system::System, task::Task};
use alloc::rc::Rc;

/// How far a call is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// As the man page says, as far as is known.
    Full,
    /// Some arguments are refused and counted as gaps.
    Partial,
    /// Refused with `EPERM`, as in a container without privileges.
    Refused,
    /// Refused with `ENOSYS` and counted as a gap.
    None,
}

/// One call.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Number.
    pub number: u16,
    /// Name.
    pub name: &'static str,
    /// Support.
    pub support: Support,
}

macro_rules! calls {
    ($( $number:literal $name:ident $support:ident $($handler:path)?; )*) => {
        /// All calls, by number.
        pub const TABLE: &[Entry] = &[ $( Entry { number: $number, name: stringify!($name), support: Support::$support }, )* ];

        fn handle(number: u64, call: &mut Call<'_>) -> Outcome {
            match number {
                $( $number => calls!(@ call $name $support $($handler)?), )*
                _ => {
                    gap!(call.system, "a system call without a number");
                    Err(Errno::ENOSYS.into())
                }
            }
        }
    };
    (@ $call:ident $name:ident $support:ident $handler:path) => { $handler($call) };
    (@ $call:ident $name:ident Refused) => {{
        gap!($call.system, stringify!($name));
        Err(Errno::EPERM.into())
    }};
    (@ $call:ident $name:ident $support:ident) => {{
        gap!($call.system, stringify!($name));
        Err(Errno::ENOSYS.into())
    }};
}

calls! {
    0 read Full io::read;
    1 write Full io::write;
    2 open Full opening::open;
    3 close Full descriptors::close;
    4 stat Full metadata::stat;
    5 fstat Full metadata::fstat;
    6 lstat Full metadata::lstat;
    7 poll Full poll::poll;
    8 lseek Full io::lseek;
    9 mmap Full memory::mmap;
    10 mprotect Full memory::mprotect;
    11 munmap Full memory::munmap;
    12 brk Full memory::brk;
    13 rt_sigaction Full signals::rt_sigaction;
    14 rt_sigprocmask Full signals::rt_sigprocmask;
    15 rt_sigreturn Full signals::rt_sigreturn;
    16 ioctl Partial ioctl::ioctl;
    17 pread64 Full io::pread64;
    18 pwrite64 Full io::pwrite64;
    19 readv Full io::readv;
    20 writev Full io::writev;
    21 access Full metadata::access;
    22 pipe Full descriptors::pipe;
    23 select Full poll::select;
    24 sched_yield Full scheduling::sched_yield;
    25 mremap Full memory::mremap;
    26 msync Full memory::msync;
    27 mincore Full memory::mincore;
    28 madvise Partial memory::madvise;
    29 shmget None;
    30 shmat None;
    31 shmctl None;
    32 dup Full descriptors::dup;
    33 dup2 Full descriptors::dup2;
    34 pause Full signals::pause;
    35 nanosleep Full time::nanosleep;
    36 getitimer Full time::getitimer;
    37 alarm Full time::alarm;
    38 setitimer Full time::setitimer;
    39 getpid Full process::getpid;
    40 sendfile Full io::sendfile;
    41 socket Partial sockets::socket;
    42 connect Full sockets::connect;
    43 accept Full sockets::accept;
    44 sendto Partial messages::sendto;
    45 recvfrom Partial messages::recvfrom;
    46 sendmsg Partial messages::sendmsg;
    47 recvmsg Partial messages::recvmsg;
    48 shutdown Full sockets::shutdown;
    49 bind Full sockets::bind;
    50 listen Full sockets::listen;
    51 getsockname Full sockets::getsockname;
    52 getpeername Full sockets::getpeername;
    53 socketpair Full sockets::socketpair;
    54 setsockopt Partial socket_options::setsockopt;
    55 getsockopt Partial socket_options::getsockopt;
    56 clone Full process::clone;
    57 fork Full process::fork;
    58 vfork Full process::vfork;
    59 execve Full process::execve;
    60 exit Full process::exit;
    61 wait4 Full process::wait4;
    62 kill Full signals::kill;
    63 uname Full system_information::uname;
    64 semget None;
    65 semop None;
    66 semctl None;
    67 shmdt None;
    68 msgget None;
    69 msgsnd None;
    70 msgrcv None;
    71 msgctl None;
    72 fcntl Full descriptors::fcntl;
    73 flock Full descriptors::flock;
    74 fsync Full io::fsync;
    75 fdatasync Full io::fsync;
    76 truncate Full sizes::truncate;
    77 ftruncate Full sizes::ftruncate;
    78 getdents None;
    79 getcwd Full files::getcwd;
    80 chdir Full files::chdir;
    81 fchdir Full files::fchdir;
    82 rename Full files::rename;
    83 mkdir Full files::mkdir;
    84 rmdir Full files::rmdir;
    85 creat Full opening::creat;
    86 link Full files::link;
    87 unlink Full files::unlink;
    88 symlink Full files::symlink;
    89 readlink Full files::readlink;
    90 chmod Full metadata::chmod;
    91 fchmod Full metadata::fchmod;
    92 chown Full metadata::chown;
    93 fchown Full metadata::fchown;
    94 lchown Full metadata::lchown;
    95 umask Full files::umask;
    96 gettimeofday Full time::gettimeofday;
    97 getrlimit Full limits::getrlimit;
    98 getrusage Partial time::getrusage;
    99 sysinfo Full system_information::sysinfo;
    100 times Full time::times;
    101 ptrace Refused;
    102 getuid Full identity::getuid;
    103 syslog Full system_information::syslog;
    104 getgid Full identity::getgid;
    105 setuid Full identity::setuid;
    106 setgid Full identity::setgid;
    107 geteuid Full identity::geteuid;
    108 getegid Full identity::getegid;
    109 setpgid Full process::setpgid;
    110 getppid Full process::getppid;
    111 getpgrp Full process::getpgrp;
    112 setsid Full process::setsid;
    113 setreuid Full identity::setreuid;
    114 setregid Full identity::setregid;
    115 getgroups Full identity::getgroups;
    116 setgroups Full identity::setgroups;
    117 setresuid Full identity::setresuid;
    118 getresuid Full identity::getresuid;
    119 setresgid Full identity::setresgid;
    120 getresgid Full identity::getresgid;
    121 getpgid Full process::getpgid;
    122 setfsuid Full identity::setfsuid;
    123 setfsgid Full identity::setfsgid;
    124 getsid Full process::getsid;
    125 capget Partial identity::capget;
    126 capset Partial identity::capset;
    127 rt_sigpending Full signals::rt_sigpending;
    128 rt_sigtimedwait Full signals::rt_sigtimedwait;
    129 rt_sigqueueinfo Full signals::rt_sigqueueinfo;
    130 rt_sigsuspend Full signals::rt_sigsuspend;
    131 sigaltstack Full signals::sigaltstack;
    132 utime Full metadata::utime;
    133 mknod Full files::mknod;
    134 uselib None;
    135 personality Partial process::personality;
    136 ustat None;
    137 statfs Full metadata::statfs;
    138 fstatfs Full metadata::fstatfs;
    139 sysfs None;
    140 getpriority Partial scheduling::getpriority;
    141 setpriority Partial scheduling::setpriority;
    142 sched_setparam Partial scheduling::sched_setparam;
    143 sched_getparam Partial scheduling::sched_getparam;
    144 sched_setscheduler Partial scheduling::sched_setscheduler;
    145 sched_getscheduler Partial scheduling::sched_getscheduler;
    146 sched_get_priority_max Partial scheduling::sched_get_priority_max;
    147 sched_get_priority_min Partial scheduling::sched_get_priority_min;
    148 sched_rr_get_interval Partial scheduling::sched_rr_get_interval;
    149 mlock Partial memory::lock;
    150 munlock Partial memory::nothing;
    151 mlockall Partial memory::lock;
    152 munlockall Partial memory::nothing;
    153 vhangup Refused;
    154 modify_ldt None;
    155 pivot_root Refused;
    156 _sysctl None;
    157 prctl Partial process::prctl;
    158 arch_prctl Full process::arch_prctl;
    159 adjtimex Refused;
    160 setrlimit Full limits::setrlimit;
    161 chroot Full files::chroot;
    162 sync Full io::nothing;
    163 acct Refused;
    164 settimeofday Refused;
    165 mount Partial files::mount;
    166 umount2 Partial files::umount2;
    167 swapon Refused;
    168 swapoff Refused;
    169 reboot Refused;
    170 sethostname Full system_information::sethostname;
    171 setdomainname Full system_information::setdomainname;
    172 iopl Refused;
    173 ioperm Refused;
    174 create_module None;
    175 init_module Refused;
    176 delete_module Refused;
    177 get_kernel_syms None;
    178 query_module None;
    179 quotactl Refused;
    180 nfsservctl None;
    181 getpmsg None;
    182 putpmsg None;
    183 afs_syscall None;
    184 tuxcall None;
    185 security None;
    186 gettid Full process::gettid;
    187 readahead Full io::fsync;
    188 setxattr Full xattr::setxattr;
    189 lsetxattr Full xattr::lsetxattr;
    190 fsetxattr Full xattr::fsetxattr;
    191 getxattr Full xattr::getxattr;
    192 lgetxattr Full xattr::lgetxattr;
    193 fgetxattr Full xattr::fgetxattr;
    194 listxattr Full xattr::listxattr;
    195 llistxattr Full xattr::llistxattr;
    196 flistxattr Full xattr::flistxattr;
    197 removexattr Full xattr::removexattr;
    198 lremovexattr Full xattr::lremovexattr;
    199 fremovexattr Full xattr::fremovexattr;
    200 tkill Full signals::tkill;
    201 time Full time::time;
    202 futex Full futexes::futex;
    203 sched_setaffinity Partial scheduling::sched_setaffinity;
    204 sched_getaffinity Partial scheduling::sched_getaffinity;
    205 set_thread_area None;
    206 io_setup None;
    207 io_destroy None;
    208 io_getevents None;
    209 io_submit None;
    210 io_cancel None;
    211 get_thread_area None;
    212 lookup_dcookie Refused;
    213 epoll_create Full poll::epoll_create;
    214 epoll_ctl_old None;
    215 epoll_wait_old None;
    216 remap_file_pages None;
    217 getdents64 Full io::getdents64;
    218 set_tid_address Full process::set_tid_address;
    219 restart_syscall Full signals::restart_syscall;
    220 semtimedop None;
    221 fadvise64 Partial io::fadvise64;
    222 timer_create Full time::timer_create;
    223 timer_settime Full time::timer_settime;
    224 timer_gettime Full time::timer_gettime;
    225 timer_getoverrun Full time::timer_getoverrun;
    226 timer_delete Full time::timer_delete;
    227 clock_settime Refused;
    228 clock_gettime Full time::clock_gettime;
    229 clock_getres Full time::clock_getres;
    230 clock_nanosleep Full time::clock_nanosleep;
    231 exit_group Full process::exit_group;
    232 epoll_wait Full poll::epoll_wait;
    233 epoll_ctl Full poll::epoll_ctl;
    234 tgkill Full signals::tgkill;
    235 utimes Full metadata::utimes;
    236 vserver None;
    237 mbind None;
    238 set_mempolicy None;
    239 get_mempolicy None;
    240 mq_open None;
    241 mq_unlink None;
    242 mq_timedsend None;
    243 mq_timedreceive None;
    244 mq_notify None;
    245 mq_getsetattr None;
    246 kexec_load Refused;
    247 waitid Full process::waitid;
    248 add_key Refused;
    249 request_key Refused;
    250 keyctl Refused;
    251 ioprio_set Partial scheduling::ioprio_set;
    252 ioprio_get Partial scheduling::ioprio_get;
    253 inotify_init Full notify::inotify_init;
    254 inotify_add_watch Full notify::inotify_add_watch;
    255 inotify_rm_watch Full notify::inotify_rm_watch;
    256 migrate_pages None;
    257 openat Full opening::openat;
    258 mkdirat Full files::mkdirat;
    259 mknodat Full files::mknodat;
    260 fchownat Full metadata::fchownat;
    261 futimesat Full metadata::futimesat;
    262 newfstatat Full metadata::newfstatat;
    263 unlinkat Full files::unlinkat;
    264 renameat Full files::renameat;
    265 linkat Full files::linkat;
    266 symlinkat Full files::symlinkat;
    267 readlinkat Full files::readlinkat;
    268 fchmodat Full metadata::fchmodat;
    269 faccessat Full metadata::faccessat;
    270 pselect6 Full poll::pselect6;
    271 ppoll Full poll::ppoll;
    272 unshare Partial process::unshare;
    273 set_robust_list Full futexes::set_robust_list;
    274 get_robust_list Full futexes::get_robust_list;
    275 splice Full splice::splice;
    276 tee Full splice::tee;
    277 sync_file_range Full io::fsync;
    278 vmsplice Full splice::vmsplice;
    279 move_pages None;
    280 utimensat Full metadata::utimensat;
    281 epoll_pwait Full poll::epoll_pwait;
    282 signalfd Full descriptors::signalfd;
    283 timerfd_create Full descriptors::timerfd_create;
    284 eventfd Full descriptors::eventfd;
    285 fallocate Partial sizes::fallocate;
    286 timerfd_settime Full descriptors::timerfd_settime;
    287 timerfd_gettime Full descriptors::timerfd_gettime;
    288 accept4 Full sockets::accept4;
    289 signalfd4 Full descriptors::signalfd4;
    290 eventfd2 Full descriptors::eventfd2;
    291 epoll_create1 Full poll::epoll_create1;
    292 dup3 Full descriptors::dup3;
    293 pipe2 Full descriptors::pipe2;
    294 inotify_init1 Full notify::inotify_init1;
    295 preadv Full io::preadv;
    296 pwritev Full io::pwritev;
    297 rt_tgsigqueueinfo Full signals::rt_tgsigqueueinfo;
    298 perf_event_open Refused;
    299 recvmmsg Partial messages::recvmmsg;
    300 fanotify_init Refused;
    301 fanotify_mark Refused;
    302 prlimit64 Full limits::prlimit64;
    303 name_to_handle_at Refused;
    304 open_by_handle_at Refused;
    305 clock_adjtime Refused;
    306 syncfs Full io::fsync;
    307 sendmmsg Partial messages::sendmmsg;
    308 setns Refused;
    309 getcpu Partial system_information::getcpu;
    310 process_vm_readv Refused;
    311 process_vm_writev Refused;
    312 kcmp None;
    313 finit_module Refused;
    314 sched_setattr None;
    315 sched_getattr None;
    316 renameat2 Full files::renameat2;
    317 seccomp None;
    318 getrandom Full system_information::getrandom;
    319 memfd_create Full descriptors::memfd_create;
    320 kexec_file_load Refused;
    321 bpf Refused;
    322 execveat Full process::execveat;
    323 userfaultfd Refused;
    324 membarrier Partial memory::membarrier;
    325 mlock2 Partial memory::lock;
    326 copy_file_range Full io::copy_file_range;
    327 preadv2 Partial io::preadv2;
    328 pwritev2 Partial io::pwritev2;
    329 pkey_mprotect None;
    330 pkey_alloc None;
    331 pkey_free None;
    332 statx Full metadata::statx;
    333 io_pgetevents None;
    334 rseq Partial process::rseq;
    424 pidfd_send_signal Full signals::pidfd_send_signal;
    425 io_uring_setup None;
    426 io_uring_enter None;
    427 io_uring_register None;
    428 open_tree Refused;
    429 move_mount Refused;
    430 fsopen Refused;
    431 fsconfig Refused;
    432 fsmount Refused;
    433 fspick Refused;
    434 pidfd_open Full process::pidfd_open;
    435 clone3 Full process::clone3;
    436 close_range Full descriptors::close_range;
    437 openat2 Partial opening::openat2;
    438 pidfd_getfd None;
    439 faccessat2 Full metadata::faccessat2;
    440 process_madvise None;
    441 epoll_pwait2 Full poll::epoll_pwait2;
    442 mount_setattr Refused;
    443 quotactl_fd None;
    444 landlock_create_ruleset None;
    445 landlock_add_rule None;
    446 landlock_restrict_self None;
    447 memfd_secret None;
    448 process_mrelease None;
    449 futex_waitv None;
    450 set_mempolicy_home_node None;
    451 cachestat None;
    452 fchmodat2 Full metadata::fchmodat2;
    453 map_shadow_stack None;
    454 futex_wake None;
    455 futex_wait None;
    456 futex_requeue None;
}

/// Performs the call in a task's registers.
///
/// # Errors
/// What the call says, see [`crate::wait::Stop`].
#[inline]
pub fn dispatch(system: &mut System, task: &Rc<Task>) -> Outcome {
    let number = task.state.rax();
    if rt::heap::is_short() && takes_memory(number) {
        return Err(Errno::ENOMEM.into());
    }
    handle(number, &mut Call { system, task })
}

/// Whether a call makes something that lasts: where programs have taken all memory, what this system keeps for itself is for ending them. (fork(2), which
/// has an answer of its own, and writes to files and pipes, which fail by themselves, are not among them.)
#[inline]
const fn takes_memory(number: u64) -> bool {
    // open, mmap, mprotect, pipe, mremap, socket, accept, sendto, sendmsg, socketpair, mkdir, creat, link, symlink, mknod, setxattr, lsetxattr, fsetxattr,
    // epoll_create, epoll_ctl, inotify_add_watch, openat, mkdirat, mknodat, linkat, symlinkat, signalfd, timerfd_create, eventfd, accept4, signalfd4,
    // eventfd2, epoll_create1, pipe2, inotify_init1, sendmmsg, memfd_create, openat2.
    matches!(
        number,
        2 | 9 | 10 | 22 | 25 | 41 | 43 | 44 | 46 | 53 | 83 | 85 | 86 | 88 | 133 | 188..=190
            | 213 | 233 | 254 | 257..=259 | 265 | 266 | 282..=284 | 288..=291 | 293 | 294 | 307
            | 319 | 437
    )
}

/// Whether only the end of its task ends a wait of a call: a vfork's child still uses its parent's memory, an `execve` has ended the other tasks.
#[must_use]
pub const fn is_uninterruptible(number: u64) -> bool {
    const CLONE: u64 = 56;
    const EXECVE: u64 = 59;
    const EXECVEAT: u64 = 322;
    const CLONE3: u64 = 435;
    matches!(number, CLONE..=EXECVE | EXECVEAT | CLONE3)
}

/// Whether a call that a signal has interrupted begins anew after a handler with SA_RESTART (signal(7)).
#[must_use]
pub const fn restarts(number: u64) -> bool {
    // poll, select, pause, nanosleep, rt_sigtimedwait, rt_sigsuspend, clock_nanosleep, epoll_wait, pselect6, ppoll, epoll_pwait, epoll_pwait2.
    !matches!(number, 7 | 23 | 34 | 35 | 128 | 130 | 230 | 232 | 270 | 271 | 281 | 441)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_without_holes_below_335() {
        assert!(TABLE.windows(2).all(|pair| pair[0].number < pair[1].number));
        assert_eq!(TABLE.iter().filter(|entry| entry.number <= 334).count(), 335);
    }
}
