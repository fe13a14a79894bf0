//! `mett`: runs containers in compartments of a MettEagle machine, with docker's words.
//!
//! Owns: arguments, the terminal, exit statuses. Must not know: images, machines or the contract with them; the daemon does all that, and is started when needed.
//!
//! ```text
//! arguments --> cmd --> client ==daemon.sock==> the daemon
//!                |-> attach (standard streams, terminal, signals)
//! ```
#![forbid(unsafe_code)]

#[macro_use]
mod output;
mod attach;
mod client;
mod cmd;
mod error;
mod progress;
mod terminal;
mod units;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Runs unmodified Linux containers in compartments that hold nothing but what they were handed.
#[derive(Parser)]
#[command(
    name = "mett",
    version = daemon::api::PROGRAM_VERSION,
    arg_required_else_help = true,
    after_help = "Examples:\n  mett run --rm oci-archive:busybox.tar echo hello\n  mett run -it --rm oci:./image:latest sh\n  mett ps -a\n  mett machine status"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(cmd::run::Run),
    Create(cmd::run::Create),
    Start(cmd::lifecycle::Start),
    Restart(cmd::lifecycle::Restart),
    Attach(cmd::lifecycle::Attach),
    Exec(cmd::exec::Exec),
    Ps(cmd::list::Ps),
    Logs(cmd::logs::Logs),
    Wait(cmd::lifecycle::Wait),
    Stop(cmd::lifecycle::Stop),
    Kill(cmd::lifecycle::Kill),
    Rm(cmd::lifecycle::Rm),
    Rename(cmd::lifecycle::Rename),
    Prune(cmd::lifecycle::Prune),
    Cp(cmd::copy::Cp),
    Inspect(cmd::inspect::Inspect),
    Stats(cmd::stats::Stats),
    Top(cmd::top::Top),
    Update(cmd::update::Update),
    /// Imports, lists, describes and removes images.
    #[command(subcommand)]
    Image(cmd::image::Image),
    /// Makes, changes and removes tenants: budgets that several containers share.
    #[command(subcommand)]
    Tenant(cmd::tenant::Tenant),
    /// Starts, stops and looks at the machine.
    #[command(subcommand)]
    Machine(cmd::machine::Machine),
    /// Looks at the system in the machine.
    #[command(subcommand)]
    System(cmd::machine::System),
    Diag(cmd::machine::Diag),
    Version(cmd::machine::Version),
    Completion(cmd::machine::Completion),
    #[command(hide = true)]
    Daemon(cmd::machine::Daemon),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // docker says 125 for options it does not have.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(125) } else { ExitCode::SUCCESS };
        }
    };
    let result = match arguments.command {
        Command::Run(run) => run.run(),
        Command::Create(create) => create.run(),
        Command::Start(start) => start.run(),
        Command::Restart(restart) => restart.run(),
        Command::Attach(attach) => attach.run(),
        Command::Exec(exec) => exec.run(),
        Command::Ps(ps) => ps.run(),
        Command::Logs(logs) => logs.run(),
        Command::Wait(wait) => wait.run(),
        Command::Stop(stop) => stop.run(),
        Command::Kill(kill) => kill.run(),
        Command::Rm(rm) => rm.run(),
        Command::Rename(rename) => rename.run(),
        Command::Prune(prune) => prune.run(),
        Command::Cp(cp) => cp.run(),
        Command::Inspect(inspect) => inspect.run(),
        Command::Stats(stats) => stats.run(),
        Command::Top(top) => top.run(),
        Command::Update(update) => update.run(),
        Command::Image(image) => image.run(),
        Command::Tenant(tenant) => tenant.run(),
        Command::Machine(machine) => machine.run(),
        Command::System(system) => system.run(),
        Command::Diag(diag) => diag.run(),
        Command::Version(version) => version.run(),
        Command::Completion(completion) => completion.run(),
        Command::Daemon(daemon) => daemon.run(),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            error.tell();
            ExitCode::from(error.status())
        }
    }
}
