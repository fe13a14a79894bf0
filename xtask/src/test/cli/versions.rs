//! Programs of different versions: a client and a daemon, a daemon and a machine. Each says so, says what to do, and does nothing else.
//!
//! The other side of each is played by the case itself, which says hello with a version that does not exist.

use super::{
    Cases,
    home::{Bed, Home, Outcome, until},
};
use anyhow::{Context, Result, ensure};
use contract::{
    channel::{Frame, HEADER_LENGTH},
    wire,
};
use daemon::{api, machine::qemu, server};
use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    process::Stdio,
    thread,
    time::Duration,
};

/// A version that no program has.
const OTHER: u32 = 9999;

pub(super) fn run(cases: &mut Cases<'_>) -> Result<()> {
    let bed = cases.bed;
    cases.case("a daemon of another version is named, and how to end it", |_| other_daemon(bed));
    cases.case("a client of another version is told and served nothing", |home| {
        let directory = File::open(&home.path)?;
        let mut stream = UnixStream::connect(server::short_path(&directory))?;
        let hello = api::Hello { api: OTHER, program: "other".to_owned() };
        stream.write_all(&encoded(&hello)?)?;
        let mut answer = Vec::new();
        // Ends only when the daemon closes the connection.
        stream.read_to_end(&mut answer)?;
        ensure!(answer == encoded(&api::Hello::own())?, "it was told {answer:?}");
        home.run(&["image", "ls"]).succeeds()
    });
    cases.case("a daemon that ends is followed by another", |_| {
        let home = Home::new(bed, "ending")?;
        let socket = home.path.join(server::SOCKET);
        let listener = UnixListener::bind(server::short_path(&File::open(&home.path)?))?;
        let ending = thread::spawn(move || {
            // It goes away with a client that it has taken.
            let taken = listener.accept();
            fs::remove_file(socket).and_then(|()| taken.map(|_| ()))
        });
        home.run(&["image", "ls"]).succeeds()?;
        ensure!(ending.join().is_ok_and(|end| end.is_ok()), "nobody came");
        Ok(())
    });
    cases.case("a daemon that takes its time to end is followed by another", |_| {
        let home = Home::new(bed, "slow-end")?;
        let lock = File::options().create(true).append(true).open(home.path.join("lock"))?;
        lock.lock()?;
        let ending = thread::spawn(move || {
            thread::sleep(Duration::from_secs(1));
            drop(lock);
        });
        home.run(&["image", "ls"]).succeeds()?;
        ensure!(ending.join().is_ok(), "a thread panicked");
        Ok(())
    });
    cases.case("a machine of another version is ended and named", |_| other_machine(bed));
    cases.case("a home of another version is left alone", |_| {
        let home = Home::new(bed, "other-home")?;
        home.run(&["image", "ls"]).succeeds()?;
        fs::write(home.path.join("version"), "9999\n")?;
        home.run(&["image", "ls"]).refuses(125, "layout 9999")?;
        home.run(&["version"]).ends(125)
    });
    Ok(())
}

fn encoded<T: serde::Serialize>(message: &T) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    wire::encode(message, &mut bytes).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    Ok(bytes)
}

fn other_daemon(bed: &Bed) -> Result<()> {
    let home = Home::new(bed, "other-daemon")?;
    let directory = File::open(&home.path)?;
    let listener = UnixListener::bind(server::short_path(&directory))?;
    fs::write(home.path.join("daemon.pid"), "4242")?;
    let hello = encoded(&api::Hello { api: OTHER, program: "9.8.7".to_owned() })?;
    thread::spawn(move || {
        // Hello first, and nothing more: a client has to close the connection by itself.
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(&hello).and_then(|()| stream.read_to_end(&mut Vec::new()));
        }
    });
    for words in [["image", "ls"].as_slice(), &["ps"], &["run", "shell"], &["machine", "stop"]] {
        let outcome = home.run(words);
        outcome.refuses(125, "mett 9.8.7 (api 9999)")?;
        ensure!(outcome.stderr.contains("`kill 4242`"), "{outcome:?}");
    }
    let outcome = home.run(&["version", "--format", "json"]);
    outcome.ends(125)?;
    ensure!(outcome.text().contains("\"Client\":\""), "{outcome:?}");
    Ok(())
}

/// The emulator is a program that only waits; the case connects in the machine's place.
fn other_machine(bed: &Bed) -> Result<()> {
    let home = Home::new(bed, "other-machine")?;
    let emulator = home.path.join("emulator");
    fs::write(&emulator, "#!/bin/sh\necho $$ > pid\nexec sleep 1000\n")?;
    fs::set_permissions(&emulator, fs::Permissions::from_mode(0o755))?;
    let starting = home
        .command(&["machine", "start"])
        .env("METT_QEMU", &emulator)
        .env("METT_ACCEL", "tcg")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let machine = home.path.join("machine");
    until("the emulator has begun", || Ok(fs::read_to_string(machine.join("pid")).is_ok()))?;
    let mut stream = connect(&machine)?;
    stream.write_all(&Frame::Hello { version: OTHER }.encode())?;
    let mut hello = [0; HEADER_LENGTH];
    stream.read_exact(&mut hello)?;
    let outcome = Outcome::new("machine start", starting.wait_with_output()?);
    outcome.refuses(125, "speaks version 9999 of the control channel")?;
    ensure!(outcome.stderr.contains("of one build"), "{outcome:?}");
    let pid = fs::read_to_string(machine.join("pid"))?;
    until("the emulator has ended", || Ok(!fs::exists(format!("/proc/{}", pid.trim()))?))?;
    ensure!(!machine.join("process.json").exists(), "its record is left");
    home.run(&["machine", "status"]).has("not running")
}

fn connect(machine: &Path) -> Result<UnixStream> {
    let directory = File::open(machine)?;
    UnixStream::connect(qemu::short_path(&directory, "control.sock")).context("no control channel")
}
