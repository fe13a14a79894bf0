//! `cargo xtask bench --self-test`: every fault that must void a figure, planted in a run's output and made in real machines.

mod broken;
mod planted;

use super::{Place, Side};
use anyhow::Result;

/// Shows that no fault gets through on the chosen sides; an error if one does, or if a good figure is refused.
pub(crate) fn run(place: &Place, side: Side) -> Result<()> {
    planted::run()?;
    broken::run(place, side)
}
