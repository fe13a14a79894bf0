//! Interactive sessions through a pseudo-terminal: size, echo, job control, detach keys.

use super::{
    Cases,
    home::{Bed, Home, IMAGE, until},
};
use anyhow::{Context, Result, ensure};
use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    process::{Child, Command, ExitStatus},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// Longest wait for something to be shown.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command at a terminal of its own.
struct Session {
    child: Child,
    master: File,
    shown: mpsc::Receiver<Vec<u8>>,
    text: String,
}

impl Session {
    fn start(home: &Home<'_>, arguments: &[&str], rows: u16, columns: u16) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        tcsetwinsize(&master, size(rows, columns))?;
        let name = ptsname(&master, Vec::new())?;
        let slave = open(&*name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        let slave = File::from(slave);
        let mut command = home.wrapped(&["setsid", "--ctty", "--wait"], arguments);
        let child = command
            .env("TERM", "xterm")
            .stdin(slave.try_clone()?)
            .stdout(slave.try_clone()?)
            .stderr(slave)
            .spawn()
            .context("setsid cannot be started (package util-linux)")?;
        drop(command);
        let master = File::from(master);
        let mut reader = master.try_clone()?;
        let (sender, shown) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // A terminal without users gives an error.
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer.get(..count).unwrap_or_default().to_vec()).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, master, shown, text: String::new() })
    }

    fn types(&mut self, text: &str) -> Result<()> {
        Ok(self.master.write_all(text.as_bytes())?)
    }

    /// Waits until something is shown after what was waited for last.
    fn see(&mut self, part: &str) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.text.find(part) {
                self.text.drain(..at + part.len());
                return Ok(());
            }
            let left = end.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.shown.recv_timeout(left) else {
                anyhow::bail!("{part:?} is not shown, but {:?}", self.text);
            };
            self.text.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    /// Types a line that prints a word, and waits for the word (not for its echo).
    fn says(&mut self, line: &str, word: &str) -> Result<()> {
        self.types(line)?;
        self.types("\n")?;
        self.see(&format!("\r\n{word}"))
    }

    fn end(mut self) -> Result<ExitStatus> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < end, "the session does not end");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

pub(super) fn run(cases: &mut Cases<'_>) -> Result<()> {
    let bed = cases.bed;
    cases.case("long work shows how far it is, on a terminal only", |_| progress(bed));
    cases.case("a terminal has the size of ours, and follows it", |home| {
        let mut session = Session::start(home, &["run", "--rm", "-it", IMAGE, "sh"], 33, 77)?;
        session.says("stty size", "33 77\r\n")?;
        tcsetwinsize(&session.master, size(44, 99))?;
        session.says("sleep 0.3; stty size", "44 99\r\n")?;
        session.types("exit 5\n")?;
        ensure!(session.end()?.code() == Some(5), "the status is not the shell's");
        Ok(())
    });
    cases.case("the terminal is the shell's, with job control", job_control);
    cases.case("ctrl-c interrupts the job and not the shell", |home| {
        let arguments = ["run", "--rm", "-it", "--name", "typed", IMAGE, "sh"];
        let mut session = Session::start(home, &arguments, 24, 80)?;
        session.says("test -t 0 && echo yes", "yes")?;
        session.types("echo begun; sleep 100\n")?;
        session.see("\r\nbegun")?;
        asleep(home, "typed")?;
        session.types("\x03")?;
        session.says("echo status $?", "status 130")?;
        session.types("\x04")?;
        session.end()?;
        Ok(())
    });
    cases.case("terminals have names, and programs find them by those", |home| {
        let arguments = ["run", "--rm", "-it", "--name", "named", IMAGE, "sh"];
        let mut session = Session::start(home, &arguments, 24, 80)?;
        session.says("tty", "/dev/pts/0\r\n")?;
        session.says("stat -c %t:%T,%U,%a /dev/pts/0", "88:0,root,620\r\n")?;
        session.says("echo through > $(tty)", "through\r\n")?;
        let mut second = Session::start(home, &["exec", "-it", "named", "sh"], 24, 80)?;
        second.says("tty; ls /dev/pts", "/dev/pts/1\r\n")?;
        second.types("exit\n")?;
        second.end()?;
        session.types("exit\n")?;
        session.end()?;
        Ok(())
    });
    cases.case("programs that take the whole screen work", full_screen);
    cases.case("detach keys leave the container running", detach);
    cases.case("detach keys are those that were chosen", chosen_keys);
    cases.case("a terminal is as before when the emulator or the daemon is killed", |_| {
        for victim in ["emulator", "daemon"] {
            restored(bed, victim)?;
        }
        Ok(())
    });
    cases.case("exec has a terminal of its own", |home| {
        home.sleeper("execed")?;
        let mut session = Session::start(home, &["exec", "-it", "execed", "sh"], 20, 60)?;
        session.says("stty size", "20 60")?;
        session.says("tty", "/dev/pts/0\r\n")?;
        session.types("exit 7\n")?;
        ensure!(session.end()?.code() == Some(7), "the status is not the shell's");
        home.run(&["rm", "-f", "execed"]).succeeds()
    });
    Ok(())
}

/// Shown while it lasts and then gone; what is no terminal sees nothing of it.
fn progress(bed: &Bed) -> Result<()> {
    let home = Home::new(bed, "progress")?;
    let source = format!("oci-archive:{}", bed.archive.display());
    fs::write(home.path.join("large"), vec![7; 3 << 20])?;
    let large = home.path.join("large").to_string_lossy().into_owned();
    let works: [(&[&str], &str); 4] = [
        (&["image", "import", &source, IMAGE], "importing layer 1/1 ["),
        (&["machine", "start"], "starting the machine"),
        (&["run", "-d", "--name", "filled", IMAGE, "sleep", "1000"], "loading layer 1/1 ["),
        (&["cp", &large, "filled:/tmp"], "copying "),
    ];
    for (words, shown) in works {
        let mut session = Session::start(&home, words, 24, 100)?;
        session.see(shown)?;
        // The line is taken away.
        session.see("\r\x1b[2K")?;
        ensure!(session.end()?.success(), "{words:?} failed");
    }
    home.run(&["cp", "filled:/tmp/large", &large]).is(0, "", "")?;
    home.run(&["machine", "stop", "--force"]).succeeds()?;
    home.run(&["image", "import", &source, IMAGE]).is(0, "shell:latest\n", "")?;
    home.run(&["run", "--rm", IMAGE, "true"]).is(0, "", "")
}

/// Waits until the shell's job is what it runs: before that, keys are the shell's own.
fn asleep(home: &Home<'_>, name: &str) -> Result<()> {
    until("the job has begun", || {
        let text = home.run(&["top", name]).text();
        Ok(text.lines().any(|line| line.trim_end().ends_with(" sleep 100")))
    })
}

fn job_control(home: &Home<'_>) -> Result<()> {
    let arguments = ["run", "--rm", "-it", "--name", "jobs", IMAGE, "sh"];
    let mut session = Session::start(home, &arguments, 24, 80)?;
    session.types("echo begun; sleep 100\n")?;
    session.see("\r\nbegun")?;
    asleep(home, "jobs")?;
    session.types("\x1a")?;
    session.see("Stopped")?;
    session.types("jobs\n")?;
    session.see("Stopped")?;
    session.types("bg\n")?;
    session.says("jobs", "[1]")?;
    session.types("fg\n")?;
    // The list of jobs names it too, but not at the beginning of a line.
    session.see("\r\nsleep 100")?;
    session.types("\x03")?;
    session.says("echo status $?", "status 130")?;
    session.types("exit 3\n")?;
    ensure!(session.end()?.code() == Some(3), "the status is not the shell's");
    Ok(())
}

fn full_screen(home: &Home<'_>) -> Result<()> {
    let arguments = ["run", "--rm", "-it", IMAGE, "sh"];
    let mut session = Session::start(home, &arguments, 24, 80)?;
    session.types("vi /tmp/text\n")?;
    session.see("/tmp/text")?;
    session.types("iwritten here")?;
    session.see("written here")?;
    // A key alone ends the insertion: with more behind it, it would begin the name of another key.
    session.types("\x1b")?;
    thread::sleep(Duration::from_millis(300));
    session.types(":wq\r")?;
    session.says("cat /tmp/text", "written here\r\n")?;
    session.types("seq 1000 | less\n")?;
    session.see("K23\r\n")?;
    session.types("G")?;
    session.see("1000")?;
    session.types("q")?;
    session.types("top\n")?;
    session.see("Load average")?;
    session.types("q")?;
    session.says("stty -echo; read line; stty echo; echo got $line\nunseen", "got unseen")?;
    session.types("exit 4\n")?;
    ensure!(session.end()?.code() == Some(4), "the status is not the shell's");
    Ok(())
}

fn detach(home: &Home<'_>) -> Result<()> {
    let arguments = ["run", "-it", "--name", "detached", IMAGE, "sh"];
    let mut session = Session::start(home, &arguments, 24, 80)?;
    session.says("X=kept; echo here", "here")?;
    session.types("\x10\x11")?;
    ensure!(session.end()?.code() == Some(0), "detaching is no success");
    home.run(&["ps"]).has("detached")?;
    let mut session = Session::start(home, &["attach", "detached"], 24, 80)?;
    session.says("echo $X", "kept")?;
    session.types("exit 6\n")?;
    ensure!(session.end()?.code() == Some(6), "the status is not the shell's");
    home.run(&["rm", "detached"]).succeeds()
}

fn chosen_keys(home: &Home<'_>) -> Result<()> {
    let keys = ["--detach-keys", "ctrl-a,d"];
    let run = [&["run", "-it", "--name", "chosen"], keys.as_slice(), &[IMAGE, "sh"]].concat();
    let mut session = Session::start(home, &run, 24, 80)?;
    // The first of the usual keys, and the first of the chosen ones alone, are the program's.
    session.says("echo ready; head -c 3 | od -An -tx1\n\x10\x01x", "ready")?;
    session.see(" 10 01 78\r\n")?;
    session.types("\x01d")?;
    ensure!(session.end()?.code() == Some(0), "detaching is no success");
    home.run(&["ps"]).has("chosen")?;
    let exec = [&["exec", "-it"], keys.as_slice(), &["chosen", "sh"]].concat();
    let mut session = Session::start(home, &exec, 24, 80)?;
    session.says("echo $((6*7))", "42")?;
    session.types("\x01d")?;
    ensure!(session.end()?.code() == Some(0), "detaching from exec is no success");
    let attach = [&["attach"], keys.as_slice(), &["chosen"]].concat();
    let mut session = Session::start(home, &attach, 24, 80)?;
    session.types("\x01d")?;
    ensure!(session.end()?.code() == Some(0), "detaching from attach is no success");
    home.run(&["run", "--detach-keys", "ctrl-1", IMAGE, "true"]).refuses(125, "detach key")?;
    home.run(&["rm", "-f", "chosen"]).succeeds()
}

/// A session whose other end is killed: the terminal gets back the mode it had, and the status says what happened.
fn restored(bed: &Bed, victim: &str) -> Result<()> {
    let home = Home::with_image(bed, &format!("restored-{victim}"))?;
    home.run(&["machine", "start"]).succeeds()?;
    let mut session = Session::start(&home, &["run", "-it", IMAGE, "sh"], 24, 80)?;
    session.says("echo $((6*7))", "42")?;
    let mode = |session: &Session| -> Result<_> { Ok(tcgetattr(&session.master)?.local_modes) };
    let canonical = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
    ensure!(!mode(&session)?.intersects(canonical), "the terminal is not raw");
    let (pid, status) = match victim {
        "daemon" => (fs::read_to_string(home.path.join("daemon.pid"))?, 125),
        _ => (home.emulator()?, 137),
    };
    Command::new("kill").args(["-9", pid.trim()]).status()?;
    until("the terminal is as before", || Ok(mode(&session)?.contains(canonical)))?;
    let ended = session.end()?;
    ensure!(ended.code() == Some(status), "{victim}: {ended}");
    Ok(())
}
