//! What is left of a machine whose kernel or one of whose services fails: the end of everything that ran, records that are true, and a dump that names functions.
//!
//! The failure is made from outside: the code of a running program is overwritten in the machine's memory, so that nothing that ships has to know how to fail.

use super::{
    Cases,
    debugger::Debugger,
    home::{Bed, Home, IMAGE, Outcome},
};
use anyhow::{Context, Result, ensure};
use kernel_abi::{
    PAGE_SIZE,
    boot::{Header, Program, Segment},
    layout::HOME_BASE,
};
use std::{fs, io::Read as _, os::unix::fs::PermissionsExt as _, path::Path, process::Stdio};
use zerocopy::FromBytes;

/// An instruction of one byte that the processor refuses: wherever a program goes on, it fails.
const REFUSED: u8 = 0x06;
/// RAM of the machines here.
const MEMORY: u64 = 512 << 20;
/// The emulator puts the boot module near the end of RAM; so many pages below it are looked at.
const SEARCHED: u64 = 1024;
/// Physical address of the kernel's first byte, and its address.
const KERNEL: (u64, u64) = (0x10_0000, 0xffff_ffff_8010_0000);

pub(super) fn run(cases: &mut Cases<'_>) -> Result<()> {
    let bed = cases.bed;
    for service in ["control", "images", "compartments", "root"] {
        let main = format!("{service}::main");
        cases.case(&format!("{service} dies"), |_| {
            dies(bed, service, &main, &format!("{service}: exception 6"))
        });
    }
    cases.case("the kernel dies", |_| {
        dies(bed, "kernel", "mett_on_operation", "kernel: exception 6")
    });
    Ok(())
}

/// Makes a function of a program fail, and looks at what is left.
fn dies(bed: &Bed, program: &str, function: &str, said: &str) -> Result<()> {
    let home = Home::with_debugger(bed, &format!("dies-{program}"))?;
    home.run(&["machine", "start", "--cpus", "1", "--memory", "512m"]).succeeds()?;
    home.run(&["run", "--name", "kept", IMAGE, "sh", "-c", "echo said; exit 3"]).ends(3)?;
    let speaks = ["sh", "-c", "while :; do echo here; sleep 0.2; done"];
    home.run(&[&["run", "-d", "--name", "victim", IMAGE], speaks.as_slice()].concat())
        .succeeds()?;
    let mut command = home.command(&["attach", "--no-stdin", "victim"]);
    let mut attached = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // Only who is attached learns how the container ended.
    let mut heard = [0; 5];
    attached.stdout.as_mut().context("no pipe")?.read_exact(&mut heard)?;
    let emulator = home.emulator()?;
    overwrite(bed, &home.path.join("machine/gdb.sock"), program, function)?;
    // Something for each service to do. Whether it comes that far is not what is promised.
    let _ = home.run(&["machine", "status"]);
    let _ = home.run(&["run", "--rm", IMAGE, "true"]);
    let outcome = Outcome::new("attach", attached.wait_with_output()?);
    outcome.ends(137)?;
    home.run(&["wait", "victim"]).is(0, "137\n", "")?;
    home.run(&["logs", "kept"]).is(0, "said\n", "")?;
    home.run(&["wait", "kept"]).is(0, "3\n", "")?;
    let bundle = home.path.join("bundle");
    home.run(&["diag", &bundle.to_string_lossy()]).succeeds()?;
    let log = fs::read_to_string(bundle.join("machine.log"))?;
    let dump = log.find(said).with_context(|| format!("no {said:?} in {log}"))?;
    let dump = log.get(dump..).unwrap_or_default();
    let named = format!("<{program} {function}+0x");
    ensure!(dump.contains(&named) && dump.contains("rsp"), "no {named:?} in {dump}");
    home.shell(&[], "echo again").is(0, "again\n", "")?;
    ensure!(home.emulator()? != emulator, "the dead machine still counts");
    Ok(())
}

/// Overwrites a function in the memory of the machine behind a debugging port.
fn overwrite(bed: &Bed, socket: &Path, program: &str, function: &str) -> Result<()> {
    let (start, length) = symbol(bed, program, function)?;
    let mut debugger = Debugger::open(socket)?;
    let address = if program == "kernel" {
        start - KERNEL.1 + KERNEL.0
    } else {
        let module = fs::read(bed.system.join("boot.img"))?;
        find(&mut debugger, &module)? + offset(&module, program, start)?
    };
    debugger.fill(address, length, REFUSED)
}

/// Address and length of a function.
fn symbol(bed: &Bed, program: &str, function: &str) -> Result<(u64, usize)> {
    let table = fs::read_to_string(bed.system.join("symbols.txt"))?;
    let end = format!(" {program} {function}");
    let line = table.lines().find(|line| line.ends_with(&end));
    let line = line.with_context(|| format!("{program} has no function {function}"))?;
    let mut numbers = line.split(' ');
    let start = numbers.next().context("no address")?;
    let length = numbers.next().context("no length")?;
    Ok((u64::from_str_radix(start, 16)?, usize::from_str_radix(length, 16)?))
}

/// Where the emulator has put the boot module.
fn find(debugger: &mut Debugger, module: &[u8]) -> Result<u64> {
    let length = (module.len() as u64).next_multiple_of(PAGE_SIZE);
    let first = module.get(..64).context("the module is too short")?;
    let pages = (0..SEARCHED).map(|page| MEMORY - length - page * PAGE_SIZE);
    for address in pages {
        if debugger.read(address, first.len())? == first {
            return Ok(address);
        }
    }
    anyhow::bail!("the boot module is not in memory")
}

/// Where in the boot module an address of a program is.
fn offset(module: &[u8], program: &str, address: u64) -> Result<u64> {
    let bad = || anyhow::anyhow!("the boot module is malformed");
    let (header, mut rest) = Header::read_from_prefix(module).map_err(|_| bad())?;
    let mut found = None;
    for _ in 0..header.program_count {
        let (entry, more) = Program::read_from_prefix(rest).map_err(|_| bad())?;
        rest = more;
        if entry.name.starts_with(format!("{program}\0").as_bytes()) {
            found = Some(entry);
        }
    }
    let found = found.with_context(|| format!("no program {program} in the boot module"))?;
    for index in 0..header.segment_count {
        let (segment, more) = Segment::read_from_prefix(rest).map_err(|_| bad())?;
        rest = more;
        let own = found.first_segment..found.first_segment + found.segment_count;
        let start = HOME_BASE + segment.home_offset;
        if own.contains(&index)
            && (start..start + segment.file_pages * PAGE_SIZE).contains(&address)
        {
            return Ok(segment.file_offset + address - start);
        }
    }
    anyhow::bail!("{address:#x} is not in {program}")
}

/// A program that runs the emulator with a debugging port in the machine's directory.
pub(super) fn emulator(folder: &Path) -> Result<std::path::PathBuf> {
    let path = folder.join("qemu-with-debugger");
    let script =
        "#!/bin/sh\nexec qemu-system-x86_64 -gdb unix:gdb.sock,server=on,wait=off \"$@\"\n";
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}
