//! Stub.
pub(crate) fn run(_root: &std::path::Path, _check: bool) -> anyhow::Result<()> { anyhow::bail!("not yet") }
