//! Error numbers (errno(3); values of `asm-generic/errno.h`).

use core::fmt;

/// An error number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Errno(pub u16);

macro_rules! errors {
    ($($name:ident $value:literal)*) => {
        #[expect(missing_docs, reason = "the names are Linux's")]
        impl Errno {
            $( pub const $name: Self = Self($value); )*
            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self.0 { $( $value => stringify!($name), )* _ => "E?" }
            }
        }
    };
}

errors! {
    EPERM 1
    ENOENT 2
    ESRCH 3
    EINTR 4
    EIO 5
    ENXIO 6
    ETOOBIG 7
    ENOEXEC 8
    EBADF 9
    ECHILD 10
    EAGAIN 11
    ENOMEM 12
    EACCES 13
    EFAULT 14
    ENOTBLK 15
    EBUSY 16
    EEXIST 17
    EXDEV 18
    ENODEV 19
    ENOTDIR 20
    EISDIR 21
    EINVAL 22
    ENFILE 23
    EMFILE 24
    ENOTTY 25
    ETXTBSY 26
    EFBIG 27
    ENOSPC 28
    ESPIPE 29
    EROFS 30
    EMLINK 31
    EPIPE 32
    EDOM 33
    ERANGE 34
    EDEADLK 35
    ENAMETOOLONG 36
    ENOLCK 37
    ENOSYS 38
    ENOTEMPTY 39
    ELOOP 40
    ENODATA 61
    ETIME 62
    EPROTO 71
    EOVERFLOW 75
    EILSEQ 84
    ENOTSOCK 88
    EDESTADDRREQ 89
    EMSGSIZE 90
    EPROTOTYPE 91
    ENOPROTOOPT 92
    EPROTONOSUPPORT 93
    ESOCKTNOSUPPORT 94
    EOPNOTSUPP 95
    EAFNOSUPPORT 97
    EADDRINUSE 98
    EADDRNOTAVAIL 99
    ENETUNREACH 101
    ECONNABORTED 103
    ECONNRESET 104
    ENOBUFS 105
    EISCONN 106
    ENOTCONN 107
    ETOOMANYREFS 109
    ETIMEDOUT 110
    ECONNREFUSED 111
    EALREADY 114
    EINPROGRESS 115
    ESTALE 116
    EUCLEAN 117
    ECANCELED 125
    ELIBBAD 80
}

impl Errno {
    /// What a system call returns for it.
    #[must_use]
    pub const fn result(self) -> u64 {
        (self.0 as i64).wrapping_neg().cast_unsigned()
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl From<kernel_abi::Error> for Errno {
    /// The kernel refuses a personality only what its budget does not allow.
    fn from(_: kernel_abi::Error) -> Self {
        Self::ENOMEM
    }
}
