//! What a case says: nothing, or why it failed.

use alloc::{format, string::String};

/// Result of a case.
pub(crate) type Outcome = Result<(), String>;

/// Fails the case unless a condition holds: `check!(condition, "what {} expected", value)`.
#[macro_export]
macro_rules! check {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(alloc::format!("{}: {}", $crate::check::line(core::line!()), format_args!($($text)+)));
        }
    };
}

/// Fails the case unless two values are equal.
#[macro_export]
macro_rules! same {
    ($left:expr, $right:expr) => {
        match (&$left, &$right) {
            (left, right) => $crate::check!(
                left == right,
                "{} is {left:?}, not {right:?}",
                core::stringify!($left)
            ),
        }
    };
}

/// Fails the case unless an operation is refused with a certain error.
#[macro_export]
macro_rules! refused {
    ($operation:expr, $error:ident) => {
        match $operation {
            Err(rt::Error::$error) => {}
            other => {
                return Err(alloc::format!(
                    "{}: {} gave {other:?}, not {}",
                    $crate::check::line(core::line!()),
                    core::stringify!($operation),
                    core::stringify!($error)
                ));
            }
        }
    };
}

/// Where in a file something failed.
pub(crate) fn line(number: u32) -> String {
    format!("line {number}")
}

/// An operation that must succeed.
pub(crate) trait Must<T> {
    /// The result, or why the case fails.
    fn must(self, what: &str) -> Result<T, String>;
}

impl<T> Must<T> for rt::Result<T> {
    fn must(self, what: &str) -> Result<T, String> {
        self.map_err(|error| format!("{what}: {error:?}"))
    }
}
