//! Stub.
#[derive(clap::Args)]
pub(crate) struct Arguments {}
pub(crate) fn run(_root: &std::path::Path, _a: &Arguments) -> anyhow::Result<()> { anyhow::bail!("not yet") }
