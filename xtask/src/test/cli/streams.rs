//! Standard streams, signals, logs.

use super::{
    Cases,
    home::{Home, IMAGE, Outcome, until},
};
use anyhow::{Result, ensure};
use std::{
    io::Read as _,
    process::{Command, Stdio},
};

pub(super) fn run(cases: &mut Cases<'_>) -> Result<()> {
    cases.case("output and errors stay apart", |home| {
        home.shell(&[], "echo out; echo err >&2; echo out").is(0, "out\nout\n", "err\n")
    });
    cases.case("every byte passes through cat", |home| {
        let bytes = noise(2_000_000);
        let outcome = home.feed(&["run", "--rm", "-i", IMAGE, "cat"], &bytes);
        outcome.succeeds()?;
        ensure!(
            outcome.stdout == bytes,
            "{} bytes of {} arrived",
            outcome.stdout.len(),
            bytes.len()
        );
        Ok(())
    });
    cases.case("much output is whole", |home| {
        let outcome = home.shell(&[], "seq 1 300000");
        let lines = outcome.text().lines().zip(1_u64..).all(|(line, n)| line == n.to_string());
        ensure!(lines && outcome.stdout.len() == 1_988_895, "{} bytes", outcome.stdout.len());
        Ok(())
    });
    cases.case("without -i standard input is empty", |home| {
        home.feed(&["run", "--rm", IMAGE, "cat"], b"unread").is(0, "", "")
    });
    cases.case("the end of input is the program's", |home| {
        home.feed(&["run", "--rm", "-i", IMAGE, "wc", "-c"], b"12345").is(0, "5\n", "")
    });
    cases.case("a reader that leaves ends the command", |home| {
        let mut child = home
            .command(&["run", "--rm", "--name", "endless", IMAGE, "yes"])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut bytes = [0; 4];
        if let Some(mut stdout) = child.stdout.take() {
            stdout.read_exact(&mut bytes)?;
        }
        ensure!(&bytes == b"y\ny\n", "{bytes:?}");
        let status = child.wait()?;
        ensure!(status.code() == Some(141), "{status}");
        home.run(&["rm", "-f", "endless"]).succeeds()
    });
    cases.case("a terminal is refused where there is none", |home| {
        home.run(&["run", "--rm", "-it", IMAGE, "true"]).refuses(125, "not a TTY")
    });
    cases.case("signals are forwarded", signals);
    cases.case("logs are kept apart, cut and stamped", logs);
    cases.case("logs are followed to the end", |home| {
        home.run(&[
            "run",
            "-d",
            "--name",
            "slow",
            IMAGE,
            "sh",
            "-c",
            "for i in 1 2 3; do echo $i; sleep 0.2; done",
        ])
        .succeeds()?;
        home.run(&["logs", "-f", "slow"]).is(0, "1\n2\n3\n", "")?;
        home.run(&["rm", "slow"]).succeeds()
    });
    Ok(())
}

/// Bytes of every value in no order.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

fn signals(home: &Home<'_>) -> Result<()> {
    for (signal, status) in [("TERM", 15), ("INT", 2), ("USR1", 10)] {
        let script = format!(
            "trap 'echo {signal}; exit {status}' {signal}; echo ready; while :; do sleep 0.1; done"
        );
        let mut child = home
            .command(&["run", "--rm", IMAGE, "sh", "-c", &script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut ready = [0; 6];
        if let Some(stdout) = &mut child.stdout {
            stdout.read_exact(&mut ready)?;
        }
        Command::new("kill").args(["-s", signal, &child.id().to_string()]).status()?;
        let outcome = Outcome::new("run", child.wait_with_output()?);
        outcome.is(status, &format!("{signal}\n"), "")?;
    }
    Ok(())
}

fn logs(home: &Home<'_>) -> Result<()> {
    let script = "echo one; echo two; echo err >&2; printf three";
    home.run(&["run", "--name", "logged", IMAGE, "sh", "-c", script]).succeeds()?;
    home.run(&["logs", "logged"]).is(0, "one\ntwo\nthree", "err\n")?;
    home.run(&["logs", "-n", "1", "logged"]).is(0, "three", "")?;
    let stamped = home.run(&["logs", "-t", "logged"]);
    stamped.succeeds()?;
    let fits = |line: &str| {
        line.split_once("Z ").is_some_and(|(stamp, text)| {
            stamp.len() == 29 && stamp.starts_with("20") && !text.starts_with("20")
        })
    };
    let text = stamped.text();
    ensure!(text.lines().count() == 3 && text.lines().all(fits), "{text:?}");
    home.run(&["logs", "--since", "1h", "logged"]).has("one")?;
    home.run(&["logs", "--until", "1", "logged"]).is(0, "", "")?;
    home.run(&["logs", "nobody"]).refuses(1, "no such container")?;
    until("the container is gone", || Ok(home.run(&["rm", "logged"]).status == 0))
}
