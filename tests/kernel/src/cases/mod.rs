//! The cases by subject.

mod capabilities;

use crate::run::Case;

/// Every case in order.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    capabilities::CASES.iter()
}
